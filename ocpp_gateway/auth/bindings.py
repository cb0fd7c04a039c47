"""Is this client certificate the charge point's own?

A verified chain says only that one of the operators' authorities issued the certificate; all charge points have such
certificates. Which of them belongs to whom is said by the bindings of the identity record, of which one has to match
with all the attributes that it gives. A record without bindings takes a certificate that names the charge point.

The organisation that owns the charge point is in the subject's O (A00.FR.404 of OCPP 2.0.1). It is the authority's own
word, as all of the subject is: where several authorities are trusted that do not trust each other, a binding has to
give the fingerprint, or the ``issuer`` beside what it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from attrs import field, frozen

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.names import is_same_name, parse_name
from ocpp_gateway.auth.record import CertificateBinding, IdentityRecord

_ACTIVE: Final = (None, "active")
_REVOKED: Final = "revoked"

_KINDS: Final = MappingProxyType(
    {"dns": "DNS", "uri": "URI", "ip": "IP", "ip address": "IP", "email": "email", "rfc822": "email"}
)
"""Kinds of alternative names as ClientCertificate has them, by how people and tools write them in lower case."""


@frozen
class AllowedOrganizations:
    """Which organisations' certificates are taken: those for all tenants, and those by tenant id."""

    everywhere: frozenset[str] = frozenset()
    by_tenant: Mapping[str, frozenset[str]] = field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> AllowedOrganizations:
        """Read entries separated by ``;``: ``tenant-id=Organisation`` for one tenant, ``Organisation`` for all.

        Raises ValueError, in words for the operator, if one half of an entry is missing.
        """
        everywhere = set()
        by_tenant: dict[str, set[str]] = {}
        for entry in filter(None, (entry.strip() for entry in text.split(";"))):
            tenant, equals, organization = (part.strip() for part in entry.partition("="))
            if not equals:
                everywhere.add(entry)
            elif not tenant or not organization:
                raise ValueError("must be organisations or tenant-id=organisation, separated by semicolons")
            else:
                by_tenant.setdefault(tenant, set()).add(organization)
        return cls(frozenset(everywhere), {tenant: frozenset(names) for tenant, names in by_tenant.items()})

    def of_tenant(self, tenant_id: str) -> frozenset[str]:
        """What ``tenant_id`` may use. Empty: any organisation."""
        return self.everywhere | self.by_tenant.get(tenant_id, frozenset())


@frozen
class CertificateRules:
    """What holds for the certificates of all charge points.

    ``require_binding``: a record without bindings takes no certificate, whatever name is in it.
    """

    require_binding: bool = False
    organizations: AllowedOrganizations = AllowedOrganizations()


def check_binding(
    record: IdentityRecord, certificate: ClientCertificate, rules: CertificateRules, *, now: float | None
) -> None:
    """Raise AuthenticationFailed unless ``certificate`` is one that the charge point of ``record`` may show.

    ``now``: seconds since the epoch, for the windows of the bindings; None leaves them out. The certificate's own
    validity and revocation elsewhere are not looked at. Reasons, the first that applies: ``mtls_revoked``,
    ``mtls_organization_not_allowed``, ``mtls_binding_missing``, ``mtls_binding_mismatch``.
    """
    check_revocation(record, certificate)
    check_ownership(record, certificate, rules, now=now)


def check_revocation(record: IdentityRecord, certificate: ClientCertificate) -> None:
    """Raise AuthenticationFailed ``mtls_revoked`` if the record says so: by the fingerprint, or by a binding."""
    auth = record.auth
    if certificate.fingerprint in auth.revoked_fingerprints or any(
        binding.status == _REVOKED and _matches(binding, record, certificate) for binding in auth.certificates
    ):
        raise AuthenticationFailed("mtls_revoked")


def check_ownership(
    record: IdentityRecord, certificate: ClientCertificate, rules: CertificateRules, *, now: float | None
) -> None:
    """``check_binding`` without what the record says about revocation."""
    organizations = record.auth.allowed_organizations or rules.organizations.of_tenant(record.tenant_id)
    if organizations and organizations.isdisjoint(certificate.organizations):
        raise AuthenticationFailed("mtls_organization_not_allowed")
    if record.auth.certificates:
        is_bound = any(
            binding.status in _ACTIVE and _is_in_force(binding, now) and _matches(binding, record, certificate)
            for binding in record.auth.certificates
        )
    elif rules.require_binding:
        raise AuthenticationFailed("mtls_binding_missing")
    else:
        is_bound = names(certificate, record.charge_point_id)
    if not is_bound:
        raise AuthenticationFailed("mtls_binding_mismatch")


def _is_in_force(binding: CertificateBinding, now: float | None) -> bool:
    if not binding.is_window_readable:
        return False
    return now is None or (
        (binding.valid_from is None or binding.valid_from <= now)
        and (binding.valid_to is None or now <= binding.valid_to)
    )


def _matches(binding: CertificateBinding, record: IdentityRecord, certificate: ClientCertificate) -> bool:
    """Whether ``binding`` gives an attribute of a certificate, and all that it gives are those of ``certificate``."""
    return (
        binding.names_certificate
        and binding.charge_point_id in (None, record.charge_point_id)
        and binding.fingerprint in (None, certificate.fingerprint)
        and binding.serial_number in (None, certificate.serial_number)
        and (binding.subject is None or _is_subject(binding.subject, certificate))
        and (binding.issuer is None or _is_named(binding.issuer, certificate.issuer))
        and (binding.subject_alt_name is None or _has_alternative_names(binding.subject_alt_name, certificate))
    )


def _is_subject(text: str, certificate: ClientCertificate) -> bool:
    if parse_name(text) is None:
        return text == certificate.common_name
    return _is_named(text, certificate.subject)


def _is_named(text: str, name: str) -> bool:
    expected, actual = parse_name(text), parse_name(name)
    return expected is not None and actual is not None and is_same_name(expected, actual)


def _has_alternative_names(text: str, certificate: ClientCertificate) -> bool:
    entries = [entry for entry in (part.strip() for part in text.split(",")) if entry]
    return bool(entries) and all(_has_alternative_name(entry, certificate) for entry in entries)


def _has_alternative_name(entry: str, certificate: ClientCertificate) -> bool:
    prefix, _, value = entry.partition(":")
    kind = _KINDS.get(prefix.strip().lower())
    candidates = [f"{kind}:{value.strip()}"] if kind else [f"{kind}:{entry}" for kind in ("DNS", "URI", "IP", "email")]
    return any(_normal(candidate) in certificate.alternative_names for candidate in candidates)


def _normal(name: str) -> str:
    """``name``, with its kind, as ClientCertificate spells it."""
    kind, _, value = name.partition(":")
    if kind == "DNS":
        return name.lower().replace("dns:", "DNS:", 1)
    if kind == "IP":
        try:
            return f"IP:{ip_address(value)}"
        except ValueError:
            return name
    return name


def names(certificate: ClientCertificate, charge_point_id: str) -> bool:
    """Whether the common name or an alternative name is ``charge_point_id``, letter for letter.

    DNS names are in lower case here, so one never names an identity with capitals: ``CP-1`` and ``cp-1`` may be two.
    """
    return certificate.common_name == charge_point_id or any(
        name.partition(":")[2] == charge_point_id for name in certificate.alternative_names
    )
