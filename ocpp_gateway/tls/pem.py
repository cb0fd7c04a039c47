"""PEM files taken apart (RFC 7468): several objects in one file, of the kinds that are looked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cryptography import x509

from ocpp_gateway.tls.material import Findings

CERTIFICATES = frozenset(("CERTIFICATE", "X509 CERTIFICATE"))
_BEGIN = b"-----BEGIN "
# Linear: a block holds no boundary, so that none is looked for beyond the next one.
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s((?:(?!-----).)*+)-----END \1-----", re.DOTALL)


def blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Each object of a PEM file, in order: its label and its text with both boundaries."""
    return [(match[1].decode("ascii"), match[0] + b"\n") for match in _BLOCK.finditer(data)]


def is_whole(file: str, data: bytes, objects: Sequence[object], found: Findings) -> bool:
    """Whether every object that ``data`` begins is among ``objects``; if not, that goes to ``found.problems``.

    A file that is cut off, by a full disk or because it is still being written, would else be taken for a shorter one:
    one list less, and whoever is on it is welcome again.
    """
    if data.count(_BEGIN) == len(objects):
        return True
    found.problems.append(f"{file}: is cut off or damaged: there is a BEGIN without its END")
    return False


def certificates(file: str, data: bytes, found: Findings) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file in their order; objects of other kinds are passed over.

    What is unreadable, or that there is none at all, goes to ``found.problems``.
    """
    objects = blocks(data)
    if objects and not is_whole(file, data, objects, found):
        return ()
    certs: list[x509.Certificate] = []
    for label, text in objects:
        if label not in CERTIFICATES:
            continue
        number = len(certs) + 1
        try:
            certificate = x509.load_pem_x509_certificate(text)
            # All of these are decoded when first asked for.
            _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key()
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except Exception:
            found.problems.append(f"{file}: certificate {number} cannot be read: replace it by one that is whole")
            return ()
        certs.append(certificate)
    if not certs:
        found.problems.append(f"{file}: {nothing_of('certificate (BEGIN CERTIFICATE)', data, objects)}")
    return tuple(certs)


def nothing_of(wanted: str, data: bytes, objects: Iterable[tuple[str, bytes]]) -> str:
    """Why there is no ``wanted`` in a file: for the text of a problem."""
    labels = sorted({label for label, _ in objects})
    if not data.strip():
        return f"is empty; it must hold a {wanted}"
    if labels:
        return f"holds no {wanted}, but {', '.join(labels)}"
    return f"holds no {wanted}; the file must be PEM, whole from BEGIN to END"
