"""Ending the session of a charge point that may not be connected, or not any more, and telling who watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.session.reasons import CloseReason

if TYPE_CHECKING:
    from ocpp_gateway.session.session import Session

log = Logger()


def revoke(session: Session, reason: CloseReason, security: SecurityEvents) -> None:
    """Close ``session`` for ``reason``, unless it is closing already."""
    if session.close_reason is not None:
        return
    who, caller, certificate = session.identity, session.station.caller, session.standing.certificate
    fingerprint = {} if certificate is None else {"certificate": certificate.fingerprint}
    log.warn(
        "{charge_point_id} may not be connected: {reason}",
        event="session.revoked",
        reason=reason.label,
        charge_point_id=who.charge_point_id,
        connection_id=who.connection_id,
        epoch=who.epoch,
        peer=who.peer,
        **fingerprint,
    )
    session.close(reason)
    security.publish(
        "SessionRevoked",
        {
            "reason": reason.label,
            "peer": who.peer,
            "connectionId": who.connection_id,
            "epoch": who.epoch,
            **fingerprint,
        },
        charge_point_id=who.charge_point_id,
        station_id=caller.station_id,
        tenant_id=caller.tenant_id,
    )
