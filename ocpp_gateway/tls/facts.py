"""What /metrics tells about TLS: what is in force, and until when."""

from __future__ import annotations

from attrs import frozen

from ocpp_gateway.tls.material import TlsMaterial


@frozen
class CertificateFacts:
    """``name``: of one of our own, common name and type of key; of a CA, its subject (RFC 4514)."""

    name: str
    not_after: float
    """Seconds since the epoch."""


@frozen
class RevocationFacts:
    """A CRL in force. Times are seconds since the epoch; ``next_update`` None: none is promised."""

    issuer: str
    last_update: float
    next_update: float | None


@frozen
class TlsFacts:
    """What is in force."""

    certificates: tuple[CertificateFacts, ...] = ()
    authorities: tuple[CertificateFacts, ...] = ()
    revocation_lists: tuple[RevocationFacts, ...] = ()
    is_broken: bool = False
    """The files as they are now cannot be used; what is in force is what they were before."""

    @classmethod
    def of(cls, material: TlsMaterial, *, is_broken: bool) -> TlsFacts:
        """What is to be told about ``material``."""
        return cls(
            certificates=tuple(
                CertificateFacts(each.name, each.chain[0].not_valid_after_utc.timestamp()) for each in material.servers
            ),
            authorities=tuple(
                CertificateFacts(each.subject.rfc4514_string(), each.not_valid_after_utc.timestamp())
                for each in material.authorities
            ),
            revocation_lists=tuple(
                RevocationFacts(each.issuer, each.last_update, each.next_update) for each in material.revocation_lists
            ),
            is_broken=is_broken,
        )
