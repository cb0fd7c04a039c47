"""The identity record: what the operator has said about one charge point, as stored in Redis under ``chargers:{id}``.

A record comes from tools of several owners and ages, so unknown fields are ignored and ``null`` means absent. But where
a field that we know has the wrong type the record is refused as a whole: half a record might let somebody in. List
entries that we cannot read (an address, a version) stand for nothing, so a list of only such entries allows nothing;
they are named in ``warnings`` for the operator. Empty lists restrict nothing, as in the contract.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from attrs import field, frozen

from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList
from ocpp_gateway.auth.errors import IdentityRecordInvalid
from ocpp_gateway.ocppj.versions import OcppVersion

MAX_RECORD_BYTES: Final = 64 * 1024
ALL_VERSIONS: Final = frozenset(OcppVersion)


@frozen
class CertificateBinding:
    """A client certificate that the charge point may show; all the attributes that are given have to match.

    ``fingerprint`` is SHA-256 in upper-case hex without colons; the others are as stored.
    """

    fingerprint: str | None = None
    subject: str | None = None
    subject_alt_name: str | None = None
    serial_number: str | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    status: str | None = None


@frozen
class AuthRules:
    """How the charge point authenticates. Modes and algorithms are lower case; hashes are as stored."""

    mode: str | None = None
    allowed_modes: frozenset[str] = frozenset()
    hash_algorithm: str | None = None
    username: str | None = None
    secret_hash: str | None = field(default=None, repr=False)
    secret_salt: str | None = field(default=None, repr=False)
    token_hash: str | None = field(default=None, repr=False)
    certificates: tuple[CertificateBinding, ...] = ()
    revoked_fingerprints: frozenset[str] = frozenset()


@frozen
class IdentityRecord:
    """One charge point's record (contract section 2). ``status`` is None where the record has none."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    status: str | None = None
    allowed_versions: frozenset[OcppVersion] = ALL_VERSIONS
    allowed_addresses: AddressList = EVERY_ADDRESS
    auth: AuthRules = AuthRules()
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes | str, charge_point_id: str) -> IdentityRecord:
        """Read the stored JSON ``raw`` of the charge point that the URL names.

        Raises IdentityRecordInvalid if it is not an object with ``stationId`` and ``tenantId``, if a field has the
        wrong type, or if it says that it is another charge point's.
        """
        fields = _Fields.of(raw)
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
            auth=_auth(fields.nested("auth")),
            warnings=tuple(fields.warnings),
        )


@frozen
class _Fields:
    """An object of the record with its path, for messages. ``warnings`` is shared by all objects of one record."""

    values: dict[str, Any]
    path: str
    warnings: list[str]

    @classmethod
    def of(cls, raw: bytes | str) -> _Fields:
        if len(raw) > MAX_RECORD_BYTES:
            raise IdentityRecordInvalid("larger than an identity record can be")
        try:
            values = orjson.loads(raw)
        except ValueError:  # not chained: its text quotes the record
            raise IdentityRecordInvalid("not JSON") from None
        if not isinstance(values, dict):
            raise IdentityRecordInvalid("not a JSON object")
        return cls(values, "", [])

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise IdentityRecordInvalid(f"{self.path}{name}: not a string")

    def given(self, name: str) -> str | None:
        """A text in which an empty one says nothing."""
        return self.text(name) or None

    def lower(self, name: str) -> str | None:
        value = self.given(name)
        return value.strip().lower() if value is not None else None

    def mandatory_text(self, name: str) -> str:
        value = self.given(name)
        if value is None:
            raise IdentityRecordInvalid(f"{self.path}{name}: missing")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        if all(isinstance(value, str) for value in values):
            return tuple(values)
        raise IdentityRecordInvalid(f"{self.path}{name}: not a list of strings")

    def nested(self, name: str) -> _Fields:
        value = self.values.get(name)
        return self._object({} if value is None else value, name)

    def nested_list(self, name: str) -> list[_Fields]:
        return [self._object(value, name) for value in self._list(name)]

    def _list(self, name: str) -> list[Any]:
        values = self.values.get(name)
        if values is None:
            return []
        if isinstance(values, list):
            return values
        raise IdentityRecordInvalid(f"{self.path}{name}: not a list")

    def _object(self, value: object, name: str) -> _Fields:
        if isinstance(value, dict):
            return _Fields(value, f"{self.path}{name}.", self.warnings)
        raise IdentityRecordInvalid(f"{self.path}{name}: not an object")


def _versions(fields: _Fields) -> frozenset[OcppVersion]:
    names = fields.texts("allowedProtocols")
    if not names:
        return ALL_VERSIONS
    versions = [OcppVersion.from_label(name) for name in names]
    if None in versions:
        fields.warnings.append("allowedProtocols: an entry is not an OCPP version of the gateway")
    return frozenset(version for version in versions if version is not None)


def _auth(fields: _Fields) -> AuthRules:
    for plain in ("secret", "token"):
        if fields.values.get(plain):
            fields.warnings.append(f"auth.{plain}: a secret in plain text is never accepted; store its hash")
    certificates = [_certificate(certificate) for certificate in fields.nested_list("certificates")]
    # The short form of one binding, which counts where the list has none.
    short = CertificateBinding(fingerprint=_fingerprint(fields.given("fingerprint")), subject=fields.given("subject"))
    bindings = [binding for binding in certificates or [short] if _binds(binding)]
    if certificates and len(bindings) < len(certificates):
        fields.warnings.append("auth.certificates: an entry names no attribute of a certificate, so it binds nothing")
    return AuthRules(
        mode=fields.lower("type"),
        allowed_modes=frozenset(mode.strip().lower() for mode in fields.texts("allowedTypes")),
        hash_algorithm=fields.lower("hashAlgorithm"),
        username=fields.given("username"),
        secret_hash=fields.given("secretHash"),
        secret_salt=fields.given("secretSalt"),
        token_hash=fields.given("tokenHash"),
        certificates=tuple(bindings),
        revoked_fingerprints=frozenset(
            fingerprint for text in fields.texts("revokedFingerprints") if (fingerprint := _fingerprint(text))
        ),
    )


def _certificate(fields: _Fields) -> CertificateBinding:
    return CertificateBinding(
        fingerprint=_fingerprint(fields.given("fingerprint")),
        subject=fields.given("subject"),
        subject_alt_name=fields.given("subjectAltName"),
        serial_number=fields.given("serialNumber"),
        valid_from=fields.given("validFrom"),
        valid_to=fields.given("validTo"),
        status=fields.given("status"),
    )


def _binds(binding: CertificateBinding) -> bool:
    return any((binding.fingerprint, binding.subject, binding.subject_alt_name, binding.serial_number))


def _fingerprint(text: str | None) -> str | None:
    return (text.replace(":", "").strip().upper() or None) if text is not None else None
