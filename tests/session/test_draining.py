"""How the sessions of a node that stops are ended, and in what time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf
from random import Random

import attrs
import pytest
from adapters.adapter_ports import CALLER
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from session_parts import Fleet, Line
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.session import draining
from ocpp_gateway.session.draining import Drain, moments
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.session import Session

RESTART = CloseReason.SERVICE_RESTART


# The moments.


@given(
    count=st.integers(0, 500),
    seconds=st.floats(0, 3600),
    seed=st.integers(0, 1 << 32),
)
def test_each_moment_lies_in_its_own_slot(count: int, seconds: float, seed: int) -> None:
    found = moments(count, seconds, Random(seed).random)
    assert len(found) == count
    slot = min(seconds / max(1, count), 0.2)
    for number, moment in enumerate(found):
        assert number * slot <= moment <= (number + 1) * slot
    assert found == sorted(found)
    assert all(moment <= seconds * (1 + 1e-9) for moment in found)


# A node of charge points that answer and close when they like.


@define(eq=False)
class Point:
    """Never answers its CALL under way if ``answers`` is None, never closes if ``closes`` is."""

    node: Node
    answers: float | None = 0.0
    closes: float | None = 0.0
    asked: list[float] = field(factory=list)
    closed_at: float | None = None
    gone_at: float | None = None
    aborted: bool = False

    def close_when_answered(self, reason: CloseReason) -> None:
        assert reason is RESTART
        self.asked.append(self.node.clock.monotonic())
        if self.answers is not None:
            self._in(self.answers, self._close)

    def close(self, reason: CloseReason) -> None:
        assert reason is RESTART
        self._close()

    def _close(self) -> None:
        if self.closed_at is None:
            self.closed_at = self.node.clock.monotonic()
            if self.closes is not None:
                self._in(self.closes, self.gone)

    def gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = self.node.clock.monotonic()
            self.node.lost(self)

    def _in(self, seconds: float, function: object) -> None:
        assert callable(function)
        if seconds:
            self.node.clock.call_later(seconds, function)
        else:
            function()


@define(eq=False)
class Node:
    """Ends connections a moment after they are cut off, or ``never``."""

    clock: ManualClock = field(factory=ManualClock)
    points: list[Point] = field(factory=list)
    never: bool = False
    _there: list[Point] = field(factory=list)
    _waiter: Deferred[None] | None = None

    def add(self, **facts: float | None) -> Point:
        point = Point(self, **facts)
        self.points.append(point)
        self._there.append(point)
        return point

    def lost(self, point: Point) -> None:
        self._there.remove(point)
        if not self._there and self._waiter is not None:
            self._waiter.callback(None)

    def __len__(self) -> int:
        return len(self._there)

    def __iter__(self) -> Iterator[Point]:
        return iter(list(self._there))

    def abort_all(self, reason: CloseReason) -> None:
        for point in self:
            point.close(reason)
            point.aborted = True
            if not self.never:
                self.clock.call_later(0, point.gone)

    def when_empty(self) -> Deferred[None]:
        self._waiter = Deferred()
        if not self._there:
            self._waiter.callback(None)
        return self._waiter


def drained(node: Node, drain: Drain, *, hurry_at: float | None = None) -> float:
    """Run ``drain`` to its end; how long it took."""
    running = Deferred.fromCoroutine(drain.run(node))
    begun = node.clock.monotonic()
    while not running.called:
        timers = [timer.getTime() for timer in node.clock.timers.getDelayedCalls()]
        assert timers, "it waits for nothing"
        now = node.clock.monotonic()
        then = min(timers)
        if hurry_at is not None and then >= begun + hurry_at:
            then, hurry_at = max(now, begun + hurry_at), None
            node.clock.advance(then - now)
            drain.hurry()
        else:
            node.clock.advance(max(0.0, then - now))
    return node.clock.monotonic() - begun


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        seen.append(event["event"])

    monkeypatch.setattr(draining.log, "observer", observe)
    return seen


@pytest.fixture
def node() -> Node:
    return Node()


def drain_of(node: Node, seconds: float = 10.0, seed: int = 1) -> Drain:
    return Drain(clock=node.clock, seconds=seconds, random=Random(seed).random)


def test_without_sessions_it_is_over_at_once(node: Node, logged: list[str]) -> None:
    assert drained(node, drain_of(node)) == 0
    assert node.clock.timers.getDelayedCalls() == []
    assert logged == []


def test_five_thousand_are_spread_evenly_in_random_order(node: Node, logged: list[str]) -> None:
    for _ in range(5000):
        node.add(closes=0.5)
    took = drained(node, drain_of(node))
    assert 7 < took < 9
    assert all(len(point.asked) == 1 for point in node.points)
    in_each_second = [0] * 8
    for point in node.points:
        in_each_second[int(point.asked[0])] += 1
    assert all(650 <= count <= 680 for count in in_each_second[:7]), in_each_second
    # Neither order nor moments tell which connection is the older one.
    asked = [point.asked[0] for point in node.points]
    rising = sum(one < other for one, other in pairwise(asked))
    assert 2300 < rising < 2700
    assert logged == []


def test_a_handful_does_not_take_all_of_the_time(node: Node) -> None:
    for _ in range(5):
        node.add()
    assert drained(node, drain_of(node)) <= 1


def test_many_that_are_due_leave_the_reactor_free_in_between(node: Node) -> None:
    for _ in range(1000):
        node.add(closes=None)
    seen = []

    def other_work() -> None:
        seen.append(sum(len(point.asked) for point in node.points))
        if seen[-1] < 1000:
            node.clock.call_later(0, other_work)

    drain = drain_of(node)
    drain.hurry()
    node.clock.call_later(0, other_work)
    drained(node, drain)
    assert seen == [100 * turn for turn in range(1, 11)]


def test_one_that_does_not_answer_is_closed_and_one_that_does_not_close_is_cut_off(
    node: Node, logged: list[str]
) -> None:
    silent, deaf, other = node.add(answers=None), node.add(closes=None), node.add(answers=3.0)
    assert drained(node, drain_of(node)) == pytest.approx(10)
    assert silent.closed_at == pytest.approx(10 - 2.5 / 2)
    assert (silent.aborted, deaf.aborted, other.aborted) == (False, True, False)
    assert other.closed_at == pytest.approx(other.asked[0] + 3)
    assert logged == ["gateway.drain_timeout"]


def test_what_cannot_even_be_cut_off_is_left_behind(node: Node, logged: list[str]) -> None:
    node.never = True
    node.add(closes=None)
    assert drained(node, drain_of(node)) == pytest.approx(11)
    assert logged == ["gateway.drain_timeout", "gateway.connections_left"]
    assert node.clock.timers.getDelayedCalls() == []


def test_no_time_at_all_is_a_moment(node: Node, logged: list[str]) -> None:
    node.add(answers=0.01, closes=0.01)
    node.add(answers=None, closes=None)
    assert drained(node, drain_of(node, seconds=0)) == pytest.approx(0.1)
    assert logged == ["gateway.drain_timeout"]


def test_one_that_fails_does_not_keep_the_others(
    node: Node, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    class Broken(Point):
        def close_when_answered(self, reason: CloseReason) -> None:
            raise RuntimeError("broken")

    for number in range(3):
        point = (Broken if number == 1 else Point)(node)
        node.points.append(point)
        node._there.append(point)
    drained(node, drain_of(node))
    assert [len(point.asked) for point in node.points] == [1, 0, 1]
    assert all(point.gone_at is not None for point in node.points)
    assert logged == ["session.failed"]


def test_who_is_in_a_hurry_waits_two_seconds_and_no_longer(node: Node, logged: list[str]) -> None:
    for _ in range(1000):
        node.add(closes=0.1)
    busy, silent, deaf = node.add(answers=0.5), node.add(answers=None), node.add(closes=None)
    took = drained(node, drain_of(node, seconds=600), hurry_at=3.0)
    assert took == pytest.approx(5.0)
    first_asked = sum(point.asked[0] < 3.0 for point in node.points)
    assert first_asked < 20
    assert busy.closed_at == pytest.approx(busy.asked[0] + 0.5)
    assert silent.closed_at == pytest.approx(4.0)
    assert not silent.aborted
    assert deaf.aborted
    assert logged == ["gateway.drain_timeout"]


def test_a_hurry_before_the_beginning_holds(node: Node) -> None:
    for _ in range(50):
        node.add()
    drain = drain_of(node)
    drain.hurry()
    drain.hurry()
    assert drained(node, drain) == 0


def test_a_hurry_at_the_end_changes_nothing(node: Node) -> None:
    node.add()
    drain = drain_of(node)
    drained(node, drain)
    drain.hurry()
    assert node.clock.timers.getDelayedCalls() == []


seconds_or_never = st.none() | st.floats(0, 15)


@given(
    points=st.lists(st.tuples(seconds_or_never, seconds_or_never), max_size=30),
    seconds=st.floats(0, 20),
    seed=st.integers(0, 1000),
    hurry_at=st.none() | st.floats(0, 25),
    never=st.booleans(),
)
def test_it_ends_in_time_and_everybody_is_told(
    points: list[tuple[float | None, float | None]], seconds: float, seed: int, hurry_at: float | None, never: bool
) -> None:
    node = Node(never=never)
    for answers, closes in points:
        node.add(answers=answers, closes=closes)
    took = drained(node, drain_of(node, seconds, seed), hurry_at=hurry_at)

    end = max(0.1, seconds)
    if hurry_at is not None:
        end = min(end, hurry_at + 2)
    assert took <= end + 1.001
    assert never or took <= end + 0.001
    for point in node.points:
        assert len(point.asked) <= 1
        assert point.closed_at is not None
        assert never or point.gone_at is not None
        if point.aborted:  # only what had its time
            assert point.closed_at + (inf if point.closes is None else point.closes) >= end - 0.001


# Real sessions.


def test_a_call_under_way_is_answered_before_the_close(schemas: Schemas) -> None:
    fleet = Fleet(schemas, NobodysRecords())
    sessions = [
        fleet.connect(caller=attrs.evolve(CALLER, charge_point_id=f"CP-{number}", station_id=f"S-{number}"))
        for number in range(3)
    ]
    busy, idle, last = sessions
    busy.received(b'[2,"1","Heartbeat",{}]')
    busy.received(b'[2,"2","Heartbeat",{}]')
    drain = Drain(clock=fleet.clock, seconds=10.0, random=Random(1).random)
    running = Deferred.fromCoroutine(drain.run(fleet.sessions))

    fleet.clock.advance(0.7)
    assert [line(session).closed for session in sessions] == [None, RESTART, RESTART]
    for session in (idle, last):
        fleet.sessions.closed(session, RESTART, 1012)
    assert not running.called
    fleet.bus.settle()
    assert [answer[:2] for answer in line(busy).sent] == [[3, "1"]], "the one that waited is sent again elsewhere"
    assert line(busy).closed is RESTART
    fleet.sessions.closed(busy, RESTART, 1012)
    assert running.called


def test_until_it_is_asked_a_session_is_served(schemas: Schemas) -> None:
    fleet = Fleet(schemas, NobodysRecords())
    session = fleet.connect()
    drain = Drain(clock=fleet.clock, seconds=10.0, random=lambda: 0.9)
    running = Deferred.fromCoroutine(drain.run(fleet.sessions))
    session.received(b'[2,"1","Heartbeat",{}]')
    fleet.bus.settle()
    assert [answer[:2] for answer in line(session).sent] == [[3, "1"]]
    assert line(session).closed is None
    fleet.clock.advance(0.2)
    assert line(session).closed is RESTART
    fleet.sessions.closed(session, RESTART, 1012)
    assert running.called


class NobodysRecords:
    async def look_up_all(self, wanted: object) -> dict[str, object]:
        raise AssertionError("not asked here")


def line(session: Session) -> Line:
    found = session.connection
    assert isinstance(found, Line)
    return found
