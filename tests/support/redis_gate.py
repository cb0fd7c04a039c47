"""A Redis between the gateway and the real one, on which answers can be held back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65_536


class RedisGate:
    """``with RedisGate(redis_url) as gate``: ``gate.url`` leads to the same server.

    While ``hold(text)`` is in force, a connection over which a command with ``text`` goes out gets no more answers; the
    command itself is carried out. ``release()`` lets the answers through, late.
    """

    def __init__(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listening = socket.create_server(("127.0.0.1", 0))
        credential, at, _ = parts.netloc.rpartition("@")
        self.url = f"redis://{credential}{at}127.0.0.1:{self._listening.getsockname()[1]}{parts.path}"
        self.held = threading.Event()
        """Set when an answer is being held back."""

        self._text: bytes | None = None
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = [self._listening]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def hold(self, text: str) -> None:
        self.held.clear()
        self._open.clear()
        self._text = text.encode()

    def release(self) -> None:
        self._text = None
        self._open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                is_held = threading.Event()
                for work in ((client, server, is_held, True), (server, client, is_held, False)):
                    thread = threading.Thread(target=self._carry, args=work, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, is_held: threading.Event, is_command: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if is_command and self._text is not None and self._text in data:
                    is_held.set()
                if not is_command and is_held.is_set():
                    self.held.set()
                    self._open.wait()
                    is_held.clear()
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
