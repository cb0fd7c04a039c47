"""TransactionEvent and MeterValues of 2.0.1 and 2.1."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_ports import CALLER, OTHER, MemoryStore, adapter_2x, body_of, call_of, result_of

from ocpp_gateway.adapters.answers import CallRefused, TokenStatus
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.versions import OcppVersion

REGISTRY = IdTokenPolicy.REGISTRY
TOKEN = {"idToken": "TAG-1", "type": "ISO14443"}
BUTTON = {"idToken": "", "type": "NoAuthorization"}

pytestmark = pytest.mark.parametrize("version", [OcppVersion.V201, OcppVersion.V21])


def event(event_type: str, **members: Any) -> dict[str, Any]:
    return {
        "eventType": event_type,
        "timestamp": "2026-01-01T00:00:00Z",
        "triggerReason": "Authorized",
        "seqNo": 3,
        "transactionInfo": {"transactionId": "tx-1"},
        **members,
    }


def test_event_without_a_token_gets_nothing_but_a_receipt(version: OcppVersion) -> None:
    adapter = adapter_2x(MemoryStore(), REGISTRY, version)
    for event_type in ("Started", "Updated", "Ended"):
        answer = result_of(adapter.answer(CALLER, call_of("TransactionEvent", event(event_type))))
        assert (body_of(answer), answer.extras) == ({}, {"idempotent": False})


def test_updated_costs_no_round_trip(version: OcppVersion) -> None:
    store = MemoryStore()
    adapter = adapter_2x(store, REGISTRY, version)
    for members in ({}, {"idToken": BUTTON}):
        assert adapter.immediate(CALLER, call_of("TransactionEvent", event("Updated", **members))) is not None
    assert adapter_2x(store, version=version).immediate(
        CALLER, call_of("TransactionEvent", event("Updated", idToken=TOKEN))
    )
    assert store.asked == 0


@pytest.mark.parametrize("event_type", ["Started", "Updated", "Ended"])
def test_event_with_a_token_gets_the_registrys_verdict(version: OcppVersion, event_type: str) -> None:
    store = MemoryStore()
    store.tokens["tenant-a", "TAG-1"] = TokenStatus("NoCredit", "2027-01-01T00:00:00Z", "GROUP")
    call = call_of("TransactionEvent", event(event_type, idToken=TOKEN))
    info = {
        "status": "NoCredit",
        "cacheExpiryDateTime": "2027-01-01T00:00:00Z",
        "groupIdToken": {"idToken": "GROUP", "type": "Central"},
    }
    assert body_of(result_of(adapter_2x(store, REGISTRY, version).answer(CALLER, call))) == {"idTokenInfo": info}
    accepted = body_of(result_of(adapter_2x(store, version=version).answer(CALLER, call)))
    assert accepted == {"idTokenInfo": {"status": "Accepted"}}


def test_unknown_token_is_invalid_and_a_button_is_not(version: OcppVersion) -> None:
    adapter = adapter_2x(MemoryStore(), REGISTRY, version)
    for id_token, status in ((TOKEN, "Invalid"), (BUTTON, "Accepted")):
        started = result_of(adapter.answer(CALLER, call_of("TransactionEvent", event("Started", idToken=id_token))))
        authorize = result_of(adapter.answer(CALLER, call_of("Authorize", {"idToken": id_token})))
        assert body_of(started) == body_of(authorize) == {"idTokenInfo": {"status": status}}


def test_without_redis_authorize_fails_and_events_pass_marked(version: OcppVersion) -> None:
    store = MemoryStore()
    store.away = True
    adapter = adapter_2x(store, REGISTRY, version)
    with pytest.raises(CallRefused) as refused:
        result_of(adapter.answer(CALLER, call_of("Authorize", {"idToken": TOKEN})))
    assert (refused.value.code, refused.value.reason) == (ErrorCode.INTERNAL_ERROR, "id_tokens_unavailable")
    answer = result_of(adapter.answer(CALLER, call_of("TransactionEvent", event("Started", idToken=TOKEN))))
    assert body_of(answer) == {"idTokenInfo": {"status": "Accepted"}}
    assert answer.extras == {"idempotent": False, "idTokenUnverified": True}


@pytest.mark.parametrize(("event_type", "on_another_node"), [("Started", True), ("Ended", True), ("Updated", False)])
def test_repeated_event_is_marked_once_confirmed(version: OcppVersion, event_type: str, on_another_node: bool) -> None:
    store = MemoryStore()
    adapter = adapter_2x(store, version=version)
    call = call_of("TransactionEvent", event(event_type))
    first = result_of(adapter.answer(CALLER, call))
    assert result_of(adapter.answer(CALLER, call)).extras == {"idempotent": False}
    first.confirmed()
    later = call_of("TransactionEvent", event(event_type, offline=True))
    assert result_of(adapter.answer(CALLER, later)).extras == {"idempotent": True}
    elsewhere = adapter_2x(store, version=version)
    assert result_of(elsewhere.answer(CALLER, call)).extras == {"idempotent": on_another_node}
    assert result_of(adapter.answer(OTHER, call)).extras == {"idempotent": False}
    for other in ({"seqNo": 4}, {"timestamp": "2026-01-01T00:00:01Z"}, {"transactionInfo": {"transactionId": "tx-2"}}):
        another = call_of("TransactionEvent", event(event_type, **other))
        assert result_of(adapter.answer(CALLER, another)).extras == {"idempotent": False}


def test_repeated_meter_values_are_marked_once_confirmed(version: OcppVersion) -> None:
    adapter = adapter_2x(MemoryStore(), version=version)
    call = call_of("MeterValues", {"evseId": 1, "meterValue": []})
    first = adapter.immediate(CALLER, call)
    assert first is not None and (body_of(first), first.extras) == ({}, {})
    first.confirmed()
    second = adapter.immediate(CALLER, call)
    assert second is not None and second.extras == {"idempotent": True}


@pytest.mark.parametrize(
    ("payload", "raw", "status"),
    [
        ({"eventType": 1}, b"{}", None),
        ({"idToken": {"idToken": "TAG-1"}}, b"{}", "Blocked"),
        ({"idToken": "TAG-1"}, b"{}", "Invalid"),
        ({"idToken": {"type": "NoAuthorization"}}, b"{}", "Accepted"),
        ({}, b'[2,"1","TransactionEvent",{"idToken":{"idToken":"TAG-1"},,}]', "Blocked"),
        ({}, b'[2,"1","TransactionEvent",{,}]', None),
    ],
)
def test_event_that_breaks_the_schema_is_accepted(
    version: OcppVersion, payload: dict[str, Any], raw: bytes, status: str | None
) -> None:
    store = MemoryStore()
    store.tokens["tenant-a", "TAG-1"] = TokenStatus("Blocked")
    answer = result_of(adapter_2x(store, REGISTRY, version).minimal(CALLER, "TransactionEvent", payload, raw))
    assert body_of(answer) == ({} if status is None else {"idTokenInfo": {"status": status}})
    assert answer.extras == {"idempotent": False}


def test_event_that_is_not_json_is_recognised_without_its_message_id(version: OcppVersion) -> None:
    adapter = adapter_2x(MemoryStore(), version=version)
    frame = b'[2,"%d","TransactionEvent",{"seqNo":,}]'
    result_of(adapter.minimal(CALLER, "TransactionEvent", {}, frame % 1)).confirmed()
    assert result_of(adapter.minimal(CALLER, "TransactionEvent", {}, frame % 2)).extras == {"idempotent": True}
