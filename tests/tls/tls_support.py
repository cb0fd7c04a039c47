"""TLS handshakes in memory: our context on one side, Python's ssl (another OpenSSL) on the other."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from attrs import define, field
from cryptography import x509
from OpenSSL import SSL
from support.certificates import Authority, Issued, days

from ocpp_gateway.tls.contexts import build_context
from ocpp_gateway.tls.failures import refusal_reason
from ocpp_gateway.tls.files import TlsPaths, read
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.revoked import Revocations


@define
class Shaken:
    """A handshake that was driven as far as it went."""

    client: ssl.SSLObject
    server: SSL.Connection
    client_error: Exception | None
    server_error: Exception | None
    outgoing: ssl.MemoryBIO
    incoming: ssl.MemoryBIO

    @property
    def is_done(self) -> bool:
        return self.client_error is None and self.server_error is None

    @property
    def reason(self) -> str | None:
        assert self.server_error is not None
        return refusal_reason(self.server, self.server_error)

    @property
    def shown(self) -> x509.Certificate | None:
        """The client's certificate, as our side has it."""
        return self.server.get_peer_certificate(as_cryptography=True)


def shake(context: SSL.Context, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Shaken:
    """One handshake, with a byte of application data each way behind it, so that session tickets arrive."""
    server = SSL.Connection(context, None)
    server.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(incoming, outgoing, server_hostname="gateway.example.com", session=session)
    shaken = Shaken(ours, server, None, None, outgoing, incoming)
    client_step: Any = ours.do_handshake
    server_step: Any = server.do_handshake
    for _ in range(12):
        try:
            if client_step is not None and shaken.client_error is None:
                client_step()
                client_step = None
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            shaken.client_error = error
        if outgoing.pending:
            server.bio_write(outgoing.read())
        try:
            if server_step is not None and shaken.server_error is None:
                server_step()
                server_step = None
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            shaken.server_error = error
        carry(server, incoming)
        if client_step is None and server_step is None:
            break
    if shaken.is_done:
        server.send(b"s")
        carry(server, incoming)
        try:
            assert ours.read(1) == b"s"
        except ssl.SSLError as error:  # TLS 1.3 tells the client only now that its certificate was refused
            shaken.client_error = error
    return shaken


def carry(server: SSL.Connection, incoming: ssl.MemoryBIO) -> None:
    while True:
        try:
            incoming.write(server.bio_read(1 << 16))
        except SSL.WantReadError:
            return


def client_context(
    directory: Path,
    trusted: Authority,
    issued: Issued | None = None,
    *,
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """A charge point's side: trusts ``trusted``, shows ``issued``, speaks ``version`` only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trusted.certificate_pem.decode())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if issued is not None:
        context.load_cert_chain(*issued.write(directory, f"client-{issued.certificate.serial_number:x}"))
    return context


@define
class Files:
    """An operator's TLS files in ``directory``."""

    directory: Path
    servers: list[Issued]
    bundle: list[Authority] = field(factory=list)
    crls: list[bytes] = field(factory=list)

    def write(self) -> TlsPaths:
        certificates, keys = [], []
        for place, each in enumerate(self.servers):
            cert, key = each.write(self.directory, f"server-{place}")
            certificates.append(str(cert))
            keys.append(str(key))
        ca = None
        if self.bundle:
            ca = str(self.directory / "ca.pem")
            Path(ca).write_bytes(b"".join(each.certificate_pem for each in self.bundle))
        crls = []
        for place, data in enumerate(self.crls):
            path = self.directory / f"revoked-{place}.crl"
            path.write_bytes(data)
            crls.append(str(path))
        return TlsPaths(tuple(certificates), tuple(keys), ca, tuple(crls))

    def context(self, client_auth: ClientAuth = ClientAuth.OFF, policy: TlsPolicy | None = None) -> SSL.Context:
        now = days(0).timestamp()
        material = read(self.write(), now=now)
        revocations = Revocations.of(material.revocation_lists, material.authorities)

        def fault(certificate: x509.Certificate) -> str | None:
            return revocations.fault(certificate.issuer.rfc4514_string(), certificate.serial_number, now)

        return build_context(material, policy or TlsPolicy(), client_auth, fault)
