"""What the back end asks for: a record of ``cpms.command.requests``, read and checked (docs/WIRE.md, "Commands").

The topic is written by others, so a record may be anything. Whatever it is, reading it ends in a Command or in
CommandInvalid. The latter names the command where that much can be read, so that whoever waits for its final event
gets one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson
from attrs import field, frozen

from ocpp_gateway.adapters.fields import integer, salvaged_text
from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.strict import depth_of, why_unreadable, why_untrustworthy

MAX_BYTES = 65_536
"""A record larger than this is no command: what OCPP sends to a charge point is far smaller."""

MAX_NESTING = 32
"""Arrays and objects inside each other: what our frames may have, too."""

MAX_COMMAND_ID_LENGTH = 128
MAX_COMMAND_TYPE_LENGTH = 64
MAX_NAME_LENGTH = 255
"""Characters of ``chargePointId`` and ``stationId``."""

MAX_TIMEOUT_SECONDS = 3_600
MAX_DELIVER_WITHIN_SECONDS = 604_800
_MAX_CONNECTOR_ID = 2**31 - 1

_WHITE = b" \t\r\n"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d(:?\d\d)?)?", re.ASCII)

_DEFECTS = {
    "not_json": "not JSON",
    "too_deep": "nested too deep",
    "duplicate_key": "a member is there twice",
    "number_out_of_range": "a number is out of range",
    "not_finite": "a number is not finite",
    "lone_surrogate": "half a character",
}


class CommandInvalid(GatewayError):
    """A record that is no command. ``text`` is for its CommandFailed event and repeats nothing of the record.

    ``reason``: ``command_invalid``, ``missing_charge_point_id`` or ``payload_invalid``. ``command_id``,
    ``command_type`` and ``charge_point_id`` are what could be read; without a ``command_id`` there can be no event.
    ``source``: as in Command.
    """

    def __init__(
        self,
        reason: str,
        text: str,
        *,
        command_id: str | None = None,
        command_type: str | None = None,
        charge_point_id: str | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.command_id = command_id
        self.command_type = command_type
        self.charge_point_id = charge_point_id
        self.source = ""


@frozen(kw_only=True)
class Command:
    """A command that can be understood; whether the charge point's version has it is not known yet."""

    command_id: str
    command_type: str
    charge_point_id: str
    requested_at_ms: int
    """Milliseconds since the epoch, never later than when it was read."""

    timeout_seconds: float
    """To be sent, counted from ``requested_at_ms``, and then again to be answered, counted from there."""

    deliver_within_seconds: float = 0.0
    """How long it may wait for a charge point that is offline, counted from ``requested_at_ms``; 0: not at all."""

    payload: Payload = field(factory=dict, repr=False)
    station_id: str | None = None
    connector_id: int | None = None
    requested_by: dict[str, Any] | None = None
    """Who asked for it, as the back end says: ``userId``, ``role``, ``orgId``."""

    source: str = ""
    """The record that it came with: one that is delivered again has the same."""

    @property
    def send_before_ms(self) -> int:
        """From this moment on (milliseconds since the epoch) it must not be sent any more."""
        return self.requested_at_ms + int(max(self.timeout_seconds, self.deliver_within_seconds) * 1000)

    def is_expired(self, now_ms: int) -> bool:
        """Whether it is too late to send it."""
        return now_ms >= self.send_before_ms

    def encode(self) -> bytes:
        """Our own form of it, for other nodes and for Redis: the JSON that ``decode`` reads."""
        members = {
            "commandId": self.command_id,
            "commandType": self.command_type,
            "chargePointId": self.charge_point_id,
            "requestedAtMs": self.requested_at_ms,
            "timeoutSec": self.timeout_seconds,
            "deliverWithinSec": self.deliver_within_seconds,
            "payload": self.payload,
            "stationId": self.station_id,
            "connectorId": self.connector_id,
            "requestedBy": self.requested_by,
            "source": self.source,
        }
        return orjson.dumps({name: value for name, value in members.items() if value is not None})

    @classmethod
    def decode(cls, data: bytes) -> Command | None:
        """The Command that was written as ``data``; None if it is none (of a newer gateway, perhaps)."""
        try:
            members = orjson.loads(data)
            if type(members) is not dict:
                return None
            record = _Record(members)
            requested_at_ms, source = members["requestedAtMs"], members["source"]
            if type(requested_at_ms) is not int or type(source) is not str:
                return None
            return record.command(requested_at_ms, members["timeoutSec"], source)
        except (ValueError, TypeError, KeyError, CommandInvalid):
            return None


def parse(
    value: bytes | None,
    *,
    source: str,
    timestamp_ms: int,
    now_ms: int,
    default_timeout: float,
    max_bytes: int = MAX_BYTES,
) -> Command:
    """The command in a record's ``value``. Raises CommandInvalid, and nothing else.

    ``timestamp_ms`` is the record's own time, 0 or less if it has none: it stands in for a ``requestedAt`` that is
    missing or cannot be read. One that lies ahead counts as ``now_ms``, so that no clock gives a command more time
    than it asks for. ``default_timeout``: seconds, for a command without ``timeoutSec``.
    """
    try:
        record = _Record(_members(value or b"", max_bytes))
        requested_at_ms = _milliseconds(record.members.get("requestedAt"))
        if requested_at_ms is None:
            requested_at_ms = timestamp_ms if timestamp_ms > 0 else now_ms
        return record.command(max(0, min(requested_at_ms, now_ms)), default_timeout, source)
    except CommandInvalid as defect:
        defect.source = source
        raise


