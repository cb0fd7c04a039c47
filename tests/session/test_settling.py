"""When a charge point that has come is asked what waited for it, and which sessions may be asked at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from adapters.adapter_ports import CALLER
from asked import Asked
from attrs import define, evolve, field
from routing.routing_parts import station
from session_parts import Fleet, Line, session_identity, standing
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session import registry as registry_module
from ocpp_gateway.session import settling as settling_module
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.session import Session
from ocpp_gateway.session.settling import Settling


class NobodysRecords:
    async def look_up_all(self, wanted: Any) -> Any:
        raise AssertionError("not asked here")


def waits(fleet: Fleet) -> list[Any]:
    """The timers of the module under test."""
    timers = fleet.clock.timers.getDelayedCalls()
    return [timer for timer in timers if isinstance(getattr(timer.func, "__self__", None), Settling)]


@define(eq=False)
class Node:
    """A node with hooks: what they were called with, in order."""

    schemas: Schemas
    act: Callable[[Session], object] = lambda _: None
    opened: list[Session] = field(factory=list)
    settled: list[Session] = field(factory=list)
    fleet: Fleet = field(init=False)
    sessions: Sessions = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fleet = Fleet(self.schemas, NobodysRecords())
        parts = self.fleet.sessions
        self.sessions = Sessions(
            uplink=parts.uplink,
            security=parts.security,
            presence=parts.presence,
            claims=parts.claims,
            limits=parts.limits,
            counters=parts.counters,
            clock=parts.clock,
            opened=self.opened.append,
            first_answered=self._settle,
        )

    def _settle(self, session: Session) -> None:
        self.settled.append(session)
        self.act(session)

    def connect(self, charge_point_id: str = "CP-001", epoch: int = 1) -> Session:
        caller = evolve(CALLER, charge_point_id=charge_point_id)
        session = self.sessions.open(
            session_identity(caller, epoch=epoch),
            station(OcppVersion.V16, caller=caller),
            standing(caller=caller),
            Line(),
        )
        self.fleet.bus.settle()
        return session

    def say(self, session: Session, action: str = "Heartbeat", message_id: str = "1") -> None:
        session.received(json.dumps([2, message_id, action, {}]).encode())

    @property
    def timers(self) -> int:
        return len(waits(self.fleet))


@pytest.fixture
def node(schemas: Schemas) -> Node:
    return Node(schemas)


def test_the_first_answer_settles_it_and_only_the_first(node: Node) -> None:
    session = node.connect()
    node.say(session)
    assert node.settled == []
    node.fleet.bus.settle()
    assert node.settled == [session]
    node.say(session, message_id="2")
    node.fleet.bus.settle()
    node.fleet.clock.advance(60)
    assert node.settled == [session]
    assert node.timers == 0


def test_what_is_asked_then_goes_out_behind_that_answer(node: Node) -> None:
    call = Asked("a")
    node.act = lambda session: session.call(call)
    session = node.connect()
    node.say(session)
    node.say(session, message_id="2")
    node.fleet.bus.settle()
    node.fleet.bus.settle()
    assert isinstance(session.connection, Line)
    assert [frame[:2] for frame in session.connection.sent] == [[3, "1"], [2, "a"], [3, "2"]]
    session.close(CloseReason.KICKED)


def test_a_refusal_is_an_answer(node: Node) -> None:
    session = node.connect()
    node.say(session, "Nonsense")
    assert node.settled == [session]


def test_one_that_says_nothing_is_settled_after_ten_seconds(node: Node) -> None:
    first = node.connect("CP-001")
    node.fleet.clock.advance(4)
    second = node.connect("CP-002")
    assert node.timers == 1
    node.fleet.clock.advance(5.9)
    assert node.settled == []
    node.fleet.clock.advance(0.1)
    assert node.settled == [first]
    node.fleet.clock.advance(4)
    assert node.settled == [first, second]
    node.say(first)
    node.fleet.bus.settle()
    assert node.settled == [first, second]
    assert node.timers == 0


def test_one_that_ends_before_is_forgotten(node: Node) -> None:
    gone, stays, closing = (node.connect(f"CP-{number}") for number in range(3))
    gone.close(CloseReason.KICKED)
    node.sessions.closed(gone, CloseReason.CONNECTION_LOST, None)
    node.fleet.clock.advance(9)
    closing.close(CloseReason.KICKED)
    node.fleet.clock.advance(1)
    assert node.settled == [stays]
    assert node.timers == 0


def test_nor_is_one_settled_whose_first_answer_is_its_last(node: Node) -> None:
    session = node.connect()
    node.say(session)
    session.close_when_answered(CloseReason.SERVICE_RESTART)
    node.fleet.bus.settle()
    assert session.close_reason is CloseReason.SERVICE_RESTART
    node.sessions.closed(session, CloseReason.CONNECTION_LOST, None)
    node.fleet.bus.settle()
    node.fleet.clock.advance(60)
    assert node.settled == []


def test_one_that_lost_against_another_session_has_never_begun(node: Node) -> None:
    newer = node.connect(epoch=5)
    older = node.connect(epoch=4)
    assert older.close_reason is CloseReason.REPLACED
    assert node.opened == [newer]
    assert node.sessions.find("CP-001") is newer
    node.fleet.clock.advance(10)
    assert node.settled == [newer]


def test_a_fleet_that_says_nothing_leaves_the_reactor_its_turns(node: Node) -> None:
    sessions = [node.connect(f"CP-{number}") for number in range(250)]
    seen: list[int] = []

    def have_a_turn() -> None:
        seen.append(len(node.settled))

    node.act = lambda session: node.fleet.clock.call_later(0, have_a_turn) if session is sessions[0] else None
    node.fleet.clock.advance(10)
    assert seen == [100]
    assert node.settled == sessions
    assert node.timers == 0


def test_one_that_ends_another_when_it_is_settled(node: Node) -> None:
    first, second, third = (node.connect(f"CP-{number}") for number in range(3))

    def end_second(_: Session) -> None:
        if second.close_reason is None:
            second.close(CloseReason.KICKED)
            node.sessions.closed(second, CloseReason.KICKED, None)

    node.act = end_second
    node.fleet.clock.advance(10)
    assert node.settled == [first, third]


def test_one_that_gets_its_first_answer_while_another_is_settled(node: Node) -> None:
    first, second = node.connect("CP-001"), node.connect("CP-002")
    node.act = lambda session: node.say(second, "Nonsense") if session is first else None
    node.fleet.clock.advance(10)
    assert node.settled == [first, second]


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_hook_that_fails_harms_no_session(node: Node, monkeypatch: pytest.MonkeyPatch, is_silent: bool) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(settling_module.log, "observer", logged.append)

    def fail(_: Session) -> None:
        raise ZeroDivisionError

    node.act = fail
    first, second = node.connect("CP-001"), node.connect("CP-002")
    if is_silent:
        node.fleet.clock.advance(10)
    else:
        for session in (first, second):
            node.say(session)
            node.fleet.bus.settle()
    assert node.settled == [first, second]
    assert [event["charge_point_id"] for event in logged] == ["CP-001", "CP-002"]
    assert (first.close_reason, second.close_reason) == (None, None)


def test_nor_does_one_at_the_opening(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(registry_module.log, "observer", logged.append)

    def fail(_: Session) -> None:
        raise ZeroDivisionError

    node.sessions.opened = fail
    session = node.connect()
    assert node.sessions.find("CP-001") is session
    assert [event["event"] for event in logged] == ["session.opened", "session.failed"]


def test_without_hooks_there_is_no_timer(schemas: Schemas) -> None:
    fleet = Fleet(schemas, NobodysRecords())
    session = fleet.connect()
    assert session.first_answered is None
    assert waits(fleet) == []


# Who may be asked.


def test_found_is_who_is_open_and_stays(node: Node) -> None:
    assert node.sessions.find("CP-001") is None
    session = node.connect()
    assert node.sessions.find("CP-001") is session
    assert node.sessions.find("CP-002") is None
    session.close(CloseReason.KICKED)
    assert node.sessions.find("CP-001") is None
    newer = node.connect(epoch=2)
    node.sessions.closed(session, CloseReason.KICKED, None)
    assert node.sessions.find("CP-001") is newer


@pytest.mark.parametrize("is_asked", [True, False])
def test_one_that_waits_for_its_last_answer_is_not_found(node: Node, is_asked: bool) -> None:
    session = node.connect()
    if is_asked:
        assert session.call(Asked("a"))
    else:
        node.say(session)
    session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert session.close_reason is None
    assert node.sessions.find("CP-001") is None
    session.close(CloseReason.SERVICE_RESTART)
    node.fleet.bus.settle()


def test_one_that_is_asked_something_is_found_for_more(node: Node) -> None:
    session = node.connect()
    for message_id in "ab":
        assert session.call(Asked(message_id))
        assert node.sessions.find("CP-001") is session
    session.close(CloseReason.KICKED)
