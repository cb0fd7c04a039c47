"""Time, handed to whoever needs it.

Durations and timers follow the monotonic clock; what is written into events follows the wall clock. A step of the
host's clock must neither drop every connection at once nor freeze their timers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Clock(Protocol):
    """What the gateway asks of time."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps."""
        ...

    def now(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z, as the host believes."""
        ...

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        """Call ``function`` once, ``seconds`` from now, in the reactor."""
        ...


@frozen
class SystemClock:
    """The host's time, with the reactor's timers."""

    reactor: IReactorTime

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def now(self) -> float:
        """See Clock."""
        return time.time()

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        """See Clock."""
        return self.reactor.callLater(seconds, function, *args)


def iso_millis(now: float) -> str:
    """``now`` as RFC 3339 in UTC with milliseconds: the contract's form for events."""
    milliseconds = int(now * 1000)
    whole = time.gmtime(milliseconds // 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', whole)}.{milliseconds % 1000:03d}Z"


def iso_seconds(now: float) -> str:
    """``now`` as RFC 3339 in UTC without a fraction: what chargers set their clocks by (OCPP 1.6 section 3.14)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
