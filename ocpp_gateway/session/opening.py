"""From request to session: everything that is checked before a WebSocket is upgraded, cheapest first.

::

    path and identity ── WebSocket request ── OCPP version offered? ── gateway able to serve? ── limits    no I/O so far
      └─ bans, cluster's limits, identity record, revocation (Redis) ── status, version, address ── credential
           └─ security profile ── session claimed (Redis), not too often ──> 101

Each step that fails is an HTTP answer with a reason of ``handshake.reasons``. An outage of ours is a 503, never a 401:
some charge points discard their password after one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import define, frozen

from ocpp_gateway.adapters.answers import Adapter, Caller
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.auth.errors import AuthenticationFailed, IdentityRecordInvalid
from ocpp_gateway.auth.hashing import HashingBusy
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.standing import Standing, standing_of
from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import HandshakeRefused, StoreUnavailable
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.path import OcppPath, parse_target
from ocpp_gateway.handshake.proxies import Origin, TrustedProxies
from ocpp_gateway.handshake.reasons import refused
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.subprotocol import Offer, negotiate, offered, token_quirks
from ocpp_gateway.handshake.suspicious import suspicion
from ocpp_gateway.handshake.upgrade import require_upgrade
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.exchange import Station
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.facts import SessionIdentity
from ocpp_gateway.session.record_log import RecordLog

_SERVED = frozenset(OcppVersion)
_MISMATCHES = frozenset(("no_common_subprotocol", "subprotocol_missing"))


class FoundIdentity(Protocol):
    """What the store has about a charge point and the certificate that it shows."""

    @property
    def record(self) -> bytes | None:
        """The identity record as stored, None if there is none."""
        ...

    @property
    def is_revoked(self) -> bool:
        """Whether the certificate is revoked, for whatever charge point."""
        ...


class Answer(FoundIdentity, Protocol):
    """The same for a handshake, which may be one too many."""

    @property
    def ban_seconds(self) -> float:
        """How long the address, or the charge point at it, is still banned; 0: it is not."""
        ...

    @property
    def wait_seconds(self) -> float:
        """How long it should have waited with this attempt; 0: it may go on."""
        ...


class IdentityStore(Protocol):
    """Where identity records are."""

    @property
    def store_id(self) -> bytes | None:
        """Which store it is: another one, or one that lost its data, has another id."""
        ...

    async def look_up(self, charge_point_id: str, fingerprint: str | None, address: str, *, is_shared: bool) -> Answer:
        """What is known, in one trip, if ``address``, or who ``is_shared`` by many, may connect now.

        Raises StoreUnavailable.
        """
        ...


class SessionClaims(Protocol):
    """Where a session is claimed, cluster-wide."""

    async def claim_session(
        self,
        caller: Caller,
        version: OcppVersion,
        connected_at_ms: int,
        *,
        connection_id: str,
        peer: str,
        security_profile: int,
        may_downgrade: bool,
    ) -> int:
        """The epoch of the new session; whoever had the charge point is told. Raises StoreUnavailable.

        Raises AuthenticationFailed ``profile_downgrade``, with nothing claimed, if the charge point's last session had
        a higher security profile, unless it ``may_downgrade``; ReconnectsLimited if it comes too often. Cancelled, it
        leaves no claim behind. ``peer`` is the address of the new connection.
        """
        ...

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is over; never fails."""
        ...


class QuirkCounters(Protocol):
    """What is counted here."""

    def count_quirk(self, version: OcppVersion | None, quirk: Quirk) -> None:
        """A tolerated deviation."""
        ...


@frozen(kw_only=True)
class Request:
    """A handshake whose request is in order: who it says it is, what it offers."""

    path: OcppPath
    offer: Offer
    credentials: Credentials
    origin: Origin
    certificate: ClientCertificate | None
    """Verified up to an authority of OCPP_TLS_CA_PATH, not yet bound to the charge point."""


@frozen(kw_only=True)
class Admitted:
    """The verdict: in. ``subprotocol`` is the token to echo, None to send none."""

    subprotocol: str | None
    session: tuple[SessionIdentity, Station, Standing] | None
    """None where the connection is upgraded only to be closed (OCPP-J section 3.2)."""


