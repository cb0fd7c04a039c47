"""Who answers a ping stays, who does not is gone within two intervals."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulses import PlayedPulse, pass_time, watch
from support.manual_clock import ManualClock
from twisted.logger import LogEvent

from ocpp_gateway.session import keepalive as keepalive_module


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def timers(clock: ManualClock) -> int:
    return len(clock.timers.getDelayedCalls())


def test_one_that_answers_is_asked_again_and_again(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock, answers_after=19.0)
    keepalive.add(pulse)
    pass_time(clock, 1000, 0.5)
    assert pulse.stales == []
    # 19 s for the answer, then 45 s to 60 s of silence, rounded up to a second.
    assert all(64 <= later - earlier <= 80.5 for earlier, later in pairwise(pulse.pings))
    assert len(pulse.pings) >= 1000 // 80.5


def test_one_that_does_not_answer_is_stale_once(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    pass_time(clock, 500, 0.5)
    (pinged,), (stale,) = pulse.pings, pulse.stales
    assert 45 <= pinged <= 61.5
    assert 20 <= stale - pinged <= 21.5
    assert len(keepalive) == 0
    assert timers(clock) == 0


def test_an_answer_that_comes_too_late_is_none(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock, answers_after=23.0)
    keepalive.add(pulse)
    pass_time(clock, 90, 0.5)
    assert len(pulse.stales) == 1


def test_any_bytes_count_and_who_talks_is_never_asked(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    for _ in range(50):
        pass_time(clock, 40, 0.5)
        pulse.heard()
    assert (pulse.pings, pulse.stales) == ([], [])


def test_those_who_came_together_do_not_stay_together(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulses = [PlayedPulse(clock, answers_after=0.0) for _ in range(600)]
    for pulse in pulses:
        keepalive.add(pulse)
    pass_time(clock, 62, 0.5)
    first = [pulse.pings[0] for pulse in pulses]
    assert min(first) >= 45
    busiest = max(first.count(moment) for moment in first)
    assert busiest < 2 * 600 / 15


def test_a_timeout_longer_than_the_interval_is_cut(clock: ManualClock) -> None:
    keepalive = watch(clock, interval=5, timeout=20)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    pass_time(clock, 10, 0.1)
    assert len(pulse.stales) == 1


def test_without_an_interval_nobody_is_watched(clock: ManualClock) -> None:
    keepalive = watch(clock, interval=0)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    assert (len(keepalive), timers(clock)) == (0, 0)
    keepalive.remove(pulse)
    keepalive.stop()
    assert pulse.filed_under is None


def test_one_timer_for_all_and_none_for_nobody(clock: ManualClock) -> None:
    keepalive = watch(clock)
    assert timers(clock) == 0
    pulses = [PlayedPulse(clock) for _ in range(100)]
    for pulse in pulses:
        keepalive.add(pulse)
    assert (len(keepalive), timers(clock)) == (100, 1)
    for pulse in pulses:
        keepalive.remove(pulse)
        keepalive.remove(pulse)
    assert (len(keepalive), timers(clock)) == (0, 0)
    pass_time(clock, 200, 1)
    assert [pulse for pulse in pulses if pulse.pings or pulse.stales] == []


def test_one_that_is_added_twice_is_watched_once(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    clock.advance(30)
    keepalive.add(pulse)
    assert len(keepalive) == 1
    pass_time(clock, 200, 0.5)
    assert (len(pulse.pings), len(pulse.stales)) == (1, 1)
    assert pulse.pings[0] >= 75


def test_stopped_it_watches_nobody(clock: ManualClock) -> None:
    keepalive = watch(clock)
    early, asked, late = (PlayedPulse(clock) for _ in range(3))
    keepalive.add(asked)
    pass_time(clock, 62, 0.5)
    keepalive.add(early)
    keepalive.stop()
    keepalive.add(late)
    assert (len(keepalive), timers(clock)) == (0, 0)
    keepalive.remove(early)
    pass_time(clock, 200, 0.5)
    assert (len(asked.pings), early.pings, late.pings) == (1, [], [])
    assert asked.stales == []


# What is not read cannot be heard.


def test_one_that_we_do_not_read_is_neither_asked_nor_stale(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    pulse.is_read = False
    keepalive.add(pulse)
    pass_time(clock, 300, 0.5)
    assert (pulse.pings, pulse.stales, len(keepalive)) == ([], [], 1)
    pulse.is_read = True
    pulse.heard()
    resumed = clock.monotonic()
    pass_time(clock, 120, 0.5)
    assert 65 <= pulse.stales[0] - resumed <= 83


def test_one_that_we_stopped_reading_after_the_ping_gets_another(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    pulse.on_ping = lambda: setattr(pulse, "is_read", False)
    keepalive.add(pulse)
    pass_time(clock, 100, 0.5)
    assert (len(pulse.pings), pulse.stales) == (1, [])
    pulse.is_read, pulse.answers_after = True, 1.0
    pulse.on_ping = lambda: None
    pass_time(clock, 500, 0.5)
    assert len(pulse.pings) > 5
    assert pulse.stales == []


def test_what_came_while_we_were_away_is_read_first(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    pass_time(clock, 62, 0.5)
    away_until = pulse.pings[0] + 25
    # The reactor reads behind the timers that are due: those wait for a turn of it.
    clock.call_later(away_until - clock.monotonic(), pulse.heard)
    clock.advance(away_until - clock.monotonic())
    assert pulse.stales == []
    assert len(keepalive) == 1


def test_who_was_asked_before_we_were_away_for_long_is_asked_again(clock: ManualClock) -> None:
    keepalive = watch(clock)
    pulse = PlayedPulse(clock)
    keepalive.add(pulse)
    pass_time(clock, 62, 0.5)
    clock.advance(500)  # the whole machine: what the pulse answered met nobody
    assert (len(pulse.pings), pulse.stales) == (2, [])
    pass_time(clock, 22, 0.5)
    assert len(pulse.stales) == 1


# What happens in a callback.


def test_one_that_cannot_be_pinged_does_not_keep_the_others(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(keepalive_module.log, "observer", logged.append)
    keepalive = watch(clock)
    pulses = [PlayedPulse(clock) for _ in range(20)]
    for pulse in pulses:
        keepalive.add(pulse)

    def fail() -> None:
        raise RuntimeError("broken")

    for pulse in pulses[::2]:
        pulse.on_ping = pulse.on_stale = fail
    pass_time(clock, 120, 0.5)
    assert [len(pulse.pings) for pulse in pulses] == [1] * 20
    assert [len(pulse.stales) for pulse in pulses] == [1] * 20
    assert [line["event"] for line in logged] == ["session.failed"] * 20
    assert (len(keepalive), timers(clock)) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("ping", "stale")),
            st.integers(0, 9),
            st.sampled_from(("remove", "add", "stop")),
            st.integers(0, 9),
        ),
        max_size=8,
    )
)
def test_callbacks_may_take_out_and_put_in_anybody(wishes: list[tuple[str, int, str, int]]) -> None:
    clock = ManualClock()
    keepalive = watch(clock)
    pulses = [PlayedPulse(clock) for _ in range(10)]
    for moment, who, what, whom in wishes:

        def act(moment: str = moment, who: int = who, what: str = what, whom: int = whom) -> None:
            setattr(pulses[who], f"on_{moment}", lambda: None)  # once: who is added at each ping never gets stale
            if what == "remove":
                keepalive.remove(pulses[whom])
            elif what == "stop":
                keepalive.stop()
            elif not pulses[whom].stales:
                keepalive.add(pulses[whom])

        setattr(pulses[who], f"on_{moment}", act)
    for pulse in pulses:
        keepalive.add(pulse)
    for _ in range(800):
        clock.advance(1)
        watched = [pulse for pulse in pulses if pulse.filed_under is not None]
        assert len(keepalive) == len(watched)
        assert timers(clock) == (1 if watched else 0)
    assert all(len(pulse.stales) <= 1 for pulse in pulses)
    if not any(what == "stop" for _, _, what, _ in wishes):
        removed = {whom for _, _, what, whom in wishes if what == "remove"}
        kept = [pulse for number, pulse in enumerate(pulses) if number not in removed]
        assert all(pulse.stales for pulse in kept)
        assert len(keepalive) == 0


# The promise.

moments = st.lists(st.floats(0, 8), max_size=12)  # in intervals


@given(
    traffic=st.lists(moments, min_size=1, max_size=5),
    interval=st.sampled_from((0.5, 2.0, 30.0, 60.0, 600.0)),
    timeout_share=st.floats(0.01, 3),
    seed=st.integers(0, 1 << 16),
)
def test_gone_within_two_intervals_of_the_last_byte_and_never_while_there_is_one(
    traffic: list[list[float]], interval: float, timeout_share: float, seed: int
) -> None:
    clock = ManualClock()
    timeout = interval * timeout_share
    keepalive = watch(clock, interval, timeout, seed)
    pulses = [PlayedPulse(clock) for _ in traffic]
    for pulse, said_at in zip(pulses, traffic, strict=True):
        keepalive.add(pulse)
        for moment in said_at:
            clock.call_later(moment * interval, lambda pulse=pulse: pulse.stales or pulse.heard())
    pass_time(clock, 10.5 * interval, interval / 100)
    least = interval * 0.75 + min(timeout, interval * 0.8)
    for pulse in pulses:
        (gone,) = pulse.stales
        assert pulse.last_heard + least - 1e-6 <= gone <= pulse.last_heard + 2 * interval
    assert timers(clock) == 0


@given(
    answers_after=st.lists(st.floats(0, 0.99), min_size=1, max_size=5),
    interval=st.sampled_from((0.5, 30.0, 60.0)),
    timeout_share=st.sampled_from((0.05, 0.3, 0.8)),
    seed=st.integers(0, 1 << 16),
)
def test_who_answers_in_time_stays(
    answers_after: list[float], interval: float, timeout_share: float, seed: int
) -> None:
    clock = ManualClock()
    timeout = interval * timeout_share
    keepalive = watch(clock, interval, timeout, seed)
    pulses = [PlayedPulse(clock, answers_after=share * timeout) for share in answers_after]
    for pulse in pulses:
        keepalive.add(pulse)
    pass_time(clock, 10 * interval, interval / 50)
    assert all(len(pulse.pings) >= 5 and not pulse.stales for pulse in pulses)
    assert len(keepalive) == len(pulses)
    keepalive.stop()
