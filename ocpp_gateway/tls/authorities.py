"""The CAs whose client certificates are accepted: one bundle, of as many operators and makers as there are."""

from __future__ import annotations

from cryptography import x509

from ocpp_gateway.tls import pem
from ocpp_gateway.tls.material import Findings, common_name


def authorities(file: str, data: bytes, now: float, found: Findings) -> tuple[x509.Certificate, ...]:
    """The CA certificates in a PEM bundle, each once. What is no CA's goes to ``found.problems``."""
    bundle = tuple(dict.fromkeys(pem.certificates(file, data, found)))
    for certificate in bundle:
        name = common_name(certificate.subject)
        if not _is_authority(certificate):
            found.problems.append(f"{file}: the certificate of {name} is not a CA's: take it out of the CA bundle")
        if certificate.not_valid_after_utc.timestamp() < now:
            found.warnings.append(f"{file}: the CA {name} has expired: its charge points will not get in")
        if certificate.not_valid_before_utc.timestamp() > now:
            found.warnings.append(f"{file}: the CA {name} is not valid yet: its charge points will not get in")
    return bundle


def _is_authority(certificate: x509.Certificate) -> bool:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            return extension.value.ca
    # Roots from before X.509 version 3 say nothing about it.
    return certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject
