"""Whether those who are connected may still be: the operator's word counts at once, not at the next handshake.

Every few seconds the identity records of all sessions are read again, many at a time, and revocations with them. A
record that is still the same is not even parsed. One that has changed is judged as at a handshake, but for the secret:
it is not kept, so what counts is whether the record still has the same one (``auth.standing``).

A record that is gone ends its session too, unless the store is not the one that the record was read in: a Redis that
lost its data must not cost a fleet its connections. Nor must a record that somebody broke while writing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Protocol

import attrs
from attrs import define
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.auth.authenticator import Authenticator
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed, IdentityRecordInvalid
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.standing import check_standing
from ocpp_gateway.clock import Clock
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.session.opening import FoundIdentity
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.record_log import RecordLog
from ocpp_gateway.session.revoking import revoke
from ocpp_gateway.session.session import Session

log = Logger()

_BATCH = 200


class WatchedIdentities(Protocol):
    """Where the identity records and revocations are."""

    async def look_up_all(
        self, wanted: Sequence[tuple[str, str | None]]
    ) -> tuple[bytes | None, Sequence[FoundIdentity]]:
        """The store's id, and what is known of each charge point id and fingerprint. Raises StoreUnavailable."""
        ...


@define(eq=False, kw_only=True)
class Watch:
    """See the module's text. ``sessions`` gives those that are connected, each time it is asked for them."""

    sessions: Iterable[Session]
    identities: WatchedIdentities
    authenticator: Authenticator
    security: SecurityEvents
    record_log: RecordLog
    clock: Clock
    _is_revoked: Callable[[ClientCertificate], bool] = lambda _: False
    _recheck: IDelayedCall | None = None

    async def round(self) -> None:
        """Look at every session once. Raises StoreUnavailable; the sessions that were not reached then stay."""
        sessions = iter(tuple(self.sessions))
        while batch := tuple(islice(sessions, _BATCH)):
            wanted = [(session.identity.charge_point_id, _fingerprint(session)) for session in batch]
            store_id, found = await self.identities.look_up_all(wanted)
            for session, known in zip(batch, found, strict=True):
                if session.close_reason is None:
                    self._each(session, partial(self._look_at, session, known, store_id))

    def recheck_certificates(self, is_revoked: Callable[[ClientCertificate], bool]) -> None:
        """Other revocation lists are in force: end, soon, the sessions of certificates that ``is_revoked``.

        Later rounds ask it too: a handshake under way may have been checked against the lists before.
        """
        self._is_revoked = is_revoked
        if self._recheck is not None:
            self._recheck.cancel()
        self._recheck_next(iter(tuple(self.sessions)))

    def _recheck_next(self, sessions: Iterator[Session]) -> None:
        self._recheck = None
        batch = tuple(islice(sessions, _BATCH))
        for session in batch:
            self._each(session, partial(self._look_at_certificate, session))
        if batch:
            self._recheck = self.clock.call_later(0, self._recheck_next, sessions)

    def _each(self, session: Session, look: Callable[[], None]) -> None:
        """One session that cannot be looked at must not keep the others from it."""
        try:
            look()
        except Exception:
            log.failure(
                "{charge_point_id} could not be looked at",
                event="session.recheck_failed",
                reason="internal_error",
                charge_point_id=session.identity.charge_point_id,
            )

    def _look_at_certificate(self, session: Session) -> None:
        certificate = session.standing.shown
        if certificate is not None and self._is_revoked(certificate):
            revoke(session, CloseReason.MTLS_REVOKED, self.security)

    def _look_at(self, session: Session, known: FoundIdentity, store_id: bytes | None) -> None:
        standing = session.standing
        if known.is_revoked:
            revoke(session, CloseReason.MTLS_REVOKED, self.security)
        elif known.record is None:
            if store_id is not None and store_id == standing.store_id:
                revoke(session, CloseReason.IDENTITY_MISSING, self.security)
        elif hash(known.record) != standing.record_digest:
            self._changed(session, known.record, store_id)
        elif store_id != standing.store_id:
            session.standing = attrs.evolve(standing, store_id=store_id)
        self._look_at_certificate(session)

    def _changed(self, session: Session, raw: bytes, store_id: bytes | None) -> None:
        charge_point_id = session.identity.charge_point_id
        try:
            record = IdentityRecord.parse(raw, charge_point_id)
            for warning in record.warnings:
                self.record_log.warn(charge_point_id, warning)
            check_standing(session.standing, record, self.authenticator)
        except IdentityRecordInvalid as invalid:
            self.record_log.warn(charge_point_id, invalid.problem)
        except AuthenticationFailed as failure:
            revoke(session, CloseReason.from_label(failure.reason), self.security)
        # Looked at, whatever came of it: not to be parsed again until it is another one.
        session.standing = attrs.evolve(session.standing, record_digest=hash(raw), store_id=store_id)


def _fingerprint(session: Session) -> str | None:
    certificate = session.standing.shown
    return None if certificate is None else certificate.fingerprint
