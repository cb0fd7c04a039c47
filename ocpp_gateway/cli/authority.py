"""A certificate authority for trying the gateway and for tests. Its key lies in a file: nothing for production.

One RSA key signs everything, directly: there is no other algorithm that every charge point can verify (OCPP-J 1.6
section 6.2.1 wants RSA). The certificates have what OCPP asks for: common name, owner and serial number, RSA of 2048
bits or P-256 (A00.FR.501 to .512 of "Improved security for OCPP 1.6-J", A00.FR.501 to .514 of OCPP 2.0.1). They have
no extended key usage, which OCPP advises against, and which no client misses. The name of the endpoint is an
alternative name too, because today's clients look nowhere else; a charge point's certificate has none.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, Self

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind = Literal["ec", "rsa"]

_RSA_BITS = 2048
_CLOCK_SKEW = timedelta(hours=1)
"""Charge points whose clock is behind shall take a certificate that was made just now."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_LONGEST_HOST = 253


@frozen
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    def key_pem(self) -> bytes:
        """The key, PKCS#8, not encrypted."""
        return _key_pem(self.key)


@frozen
class Authority:
    """The authority: its certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def new(cls, organization: str, *, days: int, now: datetime) -> Self:
        """An authority with a name of its own, so that two are told apart. ValueError for an unusable name."""
        name = _name(organization, f"Throw-away CA {secrets.token_hex(3)}")
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    def key_pem(self) -> bytes:
        """Its key, PKCS#8, not encrypted."""
        return _key_pem(self.key)

    @property
    def organization(self) -> str:
        """Its owner."""
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)

    def server(self, hosts: list[str], kind: KeyKind, *, days: int, now: datetime) -> Issued:
        """A server certificate for ``hosts``, names and addresses; the first is its common name.

        Raises ValueError for a name that no certificate can have.
        """
        names = x509.SubjectAlternativeName([_alternative_name(host) for host in hosts])
        return self._issue(_name(self.organization, hosts[0]), kind, names, days=days, now=now)

    def charge_point(
        self, common_name: str, organization: str | None, kind: KeyKind, *, days: int, now: datetime
    ) -> Issued:
        """A client certificate; its owner is the authority's if not said. ValueError for a name that it cannot have."""
        return self._issue(
            _name(self.organization if organization is None else organization, common_name),
            kind,
            None,
            days=days,
            now=now,
        )

    def revocation_list(
        self, revoked: Iterable[x509.RevokedCertificate], number: int, *, days: int, now: datetime
    ) -> x509.CertificateRevocationList:
        """The list of what is revoked; ``number`` is to be higher than that of the list before."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """It signed ``certificate``."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except Exception:  # whatever is in the file, it is not ours
            return False
        return True

    def _issue(
        self, subject: x509.Name, kind: KeyKind, names: x509.SubjectAlternativeName | None, *, days: int, now: datetime
    ) -> Issued:
        key: PrivateKey = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ec"
            else rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            # A certificate that outlives its authority is worth nothing from then on, and looks as if it was.
            .not_valid_after(min(now + timedelta(days=days), self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # Two of OCPP's four cipher suites encrypt to the RSA key.
            .add_extension(_usage(digital_signature=True, key_encipherment=kind == "rsa"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


def pem(content: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """``content`` as text."""
    return content.public_bytes(serialization.Encoding.PEM)


def is_host(text: str) -> bool:
    """A name that a certificate can have."""
    return _HOST.fullmatch(text) is not None and len(text) <= _LONGEST_HOST


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(organization: str, common_name: str) -> x509.Name:
    if not organization.strip():
        raise ValueError("the organization says nothing")
    if not common_name.strip():
        raise ValueError("the common name says nothing")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not is_host(host):
        raise ValueError(f"{host!r} is neither a host name nor an IP address (no scheme, no port; ASCII)")
    return x509.DNSName(host)


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_encipherment=key_encipherment,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
