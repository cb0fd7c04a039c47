"""Commands of people and scripts: ``ocpp-gateway command`` and the HTTP port, with charge points that are simulated."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from cli.cli_runner import run, started
from simulator.schema_payloads import example
from support.back_end import COMMAND_EVENTS, REQUESTS, BackEnd, make_topics, read_by_all
from support.callers import Caller
from support.gateway import Gateway
from support.nodes import TOKEN, command, node
from support.simulating import simulated
from support.stations import provision

from ocpp_gateway.ocppj.actions import csms_actions
from ocpp_gateway.ocppj.versions import OcppVersion

VERSIONS = {"1.6": OcppVersion.V16, "2.0.1": OcppVersion.V201, "2.1": OcppVersion.V21}
RESET = {"1.6": {"type": "Soft"}, "2.0.1": {"type": "Immediate"}, "2.1": {"type": "Immediate"}}


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    make_topics(brokers, REQUESTS, COMMAND_EVENTS)
    with node(redis_url, brokers, "doors", KAFKA_GROUP_ID="doors") as running:
        read_by_all(REQUESTS, running)
        yield running


@pytest.fixture(scope="module")
def back_end(brokers: str) -> Iterator[BackEnd]:
    with BackEnd(brokers) as back_end:
        yield back_end


@pytest.fixture(scope="module")
def simulated_id(redis_url: str, gateway: Gateway) -> Iterator[str]:
    """A 1.6 charge point that answers, and does what it is told."""
    charge_point_id = "CP-simulated"
    provision(redis_url, charge_point_id)
    with simulated(gateway, charge_point_id):
        yield charge_point_id


def post(
    gateway: Gateway, charge_point_id: str, body: Any, *, token: str | None = TOKEN, method: str = "POST"
) -> tuple[int, Any]:
    """Status and JSON of the answer; a ``body`` of bytes is sent as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(HTTPConnection("127.0.0.1", gateway.http_port, timeout=30)) as connection:
        connection.request(method, f"/chargers/{charge_point_id}/commands", data, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text


def final_of(back_end: BackEnd, reply: dict[str, Any]) -> None:
    """What somebody was told is what its final event says."""
    event = back_end.end_of(reply["commandId"])
    assert (event["eventType"], event["payload"]) == (reply["eventType"], reply["payload"])
    assert event["chargePointId"] == reply["chargePointId"]


# Over HTTP.


def test_http_tells_what_became_of_it(gateway: Gateway, simulated_id: str, back_end: BackEnd) -> None:
    status, reply = post(gateway, simulated_id, {"commandType": "GetConfiguration", "payload": {"key": ["NoSuch"]}})
    assert (status, reply["eventType"], reply["payload"]["accepted"]) == (200, "CommandAccepted", True)
    assert reply["payload"]["response"]["unknownKey"] == ["NoSuch"]
    final_of(back_end, reply)

    # The same commandId again: told once more, not done once more.
    again = {"commandType": "GetConfiguration", "payload": {"key": ["NoSuch"]}, "commandId": reply["commandId"]}
    assert post(gateway, simulated_id, again) == (200, {**reply, "repeated": True})
    dispatched = [
        event
        for event in back_end.events
        if event.get("correlationId") == reply["commandId"] and event["eventType"] == "CommandDispatched"
    ]
    assert len(dispatched) == 1


def test_http_does_not_tell_of_another_command(gateway: Gateway, simulated_id: str) -> None:
    """What became of a command says nothing of another one that is given its id."""
    _, first = post(gateway, simulated_id, {"commandType": "ClearCache"})
    assert first["payload"]["accepted"] is True
    other = {"commandType": "DataTransfer", "payload": {"vendorId": "V"}, "commandId": first["commandId"]}
    assert post(gateway, simulated_id, other) == (
        409,
        {"error": "duplicate_command_id", "commandId": first["commandId"]},
    )


@pytest.mark.parametrize(
    ("body", "event_type", "reason"),
    [
        ({"commandType": "NoSuch"}, "CommandFailed", "unsupported_command"),
        ({"commandType": "SetVariables", "payload": {}}, "CommandFailed", "not_in_version"),
        ({"commandType": "Reset", "payload": {"type": "Gentle"}}, "CommandFailed", "payload_invalid"),
        ({"commandType": "DataTransfer", "payload": {"vendorId": 7}}, "CommandFailed", "payload_invalid"),
    ],
)
def test_http_tells_why_not(
    gateway: Gateway, simulated_id: str, back_end: BackEnd, body: dict[str, Any], event_type: str, reason: str
) -> None:
    status, reply = post(gateway, simulated_id, body)
    assert (status, reply["eventType"], reply["payload"]["reason"]) == (200, event_type, reason)
    final_of(back_end, reply)


def test_http_for_who_is_offline(gateway: Gateway, charge_point_id: str, back_end: BackEnd) -> None:
    beat = {"commandType": "TriggerMessage", "payload": {"requestedMessage": "Heartbeat"}}
    status, reply = post(gateway, charge_point_id, beat)
    assert (status, reply["payload"]["reason"]) == (200, "charge_point_offline")
    final_of(back_end, reply)
    status, reply = post(gateway, charge_point_id, {**beat, "deliverWithinSec": 60})
    assert (status, reply["status"], "deliverUntil" in reply) == (202, "queued", True)
    with simulated(gateway, charge_point_id):
        assert back_end.end_of(reply["commandId"])["eventType"] == "CommandAccepted"


def test_http_for_who_is_silent(gateway: Gateway, charge_point_id: str, back_end: BackEnd) -> None:
    with Caller(gateway.url(""), charge_point_id) as point:
        body = {"commandType": "ClearCache", "timeoutSec": 1}
        status, reply = post(gateway, charge_point_id, body)
        assert (status, reply["eventType"]) == (200, "CommandTimeout")
        assert (reply["payload"]["reason"], reply["payload"]["outcome"]) == ("no_response", "unknown")
        final_of(back_end, reply)
        assert point.hear()[2] == "ClearCache"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "body_invalid"),
        (b"{", 400, "body_invalid"),
        (b"[]", 400, "body_invalid"),
        (b'"Reset"', 400, "body_invalid"),
        (b'{"commandType":"Reset","more":1}', 400, "body_invalid"),
        (b'{"commandType":"Reset","chargePointId":"CP-of-others"}', 400, "body_invalid"),
        (b"{}", 400, "command_invalid"),
        (b'{"commandType":7}', 400, "command_invalid"),
        (b'{"commandType":"Reset","payload":[]}', 400, "payload_invalid"),
        (b'{"commandType":"Reset","timeoutSec":0}', 400, "command_invalid"),
        (b'{"commandType":"Reset","timeoutSec":1e9}', 400, "command_invalid"),
        (b'{"commandType":"Reset","deliverWithinSec":-1}', 400, "command_invalid"),
        (b'{"commandType":"Reset","commandId":""}', 400, "command_invalid"),
        (b'{"commandType":"Reset","payload":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}", 400, "command_invalid"),
        (b'{"commandType":"Reset","payload":{"type":"' + b"x" * 70_000 + b'"}}', 413, None),
        (b"\xff\xfe", 400, "body_invalid"),
    ],
)
def test_http_refuses_what_is_no_command(
    gateway: Gateway, charge_point_id: str, body: bytes, status: int, error: str | None
) -> None:
    given, reply = post(gateway, charge_point_id, body)
    assert given == status, reply
    if error is not None:
        assert reply["error"] == error
    assert post(gateway, charge_point_id, {"commandType": "ClearCache"})[0] == 200


