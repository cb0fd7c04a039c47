"""What the tests of the Redis adapter share: clients, waiting for the connection to change, proxies, certificates."""

from __future__ import annotations

import datetime
import ipaddress
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.url import RedisUrl


def new_client(url: str, **options: Any) -> RedisClient:
    return RedisClient.connect(RedisUrl.parse(url), reactor=reactor, **options)


async def connected_client(url: str, **options: Any) -> RedisClient:
    """A client whose connections are all up: none of them comes up late, in the middle of what a test does."""
    client = new_client(url, **options)
    await client.when_connected(10)
    await until(lambda: len(client._pool.pool) == client._pool.poolsize)
    return client


@asynccontextmanager
async def using(client: RedisClient) -> AsyncIterator[RedisClient]:
    try:
        yield client
    finally:
        await client.close()


async def reason_of(call: Any) -> StoreUnavailable:
    """The StoreUnavailable that ``call`` (a coroutine) ends with."""
    try:
        result = await call
    except StoreUnavailable as error:
        return error
    raise AssertionError(f"it did not fail but gave {result!r}")


def connection_change(client: RedisClient, awaited: bool) -> Deferred[None]:
    """Fires at the next change of the connection to ``awaited``."""
    changed: Deferred[None] = Deferred()

    def observe(connected: bool) -> None:
        if connected is awaited and not changed.called:
            changed.callback(None)

    client.observe(observe)
    return changed.addTimeout(20, reactor)


async def until(condition: Callable[[], bool]) -> None:
    """Let the reactor turn until ``condition`` holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await deferLater(reactor, 0)


@contextmanager
def logged() -> Iterator[list[str]]:
    """All log events meanwhile, as text."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        texts.append(eventAsText(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield texts
    finally:
        globalLogPublisher.removeObserver(observe)


@contextmanager
def log_line(containing: str) -> Iterator[Deferred[str]]:
    """Fires with the next log line that contains the words."""
    found: Deferred[str] = Deferred()

    def observe(event: LogEvent) -> None:
        text = eventAsText(event)
        if containing in text and not found.called:
            found.callback(text)

    globalLogPublisher.addObserver(observe)
    try:
        yield found.addTimeout(20, reactor)
    finally:
        globalLogPublisher.removeObserver(observe)


class Listener:
    """Hears what is published, over a plain connection of its own."""

    def __init__(self, server: EmbeddedRedis, channel: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self.lines = self.connection.makefile("rb")
        self.connection.sendall(f"AUTH {server.password}\r\nSUBSCRIBE {channel}\r\n".encode())
        assert self.lines.readline() == b"+OK\r\n"
        self.read_message()

    def read_message(self) -> bytes:
        parts = int(self.lines.readline()[1:])
        message = b""
        for _ in range(parts):
            header = self.lines.readline()
            if header[:1] == b"$":
                message = self.lines.read(int(header[1:]) + 2)[:-2]
        return message

    def close(self) -> None:
        self.lines.close()
        self.connection.close()


class FlakyProxyServer(ProxyServer):
    """Passes on to Redis, or ends the connection at the first bytes while ``factory.cuts`` lasts."""

    noisy = False

    def dataReceived(self, data: bytes) -> None:
        if self.factory.cuts > 0:
            self.factory.cuts -= 1
            self.factory.was_cut(data)
            self.transport.abortConnection()
            return
        super().dataReceived(data)


class FlakyProxyFactory(ProxyFactory):
    protocol = FlakyProxyServer
    noisy = False

    def __init__(self, port: int, cuts: int = 0) -> None:
        ProxyFactory.__init__(self, "127.0.0.1", port)
        self.cuts = cuts
        self.cut: list[bytes] = []

    def was_cut(self, data: bytes) -> None:
        self.cut.append(data)


class Says(Protocol):
    """A server that answers anything with the same bytes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.answer)


def says(answer: bytes) -> Factory:
    factory = Factory.forProtocol(Says)
    factory.noisy = False
    factory.answer = answer
    return factory


@asynccontextmanager
async def listening(factory: Factory, tls: CertificateOptions | None = None) -> AsyncIterator[int]:
    """The port of a loopback server."""
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await (endpoint if tls is None else wrapServerTLS(tls, endpoint)).listen(factory)
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()


def self_signed(folder: Path, address: str, *, demands_certificate: bool = False) -> tuple[Path, CertificateOptions]:
    """A certificate for ``address``: the file to trust (``key.pem`` beside it), and what a server needs.

    A server that ``demands_certificate`` takes only who has this same certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    file = folder / "ca.pem"
    file.write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    authorities = [Certificate.loadPEM(pem)] if demands_certificate else []
    return file, PrivateCertificate.loadPEM(pem + private).options(*authorities)


def wait_for_exit(pid: int, seconds: float) -> bool:
    """Whether the process ``pid`` (any process, not only a child) ends within ``seconds``."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
