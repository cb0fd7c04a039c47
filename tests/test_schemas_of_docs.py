"""docs/schemas says what is on the wire: held against what writes events and reads commands, and against WIRE.md.

The schemas are open, because later releases may add members. Here they are closed: what they do not name, fails.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from adapters.schema_samples import sample_request
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012, Draft202012Validator, Registry, ValidationError, meta
from routing.memory_bus import MemoryBus
from routing.routing_parts import station
from session.session_parts import CERTIFICATE, Fleet, standing
from support.manual_clock import ManualClock

from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.outcome import FAILURES, Outcome, event_record
from ocpp_gateway.commands.request import Command, CommandInvalid, parse
from ocpp_gateway.commands.translation import translate
from ocpp_gateway.ocppj.actions import csms_actions, station_actions
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, CallError
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.redis.lost import LostSessions
from ocpp_gateway.redis.sessions import SessionRecord
from ocpp_gateway.routing.exchange import UnreadableCall
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session.reasons import CloseReason

DOCS = Path(__file__).parent.parent / "docs"
NAMES = ("charge-point-event", "command-event", "command-request", "csms-answer", "event")
NOW = 1_795_346_242.5


def the_schemas() -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in sorted((DOCS / "schemas").glob("*.json"))}


def closed(schema: Any) -> Any:
    """``schema``, but every object in it may have only the members that it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: value if name == "examples" else closed(value) for name, value in schema.items()}
    return (
        {**result, "unevaluatedProperties": False}
        if "object" in str(schema.get("type")) and "properties" in schema
        else result
    )


def validators(*, are_closed: bool) -> dict[str, Draft202012Validator]:
    schemas = {name: closed(schema) if are_closed else schema for name, schema in the_schemas().items()}
    registry = Registry([(schema["$id"], schema) for schema in schemas.values()], draft=Draft202012)
    return {
        name: Draft202012Validator(schema, registry=registry, validate_formats=True, offline=True)
        for name, schema in schemas.items()
    }


CLOSED = validators(are_closed=True)
OPEN = validators(are_closed=False)


def check(name: str, value: bytes | Any) -> Any:
    instance = orjson.loads(value) if isinstance(value, bytes) else value
    try:
        CLOSED[name].validate(instance)
    except ValidationError as error:
        pytest.fail(f"{name}: {error.message} at {error.instance_path_pointer} of {instance}")
    return instance


def test_they_are_schemas_with_examples_of_themselves() -> None:
    schemas = the_schemas()
    assert tuple(schemas) == NAMES
    for name, schema in schemas.items():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == f"urn:ocpp-gateway:{name}"
        assert meta.is_valid(schema)
        for example in schema.get("examples", ()):
            check(name, example)


def examples_of_wire() -> Iterator[tuple[str, Any]]:
    """The JSON objects in docs/WIRE.md that are records of Kafka, each with the schema that it is of."""
    text = (DOCS / "WIRE.md").read_text()
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) + re.findall(r"`(\{\"correlationId\".*?\})`", text):
        example = json.loads(block)
        if "eventId" in example:
            about_command = example["eventType"].startswith("Command")
            yield "command-event" if about_command else "charge-point-event", example
        elif "commandType" in example:
            yield "command-request", example
        elif "correlationId" in example:
            yield "csms-answer", example


def test_the_examples_of_wire_md_are_what_the_schemas_say() -> None:
    seen = [name for name, example in examples_of_wire() if check(name, example)]
    assert set(seen) >= {"charge-point-event", "command-request", "csms-answer"}


def test_the_command_that_wire_md_shows_is_one_that_can_be_sent() -> None:
    (example,) = [example for name, example in examples_of_wire() if name == "command-request"]
    command = read(orjson.dumps(example))
    schemas = Schemas.load()
    for version in OcppVersion:
        action, payload = translate(
            command.command_type, command.payload, version, connector_id=None, new_start_id=lambda: 1
        )
        assert schemas.request(version, action).violation(payload) is None


# Events of charge points.


class NobodysRecords:
    async def look_up_all(self, wanted: Any) -> Any:
        raise AssertionError("not asked here")


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


