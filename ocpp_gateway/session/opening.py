"""From request to session: everything that is checked before a WebSocket is upgraded, cheapest first.

::

    path and identity ── WebSocket request ── OCPP version offered? ── gateway able to serve?     no I/O so far
      └─ identity record (Redis) ── status, version, address ── credential ── session claimed (Redis) ──> 101

Each step that fails is an HTTP answer with a reason of ``handshake.reasons``. An outage of ours is a 503, never a 401:
some charge points discard their password after one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from uuid import uuid4

from attrs import define, frozen
from twisted.logger import Logger

from ocpp_gateway.adapters.answers import Adapter, Caller
from ocpp_gateway.auth.authenticator import Authenticator
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.auth.errors import AuthenticationFailed, IdentityRecordInvalid
from ocpp_gateway.auth.hashing import HashingBusy
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import HandshakeRefused, StoreUnavailable
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.handshake.path import OcppPath, parse_target
from ocpp_gateway.handshake.reasons import REFUSALS, refused
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.subprotocol import Offer, negotiate, offered, token_quirks
from ocpp_gateway.handshake.suspicious import suspicion
from ocpp_gateway.handshake.upgrade import require_upgrade
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.uplink import Station
from ocpp_gateway.session.session import SessionIdentity

log = Logger()

_SERVED = frozenset(OcppVersion)
_MISMATCHES = frozenset(("no_common_subprotocol", "subprotocol_missing"))


class IdentityStore(Protocol):
    """Where identity records are."""

    async def get(self, charge_point_id: str) -> bytes | None:
        """The stored record, None if there is none. Raises StoreUnavailable."""
        ...


class SessionClaims(Protocol):
    """Where a session is claimed, cluster-wide."""

    async def claim_session(self, caller: Caller, version: OcppVersion, connected_at_ms: int) -> int:
        """The epoch of the new session; whoever had the charge point is told. Raises StoreUnavailable.

        Cancelled, it leaves no claim behind.
        """
        ...

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is over; never fails."""
        ...


class OpeningCounters(Protocol):
    """What is counted here."""

    def count_quirk(self, version: OcppVersion | None, quirk: Quirk) -> None:
        """A tolerated deviation."""
        ...

    def count_handshake(self, reason: str) -> None:
        """A handshake was refused for ``reason``."""
        ...


@frozen(kw_only=True)
class Request:
    """A handshake whose request is in order: who it says it is, what it offers."""

    path: OcppPath
    offer: Offer
    credentials: Credentials


@frozen(kw_only=True)
class Admitted:
    """The verdict: in. ``subprotocol`` is the token to echo, None to send none."""

    subprotocol: str | None
    session: tuple[SessionIdentity, Station] | None
    """None where the connection is upgraded only to be closed (OCPP-J section 3.2)."""


