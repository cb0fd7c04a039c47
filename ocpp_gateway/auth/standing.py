"""By what a live session was let in, and whether its identity record would still let it in.

A record that is changed while the charge point is connected counts at once: the session need not wait for a reconnect
to find its password changed or its certificate revoked. Times of validity are left out, of certificates as of bindings:
a certificate is renewed over the very connection that it opened (A02 of OCPP 2.0.1), and revocation does that job. But
who came with an expired one stays only while the record allows it.
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
    members of the record that the password or token was compared with; empty for a certificate. ``certificate``: the
    one that the session was let in by; None where it was a secret. ``shown``: the same, or the one shown beside the
    secret: it must not be a revoked one either.
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
        credential=_credential(record, outcome.mode),
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
    if _credential(record, standing.mode) != standing.credential:
        raise AuthenticationFailed("credential_changed")
    if (record.station_id, record.tenant_id) != (standing.station_id, standing.tenant_id):
        raise AuthenticationFailed("identity_changed")
    if standing.is_expired and not record.allow_expired_certificate:
        raise AuthenticationFailed("mtls_expired")
    if standing.certificate is not None:
        check_binding(record, standing.certificate, authenticator.certificate_rules, now=None)


def _credential(record: IdentityRecord, mode: AuthMode) -> bytes:
    auth = record.auth
    if mode is AuthMode.MTLS:
        return b""
    if mode is AuthMode.BASIC:
        user, secret = auth.username or record.charge_point_id, auth.secret_hash
    else:
        user, secret = "", auth.token_hash or auth.secret_hash
    # The repr of a tuple of texts: no two different ones look the same.
    parts = repr((user, secret, auth.secret_salt, auth.hash_algorithm))
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