@define(eq=False, kw_only=True)
class Opening:
    """The flow above. ``close_on_mismatch``: upgrade and close, as the text of OCPP-J has it, instead of a 400."""

    identity_pattern: re.Pattern[str]
    close_on_mismatch: bool
    proxies: TrustedProxies
    admission: Admission
    guard: Guard
    identities: IdentityStore
    authenticator: Authenticator
    claims: SessionClaims
    adapters: Mapping[OcppVersion, Adapter]
    stamps: EventStamps
    node_id: str
    started_at_ms: int
    """When this node began. Nothing here is earlier, however the host's clock is set: what is, is of a former life."""

    record_log: RecordLog
    counters: QuirkCounters
    clock: Clock
    settle_secret: Callable[[str, bytes, str | None], None] = lambda *_: None
    """Told who was let in by which record and (``AuthOutcome.next_secret``) password, where it had several."""

    def origin(self, head: RequestHead, peer: str, *, is_secure: bool) -> Origin:
        """Where the request comes from: ``peer``, or where that says so and is a trusted proxy."""
        return self.proxies.origin(peer, is_secure, head)

    def read(self, head: RequestHead, origin: Origin, certificate: ClientCertificate | None) -> Request:
        """What needs no I/O. ``certificate``: verified by TLS. Raises HandshakeRefused."""
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
        credentials = Credentials.from_headers(head.headers)
        return Request(path=path, offer=offer, credentials=credentials, origin=origin, certificate=certificate)

    async def admit(self, request: Request) -> Admitted:
        """Whether the charge point may connect. Raises HandshakeRefused.

        Cancelling it leaves no session behind.
        """
        self.admission.admit()
        charge_point_id, address = request.path.charge_point_id, request.origin.address
        limited = self.guard.admit(address, charge_point_id)
        if limited is not None:
            reason, seconds = limited
            raise refused(reason, (self.admission.retry_after(seconds),))
        try:
            return await self._admit(request)
        finally:
            self.guard.checked()

    def retry_after(self, seconds: float = 0.0) -> tuple[str, str]:
        """A Retry-After header field for who must wait at least ``seconds``."""
        return self.admission.retry_after(seconds)

    async def _admit(self, request: Request) -> Admitted:
        charge_point_id, address = request.path.charge_point_id, request.origin.address
        connection_id = self.stamps.event_id()
        try:
            certificate = request.certificate
            fingerprint = None if certificate is None else certificate.fingerprint
            # Read first: if Redis loses its data meanwhile, the record is of the store before.
            store_id = self.identities.store_id
            found = await self.identities.look_up(
                charge_point_id, fingerprint, address, is_shared=self.proxies.is_shared(address)
            )
            if found.ban_seconds > 0:
                raise refused("banned", (self.retry_after(found.ban_seconds),))
            if found.wait_seconds > 0:
                raise refused("rate_limited", (self.retry_after(found.wait_seconds),))
            record = self._record(charge_point_id, found.record)
            self.authenticator.check_status(record)
            subprotocol, version = self._negotiated(request.offer, record)
            self.authenticator.check_address(record, address)
            outcome = await self.authenticator.check_credential(
                record,
                request.credentials,
                version=version,
                is_secure=request.origin.is_secure,
                certificate=certificate,
                is_revoked=found.is_revoked,
            )
            self.authenticator.check_profile(record, outcome.security_profile)
            if subprotocol is None:
                return Admitted(subprotocol=None, session=None)
            self._count_quirks(request, subprotocol, version)
            caller = Caller(charge_point_id, record.station_id, record.tenant_id)
            connected_at_ms = max(int(self.clock.now() * 1000), self.started_at_ms)
            epoch = await self.claims.claim_session(
                caller,
                version,
                connected_at_ms,
                connection_id=connection_id,
                peer=address,
                security_profile=outcome.security_profile,
                may_downgrade=record.allow_profile_downgrade,
            )
        except AuthenticationFailed as failure:
            raise refused(failure.reason, failure.headers) from None
        except HashingBusy as failure:
            raise refused(failure.reason, (self.retry_after(),)) from None
        except ReconnectsLimited as failure:
            raise refused("reconnect_limited", (self.retry_after(failure.wait_seconds),)) from None
        except StoreUnavailable:
            raise refused("redis_unavailable", (self.retry_after(),)) from None
        # Kafka may have gone meanwhile: better refused now than closed at the first CALL.
        if self.admission.closed_for:
            self.claims.release_later(charge_point_id, epoch)
            self.admission.admit()
        identity = SessionIdentity(
            charge_point_id=charge_point_id,
            connection_id=connection_id,
            epoch=epoch,
            peer=address,
            security_profile=outcome.security_profile,
            connected_at_ms=connected_at_ms,
            opened_at=self.clock.monotonic(),
        )
        station = self._station(caller, version, identity, outcome)
        assert found.record is not None  # or _record had refused
        if outcome.mode is AuthMode.BASIC and record.auth.next_secrets.hashes:
            self.settle_secret(charge_point_id, found.record, outcome.next_secret)
        standing = standing_of(
            record,
            found.record,
            outcome,
            address=address,
            version=version,
            certificate=certificate,
            store_id=store_id,
        )
        return Admitted(subprotocol=subprotocol, session=(identity, station, standing))

    def _record(self, charge_point_id: str, raw: bytes | None) -> IdentityRecord:
        if raw is None:
            raise refused("identity_missing")
        try:
            record = IdentityRecord.parse(raw, charge_point_id)
        except IdentityRecordInvalid as invalid:
            self.record_log.warn(charge_point_id, invalid.problem)
            raise refused(invalid.reason) from None
        for warning in record.warnings:
            self.record_log.warn(charge_point_id, warning)
        return record

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

    def _station(
        self, caller: Caller, version: OcppVersion, identity: SessionIdentity, outcome: AuthOutcome
    ) -> Station:
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
                certificate_expired=outcome.certificate_expired,
            ),
            key=caller.station_id.encode(),
        )
