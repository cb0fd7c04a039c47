"""systemd's end of sd_notify(3): a real datagram socket, and what was told to it."""

from __future__ import annotations

import socket
from typing import Self

_SECONDS = 15.0


class NotifySocket:
    """Bound to ``address``, which begins with a NUL where it is an abstract one."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(_SECONDS)

    def told(self) -> dict[str, str]:
        """The next message: each line is NAME=value. Raises TimeoutError when none comes."""
        lines = self._socket.recv(65536).decode().split("\n")
        message = dict(line.split("=", 1) for line in lines)
        assert len(message) == len(lines), lines
        return message

    def wait_for(self, name: str) -> dict[str, str]:
        """The next message that has ``name``."""
        while name not in (message := self.told()):
            pass
        return message

    def is_silent(self) -> bool:
        """Whether nothing waits to be read."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(_SECONDS)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
