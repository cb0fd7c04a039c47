"""Whether what a charge point sends is read now: not while too much waits, nor for a while when it talks too fast.

What is not read stays in its socket: nothing is lost, and nothing grows here.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from ocpp_gateway.clock import Clock
from ocpp_gateway.session.lifecycle import Phase
from ocpp_gateway.session.pacing import MessageLimits, Pace
from ocpp_gateway.session.ports import Connection

_LONGEST_PAUSE = 30.0
"""Seconds; what is owed beyond it is paused for later. An end of the connection is noticed only while it is read."""


@define(eq=False)
class Reading:
    """Of one session."""

    connection: Connection
    limits: MessageLimits
    clock: Clock
    _is_full: bool = field(default=False, init=False)
    _slowed: IDelayedCall | None = field(default=None, init=False)
    _pace: Pace = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = Pace(self.limits)

    def arrived(self, *, is_impatient: bool) -> bool:
        """A message has come, ``is_impatient``: before the last CALL was answered. Whether it is one of a flood."""
        if self.limits.is_off:
            return False
        verdict = self._pace.arrived(self.clock.monotonic(), is_impatient=is_impatient)
        if verdict.wait_seconds > 0 and not verdict.is_flood:
            self._slow_down(min(verdict.wait_seconds, _LONGEST_PAUSE))
        return verdict.is_flood

    def fill(self, is_full: bool) -> None:
        """Whether as much waits as may."""
        if is_full is self._is_full:
            return
        self._is_full = is_full
        if is_full:
            self.connection.pause_reading()
        else:
            self._go_on()

    def stop(self) -> None:
        """The connection is gone."""
        if self._slowed is not None:
            self._slowed.cancel()
            self._slowed = None

    def _slow_down(self, seconds: float) -> None:
        if self._slowed is None:
            self.connection.pause_reading()
            self._slowed = self.clock.call_later(seconds, self._slow_enough)
        else:
            self._slowed.reset(seconds)

    def _slow_enough(self) -> None:
        self._slowed = None
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_full and self._slowed is None and self.connection.course.phase is Phase.OPEN:
            self.connection.resume_reading()
