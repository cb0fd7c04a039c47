"""Who is still there: a WebSocket ping for those that have been silent, the end for those that do not answer it.

::

    filed ──silent for most of the interval──> ping() ──nothing within the timeout──> stale()
      ^                                          │
      └──heard meanwhile, be it only a pong──────┘

Whatever comes counts as a sign of life; nobody has to send Heartbeats for it (OCPP 1.6 section 4.6). A charge point
whose network vanishes is gone within two intervals of its last byte.

A timer for each connection would cost more than all they say. There is one for all: connections are filed by the moment
of their next look, and what they say costs no more than noting the time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock

log = Logger()

_JITTER: Final = 0.25
"""A ping comes earlier than the interval by up to that share of it: those who came together do not stay together."""

_LONGEST_TIMEOUT: Final = 0.8
"""Of the interval; or two intervals would not do."""

_STEPS: Final = 20
_LONGEST_STEP: Final = 1.0
"""Looks are filed by the second, or by a twentieth of the interval."""

_LOOKS_PER_TURN: Final = 250
"""Then the rest of the gateway has its turn."""


class Pulse(Protocol):
    """A connection, as it is watched."""

    filed_under: int | None
    """The KeepAlive's own; None at first."""

    @property
    def last_heard(self) -> float:
        """``clock.monotonic()`` when bytes last came, or when reading was taken up again, whichever is later."""
        ...

    @property
    def is_read(self) -> bool:
        """Whether what it sends is read at present. Where it is not, its silence is ours."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def stale(self) -> None:
        """It did not answer, and is no longer watched."""
        ...


@define(eq=False)
class _Drawer:
    """Those to look at in the same step of time."""

    unasked: set[Pulse] = field(factory=set)
    asked: set[Pulse] = field(factory=set)
    """They got a ping a timeout before."""


@define(eq=False, kw_only=True)
class KeepAlive:
    """Watches connections: ``interval`` seconds of silence, 0 to watch nobody; ``timeout`` seconds for an answer.

    No more than 0.8 of the interval counts as timeout. ``random`` gives numbers from 0 to less than 1.
    """

    clock: Clock
    interval: float
    timeout: float
    random: Callable[[], float]
    _step: float = field(init=False)
    _drawers: dict[int, _Drawer] = field(factory=dict, init=False)
    """By the number of the step."""

    _order: list[int] = field(factory=list, init=False)
    """The same numbers as a heap."""

    _count: int = field(default=0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _planned: int | None = field(default=None, init=False)
    _is_looking: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._step = min(_LONGEST_STEP, self.interval / _STEPS)
        self.timeout = min(self.timeout, self.interval * _LONGEST_TIMEOUT)

    def __len__(self) -> int:
        return self._count

    def add(self, pulse: Pulse) -> None:
        """Watch ``pulse`` from now on."""
        if self.interval > 0:
            self.remove(pulse)
            self._file(pulse, self._silent_at(self.clock.monotonic()), is_asked=False)
            self._plan()

    def remove(self, pulse: Pulse) -> None:
        """Watch it no longer; nothing happens if it is not watched."""
        if pulse.filed_under is not None:
            drawer = self._drawers[pulse.filed_under]
            drawer.unasked.discard(pulse)
            drawer.asked.discard(pulse)
            self._taken_out(pulse)
            if not self._count:
                self._plan()

    def stop(self) -> None:
        """Watch nobody any more, whoever is added later."""
        self.interval = 0.0
        for drawer in self._drawers.values():
            for pulse in (*drawer.unasked, *drawer.asked):
                self._taken_out(pulse)
            drawer.unasked.clear()
            drawer.asked.clear()
        self._plan()

    # The file.

    def _file(self, pulse: Pulse, due: float, *, is_asked: bool) -> None:
        step = ceil(due / self._step)
        drawer = self._drawers.get(step)
        if drawer is None:
            drawer = self._drawers[step] = _Drawer()
            heappush(self._order, step)
        (drawer.asked if is_asked else drawer.unasked).add(pulse)
        pulse.filed_under = step
        self._count += 1

    def _taken_out(self, pulse: Pulse) -> None:
        pulse.filed_under = None
        self._count -= 1

    def _silent_at(self, heard: float) -> float:
        """When a pulse that was heard then, and not since, has been silent for long enough."""
        return heard + self.interval * (1 - _JITTER * self.random())

    # The timer.

    def _plan(self) -> None:
        """Have the timer for the first drawer; none if nobody is watched."""
        if self._is_looking:
            return  # planned when that is done
        if not self._count:
            self._drawers.clear()
            self._order.clear()
            timer, self._timer, self._planned = self._timer, None, None
            if timer is not None:
                timer.cancel()
        elif self._planned != self._order[0]:
            self._planned = self._order[0]
            seconds = max(0.0, self._planned * self._step - self.clock.monotonic())
            if self._timer is None:
                self._timer = self.clock.call_later(seconds, self._due)
            else:
                self._timer.reset(seconds)

    def _due(self) -> None:
        # After a long pause of ours the reactor calls timers before it reads what has come meanwhile.
        self._timer = self.clock.call_later(0, self._turn)

    def _turn(self) -> None:
        self._timer = self._planned = None
        self._is_looking = True
        has_time = self._look_at_those_due()
        self._is_looking = False
        if has_time:
            self._plan()
        else:
            self._planned = self._order[0]
            self._timer = self.clock.call_later(0, self._turn)

    # The look.

    def _look_at_those_due(self) -> bool:
        """Whether that is all of them."""
        now = self.clock.monotonic()
        looks = 0
        while self._order and (due := self._order[0] * self._step) <= now:
            drawer = self._drawers[self._order[0]]
            while drawer.unasked or drawer.asked:
                if looks >= _LOOKS_PER_TURN:
                    return False
                looks += 1
                # One by one: what is done for one may take out any other.
                is_asked = not drawer.unasked
                pulse = (drawer.asked if is_asked else drawer.unasked).pop()
                self._taken_out(pulse)
                try:
                    if is_asked:
                        self._look_again(pulse, now, due)
                    else:
                        self._look(pulse, now)
                except Exception:
                    log.failure("A connection could not be watched", event="session.failed", reason="internal_error")
            del self._drawers[heappop(self._order)]  # still the first: nothing is filed in the past
        return True

    def _look(self, pulse: Pulse, now: float) -> None:
        heard = pulse.last_heard if pulse.is_read else now
        if now - heard < self.interval * (1 - _JITTER):
            self._file(pulse, self._silent_at(heard), is_asked=False)
        else:
            self._ask(pulse, now)

    def _look_again(self, pulse: Pulse, now: float, due: float) -> None:
        heard = pulse.last_heard if pulse.is_read else now
        # It was filed for up to a step later than the timeout, and had been silent for many steps when it was asked.
        if heard >= due - self.timeout - 2 * self._step:
            self._file(pulse, max(now, self._silent_at(heard)), is_asked=False)
        elif now - due > self.timeout + self._step:
            self._ask(pulse, now)  # we, or our whole machine, were away: its answer may have met nobody
        else:
            pulse.stale()

    def _ask(self, pulse: Pulse, now: float) -> None:
        self._file(pulse, now + self.timeout, is_asked=True)
        pulse.ping()
