"""Throw-away authorities, certificates and revocation lists; nothing of the product is used to make them."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def make_key(kind: str = "ec") -> PrivateKey:
    """A new private key: ``ec`` (P-256), ``rsa`` (2048 bits), ``rsa1024`` or ``ed25519``."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if kind == "rsa1024" else 2048)


def key_to_pem(key: PrivateKey, password: str | None = None) -> bytes:
    protection = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password.encode())
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def days(number: float) -> datetime:
    """So many days from now; before now if negative."""
    return datetime.now(UTC) + timedelta(days=number)


def distinguished_name(common_name: str | None, organization: str | None = None) -> x509.Name:
    attributes = []
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def alternative_name(text: str) -> x509.GeneralName:
    """``DNS:host``, ``URI:urn:x``, ``IP:10.0.0.1``, ``email:a@b``; without a prefix: a DNS name."""
    kind, colon, value = text.partition(":")
    if kind == "URI":
        return x509.UniformResourceIdentifier(value)
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    if kind == "email":
        return x509.RFC822Name(value)
    return x509.DNSName(value if kind == "DNS" and colon else text)


@frozen
class Issued:
    """A certificate with its private key and the authorities between it and the root."""

    certificate: x509.Certificate
    key: PrivateKey
    intermediates_pem: bytes = b""

    @property
    def cert_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        """The certificate, then each intermediate authority: what a peer sends."""
        return self.cert_pem + self.intermediates_pem

    @property
    def key_pem(self) -> bytes:
        return key_to_pem(self.key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, upper-case hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Writes ``name.pem`` (with its chain) and ``name.key``; the two paths."""
        cert_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
        cert_path.write_bytes(self.chain_pem)
        key_path.touch(mode=0o600)
        key_path.write_bytes(self.key_pem)
        return cert_path, key_path


@define(eq=False)
class Authority:
    """A certificate authority: a root, or one below ``parent``."""

    name: str
    key: str = field(default="ec", kw_only=True)
    parent: Authority | None = field(default=None, kw_only=True)
    not_before: datetime | None = field(default=None, kw_only=True)
    not_after: datetime | None = field(default=None, kw_only=True)
    signs_crls: bool = field(default=True, kw_only=True)
    private_key: PrivateKey = field(init=False)
    certificate: x509.Certificate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.private_key = make_key(self.key)
        subject = distinguished_name(self.name)
        signer = self.parent or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self.parent is None else self.parent.certificate.subject)
            .public_key(self.private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before or days(-30))
            .not_valid_after(self.not_after or days(365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.private_key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=self.signs_crls,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        self.certificate = builder.sign(signer.private_key, hashes.SHA256())

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def intermediates_pem(self) -> bytes:
        """This authority and those above it, without the root."""
        return b"" if self.parent is None else self.certificate_pem + self.parent.intermediates_pem

    def issue(
        self,
        common_name: str | None,
        *,
        key: str | PrivateKey = "ec",
        organization: str | None = "Example Charging",
        subject: x509.Name | None = None,
        sans: Iterable[str] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        client: bool = True,
        ca: bool = False,
        serial_number: int | None = None,
    ) -> Issued:
        """A certificate signed by this authority, for a client or a server; ``key``: a kind or a key to keep."""
        private_key = make_key(key) if isinstance(key, str) else key
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject or distinguished_name(common_name, organization))
            .issuer_name(self.certificate.subject)
            .public_key(private_key.public_key())
            .serial_number(serial_number or x509.random_serial_number())
            .not_valid_before(not_before or days(-1))
            .not_valid_after(not_after or days(30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key()), critical=False
            )
        )
        if names := [alternative_name(text) for text in sans]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(builder.sign(self.private_key, hashes.SHA256()), private_key, self.intermediates_pem)

    def crl(
        self,
        revoked: Iterable[x509.Certificate | Issued] = (),
        next_update: datetime | None = None,
        *,
        last_update: datetime | None = None,
        encoding: str = "pem",
        with_akid: bool = True,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> bytes:
        """This authority's revocation list, as ``pem`` or ``der``; valid for a week if not said otherwise.

        ``extensions``: more of them, each with whether it is critical.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(last_update or days(-1))
            .next_update(next_update or days(7))
        )
        if with_akid:
            akid = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key())
            builder = builder.add_extension(akid, critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        for each in revoked:
            certificate = each.certificate if isinstance(each, Issued) else each
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(days(-1))
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self.private_key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER if encoding == "der" else serialization.Encoding.PEM)


@define(eq=False)
class Pki:
    """An operator's authorities and TLS files in ``directory``, and clients that trust its servers.

    The server certificates, one ECDSA and one RSA, come from an intermediate authority: clients know only its root.
    ``chargers`` and ``retired`` are in the CA bundle for client certificates, ``foreign`` is not.
    """

    directory: Path
    server_root: Authority = field(init=False, factory=lambda: Authority("Example Server Root"))
    chargers: Authority = field(init=False, factory=lambda: Authority("Example Charger CA"))
    retired: Authority = field(init=False, factory=lambda: Authority("Example Retired CA"))
    foreign: Authority = field(init=False, factory=lambda: Authority("Somebody Else's CA"))

    def __attrs_post_init__(self) -> None:
        below = Authority("Example Server CA", parent=self.server_root)
        for kind in ("ec", "rsa"):
            server = below.issue("gateway.example.com", key=kind, sans=["IP:127.0.0.1"], client=False)
            server.write(self.directory, f"server-{kind}")
        (self.directory / "server-root.pem").write_bytes(self.server_root.certificate_pem)
        bundle = self.chargers.certificate_pem + self.retired.certificate_pem
        (self.directory / "chargers.pem").write_bytes(bundle)

    def settings(self, client_auth: str, *crls: Path) -> dict[str, str]:
        """A gateway's, with TLS on its OCPP port."""
        return {
            "OCPP_TLS_ENABLED": "true",
            "OCPP_TLS_CLIENT_AUTH": client_auth,
            "OCPP_TLS_CERT_PATH": ",".join(str(self.directory / f"server-{kind}.pem") for kind in ("ec", "rsa")),
            "OCPP_TLS_KEY_PATH": ",".join(str(self.directory / f"server-{kind}.key") for kind in ("ec", "rsa")),
            "OCPP_TLS_CA_PATH": str(self.directory / "chargers.pem"),
            "OCPP_TLS_CRL_PATH": ",".join(map(str, crls)),
        }

    def write(self, issued: Issued) -> tuple[Path, Path]:
        """A client's certificate and key as files; the two paths."""
        return issued.write(self.directory, f"client-{issued.fingerprint[:16]}")

    def client(
        self, issued: Issued | None = None, *, version: ssl.TLSVersion | None = None, ciphers: str | None = None
    ) -> ssl.SSLContext:
        """A charge point's side: shows ``issued``, speaks ``version`` only; ``ciphers`` are those of TLS 1.2."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.directory / "server-root.pem")
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if ciphers is not None:
            context.set_ciphers(ciphers)
        if issued is not None:
            context.load_cert_chain(*self.write(issued))
        return context
