"""1.6 transactions: the same question gets the same answer, and nothing is refused."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_ports import CALLER, NOW, OTHER, MemoryStore, adapter_16, body_of, call_of, result_of

from ocpp_gateway.adapters.answers import CallRefused, StartQuestion, TokenStatus
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.ocppj.errorcodes import ErrorCode

START = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 100, "timestamp": "2026-01-01T00:00:00Z"}
STOP = {"transactionId": 1000, "meterStop": 200, "timestamp": "2026-01-01T01:00:00Z"}
REGISTRY = IdTokenPolicy.REGISTRY


def values(transaction_id: int | None, value: str = "1") -> dict[str, Any]:
    payload: dict[str, Any] = {
        "connectorId": 1,
        "meterValue": [{"timestamp": "2026-01-01T00:10:00Z", "sampledValue": [{"value": value}]}],
    }
    return payload if transaction_id is None else {**payload, "transactionId": transaction_id}


def test_start_gets_an_id_that_the_event_carries_too() -> None:
    answer = result_of(adapter_16(MemoryStore()).answer(CALLER, call_of("StartTransaction", START)))
    assert body_of(answer) == {"transactionId": 1000, "idTagInfo": {"status": "Accepted"}}
    assert answer.extras == {"transactionId": 1000, "idempotent": False}


def test_retried_start_gets_the_same_id_on_any_node() -> None:
    store = MemoryStore()
    first = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    first.confirmed()
    retry = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", {**START, "reservationId": 5})))
    assert body_of(retry) == body_of(first)
    assert retry.extras == {"transactionId": 1000, "idempotent": True}


def test_retried_start_is_not_marked_until_the_first_was_confirmed() -> None:
    """The first may have died with its node before Kafka had it; a mark would make readers skip the only copy."""
    store = MemoryStore()
    result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    retry = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    assert retry.extras == {"transactionId": 1000, "idempotent": False}


@pytest.mark.parametrize(
    "other", [{"connectorId": 2}, {"idTag": "TAG-2"}, {"meterStart": 101}, {"timestamp": "2026-01-01T00:00:01Z"}]
)
def test_another_start_gets_another_id(other: dict[str, Any]) -> None:
    adapter = adapter_16(MemoryStore())
    first = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    first.confirmed()
    second = result_of(adapter.answer(CALLER, call_of("StartTransaction", {**START, **other})))
    assert body_of(second)["transactionId"] != body_of(first)["transactionId"]
    assert second.extras["idempotent"] is False


def test_same_start_of_another_charge_point_is_another_one() -> None:
    adapter = adapter_16(MemoryStore())
    first = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    first.confirmed()
    second = result_of(adapter.answer(OTHER, call_of("StartTransaction", START)))
    assert second.extras == {"transactionId": 1001, "idempotent": False}


@pytest.mark.parametrize(
    ("token", "info"),
    [
        (TokenStatus("Blocked"), {"status": "Blocked"}),
        (TokenStatus("accepted"), {"status": "Accepted"}),
        (TokenStatus("NoCredit"), {"status": "Blocked"}),
        (TokenStatus("Unknown"), {"status": "Invalid"}),
        (TokenStatus("whatever"), {"status": "Invalid"}),
        (TokenStatus("Accepted", None, "GROUP"), {"status": "Accepted", "parentIdTag": "GROUP"}),
        (TokenStatus("Accepted", None, "G" * 21), {"status": "Accepted"}),
        (
            TokenStatus("Accepted", "2027-01-01T01:00:00+01:00"),
            {"status": "Accepted", "expiryDate": "2027-01-01T00:00:00Z"},
        ),
        (
            TokenStatus("Accepted", "2026-01-01T00:00:00"),
            {"status": "Expired", "expiryDate": "2026-01-01T00:00:00Z"},
        ),
        (TokenStatus("Blocked", "2025-01-01"), {"status": "Blocked", "expiryDate": "2025-01-01T00:00:00Z"}),
        (TokenStatus("Accepted", "tomorrow"), {"status": "Accepted"}),
        (None, {"status": "Invalid"}),
    ],
)
def test_registry_decides_on_the_token(token: TokenStatus | None, info: dict[str, str]) -> None:
    store = MemoryStore()
    if token is not None:
        store.tokens["tenant-a", "TAG-1"] = token
    adapter = adapter_16(store, REGISTRY)
    start = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    authorize = result_of(adapter.answer(CALLER, call_of("Authorize", {"idTag": "TAG-1"})))
    assert body_of(start)["idTagInfo"] == info
    assert body_of(authorize) == {"idTagInfo": info}


def test_token_expires_while_kafka_confirms() -> None:
    store = MemoryStore()
    store.tokens["tenant-a", "TAG-1"] = TokenStatus("Accepted", "2026-01-02T03:04:06Z")
    answer = result_of(adapter_16(store, REGISTRY).answer(CALLER, call_of("Authorize", {"idTag": "TAG-1"})))
    assert body_of(answer, NOW)["idTagInfo"]["status"] == "Accepted"
    assert body_of(answer, NOW + 1)["idTagInfo"]["status"] == "Expired"


def test_accept_policy_asks_nobody() -> None:
    store = MemoryStore()
    answer = result_of(adapter_16(store).answer(CALLER, call_of("Authorize", {"idTag": "TAG-1"})))
    assert body_of(answer) == {"idTagInfo": {"status": "Accepted"}}
    assert store.asked == 0


def test_without_redis_authorize_fails_and_start_passes_marked() -> None:
    store = MemoryStore()
    store.away = True
    adapter = adapter_16(store, REGISTRY)
    with pytest.raises(CallRefused) as refused:
        result_of(adapter.answer(CALLER, call_of("Authorize", {"idTag": "TAG-1"})))
    assert (refused.value.code, refused.value.reason) == (ErrorCode.INTERNAL_ERROR, "id_tokens_unavailable")
    start = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    assert body_of(start) == {"transactionId": 1000, "idTagInfo": {"status": "Accepted"}}
    assert start.extras == {"transactionId": 1000, "idempotent": False, "idTokenUnverified": True}


def test_stop_of_any_transaction_is_accepted() -> None:
    for transaction_id in (1000, -1, 0, 2**31 - 1):
        stop = {**STOP, "transactionId": transaction_id}
        answer = result_of(adapter_16(MemoryStore()).answer(CALLER, call_of("StopTransaction", stop)))
        assert (body_of(answer), answer.extras) == ({}, {"idempotent": False})


def test_repeated_stop_is_marked_on_any_node_once_confirmed() -> None:
    store = MemoryStore()
    call = call_of("StopTransaction", STOP)
    first = result_of(adapter_16(store).answer(CALLER, call))
    assert result_of(adapter_16(store).answer(CALLER, call)).extras == {"idempotent": False}
    first.confirmed()
    assert result_of(adapter_16(store).answer(CALLER, call)).extras == {"idempotent": True}
    assert result_of(adapter_16(store).answer(OTHER, call)).extras == {"idempotent": False}
    another = call_of("StopTransaction", {**STOP, "meterStop": 201})
    assert result_of(adapter_16(store).answer(CALLER, another)).extras == {"idempotent": False}


def test_repeated_stop_is_recognised_by_its_node_while_redis_is_away() -> None:
    store = MemoryStore()
    store.away = True
    adapter = adapter_16(store)
    call = call_of("StopTransaction", STOP)
    result_of(adapter.answer(CALLER, call)).confirmed()
    assert result_of(adapter.answer(CALLER, call)).extras == {"idempotent": True}


def test_meter_values_of_a_transaction_started_here_cost_no_round_trip() -> None:
    store = MemoryStore()
    adapter = adapter_16(store)
    result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    store.asked = 0
    answer = adapter.immediate(CALLER, call_of("MeterValues", values(1000)))
    assert answer is not None
    assert (body_of(answer), answer.extras, store.asked) == ({}, {"orphaned": False}, 0)


def test_meter_values_ask_once_about_a_transaction_started_elsewhere() -> None:
    store = MemoryStore()
    result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    adapter = adapter_16(store)
    call = call_of("MeterValues", values(1000))
    assert adapter.immediate(CALLER, call) is None
    assert result_of(adapter.answer(CALLER, call)).extras == {"orphaned": False}
    assert adapter.immediate(CALLER, call) is not None


def test_meter_values_of_an_unknown_transaction_are_orphaned_and_asked_about_once() -> None:
    store = MemoryStore()
    adapter = adapter_16(store)
    result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    store.asked = 0
    for _ in range(3):
        answer = result_of(adapter.answer(OTHER, call_of("MeterValues", values(1000))))
        assert answer.extras == {"orphaned": True}
    assert store.asked == 1


def test_meter_values_of_transaction_minus_one_are_orphaned_without_asking() -> None:
    store = MemoryStore()
    answer = adapter_16(store).immediate(CALLER, call_of("MeterValues", values(-1)))
    assert answer is not None and answer.extras == {"orphaned": True}


def test_meter_values_outside_of_a_transaction_are_no_orphans() -> None:
    answer = adapter_16(MemoryStore()).immediate(CALLER, call_of("MeterValues", values(None)))
    assert answer is not None and answer.extras == {"orphaned": False}


def test_without_redis_nobody_can_say_whether_meter_values_are_orphaned() -> None:
    store = MemoryStore()
    store.away = True
    adapter = adapter_16(store)
    assert result_of(adapter.answer(CALLER, call_of("MeterValues", values(77)))).extras == {}
    store.away = False
    assert result_of(adapter.answer(CALLER, call_of("MeterValues", values(77)))).extras == {"orphaned": True}


def test_repeated_meter_values_are_marked_once_confirmed() -> None:
    adapter = adapter_16(MemoryStore())
    call = call_of("MeterValues", values(None))
    first = adapter.immediate(CALLER, call)
    assert first is not None
    second = adapter.immediate(CALLER, call)
    assert second is not None and second.extras == {"orphaned": False}
    first.confirmed()
    third = adapter.immediate(CALLER, call)
    assert third is not None and third.extras == {"orphaned": False, "idempotent": True}
    for caller, payload in ((OTHER, values(None)), (CALLER, values(None, "2"))):
        other = adapter.immediate(caller, call_of("MeterValues", payload))
        assert other is not None and other.extras == {"orphaned": False}


def test_start_that_breaks_the_schema_elsewhere_is_the_question_it_is() -> None:
    store = MemoryStore()
    payload = {**START, "meterStart": 100.0, "reservationId": "none"}
    answer = result_of(adapter_16(store).minimal(CALLER, "StartTransaction", payload, b"{...}"))
    assert body_of(answer) == {"transactionId": 1000, "idTagInfo": {"status": "Accepted"}}
    assert list(store.questions) == [("CP-001", StartQuestion(1, "TAG-1", 100, "2026-01-01T00:00:00Z"))]
    retry = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    assert body_of(retry) == body_of(answer)


@pytest.mark.parametrize(
    "broken", [{"meterStart": 100.5}, {"connectorId": True}, {"timestamp": None}, {"idTag": 5}, {"meterStart": 10**30}]
)
def test_start_with_unusable_fields_is_recognised_by_its_bytes(broken: dict[str, Any]) -> None:
    store = MemoryStore()
    payload = {**START, **broken}
    first = result_of(adapter_16(store).minimal(CALLER, "StartTransaction", payload, b'{"the":"bytes"}'))
    first.confirmed()
    retry = result_of(adapter_16(store).minimal(CALLER, "StartTransaction", payload, b'{"the":"bytes"}'))
    assert list(store.questions) == [("CP-001", b'{"the":"bytes"}')]
    assert retry.extras == {"transactionId": 1000, "idempotent": True}


def test_start_that_is_not_json_is_recognised_without_its_message_id() -> None:
    store = MemoryStore()
    frame = b'[2,"%d","StartTransaction",{"connectorId":1,"idTag": "TAG-1","meterStart":,}]'
    store.tokens["tenant-a", "TAG-1"] = TokenStatus("Accepted")
    first = result_of(adapter_16(store, REGISTRY).minimal(CALLER, "StartTransaction", {}, frame % 1))
    first.confirmed()
    assert body_of(first) == {"transactionId": 1000, "idTagInfo": {"status": "Accepted"}}
    retry = result_of(adapter_16(store, REGISTRY).minimal(CALLER, "StartTransaction", {}, frame % 2))
    assert body_of(retry) == body_of(first)
    assert retry.extras == {"transactionId": 1000, "idempotent": True}


def test_start_without_a_readable_token_is_invalid_under_the_registry() -> None:
    answer = result_of(adapter_16(MemoryStore(), REGISTRY).minimal(CALLER, "StartTransaction", {}, b"\xff"))
    assert body_of(answer)["idTagInfo"] == {"status": "Invalid"}


def test_stop_and_meter_values_that_break_the_schema_are_accepted_and_recognised() -> None:
    adapter = adapter_16(MemoryStore())
    for action, raw in (("StopTransaction", b'{"meterStop":1.5}'), ("MeterValues", b'{"meterValue":1}')):
        first = result_of(adapter.minimal(CALLER, action, {"transactionId": -1, "meterStop": 1.5}, raw))
        first.confirmed()
        repeat = result_of(adapter.minimal(CALLER, action, {"transactionId": -1, "meterStop": 1.5}, raw))
        assert body_of(first) == body_of(repeat) == {}
        assert repeat.extras["idempotent"] is True


@pytest.mark.parametrize(
    ("payload", "extras"),
    [
        ({"transactionId": "7"}, {}),
        ({}, {}),
        ({"transactionId": 7, "meterValue": 1}, {"orphaned": True}),
        ({"meterValue": 1}, {"orphaned": False}),
    ],
)
def test_meter_values_that_break_the_schema_say_what_can_be_said(
    payload: dict[str, Any], extras: dict[str, bool]
) -> None:
    assert result_of(adapter_16(MemoryStore()).minimal(CALLER, "MeterValues", payload, b"{}")).extras == extras


def test_an_id_that_the_csms_gives_is_as_good_as_ours() -> None:
    store = MemoryStore()
    adapter = adapter_16(store)
    ours = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
    assert ours.overruled is not None
    theirs = {"transactionId": 77, "idTagInfo": {"status": "Blocked"}}
    assert result_of(ours.overruled(theirs)) == theirs
    # Known without asking Redis, and of another node by asking it.
    assert adapter.immediate(CALLER, call_of("MeterValues", values(77))) is not None
    metered = result_of(adapter_16(store).answer(CALLER, call_of("MeterValues", values(77))))
    assert metered.extras["orphaned"] is False
    retry = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    assert body_of(retry)["transactionId"] == retry.extras["transactionId"] == 77


def test_a_retry_is_told_the_same_id_although_the_csms_has_another_one() -> None:
    adapter = adapter_16(MemoryStore())
    info = {"idTagInfo": {"status": "Accepted"}}
    for given in (77, 78):
        answer = result_of(adapter.answer(CALLER, call_of("StartTransaction", START)))
        assert answer.overruled is not None
        assert result_of(answer.overruled({"transactionId": given, **info})) == {"transactionId": 77, **info}


@pytest.mark.parametrize("given", [0, -1, 2**60, 1.5, "77"])
def test_what_stands_for_no_transaction_is_not_remembered(given: Any) -> None:
    store = MemoryStore()
    answer = result_of(adapter_16(store).answer(CALLER, call_of("StartTransaction", START)))
    assert answer.overruled is not None
    payload = {"transactionId": given, "idTagInfo": {"status": "Invalid"}}
    assert result_of(answer.overruled(payload)) == payload
    assert store.adopted == {}


@pytest.mark.parametrize(
    ("action", "payload"),
    [("StopTransaction", STOP), ("MeterValues", values(None)), ("Authorize", {"idTag": "T"}), ("Heartbeat", {})],
)
def test_of_other_answers_nothing_has_to_be_remembered(action: str, payload: dict[str, Any]) -> None:
    assert result_of(adapter_16(MemoryStore()).answer(CALLER, call_of(action, payload))).overruled is None