def test_http_wants_the_token(gateway: Gateway, simulated_id: str) -> None:
    body = {"commandType": "Reset", "payload": {"type": "Soft"}}
    assert post(gateway, simulated_id, body, token=None)[0] == 401
    assert post(gateway, simulated_id, body, token="another")[0] == 401
    assert post(gateway, simulated_id, body, method="GET")[0] == 405
    assert post(gateway, "", body)[0] == 404


@pytest.mark.parametrize("version", list(VERSIONS))
def test_the_simulated_charge_point_answers_all_that_it_may_be_asked(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, version: str
) -> None:
    actions = sorted(csms_actions(VERSIONS[version]) - {"Reset"})
    assert len(actions) > 20
    told: dict[str, Any] = {}
    with simulated(gateway, charge_point_id, version=version):
        back_end.wait_for(
            lambda event: (event.get("chargePointId"), event["eventType"]) == (charge_point_id, "StationBooted")
        )
        for action in actions:
            payload = example(VERSIONS[version], action, is_full=False)
            status, told[action] = post(gateway, charge_point_id, {"commandType": action, "payload": payload})
            assert status == 200, (action, told[action])
        status, reply = post(gateway, charge_point_id, {"commandType": "Reset", "payload": RESET[version]})
        assert (status, reply["eventType"], reply["payload"]["accepted"]) == (200, "CommandAccepted", True)
        back_end.wait_for(
            lambda event: (
                (event.get("chargePointId"), event["eventType"]) == (charge_point_id, "StationBooted")
                and event["epoch"] > 1
            ),
            seconds=30,
        )
    others = {action: reply for action, reply in told.items() if reply["eventType"] != "CommandAccepted"}
    assert not others
    for reply in told.values():
        final_of(back_end, reply)


