"""Rates kept by the generic cell rate algorithm (ITU-T I.371, virtual scheduling): one number per whoever is limited.

That number is the theoretical arrival time: when the next one would come if they all came evenly. Who is ahead of it by
no more than the burst may come now.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from math import inf
from typing import Final, Self

from attrs import define, field, frozen

from ocpp_gateway.clock import Clock

_LOOKS: Final = 8
"""Entries looked at for one to forget, where none has run out."""


@frozen
class Rate:
    """``per_second`` in the long run, ``burst`` at once. 0 per second: no limit."""

    per_second: float
    burst: int

    @classmethod
    def off(cls) -> Self:
        """No limit."""
        return cls(0.0, 1)

    @property
    def is_off(self) -> bool:
        """Whether it limits nothing."""
        return self.per_second <= 0


def take(tat: float, now: float, rate: Rate) -> tuple[float, float]:
    """The new theoretical arrival time and 0.0 if one more may come now; else the old one and the seconds to wait."""
    if rate.is_off:
        return tat, 0.0
    interval = 1 / rate.per_second
    due = max(tat, now)
    wait = due - now - (rate.burst - 1) * interval
    # As near as this to its time is on time: sums of fractions of a second are not exact.
    return (due + interval, 0.0) if wait <= interval * 1e-6 else (tat, wait)


def charge(tat: float, now: float, rate: Rate) -> tuple[float, float]:
    """For what has come already: the new theoretical arrival time, and how long to pause for the rate to hold."""
    if rate.is_off:
        return tat, 0.0
    interval = 1 / rate.per_second
    tat = max(tat, now) + interval
    return tat, max(0.0, tat - now - rate.burst * interval)


@define(eq=False)
class KeyedRates:
    """One ``rate`` for each of many keys, of which at most ``max_entries`` are remembered.

    A key whose theoretical arrival time has passed is as good as one that never came, and is forgotten. Where there are
    too many others, the one nearest to that goes. So whoever has keys without end keeps nobody out, and makes it forget
    who is at the limit only by having all others used to the limit as well.
    """

    rate: Rate
    max_entries: int
    clock: Clock
    _tats: dict[str, float] = field(factory=dict, init=False)
    # Each key once, with a time that it had: never later than the one it has.
    _due: list[tuple[float, str]] = field(factory=list, init=False)

    def __len__(self) -> int:
        return len(self._tats)

    def take(self, key: str) -> float:
        """0.0 if ``key`` may come now, which counts; else the seconds that it has to wait."""
        if self.rate.is_off or self.max_entries <= 0:
            return 0.0
        now = self.clock.monotonic()
        # Two for each that comes: what is worthless goes faster than anything new can come.
        for _ in range(2):
            if self._due and self._due[0][0] <= now:
                self._forget_or_refile(now)
        known = self._tats.get(key)
        tat, wait = take(now if known is None else known, now, self.rate)
        if wait:
            return wait
        if known is None:
            if len(self._tats) >= self.max_entries:
                self._forget_the_nearest()
            heappush(self._due, (tat, key))
        self._tats[key] = tat
        return 0.0

    def _forget_or_refile(self, until: float) -> bool:
        """Whether the first in ``_due`` was due by ``until``, and is forgotten; else its time is corrected."""
        _, key = self._due[0]
        tat = self._tats[key]
        if tat > until:
            heapreplace(self._due, (tat, key))
            return False
        heappop(self._due)
        del self._tats[key]
        return True

    def _forget_the_nearest(self) -> None:
        # Not the very nearest, if many have come again since they were filed: a bounded effort is worth more.
        for _ in range(_LOOKS):
            if self._forget_or_refile(self._due[0][0]):
                return
        self._forget_or_refile(inf)