@pytest.mark.parametrize("version", OcppVersion)
def test_the_events_of_every_action(version: OcppVersion, schemas: Schemas) -> None:
    fleet = Fleet(schemas, NobodysRecords())
    of = station(version, certificate_expired=True)
    actions = sorted(station_actions(version))
    for action in actions:
        # Sound, said again, and without what it needs.
        for payload in (sample_request(version, action), sample_request(version, action), {"x": 1}):
            call = decode(orjson.dumps([2, "id-1", action, payload]), version)
            assert isinstance(call, Call)
            fleet.sessions.uplink.take(of, call, lambda frame, again: None, lambda reason: None)
            fleet.bus.settle()
    fleet.sessions.uplink.take(
        of, UnreadableCall("id-2", "MeterValues", "[2,", "not_json"), lambda frame, again: None, lambda reason: None
    )
    fleet.bus.settle()
    told = [check("charge-point-event", record.value) for record in fleet.bus.records]
    published = {event["payload"]["action"] for event in told}
    assert published >= {"BootNotification", "Heartbeat", "StatusNotification", "MeterValues"}
    assert len(published) > 0.7 * len(actions)
    assert {member for event in told for member in event["payload"]} >= {"idempotent", "rawFrame", "schemaErrors"}


def test_the_event_that_asks_the_csms() -> None:
    of = station()
    reply_to = {"topic": "ocpp.csms.replies", "partition": 3, "correlationId": "node-1.2f6c"}
    record = of.envelope.event(
        "Authorize",
        now=NOW,
        action="Authorize",
        raw_payload=b'{"idTag":"TAG-1"}',
        extras={"registrationStatus": "Pending"},
        message_id=17,
        reply_to=reply_to,
    )
    assert check("charge-point-event", record.value)["replyTo"] == reply_to
    for broken in ({**reply_to, "partition": -1}, {"topic": "t"}, {**reply_to, "topic": ""}):
        event = {**orjson.loads(record.value), "replyTo": broken}
        assert not OPEN["charge-point-event"].is_valid(event)


def test_the_events_of_a_session(schemas: Schemas) -> None:
    fleet = Fleet(schemas, NobodysRecords())
    with_certificate = fleet.connect(standing(certificate=CERTIFICATE), certificate_expired=True)
    with_certificate.received(b"no frame")
    with_certificate.close(CloseReason.KICKED)
    fleet.sessions.closed(with_certificate, CloseReason.PEER_CLOSED, 1012)
    fleet.sessions.closed(fleet.connect(), CloseReason.CONNECTION_LOST, None)
    fleet.bus.settle()
    told = [check("charge-point-event", record.value) for record in fleet.bus.records]
    assert [event["eventType"] for event in told] == ["StationConnected", "StationDisconnected"] * 2
    assert {"certificate", "closeCode", "lastError"} <= {member for event in told for member in event["payload"]}


def test_the_event_of_a_session_whose_node_is_lost() -> None:
    bus, clock = MemoryBus(), ManualClock()
    writability = Writability(clock, lambda: None, lambda: None)
    presence = Presence(bus=bus, topic="t", holds=Holds(8.0, clock), writability=writability, clock=clock)
    lost = LostSessions(presence=presence, stamps=EventStamps(), count=lambda version: None, node_id="node-2")
    lost.tell(
        SessionRecord(
            charge_point_id="CP-001",
            ocpp_version="2.0.1",
            node_id="node-1",
            station_id="station-1",
            tenant_id="tenant-a",
            connected_at_ms=1_795_346_242_000,
            last_seen_at_ms=1_795_346_250_000,
        )
    )
    (record,) = bus.records
    assert check("charge-point-event", record.value)["payload"]["sweptBy"] == "node-2"
    bus.settle()


# Events of commands.

COMMAND = Command(
    command_id="command-1",
    command_type="Reset",
    charge_point_id="CP-001",
    requested_at_ms=1_795_346_242_000,
    timeout_seconds=15.0,
    connector_id=1,
    station_id="station-1",
    source="cpms.command.requests:0:7",
)

VIOLATION = Violation(ErrorCode.PROTOCOL_ERROR, "/status", "missing")

OUTCOMES = [
    outcomes.dispatched("Reset", "id-1"),
    outcomes.queued(1_795_346_242_000),
    outcomes.accepted("Reset", {"status": "Accepted"}),
    outcomes.accepted("GetConfiguration", {}),
    outcomes.call_error(CallError("id-1", "NotSupported", "", {})),
    outcomes.call_error(CallError("id-1", "X", "why", {"details": [1]})),
    outcomes.invalid_response(VIOLATION, "Reset", {"x": 1}),
    outcomes.no_response(),
    outcomes.node_lost(),
    outcomes.connection_lost(was_sent=True),
    outcomes.connection_lost(was_sent=False),
    outcomes.payload_invalid(VIOLATION),
    outcomes.duplicate(),
    *(outcomes.failed(reason, version="2.0.1", problem="why") for reason in FAILURES),
]


