"""HTTP and WebSocket by hand: whatever bytes a test wants to send, and exactly what came back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Self

from attrs import field, frozen
from prometheus_client.parser import text_string_to_metric_families

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0

_SECONDS = 15.0


class PeerClosed(Exception):
    """The other side ended the connection; ``args[0]`` is what it had sent before."""


@frozen
class Response:
    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


@frozen
class Frame:
    opcode: int
    payload: bytes = field(repr=lambda payload: repr(payload[:200]))

    @property
    def close_code(self) -> int | None:
        assert self.opcode == CLOSE
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def close_text(self) -> str:
        return self.payload[2:].decode()


def handshake(
    target: str,
    *,
    subprotocols: str | None = "ocpp1.6",
    headers: Iterable[tuple[str, str]] = (),
    without: Iterable[str] = (),
    method: str = "GET",
    version: str = "HTTP/1.1",
) -> bytes:
    """An opening handshake; ``without`` names header fields to leave out, ``headers`` come last."""
    fields = [
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", b64encode(os.urandom(16)).decode()),
    ]
    if subprotocols is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocols))
    left_out = {name.lower() for name in without}
    lines = [f"{name}: {value}" for name, value in fields if name.lower() not in left_out]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode("latin-1")


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    masked: bool = True,
    reserved: int = 0,
    announced: int | None = None,
) -> bytes:
    """A WebSocket frame; ``announced`` is the length its header tells, if not that of ``payload``."""
    length = len(payload) if announced is None else announced
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, mask_bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + body.to_bytes(len(payload), "big")


class RawSocket:
    """A TCP connection to a port of this machine, from ``address``; every wait is bounded."""

    def __init__(self, port: int, *, address: str = "127.0.0.1", seconds: float = _SECONDS) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds, source_address=(address, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    @property
    def local_port(self) -> int:
        return int(self._socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        """Send all of it; raises PeerClosed if it can no longer be sent."""
        try:
            self._socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            raise PeerClosed(self._data) from None

    def send_bytewise(self, data: bytes) -> None:
        for place in range(len(data)):
            self.send(data[place : place + 1])

    def sends_at_most(self, data: bytes, limit: int) -> bool:
        """Send ``data`` again and again, reading nothing; whether the other side stops taking it before ``limit``."""
        self._socket.settimeout(1)
        try:
            for _ in range(0, limit, len(data)):
                self._socket.sendall(data)
        except TimeoutError:
            return True
        return False

    def response(self) -> Response:
        """The HTTP answer, with the body that its Content-Length announces."""
        while b"\r\n\r\n" not in self._data:
            self._receive()
        block, self._data = self._data.split(b"\r\n\r\n", 1)
        status_line, *lines = block.decode("latin-1").split("\r\n")
        version, status, phrase = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = tuple((name, value.strip()) for name, value in (line.split(":", 1) for line in lines))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        return Response(int(status), phrase, headers, self._take(length))

    def frame(self) -> Frame:
        """The next frame of the server's; they are neither masked nor fragmented."""
        first, second = self._take(2)
        assert first & 0xF0 == 0x80, f"FIN and no reserved bits: {first:#x}"
        assert not second & 0x80, "masked"
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return Frame(first & 0x0F, self._take(length))

    def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        try:
            while True:
                self._receive()
        except PeerClosed as closed:
            return closed.args[0]

    def finish(self) -> None:
        """Say that no more will come, and go on listening."""
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            self._receive()
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def _receive(self) -> None:
        try:
            received = self._socket.recv(65536)
        except ConnectionResetError:
            received = b""
        if not received:
            raise PeerClosed(self._data)
        self._data += received


class RawCharger:
    """An upgraded connection of a charge point that says what a test tells it to."""

    def __init__(
        self,
        port: int,
        charge_point_id: str,
        headers: Iterable[tuple[str, str]],
        *,
        subprotocols: str = "ocpp1.6",
        target: str | None = None,
    ) -> None:
        self.charge_point_id = charge_point_id
        self.socket = RawSocket(port)
        self.socket.send(handshake(target or f"/ocpp/{charge_point_id}", subprotocols=subprotocols, headers=headers))
        self.upgrade = self.socket.response()
        assert self.upgrade.status == 101, self.upgrade

    def send(self, *messages: Any) -> None:
        """Messages, each as bytes or as what json can write, in one write."""
        self.socket.send(b"".join(frame(_encoded(message)) for message in messages))

    def receive(self) -> Any:
        """The next message, parsed. A close frame is a PeerClosed with that frame."""
        while True:
            received = self.socket.frame()
            if received.opcode == CLOSE:
                self.socket.send(frame(received.payload[:2], CLOSE))
                raise PeerClosed(received)
            if received.opcode == TEXT:
                return json.loads(received.payload)

    def call(self, message_id: str, action: str, payload: Any) -> Any:
        """The answer to a CALL, which must be the next message."""
        self.send([2, message_id, action, payload])
        answer = self.receive()
        assert answer[1] == message_id, answer
        return answer

    def closed(self) -> Frame:
        """The close frame, which must be the next thing to come; it is answered and the connection is over."""
        received = self.socket.frame()
        assert received.opcode == CLOSE, received
        self.socket.send(frame(received.payload[:2], CLOSE))
        assert self.socket.rest() == b""
        return received

    def hang_up(self) -> None:
        """Close in the proper way."""
        self.socket.send(frame(struct.pack("!H", 1000), CLOSE))
        self.socket.rest()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _encoded(message: Any) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()


def http_get(port: int, path: str) -> Response:
    with RawSocket(port) as connection:
        connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return connection.response()


def metric(port: int, name: str, **labels: str) -> float:
    """The sum of the samples ``name`` at /metrics that have ``labels``; 0 if there are none."""
    text = http_get(port, "/metrics").body.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
