"""The state machine of a connection: every order in which things can happen to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.session.lifecycle import Course, Lifecycle, Phase, begin
from ocpp_gateway.session.reasons import CloseReason

RESTART, REPLACED, LOST = CloseReason.SERVICE_RESTART, CloseReason.REPLACED, CloseReason.CONNECTION_LOST


@define(eq=False)
class Wire:
    closed: list[CloseReason] = field(factory=list)
    pauses: int = 0

    def close(self, reason: CloseReason) -> None:
        self.closed.append(reason)

    def pause_reading(self) -> None:
        self.pauses += 1


def opened() -> tuple[Wire, Lifecycle, Course]:
    wire = Wire()
    life, course = begin(wire)
    life.check()
    life.opened()
    return wire, life, course


def test_from_accept_to_close() -> None:
    wire = Wire()
    life, course = begin(wire)
    seen = [course.phase]
    for step in (life.check, life.opened, lambda: life.close(REPLACED), lambda: life.lost(LOST)):
        step()
        seen.append(course.phase)
    assert seen == [Phase.CONNECTING, Phase.CHECKING, Phase.OPEN, Phase.CLOSING, Phase.GONE]
    assert (wire.closed, course.reason, course.line) == ([REPLACED], REPLACED, None)


@pytest.mark.parametrize("is_checked", [False, True])
def test_refused_without_ever_being_open(is_checked: bool) -> None:
    life, course = begin(Wire())
    if is_checked:
        life.check()
    life.refuse()
    life.refuse()
    assert course.phase is Phase.REFUSED
    life.lost(LOST)
    assert (course.phase, course.has_been_open) == (Phase.GONE, False)


def test_a_drain_waits_for_the_answer() -> None:
    wire, life, course = opened()
    life.drain(RESTART)
    assert (course.phase, course.reason, wire.closed, wire.pauses) == (Phase.DRAINING, None, [], 1)
    life.answered()
    assert (course.phase, course.reason, wire.closed) == (Phase.CLOSING, RESTART, [RESTART])


def test_a_close_does_not_wait_for_a_drain() -> None:
    wire, life, course = opened()
    life.drain(RESTART)
    life.close(REPLACED)
    life.answered()
    assert (course.reason, wire.closed) == (REPLACED, [REPLACED])


def test_the_first_reason_stays() -> None:
    wire, life, course = opened()
    life.close(REPLACED)
    life.close(RESTART)
    life.drain(RESTART)
    life.lost(LOST)
    assert (course.reason, wire.closed) == (REPLACED, [REPLACED])


def test_answers_change_nothing_on_an_open_connection() -> None:
    wire, life, course = opened()
    life.answered()
    assert (course.phase, wire.closed) == (Phase.OPEN, [])


EVENTS: dict[str, Callable[[Lifecycle], None]] = {
    "answered": lambda life: life.answered(),
    "drain": lambda life: life.drain(RESTART),
    "close": lambda life: life.close(REPLACED),
    "lost": lambda life: life.lost(LOST),
}


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12))
def test_an_open_connection_takes_everything_in_any_order(names: list[str]) -> None:
    wire, life, course = opened()
    reasons = []
    for name in names:
        EVENTS[name](life)
        reasons.append(course.reason)
    assert len(wire.closed) <= 1
    assert wire.pauses <= 1
    if "lost" in names:
        assert (course.phase, course.line) == (Phase.GONE, None)
    known = [reason for reason in reasons if reason is not None]
    assert len(set(known)) <= 1, "a reason has changed"
    if wire.closed:
        assert course.reason is wire.closed[0]
