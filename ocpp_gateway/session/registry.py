"""The sessions of this node: one per charge point, the newest authenticated connection wins.

A session's record in Redis was claimed before its upgrade (``session.opening``); here it is given back when the
connection ends, compared by epoch, so that the late end of an old connection never touches a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.standing import Standing
from ocpp_gateway.clock import Clock, iso_millis
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import Station
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.session.facts import SessionIdentity, SessionLimits
from ocpp_gateway.session.ports import Connection, SessionCounters
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.session import Session
from ocpp_gateway.session.settling import Settling

log = Logger()

_TOLD_SECONDS = 10.0
"""Longer than the reply to a claim may take."""


class ClaimedSessions(Protocol):
    """What was claimed before the upgrade; never fails, what Redis misses is made up for later."""

    def opened_later(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is open: none with a lower security profile may follow it."""
        ...

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is over."""
        ...


class RegistryCounters(SessionCounters, Protocol):
    """What the registry counts besides."""

    def session_opened(self, version: OcppVersion) -> None:
        """A session began."""
        ...

    def session_closed(self, version: OcppVersion, reason: str, seconds: float) -> None:
        """A session ended."""
        ...


@define(eq=False, kw_only=True)
class Sessions:
    """Who is connected to this node."""

    uplink: Uplink
    security: SecurityEvents
    presence: Presence
    claims: ClaimedSessions
    limits: SessionLimits
    counters: RegistryCounters
    clock: Clock
    opened: Callable[[Session], None] | None = None
    """Called with each session that has begun."""

    first_answered: Callable[[Session], None] | None = None
    """Called with each session once the charge point may be asked what waited for it (``session.settling``)."""

    _settling: Settling | None = field(init=False)
    _sessions: dict[str, Session] = field(factory=dict)
    _ending: set[Session] = field(factory=set)
    _when_empty: Deferred[None] | None = None
    _told: dict[str, tuple[int, float]] = field(factory=dict)
    """Epochs taken over by others, and when that was told: the word may come before the reply to the claim."""

    def __attrs_post_init__(self) -> None:
        settled = self.first_answered
        self._settling = None if settled is None else Settling(self.clock, settled)

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def find(self, charge_point_id: str) -> Session | None:
        """The session of a charge point, if it is connected here and may be asked something."""
        session = self._sessions.get(charge_point_id)
        return session if session is not None and session.takes_calls else None

    def open(self, identity: SessionIdentity, station: Station, standing: Standing, connection: Connection) -> Session:
        """Begin the session of an upgraded connection; an older one of the same charge point is closed."""
        session = Session(
            identity=identity,
            station=station,
            standing=standing,
            connection=connection,
            uplink=self.uplink,
            security=self.security,
            limits=self.limits,
            counters=self.counters,
            clock=self.clock,
        )
        who = identity
        older = self._sessions.get(who.charge_point_id)
        # Two handshakes of one charge point may end in the other order than they claimed the session in.
        loser, why = older, CloseReason.REPLACED
        told_epoch, told_at = self._told.get(who.charge_point_id, (0, 0.0))
        if older is not None and older.identity.epoch > who.epoch:
            loser = session
        elif told_epoch >= who.epoch and self.clock.monotonic() - told_at <= _TOLD_SECONDS:  # Redis may lose its epochs
            loser, why = session, CloseReason.TRANSFERRED  # older was closed when that was told
        if loser is not session:
            self._sessions[who.charge_point_id] = session
            self.claims.opened_later(who.charge_point_id, who.epoch)
        if loser is not None:
            self._ending.add(loser)
        self.counters.session_opened(session.version)
        log.info(
            "{charge_point_id} is connected",
            event="session.opened",
            charge_point_id=who.charge_point_id,
            connection_id=who.connection_id,
            epoch=who.epoch,
            ocpp_version=session.version.label,
            peer=who.peer,
            security_profile=who.security_profile,
            certificate=None if standing.certificate is None else standing.certificate.fingerprint,
        )
        facts: dict[str, Any] = {"peer": who.peer, "securityProfile": who.security_profile}
        if standing.certificate is not None:
            facts["certificate"] = _facts(standing.certificate, is_expired=station.envelope.certificate_expired)
        self.presence.announce(station.envelope, "StationConnected", facts)
        if loser is not None:
            loser.close(why)
        if loser is not session:
            self._has_begun(session)
        return session

    def _has_begun(self, session: Session) -> None:
        if self._settling is not None:
            self._settling.begin(session)
        if self.opened is not None:
            try:
                self.opened(session)
            except Exception:  # without the session its connection would never be told to end
                log.failure(
                    "The session of {charge_point_id} could not be told of",
                    event="session.failed",
                    reason="internal_error",
                    charge_point_id=session.identity.charge_point_id,
                )

    def closed(self, session: Session, reason: CloseReason, code: int | None) -> None:
        """The connection of ``session`` is gone; ``code`` is the close code on the wire, if there was one."""
        session.closed(reason)
        if self._settling is not None:
            self._settling.forget(session)
        why = session.close_reason or reason
        who = session.identity
        if self._sessions.get(who.charge_point_id) is session:
            del self._sessions[who.charge_point_id]
        self._ending.discard(session)
        self.claims.release_later(who.charge_point_id, who.epoch)
        seconds = self.clock.monotonic() - who.opened_at
        self.counters.session_closed(session.version, why.label, seconds)
        facts: dict[str, Any] = {
            "durationMs": int(seconds * 1000),
            "calls": session.calls,
            "messagesIn": session.messages_in,
            "messagesOut": session.messages_out,
            "bytesIn": session.bytes_in,
            "bytesOut": session.bytes_out,
        }
        log.info(
            "{charge_point_id} is gone: {close_reason}",
            event="session.closed",
            charge_point_id=who.charge_point_id,
            connection_id=who.connection_id,
            epoch=who.epoch,
            ocpp_version=session.version.label,
            peer=who.peer,
            close_reason=why.label,
            close_code=code,
            duration_ms=facts["durationMs"],
            calls=session.calls,
            messages_in=session.messages_in,
            messages_out=session.messages_out,
            bytes_in=session.bytes_in,
            bytes_out=session.bytes_out,
            last_error=session.last_error,
        )
        if code is not None:
            facts["closeCode"] = code
        if session.last_error is not None:
            facts["lastError"] = session.last_error
        self.presence.announce(session.station.envelope, "StationDisconnected", {"reason": why.label, **facts})
        if self._when_empty is not None and not self._sessions and not self._ending:
            waiter, self._when_empty = self._when_empty, None
            waiter.callback(None)

    def close_all(self, reason: CloseReason) -> None:
        """Close every session for ``reason``."""
        for session in self:
            session.close(reason)

    def transferred(self, charge_point_id: str, epoch: int) -> None:
        """Another node has taken over the session of ``epoch``, or of one before it."""
        now = self.clock.monotonic()
        self._told.pop(charge_point_id, None)
        self._told[charge_point_id] = epoch, now
        while (first := next(iter(self._told.items())))[1][1] < now - _TOLD_SECONDS:
            del self._told[first[0]]
        session = self._sessions.get(charge_point_id)
        if session is not None and session.identity.epoch <= epoch:
            session.close(CloseReason.TRANSFERRED)

    def kick(self, charge_point_id: str, epoch: int | None = None) -> bool:
        """An operator's word: close the session, if it is (still) that of ``epoch``. False: there is none.

        One that is closing already may have been taken over: then it is not the one that is meant.
        """
        session = self._sessions.get(charge_point_id)
        if session is None or session.close_reason is not None or epoch not in (None, session.identity.epoch):
            return False
        session.close(CloseReason.KICKED)
        return True

    def abort_all(self, reason: CloseReason) -> None:
        """End every connection at once for ``reason``, also those that do not finish closing."""
        for session in (*self._sessions.values(), *self._ending):
            session.close(reason)
            session.connection.abort()

    def when_empty(self) -> Deferred[None]:
        """Fires when no connection is left, also none that is still closing."""
        if self._when_empty is None:
            self._when_empty = Deferred(self._forget_waiter)
            if not self._sessions and not self._ending:
                waiter, self._when_empty = self._when_empty, None
                waiter.callback(None)
                return waiter
        return self._when_empty

    def _forget_waiter(self, _: Deferred[None]) -> None:
        self._when_empty = None


def _facts(certificate: ClientCertificate, *, is_expired: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "fingerprint": certificate.fingerprint,
        "subject": certificate.subject,
        "serialNumber": certificate.serial_number,
        "notAfter": iso_millis(certificate.not_after),
    }
    return {**facts, "expired": True} if is_expired else facts
