"""Fifty thousand connections: no turn of the reactor does much, and little is kept for each."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import Counter

from pulses import PlayedPulse, TurnClock, pass_time, watch
from support.manual_clock import ManualClock

MANY = 50_000
PER_TURN = 250


class NumberedPulse(PlayedPulse):
    """It notes in which turns it was called."""

    __slots__ = ("turns",)

    def __init__(self, clock: TurnClock, turns: Counter[int]) -> None:
        super().__init__(clock)
        self.turns = turns

    def ping(self) -> None:
        self._count()
        super().ping()

    def stale(self) -> None:
        self._count()
        super().stale()

    def _count(self) -> None:
        assert isinstance(self.clock, TurnClock)
        self.turns[self.clock.turn] += 1


def test_no_turn_does_more_than_its_share() -> None:
    clock = TurnClock()
    keepalive = watch(clock)
    turns: Counter[int] = Counter()
    pulses = [NumberedPulse(clock, turns) for _ in range(MANY)]
    for pulse in pulses:
        keepalive.add(pulse)
    pass_time(clock, 120, 1)
    assert Counter((len(pulse.pings), len(pulse.stales)) for pulse in pulses) == {(1, 1): MANY}
    assert max(turns.values()) == PER_TURN
    assert sum(turns.values()) == 2 * MANY
    assert clock.timers.getDelayedCalls() == []


def test_all_at_once_because_we_were_away_is_spread_over_turns() -> None:
    clock = TurnClock()
    keepalive = watch(clock)
    turns: Counter[int] = Counter()
    pulses = [NumberedPulse(clock, turns) for _ in range(MANY)]
    for pulse in pulses:
        keepalive.add(pulse)
    clock.advance(1000)
    assert all(len(pulse.pings) == 1 for pulse in pulses)
    assert turns.most_common(1)[0][1] == PER_TURN
    for pulse in pulses:
        pulse.heard()
    pass_time(clock, 21, 1)
    assert len(keepalive) == MANY
    keepalive.stop()
    assert clock.timers.getDelayedCalls() == []


def test_little_is_kept_for_each() -> None:
    clock = ManualClock()
    pulses = [PlayedPulse(clock) for _ in range(MANY)]
    keepalive = watch(clock)
    gc.collect()
    tracemalloc.start()
    try:
        for pulse in pulses:
            keepalive.add(pulse)
        filed, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert filed / MANY < 120
    keepalive.stop()


def test_who_is_gone_is_not_kept() -> None:
    class MortalPulse(PlayedPulse):
        __slots__ = ("__weakref__",)

    clock = ManualClock()
    keepalive = watch(clock)
    staying = PlayedPulse(clock, answers_after=0.0)
    keepalive.add(staying)
    for _ in range(1000):
        clock.advance(1)
        going = MortalPulse(clock)
        keepalive.add(going)
        keepalive.remove(going)
        seen = weakref.ref(going)
        del going
        assert seen() is None
    assert len(keepalive) == 1
    assert staying.pings
    assert len(clock.timers.getDelayedCalls()) == 1
    keepalive.stop()
