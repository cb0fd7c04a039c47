"""Throw-away certificates: an authority, a server, and as many charge points as a benchmark needs.

All charge points of one authority share a private key, because making an RSA key takes a tenth of a second and more;
each has a certificate, and so a fingerprint, of its own. To a server the work is the same.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_NAME = "localhost"
"""What the server's certificate is for; it names 127.0.0.1 too."""

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyKind(StrEnum):
    """Of every key in a chain: the authority's, the server's and the charge points'."""

    ECDSA = "ecdsa"  # P-256
    RSA = "rsa"  # 2048 bits

    def new_key(self) -> _Key:
        if self is KeyKind.ECDSA:
            return ec.generate_private_key(ec.SECP256R1())
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@frozen
class ClientIdentity:
    """A charge point's certificate: a PEM file with its key, and the SHA-256 of its DER in upper-case hex."""

    path: Path
    fingerprint: str


@frozen(kw_only=True)
class Authority:
    """A CA and the server's certificate, as PEM files in ``directory``."""

    kind: KeyKind
    directory: Path
    certificate_path: Path
    server_certificate_path: Path
    server_key_path: Path
    _certificate: x509.Certificate = field(repr=False)
    _key: _Key = field(repr=False)
    _client_key: _Key = field(repr=False)

    @classmethod
    def create(cls, kind: KeyKind, directory: Path) -> Authority:
        """Make keys and certificates; their files begin with the kind."""
        key, server_key = kind.new_key(), kind.new_key()
        name = _name("Benchmark CA")
        basic, usage = x509.BasicConstraints(ca=True, path_length=0), _key_usage(is_authority=True)
        certificate = (
            _builder(name, name, key)
            .add_extension(basic, critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        authority = cls(
            kind=kind,
            directory=directory,
            certificate_path=directory / f"{kind}-ca.pem",
            server_certificate_path=directory / f"{kind}-server.pem",
            server_key_path=directory / f"{kind}-server.key",
            certificate=certificate,
            key=key,
            client_key=kind.new_key(),
        )
        names = [x509.DNSName(SERVER_NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        server = authority._signed(SERVER_NAME, server_key, ExtendedKeyUsageOID.SERVER_AUTH, names)
        authority.certificate_path.write_bytes(_pem(certificate))
        authority.server_certificate_path.write_bytes(_pem(server))
        authority.server_key_path.touch(mode=0o600)  # or the gateway complains
        authority.server_key_path.write_bytes(_key_pem(server_key))
        return authority

    def charge_points(self, template: str, count: int) -> list[ClientIdentity]:
        """Certificates whose common names are ``template`` with the numbers 1 to ``count``."""
        key_pem = _key_pem(self._client_key)
        identities = []
        for number in range(1, count + 1):
            name = template % number
            certificate = self._signed(name, self._client_key, ExtendedKeyUsageOID.CLIENT_AUTH, [])
            path = self.directory / f"{self.kind}-{name}.pem"
            path.write_bytes(key_pem + _pem(certificate))
            identities.append(ClientIdentity(path, certificate.fingerprint(hashes.SHA256()).hex().upper()))
        return identities

    def _signed(
        self, name: str, key: _Key, purpose: x509.ObjectIdentifier, alternatives: list[x509.GeneralName]
    ) -> x509.Certificate:
        builder = (
            _builder(_name(name), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: _Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Benchmark"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
