"""Refused handshakes: counted all, told of in the log and as security events once in a while."""

from __future__ import annotations

from typing import Protocol

from attrs import define
from twisted.logger import Logger

from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.handshake.suspicious import suspicion
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.session.failures import Failures
from ocpp_gateway.session.opening import Request

log = Logger()

_OUR_FAULT = 500
"""HTTP statuses from here on say nothing about the peer."""


class HandshakeCounters(Protocol):
    """What is counted here."""

    def count_handshake(self, reason: str) -> None:
        """A handshake was refused for ``reason``."""
        ...


@define(eq=False, kw_only=True)
class Refusals:
    """See the module's text. ``cooldown``: one line and one event per address and reason in FLOOD_LOG_COOLDOWN."""

    cooldown: LogCooldown
    counters: HandshakeCounters
    security: SecurityEvents
    failures: Failures

    def refused(self, reason: str, address: str, target: str = "", request: Request | None = None) -> None:
        """A handshake from ``address`` was refused for ``reason``; ``request``, or else its ``target``, if read."""
        self.counters.count_handshake(reason)
        charge_point_id = None if request is None else request.path.charge_point_id
        self.failures.refused(reason, address, charge_point_id)
        suppressed = self.cooldown.should_log(address, reason)
        if suppressed is None:
            return
        certificate = None if request is None else request.certificate
        facts = {
            "reason": reason,
            "status": REFUSALS[reason].status,
            "peer": address,
            "suspicion": suspicion(target) if reason == "suspicious_path" else None,
            "certificate": None if certificate is None else certificate.fingerprint,
            "suppressed": suppressed,
        }
        log.warn(
            "A handshake was refused: {reason}", event="handshake.refused", charge_point_id=charge_point_id, **facts
        )
        if REFUSALS[reason].status < _OUR_FAULT:
            payload = {name: value for name, value in facts.items() if value is not None}
            self.security.publish("HandshakeRefused", payload, charge_point_id=charge_point_id, peer=address)

    def unknown_path(self, target: str, address: str) -> None:
        """A request for a path that the HTTP port does not have."""
        self.refused("unknown_path" if suspicion(target) is None else "suspicious_path", address, target)