def event_of(outcome: Outcome, command: Command | CommandInvalid = COMMAND, *, is_connected: bool = True) -> Any:
    record = event_record(
        outcome,
        command,
        envelope=station().envelope if is_connected else None,
        stamps=EventStamps(),
        node_id="node-1",
        now=NOW,
    )
    return orjson.loads(record.value)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: f"{outcome.event_type}-{outcome.reason}")
def test_the_events_of_a_command(outcome: Outcome) -> None:
    for is_connected in (True, False):
        event = check("command-event", event_of(outcome, is_connected=is_connected))
        check("event", event)
        other = copy.deepcopy(event)
        other["payload"].pop("reason" if "reason" in event["payload"] else next(reversed(event["payload"])))
        assert not OPEN["command-event"].is_valid(other)
        assert not OPEN["command-event"].is_valid({**event, "eventType": "CommandForgotten"})
        assert OPEN["command-event"].is_valid({**event, "ofALaterRelease": 1})


def test_the_event_of_a_record_that_is_no_command() -> None:
    defect = CommandInvalid("command_invalid", "Invalid command: not JSON", command_id="command-1")
    check("command-event", event_of(outcomes.invalid(defect), defect, is_connected=False))


def test_the_reasons_of_a_failure_are_all_listed() -> None:
    assert set(the_schemas()["command-event"]["$defs"]["failed"]["properties"]["reason"]["enum"]) == set(FAILURES)


# Command requests: what the schema lets through is a command, and what it does not is none.


def read(value: bytes) -> Command:
    return parse(value, source="t:0:1", timestamp_ms=1, now_ms=1_795_346_250_000, default_timeout=15.0)


_TEXTS = st.text(
    st.characters(codec="ascii") | st.sampled_from("äß漢\u00a0\u2028\u202e\u00ad"), max_size=3
) | st.sampled_from(["x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 255, "x" * 256])
_NUMBERS = st.sampled_from([0, 1, -1, 0.5, 1.0, 3600, 3601, 604_800, 604_801, 2**31 - 1, 2**31, 10.0])
_ANYTHING = st.none() | st.booleans() | _NUMBERS | _TEXTS | st.just({}) | st.just([]) | st.just({"a": [1]})
_REQUESTS = st.fixed_dictionaries(
    {
        "commandId": st.just("c") | _TEXTS,
        "commandType": st.just("Reset") | _TEXTS,
        "chargePointId": st.just("CP") | _TEXTS,
    },
    optional={
        "stationId": _TEXTS | _ANYTHING,
        "connectorId": _NUMBERS | _ANYTHING,
        "requestedBy": st.none() | st.just({}) | st.just([]) | st.just("me"),
        "payload": st.just({}) | _ANYTHING,
        "timeoutSec": _NUMBERS | _ANYTHING,
        "deliverWithinSec": _NUMBERS | _ANYTHING,
        "requestedAt": st.none() | _NUMBERS | _TEXTS,
        "ocppVersion": _ANYTHING,
    },
)


@given(_REQUESTS)
def test_a_command_is_what_the_schema_says(request: dict[str, Any]) -> None:
    is_command = True
    try:
        read(orjson.dumps(request))
    except CommandInvalid:
        is_command = False
    assert OPEN["command-request"].is_valid(request) == is_command


@pytest.mark.parametrize("member", ["commandId", "commandType", "chargePointId"])
def test_what_a_command_cannot_do_without(member: str) -> None:
    request = {"commandId": "c", "commandType": "Reset", "chargePointId": "CP-001"}
    check("command-request", request)
    del request[member]
    assert not OPEN["command-request"].is_valid(request)
    with pytest.raises(CommandInvalid):
        read(orjson.dumps(request))


def test_the_actions_that_the_description_promises(schemas: Schemas) -> None:
    named = the_schemas()["command-request"]["properties"]["commandType"]["description"].split(", or ")[0].split(", ")
    for command_type in named:
        action, _ = translate(command_type, {}, OcppVersion.V16, connector_id=None, new_start_id=lambda: 1)
        assert action in csms_actions(OcppVersion.V16)


# Answers of the CSMS.


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"correlationId": "x"},
        {"payload": []},
        {"payload": {}, "error": {"code": "InternalError"}},
        {"error": {}},
        {"error": {"code": 5}},
        {"error": "InternalError"},
        {"correlationId": 5, "payload": {}},
    ],
)
def test_what_is_no_answer(answer: dict[str, Any]) -> None:
    assert not OPEN["csms-answer"].is_valid(answer)


def test_what_is_one() -> None:
    check("csms-answer", {"payload": {}})
    check("csms-answer", {"correlationId": "a.b", "error": {"code": "GenericError", "description": "", "details": {}}})
