"""CALLs that the CSMS answers: two nodes, and a CSMS that says what each test wants, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from support.back_end import BackEnd, make_topics, partitions_read, read_by_all
from support.callers import Caller, event_2x, meter_16, start_16, stop_16, until
from support.gateway import PROJECT, TWISTD, Gateway
from support.nodes import counted, node
from support.stations import provision
from websockets.exceptions import ConnectionClosed

REPLIES = "replies-of-these-nodes"
TIMEOUT = 1.5
SPARE = 3.0
"""Seconds that a busy machine may take longer."""

ACTIONS = "Authorize,BootNotification,DataTransfer,MeterValues,SignCertificate,StartTransaction,TransactionEvent"
SETTINGS = {
    "OCPP_CSMS_ACTIONS": ACTIONS,
    "OCPP_CSMS_REPLY_TOPIC": REPLIES,
    "OCPP_CSMS_TIMEOUT": "20",
    "OCPP_CSMS_FALLBACK_DATATRANSFER": "close",
    "OCPP_CSMS_FALLBACK_SIGNCERTIFICATE": "error",
    "KAFKA_GROUP_ID": "csms-tests",
    "FLOOD_LOG_COOLDOWN": "1",
    **{
        f"OCPP_CSMS_TIMEOUT_{action}": str(TIMEOUT)
        for action in ("DATATRANSFER", "METERVALUES", "SIGNCERTIFICATE", "TRANSACTIONEVENT")
    },
}

ACCEPTED = {"payload": {"idTagInfo": {"status": "Accepted"}}}
BLOCKED = {"payload": {"idTagInfo": {"status": "Blocked"}}}
UNAVAILABLE = ["InternalError", "csms_unavailable", {}]

Pair = tuple[Gateway, Gateway]


@pytest.fixture(scope="module")
def pair(redis_url: str, brokers: str) -> Iterator[Pair]:
    """Each reads some of the partitions that answers go to."""
    make_topics(brokers, REPLIES)
    with node(redis_url, brokers, "csms.a", **SETTINGS) as a, node(redis_url, brokers, "csms.b", **SETTINGS) as b:
        read_by_all(REPLIES, a, b)
        yield a, b


@pytest.fixture(scope="module")
def csms(brokers: str) -> Iterator[BackEnd]:
    with BackEnd(brokers) as back_end:
        yield back_end


@pytest.fixture
def point(pair: Pair, charge_point_id: str) -> Iterator[Caller]:
    """At the first node."""
    with Caller(pair[0].url(""), charge_point_id) as caller:
        yield caller


def authorized(point: Caller, csms: BackEnd, members: Any = ACCEPTED) -> Any:
    """What an Authorize is answered with if the CSMS says this."""
    message_id = point.say("Authorize", {"idTag": "TAG-1"})
    csms.answer(csms.said(message_id), members)
    return heard(point, message_id)


def heard(point: Caller, message_id: str) -> Any:
    """The payload of the CALLRESULT, or the rest of the CALLERROR, to that CALL, which must come next."""
    kind, answered_id, *rest = point.hear()
    assert answered_id == message_id
    assert kind in (3, 4)
    return rest[0] if kind == 3 else rest


def records(gateway: Gateway, outcome: str) -> float:
    return counted(gateway, "ocpp_csms_records_total", outcome=outcome)


def answers(gateway: Gateway, action: str, outcome: str) -> float:
    return counted(gateway, "ocpp_csms_answers_total", action=action, outcome=outcome)


def counts_one_more(gateway: Gateway, before: float, outcome: str) -> None:
    until(lambda: records(gateway, outcome) == before + 1, f"one more record that is {outcome}")


def test_the_event_asks_once_and_the_answer_is_said(pair: Pair, point: Caller, csms: BackEnd) -> None:
    said = point.say("Authorize", {"idTag": "TAG-1"})
    event = csms.said(said)
    members = list(event)
    assert members.index("replyTo") == members.index("payload") - 1
    reply_to = event["replyTo"]
    assert reply_to["topic"] == REPLIES
    assert reply_to["partition"] in partitions_read(pair[0], REPLIES)
    assert reply_to["correlationId"].startswith("csms.a.")
    csms.answer(event, BLOCKED)
    assert heard(point, said) == BLOCKED["payload"]

    (record,) = csms.records(said)
    headers = dict(record.headers)
    assert headers["kafka_replyTopic"] == REPLIES.encode()
    assert headers["kafka_replyPartition"] == reply_to["partition"].to_bytes(4, "big")
    assert headers["kafka_correlationId"] == reply_to["correlationId"].encode()
    assert headers["ce_id"] == event["eventId"].encode()
    assert event["payload"] == {"action": "Authorize", "payload": {"idTag": "TAG-1"}}


def test_the_answer_may_be_named_by_a_member_instead_of_the_header(point: Caller, csms: BackEnd) -> None:
    said = point.say("Authorize", {"idTag": "TAG-1"})
    to = csms.said(said)["replyTo"]
    answer = json.dumps({"correlationId": to["correlationId"], **ACCEPTED}).encode()
    csms.say(to["topic"], answer, partition=to["partition"])
    assert heard(point, said) == ACCEPTED["payload"]


def test_an_answer_that_the_other_node_reads_is_handed_over(pair: Pair, point: Caller, csms: BackEnd) -> None:
    a, b = pair
    passed_on = records(b, "passed_on")
    for partition in sorted(partitions_read(b, REPLIES)):
        said = point.say("Authorize", {"idTag": "TAG-1"})
        csms.answer(csms.said(said), BLOCKED, partition=partition)
        assert heard(point, said) == BLOCKED["payload"]
        passed_on += 1
    until(lambda: records(b, "passed_on") == passed_on, "what was handed over")
    assert not partitions_read(a, REPLIES) & partitions_read(b, REPLIES)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_the_csms_answers_in_later_versions(pair: Pair, charge_point_id: str, csms: BackEnd, version: str) -> None:
    token = {"idToken": "TAG-1", "type": "ISO14443"}
    started = {**event_2x("Started", 0, f"tx-{charge_point_id}"), "idToken": token}
    verdict = {"idTokenInfo": {"status": "ConcurrentTx"}}
    with Caller(pair[0].url(""), charge_point_id, version) as point:
        for action, payload in (("Authorize", {"idToken": token}), ("TransactionEvent", started)):
            said = point.say(action, payload)
            csms.answer(csms.said(said), {"payload": verdict})
            assert heard(point, said) == verdict
        # Without an answer the charge point is told what the gateway says, and the event is there all the same.
        said = point.say("TransactionEvent", event_2x("Ended", 1, f"tx-{charge_point_id}"))
        assert heard(point, said) == {}
        (record,) = csms.records(said)
        assert json.loads(record.value)["eventType"] == "SessionEvent"


def test_the_transactions_number_is_the_csmss(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    start = start_16()
    number = {"transactionId": 4_711_000, "idTagInfo": {"status": "Accepted"}}
    with Caller(pair[0].url(""), charge_point_id) as point:
        said = point.say("StartTransaction", start)
        first = csms.said(said)
        csms.answer(first, {"payload": number})
        assert heard(point, said) == number
        assert first["payload"]["idempotent"] is False

        # The answer was lost: the same again. Another number of a forgetful CSMS does not count.
        said = point.say("StartTransaction", start)
        again = csms.said(said)
        assert again["payload"]["idempotent"] is True
        csms.answer(again, {"payload": {**number, "transactionId": 4_711_001}})
        assert heard(point, said) == number
    # From another node too, and where the CSMS is silent.
    with Caller(pair[1].url(""), charge_point_id) as point:
        said = point.say("StartTransaction", start)
        csms.answer(csms.said(said), b"nothing that could be read")
        assert heard(point, said)["transactionId"] == number["transactionId"]

        said = point.say("MeterValues", meter_16(number["transactionId"], 10))
        assert csms.said(said)["payload"]["orphaned"] is False
        assert heard(point, said) == {}
        said = point.say("StopTransaction", stop_16(number["transactionId"], 20))
        assert heard(point, said) == {}
        stopped = csms.said(said)
        assert (stopped["payload"]["idempotent"], "replyTo" in stopped) == (False, False)
        said = point.say("MeterValues", meter_16(number["transactionId"] + 1, 10))
        assert csms.said(said)["payload"]["orphaned"] is True
        assert heard(point, said) == {}


DEEP = b'{"payload":' + b"[" * 200 + b"]" * 200 + b"}"
NO_ANSWERS = {
    "status that the schema does not know": b'{"payload":{"idTagInfo":{"status":"Maybe"}}}',
    "member missing": b'{"payload":{}}',
    "member too many": b'{"payload":{"idTagInfo":{"status":"Accepted"},"more":1}}',
    "answer to another action": b'{"payload":{"currentTime":"2026-01-01T00:00:00Z"}}',
    "not JSON": b"Accepted",
    "not UTF-8": b'{"payload":{"idTagInfo":{"status":"\xff"}}}',
    "nothing": b"",
    "a list": b'[{"payload":{}}]',
    "a list as payload": b'{"payload":[]}',
    "neither": b"{}",
    "both": b'{"payload":{"idTagInfo":{"status":"Accepted"}},"error":{"code":"InternalError"}}',
    "the same member twice": b'{"payload":{"idTagInfo":{"status":"Blocked","status":"Accepted"}}}',
    "too deep": DEEP,
    "too large": b'{"payload":{"idTagInfo":{"status":"Accepted"}},"more":"' + b"x" * 300_000 + b'"}',
    "error without a code": b'{"error":{}}',
    "error that is text": b'{"error":"InternalError"}',
}


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_what_is_no_answer_is_not_said(pair: Pair, point: Caller, csms: BackEnd, what: str) -> None:
    invalid = answers(pair[0], "Authorize", "invalid")
    began = time.monotonic()
    assert authorized(point, csms, NO_ANSWERS[what]) == UNAVAILABLE
    assert time.monotonic() - began < 10, "the fallback does not wait for the deadline"
    assert answers(pair[0], "Authorize", "invalid") == invalid + 1
    assert authorized(point, csms) == ACCEPTED["payload"]


def test_the_csms_may_want_an_error(pair: Pair, point: Caller, csms: BackEnd) -> None:
    refused = answers(pair[0], "Authorize", "refused")
    error = {"code": "SecurityError", "description": "no", "details": {"why": 1}}
    assert authorized(point, csms, {"error": error}) == ["SecurityError", "no", {"why": 1}]
    assert authorized(point, csms, {"error": {"code": "Made up"}}) == ["GenericError", "", {}]
    assert answers(pair[0], "Authorize", "refused") == refused + 2


def test_billing_data_is_never_refused(pair: Pair, point: Caller, csms: BackEnd) -> None:
    said = point.say("StartTransaction", start_16())
    event = csms.said(said)
    csms.answer(event, {"error": {"code": "InternalError"}})
    own = heard(point, said)
    assert own["idTagInfo"]["status"] == "Accepted"
    assert own["transactionId"] == event["payload"]["transactionId"]


def test_a_silent_csms_costs_its_time_and_no_more(pair: Pair, point: Caller, csms: BackEnd) -> None:
    silent = {action: answers(pair[0], action, "no_answer") for action in ("MeterValues", "SignCertificate")}

    def seconds_of(action: str, payload: Any, expected: Any) -> float:
        began = time.monotonic()
        said = point.say(action, payload)
        assert heard(point, said) == expected
        return time.monotonic() - began

    taken = [
        seconds_of("MeterValues", meter_16(1, 1), {}),
        seconds_of("SignCertificate", {"csr": "x"}, UNAVAILABLE),
    ]
    assert all(TIMEOUT <= each < TIMEOUT + SPARE for each in taken), taken
    for action, before in silent.items():
        assert answers(pair[0], action, "no_answer") == before + 1

    began = time.monotonic()
    said = point.say("DataTransfer", {"vendorId": "V"})
    with pytest.raises(ConnectionClosed) as closed:
        point.hear()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "Try again later")
    assert TIMEOUT <= time.monotonic() - began < TIMEOUT + SPARE
    line = pair[0].wait_for("session.closed", charge_point_id=point.charge_point_id)
    assert line["close_reason"] == "csms_unavailable"
    assert len(csms.records(said)) == 1


def test_an_answer_that_is_late_or_comes_twice_is_dropped(pair: Pair, point: Caller, csms: BackEnd) -> None:
    late = records(pair[0], "late")
    said = point.say("SignCertificate", {"csr": "x"})
    asked = csms.said(said)
    assert heard(point, said) == UNAVAILABLE
    csms.answer(asked, {"payload": {"status": "Accepted"}})
    counts_one_more(pair[0], late, "late")

    said = point.say("SignCertificate", {"csr": "x"})
    asked = csms.said(said)
    csms.answer(asked, {"payload": {"status": "Accepted"}})
    assert heard(point, said) == {"status": "Accepted"}
    csms.answer(asked, {"payload": {"status": "Rejected"}})
    counts_one_more(pair[0], late + 1, "late")
    assert authorized(point, csms) == ACCEPTED["payload"]  # which is the next thing to be heard


@pytest.mark.parametrize(
    ("correlation_id", "outcome"),
    [
        (b"csms.a.never-asked", "late"),
        (b"a-node-that-is-not.1", "unreachable"),
        (b"no node", "unreadable"),
        (b"", "unreadable"),
        (b"\xff\xfe.1", "unreadable"),
        (b"csms.a." + b"x" * 10_000, "unreadable"),
        (b"csms.a.\nlevel=error", "unreadable"),
        (None, "unreadable"),
    ],
)
def test_an_answer_for_nobody_is_counted(
    pair: Pair, point: Caller, csms: BackEnd, correlation_id: bytes | None, outcome: str
) -> None:
    a = pair[0]
    mine = min(partitions_read(a, REPLIES))
    before = records(a, outcome)
    for value in (b'{"payload":{}}', None, b"\x00\xff", b'{"correlationId":7}'):
        csms.say(REPLIES, value, partition=mine, headers=[("kafka_correlationId", correlation_id), ("x", None)])
    until(lambda: records(a, outcome) == before + 4, f"4 more that are {outcome}")
    assert authorized(point, csms) == ACCEPTED["payload"]


def test_who_leaves_meanwhile_finds_the_answer_when_it_asks_again(
    pair: Pair, charge_point_id: str, csms: BackEnd
) -> None:
    taken = records(pair[0], "taken")
    start = start_16()
    with Caller(pair[0].url(""), charge_point_id) as point:
        asked = csms.said(point.say("StartTransaction", start))
    pair[0].wait_for("session.closed", charge_point_id=charge_point_id)
    number = {"transactionId": 815_000, "idTagInfo": {"status": "Accepted"}}
    csms.answer(asked, {"payload": number})
    counts_one_more(pair[0], taken, "taken")
    with Caller(pair[0].url(""), charge_point_id) as point:
        said = point.say("StartTransaction", start)
        csms.answer(csms.said(said), {"payload": {**number, "transactionId": 815_001}})
        assert heard(point, said) == number


def test_who_moves_meanwhile_is_asked_for_again(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    """A question is its connection's: the answer to it says nothing on the next one."""
    with Caller(pair[0].url(""), charge_point_id) as before:
        asked = csms.said(before.say("Authorize", {"idTag": "TAG-1"}))
        with Caller(pair[1].url(""), charge_point_id) as point:
            said = point.say("Authorize", {"idTag": "TAG-1"})
            again = csms.said(said)
            csms.answer(asked, ACCEPTED)
            csms.answer(again, BLOCKED)
            assert heard(point, said) == BLOCKED["payload"]
        with pytest.raises(ConnectionClosed):
            before.hear()


