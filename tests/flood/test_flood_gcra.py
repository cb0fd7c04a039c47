from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.manual_clock import ManualClock

from ocpp_gateway.flood.gcra import KeyedRates, Rate, charge, take

NEARLY = 1e-3
"""Of one arrival: what sums of fractions of a second may be off by."""

rates = st.builds(Rate, st.floats(0.01, 1000), st.integers(1, 50))
steps = st.lists(st.floats(0, 3), min_size=1, max_size=120)
"""Times between arrivals, in units of the rate's interval."""


def test_a_burst_and_then_one_after_the_other() -> None:
    rate = Rate(10, 3)
    tat, waits = 0.0, []
    for now in (0.0, 0.0, 0.0, 0.0, 0.05, 0.1, 0.1):
        tat, wait = take(tat, now, rate)
        waits.append(wait)
    assert waits == [0, 0, 0, pytest.approx(0.1), pytest.approx(0.05), 0, pytest.approx(0.1)]


def test_after_a_silence_there_is_a_whole_burst_and_no_more() -> None:
    rate = Rate(10, 3)
    tat, allowed = 0.0, 0
    for _ in range(10):
        tat, wait = take(tat, 1e6, rate)
        allowed += not wait
    assert allowed == 3


def test_a_rate_that_is_off_allows_everything() -> None:
    assert Rate.off().is_off
    assert Rate(-1, 5).is_off
    assert not Rate(0.001, 1).is_off
    assert take(7.0, 0.0, Rate.off()) == (7.0, 0.0)
    assert charge(7.0, 0.0, Rate.off()) == (7.0, 0.0)


@given(rates, steps)
def test_no_window_has_more_than_a_burst_and_the_rate(rate: Rate, intervals: list[float]) -> None:
    now, tat, allowed = 1000.0, 0.0, []
    for interval in intervals:
        now += interval / rate.per_second
        tat, wait = take(tat, now, rate)
        if not wait:
            allowed.append(now)
    for first, start in enumerate(allowed):
        for last, end in enumerate(allowed[first:], 1):
            assert last <= rate.burst + (end - start) * rate.per_second + NEARLY


@given(rates, steps)
def test_who_waits_as_told_may_come_and_who_comes_early_not(rate: Rate, intervals: list[float]) -> None:
    now, tat = 1000.0, 0.0
    for interval in intervals:
        now += interval / rate.per_second
        before = tat
        tat, wait = take(before, now, rate)
        if wait:
            assert tat == before  # what is refused does not count
            assert take(tat, now + wait, rate)[1] == 0
            assert take(tat, now + wait / 2, rate)[1] == pytest.approx(wait / 2)


@given(rates, steps)
def test_who_is_slower_than_the_rate_never_waits(rate: Rate, intervals: list[float]) -> None:
    now, tat, charged = 1000.0, 0.0, 0.0
    for interval in intervals:
        now += (1 + interval) / rate.per_second
        tat, wait = take(tat, now, rate)
        assert wait == 0
        charged, pause = charge(charged, now, rate)
        assert pause == pytest.approx(0, abs=NEARLY / rate.per_second)


@given(rates, steps)
def test_who_pauses_as_told_keeps_the_rate(rate: Rate, intervals: list[float]) -> None:
    now, tat, arrived = 1000.0, 0.0, []
    for interval in intervals:
        now += interval / rate.per_second
        arrived.append(now)
        tat, pause = charge(tat, now, rate)
        now += pause
    for first, start in enumerate(arrived):
        for last, end in enumerate(arrived[first:], 1):
            assert last <= rate.burst + 1 + (end - start) * rate.per_second + NEARLY


def test_what_has_come_counts_however_many() -> None:
    rate = Rate(10, 2)
    tat, pauses = 0.0, []
    for _ in range(5):
        tat, pause = charge(tat, 0.0, rate)
        pauses.append(pause)
    assert pauses == pytest.approx([0, 0, 0.1, 0.2, 0.3])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 2)), max_size=200), st.integers(1, 4))
def test_each_key_has_a_rate_of_its_own(arrivals: list[tuple[str, float]], burst: int) -> None:
    clock, rate = ManualClock(), Rate(1, burst)
    keyed = KeyedRates(rate, 6, clock)
    tats = dict.fromkeys("abcdef", 0.0)
    for key, pause in arrivals:
        tats[key], wait = take(tats[key], clock.monotonic(), rate)
        assert keyed.take(key) == pytest.approx(wait)
        clock.advance(pause)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 0.5)), max_size=300), st.integers(1, 8))
def test_it_never_remembers_more_than_it_may(arrivals: list[tuple[int, float]], max_entries: int) -> None:
    clock = ManualClock()
    keyed = KeyedRates(Rate(1, 3), max_entries, clock)
    for key, pause in arrivals:
        keyed.take(str(key))
        assert len(keyed) == len(keyed._due) <= max_entries
        assert {key for _, key in keyed._due} == keyed._tats.keys()
        assert all(filed <= keyed._tats[key] for filed, key in keyed._due)
        clock.advance(pause)


def test_what_is_paid_off_is_forgotten() -> None:
    clock = ManualClock()
    keyed = KeyedRates(Rate(1, 5), 1000, clock)
    for number in range(100):
        keyed.take(f"old-{number}")
        keyed.take(f"old-{number}")
    assert len(keyed) == 100
    clock.advance(2)
    # Each was filed for its first arrival: looked at once to be put off, and once to be forgotten.
    for number in range(100):
        clock.advance(1)
        keyed.take(f"new-{number}")
    assert len(keyed) == 1


def test_keys_without_end_keep_nobody_out() -> None:
    clock = ManualClock()
    keyed = KeyedRates(Rate(1, 5), 10, clock)
    for number in range(1000):
        keyed.take(f"bot-{number}")
    assert [keyed.take("charge point") for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_keys_without_end_free_nobody_who_is_at_the_limit() -> None:
    clock = ManualClock()
    keyed = KeyedRates(Rate(1, 5), 10, clock)
    for _ in range(5):
        keyed.take("guesser")
    for number in range(1000):
        keyed.take(f"bot-{number}")
        keyed.take(f"bot-{number}")
        assert keyed.take("guesser") == 1
    assert len(keyed) == 10


def test_much_to_put_right_is_not_put_right_at_once() -> None:
    clock = ManualClock()
    keyed = KeyedRates(Rate(1, 5), 1000, clock)
    for _ in range(3):
        for number in range(1000):
            keyed.take(f"known-{number}")
    filed = sorted(keyed._due)
    assert keyed.take("new") == 0
    assert len(keyed) == 1000
    assert len(set(filed) - set(keyed._due)) <= 10


def test_without_a_rate_or_room_nothing_is_limited() -> None:
    for keyed in (KeyedRates(Rate.off(), 10, ManualClock()), KeyedRates(Rate(1, 1), 0, ManualClock())):
        assert [keyed.take("a") for _ in range(100)] == [0] * 100
        assert len(keyed) == 0
