"""By what a live session was let in, and whether its identity record would still let it in.

A record that is changed while the charge point is connected counts at once: the session need not wait for a reconnect
to find its password changed or its certificate revoked. Times of validity are left out, of certificates as of bindings:
a certificate is renewed over the very connection that it opened (A02 of OCPP 2.0.1), and revocation does that job. But
who came with an expired one stays only while the record allows it.

A charge point that is told another password over its connection stays as well: what is written by that is known here
before it is written. Another password by anybody else ends the session.
"""

from __future__ import annotations

import hashlib

from attrs import field, frozen

from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.bindings import check_binding
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.ocppj.versions import OcppVersion

_DIGEST_BYTES = 16


@frozen
class Standing:
    """What a session's right to be connected rests on.

    ``record_digest``: ``hash()`` of the stored record, good within this process. ``credential``: digest over those
    members of the record that the password or token was compared with; empty for a certificate. ``told``: the same of
    passwords that the charge point was told over the session. ``certificate``: the one that the session was let in by;
    None where it was a secret. ``shown``: the same, or the one shown beside the secret: it must not be a revoked one
    either.
    ``is_expired``: it was let in by a certificate that ran out, as its record allowed.
    ``store_id``: which life of the store the record was read in (``redis.identities``); None if not known.
    """

    record_digest: int
    mode: AuthMode
    security_profile: int
    credential: bytes = field(repr=False)
    certificate: ClientCertificate | None
    shown: ClientCertificate | None
    is_expired: bool
    address: str
    version: OcppVersion
    station_id: str
    tenant_id: str
    store_id: bytes | None
    told: frozenset[bytes] = field(default=frozenset(), repr=False)


def standing_of(
    record: IdentityRecord,
    raw: bytes,
    outcome: AuthOutcome,
    *,
    address: str,
    version: OcppVersion,
    certificate: ClientCertificate | None,
    store_id: bytes | None,
) -> Standing:
    """The standing of a charge point that ``outcome`` has just let in; ``raw`` is what ``record`` was read from."""
    return Standing(
        record_digest=hash(raw),
        mode=outcome.mode,
        security_profile=outcome.security_profile,
        credential=_credential(record, outcome.mode, outcome.next_secret),
        certificate=certificate if outcome.mode is AuthMode.MTLS else None,
        shown=certificate,
        is_expired=outcome.certificate_expired,
        address=address,
        version=version,
        station_id=record.station_id,
        tenant_id=record.tenant_id,
        store_id=store_id,
    )


def check_standing(standing: Standing, record: IdentityRecord, authenticator: Authenticator) -> None:
    """Raise AuthenticationFailed if ``record``, as it is now, would not have let the session in.

    Reasons: those of the authenticator's checks, ``credential_changed`` (another secret, or another user name),
    ``identity_changed`` (events would be published under another station or tenant), and those of ``check_binding``.
    Revocation in Redis or by a CRL is not in the record, so not in here.
    """
    authenticator.check_status(record)
    authenticator.check_version(record, standing.version)
    authenticator.check_address(record, standing.address)
    authenticator.check_mode(record, standing.mode)
    authenticator.check_profile(record, standing.security_profile)
    if not _has_credential(record, standing):
        raise AuthenticationFailed("credential_changed")
    if (record.station_id, record.tenant_id) != (standing.station_id, standing.tenant_id):
        raise AuthenticationFailed("identity_changed")
    if standing.is_expired and not record.allow_expired_certificate:
        raise AuthenticationFailed("mtls_expired")
    if standing.certificate is not None:
        check_binding(record, standing.certificate, authenticator.certificate_rules, now=None)


def credential_to_come(record: IdentityRecord, stored: str, salt: str) -> bytes:
    """What a session by the password ``stored`` will rest on, once the record has it; for ``Standing.told``."""
    return _password(record, stored, salt or None)


def _has_credential(record: IdentityRecord, standing: Standing) -> bool:
    present = _credential(record, standing.mode)
    if present == standing.credential or present in standing.told:
        return True
    if standing.mode is not AuthMode.BASIC:
        return False
    # It came with a password to come, and that one has not become the present one yet.
    return any(
        _credential(record, standing.mode, stored) == standing.credential for stored in record.auth.next_secrets.hashes
    )


def _credential(record: IdentityRecord, mode: AuthMode, next_secret: str | None = None) -> bytes:
    auth = record.auth
    if mode is AuthMode.MTLS:
        return b""
    if mode is AuthMode.TOKEN:
        return _digest("", auth.token_hash or auth.secret_hash, auth.secret_salt, auth.hash_algorithm)
    if next_secret is not None:
        return _password(record, next_secret, auth.next_secrets.salt)
    return _password(record, auth.secret_hash, auth.secret_salt)


def _password(record: IdentityRecord, stored: str | None, salt: str | None) -> bytes:
    return _digest(record.auth.username or record.charge_point_id, stored, salt, record.auth.hash_algorithm)


def _digest(*parts_of_it: str | None) -> bytes:
    parts = repr(parts_of_it)  # of a tuple of texts: no two different ones look the same
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
