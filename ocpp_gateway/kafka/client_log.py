"""librdkafka's own log, kept off stderr and from flooding ours.

librdkafka logs a line for every attempt to connect: dozens a second while a broker is down. It hands them to a
``logging.Logger`` when it is given one, and writes them to stderr otherwise. ClientLog stands in for that logger: of
each kind (librdkafka's facility, such as ``FAIL``) one line passes in so many seconds, with the number kept back since.
An outage is not our error, so nothing here is logged above ``warn``: what is fatal reaches the producer another way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger, LogLevel

from ocpp_gateway.clock import Clock

_CLIENT_LOG: Final = "kafka.client_log"
_MAX_KINDS: Final = 256
"""Facilities are a fixed set of some dozens; the bound only guards against a surprise."""


class ClientLog:
    """Takes librdkafka's lines in whatever thread serves them, and logs in the reactor's."""

    def __init__(
        self,
        *,
        call_from_thread: Callable[..., object],
        clock: Clock,
        log: Logger,
        seconds: float = 30.0,
    ) -> None:
        self._call_from_thread = call_from_thread
        self._clock = clock
        self._log = log
        self._seconds = seconds
        self._silent_until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def log(self, level: int, message: str, *args: object) -> None:
        """What librdkafka calls, with ``logging`` levels and ``facility, client name, text`` as arguments."""
        facility = str(args[0]) if len(args) == 3 else "OTHER"
        text = str(args[2]) if len(args) == 3 else message % args
        if level < logging.INFO:  # only with the property `debug`, which somebody set to see everything
            self._call_from_thread(self._emit, LogLevel.debug, _CLIENT_LOG, facility, text, 0)
        else:
            self._pass(LogLevel.warn if level >= logging.WARNING else LogLevel.debug, _CLIENT_LOG, facility, text)

    def warn(self, event: str, kind: str, text: str) -> None:
        """A failure that ends by itself, from any thread: one line per ``event`` and ``kind`` in the time given."""
        self._pass(LogLevel.warn, event, kind, text)

    def _pass(self, level: LogLevel, event: str, kind: str, text: str) -> None:
        now = self._clock.monotonic()
        key = f"{level.name} {event} {kind}"
        if now < self._silent_until.get(key, now):
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return
        if len(self._silent_until) >= _MAX_KINDS:
            self._silent_until.clear()
            self._suppressed.clear()
        self._silent_until[key] = now + self._seconds
        self._call_from_thread(self._emit, level, event, kind, text, self._suppressed.pop(key, 0))

    def _emit(self, level: LogLevel, event: str, kind: str, text: str, suppressed: int) -> None:
        self._log.emit(
            level,
            "Kafka: {kind}: {text}",
            event=event,
            kind=kind,
            text=text,
            suppressed=suppressed,
        )