def test_it_does_what_it_is_told(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis
) -> None:
    def told(event_type: str) -> dict[str, Any]:
        of = (charge_point_id, event_type)
        return back_end.wait_for(lambda event: (event.get("chargePointId"), event["eventType"]) == of, seconds=30)

    def does(command_type: str, payload: Any) -> dict[str, Any]:
        status, reply = post(gateway, charge_point_id, {"commandType": command_type, "payload": payload})
        assert (status, reply["payload"]["accepted"]) == (200, True), reply
        audit: Any = redis.get(f"command-audit:{reply['commandId']}")
        assert json.loads(audit)["requestPayload"]
        return reply

    with simulated(gateway, charge_point_id, version="2.0.1"):
        told("StationBooted")
        does("RemoteStart", {"idTag": "TAG-5"})
        began = told("SessionEvent")["payload"]["payload"]
        assert (began["eventType"], began["triggerReason"]) == ("Started", "RemoteStart")
        does("RemoteStop", {"sessionId": began["transactionInfo"]["transactionId"]})
        back_end.wait_for(
            lambda event: (
                event.get("chargePointId") == charge_point_id
                and event["payload"].get("payload", {}).get("eventType") == "Ended"
            ),
            seconds=30,
        )
        before = {event["eventId"] for event in back_end.events if event["eventType"] == "StationHeartbeat"}
        does("TriggerMessage", {"requestedMessage": "Heartbeat"})
        back_end.wait_for(
            lambda event: (
                (event.get("chargePointId"), event["eventType"]) == (charge_point_id, "StationHeartbeat")
                and event["eventId"] not in before
            )
        )


# From a terminal.


def test_a_terminal_is_told_what_became_of_it(
    gateway: Gateway, simulated_id: str, redis_url: str, brokers: str, back_end: BackEnd
) -> None:
    def runs(*arguments: str) -> Any:
        return command("command", simulated_id, *arguments, redis_url=redis_url, brokers=brokers)

    done = runs("GetConfiguration", "--json")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert {each["key"] for each in reply["payload"]["response"]["configurationKey"]} >= {"HeartbeatInterval"}
    final_of(back_end, reply)

    done = runs("GetConfiguration", "--id", reply["commandId"])
    assert (done.returncode, "as it was told before" in done.stdout) == (0, True), done

    done = runs("RemoteStop", '{"sessionId": 123456}')
    assert (done.returncode, "declined" in done.stdout) == (1, True), done

    done = runs("Reset", '{"type": "Gentle"}')
    assert (done.returncode, "payload_invalid" in done.stdout) == (1, True), done

    done = runs("Reset", "{")
    assert (done.returncode, "PAYLOAD" in done.stderr) == (2, True), done


