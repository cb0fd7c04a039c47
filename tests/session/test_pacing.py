"""Who talks too fast is read more slowly; who does not listen besides is closed in the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.session.pacing import MessageLimits, NodePace, Pace, Verdict

TEN = Rate(10.0, 5)
BEGIN = 1000.0


def pace(rate: Rate = TEN, patience: float = 60.0, node: NodePace | None = None) -> Pace:
    return Pace(MessageLimits(rate=rate, patience=patience, node=node))


def test_within_the_limit_nothing_follows() -> None:
    mine = pace()
    verdicts = [mine.arrived(BEGIN + number / 10, is_impatient=True) for number in range(1000)]
    assert set(verdicts) == {Verdict(0.0, False)}


def test_a_burst_is_free_and_what_exceeds_it_is_waited_for() -> None:
    mine = pace()
    waits = [mine.arrived(BEGIN, is_impatient=False).wait_seconds for _ in range(8)]
    assert waits == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2, 0.3])
    assert mine.arrived(BEGIN + 0.8, is_impatient=False).wait_seconds == 0


def test_without_a_limit_nobody_waits() -> None:
    mine = pace(Rate.off())
    assert {mine.arrived(BEGIN, is_impatient=True) for _ in range(1000)} == {Verdict(0.0, False)}


@given(
    per_second=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    eagerness=st.lists(st.floats(0, 0.5), min_size=1, max_size=300),
)
def test_who_is_not_read_while_it_shall_wait_keeps_the_rate(
    per_second: float, burst: int, eagerness: list[float]
) -> None:
    mine = pace(Rate(per_second, burst))
    now, arrivals = BEGIN, []
    for pause in eagerness:
        arrivals.append(now)
        now += mine.arrived(now, is_impatient=False).wait_seconds + pause / per_second
    for first in range(0, len(arrivals), 7):
        for last in range(first, len(arrivals), 5):
            came = last - first + 1
            assert came <= burst + 1 + per_second * (arrivals[last] - arrivals[first]) + 1e-6


def flood(mine: Pace, impatient: list[bool], per_second: float, seconds: float) -> float | None:
    """When it is enough, if that many messages come per second, in turn as ``impatient`` says."""
    for number in range(int(seconds * per_second)):
        now = BEGIN + number / per_second
        if mine.arrived(now, is_impatient=impatient[number % len(impatient)]).is_flood:
            return now - BEGIN
    return None


def test_who_keeps_flooding_is_found_out_after_the_patience() -> None:
    found = flood(pace(patience=3.0), [True], 50, 10)
    # The burst of 5 is used up after a tenth of a second and a bit.
    assert found == pytest.approx(3.12, abs=0.05)


def test_an_end_of_patience_that_never_comes() -> None:
    assert flood(pace(patience=0), [True], 50, 1000) is None


@pytest.mark.parametrize("per_second", [13, 50, 1000])
def test_that_the_first_of_each_read_finds_nothing_under_way_is_no_excuse(per_second: int) -> None:
    mine = pace(patience=10.0)
    sent_before, now, is_flood = 0, BEGIN, False
    while not is_flood and now < BEGIN + 120:
        # What came while it was not read is read at once, up to the size of a read.
        now += 1 / per_second
        waiting = min(400, int((now - BEGIN) * per_second) - sent_before)
        sent_before += waiting
        verdicts = [mine.arrived(now, is_impatient=number > 0) for number in range(waiting)]
        is_flood = any(verdict.is_flood for verdict in verdicts)
        now += max((verdict.wait_seconds for verdict in verdicts), default=0.0)
    assert is_flood


@pytest.mark.parametrize("impatient", [[False], [True, False], [False, False, True]])
def test_who_waits_for_its_answers_is_only_slowed(impatient: list[bool]) -> None:
    mine = pace(patience=3.0)
    assert flood(mine, impatient, 12, 300) is None
    assert mine.arrived(BEGIN + 300, is_impatient=False).wait_seconds > 0


def test_a_moment_within_the_limit_begins_the_patience_anew() -> None:
    mine = pace(patience=3.0)
    for begin in range(0, 100, 10):
        for number in range(40):  # for less than two seconds; then 8 s for what is too much
            verdict = mine.arrived(BEGIN + begin + number / 20, is_impatient=True)
            assert not verdict.is_flood
        assert verdict.wait_seconds > 0


@given(st.lists(st.floats(0, 2), min_size=1, max_size=500))
def test_who_is_patient_never_floods(pauses: list[float]) -> None:
    mine = pace(patience=0.5)
    now = BEGIN
    for pause in pauses:
        now += pause
        assert not mine.arrived(now, is_impatient=False).is_flood


# The node.


def test_the_node_has_a_limit_for_all_together() -> None:
    node = NodePace(Rate(10.0, 4))
    several = [pace(node=node) for _ in range(6)]
    waits = [one.arrived(BEGIN, is_impatient=False).wait_seconds for one in several]
    assert waits == pytest.approx([0, 0, 0, 0, 0.1, 0.2])


def test_the_longer_wait_counts() -> None:
    node = NodePace(Rate(100.0, 1))
    mine, other = pace(Rate(1.0, 1), node=node), pace(node=node)
    assert mine.arrived(BEGIN, is_impatient=False).wait_seconds == 0
    assert mine.arrived(BEGIN, is_impatient=False).wait_seconds == pytest.approx(1.0)
    assert other.arrived(BEGIN, is_impatient=False).wait_seconds == pytest.approx(0.02)


def test_a_node_that_has_too_much_to_do_makes_nobody_a_flooder() -> None:
    node = NodePace(Rate(1.0, 1))
    mine = pace(patience=3.0, node=node)
    verdicts = [mine.arrived(BEGIN + number / 10, is_impatient=True) for number in range(100)]
    assert verdicts[-1].wait_seconds > 80
    assert not any(verdict.is_flood for verdict in verdicts)


def test_a_limit_for_the_node_alone() -> None:
    mine = pace(Rate.off(), node=NodePace(Rate(10.0, 1)))
    waits = [mine.arrived(BEGIN, is_impatient=True).wait_seconds for _ in range(3)]
    assert waits == pytest.approx([0, 0.1, 0.2])