@define(eq=False, kw_only=True)
class Opening:
    """The flow above. ``close_on_mismatch``: upgrade and close, as the text of OCPP-J has it, instead of a 400."""

    identity_pattern: re.Pattern[str]
    close_on_mismatch: bool
    admission: Admission
    identities: IdentityStore
    authenticator: Authenticator
    claims: SessionClaims
    adapters: Mapping[OcppVersion, Adapter]
    stamps: EventStamps
    node_id: str
    cooldown: LogCooldown
    counters: OpeningCounters
    clock: Clock

    def read(self, head: RequestHead) -> Request:
        """What needs no I/O. Raises HandshakeRefused."""
        try:
            path = parse_target(head.target, self.identity_pattern)
        except HandshakeRefused:
            if suspicion(head.target) is not None:
                raise refused("suspicious_path") from None
            raise
        require_upgrade(head)
        offer = offered(head.values("sec-websocket-protocol"))
        if not self.close_on_mismatch:
            negotiate(offer, _SERVED, _SERVED)
        return Request(path=path, offer=offer, credentials=Credentials.from_headers(head.headers))

    async def admit(self, request: Request, address: str) -> Admitted:
        """Whether the charge point may connect from ``address``. Raises HandshakeRefused.

        Cancelling it leaves no session behind.
        """
        self.admission.admit()
        charge_point_id = request.path.charge_point_id
        try:
            record = await self._record(charge_point_id)
            self.authenticator.check_status(record)
            subprotocol, version = self._negotiated(request.offer, record)
            self.authenticator.check_address(record, address)
            outcome = await self.authenticator.check_credential(
                record, request.credentials, version=version, is_secure=False
            )
            if subprotocol is None:
                return Admitted(subprotocol=None, session=None)
            self._count_quirks(request, subprotocol, version)
            caller = Caller(charge_point_id, record.station_id, record.tenant_id)
            connected_at_ms = int(self.clock.now() * 1000)
            epoch = await self.claims.claim_session(caller, version, connected_at_ms)
        except AuthenticationFailed as failure:
            raise refused(failure.reason, failure.headers) from None
        except HashingBusy as failure:
            raise refused(failure.reason, (self.admission.retry_after(),)) from None
        except StoreUnavailable:
            raise refused("redis_unavailable", (self.admission.retry_after(),)) from None
        # Kafka may have gone meanwhile: better refused now than closed at the first CALL.
        if self.admission.closed_for:
            self.claims.release_later(charge_point_id, epoch)
            self.admission.admit()
        identity = SessionIdentity(
            charge_point_id=charge_point_id,
            connection_id=str(uuid4()),
            epoch=epoch,
            peer=address,
            security_profile=outcome.security_profile,
            connected_at_ms=connected_at_ms,
            opened_at=self.clock.monotonic(),
        )
        return Admitted(subprotocol=subprotocol, session=(identity, self._station(caller, version, identity)))

    def log_refusal(self, reason: str, address: str, target: str = "", charge_point_id: str | None = None) -> None:
        """One line per address, reason and FLOOD_LOG_COOLDOWN; ``charge_point_id`` if the path was read."""
        kind = suspicion(target) if reason == "suspicious_path" else None
        suppressed = self.cooldown.should_log(address, reason)
        if suppressed is None:
            return
        log.warn(
            "A handshake was refused: {reason}",
            event="handshake.refused",
            reason=reason,
            status=REFUSALS[reason].status,
            peer=address,
            charge_point_id=charge_point_id,
            suspicion=kind,
            suppressed=suppressed,
        )

    def log_unknown_path(self, target: str, address: str) -> None:
        """A request for a path that the HTTP port does not have: counted and logged as the OCPP port does."""
        reason = "unknown_path" if suspicion(target) is None else "suspicious_path"
        self.counters.count_handshake(reason)
        self.log_refusal(reason, address, target)

    async def _record(self, charge_point_id: str) -> IdentityRecord:
        raw = await self.identities.get(charge_point_id)
        if raw is None:
            raise refused("identity_missing")
        try:
            record = IdentityRecord.parse(raw, charge_point_id)
        except IdentityRecordInvalid as invalid:
            self._log_record(charge_point_id, invalid.problem)
            raise refused(invalid.reason) from None
        for warning in record.warnings:
            self._log_record(charge_point_id, warning)
        return record

    def _log_record(self, charge_point_id: str, problem: str) -> None:
        if self.cooldown.should_log(charge_point_id, "identity_record") is not None:
            log.warn(
                "The identity record of {charge_point_id} needs mending: {problem}",
                event="identity.invalid",
                charge_point_id=charge_point_id,
                problem=problem,
            )

    def _negotiated(self, offer: Offer, record: IdentityRecord) -> tuple[str | None, OcppVersion]:
        try:
            return negotiate(offer, _SERVED, record.allowed_versions)
        except HandshakeRefused as refusal:
            if self.close_on_mismatch and refusal.reason in _MISMATCHES:
                return None, OcppVersion.V16  # nothing will be spoken; the credential is checked all the same
            raise

    def _count_quirks(self, request: Request, subprotocol: str, version: OcppVersion) -> None:
        quirks = (*request.offer.quirks, *request.path.quirks(version), *token_quirks(subprotocol, version))
        for quirk in quirks:
            self.counters.count_quirk(version, quirk)

    def _station(self, caller: Caller, version: OcppVersion, identity: SessionIdentity) -> Station:
        return Station(
            version=version,
            caller=caller,
            adapter=self.adapters[version],
            envelope=Envelope(
                charge_point_id=caller.charge_point_id,
                station_id=caller.station_id,
                tenant_id=caller.tenant_id,
                ocpp_version=version.label,
                connection_id=identity.connection_id,
                epoch=identity.epoch,
                node_id=self.node_id,
                stamps=self.stamps,
            ),
            key=caller.station_id.encode(),
        )
