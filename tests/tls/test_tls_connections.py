"""Our contexts under Twisted's TLS: what a protocol learns of a handshake that failed, and what is left behind."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import weakref
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from OpenSSL import SSL
from support.certificates import Authority, Issued, days
from support.manual_clock import ManualClock
from tls_support import Files, client_context, shake
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from ocpp_gateway.tls.failures import refusal_reason
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.reloading import TlsContexts


@define
class Listening:
    """A port with TLS, and the reasons for which its handshakes failed."""

    port: Any
    reasons: Deferred[str | None] = field(factory=Deferred)


class Ended(Protocol):
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        ended, self.factory.listening.reasons = self.factory.listening.reasons, Deferred()
        ended.callback(refusal_reason(self.transport.getHandle(), reason.value))


def contexts_of(files: Files) -> TlsContexts:
    loaded = TlsContexts(
        paths=files.write(),
        policy=TlsPolicy(),
        clients=frozenset((ClientAuth.REQUIRED,)),
        clock=ManualClock(days(0).timestamp()),
        run_in_thread=deferToThread,
        interval=10,
        reloaded=lambda: None,
    )
    loaded.load()
    return loaded


def listen(files: Files) -> Listening:
    factory = Factory.forProtocol(Ended)
    factory.noisy = False
    creator = contexts_of(files).creator(ClientAuth.REQUIRED)
    assert verifyObject(IOpenSSLServerConnectionCreator, creator)
    wrapped = TLSMemoryBIOFactory(creator, isClient=False, wrappedFactory=factory)
    wrapped.noisy = False
    factory.listening = Listening(reactor.listenTCP(0, wrapped, interface="127.0.0.1"))
    return factory.listening


def connect(port: int, client: ssl.SSLContext | None) -> str:
    """A blocking client, for a thread: what became of its handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if client is None:
            plain.sendall(b"GET /ocpp/CP-1 HTTP/1.1\r\n\r\n")
            return "sent"
        try:
            with client.wrap_socket(plain, server_hostname="gateway.example.com") as secure:
                secure.recv(1)
                return "ended"
        except OSError:
            return "refused"


async def test_the_reason_reaches_the_protocol(files: Files, root: Authority, tmp_path: Path) -> None:
    bad = root.issue("CP-1")
    files.bundle, files.crls = [root], [root.crl([bad])]
    listening = listen(files)
    number = listening.port.getHost().port
    for client, reason in (
        (client_context(tmp_path, root, bad), "mtls_revoked"),
        (client_context(tmp_path, root), "mtls_missing_cert"),
        (client_context(tmp_path, root, Authority("Stranger").issue("CP-2")), "mtls_not_authorized"),
        (client_context(tmp_path, Authority("Somebody else's"), bad), "tls_refused_by_peer"),
        (None, "tls_required"),
    ):
        ended = listening.reasons
        await deferToThread(connect, number, client)
        assert await ended.addTimeout(20, reactor) == reason
    await listening.port.stopListening()


async def test_a_peer_that_goes_away_in_the_handshake_is_nothing_to_tell(files: Files, root: Authority) -> None:
    files.bundle = [root]
    listening = listen(files)
    for sent in (b"", b"\x16\x03\x01"):
        ended = listening.reasons
        with socket.create_connection(("127.0.0.1", listening.port.getHost().port)) as peer:
            peer.sendall(sent)
        assert await ended.addTimeout(20, reactor) is None
    await listening.port.stopListening()


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
CLOSE_NOTIFY = bytes.fromhex("15030300020100")


def client_hello(version: ssl.TLSVersion) -> bytes:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = client.maximum_version = version
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="gateway.example.com").do_handshake()
    return outgoing.read()


def converse(port: int, hello: bytes, *, waits: bool) -> None:
    """Says goodbye behind the ClientHello, at once or when the answer comes; until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(hello if waits else hello + CLOSE_NOTIFY)
        if waits:
            assert peer.recv(1) == b"\x16"
            peer.sendall(CLOSE_NOTIFY)
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(1 << 16):
                pass


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_goodbye_in_the_handshake_is_nothing_to_tell(
    files: Files, root: Authority, version: ssl.TLSVersion, waits: bool
) -> None:
    files.bundle = [root]
    listening = listen(files)
    ended = listening.reasons
    await deferToThread(converse, listening.port.getHost().port, client_hello(version), waits=waits)
    assert await ended.addTimeout(20, reactor) is None
    await listening.port.stopListening()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_goodbye_in_the_handshake_is_the_end_of_the_connection(
    files: Files, root: Authority, version: ssl.TLSVersion
) -> None:
    files.bundle = [root]
    server: SSL.Connection = contexts_of(files).creator(ClientAuth.REQUIRED).serverConnectionForTLS(None)
    server.set_accept_state()
    server.bio_write(client_hello(version))
    with pytest.raises(SSL.WantReadError):
        server.do_handshake()
    server.bio_write(CLOSE_NOTIFY)
    with pytest.raises(SSL.SysCallError) as raised:
        server.do_handshake()
    assert raised.value.args == (-1, "Unexpected EOF")
    assert refusal_reason(server, raised.value) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_and_old_contexts_are_given_back(
    files: Files, root: Authority, tmp_path: Path, version: ssl.TLSVersion, request: pytest.FixtureRequest
) -> None:
    files.bundle = [root]
    gc.disable()  # only what has no reference cycle goes by itself
    request.addfinalizer(gc.enable)
    gone: list[weakref.ref[object]] = []
    good, stranger = root.issue("CP-1"), Authority("Stranger").issue("CP-2")
    context = files.context(ClientAuth.REQUIRED)
    gone.append(weakref.ref(context))
    for issued in (good, stranger):
        shaken = shake(context, client_context(tmp_path, root, issued, version=version))
        gone.append(weakref.ref(shaken.server))
        shaken.client_error = shaken.server_error = None  # their tracebacks know the frames that know them
        del shaken
    del context
    assert [each() for each in gone] == [None] * 3


def test_a_connection_is_made_with_the_newest_context(files: Files, root: Authority, ec_server: Issued) -> None:
    files.bundle = [root]
    contexts = contexts_of(files)
    creator = contexts.creator(ClientAuth.REQUIRED)
    before: SSL.Connection = creator.serverConnectionForTLS(None)
    files.servers = [ec_server]
    files.write()
    contexts.paths = files.write()
    contexts.load()
    after: SSL.Connection = creator.serverConnectionForTLS(None)
    assert before.get_context() is not after.get_context()
    assert after.get_context() is contexts.context(ClientAuth.REQUIRED)
