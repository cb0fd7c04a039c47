"""What becomes of a command, and how the back end is told (docs/WIRE.md, "Commands").

==================  ==========================================================================  =======
event               when                                                                        final
==================  ==========================================================================  =======
CommandDispatched   the CALL was sent                                                           no
CommandQueued       it waits in Redis for the charge point                                      no
CommandAccepted     a CALLRESULT came, whatever its status says: ``accepted``                   yes
CommandRejected     a CALLERROR came, or a CALLRESULT that breaks its schema                    yes
CommandTimeout      it was sent, and what became of it is not known: ``outcome: "unknown"``     yes
CommandFailed       it was not sent                                                             yes
CommandDuplicate    its commandId was there before, in another record                           yes
==================  ==========================================================================  =======
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
from attrs import field, frozen

from ocpp_gateway.clock import iso_millis
from ocpp_gateway.commands.request import Command, CommandInvalid
from ocpp_gateway.commands.secrecy import redacted
from ocpp_gateway.ocppj.frames import CallError, Payload
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.routing.envelope import Envelope, EventRecord, members, written
from ocpp_gateway.routing.stamps import EventStamps

FAILURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing_charge_point_id": "Missing chargePointId",
        "identity_missing": "No identity record to keep the new password in",
        "charge_point_offline": "Charge point offline",
        "command_expired": "Command expired",
        "connection_lost": "Connection lost",
        "outbox_full": "Too many commands waiting",
        "parking_full": "Too many commands parked",
        "unsupported_command": "Unsupported command type",
        "not_in_version": "Command not available in OCPP {version}",
        "payload_invalid": "Invalid payload: {problem}",
        "command_invalid": "Invalid command: {problem}",
        "secret_not_parkable": "Command with a secret cannot be parked",
        "charge_point_rejected": "Charge point was rejected",
        "internal_error": "Internal error",
    }
)
"""The ``error`` of a CommandFailed by its ``reason``; in braces what is filled in."""

RETRYABLE: Final = frozenset(
    {"charge_point_offline", "command_expired", "connection_lost", "outbox_full", "parking_full"}
)
"""Failures after which the same commandId may be requested again, in another record."""

_YES: Final = frozenset({"Accepted", "AcceptedCanceled", "RebootRequired", "Scheduled", "Unlocked", "Unpublished"})
"""Statuses of a charge point that does as it is told, or will. Any other says that it does not."""

_RESULTS: Final = MappingProxyType(
    {
        "ClearTariffs": ("clearTariffsResult", "status"),
        "ClearVariableMonitoring": ("clearMonitoringResult", "status"),
        "GetVariables": ("getVariableResult", "attributeStatus"),
        "SetVariableMonitoring": ("setMonitoringResult", "status"),
        "SetVariables": ("setVariableResult", "attributeStatus"),
    }
)
"""Actions whose response has a status for each item, and where."""

_LONGEST_CODE: Final = 100
"""Characters of a CALLERROR's code, which may be anything, where there is no room."""

_EVENT_IDS: Final = UUID("0f4c8a4e-5d0e-4f5b-9d3c-6f1f5f0b7a11")
"""The name space (RFC 9562 section 5.5) of event ids that a repetition has to give again."""


@frozen
class Outcome:
    """What an event says about a command."""

    event_type: str
    payload: Payload
    """The event's payload but for ``commandType``; secrets are hidden in it."""

    reason: str
    """A stable word, for logs and metrics; what is no success has it in ``payload``, too."""

    is_retryable: bool = False
    """Whether the same commandId may be requested again."""

    received: Payload | None = field(default=None, repr=False)
    """The payload of the CALLRESULT, if there was one; secrets are hidden in it."""


def dispatched(action: str, message_id: str) -> Outcome:
    """The CALL is written. Not final."""
    return Outcome("CommandDispatched", {"action": action, "messageId": message_id}, "dispatched")


def queued(deliver_until_ms: int) -> Outcome:
    """It waits for the charge point. Not final."""
    return Outcome("CommandQueued", {"deliverUntil": iso_millis(deliver_until_ms / 1000)}, "queued")


def accepted(action: str, response: Payload, secrets: tuple[str, ...] = ()) -> Outcome:
    """A sound CALLRESULT with the payload ``response``. ``secrets``: those of the request (``secrecy.secrets_of``)."""
    is_yes = _says_yes(action, response)
    hidden = redacted(action, response, secrets)
    payload = {"accepted": is_yes, "response": hidden}
    return Outcome("CommandAccepted", payload, "accepted" if is_yes else "declined", received=hidden)


def call_error(error: CallError, secrets: tuple[str, ...] = ()) -> Outcome:
    """A CALLERROR."""
    response = {
        "errorCode": error.code,
        **({"errorDescription": error.description} if error.description else {}),
        "errorDetails": error.details,
    }
    return _rejected("Rejected by charge point", "call_error", redacted("", response, secrets))


def invalid_response(
    violation: Violation, action: str = "", response: Payload | None = None, secrets: tuple[str, ...] = ()
) -> Outcome:
    """A CALLRESULT that is not what the standard says. ``response``: its payload, where it could be read."""
    told: Payload = {
        "errorCode": violation.code.value,
        "errorDescription": _problem(violation),
        "errorDetails": {},
    }
    received = None if response is None else redacted(action, response, secrets)
    return _rejected("Invalid response from charge point", "invalid_response", told, received)


