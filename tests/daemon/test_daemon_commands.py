"""Commands from Kafka to charge points that we did not write, and what the back end hears of them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from simulator.schema_payloads import example
from support.back_end import COMMAND_EVENTS
from support.callers import Caller, until
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.ocpp_points import VERSIONS, OcppPoint, smallest_answer
from support.raw_socket import metric
from support.requester import Requester, moment
from support.stations import provision

from ocpp_gateway.ocppj.actions import csms_actions

LABELS = {"1.6": "1.6J", "2.0.1": "2.0.1", "2.1": "2.1"}

CENTRAL = {"idToken": "TAG-1", "type": "Central"}
URL = "https://files.example/firmware.bin"
DATE = "2030-01-02T03:04:05Z"

START = ("RemoteStart", {"idTag": "TAG-1", "connectorId": 1})
STOP = ("RemoteStop", {"sessionId": "17"})
RESET = ("Reset", {"type": "Soft"})
UNLOCK = ("UnlockConnector", {"connectorId": 1})
UPDATE = ("UpdateFirmware", {"location": URL, "retrieveDate": DATE})
TRIGGER = ("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 1})
CHANGE = ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"})

# What the charge point must get for each of them; None: any number.
EXPECTED: dict[str, list[tuple[tuple[str, dict[str, Any]], str, dict[str, Any]]]] = {
    "1.6": [
        (START, "RemoteStartTransaction", {"idTag": "TAG-1", "connectorId": 1}),
        (STOP, "RemoteStopTransaction", {"transactionId": 17}),
        (RESET, "Reset", {"type": "Soft"}),
        (UNLOCK, "UnlockConnector", {"connectorId": 1}),
        (UPDATE, "UpdateFirmware", {"location": URL, "retrieveDate": DATE}),
        (TRIGGER, "TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 1}),
        (CHANGE, "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}),
    ],
    "2.0.1": [
        (START, "RequestStartTransaction", {"idToken": CENTRAL, "evseId": 1, "remoteStartId": None}),
        (STOP, "RequestStopTransaction", {"transactionId": "17"}),
        (RESET, "Reset", {"type": "OnIdle"}),
        (UNLOCK, "UnlockConnector", {"evseId": 1, "connectorId": 1}),
        (UPDATE, "UpdateFirmware", {"firmware": {"location": URL, "retrieveDateTime": DATE}, "requestId": None}),
        (
            TRIGGER,
            "TriggerMessage",
            {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 1}},
        ),
    ],
}
EXPECTED["2.1"] = EXPECTED["2.0.1"]


@pytest.fixture(scope="module")
def requester(brokers: str, gateway: Gateway) -> Iterator[Requester]:
    with Requester(brokers, gateway) as asking:
        yield asking


def is_as_expected(payload: dict[str, Any], expected: dict[str, Any]) -> bool:
    return payload.keys() == expected.keys() and all(
        type(payload[name]) is int if value is None else payload[name] == value for name, value in expected.items()
    )


@pytest.mark.parametrize("version", LABELS)
def test_every_command_type_of_the_contract_reaches_a_charge_point(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, version) as point:
        for (command_type, payload), action, expected in EXPECTED[version]:
            command_id = requester.ask(charge_point_id, command_type, payload, connectorId=1)
            end = requester.ended(command_id)
            assert end["eventType"] == "CommandAccepted"
            kind, message_id, said, sent = point.heard[-1]
            assert (kind, said) == (2, action)
            assert is_as_expected(sent, expected), sent
            assert point.handled[-1][0] == action  # the package has validated and handled it
            first, last = requester.events(command_id)
            assert first["payload"] == {"commandType": command_type, "action": action, "messageId": message_id}
            assert last["payload"] == {
                "commandType": command_type,
                "accepted": last["payload"]["accepted"],
                "response": smallest_answer(version, action),
            }
            for event, event_type in ((first, "CommandDispatched"), (last, "CommandAccepted")):
                assert event["eventType"] == event_type
                assert {
                    name: event[name]
                    for name in ("correlationId", "stationId", "tenantId", "chargePointId", "connectorId")
                } == {
                    "correlationId": command_id,
                    "stationId": f"station-{charge_point_id}",
                    "tenantId": "tenant-1",
                    "chargePointId": charge_point_id,
                    "connectorId": 1,
                }
                assert event["ocppVersion"] == LABELS[version]
            assert first["eventId"] != last["eventId"]
            assert first["connectionId"] == last["connectionId"]


@pytest.mark.parametrize("version", LABELS)
def test_every_action_by_its_own_name(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str
) -> None:
    actions = sorted(csms_actions(VERSIONS[version]))
    payloads = {action: example(VERSIONS[version], action, is_full=False) for action in actions}
    with OcppPoint(gateway.url(""), charge_point_id, version) as point:
        ids = {}
        for half in (actions[::2], actions[1::2]):  # 2.1 has more than may wait for one charge point
            asked = {action: requester.ask(charge_point_id, action, payloads[action]) for action in half}
            for action, command_id in asked.items():
                end = requester.ended(command_id)
                assert (action, end["eventType"]) == (action, "CommandAccepted")
                assert end["payload"]["commandType"] == action
            ids.update(asked)
        said = [frame[2] for frame in point.heard]
        assert said == actions[::2] + actions[1::2]  # in order, each once
        assert [handled[0] for handled in point.handled] == said
        for _, _, action, payload in point.heard:
            missing = payload.keys() - payloads[action].keys()
            assert missing <= {"remoteStartId", "requestId"}
            assert {name: payload[name] for name in payloads[action]} == payloads[action]
    assert all(requester.types(each) == ["CommandDispatched", "CommandAccepted"] for each in ids.values())


@pytest.mark.parametrize("version", LABELS)
def test_what_a_charge_point_refuses_is_told_as_not_accepted(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, version) as point:
        for status, accepted in (("Rejected", False), ("Accepted", True)):
            point.answers["Reset"] = {"status": status}
            end = requester.ended(requester.ask(charge_point_id, *RESET))
            assert (end["eventType"], end["payload"]) == (
                "CommandAccepted",
                {"commandType": "Reset", "accepted": accepted, "response": {"status": status}},
            )


def test_the_events_are_keyed_and_have_the_headers_of_a_cloud_event(
    gateway: Gateway, requester: Requester, brokers: str, charge_point_id: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "1.6"):
        command_id = requester.ask(charge_point_id, *RESET)
        requester.ended(command_id)
    found = 0
    for record in read_topic(brokers, COMMAND_EVENTS):
        event = json.loads(record.value)
        if event["correlationId"] == command_id:
            found += 1
            headers = dict(record.headers)
            assert record.key == charge_point_id.encode()
            assert headers["ce_id"] == event["eventId"].encode()
            assert headers["ce_type"] == event["eventType"].encode()
            assert headers["ce_subject"] == charge_point_id.encode()
            assert headers["content-type"] == b"application/json"
    assert found == 2


# What is not sent.


def test_what_the_version_has_not_and_what_no_version_has(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "2.0.1") as point:
        asked = {
            ("not_in_version", "Command not available in OCPP 2.0.1"): ("ChangeConfiguration", CHANGE[1]),
            ("unsupported_command", "Unsupported command type"): ("MakeCoffee", {}),
        }
        for (reason, error), (command_type, payload) in asked.items():
            # The version that the command names is not the connection's.
            end = requester.ended(requester.ask(charge_point_id, command_type, payload, ocppVersion="1.6"))
            assert (end["eventType"], end["payload"]) == (
                "CommandFailed",
                {"commandType": command_type, "error": error, "reason": reason},
            )
        # What a charge point says, no CSMS may.
        heartbeat = requester.ask(charge_point_id, "Heartbeat", {})
        assert requester.outcome(heartbeat) == ("CommandFailed", "unsupported_command")
        assert requester.outcome(requester.ask(charge_point_id, *RESET))[0] == "CommandAccepted"
        assert [frame[2] for frame in point.heard] == ["Reset"]


@pytest.mark.parametrize("version", LABELS)
def test_a_payload_that_breaks_the_schema_is_not_sent(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, version) as point:
        for payload in ({}, {"type": "Explosive"}, {"type": 7}, {"type": "Soft", "force": True}):
            end = requester.ended(requester.ask(charge_point_id, "Reset", payload))
            assert end["eventType"] == "CommandFailed"
            assert end["payload"]["reason"] == "payload_invalid"
            assert end["payload"]["error"].startswith("Invalid payload: ")
            assert "Explosive" not in end["payload"]["error"]
        assert requester.outcome(requester.ask(charge_point_id, *RESET))[0] == "CommandAccepted"
        assert len(point.heard) == 1


def test_stale_commands_are_never_sent(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        stale = [
            requester.ask(charge_point_id, *RESET, requestedAt=moment(-16)),  # the default is 15 s
            requester.ask(charge_point_id, *RESET, requestedAt=moment(-61), timeoutSec=60),
            requester.ask(charge_point_id, *RESET, requestedAt="2001-02-03T04:05:06Z", timeoutSec=3600),
            requester.ask(charge_point_id, *RESET, requestedAt=0),
            requester.ask(charge_point_id, *RESET, requestedAt=moment(-61), timeoutSec=1, deliverWithinSec=60),
        ]
        fresh = [
            requester.ask(charge_point_id, *RESET, requestedAt=moment(-20), timeoutSec=40),
            requester.ask(charge_point_id, *RESET, requestedAt=moment(+3600)),
            requester.ask(charge_point_id, *RESET, requestedAt=round(time.time() * 1000)),
            requester.ask(charge_point_id, *RESET, requestedAt="yesterday"),
            requester.ask(charge_point_id, *RESET, requestedAt=None),
        ]
        for each in stale:
            end = requester.ended(each)
            assert (end["eventType"], end["payload"]) == (
                "CommandFailed",
                {"commandType": "Reset", "error": "Command expired", "reason": "command_expired"},
            )
        assert [requester.outcome(each) for each in fresh] == [("CommandAccepted", None)] * len(fresh)
        assert len(point.heard) == len(fresh)


def test_one_that_waits_too_long_behind_others_is_never_sent(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        slow = requester.ask(charge_point_id, *RESET, timeoutSec=4)
        waits = [requester.ask(charge_point_id, *UNLOCK, timeoutSec=1) for _ in range(3)]
        after = requester.ask(charge_point_id, "ClearCache", {})
        assert charger.hear()[2] == "Reset"
        # The first is never answered; the next to be heard is the last.
        _, message_id, action, _ = charger.hear()
        assert action == "ClearCache"
        charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert requester.outcome(after)[0] == "CommandAccepted"
        assert requester.outcome(slow) == ("CommandTimeout", "no_response")
        assert [requester.outcome(each) for each in waits] == [("CommandFailed", "command_expired")] * 3


def test_offline_and_unknown_charge_points(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    for each in (charge_point_id, f"never-heard-of-{uuid.uuid4()}"):
        command_id = requester.ask(each, *RESET, stationId="station-as-named", connectorId=2)
        end = requester.ended(command_id)
        assert (end["eventType"], end["payload"]) == (
            "CommandFailed",
            {"commandType": "Reset", "error": "Charge point offline", "reason": "charge_point_offline"},
        )
        assert (end["chargePointId"], end["stationId"], end["connectorId"]) == (each, "station-as-named", 2)
        assert not {"tenantId", "connectionId", "epoch", "ocppVersion"} & end.keys()


# Once only.


def test_the_same_command_id_again_is_a_duplicate_and_one_call(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    command_id = str(uuid.uuid4())
    with Caller(gateway.url(""), charge_point_id) as charger:
        requester.ask(charge_point_id, *RESET, commandId=command_id)
        _, message_id, action, _ = charger.hear()
        assert action == "Reset"
        requester.ask(charge_point_id, *RESET, commandId=command_id)  # while the first is under way
        duplicate = requester.wait(command_id, "CommandDuplicate")
        assert duplicate["payload"] == {
            "commandType": "Reset",
            "error": "Duplicate commandId",
            "reason": "duplicate_command_id",
        }
        charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        requester.wait(command_id, "CommandAccepted")
        # When it is over, with another content, and for another charge point.
        requester.ask(charge_point_id, *UNLOCK, commandId=command_id)
        requester.wait(command_id, "CommandDuplicate", number=2)
        requester.ask(f"other-{charge_point_id}", *RESET, commandId=command_id)
        requester.wait(command_id, "CommandDuplicate", number=3)
        last = requester.ask(charge_point_id, "ClearCache", {})
        assert charger.hear()[2] == "ClearCache"  # no other CALL came
        charger.close()
        assert requester.outcome(last) == ("CommandTimeout", "connection_lost")
    kinds = requester.types(command_id)
    assert sorted(kinds) == ["CommandAccepted", "CommandDispatched"] + ["CommandDuplicate"] * 3


def test_one_that_found_nobody_may_come_again_under_its_id(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    command_id = requester.ask(charge_point_id, *RESET)
    assert requester.outcome(command_id) == ("CommandFailed", "charge_point_offline")
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        requester.ask(charge_point_id, *RESET, commandId=command_id)
        assert requester.outcome(command_id, number=2)[0] == "CommandAccepted"
        requester.ask(charge_point_id, *RESET, commandId=command_id)
        assert requester.outcome(command_id, number=3) == ("CommandDuplicate", "duplicate_command_id")
        assert len(point.heard) == 1


def test_a_key_that_the_earlier_gateway_has_left_makes_it_a_duplicate(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    command_id = str(uuid.uuid4())
    redis.set(f"command-idempotency:{command_id}", "1", ex=600)
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        requester.ask(charge_point_id, *RESET, commandId=command_id)
        assert requester.outcome(command_id) == ("CommandDuplicate", "duplicate_command_id")
        assert point.heard == []


# What is kept of it.


def audit(redis: redis_py.Redis, command_id: str) -> dict[str, Any]:
    raw: Any = redis.get(f"command-audit:{command_id}")
    assert raw is not None
    return json.loads(raw)


def test_the_audit_record(gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        command_id = requester.ask(charge_point_id, *START, connectorId=1)
        _, message_id, _, payload = charger.hear()
        requester.wait(command_id, "CommandDispatched")
        found = audit(redis, command_id)
        assert found["status"] == "Dispatched"
        assert found["sentAt"]
        charger.socket.send(json.dumps([3, message_id, {"status": "Rejected"}]))
        end = requester.ended(command_id)
        found = audit(redis, command_id)
        sent_at, response_at = found.pop("sentAt"), found.pop("responseAt")
        assert sent_at <= response_at <= end["occurredAt"]
        assert found == {
            "commandId": command_id,
            "commandType": "RemoteStart",
            "action": "RemoteStartTransaction",
            "chargePointId": charge_point_id,
            "stationId": f"station-{charge_point_id}",
            "tenantId": "tenant-1",
            "connectorId": 1,
            "ocppVersion": "1.6J",
            "nodeId": end["nodeId"],
            "uniqueId": message_id,
            "status": "Accepted",
            "requestPayload": payload,
            "responsePayload": {"status": "Rejected"},
        }
        # A week, which is the default.
        assert 604_000 < redis.ttl(f"command-audit:{command_id}") <= 604_800  # type: ignore[operator]
        assert 0 < redis.ttl(f"command-idempotency:{command_id}") <= 86_400 + 60  # type: ignore[operator]

        refused = requester.ask(charge_point_id, *RESET)
        _, message_id, _, _ = charger.hear()
        charger.socket.send(json.dumps([4, message_id, "InternalError", "broken", {"why": "heat"}]))
        requester.ended(refused)
        found = audit(redis, refused)
        assert found["status"] == "Rejected"
        assert found["error"] == {"code": "InternalError", "description": "broken", "details": {"why": "heat"}}


SECRET = "a secret"  # each time another one is put in its place


@pytest.mark.parametrize(
    ("version", "command_type", "payload"),
    [
        ("1.6", "ChangeConfiguration", {"key": "VendorPassword", "value": SECRET}),
        ("1.6", "GetDiagnostics", {"location": f"ftp://user:{SECRET}@files.example/"}),
        (
            "2.0.1",
            "SetVariables",
            {
                "setVariableData": [
                    {
                        "attributeValue": SECRET,
                        "component": {"name": "VendorCtrlr"},
                        "variable": {"name": "ModemPassword"},
                    }
                ]
            },
        ),
    ],
)
def test_a_secret_is_seen_by_the_charge_point_only(
    gateway: Gateway,
    requester: Requester,
    redis: redis_py.Redis,
    charge_point_id: str,
    version: str,
    command_type: str,
    payload: dict[str, Any],
) -> None:
    secret = f"Corr3ct-{uuid.uuid4().hex}"
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        command_id = requester.ask(
            charge_point_id, command_type, json.loads(json.dumps(payload).replace(SECRET, secret))
        )
        _, message_id, _, sent = charger.hear()
        assert secret in json.dumps(sent)
        # It repeats it where nobody would look for it.
        charger.socket.send(json.dumps([4, message_id, "GenericError", f"what is {secret}?", {"x": [secret.lower()]}]))
        end = requester.ended(command_id)
        assert end["eventType"] == "CommandRejected"
        until(lambda: redis.hget(f"command-idempotency:{command_id}", "state") == b"done", "its end in Redis")
    texts = [json.dumps(event) for event in requester.events(command_id)]
    texts += [json.dumps(event) for event in gateway.events]
    for key in redis.scan_iter("*", count=1000):
        kind: Any = redis.type(key)
        if kind == b"string":
            texts.append(str(redis.get(key)))
        elif kind == b"hash":
            texts.append(str(redis.hgetall(key)))
    assert len(texts) > 5
    assert [text for text in texts if secret.lower() in text.lower()] == []


@pytest.mark.parametrize(
    ("version", "command_type", "payload", "answer"),
    [
        (
            "1.6",
            "GetConfiguration",
            {"key": ["AuthorizationKey"]},
            {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": SECRET}]},
        ),
        (
            "2.1",
            "GetVariables",
            {"getVariableData": [{"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}]},
            {
                "getVariableResult": [
                    {
                        "attributeStatus": "Accepted",
                        "attributeValue": SECRET,
                        "component": {"name": "SecurityCtrlr"},
                        "variable": {"name": "BasicAuthPassword"},
                    }
                ]
            },
        ),
    ],
)
def test_a_secret_that_the_charge_point_tells_is_hidden(
    gateway: Gateway,
    requester: Requester,
    redis: redis_py.Redis,
    charge_point_id: str,
    version: str,
    command_type: str,
    payload: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        command_id = requester.ask(charge_point_id, command_type, payload)
        message_id = charger.hear()[1]
        charger.socket.send(json.dumps([3, message_id, answer]))
        response = requester.ended(command_id)["payload"]["response"]
        assert response == json.loads(json.dumps(answer).replace(SECRET, "***"))
        assert audit(redis, command_id)["responsePayload"] == response


def test_a_new_password_without_a_record_to_keep_it_in_is_not_sent(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        redis.delete(f"chargers:{charge_point_id}")
        command_id = requester.ask(
            charge_point_id, "ChangeConfiguration", {"key": "AuthorizationKey", "value": "00" * 20}
        )
        end = requester.ended(command_id)
        assert (end["eventType"], end["payload"]["reason"]) == ("CommandFailed", "identity_missing")


def test_the_metrics_count_the_ends(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    before = metric(gateway.http_port, "ocpp_commands_total", event="CommandAccepted", reason="accepted")
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        point.answers["Reset"] = {"status": "Accepted"}
        requester.ended(requester.ask(charge_point_id, *RESET))
    after = metric(gateway.http_port, "ocpp_commands_total", event="CommandAccepted", reason="accepted")
    assert after == before + 1


def test_a_charge_point_id_with_any_printable_character(
    gateway: Gateway, requester: Requester, redis_url: str, charge_point_id: str
) -> None:
    identity = f"{charge_point_id}.x_y-z"
    provision(redis_url, identity)
    with OcppPoint(gateway.url(""), identity, "2.1") as point:
        command_id = requester.ask(identity, *RESET, commandId=f"id with spaces, ü and \N{SNOWMAN} {uuid.uuid4()}")
        assert requester.outcome(command_id)[0] == "CommandAccepted"
        assert len(point.heard) == 1
