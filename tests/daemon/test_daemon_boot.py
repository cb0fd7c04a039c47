"""Registration that the CSMS decides on: who is Pending or Rejected is so on every node, until it is Accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from support.back_end import COMMAND_EVENTS, REQUESTS, BackEnd, make_topics, partitions_read, read_by_all
from support.callers import Caller, event_2x, meter_16, start_16, stop_16, until
from support.gateway import Gateway
from support.nodes import node

REPLIES = "replies-about-boots"
TIMEOUT = 2.0

SETTINGS = {
    "OCPP_CSMS_ACTIONS": "BootNotification",
    "OCPP_CSMS_REPLY_TOPIC": REPLIES,
    "OCPP_CSMS_TIMEOUT": str(TIMEOUT),
    "KAFKA_GROUP_ID": "boot-tests",
}
TIME = "2026-01-02T03:04:05Z"
NOT_YET = ["SecurityError", "Registration is not accepted", {}]
BOOT_16 = {"chargePointVendor": "V", "chargePointModel": "M"}
BOOT_2X = {"chargingStation": {"model": "M", "vendorName": "V"}, "reason": "PowerUp"}

Pair = tuple[Gateway, Gateway]


@pytest.fixture(scope="module")
def pair(redis_url: str, brokers: str) -> Iterator[Pair]:
    make_topics(brokers, REPLIES, REQUESTS, COMMAND_EVENTS)
    with node(redis_url, brokers, "boot-a", **SETTINGS) as a, node(redis_url, brokers, "boot-b", **SETTINGS) as b:
        read_by_all(REPLIES, a, b)
        read_by_all(REQUESTS, a, b)
        yield a, b


@pytest.fixture(scope="module")
def csms(brokers: str) -> Iterator[BackEnd]:
    with BackEnd(brokers) as back_end:
        yield back_end


def heard(point: Caller, message_id: str) -> Any:
    kind, answered_id, *rest = point.hear()
    assert answered_id == message_id, [kind, answered_id, *rest]
    assert kind in (3, 4)
    return rest[0] if kind == 3 else rest


def boots(point: Caller, csms: BackEnd, status: str, *, interval: int = 7) -> dict[str, Any]:
    """The event of a BootNotification that the CSMS answers so."""
    said = point.say("BootNotification", BOOT_16 if point.version == "1.6" else BOOT_2X)
    event = csms.said(said)
    answer = {"status": status, "currentTime": TIME, "interval": interval}
    csms.answer(event, {"payload": answer})
    assert heard(point, said) == answer
    return event


def says(point: Caller, action: str, payload: Any) -> Any:
    return heard(point, point.say(action, payload))


@pytest.mark.parametrize("status", ["Pending", "Rejected"])
@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_who_is_not_accepted_says_nothing_but_billing_data(
    pair: Pair, charge_point_id: str, csms: BackEnd, redis: redis_py.Redis, version: str, status: str
) -> None:
    a, b = pair
    key = f"boot-states:{charge_point_id}"
    with Caller(a.url(""), charge_point_id, version) as point:
        # Nobody is held back who was not told so.
        assert list(says(point, "Heartbeat", {})) == ["currentTime"]
        boots(point, csms, status)
        refused = point.say("Heartbeat", {})
        assert heard(point, refused) == NOT_YET
        stored: Any = until(lambda: redis.get(key), "the state")
        assert json.loads(stored) == {"status": status, "interval": 7, "epoch": 1}
        assert 0 < redis.ttl(key) <= 30 * 86_400
    for gateway in (a, b, b):
        with Caller(gateway.url(""), charge_point_id, version) as point:
            assert says(point, "Heartbeat", {}) == NOT_YET
            # Even what breaks the schema: it is not looked at (TC_B_30).
            assert says(point, "StatusNotification", {"no": "sense"}) == NOT_YET
            if version == "1.6":
                billing = [("StartTransaction", start_16()), ("StopTransaction", stop_16(5, 5))]
                billing.append(("MeterValues", meter_16(5, 5)))
            else:
                billing = [("TransactionEvent", event_2x("Ended", 3, f"{charge_point_id}-{gateway.pid}"))]
            for action, payload in billing:
                said = point.say(action, payload)
                assert isinstance(heard(point, said), dict), action
                assert csms.said(said)["payload"]["registrationStatus"] == status
    assert csms.records(refused) == []

    with Caller(b.url(""), charge_point_id, version) as point:
        boots(point, csms, "Accepted")
        until(lambda: redis.get(key) is None, "it to be forgotten")  # before the answer, unless Redis was late
        said = point.say("Heartbeat", {})
        assert list(heard(point, said)) == ["currentTime"]
        assert "registrationStatus" not in csms.said(said)["payload"]
    with Caller(a.url(""), charge_point_id, version) as point:
        assert list(says(point, "Heartbeat", {})) == ["currentTime"]


def test_it_may_boot_as_often_as_it_likes(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    with Caller(pair[0].url(""), charge_point_id) as point:
        for status in ("Rejected", "Pending", "Rejected"):
            boots(point, csms, status)
            assert says(point, "Heartbeat", {}) == NOT_YET
        boots(point, csms, "Accepted")
        assert list(says(point, "Heartbeat", {})) == ["currentTime"]


def test_a_silent_csms_leaves_everything_as_it_was(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    with Caller(pair[0].url(""), charge_point_id) as point:
        assert says(point, "BootNotification", BOOT_16)["status"] == "Accepted"
        assert list(says(point, "Heartbeat", {})) == ["currentTime"]
        boots(point, csms, "Pending", interval=11)
    with Caller(pair[1].url(""), charge_point_id) as point:
        again = says(point, "BootNotification", BOOT_16)
        assert (again["status"], again["interval"]) == ("Pending", 11)
        assert again["currentTime"] != TIME
        assert says(point, "Heartbeat", {}) == NOT_YET


def test_while_pending_what_is_asked_for_may_come(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    # The command may be read by any node; both are tried.
    with Caller(pair[0].url(""), charge_point_id) as point:
        boots(point, csms, "Pending")
        status = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        assert says(point, "StatusNotification", status) == NOT_YET
        command_id = csms.ask(charge_point_id, "TriggerMessage", {"requestedMessage": "StatusNotification"})
        kind, message_id, action, payload = point.hear()
        assert (kind, action, payload) == (2, "TriggerMessage", {"requestedMessage": "StatusNotification"})
        point.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert csms.end_of(command_id)["payload"]["accepted"] is True
        said = point.say("StatusNotification", status)
        assert heard(point, said) == {}
        assert csms.said(said)["payload"]["registrationStatus"] == "Pending"
        assert says(point, "Heartbeat", {}) == NOT_YET


def test_while_pending_a_report_may_come(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    report = {"requestId": 5, "generatedAt": TIME, "seqNo": 0}
    with Caller(pair[1].url(""), charge_point_id, "2.0.1") as point:
        boots(point, csms, "Pending")
        assert says(point, "NotifyReport", report) == NOT_YET
        command_id = csms.ask(charge_point_id, "GetBaseReport", {"requestId": 5, "reportBase": "FullInventory"})
        kind, message_id, action, _ = point.hear()
        assert (kind, action) == (2, "GetBaseReport")
        point.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert csms.end_of(command_id)["eventType"] == "CommandAccepted"
        said = point.say("NotifyReport", report)
        assert heard(point, said) == {}
        assert csms.said(said)["payload"]["registrationStatus"] == "Pending"


def test_nothing_is_asked_of_who_is_rejected(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    with Caller(pair[0].url(""), charge_point_id) as point:
        boots(point, csms, "Rejected")
        command_id = csms.ask(charge_point_id, "TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert csms.end_of(command_id)["payload"]["reason"] == "charge_point_rejected"
        assert says(point, "Heartbeat", {}) == NOT_YET  # and no CALL came before
    with Caller(pair[1].url(""), charge_point_id) as point:  # it has said nothing here yet
        command_id = csms.ask(charge_point_id, "TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert csms.end_of(command_id)["payload"]["reason"] == "charge_point_rejected"
        boots(point, csms, "Accepted")
        command_id = csms.ask(charge_point_id, "TriggerMessage", {"requestedMessage": "Heartbeat"})
        _, message_id, action, _ = point.hear()
        assert action == "TriggerMessage"
        point.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert csms.end_of(command_id)["eventType"] == "CommandAccepted"


def test_the_answer_may_be_read_by_the_other_node(pair: Pair, charge_point_id: str, csms: BackEnd) -> None:
    with Caller(pair[0].url(""), charge_point_id) as point:
        said = point.say("BootNotification", BOOT_16)
        answer = {"status": "Pending", "currentTime": TIME, "interval": 0}
        csms.answer(csms.said(said), {"payload": answer}, partition=min(partitions_read(pair[1], REPLIES)))
        assert heard(point, said) == answer
        assert says(point, "Heartbeat", {}) == NOT_YET


def test_it_is_remembered_by_a_gateway_that_was_killed(
    redis_url: str, brokers: str, charge_point_id: str, csms: BackEnd, redis: redis_py.Redis
) -> None:
    settings = {**SETTINGS, "OCPP_CSMS_REPLY_TOPIC": "replies-to-the-killed", "KAFKA_GROUP_ID": "killed"}
    make_topics(brokers, settings["OCPP_CSMS_REPLY_TOPIC"])
    patient = {**settings, "OCPP_CSMS_TIMEOUT": "15"}
    with (
        node(redis_url, brokers, "boot-killed", **patient) as gateway,
        Caller(gateway.url(""), charge_point_id) as point,
    ):
        boots(point, csms, "Rejected")
        until(lambda: redis.get(f"boot-states:{charge_point_id}"), "the state")
        gateway.kill()
    with (
        node(redis_url, brokers, "boot-killed", **settings) as gateway,
        Caller(gateway.url(""), charge_point_id) as point,
    ):
        assert says(point, "Heartbeat", {}) == NOT_YET