def _members(data: bytes, max_bytes: int) -> dict[str, Any]:
    """The record as JSON that means the same to every reader."""
    if len(data) > max_bytes:
        raise _salvaged("too large", data)
    try:
        members = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _salvaged(_DEFECTS[why_unreadable(data, MAX_NESTING)], data) from None
    if type(members) is not dict:
        raise _invalid("not an object")
    defect = _defect(members, data)
    if defect is not None:
        raise _Record(members).invalid(_DEFECTS[defect])
    return members


def _defect(members: dict[str, Any], data: bytes) -> str | None:
    if data.count(b"{") + data.count(b"[") > MAX_NESTING and depth_of(data) > MAX_NESTING:
        return "too_deep"
    # Written again it is the same text, or nearly: then there is nothing in it that another reader sees differently.
    if orjson.dumps(members).translate(None, _WHITE) == data.translate(None, _WHITE):
        return None
    return why_untrustworthy(data.decode())


def _salvaged(problem: str, data: bytes) -> CommandInvalid:
    """Of a text that cannot be read as a whole, what names the command."""
    names = ("commandId", "commandType", "chargePointId")
    return _Record({name: salvaged_text(data, name) for name in names}).invalid(problem)


def _invalid(problem: str) -> CommandInvalid:
    return CommandInvalid("command_invalid", f"Invalid command: {problem}")


class _Record:
    """The members of a record, checked one by one. A member that is null counts as missing."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members: dict[str, Any] = {name: value for name, value in members.items() if value is not None}
        self.command_id = self._name("commandId", MAX_COMMAND_ID_LENGTH)
        self.command_type = self._name("commandType", MAX_COMMAND_TYPE_LENGTH)
        self.charge_point_id = self._name("chargePointId", MAX_NAME_LENGTH)

    def command(self, requested_at_ms: int, default_timeout: float, source: str) -> Command:
        """The Command that they make. Raises CommandInvalid."""
        if self.command_id is None:
            raise self.invalid(f"commandId is not 1 to {MAX_COMMAND_ID_LENGTH} printable characters")
        if self.members.get("chargePointId", "") == "":
            raise self._error("missing_charge_point_id", "Missing chargePointId")
        if self.charge_point_id is None:
            raise self.invalid(f"chargePointId is not 1 to {MAX_NAME_LENGTH} printable characters")
        if self.command_type is None:
            raise self.invalid(f"commandType is not 1 to {MAX_COMMAND_TYPE_LENGTH} printable characters")
        station_id = self._name("stationId", MAX_NAME_LENGTH)
        if station_id is None and "stationId" in self.members:
            raise self.invalid(f"stationId is not 1 to {MAX_NAME_LENGTH} printable characters")
        return Command(
            command_id=self.command_id,
            command_type=self.command_type,
            charge_point_id=self.charge_point_id,
            requested_at_ms=requested_at_ms,
            timeout_seconds=self._seconds("timeoutSec", 1, MAX_TIMEOUT_SECONDS, default_timeout),
            deliver_within_seconds=self._seconds("deliverWithinSec", 0, MAX_DELIVER_WITHIN_SECONDS, 0.0),
            payload=self._payload(),
            station_id=station_id,
            connector_id=self._connector_id(),
            requested_by=self._requested_by(),
            source=source,
        )

    def invalid(self, problem: str) -> CommandInvalid:
        """What to raise for ``problem``."""
        return self._error("command_invalid", f"Invalid command: {problem}")

    def _error(self, reason: str, text: str) -> CommandInvalid:
        return CommandInvalid(
            reason,
            text,
            command_id=self.command_id,
            command_type=self.command_type,
            charge_point_id=self.charge_point_id,
        )

    def _name(self, member: str, longest: int) -> str | None:
        value = self.members.get(member)
        return value if type(value) is str and 0 < len(value) <= longest and value.isprintable() else None

    def _seconds(self, member: str, least: float, most: float, default: float) -> float:
        value = self.members.get(member, default)
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.invalid(f"{member} is not {least} to {most}")
        return float(value)

    def _connector_id(self) -> int | None:
        connector_id = integer(self.members.get("connectorId"))
        if "connectorId" in self.members and (connector_id is None or not 0 <= connector_id <= _MAX_CONNECTOR_ID):
            raise self.invalid("connectorId is not a whole number")
        return connector_id

    def _requested_by(self) -> dict[str, Any] | None:
        value = self.members.get("requestedBy")
        if value is not None and type(value) is not dict:
            raise self.invalid("requestedBy is not an object")
        return value

    def _payload(self) -> Payload:
        value = self.members.get("payload", {})
        if type(value) is not dict:
            raise self._error("payload_invalid", "Invalid payload: not an object")
        return value


def _milliseconds(value: object) -> int | None:
    """``requestedAt`` in milliseconds since the epoch: ISO 8601 (UTC if it names no zone), or that number itself."""
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value)
    if type(value) is not str or _TIME.fullmatch(value) is None:
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except ValueError:
        return None
