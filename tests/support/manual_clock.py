"""A clock that moves only when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock as TwistedClock


class ManualClock:
    def __init__(self, wall: float = 1_767_323_045.678) -> None:
        self.timers = TwistedClock()
        self._wall = wall

    def monotonic(self) -> float:
        return float(self.timers.seconds())

    def now(self) -> float:
        return self._wall + float(self.timers.seconds())

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        return self.timers.callLater(seconds, function, *args)

    def advance(self, seconds: float) -> None:
        self.timers.advance(seconds)
