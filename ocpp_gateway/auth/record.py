"""The identity record: what the operator has said about one charge point, as stored in Redis under ``chargers:{id}``.

A record comes from tools of several owners and ages, so unknown fields are ignored and ``null`` means absent. But where
a field that we know has the wrong type the record is refused as a whole: half a record might let somebody in. List
entries that we cannot read (an address, a version) stand for nothing, so a list of only such entries allows nothing;
they are named in ``warnings`` for the operator. Empty lists restrict nothing, as in the contract.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from attrs import field, frozen

from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList
from ocpp_gateway.auth.errors import IdentityRecordInvalid
from ocpp_gateway.auth.fields import RecordFields
from ocpp_gateway.auth.next_secrets import NO_NEXT_SECRETS, NextSecrets
from ocpp_gateway.ocppj.versions import OcppVersion

ALL_VERSIONS: Final = frozenset(OcppVersion)

_DIGITS = re.compile(r"[0-9A-F]+")
_SHA256_DIGITS = re.compile(r"[0-9A-F]{64}")


@frozen
class CertificateBinding:
    """A client certificate that the charge point may show; all the attributes that are given have to match.

    ``fingerprint`` is SHA-256 in upper-case hex without colons, ``serial_number`` upper-case hex without leading zeros,
    ``status`` lower case; ``subject`` and ``issuer`` as stored. ``valid_from``, ``valid_to``: when the binding holds,
    in seconds since the epoch, both included; ``is_window_readable`` is False if one of them is given but is no time,
    and then it never holds.
    """

    fingerprint: str | None = None
    subject: str | None = None
    subject_alt_name: str | None = None
    serial_number: str | None = None
    charge_point_id: str | None = None
    valid_from: float | None = None
    valid_to: float | None = None
    status: str | None = None
    is_window_readable: bool = True
    issuer: str | None = None

    @property
    def names_certificate(self) -> bool:
        """Whether it gives an attribute of a certificate beside its issuer. One without would match any, so none."""
        return any((self.fingerprint, self.subject, self.subject_alt_name, self.serial_number))

    @property
    def is_only_a_number(self) -> bool:
        """Whether certificates of several authorities may match it, as each of them counts from one."""
        return self.serial_number is not None and not any(
            (self.fingerprint, self.subject, self.subject_alt_name, self.issuer)
        )


@frozen
class AuthRules:
    """How the charge point authenticates. Modes and algorithms are lower case; hashes are as stored."""

    mode: str | None = None
    allowed_modes: frozenset[str] = frozenset()
    hash_algorithm: str | None = None
    username: str | None = None
    secret_hash: str | None = field(default=None, repr=False)
    secret_salt: str | None = field(default=None, repr=False)
    next_secrets: NextSecrets = NO_NEXT_SECRETS
    token_hash: str | None = field(default=None, repr=False)
    certificates: tuple[CertificateBinding, ...] = ()
    revoked_fingerprints: frozenset[str] = frozenset()
    allowed_organizations: frozenset[str] = frozenset()


@frozen
class IdentityRecord:
    """One charge point's record (contract section 2). ``status`` is None where the record has none.

    ``min_security_profile``: 1 to 3, the lowest that it may connect with. ``allow_profile_downgrade``: it may connect
    with a lower one than the last time. ``allow_expired_certificate``: it may show one that ran out (A00.FR.429 of OCPP
    2.0.1).
    """

    charge_point_id: str
    station_id: str
    tenant_id: str
    status: str | None = None
    allowed_versions: frozenset[OcppVersion] = ALL_VERSIONS
    allowed_addresses: AddressList = EVERY_ADDRESS
    min_security_profile: int | None = None
    allow_profile_downgrade: bool = False
    allow_expired_certificate: bool = False
    auth: AuthRules = AuthRules()
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes | str, charge_point_id: str) -> IdentityRecord:
        """Read the stored JSON ``raw`` of the charge point that the URL names.

        Raises IdentityRecordInvalid if it is not an object with ``stationId`` and ``tenantId``, if a field has the
        wrong type, or if it says that it is another charge point's.
        """
        fields = RecordFields.of(raw)
        if fields.text("chargePointId") not in (None, charge_point_id):
            raise IdentityRecordInvalid("chargePointId: of another charge point")
        addresses = AddressList.parse(fields.texts("allowedIps"), fields.texts("allowedCidrs"))
        if addresses.bad_entries:
            fields.warnings.append("allowedIps, allowedCidrs: an entry is not an address or network")
        return cls(
            charge_point_id=charge_point_id,
            station_id=fields.mandatory_text("stationId"),
            tenant_id=fields.mandatory_text("tenantId"),
            status=fields.text("status"),
            allowed_versions=_versions(fields),
            allowed_addresses=addresses,
            min_security_profile=fields.number("minSecurityProfile", 1, 3),
            allow_profile_downgrade=fields.flag("allowProfileDowngrade"),
            allow_expired_certificate=fields.flag("allowExpiredCertificate"),
            auth=_auth(fields.nested("auth")),
            warnings=tuple(fields.warnings),
        )


def _versions(fields: RecordFields) -> frozenset[OcppVersion]:
    names = fields.texts("allowedProtocols")
    if not names:
        return ALL_VERSIONS
    versions = [OcppVersion.from_label(name) for name in names]
    if None in versions:
        fields.warn("allowedProtocols", "an entry is not an OCPP version of the gateway")
    return frozenset(version for version in versions if version is not None)


def _auth(fields: RecordFields) -> AuthRules:
    for plain in ("secret", "token"):
        if fields.values.get(plain):
            fields.warn(plain, "a secret in plain text is never accepted; store its hash")
    bindings = [_certificate(certificate) for certificate in fields.nested_list("certificates")]
    if not all(binding.names_certificate for binding in bindings):
        fields.warn("certificates", "an entry names no attribute of a certificate, so it binds nothing")
    if any(binding.is_only_a_number for binding in bindings):
        fields.warn("certificates", "a serial number is unique for its issuer only: add issuer or fingerprint")
    # The short form of one binding, which counts where the list is empty.
    short = CertificateBinding(fingerprint=_given_fingerprint(fields), subject=fields.given("subject"))
    if not bindings and short.names_certificate:
        bindings = [short]
    return AuthRules(
        mode=fields.lower("type"),
        allowed_modes=frozenset(mode.strip().lower() for mode in fields.texts("allowedTypes")),
        hash_algorithm=fields.lower("hashAlgorithm"),
        username=fields.given("username"),
        secret_hash=fields.given("secretHash"),
        secret_salt=fields.given("secretSalt"),
        next_secrets=NextSecrets.read(fields),
        token_hash=fields.given("tokenHash"),
        certificates=tuple(bindings),
        revoked_fingerprints=frozenset(
            _fingerprint(fields, "revokedFingerprints", text) for text in fields.texts("revokedFingerprints") if text
        ),
        allowed_organizations=frozenset(name.strip() for name in fields.texts("allowedOrganizations")),
    )


def _certificate(fields: RecordFields) -> CertificateBinding:
    status = fields.text("status")
    valid_from, is_from_readable = _time(fields, "validFrom")
    valid_to, is_to_readable = _time(fields, "validTo")
    return CertificateBinding(
        fingerprint=_given_fingerprint(fields),
        subject=fields.given("subject"),
        subject_alt_name=fields.given("subjectAltName"),
        serial_number=_serial_number(fields),
        issuer=fields.given("issuer"),
        charge_point_id=fields.text("chargePointId"),
        valid_from=valid_from,
        valid_to=valid_to,
        status=status.strip().lower() if status is not None else None,
        is_window_readable=is_from_readable and is_to_readable,
    )


# What follows keeps a value that it cannot read, with a warning: it is still given, so it still has to match.


def _fingerprint(fields: RecordFields, name: str, text: str) -> str:
    digits = text.replace(":", "").strip().upper()
    if _SHA256_DIGITS.fullmatch(digits) is None:
        fields.warn(name, "not SHA-256 in hexadecimal digits, so no certificate's")
    return digits


def _given_fingerprint(fields: RecordFields) -> str | None:
    text = fields.given("fingerprint")
    return None if text is None else _fingerprint(fields, "fingerprint", text)


def _serial_number(fields: RecordFields) -> str | None:
    text = fields.given("serialNumber")
    if text is None:
        return None
    digits = text.replace(":", "").strip().upper()
    if _DIGITS.fullmatch(digits) is None:
        fields.warn("serialNumber", "not hexadecimal digits, so no certificate's")
        return text
    return digits.lstrip("0") or "0"


def _time(fields: RecordFields, name: str) -> tuple[float | None, bool]:
    """A moment in seconds since the epoch, and whether it is readable or absent. UTC where no zone is given."""
    text = fields.given(name)
    if text is None:
        return None, True
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        fields.warn(name, "not a time in ISO 8601, so the binding never holds")
        return None, False
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp(), True
