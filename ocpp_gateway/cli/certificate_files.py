"""Certificates and revocation lists in files, PEM or DER, and what they say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.pki_files import read
from ocpp_gateway.clock import iso_millis

if TYPE_CHECKING:
    from collections.abc import Iterator

_PEM = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----.+?-----END \1-----", re.DOTALL)
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
_SUFFIXES = frozenset((".pem", ".crt", ".cer", ".der", ".crl"))
_DAY = 86_400.0

Content = x509.Certificate | x509.CertificateRevocationList


@frozen
class Described:
    """A certificate or a list, as people and programs want to know it. ``members`` is JSON in the order to show."""

    file: Path
    kind: str
    """``certificate`` or ``crl``."""

    members: dict[str, Any]
    until: float | None
    """The end of its validity, seconds since the epoch; None for a list without one."""

    def days_left(self, now: float) -> int | None:
        """Whole days until then; negative once it is over."""
        return None if self.until is None else int((self.until - now) // _DAY)


def contents(path: Path) -> list[Content]:
    """All certificates and lists in a file, in its order. Raises Failure if there are none."""
    raw = read(path)
    try:
        found = list(_parsed(raw))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Failure(f"{path} has a certificate or a list that cannot be read: {error}") from None
    if found:
        return found
    if b"PRIVATE KEY-----" in raw:
        raise Failure(f"{path} has a private key and no certificate.")
    raise Failure(f"{path} has no certificate, neither in PEM nor in DER.")


def certificate_in(path: Path) -> x509.Certificate:
    """The first certificate in a file: that of its owner, where a chain follows. Raises Failure."""
    for content in contents(path):
        if isinstance(content, x509.Certificate):
            return content
    raise Failure(f"{path} has a revocation list and no certificate.")


def facts_of(certificate: x509.Certificate, path: Path) -> ClientCertificate:
    """What the gateway sees in ``certificate``. Raises Failure if it would not take it."""
    try:
        return ClientCertificate.of(certificate)
    except AuthenticationFailed:
        raise Failure(f"{path} has a certificate with a broken extension or name: the gateway refuses it.") from None


def is_authority(certificate: x509.Certificate) -> bool:
    """It may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def fingerprint_in(text: str) -> str | None:
    """``text`` as a SHA-256 fingerprint the way it is stored, None if it is none."""
    return text.replace(":", "").upper() if _FINGERPRINT.fullmatch(text) else None


def files_of(place: Path) -> list[Path]:
    """``place`` itself, or the files in that directory that may hold certificates."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def described(content: Content, path: Path) -> Described:
    """What ``content`` says. Raises Failure."""
    if isinstance(content, x509.Certificate):
        facts = facts_of(content, path)
        members = {
            "subject": facts.subject,
            "issuer": facts.issuer,
            "subjectAltName": list(facts.alternative_names),
            "serialNumber": facts.serial_number,
            "fingerprint": facts.fingerprint,
            "notBefore": iso_millis(facts.not_before),
            "notAfter": iso_millis(facts.not_after),
            "key": _key(content),
            "isAuthority": is_authority(content),
        }
        return Described(path, "certificate", members, facts.not_after)
    until = content.next_update_utc
    members = {
        "issuer": content.issuer.rfc4514_string(),
        "lastUpdate": _iso(content.last_update_utc),
        "nextUpdate": None if until is None else _iso(until),
        "number": number_of(content),
        "revoked": [f"{entry.serial_number:X}" for entry in content],
    }
    return Described(path, "crl", members, None if until is None else until.timestamp())


def _parsed(raw: bytes) -> Iterator[Content]:
    matches = list(_PEM.finditer(raw))
    for match in matches:
        if match[1] == b"CERTIFICATE":
            yield x509.load_pem_x509_certificate(match[0])
        else:
            yield x509.load_pem_x509_crl(match[0])
    if matches or not raw.startswith(b"\x30"):  # DER of both begins with a SEQUENCE
        return
    try:
        yield x509.load_der_x509_certificate(raw)
    except ValueError:
        yield x509.load_der_x509_crl(raw)


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"ECDSA {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def number_of(content: x509.CertificateRevocationList) -> int | None:
    """A list's number, if it has one."""
    try:
        return content.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return None


def _iso(when: datetime) -> str:
    return iso_millis(when.astimezone(UTC).timestamp())
