"""What a client certificate says about itself, as plain values.

TLS has verified the chain and the possession of the key before anything here is asked. Its validity times TLS has left
to us (a charge point whose certificate ran out may be let in to renew it, A00.FR.429 of OCPP 2.0.1), and so has it who
the certificate belongs to: the identity is known only when the request has been read.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from ocpp_gateway.auth.errors import AuthenticationFailed


@frozen
class ClientCertificate:
    """A verified client certificate.

    ``fingerprint``: SHA-256 of the DER in upper-case hex without colons. ``subject`` and ``issuer``: RFC 4514.
    ``common_name``: of several, the last one in the certificate, which is the most specific. ``alternative_names``:
    such as ``DNS:cp-1.example.com`` (lower case), ``URI:urn:x``, ``IP:10.0.0.1``, ``email:a@b``; other kinds are left
    out. ``serial_number``: upper-case hex without leading zeros. Times are seconds since the epoch; both belong to the
    validity.
    """

    fingerprint: str
    subject: str
    common_name: str | None
    organizations: tuple[str, ...]
    alternative_names: tuple[str, ...]
    serial_number: str
    issuer: str
    not_before: float
    not_after: float

    @classmethod
    def of(cls, certificate: x509.Certificate) -> ClientCertificate:
        """Read ``certificate``. Raises AuthenticationFailed ``mtls_not_authorized`` if a part of it is malformed."""
        try:
            with warnings.catch_warnings():
                # A country of three letters, say. It is for the authority to mend, not for our log to repeat.
                warnings.simplefilter("ignore")
                return cls._read(certificate)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise AuthenticationFailed("mtls_not_authorized") from None

    @classmethod
    def _read(cls, certificate: x509.Certificate) -> ClientCertificate:
        common_names = _texts(certificate.subject, NameOID.COMMON_NAME)
        return cls(
            fingerprint=certificate.fingerprint(SHA256()).hex().upper(),
            subject=certificate.subject.rfc4514_string(),
            common_name=common_names[-1] if common_names else None,
            organizations=_texts(certificate.subject, NameOID.ORGANIZATION_NAME),
            alternative_names=tuple(_alternative_names(certificate)),
            serial_number=f"{certificate.serial_number:X}",
            # Every session holds its certificate, and a fleet has few issuers.
            issuer=sys.intern(certificate.issuer.rfc4514_string()),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )


def _texts(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    values = (attribute.value for attribute in name.get_attributes_for_oid(oid))
    return tuple(value for value in values if isinstance(value, str) and value)


def _alternative_names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    for name in extension.value:
        match name:
            case x509.DNSName():
                yield f"DNS:{name.value.lower()}"
            case x509.UniformResourceIdentifier():
                yield f"URI:{name.value}"
            case x509.IPAddress():
                yield f"IP:{name.value}"
            case x509.RFC822Name():
                yield f"email:{name.value}"
