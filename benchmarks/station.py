"""A charge point on asyncio, as soak and storm have them by the thousand: it comes, talks, listens, answers, and goes
in one of several ways. It keeps to Retry-After, and backs off as OCPP 2.0.1 wants it (part 4, 5.3).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import define, field, frozen
from calls import call, call_result, client_frame
from certificates import SERVER_NAME
from charge_points import COMPRESSED, Connection, LoadError, Target

PATIENCE = 30.0
"""Seconds that a handshake or the answer to a CALL may take."""

_GOODBYE_SECONDS = 10.0
_MOST_INFLATED = 1 << 20
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: the port is chosen at connect(), so it need be unique per peer only
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: close() sends RST
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.retry_after = retry_after
        """Seconds; 0: the answer did not say."""


class Ended(Exception):
    """The connection is no more; ``reason`` says how it went: closed_1012, connection_lost, timed_out and so on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def source_address(number: int, addresses: int) -> str:
    """The loopback address that charge point ``number`` comes from; ``addresses`` are shared evenly."""
    high, low = divmod(number % addresses, 250)
    return f"127.{77 + high // 250}.{high % 250}.{low + 1}"


@frozen(kw_only=True)
class BackOff:
    """RetryBackOffWaitMinimum, RetryBackOffRandomRange (seconds) and RetryBackOffRepeatTimes of OCPP 2.0.1."""

    minimum: float
    spread: float
    doublings: int

    def waits(self, chance: random.Random) -> Iterator[float]:
        """Seconds before the first, second, ... attempt to come back."""
        wait = self.minimum + chance.uniform(0, self.spread)
        yield wait
        for _ in range(self.doublings):
            wait = 2 * wait + chance.uniform(0, self.spread)
            yield wait
        while True:
            yield wait


