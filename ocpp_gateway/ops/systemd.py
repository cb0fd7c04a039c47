"""What systemd is told of a service with ``Type=notify``: sd_notify(3), sd_watchdog_enabled(3).

One datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names; where it names none, nothing is told.
The watchdog's sign of life comes from a timer in the reactor: it shows that the reactor turns, and nothing more. That
Redis or Kafka is away is told at ``/ready``; a restart would not bring them back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock

log = Logger()

_SEND_SECONDS: Final = 0.2
"""systemd reads as fast as the kernel delivers; should it not, the reactor does not wait for long."""


@define(eq=False, kw_only=True)
class Systemd:
    """The service manager that started us. Telling it never fails; that it cannot be told is logged once."""

    clock: Clock
    address: str
    """The socket's path, with a NUL in front if it is an abstract one; empty: there is nobody to tell."""

    watchdog_seconds: float
    """How long it may hear nothing before it takes us for dead; 0: for ever."""

    _socket: socket.socket | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _is_deaf: bool = field(default=False, init=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], clock: Clock) -> Systemd:
        """As ``environ`` has it: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        return cls(clock=clock, address=_address(environ), watchdog_seconds=_watchdog_seconds(environ))

    def starting(self, seconds: float, status: str) -> None:
        """The start goes on, for at most ``seconds`` from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={_usec(seconds)}", f"STATUS={status}")

    def ready(self, status: str) -> None:
        """The start is done. The signs of life begin."""
        self._tell("READY=1", f"STATUS={status}")
        if self.address and self.watchdog_seconds > 0:
            self._live()

    def stopping(self, seconds: float, status: str) -> None:
        """The stop has begun, or goes on: for at most ``seconds`` from now."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={_usec(seconds)}", f"STATUS={status}")

    def close(self) -> None:
        """No more is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.address = ""

    def _live(self) -> None:
        self._tell("WATCHDOG=1")
        self._timer = self.clock.call_later(self.watchdog_seconds / 2, self._live)

    def _tell(self, *lines: str) -> None:
        if not self.address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendto("\n".join(lines).encode(), self.address)
        except OSError as error:
            if not self._is_deaf:
                self._is_deaf = True
                log.warn("systemd cannot be told: {problem}", event="gateway.systemd_deaf", problem=str(error))
        else:
            self._is_deaf = False


def _address(environ: Mapping[str, str]) -> str:
    given = environ.get("NOTIFY_SOCKET", "")
    if given.startswith("@"):
        return "\0" + given[1:]
    if given and not given.startswith("/"):
        log.warn("NOTIFY_SOCKET is neither a path nor an abstract socket", event="gateway.systemd_deaf", problem=given)
        return ""
    return given


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    given = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0  # of the process that started us
    if not given.isascii() or not given.isdigit():
        if given:
            log.warn("WATCHDOG_USEC is not a number", event="gateway.systemd_deaf", problem=given)
        return 0.0
    return int(given) / 1e6


def _usec(seconds: float) -> int:
    return int(seconds * 1e6)
