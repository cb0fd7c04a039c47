"""Client certificates in identity records (docs/WIRE.md, ``auth.certificates``). Pure: JSON in, JSON out.

A certificate is bound by fingerprint and serial number, which is one certificate and no other: to rotate, the next one
is bound beside it, and the old one revoked or let run out. Bound by its subject and issuer, any certificate with that
subject from that authority opens the charge point: that survives renewals, and wants an authority which gives each name
to one charge point only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ocpp_gateway.auth.names import parse_name
from ocpp_gateway.cli.records import Record
from ocpp_gateway.clock import iso_millis

if TYPE_CHECKING:
    from ocpp_gateway.auth.certificates import ClientCertificate

ATTRIBUTES = ("fingerprint", "subject", "issuer", "subjectAltName", "serialNumber", "chargePointId")
"""What a binding may ask of a certificate, and ``chargePointId``, whose it is."""

MTLS = "mtls"
"""The type of a charge point that shows a certificate."""

_REVOKED = "revoked"
_PASSWORD_TYPES = ("basic", "token")


def binding_of(
    certificate: ClientCertificate, *, by_subject: bool, valid_from: datetime | None, valid_to: datetime | None
) -> Record:
    """The binding that asks for ``certificate``, or for its whole subject. ValueError if that cannot be compared."""
    if by_subject:
        if parse_name(certificate.subject) is None or parse_name(certificate.issuer) is None:
            raise ValueError("its subject or issuer is empty, or of a kind that the gateway does not compare")
        binding: Record = {"subject": certificate.subject, "issuer": certificate.issuer}
    else:
        binding = {"fingerprint": certificate.fingerprint, "serialNumber": certificate.serial_number}
    for name, when in (("validFrom", valid_from), ("validTo", valid_to)):
        if when is not None:
            binding[name] = iso_millis(when.timestamp())
    return {**binding, "status": "active"}


def bound(record: Record, binding: Record, *, replace: bool, keep_type: bool, now: float) -> Record:
    """The record with ``binding`` in place of its like, or of all others, and a charge point that may show it.

    ``keep_type``: what it authenticates with now still holds; a certificate is taken where it comes without a password.
    Revoked bindings stay, whatever is replaced: they keep a certificate out.
    """
    auth = _auth(record)
    bindings = bindings_of(record)
    # Bindings in the list put the short form out of force, so it is written as what it stands for.
    for name in ("fingerprint", "subject"):
        auth.pop(name, None)
    auth["certificates"] = [
        *(other for other in bindings if not _alike(other, binding) and (not replace or is_revoked(other))),
        binding,
    ]
    allowed = [entry for entry in _list(auth.get("allowedTypes")) if isinstance(entry, str)]
    if not keep_type:
        auth["type"] = MTLS
    elif not allowed and auth.get("type") != MTLS:
        # Only where it names mtls is a certificate taken in a password's place; so that the rest goes on as before,
        # it names what was allowed while it named nothing.
        allowed = [auth["type"]] if auth.get("type") else list(_PASSWORD_TYPES)
    if allowed and MTLS not in [entry.strip().lower() for entry in allowed]:
        auth["allowedTypes"] = [*allowed, MTLS]
    return _with_auth(record, auth, now)


def may_show_one(record: Record) -> bool:
    """A certificate is taken from it; also where OCPP_AUTH_MODE decides, because only the gateway knows that."""
    auth = _auth(record)
    own = _plain(auth.get("type"))
    return own in ("", MTLS.upper()) or MTLS.upper() in map(_plain, _list(auth.get("allowedTypes")))


def revoked(record: Record, fingerprint: str, now: float) -> Record | None:
    """The record with a certificate revoked; None if it is already."""
    auth = _auth(record)
    fingerprints = _list(auth.get("revokedFingerprints"))
    certificates = [
        {**entry, "status": _REVOKED} if isinstance(entry, dict) and _has(entry, fingerprint) else entry
        for entry in _list(auth.get("certificates"))
    ]
    if fingerprint not in map(_plain, fingerprints):
        fingerprints = [*fingerprints, fingerprint]
    return _changed(record, auth, fingerprints, certificates, now)


def unrevoked(record: Record, fingerprint: str, now: float) -> Record | None:
    """The record without the revocation of a certificate; None if there is none."""
    auth = _auth(record)
    fingerprints = [entry for entry in _list(auth.get("revokedFingerprints")) if _plain(entry) != fingerprint]
    certificates = [
        {**entry, "status": "active"}
        if isinstance(entry, dict) and _has(entry, fingerprint) and is_revoked(entry)
        else entry
        for entry in _list(auth.get("certificates"))
    ]
    return _changed(record, auth, fingerprints, certificates, now)


def bindings_of(record: Record) -> list[Record]:
    """The bindings of a record, its short form too where the list is empty; what is no binding is left out."""
    auth = _auth(record)
    listed = [entry for entry in _list(auth.get("certificates")) if isinstance(entry, dict)]
    short = {name: auth[name] for name in ("fingerprint", "subject") if auth.get(name)}
    return listed or ([short] if short else [])


def revoked_in(record: Record) -> list[str]:
    """The fingerprints that a record revokes."""
    return [_plain(entry) for entry in _list(_auth(record).get("revokedFingerprints")) if isinstance(entry, str)]


def fingerprint_of(binding: Record) -> str:
    """The fingerprint that a binding asks for, the way it is compared; empty if it asks for none."""
    return _plain(binding.get("fingerprint"))


def is_revoked(binding: Record) -> bool:
    """It says so itself."""
    return _plain(binding.get("status")) == _REVOKED.upper()


def serial_number_in(record: Record, fingerprint: str) -> str | None:
    """The serial number of a bound certificate, where its binding names it."""
    for binding in bindings_of(record):
        if _has(binding, fingerprint) and isinstance(binding.get("serialNumber"), str):
            return str(binding["serialNumber"])
    return None


def state_of(binding: Record, revoked_fingerprints: Iterable[str], now: float) -> str:
    """What a binding is good for now, in a word or two: ``active``, ``revoked`` ..."""
    if is_revoked(binding) or fingerprint_of(binding) in set(revoked_fingerprints):
        return _REVOKED
    status = str(binding.get("status") or "active").strip().lower()
    if status != "active":
        return status
    try:
        begins, ends = (_time(binding.get(name)) for name in ("validFrom", "validTo"))
    except ValueError:
        return "unreadable dates"
    if begins is not None and now < begins:
        return "not yet"
    return "ended" if ends is not None and now > ends else "active"


def _changed(
    record: Record, auth: Record, fingerprints: list[Any], certificates: list[Any], now: float
) -> Record | None:
    before = (_list(auth.get("revokedFingerprints")), _list(auth.get("certificates")))
    if (fingerprints, certificates) == before:
        return None
    auth["revokedFingerprints"] = fingerprints
    if certificates:
        auth["certificates"] = certificates
    return _with_auth(record, auth, now)


def _with_auth(record: Record, auth: Record, now: float) -> Record:
    return {**record, "auth": auth, "updatedAt": iso_millis(now)}


def _alike(one: Record, other: Record) -> bool:
    if fingerprint_of(one) or fingerprint_of(other):
        return fingerprint_of(one) == fingerprint_of(other)
    return all(one.get(name) == other.get(name) for name in ATTRIBUTES)


def _has(binding: Record, fingerprint: str) -> bool:
    return fingerprint_of(binding) == fingerprint


def _auth(record: Record) -> Record:
    auth = record.get("auth")
    return dict(auth) if isinstance(auth, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _plain(value: Any) -> str:
    return value.replace(":", "").strip().upper() if isinstance(value, str) else ""


def _time(value: Any) -> float | None:
    """Seconds since the epoch; None if not given. ValueError if it is no ISO 8601."""
    if value is None or value == "":
        return None
    when = datetime.fromisoformat(str(value))
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