def test_nobody_waits_for_what_others_are_asked(pair: Pair, point: Caller, redis_url: str, csms: BackEnd) -> None:
    """While one charge point waits for the CSMS, another one's CALLs are answered."""
    other_id = f"{point.charge_point_id}-other"
    provision(redis_url, other_id)
    waiting = point.say("Authorize", {"idTag": "TAG-1"})
    asked = csms.said(waiting)
    with Caller(pair[0].url(""), other_id) as other:
        assert list(other.call("Heartbeat", {}, seconds=3)) == ["currentTime"]
        assert authorized(other, csms, BLOCKED) == BLOCKED["payload"]
    csms.answer(asked, ACCEPTED)
    assert heard(point, waiting) == ACCEPTED["payload"]


def test_without_actions_nobody_is_asked(
    gateway: Gateway, charge_point_id: str, csms: BackEnd, redis: redis_py.Redis
) -> None:
    redis.set(f"boot-states:{charge_point_id}", json.dumps({"status": "Rejected", "interval": 60}))
    with Caller(gateway.url(""), charge_point_id) as point:
        for action, payload in (("Authorize", {"idTag": "TAG-1"}), ("StartTransaction", start_16())):
            said = point.say(action, payload)
            assert heard(point, said)["idTagInfo"] == {"status": "Accepted"}
            (record,) = csms.records(said)
            event = json.loads(record.value)
            assert "replyTo" not in event
            assert "registrationStatus" not in event["payload"]
            assert not [name for name, _ in record.headers if name.startswith("kafka_")]
    assert "ocpp.csms.replies" not in {line.get("topic") for line in gateway.events}
    assert counted(gateway, "ocpp_csms_answers_total") == counted(gateway, "ocpp_csms_records_total") == 0