@define(eq=False)
class Link:
    """One connection of a charge point. Whatever ends it raises Ended."""

    number: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _inbox: Connection
    _compresses: bool = False
    _is_leaving: bool = False
    _calls: int = 0
    _run_id: str = field(factory=lambda: os.urandom(4).hex())

    @classmethod
    async def connect(cls, target: Target, number: int, source: str) -> Link:
        """TCP, and TLS where the target has it. Raises Ended."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
            tls = target.tls.context(number) if target.tls is not None else None
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
                name = SERVER_NAME if tls is not None else None
                reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        except TimeoutError:
            sock.close()
            raise Ended("not_connected_in_time") from None
        except OSError as error:
            sock.close()
            raise Ended(f"connect_{type(error).__name__}") from None
        except BaseException:
            sock.close()
            raise
        return cls(number, reader, writer, Connection(number, sock))

    async def upgrade(self, target: Target) -> None:
        """Become a WebSocket. Raises Refused and Ended."""
        key = base64.b64encode(os.urandom(16))
        try:
            async with asyncio.timeout(PATIENCE):
                self._writer.write(target.upgrade_request(self.number, key))
                while b"\r\n\r\n" not in self._inbox.buffer:
                    self._inbox.buffer += await self._received()
        except TimeoutError:
            raise Ended("no_handshake_in_time") from None
        head, _, self._inbox.buffer = self._inbox.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        status = lines[0].split(" ")[1] if " " in lines[0] else ""
        if status != "101" and status.isdecimal():
            waits = [line.partition(":")[2].strip() for line in lines if line.startswith("retry-after:")]
            raise Refused(int(status), float(waits[0]) if waits and waits[0].isdecimal() else 0.0)
        try:
            target.check_upgrade(self.number, key, head)
        except LoadError:
            raise Ended("bad_101") from None
        self._compresses = any(
            line.startswith("sec-websocket-extensions:") and "permessage-deflate" in line for line in lines
        )

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The answer to one CALL. Raises Ended; a CALLERROR ends nothing, but is no answer: ``callerror_<code>``."""
        message_id = self._send_call(action, payload)
        try:
            async with asyncio.timeout(PATIENCE):
                frame = json.loads(await self._message())
        except TimeoutError:
            raise Ended("unanswered") from None
        if frame[:2] == [3, message_id] and isinstance(frame[2], dict):
            return frame[2]
        raise Ended(f"callerror_{frame[2]}" if frame[:2] == [4, message_id] else "wrong_answer")

    async def listen(self, seconds: float | None) -> None:
        """Say nothing for a while (None: for ever), but answer pings. Nobody sends CALLs here: messages are errors."""
        try:
            async with asyncio.timeout(seconds):
                await self._message()
        except TimeoutError:
            return
        raise Ended("unasked_message")

    async def asked(self) -> tuple[str, str, dict[str, Any]]:
        """The next CALL of the CSMS: message id, action and payload. Pings before it are answered. Raises Ended."""
        frame = json.loads(await self._message())
        if frame[0] != 2 or len(frame) != 4:
            raise Ended("unasked_message")
        return frame[1], frame[2], frame[3]

    def answer(self, message_id: str, payload: dict[str, Any]) -> None:
        """The CALLRESULT to such a CALL."""
        self._send(call_result(message_id, payload))

    # How it ends.

    async def leave(self) -> None:
        """The closing handshake, begun by the charge point. Raises Ended where the server does not end it."""
        self._is_leaving = True
        try:
            self._writer.write(client_frame(b"\x03\xe8", os.urandom(4), _CLOSE))
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while True:
                    await self._message()
        except TimeoutError:
            raise Ended("close_unanswered") from None
        except Ended as end:
            if end.reason not in ("closed_1000", "connection_lost"):
                raise
        finally:
            self.abandon()

    def reset(self) -> None:
        """RST, as a modem's or a firewall's."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    def fall_silent(self) -> None:
        """Neither read nor write from now on. (Our kernel still acknowledges, so TCP alone would never notice.)"""
        if not self._writer.transport.is_closing():
            self._writer.transport.pause_reading()

    async def was_ended(self, seconds: float = 2.0) -> bool:
        """Whether the server ended the connection of one who fell silent. It is over then in any case."""
        try:
            if not self._writer.transport.is_closing():
                self._writer.transport.resume_reading()
            async with asyncio.timeout(seconds):
                while await self._reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.abandon()
        return True

    def abandon(self) -> None:
        """Let go of the socket."""
        self._writer.close()

    # What is left half done when it dies.

    def send_half_a_request(self, target: Target) -> None:
        """Of the handshake."""
        request = target.upgrade_request(self.number, base64.b64encode(os.urandom(16)))
        self._writer.write(request[: len(request) // 2])

    def send_half_a_frame(self, action: str, payload: dict[str, Any]) -> None:
        """Of a CALL."""
        frame = client_frame(call("half", action, payload), os.urandom(4))
        self._writer.write(frame[: len(frame) // 2])

    def send_without_waiting(self, action: str, payload: dict[str, Any]) -> None:
        """A CALL whose answer nobody will be there to read."""
        self._send_call(action, payload)

    def _send_call(self, action: str, payload: dict[str, Any]) -> str:
        self._calls += 1
        message_id = f"{self._run_id}-{self._calls}"
        self._send(call(message_id, action, payload))
        return message_id

    def _send(self, data: bytes) -> None:
        opcode = _TEXT
        if self._compresses:
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            # RFC 7692, 7.2.1: flushed, without the four bytes of the empty block.
            data = (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            opcode |= COMPRESSED
        self._writer.write(client_frame(data, os.urandom(4), opcode))

    async def _message(self) -> bytes:
        """The next text message. Pings before it are answered."""
        while True:
            while (message := self._inbox.next_message()) is None:
                self._inbox.buffer += await self._received()
            opcode, data = message
            if opcode == _TEXT:
                return data
            if opcode == _TEXT | COMPRESSED and self._compresses:
                return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data + b"\0\0\xff\xff", _MOST_INFLATED)
            if opcode == _PING:
                self._writer.write(client_frame(data, os.urandom(4), _PONG))
            elif opcode == _CLOSE:
                if not self._is_leaving:
                    self._writer.write(client_frame(data[:2], os.urandom(4), _CLOSE))
                self.abandon()
                raise Ended(f"closed_{int.from_bytes(data[:2], 'big')}")
            else:
                raise Ended(f"unexpected_opcode_{opcode}")

    async def _received(self) -> bytes:
        try:
            data = await self._reader.read(65536)
        except OSError:
            data = b""
        if not data:
            self.abandon()
            raise Ended("connection_lost")
        return data


async def get_in(target: Target, number: int, source: str, waits: Iterator[float], tally: Counter[str]) -> Link:
    """Try until the handshake succeeds; ``tally`` counts what happened, by status or reason.

    A refusal's Retry-After is kept to the second; the back-off of ``waits`` counts if it is longer.
    """
    while True:
        tally["attempts"] += 1
        link = None
        wait = next(waits)
        try:
            link = await Link.connect(target, number, source)
            await link.upgrade(target)
            return link
        except Refused as refusal:
            tally[str(refusal.status)] += 1
            wait = max(wait, refusal.retry_after)
        except Ended as end:
            tally[end.reason] += 1
        except BaseException:
            if link is not None:
                link.abandon()
            raise
        if link is not None:
            link.abandon()
        await asyncio.sleep(wait)
