"""When a charge point is read: not while too much waits, nor while it talks too fast, and never again when it ends."""

from __future__ import annotations

import pytest
from session_parts import Line
from support.manual_clock import ManualClock

from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.session.pacing import MessageLimits
from ocpp_gateway.session.reading import Reading
from ocpp_gateway.session.reasons import CloseReason


class Tap(Line):
    """A line that is read or is not, however often it is told so."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tap() -> Tap:
    return Tap()


def reading(tap: Tap, clock: ManualClock, rate: Rate | None = None, patience: float = 60.0) -> Reading:
    return Reading(tap, MessageLimits(rate=rate or Rate(1.0, 2), patience=patience), clock)


def hear(ours: Reading, count: int, *, is_impatient: bool = False) -> bool:
    return [ours.arrived(is_impatient=is_impatient) for _ in range(count)][-1]


def test_who_is_too_fast_is_read_again_in_time(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock)
    hear(ours, 2)
    assert tap.is_read
    hear(ours, 3)
    clock.advance(2.9)
    assert not tap.is_read
    clock.advance(0.1)
    assert tap.is_read
    assert clock.timers.getDelayedCalls() == []


def test_more_that_was_under_way_puts_it_off(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock)
    hear(ours, 4)
    clock.advance(1)
    hear(ours, 2)
    clock.advance(2.9)
    assert not tap.is_read
    clock.advance(0.1)
    assert tap.is_read


@pytest.mark.parametrize("emptied_after", [1, 5])
def test_of_two_causes_the_last_one_counts(tap: Tap, clock: ManualClock, emptied_after: int) -> None:
    ours = reading(tap, clock)
    hear(ours, 5)
    ours.fill(True)
    for second in range(8):
        assert tap.is_read is (second >= max(emptied_after, 3))
        clock.advance(1)
        if second + 1 == emptied_after:
            ours.fill(False)
    assert tap.is_read


def test_one_that_ends_is_not_read_again(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock)
    hear(ours, 5)
    ours.fill(True)
    tap.life.drain(CloseReason.SERVICE_RESTART)
    ours.fill(False)
    clock.advance(60)
    assert not tap.is_read
    tap.life.close(CloseReason.SERVICE_RESTART)
    ours.fill(True)
    ours.fill(False)
    assert not tap.is_read


def test_the_longest_pause_is_bounded_and_the_debt_is_not_forgotten(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock)
    hear(ours, 102)
    clock.advance(29.9)
    assert not tap.is_read
    clock.advance(0.1)
    assert tap.is_read
    hear(ours, 1)
    assert not tap.is_read
    clock.advance(30)
    assert tap.is_read
    hear(ours, 1)  # 42 seconds are owed still
    clock.advance(29.9)
    assert not tap.is_read


def test_a_flood_is_told_and_not_waited_for(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock, patience=5)
    assert not hear(ours, 20, is_impatient=True)
    clock.advance(5)
    assert hear(ours, 1, is_impatient=True)


def test_nothing_runs_on_when_the_connection_is_gone(tap: Tap, clock: ManualClock) -> None:
    ours = reading(tap, clock)
    hear(ours, 5)
    ours.stop()
    ours.stop()
    assert clock.timers.getDelayedCalls() == []
    assert not tap.is_read
