"""Bundles of very many authorities: their names need not fit into a handshake for charge points to get in."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from attrs import frozen
from OpenSSL import SSL
from support.certificates import Authority, Issued
from tls_support import Files, client_context
from twisted.internet import reactor
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from ocpp_gateway.tls.policy import ClientAuth

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
FEW, MANY = 20, 600


@pytest.fixture(scope="module")
def operators() -> list[Authority]:
    many = [Authority(f"Operator {number:04} Charging Infrastructure Issuing CA") for number in range(MANY)]
    # More than Twisted sends of a handshake's flight.
    assert sum(len(each.certificate.subject.public_bytes()) for each in many) > 32_768
    return many


@pytest.fixture
def bundled(tmp_path: Path, ec_server: Issued) -> Files:
    return Files(tmp_path, [ec_server])


class Greeting(Protocol):
    def dataReceived(self, data: bytes) -> None:
        shown = self.transport.getHandle().get_peer_certificate(as_cryptography=True)
        self.transport.write(shown.subject.rfc4514_string().encode() if shown is not None else b"nobody")


@implementer(IOpenSSLServerConnectionCreator)
@frozen(eq=False)
class Creator:
    context: SSL.Context

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def greeted(port: int, client: ssl.SSLContext) -> bytes:
    """A blocking client, for a thread: how it is called."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        client.wrap_socket(plain, server_hostname="gateway.example.com") as secure,
    ):
        secure.sendall(b"hello")
        return secure.recv(100)


@pytest.mark.parametrize("client_auth", [ClientAuth.OPTIONAL, ClientAuth.REQUIRED])
async def test_charge_points_of_each_of_many_authorities_get_in(
    bundled: Files, root: Authority, operators: list[Authority], client_auth: ClientAuth
) -> None:
    bundled.bundle = operators
    factory = Factory.forProtocol(Greeting)
    wrapped = TLSMemoryBIOFactory(Creator(bundled.context(client_auth)), isClient=False, wrappedFactory=factory)
    factory.noisy = wrapped.noisy = False
    port = reactor.listenTCP(0, wrapped, interface="127.0.0.1")
    for version in VERSIONS:
        for authority in (operators[0], operators[-1]):
            client = client_context(bundled.directory, root, authority.issue("CP-1"), version=version)
            assert await deferToThread(greeted, port.getHost().port, client) == b"CN=CP-1,O=Example Charging"
    await port.stopListening()


def names_told(context: SSL.Context, version: int) -> list[str]:
    """The authorities that a client hears of."""
    theirs = SSL.Context(SSL.TLS_CLIENT_METHOD)
    theirs.set_min_proto_version(version)
    theirs.set_max_proto_version(version)
    client, server = SSL.Connection(theirs, None), SSL.Connection(context, None)
    client.set_connect_state()
    server.set_accept_state()
    for one, another in ((client, server), (server, client)):
        with pytest.raises(SSL.WantReadError):
            one.do_handshake()
        another.bio_write(one.bio_read(1 << 16))
    with contextlib.suppress(SSL.WantReadError):  # TLS 1.2 has another round trip
        client.do_handshake()
    return [str(name.CN) for name in client.get_client_ca_list()]


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("client_auth", [ClientAuth.OPTIONAL, ClientAuth.REQUIRED])
def test_names_are_told_if_they_are_few(
    bundled: Files, operators: list[Authority], client_auth: ClientAuth, version: int
) -> None:
    bundled.bundle = operators[:FEW]
    assert names_told(bundled.context(client_auth), version) == [each.name for each in operators[:FEW]]
    bundled.bundle = operators
    assert names_told(bundled.context(client_auth), version) == []