def test_settings_that_cannot_work_stop_the_start(redis_url: str, brokers: str) -> None:
    wrong = {
        "OCPP_CSMS_ACTIONS": "Authorise,authorize,NotifyPeriodicEventStream,Reset,StartTransaction",
        "OCPP_CSMS_FALLBACK_HEARTBEAT": "gateway",
        "OCPP_CSMS_FALLBACK_STARTTRANSACTION": "error",
        "OCPP_CSMS_FALLBACK_METERVALUES": "perhaps",
        "OCPP_CSMS_TIMEOUT_NOSUCH": "3",
        "OCPP_CSMS_TIMEOUT_STARTTRANSACTION": "soon",
        "OCPP_CSMS_TIMEOUT": "0",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OCPP_", "REDIS_"))}
    places = {"PYTHONPATH": str(PROJECT), "REDIS_URL": redis_url, "KAFKA_BROKERS": brokers}

    def told(environ: dict[str, str]) -> str:
        ended = subprocess.run(
            [str(TWISTD), "-n", "--pidfile=", "ocpp-gateway"],
            env={**clean, **places, "PORT": "0", "WEBSOCKET_OCPP_PORT": "0", **environ},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        said = ended.stdout + ended.stderr
        assert (ended.returncode, "Traceback" in said) == (1, False), said
        return said

    # Values that cannot be read are named together, and so is what contradicts the rest.
    values = ("OCPP_CSMS_FALLBACK_METERVALUES", "OCPP_CSMS_TIMEOUT_STARTTRANSACTION", "OCPP_CSMS_TIMEOUT")
    unreadable = told(wrong)
    for name in values:
        assert f"\n  {name} " in unreadable or f"\n  {name}:" in unreadable, unreadable
    contradicting = told({name: value for name, value in wrong.items() if name not in values})
    for part in (
        "'Authorise'",
        "'authorize'",
        "'NotifyPeriodicEventStream'",
        "'Reset'",
        "OCPP_CSMS_FALLBACK_HEARTBEAT",
        "OCPP_CSMS_FALLBACK_STARTTRANSACTION",
        "OCPP_CSMS_TIMEOUT_NOSUCH",
    ):
        assert part in contradicting, contradicting