def test_a_terminal_may_leave_it_for_later(
    gateway: Gateway, charge_point_id: str, redis_url: str, brokers: str, back_end: BackEnd
) -> None:
    command_id = str(uuid.uuid4())
    arguments = ("command", charge_point_id, "ClearCache", "--id", command_id)

    def runs(*more: str) -> Any:
        return command(*arguments, *more, redis_url=redis_url, brokers=brokers)

    done = runs()
    assert (done.returncode, "charge_point_offline" in done.stdout) == (1, True), done
    # It failed in a way that may pass: the same id is asked for again.
    done = runs("--deliver-within", "60")
    assert (done.returncode, "queued" in done.stdout) == (3, True), done
    with simulated(gateway, charge_point_id):
        back_end.wait_for(
            lambda event: (event.get("correlationId"), event["eventType"]) == (command_id, "CommandAccepted")
        )
    done = runs()
    assert (done.returncode, "accepted" in done.stdout) == (0, True), done
    kinds = [event["eventType"] for event in back_end.events if event.get("correlationId") == command_id]
    assert kinds == ["CommandFailed", "CommandQueued", "CommandDispatched", "CommandAccepted"]


@pytest.fixture(scope="module")
def without_commands(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """A gateway that reads none, on a Redis where no other gateway is."""
    settings = {"OCPP_COMMANDS_ENABLED": "false", "REDIS_PREFIX": "elsewhere", "KAFKA_GROUP_ID": "none"}
    with node(redis_url, brokers, "no-commands", **settings) as gateway:
        yield gateway


def test_http_says_that_there_are_no_commands(without_commands: Gateway, charge_point_id: str) -> None:
    assert post(without_commands, charge_point_id, {"commandType": "ClearCache", "timeoutSec": 1}) == (
        503,
        {"error": "commands_disabled"},
    )


def test_a_terminal_is_told_that_nobody_reads_commands(
    without_commands: Gateway, charge_point_id: str, redis_url: str, brokers: str
) -> None:
    arguments = ("command", charge_point_id, "ClearCache", "--timeout", "1")
    done = command(*arguments, redis_url=redis_url, brokers=brokers, REDIS_PREFIX="elsewhere")
    assert (done.returncode, "OCPP_COMMANDS_ENABLED" in done.stderr) == (1, True), done


def test_commands_to_the_demo(tmp_path: Path) -> None:
    environ = {
        "PORT": "0",
        "WEBSOCKET_OCPP_PORT": "0",
        "OCPP_DEV_STATE_FILE": str(tmp_path / "dev.json"),
        "WEBSOCKET_OCPP_HOST": "127.0.0.1",
        "COLUMNS": "200",
    }
    with started("demo", seconds=90, **environ) as process:
        assert process.stdout is not None
        booted = {"CP-001", "CP-002", "CP-003"}
        for line in process.stdout:
            if "StationBooted" in line:
                booted -= set(line.split())
            if not booted:
                break
        assert not booted
        for charge_point_id, action, payload in (
            ("CP-001", "Reset", {"type": "Soft"}),
            ("CP-002", "TriggerMessage", {"requestedMessage": "Heartbeat"}),
            ("CP-003", "GetBaseReport", {"requestId": 1, "reportBase": "SummaryInventory"}),
        ):
            done = run("--dev", "command", charge_point_id, action, json.dumps(payload), "--json", **environ)
            assert done.returncode == 0, done.stderr
            reply = json.loads(done.stdout)
            assert (reply["chargePointId"], reply["eventType"]) == (charge_point_id, "CommandAccepted")
        done = run("--dev", "command", "CP-004", "Reset", '{"type": "Soft"}', **environ)
        assert (done.returncode, "charge_point_offline" in done.stdout) == (1, True), done
