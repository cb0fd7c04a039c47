"""The clients of the benchmarks: OCPP-J 1.6 charge points on raw sockets, as many as a test needs.

Opening, single CALLs and closing are done blocking, some at a time; the measured loop is in load.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from calls import FramePieces, boot_notification, call, client_frame, start_transaction
from certificates import SERVER_NAME
from security import IDENTITY, ClientTls

TOGETHER = 32
"""Handshakes, and single CALLs, under way at the same time: below the usual backlog of a listening socket."""

COMPRESSED = 0x40
"""RSV1, the bit in the first byte of a frame that says so (RFC 7692, 6)."""

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class LoadError(Exception):
    """The server did not do what the run needs: the text says what, and on which connection."""


@frozen(kw_only=True)
class Target:
    """Where to connect, and as whom. ``%`` in path and user is the number of the charge point, from 1."""

    port: int
    host: str = "127.0.0.1"
    path: str = f"/ocpp/1.6/{IDENTITY}"
    subprotocol: str = "ocpp1.6"
    user: str = IDENTITY
    password: str | None = field(default=None, repr=False)
    tls: ClientTls | None = None
    echoes: bool = False
    """True: the server sends every message back as it came. False: it is a CSMS and answers."""
    reverses_lines: bool = False
    """True: the server speaks TLS only, and sends every line back with its characters in reverse order."""
    compresses: bool = False
    """True: the charge points offer permessage-deflate without context takeover (RFC 7692, 7.1.1)."""

    def upgrade_request(self, number: int, key: bytes) -> bytes:
        """The HTTP request of charge point ``number`` (RFC 6455, 4.1; OCPP-J 1.6, 3.1 and 6.2.1)."""
        lines = [
            f"GET {_numbered(self.path, number)} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {self.subprotocol}",
        ]
        if self.compresses:
            offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            lines.append(f"Sec-WebSocket-Extensions: {offer}")
        if self.password is not None:
            pair = f"{_numbered(self.user, number)}:{self.password}".encode()
            lines.append(f"Authorization: Basic {base64.b64encode(pair).decode()}")
        return "\r\n".join([*lines, "", ""]).encode()

    def check_upgrade(self, number: int, key: bytes, head: bytes) -> None:
        """Raises LoadError unless ``head`` is the 101 to charge point ``number`` and its ``key`` (RFC 6455, 4.2.2)."""
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest()).decode()
        if not status.startswith("HTTP/1.1 101 ") or headers.get("sec-websocket-accept") != accept:
            raise LoadError(f"charge point {number} was refused: {status}")
        if headers.get("sec-websocket-protocol") != self.subprotocol:
            raise LoadError(f"charge point {number}: the server did not choose {self.subprotocol}")


def _numbered(template: str, number: int) -> str:
    return template % number if "%" in template else template


@define(eq=False)
class Connection:
    """One charge point's WebSocket."""

    number: int
    socket: socket.socket
    buffer: bytes = b""
    unsent: bytes = b""
    transaction_id: int = 1234567890
    frames: FramePieces | None = None
    expected: bytes = b""
    sent_at: float = 0.0
    answered: int = 0

    def next_message(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next whole frame in ``buffer``, taken out of it; None: not whole yet.

        The opcode of a compressed message has ``COMPRESSED`` in it.
        """
        data = self.buffer
        if len(data) < 2:
            return None
        start, length = 2, data[1] & 0x7F
        if length == 126:
            start, length = 4, int.from_bytes(data[2:4], "big")
        elif length == 127:
            start, length = 10, int.from_bytes(data[2:10], "big")
        if len(data) < start + length:
            return None
        if data[1] & 0x80 or not data[0] & 0x80:
            raise LoadError(f"charge point {self.number}: a masked or fragmented frame from the server")
        self.buffer = data[start + length :]
        return data[0] & 0x4F, data[start : start + length]


@define
class Fleet:
    """Charge points that are connected to one server."""

    target: Target
    connections: list[Connection] = field(factory=list)
    run_id: str = field(factory=lambda: os.urandom(4).hex())
    errors: Counter[str] = field(factory=Counter)
    timeout: float = 20.0
    """Seconds that a handshake or the answer to a single CALL may take."""

    def open(self, count: int, *, first: int = 1) -> None:
        """Connect ``count`` charge points with numbers from ``first`` on. Raises LoadError when one is refused."""
        numbers = range(first, first + count)
        for begin in range(0, count, TOGETHER):
            self._open_together(numbers[begin : begin + TOGETHER])

    def _open_together(self, numbers: range) -> None:
        waiting = []
        for number in numbers:
            sock = socket.create_connection((self.target.host, self.target.port), self.timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.target.tls is not None:
                sock = self.target.tls.context(number).wrap_socket(sock, server_hostname=SERVER_NAME)
            connection = Connection(number, sock)
            self.connections.append(connection)
            key = base64.b64encode(os.urandom(16))
            sock.sendall(self.target.upgrade_request(number, key))
            waiting.append((connection, key))
        for connection, key in waiting:
            self._finish_handshake(connection, key)

    def _finish_handshake(self, connection: Connection, key: bytes) -> None:
        while b"\r\n\r\n" not in connection.buffer:
            connection.buffer += self._received(connection, "during the handshake")
        head, _, connection.buffer = connection.buffer.partition(b"\r\n\r\n")
        self.target.check_upgrade(connection.number, key, head)

    def _received(self, connection: Connection, when: str) -> bytes:
        try:
            data = connection.socket.recv(65536)
        except OSError as error:
            raise LoadError(f"charge point {connection.number}, {when}: {error}") from None
        if not data:
            raise LoadError(f"charge point {connection.number}, {when}: the server closed the connection")
        return data

    def call_each(self, action: str, payload: Callable[[Connection], dict[str, Any]]) -> list[Any]:
        """One CALL on every connection; the payloads of the answers, in order (of the echo: what it sent back).

        The connections must be idle. Raises LoadError on anything but an answer.
        """
        answers = []
        for begin in range(0, len(self.connections), TOGETHER):
            group = self.connections[begin : begin + TOGETHER]
            for connection in group:
                connection.socket.settimeout(self.timeout)
                message_id = f"{self.run_id}-{action}-{connection.number}"
                frame = client_frame(call(message_id, action, payload(connection)), os.urandom(4))
                connection.socket.sendall(frame)
            for connection in group:
                answers.append(self._answer(connection, f"{self.run_id}-{action}-{connection.number}", action))
        return answers

    def _answer(self, connection: Connection, message_id: str, action: str) -> Any:
        while True:
            while (message := connection.next_message()) is None:
                connection.buffer += self._received(connection, f"waiting for the answer to {action}")
            opcode, data = message
            if opcode == 9:
                connection.socket.sendall(client_frame(data, os.urandom(4), opcode=10))
                continue
            frame = json.loads(data) if opcode == 1 else None
            if not frame or frame[:2] != [2 if self.target.echoes else 3, message_id]:
                raise LoadError(f"charge point {connection.number}: {data[:200]!r} came for a {action}")
            return frame[-1]

    def begin_sessions(self) -> None:
        """Boot every charge point and start a transaction: MeterValues belong to one. Nothing to do for an echo."""
        if self.target.echoes:
            return
        for answer in self.call_each("BootNotification", lambda _: boot_notification()):
            if answer.get("status") != "Accepted":
                raise LoadError(f"a BootNotification was answered with {answer}")
        started = self.call_each("StartTransaction", lambda _: start_transaction())
        for connection, answer in zip(self.connections, started, strict=True):
            connection.transaction_id = answer["transactionId"]

    def close(self) -> None:
        """End all connections, with a close frame each."""
        for connection in self.connections:
            try:
                connection.socket.send(client_frame(b"\x03\xe8", os.urandom(4), opcode=8))
                connection.socket.close()
            except OSError:
                self.errors["closed_early"] += 1
        self.connections.clear()


def raise_open_files(wanted: int) -> int:
    """Allow this process, and the ones it starts, ``wanted`` open files or as many as the host lets us; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    allowed = wanted if hard == unlimited else min(wanted, hard)
    if soft != unlimited and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return wanted if soft == unlimited else soft
