"""What TLS is made of, read and checked; nothing in here has a file's text or a secret in its repr."""

from __future__ import annotations

import math

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ocpp_gateway.errors import GatewayError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
"""What the suites that OCPP requires can sign with (A00.FR.318 of OCPP 2.0.1, A00.FR.317 of the 1.6 whitepaper)."""


class TlsFilesBroken(GatewayError):
    """The TLS files cannot be used as they are. ``problems``: one line each, beginning with the file's name."""

    reason = "tls_files_broken"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@define
class Findings:
    """What is noticed while files are read: ``problems`` forbid their use, ``warnings`` are for the log."""

    problems: list[str] = field(factory=list)
    warnings: list[str] = field(factory=list)


@frozen(eq=False)
class ServerCertificate:
    """One of our certificates with the private key that belongs to it."""

    file: str
    name: str
    """Common name of the subject and type of the key: ``gateway.example.com (EC)``."""

    chain: tuple[x509.Certificate, ...]
    """The certificate itself, then those between it and the root, as they are sent to clients."""

    key: PrivateKey = field(repr=False)


@frozen(eq=False)
class RevocationList:
    """What one CA has revoked (RFC 5280 section 5); its signature has been verified."""

    issuer: str
    """RFC 4514 text."""

    last_update: float
    next_update: float | None
    """Seconds since the epoch; None: the CA promises no next one."""

    serial_numbers: frozenset[int] = field(repr=False)

    def is_current(self, now: float) -> bool:
        """Whether its issuer stands by it at ``now``."""
        return self.last_update <= now and (self.next_update is None or now <= self.next_update)


@frozen(eq=False)
class TlsMaterial:
    """All that the TLS files say, consistent in itself."""

    servers: tuple[ServerCertificate, ...]
    authorities: tuple[x509.Certificate, ...]
    """The CA bundle: each is trusted by itself."""

    revocation_lists: tuple[RevocationList, ...]
    warnings: tuple[str, ...]
    """Nothing that keeps the files from being used, but an operator should know. One line each."""

    digest: bytes = field(repr=False)
    """SHA-256 over everything that was read: equal digests, equal files."""

    clients_digest: bytes = field(repr=False)
    """The same over CA bundle and CRLs: what client certificates are judged by."""

    def next_end(self, now: float) -> float:
        """When, after ``now``, the first CA or CRL comes to its end (seconds since the epoch; or infinity)."""
        ends = [each.not_valid_after_utc.timestamp() for each in self.authorities]
        ends += [each.next_update for each in self.revocation_lists if each.next_update is not None]
        # One past the last second in which it was good.
        return min((end + 1 for end in ends if end + 1 > now), default=math.inf)


def name_key(name: str) -> str:
    """A distinguished name as it is compared: letter case and runs of blanks do not count (RFC 5280 section 7.1)."""
    return " ".join(name.casefold().split())


def common_name(name: x509.Name) -> str:
    """The common name, or all of the name if it has none."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[-1].value) if found else name.rfc4514_string()
