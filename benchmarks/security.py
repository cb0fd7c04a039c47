"""How charge points and servers protect their connections: the rows of the handshake and memory benchmarks."""

from __future__ import annotations

import ssl
from enum import StrEnum
from pathlib import Path

from attrs import define, field, frozen
from certificates import Authority, ClientIdentity, KeyKind

IDENTITY = "CP-B%05d"
"""The identity of a charge point, and the common name of its certificate; the number counts from 1."""


class Protection(StrEnum):
    """From nothing to OCPP's security profile 3. All TLS here is version 1.3."""

    PLAIN = "plain"
    TLS = "tls"
    MTLS = "mtls-ecdsa"
    MTLS_RSA = "mtls-rsa"
    MTLS_RESUMED = "mtls-resumed"

    def prepare(self, directory: Path, charge_points: int) -> Security | None:
        """The keys and certificates for it, as files below ``directory``; None: it needs none."""
        if self is Protection.PLAIN:
            return None
        folder = directory / self
        folder.mkdir()
        authority = Authority.create(KeyKind.RSA if self is Protection.MTLS_RSA else KeyKind.ECDSA, folder)
        is_mutual = self is not Protection.TLS
        return Security(
            authority=authority,
            charge_points=authority.charge_points(IDENTITY, charge_points) if is_mutual else [],
            resumes=self is Protection.MTLS_RESUMED,
        )


@frozen(kw_only=True)
class Security:
    """What the two ends of a protected connection need."""

    authority: Authority
    charge_points: list[ClientIdentity]
    """By number, from 1. Not empty: the server demands client certificates."""
    resumes: bool = False
    """Charge points come back with the session of their last connection."""

    def client(self) -> ClientTls:
        return ClientTls(self.authority.certificate_path, self.charge_points, self.resumes)


@define
class ClientTls:
    """TLS as the charge points do it: the server's certificate and its name are checked."""

    authority_path: Path
    identities: list[ClientIdentity]
    resumes: bool = False
    _contexts: dict[int, ssl.SSLContext] = field(factory=dict, repr=False)

    def context(self, number: int) -> ssl.SSLContext:
        """The context of charge point ``number``; they share one where they show no certificates."""
        key = number if self.identities else 0
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = self._new_context(number)
        return context

    def _new_context(self, number: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.authority_path)
        if self.identities:
            context.load_cert_chain(self.identities[number - 1].path)
        return context
