"""Who is revoked, by the lists in force.

OpenSSL could look this up itself, but then it verifies the whole list again in every handshake - five milliseconds of
the reactor for a list of 100,000 - and holds a copy of it in every context. It also asks nobody about the CA that a
chain ends at. The lists have been verified when they were read (``revocation``); here a certificate costs microseconds,
however long they are, and every level is looked at, in the bundle above the chain as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen
from cryptography import x509

from ocpp_gateway.tls.material import RevocationList, name_key


@frozen
class _Authority:
    issuer: str | None
    """None: itself."""

    serial_number: int


@frozen(eq=False)
class Revocations:
    """The lists by their issuers, and how the CAs of the bundle hang together."""

    _lists: Mapping[str, Sequence[RevocationList]] = field(factory=dict, repr=False)
    _authorities: Mapping[str, Sequence[_Authority]] = field(factory=dict, repr=False)

    @classmethod
    def of(cls, lists: Iterable[RevocationList], bundle: Iterable[x509.Certificate]) -> Revocations:
        """Index of ``lists``, all of them issued by CAs of ``bundle``."""
        by_issuer: dict[str, list[RevocationList]] = {}
        for each in lists:
            by_issuer.setdefault(name_key(each.issuer), []).append(each)
        by_subject: dict[str, list[_Authority]] = {}
        for certificate in bundle:
            subject = name_key(certificate.subject.rfc4514_string())
            issuer = None if certificate.issuer == certificate.subject else certificate.issuer.rfc4514_string()
            authority = _Authority(None if issuer is None else name_key(issuer), certificate.serial_number)
            by_subject.setdefault(subject, []).append(authority)
        return cls(by_issuer, by_subject)

    def __bool__(self) -> bool:
        return bool(self._lists)

    def fault(self, issuer: str, serial_number: int, now: float) -> str | None:
        """What the lists have against the certificate of ``issuer`` (RFC 4514 text) with that number.

        ``mtls_revoked``; ``mtls_crl_expired`` where the list that would tell is out of date at ``now`` (seconds since
        the epoch); None if nothing. The same is asked of the CAs above it, as far as the bundle has them: what a
        revoked one has issued is no better. No list of an issuer: nothing is known against what it has issued.
        """
        if not self._lists:
            return None
        return self._fault(name_key(issuer), serial_number, now, frozenset())

    def _fault(self, issuer: str, serial_number: int, now: float, passed: frozenset[str]) -> str | None:
        lists = self._lists.get(issuer, ())
        if any(serial_number in each.serial_numbers for each in lists):
            return "mtls_revoked"
        above = self._fault_above(issuer, now, passed)
        if above is None and not all(each.is_current(now) for each in lists):
            return "mtls_crl_expired"
        return above

    def _fault_above(self, issuer: str, now: float, passed: frozenset[str]) -> str | None:
        """Of several CAs named ``issuer`` one that is good will do: which of them it was, the name does not tell.

        ``passed``: the names on the way here. CAs may have certified one another, in a circle.
        """
        first = None
        for each in () if issuer in passed else self._authorities.get(issuer, ()):
            above = each.issuer
            fault = None if above is None else self._fault(above, each.serial_number, now, passed | {issuer})
            if fault is None:
                return None
            first = first or fault
        return first