def no_response() -> Outcome:
    """It was sent, and no answer came in time."""
    return _unknown("No response from charge point", "no_response")


def node_lost() -> Outcome:
    """It was sent, or was about to be, by a node that has died since."""
    return _unknown("Node lost", "node_lost")


def connection_lost(*, was_sent: bool) -> Outcome:
    """The connection ended before the answer."""
    return _unknown("Connection lost", "connection_lost") if was_sent else failed("connection_lost")


def internal_error(*, may_be_sent: bool) -> Outcome:
    """A defect of our own came in between: the last resort, so that the command has an end all the same."""
    return _unknown("Internal error", "internal_error") if may_be_sent else failed("internal_error")


def failed(reason: str, **facts: str) -> Outcome:
    """It was not sent. ``reason`` is one of FAILURES, ``facts`` fill its text in."""
    text = FAILURES[reason].format_map(facts)
    return Outcome("CommandFailed", {"error": text, "reason": reason}, reason, reason in RETRYABLE)


def payload_invalid(violation: Violation) -> Outcome:
    """The payload breaks the request schema of the charge point's version. It was not sent."""
    return failed("payload_invalid", problem=_problem(violation))


def invalid(defect: CommandInvalid) -> Outcome:
    """The record is no command."""
    return Outcome("CommandFailed", {"error": defect.text, "reason": defect.reason}, defect.reason)


def duplicate() -> Outcome:
    """Another record with this commandId came before."""
    reason = "duplicate_command_id"
    return Outcome("CommandDuplicate", {"error": "Duplicate commandId", "reason": reason}, reason)


def _rejected(error: str, reason: str, response: Payload, received: Payload | None = None) -> Outcome:
    payload = {"error": error, "reason": reason, "response": response}
    return Outcome("CommandRejected", payload, reason, received=received)


def _unknown(error: str, reason: str) -> Outcome:
    return Outcome("CommandTimeout", {"error": error, "reason": reason, "outcome": "unknown"}, reason)


def _problem(violation: Violation) -> str:
    return f"{violation.path}: {violation.message}" if violation.path else violation.message


def _says_yes(action: str, response: Payload) -> bool:
    if action in _RESULTS:
        results, status = _RESULTS[action]
        return all(each.get(status) in _YES for each in response[results])
    return response.get("status", "Accepted") in _YES


def without_response(value: bytes, reason: str) -> bytes:
    """The event ``value``, with what the charge point said left out for ``reason``; as it is if there is nothing to."""
    event = orjson.loads(value)
    payload = event["payload"]
    response = payload.get("response")
    if not response or "responseOmitted" in payload:
        return value
    kept: Payload = {}
    if event["eventType"] == "CommandRejected":
        kept = {"errorCode": response["errorCode"][:_LONGEST_CODE], "errorDetails": {}}
    payload.update(response=kept, responseOmitted=reason)
    return orjson.dumps(event)


def event_key(command: Command | CommandInvalid) -> bytes:
    """Kafka key of its events: the charge point; the command where it names none."""
    return (command.charge_point_id or command.command_id or "").encode()


def repeatable_event_id(command: Command | CommandInvalid, event_type: str) -> str:
    """An eventId that is the same whoever reads the command's record, and however often."""
    return str(uuid5(_EVENT_IDS, f"{command.source}/{command.command_id}/{event_type}"))


def event_record(
    outcome: Outcome,
    command: Command | CommandInvalid,
    *,
    envelope: Envelope | None,
    stamps: EventStamps,
    node_id: str,
    now: float,
    event_id: str | None = None,
) -> EventRecord:
    """The event that tells ``outcome``. ``now``: wall clock, seconds since the epoch.

    ``envelope`` is that of the charge point's connection; without one the event has what the command names. A
    CommandDuplicate has the same eventId whenever it is told; others get a new one, unless ``event_id`` is given.
    """
    payload: dict[str, Any] = {} if command.command_type is None else {"commandType": command.command_type}
    payload.update(outcome.payload)
    connector_id = command.connector_id if isinstance(command, Command) else None
    if event_id is None and outcome.event_type == "CommandDuplicate":
        event_id = repeatable_event_id(command, outcome.event_type)
    if envelope is not None:
        return envelope.plain(
            outcome.event_type,
            payload,
            now=now,
            connector_id=connector_id,
            correlation_id=command.command_id,
            event_id=event_id,
        )
    station_id = command.station_id if isinstance(command, Command) else None
    subject = (command.charge_point_id or "").encode()
    record = written(
        stamps,
        outcome.event_type,
        now,
        orjson.dumps(payload),
        members(stationId=station_id, chargePointId=command.charge_point_id),
        members(nodeId=node_id),
        subject,
        connector_id=connector_id,
        correlation_id=command.command_id,
        event_id=event_id,
    )
    if subject:
        return record
    return EventRecord(record.event_id, record.value, [each for each in record.headers if each[0] != "ce_subject"])
