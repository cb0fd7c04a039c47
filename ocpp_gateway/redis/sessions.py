"""The record ``sessions:{chargePointId}``: who is connected where (wire contract, section 2)."""

from __future__ import annotations

from typing import Any, Self

import attrs
import orjson
from attrs import frozen

from ocpp_gateway.clock import iso_millis

EPOCH_SECONDS = 30 * 86_400
"""How long the last epoch of a charge point is kept behind its last session."""

_END_OF_9999 = 253_402_300_799_999


@frozen(kw_only=True)
class SessionRecord:
    """One charge point's session. Times are milliseconds since the epoch, UTC.

    ``epoch`` orders the sessions of a charge point: each claim gets a higher one. 0: not claimed yet.
    """

    charge_point_id: str
    ocpp_version: str
    """"1.6J", "2.0.1" or "2.1"."""

    node_id: str
    station_id: str
    tenant_id: str
    connected_at_ms: int
    last_seen_at_ms: int
    security_profile: int = 0
    """1 to 3; 0: of a gateway that did not tell."""

    connection_id: str = ""
    peer: str = ""
    """The address that the charge point connected from, where that is known."""

    calls: int = 0
    """CALLs of the charge point so far; the bytes, from and to it, likewise."""

    bytes_in: int = 0
    bytes_out: int = 0
    epoch: int = 0

    @property
    def connected_at(self) -> str:
        """As text, the way it is stored."""
        return _iso(self.connected_at_ms)

    @property
    def last_seen_at(self) -> str:
        """As text, the way it is stored."""
        return _iso(self.last_seen_at_ms)

    def of_epoch(self, epoch: int) -> Self:
        """The same, claimed."""
        return attrs.evolve(self, epoch=epoch)

    def encode(self) -> bytes:
        """The JSON as stored."""
        return orjson.dumps(self.members())

    def members(self) -> dict[str, Any]:
        """Those of the JSON. ``epoch`` comes last; what is not in the contract is left out where it is 0 or empty."""
        connected_at = self.connected_at
        is_new = self.last_seen_at_ms == self.connected_at_ms
        members: dict[str, Any] = {
            "chargePointId": self.charge_point_id,
            "ocppVersion": self.ocpp_version,
            "nodeId": self.node_id,
            "stationId": self.station_id,
            "tenantId": self.tenant_id,
            "connectedAt": connected_at,
            "connectedAtMs": self.connected_at_ms,
            "lastSeenAt": connected_at if is_new else self.last_seen_at,
            "lastSeenAtMs": self.last_seen_at_ms,
        }
        for name, value in self._additions():
            if value:
                members[name] = value
        return members

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Read what somebody stored, an earlier gateway perhaps; None if it cannot be understood."""
        try:
            members = orjson.loads(raw)
            return cls(
                charge_point_id=_text(members["chargePointId"]),
                ocpp_version=_text(members["ocppVersion"]),
                node_id=_text(members["nodeId"]),
                station_id=_text(members["stationId"]),
                tenant_id=_text(members["tenantId"]),
                connected_at_ms=_moment(members["connectedAtMs"]),
                last_seen_at_ms=_moment(members["lastSeenAtMs"]),
                security_profile=_count(members.get("securityProfile", 0)),
                connection_id=_text(members.get("connectionId", "")),
                peer=_text(members.get("peer", "")),
                calls=_count(members.get("calls", 0)),
                bytes_in=_count(members.get("bytesIn", 0)),
                bytes_out=_count(members.get("bytesOut", 0)),
                epoch=_count(members.get("epoch", 0)),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None

    def _additions(self) -> tuple[tuple[str, str | int], ...]:
        return (
            ("securityProfile", self.security_profile),
            ("connectionId", self.connection_id),
            ("peer", self.peer),
            ("calls", self.calls),
            ("bytesIn", self.bytes_in),
            ("bytesOut", self.bytes_out),
            ("epoch", self.epoch),
        )


def record_key(charge_point_id: str) -> str:
    """Where the session record of a charge point is."""
    return f"sessions:{charge_point_id}"


def epoch_key(charge_point_id: str) -> str:
    """Where the last epoch of a charge point is, for 30 days longer than its record."""
    return f"session-epochs:{charge_point_id}"


def node_sessions_key(node_id: str) -> str:
    """Where the set of the charge points is that a node has; one may be in it for a moment longer than its record."""
    return f"node-sessions:{node_id}"


def node_taken_key(node_id: str) -> str:
    """Where the records are that others have taken from a node, until it has told the end of those sessions."""
    return f"node-taken:{node_id}"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 63:
        raise ValueError  # orjson could not write it
    return number


def _moment(value: Any) -> int:
    milliseconds = int(value)
    if not 0 <= milliseconds <= _END_OF_9999:
        raise ValueError  # it could not be written as a date
    return milliseconds


def _iso(milliseconds: int) -> str:
    # Half a millisecond more, or the way through a float could lose one.
    return iso_millis((milliseconds + 0.5) / 1000)
