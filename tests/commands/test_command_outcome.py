"""What the back end is told about a command: the contract's events, their texts, and no secret in any of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.audit import Audit
from ocpp_gateway.commands.outcome import FAILURES, RETRYABLE, Outcome, event_key, event_record
from ocpp_gateway.commands.request import Command, CommandInvalid
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import CallError
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.routing.envelope import Envelope, EventRecord
from ocpp_gateway.routing.stamps import EventStamps

NOW = 1_767_323_045.678
STAMPS = EventStamps()

COMMAND = Command(
    command_id="command-1",
    command_type="RemoteStart",
    charge_point_id="CP-001",
    requested_at_ms=1_767_323_045_000,
    timeout_seconds=15.0,
    payload={"idTag": "TAG-1"},
    station_id="station-of-the-command",
    connector_id=1,
    source="cpms.command.requests:0:7",
)


def connected() -> Envelope:
    return Envelope(
        charge_point_id="CP-001",
        station_id="station-1",
        tenant_id="tenant-a",
        ocpp_version="1.6J",
        connection_id="6a1f7a5e-0000-4000-8000-000000000001",
        epoch=3,
        node_id="node-1",
        stamps=STAMPS,
    )


def told(
    outcome: Outcome, command: Command | CommandInvalid = COMMAND, envelope: Envelope | None = None, **facts: Any
) -> EventRecord:
    return event_record(outcome, command, envelope=envelope, stamps=STAMPS, node_id="node-2", now=NOW, **facts)


def test_event_about_a_connected_charge_point() -> None:
    record = told(outcomes.dispatched("RemoteStartTransaction", "id-1"), envelope=connected())
    assert record.value == (
        b'{"eventId":"' + record.event_id.encode() + b'","eventType":"CommandDispatched","source":"ocpp-gateway",'
        b'"occurredAt":"2026-01-02T03:04:05.678Z","correlationId":"command-1","stationId":"station-1",'
        b'"tenantId":"tenant-a","chargePointId":"CP-001","connectorId":1,"ocppVersion":"1.6J",'
        b'"connectionId":"6a1f7a5e-0000-4000-8000-000000000001","epoch":3,"nodeId":"node-1",'
        b'"payload":{"commandType":"RemoteStart","action":"RemoteStartTransaction","messageId":"id-1"}}'
    )
    assert ("ce_type", b"CommandDispatched") in record.headers
    assert ("ce_subject", b"CP-001") in record.headers
    assert event_key(COMMAND) == b"CP-001"


def test_event_about_one_that_is_not_has_what_the_command_names() -> None:
    record = told(outcomes.failed("charge_point_offline"))
    assert record.value == (
        b'{"eventId":"' + record.event_id.encode() + b'","eventType":"CommandFailed","source":"ocpp-gateway",'
        b'"occurredAt":"2026-01-02T03:04:05.678Z","correlationId":"command-1","stationId":"station-of-the-command",'
        b'"chargePointId":"CP-001","connectorId":1,"nodeId":"node-2",'
        b'"payload":{"commandType":"RemoteStart","error":"Charge point offline","reason":"charge_point_offline"}}'
    )
    assert ("ce_subject", b"CP-001") in record.headers


def test_event_about_a_record_that_is_no_command() -> None:
    defect = CommandInvalid("missing_charge_point_id", "Missing chargePointId", command_id="command-1")
    record = told(outcomes.invalid(defect), defect)
    event = orjson.loads(record.value)
    assert list(event) == [
        *("eventId", "eventType", "source", "occurredAt", "correlationId", "nodeId", "payload"),
    ]
    assert event["payload"] == {"error": "Missing chargePointId", "reason": "missing_charge_point_id"}
    assert "ce_subject" not in dict(record.headers)
    assert event_key(defect) == b"command-1"


def test_a_duplicate_is_told_with_the_same_event_id_each_time() -> None:
    first, second = told(outcomes.duplicate()), told(outcomes.duplicate(), envelope=connected())
    assert first.event_id == second.event_id == str(UUID(first.event_id))
    assert ("ce_id", first.event_id.encode()) in first.headers
    others = [
        Command.decode(COMMAND.encode().replace(b":0:7", b":0:8")),
        Command.decode(COMMAND.encode().replace(b"command-1", b"command-2")),
    ]
    assert all(other is not None and told(outcomes.duplicate(), other).event_id != first.event_id for other in others)
    assert told(outcomes.no_response()).event_id != told(outcomes.no_response()).event_id
    assert told(outcomes.no_response(), event_id="given").event_id == "given"
    assert told(outcomes.no_response(), envelope=connected(), event_id="given").event_id == "given"


@pytest.mark.parametrize(
    ("outcome", "event_type", "payload", "reason"),
    [
        (
            outcomes.queued(1_767_323_045_678),
            "CommandQueued",
            {"deliverUntil": "2026-01-02T03:04:05.678Z"},
            "queued",
        ),
        (
            outcomes.accepted("RemoteStartTransaction", {"status": "Accepted"}),
            "CommandAccepted",
            {"accepted": True, "response": {"status": "Accepted"}},
            "accepted",
        ),
        (
            outcomes.accepted("RemoteStartTransaction", {"status": "Rejected"}),
            "CommandAccepted",
            {"accepted": False, "response": {"status": "Rejected"}},
            "declined",
        ),
        (
            outcomes.call_error(CallError("id-1", "NotSupported", "no such thing", {"why": 1})),
            "CommandRejected",
            {
                "error": "Rejected by charge point",
                "reason": "call_error",
                "response": {
                    "errorCode": "NotSupported",
                    "errorDescription": "no such thing",
                    "errorDetails": {"why": 1},
                },
            },
            "call_error",
        ),
        (
            outcomes.call_error(CallError("id-1", "", "", {})),
            "CommandRejected",
            {
                "error": "Rejected by charge point",
                "reason": "call_error",
                "response": {"errorCode": "", "errorDetails": {}},
            },
            "call_error",
        ),
        (
            outcomes.invalid_response(Violation(ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "/status", "missing")),
            "CommandRejected",
            {
                "error": "Invalid response from charge point",
                "reason": "invalid_response",
                "response": {
                    "errorCode": "OccurrenceConstraintViolation",
                    "errorDescription": "/status: missing",
                    "errorDetails": {},
                },
            },
            "invalid_response",
        ),
        (
            outcomes.no_response(),
            "CommandTimeout",
            {"error": "No response from charge point", "reason": "no_response", "outcome": "unknown"},
            "no_response",
        ),
        (
            outcomes.node_lost(),
            "CommandTimeout",
            {"error": "Node lost", "reason": "node_lost", "outcome": "unknown"},
            "node_lost",
        ),
        (
            outcomes.connection_lost(was_sent=True),
            "CommandTimeout",
            {"error": "Connection lost", "reason": "connection_lost", "outcome": "unknown"},
            "connection_lost",
        ),
        (
            outcomes.connection_lost(was_sent=False),
            "CommandFailed",
            {"error": "Connection lost", "reason": "connection_lost"},
            "connection_lost",
        ),
        (
            outcomes.failed("not_in_version", version="2.0.1"),
            "CommandFailed",
            {"error": "Command not available in OCPP 2.0.1", "reason": "not_in_version"},
            "not_in_version",
        ),
        (
            outcomes.payload_invalid(Violation(ErrorCode.PROTOCOL_ERROR, "/idTag", "missing")),
            "CommandFailed",
            {"error": "Invalid payload: /idTag: missing", "reason": "payload_invalid"},
            "payload_invalid",
        ),
        (
            outcomes.payload_invalid(Violation(ErrorCode.FORMAT_VIOLATION, "", "unknown member 'a{b}'")),
            "CommandFailed",
            {"error": "Invalid payload: unknown member 'a{b}'", "reason": "payload_invalid"},
            "payload_invalid",
        ),
        (
            outcomes.duplicate(),
            "CommandDuplicate",
            {"error": "Duplicate commandId", "reason": "duplicate_command_id"},
            "duplicate_command_id",
        ),
    ],
)
def test_each_outcome(outcome: Outcome, event_type: str, payload: dict[str, Any], reason: str) -> None:
    assert (outcome.event_type, outcome.payload, outcome.reason) == (event_type, payload, reason)
    event = orjson.loads(told(outcome).value)
    assert event["payload"] == {"commandType": "RemoteStart", **payload}
    assert next(iter(event["payload"])) == "commandType"


def test_only_what_was_never_sent_may_be_requested_again() -> None:
    assert FAILURES.keys() > RETRYABLE
    for reason in FAILURES:
        failed = outcomes.failed(reason, version="2.1", problem="x")
        assert failed.is_retryable == (reason in RETRYABLE)
        assert failed.event_type == "CommandFailed"
        assert "{" not in failed.payload["error"]
    assert not outcomes.connection_lost(was_sent=True).is_retryable
    assert outcomes.connection_lost(was_sent=False).is_retryable
    finals = (outcomes.no_response(), outcomes.node_lost(), outcomes.accepted("Reset", {"status": "Rejected"}))
    assert not any(each.is_retryable for each in finals)


@pytest.mark.parametrize(
    ("action", "response", "is_yes"),
    [
        ("Reset", {"status": "Accepted"}, True),
        ("Reset", {"status": "Scheduled"}, True),
        ("GetLog", {"status": "AcceptedCanceled"}, True),
        ("ChangeConfiguration", {"status": "RebootRequired"}, True),
        ("ChangeConfiguration", {"status": "NotSupported"}, False),
        ("UnlockConnector", {"status": "Unlocked"}, True),
        ("UnlockConnector", {"status": "UnlockFailed"}, False),
        ("UnpublishFirmware", {"status": "Unpublished"}, True),
        ("ReserveNow", {"status": "Occupied"}, False),
        ("DataTransfer", {"status": "UnknownVendorId"}, False),
        ("UpdateFirmware", {}, True),  # 1.6: has no status
        ("GetConfiguration", {"unknownKey": ["x"]}, True),
        ("SetVariables", {"setVariableResult": [{"attributeStatus": "Accepted"}]}, True),
        (
            "SetVariables",
            {"setVariableResult": [{"attributeStatus": "Accepted"}, {"attributeStatus": "Rejected"}]},
            False,
        ),
        ("GetVariables", {"getVariableResult": [{"attributeStatus": "UnknownComponent"}]}, False),
        ("ClearVariableMonitoring", {"clearMonitoringResult": [{"status": "Accepted", "id": 1}]}, True),
        ("SetVariableMonitoring", {"setMonitoringResult": [{"status": "Duplicate"}]}, False),
        ("ClearTariffs", {"clearTariffsResult": [{"status": "NoTariff"}]}, False),
    ],
)
def test_whether_the_charge_point_does_as_it_is_told(action: str, response: dict[str, Any], is_yes: bool) -> None:
    assert outcomes.accepted(action, response).payload["accepted"] is is_yes


CONFIGURATION = {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": "0123456789abcdef"}]}


def test_secrets_in_an_answer_are_hidden() -> None:
    accepted = outcomes.accepted("GetConfiguration", CONFIGURATION)
    assert accepted.payload["response"]["configurationKey"][0]["value"] == "***"
    assert CONFIGURATION["configurationKey"][0]["value"] == "0123456789abcdef"
    echo = CallError("id-1", "GenericError", "cannot set password=hunter-22", {"AuthorizationKey": "hunter-22"})
    assert "hunter-22" not in str(outcomes.call_error(echo).payload)


@pytest.mark.parametrize("echo", ["0123456789abcdef", "0123456789ABCDEF", "value 0123456789abcdef is weak"])
def test_a_secret_that_comes_back_is_hidden_wherever_it_stands(echo: str) -> None:
    secrets = ("0123456789abcdef", "a")
    answers = (
        outcomes.call_error(CallError("1", echo, echo, {"said": [echo, {echo: echo}]}), secrets),
        outcomes.accepted("DataTransfer", {"status": "Accepted", "data": echo}, secrets),
        outcomes.invalid_response(
            Violation(ErrorCode.FORMAT_VIOLATION, "/status", "missing"), "Reset", {"x": echo}, secrets
        ),
    )
    for answer in answers:
        record = told(answer).value + audit(payload={}).encode(answer, NOW)
        assert b"0123456789abcdef" not in record.lower()
        assert b"***" in record
    assert answers[1].payload["accepted"] is True  # judged by what was said


def audit(
    action: str = "ChangeConfiguration", payload: dict[str, Any] | None = None, connector_id: int | None = 1
) -> Audit:
    return Audit(
        command=COMMAND,
        action=action,
        message_id="id-1",
        station_id="station-1",
        tenant_id="tenant-a",
        ocpp_version="1.6J",
        node_id="node-1",
        request_payload={"key": "AuthorizationKey", "value": "0123456789abcdef"} if payload is None else payload,
        sent_at=NOW,
    )


def test_the_audit_record_of_what_was_sent() -> None:
    assert orjson.loads(audit().encode()) == {
        "commandId": "command-1",
        "commandType": "RemoteStart",
        "action": "ChangeConfiguration",
        "chargePointId": "CP-001",
        "stationId": "station-1",
        "tenantId": "tenant-a",
        "connectorId": 1,
        "ocppVersion": "1.6J",
        "nodeId": "node-1",
        "uniqueId": "id-1",
        "status": "Dispatched",
        "sentAt": "2026-01-02T03:04:05.678Z",
        "requestPayload": {"key": "AuthorizationKey", "value": "***"},
    }
    assert "0123456789abcdef" not in repr(audit())


def test_the_audit_record_of_an_answer() -> None:
    accepted = orjson.loads(audit().encode(outcomes.accepted("Reset", {"status": "Rejected"}), NOW + 1))
    assert accepted["status"] == "Accepted"
    assert accepted["responseAt"] == "2026-01-02T03:04:06.678Z"
    assert accepted["responsePayload"] == {"status": "Rejected"}
    assert "error" not in accepted
    refused = orjson.loads(audit().encode(outcomes.call_error(CallError("1", "NotSupported", "no", {"a": 1})), NOW))
    assert (refused["status"], refused["error"]) == (
        "Rejected",
        {"code": "NotSupported", "description": "no", "details": {"a": 1}},
    )
    assert "responsePayload" not in refused
    violation = Violation(ErrorCode.PROTOCOL_ERROR, "/status", "missing")
    broken = orjson.loads(audit().encode(outcomes.invalid_response(violation, "Reset", {"x": 1}), NOW))
    assert broken["responsePayload"] == {"x": 1}
    assert broken["error"] == {"code": "ProtocolError", "description": "/status: missing", "details": {}}
    silent = orjson.loads(audit().encode(outcomes.no_response()))
    assert silent["status"] == "Timeout"
    assert silent["error"] == {"code": "no_response", "description": "No response from charge point", "details": {}}
    assert "responseAt" not in silent


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(
    texts=st.lists(st.text(), min_size=6, max_size=6),
    details=st.dictionaries(st.text(), _JSON, max_size=3),
    secrets=st.lists(st.text(), max_size=3),
)
def test_whatever_a_charge_point_says_ends_up_in_its_place(
    texts: list[str], details: dict[str, Any], secrets: list[str]
) -> None:
    code, description, command_id, command_type, charge_point_id, station_id = texts
    command = Command(
        command_id=command_id,
        command_type=command_type,
        charge_point_id=charge_point_id,
        station_id=station_id,
        requested_at_ms=0,
        timeout_seconds=15.0,
    )
    outcome = outcomes.call_error(CallError("id-1", code, description, details), tuple(secrets))
    event = orjson.loads(told(outcome, command).value)
    assert event["correlationId"] == command_id
    assert event["payload"]["commandType"] == command_type
    assert set(event["payload"]["response"]) <= {"errorCode", "errorDescription", "errorDetails"}
    assert all(secret not in str(event["payload"]["response"]["errorCode"]) for secret in secrets if len(secret) > 5)
