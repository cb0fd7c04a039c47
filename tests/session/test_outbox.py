"""What is asked of a charge point: one CALL at a time, each ended exactly once, whatever happens meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asked import Asked
from session_parts import LIMITS
from session_world import World
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.session import outbox as outbox_module
from ocpp_gateway.session.reasons import CloseReason

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21
ACCEPTED = {"status": "Accepted"}
ANSWERED = ("answered", ACCEPTED)


@pytest.fixture
def world(schemas: Schemas) -> World:
    return World(schemas)


def frame(message_id: str) -> list[Any]:
    return [2, message_id, "Reset", {"type": "Soft"}]


def result(message_id: Any, payload: Any = ACCEPTED) -> str:
    return json.dumps([3, message_id, payload])


def ask(world: World, *message_ids: str, **facts: Any) -> list[Asked]:
    calls = [Asked(message_id, **facts) for message_id in message_ids]
    assert [world.session.call(call) for call in calls] == [True] * len(calls)
    return calls


def test_a_call_goes_out_and_its_answer_comes_back(world: World) -> None:
    (call,) = ask(world, "a")
    assert world.line.sent == [frame("a")]
    world.hear(result("a"))
    assert call.told == ["sent", ANSWERED]
    assert call.clearings == 1
    assert world.session.messages_out == 1
    assert world.counts.bad == []
    world.done()


def test_one_after_the_other_in_the_order_in_which_they_were_submitted(world: World) -> None:
    calls = ask(world, "a", "b", "c")
    for number, message_id in enumerate("abc"):
        assert world.line.sent == [frame(sent) for sent in "abc"[: number + 1]]
        assert [call.clearings for call in calls] == [1] * (number + 1) + [0] * (2 - number)
        world.hear(result(message_id))
    assert [call.told for call in calls] == [["sent", ANSWERED]] * 3
    world.done()


def test_calls_cross_even_under_the_same_id(world: World) -> None:
    (call,) = ask(world, "1")
    world.say("Heartbeat", {}, "1")
    assert call.told == ["sent"]
    world.bus.settle()
    assert [sent[:2] for sent in world.line.sent] == [[2, "1"], [3, "1"]]
    world.say("Heartbeat", {}, "2")
    world.hear(result("1"))  # before the second one of the charge point's has its own answer
    assert call.told == ["sent", ANSWERED]
    world.bus.settle()
    assert [sent[:2] for sent in world.line.sent] == [[2, "1"], [3, "1"], [3, "2"]]
    world.done()


def test_what_waits_of_the_charge_point_s_own_does_not_hold_up_its_answer(world: World) -> None:
    (call,) = ask(world, "a")
    for number in range(3):
        world.say("Heartbeat", {}, f"m-{number}")
    world.hear(result("a"))
    assert call.told == ["sent", ANSWERED]
    world.done()
    assert [sent[1] for sent in world.line.sent] == ["a", "m-0", "m-1", "m-2"]


def test_of_answers_in_one_go_the_first_counts(world: World) -> None:
    calls = ask(world, "a", "b")
    world.hear(result("a"))
    world.hear(result("a", {"status": "Rejected"}))
    world.hear(json.dumps([4, "a", "GenericError", "", {}]))
    assert [call.told for call in calls] == [["sent", ANSWERED], ["sent"]]
    assert world.counts.bad == ["unexpected_answer"] * 2
    world.hear(result("b"))
    assert calls[1].told == ["sent", ANSWERED]
    world.hear(result("b"))
    assert world.counts.bad == ["unexpected_answer"] * 3
    world.done()


def test_an_answer_that_is_ahead_of_its_call_is_none(world: World) -> None:
    go: Deferred[bool] = Deferred()
    (call,) = ask(world, "a", may_go=go)
    world.hear(result("a"))
    assert (call.told, world.counts.bad) == ([], ["unexpected_answer"])
    go.callback(True)
    world.hear(result("a"))
    assert call.told == ["sent", ANSWERED]
    world.done()


@pytest.mark.parametrize("answer", ["[3,1,{}]", '[4,1,"GenericError","",{}]'])
def test_a_number_is_not_the_text_that_looks_the_same(world: World, answer: str) -> None:
    (call,) = ask(world, "1")
    world.hear(answer)
    assert call.told == ["sent"]
    assert world.counts.bad == ["unexpected_answer"]
    assert Quirk.NUMERIC_MESSAGE_ID in world.counts.quirks
    world.clock.advance(15)
    assert call.told == ["sent", "timed_out"]
    world.done()


def test_a_callerror_of_four_elements_is_an_answer(world: World) -> None:
    calls = ask(world, "a", "b")
    world.hear('[4,"a","NotSupported","no"]')
    assert calls[0].told == ["sent", ("refused", "NotSupported")]
    assert world.counts.quirks == [Quirk.SHORT_CALLERROR]
    assert calls[1].told == ["sent"]
    world.hear(result("b"))
    world.done()


# No answer.


def test_without_an_answer_the_next_one_goes_out_and_the_late_answer_is_dropped(world: World) -> None:
    (first,) = ask(world, "a", timeout=3.0)
    (second,) = ask(world, "b", timeout=5.0)
    world.clock.advance(2.9)
    assert world.line.sent == [frame("a")]
    world.clock.advance(0.1)
    assert first.told == ["sent", "timed_out"]
    assert world.line.sent == [frame("a"), frame("b")]
    world.hear(result("a"))
    world.hear(json.dumps([4, "a", "GenericError", "", {}]))
    assert second.told == ["sent"]
    assert world.counts.bad == ["unexpected_answer"] * 2
    world.hear(result("b"))
    assert second.told == ["sent", ANSWERED]
    assert first.told == ["sent", "timed_out"]
    world.done()


def test_an_answer_in_time_stops_the_timer_of_its_own_call_only(world: World) -> None:
    (first,) = ask(world, "a", timeout=3.0)
    (second,) = ask(world, "b", timeout=3.0)
    world.clock.advance(2)
    world.hear(result("a"))
    world.clock.advance(2.9)
    assert second.told == ["sent"]
    world.clock.advance(0.1)
    assert (first.told, second.told) == (["sent", ANSWERED], ["sent", "timed_out"])
    world.done()


def test_a_late_answer_when_nothing_is_asked_any_more_is_counted(world: World) -> None:
    ask(world, "a", timeout=3.0)
    world.clock.advance(3)
    assert world.session._outbox is None
    world.hear(result("a"))
    assert world.counts.bad == ["unexpected_answer"]
    world.done()


# Answers that are none.


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('[3,"a",[]]', "payload_not_an_object"),
        ('[3,"a",{},{}]', "wrong_arity"),
        ('[3,"a",{"status":"Accepted","status":"Rejected"}]', "duplicate_key"),
        ('[3,"a",{"status":,}]', "not_json"),
        ('[3,"a",%s]' % ('{"x":' * 40 + "1" + "}" * 40), "too_deep"),
        ('[4,"a"]', "wrong_arity"),
        ('[4,"a",7,"",{}]', "bad_error_code"),
    ],
)
@pytest.mark.parametrize("version", [V16, V201, V21])
def test_an_answer_of_which_only_the_id_can_be_read_ends_the_call(
    schemas: Schemas, version: OcppVersion, answer: str, reason: str
) -> None:
    world = World(schemas, version)
    first, second = ask(world, "a", "b")
    world.hear(answer)
    assert first.told == ["sent", ("unreadable", reason)]
    assert second.told == ["sent"]
    assert world.counts.bad == [reason]
    rejections = [sent for sent in world.line.sent if sent[0] == 5]
    assert len(rejections) == (version is V21 and answer.startswith("[3"))
    assert all(sent[1] == "a" and sent[3] == f": {reason}" for sent in rejections)
    assert [sent[1] for sent in world.line.sent if sent[0] == 2] == ["a", "b"]
    world.hear(result("b"))
    world.done()


@pytest.mark.parametrize("text", ['[3,"b",[]]', "[3,1,[]]", "[3]", '[6,"a",[]]', "nonsense", '[2,"a","Reset",[]]'])
def test_what_is_broken_and_meant_for_nothing_in_flight_ends_nothing(world: World, text: str) -> None:
    (call,) = ask(world, "a")
    world.hear(text)
    assert call.told == ["sent"]
    world.hear(result("a"))
    assert call.told == ["sent", ANSWERED]
    world.done()


def test_the_last_broken_answer_that_is_borne_ends_its_call_and_loses_the_next(world: World) -> None:
    first, second = ask(world, "a", "b")
    for _ in range(LIMITS.max_bad_frames - 1):
        world.hear("nonsense")
    world.hear('[3,"a",[]]')
    assert world.line.closed is CloseReason.BAD_FRAMES
    assert first.told == ["sent", ("unreadable", "payload_not_an_object")]
    assert second.told == ["sent", ("lost", True)]
    world.done()


@pytest.mark.parametrize(
    ("version", "spelling", "rejections"),
    [
        (V16, "OccurenceConstraintViolation", []),
        (V201, "OccurrenceConstraintViolation", []),
        (V21, "OccurrenceConstraintViolation", [[5, "a", "OccurrenceConstraintViolation", "/status: missing", {}]]),
    ],
)
def test_an_answer_that_breaks_its_schema_is_rejected_where_the_version_knows_how(
    schemas: Schemas, version: OcppVersion, spelling: str, rejections: list[Any]
) -> None:
    world = World(schemas, version)
    missing = Violation(ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "/status", "missing")
    ask(world, "a", violation=missing)
    (after,) = ask(world, "b")
    world.hear(result("a", {}))
    assert world.line.sent == [frame("a"), *rejections, frame("b")]
    assert world.session.last_error == spelling
    world.hear(result("b"))
    assert after.told == ["sent", ANSWERED]
    world.done()


# Clearing: what must be settled right before the frame is written.


def test_a_call_waits_until_it_is_cleared_and_the_others_behind_it(world: World) -> None:
    go: Deferred[bool] = Deferred()
    (first,) = ask(world, "a", may_go=go)
    (second,) = ask(world, "b")
    world.clock.advance(100)
    assert (world.line.sent, first.told, second.clearings) == ([], [], 0)
    go.callback(True)
    assert (world.line.sent, first.told) == ([frame("a")], ["sent"])
    world.clock.advance(14.9)  # its time began when it was written
    assert first.told == ["sent"]
    world.hear(result("a"))
    world.hear(result("b"))
    world.done()


def test_a_call_that_is_not_cleared_is_left_out(world: World) -> None:
    late: Deferred[bool] = Deferred()
    left_out = ask(world, "a", "b", may_go=False) + ask(world, "c", may_go=late)
    (call,) = ask(world, "d")
    assert world.line.sent == []
    late.callback(False)
    assert world.line.sent == [frame("d")]
    assert [each.told for each in left_out] == [[], [], []]
    world.hear(result("d"))
    assert call.told == ["sent", ANSWERED]
    ask(world, "e", may_go=False)
    assert world.session._outbox is None
    world.done()


def test_a_clearing_that_fails_loses_its_call_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(outbox_module.log, "observer", logged.append)
    broken: Deferred[bool] = Deferred()
    (first,) = ask(world, "a", may_go=broken)
    (second,) = ask(world, "b")
    broken.errback(ZeroDivisionError())
    assert first.told == [("lost", False)]
    assert world.line.sent == [frame("b")]
    assert [event["event"] for event in logged] == ["session.failed"]
    world.hear(result("b"))
    assert second.told == ["sent", ANSWERED]
    world.done()


# The bound.


def test_as_many_wait_as_may_besides_the_one_under_way(world: World) -> None:
    most = LIMITS.max_waiting_commands
    calls = ask(world, *(f"m-{number}" for number in range(most + 1)))
    one_more = Asked("late")
    assert world.session.call(one_more) is False
    assert world.session.takes_calls
    world.hear(result("m-0"))
    assert world.session.call(one_more) is True
    for number in range(1, most + 1):
        world.hear(result(f"m-{number}"))
    world.hear(result("late"))
    assert [call.told for call in (*calls, one_more)] == [["sent", ANSWERED]] * (most + 2)
    world.done()


def test_nothing_is_kept_for_a_charge_point_that_is_not_asked_anything(world: World) -> None:
    assert world.session._outbox is None
    ask(world, "a", "b")
    world.hear(result("a"))
    assert world.session._outbox is not None
    world.hear(result("b"))
    assert world.session._outbox is None
    world.done()


# The end of the session.


def lose_by_close(world: World) -> None:
    world.session.close(CloseReason.KICKED)


def lose_by_abort(world: World) -> None:
    world.session.abort(CloseReason.STALE)


def lose_by_network(world: World) -> None:
    world.session.closed(CloseReason.CONNECTION_LOST)


ENDS = pytest.mark.parametrize("end", [lose_by_close, lose_by_abort, lose_by_network])


@ENDS
def test_at_the_end_all_are_told_at_once_and_once(world: World, end: Any) -> None:
    order: list[str] = []
    calls = [Asked(message_id) for message_id in "abc"]
    for call in calls:
        call.then = lambda what, call=call: order.append(f"{call.message_id} {what}")
        assert world.session.call(call)
    end(world)
    assert [call.told for call in calls] == [["sent", ("lost", True)], [("lost", False)], [("lost", False)]]
    assert order == ["a sent", "a lost", "b lost", "c lost"]
    assert world.timers == []
    world.session.closed(CloseReason.CONNECTION_LOST)
    world.hear(result("a"))
    assert len(order) == 4
    assert world.line.sent == [frame("a")]


@ENDS
@pytest.mark.parametrize("verdict", [True, False])
def test_one_that_is_being_cleared_at_the_end_is_never_written(world: World, end: Any, verdict: bool) -> None:
    go: Deferred[bool] = Deferred()
    (first,) = ask(world, "a", may_go=go)
    (second,) = ask(world, "b")
    end(world)
    assert (first.told, second.told) == ([("lost", False)], [("lost", False)])
    go.callback(verdict)
    assert (first.told, second.clearings) == ([("lost", False)], 0)
    assert world.line.sent == []
    assert world.timers == []


def test_nor_does_it_matter_when_that_clearing_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(outbox_module.log, "observer", logged.append)
    go: Deferred[bool] = Deferred()
    (call,) = ask(world, "a", may_go=go)
    lose_by_close(world)
    go.errback(ZeroDivisionError())
    assert call.told == [("lost", False)]
    assert len(logged) == 1


def test_an_answer_in_the_turn_of_the_close_counts_if_it_came_before(world: World) -> None:
    before, after = ask(world, "a", "b")
    world.hear(result("a"))
    lose_by_close(world)
    world.hear(result("b"))
    assert before.told == ["sent", ANSWERED]
    assert after.told == ["sent", ("lost", True)]
    assert world.counts.bad == []


@ENDS
def test_nothing_is_taken_after_the_end(world: World, end: Any) -> None:
    end(world)
    call = Asked("a")
    assert not world.session.takes_calls
    assert world.session.call(call) is False
    assert (call.told, call.clearings, world.line.sent) == ([], 0, [])


# Stopping: the answer under way first, ours as well as theirs.


def test_stopping_waits_for_the_answer_to_our_call_and_serves_the_charge_point_meanwhile(world: World) -> None:
    first, second = ask(world, "a", "b")
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert (world.line.closed, world.line.paused) == (None, 0)
    assert second.told == [("lost", False)]
    assert not world.session.takes_calls
    assert world.session.call(Asked("c")) is False
    world.say("Heartbeat", {})
    world.bus.settle()
    assert [sent[:2] for sent in world.line.sent] == [[2, "a"], [3, "1"]]
    world.hear(result("a"))
    assert first.told == ["sent", ANSWERED]
    assert world.line.closed is CloseReason.SERVICE_RESTART
    assert second.told == [("lost", False)]
    world.done()


def test_and_then_for_the_one_to_the_call_of_the_charge_point(world: World) -> None:
    (call,) = ask(world, "a")
    world.say("Heartbeat", {})
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    world.hear(result("a"))
    assert (call.told, world.line.closed, world.line.paused) == (["sent", ANSWERED], None, 1)
    assert world.session.call(Asked("b")) is False
    world.bus.settle()
    assert world.line.closed is CloseReason.SERVICE_RESTART
    world.done()


def test_stopping_waits_no_longer_than_the_call_does(world: World) -> None:
    (call,) = ask(world, "a", timeout=3.0)
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    world.clock.advance(2.9)
    assert world.line.closed is None
    world.clock.advance(0.1)
    assert (call.told, world.line.closed) == (["sent", "timed_out"], CloseReason.SERVICE_RESTART)
    world.done()


def test_nor_than_the_gateway_has_time(world: World) -> None:
    (call,) = ask(world, "a")
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    world.session.close(CloseReason.SERVICE_RESTART)
    assert call.told == ["sent", ("lost", True)]
    assert world.line.closed is CloseReason.SERVICE_RESTART
    world.done()


@pytest.mark.parametrize("verdict", [True, False])
def test_stopping_does_not_wait_for_what_is_not_sent(world: World, verdict: bool) -> None:
    go: Deferred[bool] = Deferred()
    first, second = (*ask(world, "a", may_go=go), *ask(world, "b"))
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert world.line.closed is CloseReason.SERVICE_RESTART
    go.callback(verdict)
    assert (first.told, second.told) == ([("lost", False)], [("lost", False)])
    assert world.line.sent == []
    world.done()


def test_nothing_is_begun_while_the_last_call_of_the_charge_point_is_answered(world: World) -> None:
    go: Deferred[bool] = Deferred()
    world.say("Heartbeat", {})
    (call,) = ask(world, "a", may_go=go)
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    go.callback(True)
    assert call.told == [("lost", False)]
    assert world.session.call(Asked("b")) is False
    world.bus.settle()
    assert [sent[:2] for sent in world.line.sent] == [[3, "1"]]
    assert world.line.closed is CloseReason.SERVICE_RESTART
    world.done()


# Whoever is told may do anything.

TOLD = pytest.mark.parametrize(
    ("what", "happens"),
    [
        ("answered", lambda world: world.hear(result("a"))),
        ("refused", lambda world: world.hear('[4,"a","GenericError","",{}]')),
        ("unreadable", lambda world: world.hear('[3,"a",[]]')),
        ("timed_out", lambda world: world.clock.advance(15)),
        ("sent", lambda world: None),
    ],
)


@TOLD
def test_another_call_may_be_submitted_by_who_is_told_and_comes_behind_those_that_wait(
    world: World, what: str, happens: Any
) -> None:
    third = Asked("c")
    first = Asked("a", then=lambda told: world.session.call(third) if told == what else None)
    assert world.session.call(first)
    (second,) = ask(world, "b")
    happens(world)
    world.hear(result("a"))
    world.hear(result("b"))
    world.hear(result("c"))
    assert [sent[1] for sent in world.line.sent if sent[0] == 2] == ["a", *(("c", "b") if what == "sent" else "bc")]
    world.hear(result("b"))
    assert (second.told, third.told) == (["sent", ANSWERED], ["sent", ANSWERED])
    assert len(first.told) == 2
    world.done()


@TOLD
@pytest.mark.parametrize("reason", [CloseReason.KICKED, CloseReason.SERVICE_RESTART])
def test_the_session_may_be_ended_by_who_is_told(world: World, what: str, happens: Any, reason: CloseReason) -> None:
    end = world.session.close if reason is CloseReason.KICKED else world.session.close_when_answered
    first = Asked("a", then=lambda told: end(reason) if told == what else None)
    second = Asked("b")
    go: Deferred[bool] = Deferred()
    first.may_go = go
    assert world.session.call(first)
    assert world.session.call(second)
    go.callback(True)
    happens(world)
    if what == "sent" and reason is CloseReason.SERVICE_RESTART:  # it is in flight: this waits for its answer
        assert world.line.closed is None
        world.hear(result("a"))
        assert first.told == ["sent", ANSWERED]
    elif what == "sent":
        assert first.told == ["sent", ("lost", True)]
    else:
        assert len(first.told) == 2  # its end is no other because of that
    assert world.line.closed is reason
    assert second.told == [("lost", False)]
    assert [sent[1] for sent in world.line.sent if sent[0] == 2] == ["a"]
    world.session.closed(reason)
    assert world.timers == []
    assert len(first.told) == 2


@pytest.mark.parametrize("reason", [CloseReason.KICKED, CloseReason.SERVICE_RESTART])
def test_who_is_told_of_the_end_may_submit_in_vain_and_end_it_again(world: World, reason: CloseReason) -> None:
    refused: list[bool] = []

    def told(what: str) -> None:
        if what == "lost":
            refused.append(world.session.call(Asked("late")))
            world.session.close(reason)

    calls = ask(world, "a", "b", "c", then=told)
    if reason is CloseReason.KICKED:
        world.session.close(reason)
    else:
        world.session.close_when_answered(reason)
    assert [call.told for call in calls] == [["sent", ("lost", True)], [("lost", False)], [("lost", False)]]
    assert refused == [False] * 3
    assert world.line.closed is reason
    assert world.line.sent == [frame("a")]
    world.done()


def test_a_rejection_comes_before_what_is_submitted_because_of_it(schemas: Schemas) -> None:
    world = World(schemas, V21)
    wrong = Violation(ErrorCode.TYPE_CONSTRAINT_VIOLATION, "/status", "not of type string")
    first = Asked("a", violation=wrong)
    first.then = lambda told: world.session.call(Asked("b")) if told == "answered" else None
    assert world.session.call(first)
    world.hear(result("a", {"status": 1}))
    assert [sent[:2] for sent in world.line.sent] == [[2, "a"], [5, "a"], [2, "b"]]
    world.hear(result("b"))
    world.done()


def test_who_ends_the_session_because_a_clearing_failed_is_told_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module.log, "observer", lambda event: None)
    broken: Deferred[bool] = Deferred()
    first, second = ask(world, "a", may_go=broken, then=lambda told: lose_by_close(world)) + ask(world, "b")
    broken.errback(ZeroDivisionError())
    assert (first.told, second.told) == ([("lost", False)], [("lost", False)])
    assert world.line.sent == []
    world.done()


def test_a_session_that_ends_while_a_call_is_being_cleared_in_the_same_turn(world: World) -> None:
    class Closing(Asked):
        async def cleared(self) -> bool:
            world.session.close(CloseReason.KICKED)
            return True

    call = Closing("a")
    assert world.session.call(call)
    assert call.told == [("lost", False)]
    assert world.line.sent == []
    world.done()


def test_a_connection_that_takes_no_more_ends_with_the_call_in_flight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(world.line), "send_text", lambda line, data: world.session.abort(CloseReason.SLOW_CONSUMER)
    )
    first, second = (Asked("a"), Asked("b"))
    assert world.session.call(first)
    assert world.session.call(second) is False
    assert first.told == [("lost", True)]
    assert world.timers == []


@pytest.mark.parametrize("what", ["sent", "answered", "lost"])
def test_who_fails_when_told_harms_neither_the_others_nor_the_session(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(outbox_module.log, "observer", logged.append)

    def fail(told: str) -> None:
        if told == what:
            raise ZeroDivisionError

    calls = [Asked("a", then=fail), Asked("b", then=fail)]
    for call in calls:
        assert world.session.call(call)
    world.hear(result("a"))
    assert world.line.sent == [frame("a"), frame("b")]
    world.session.close(CloseReason.KICKED)
    assert calls[1].told == ["sent", ("lost", True)]
    assert {event["event"] for event in logged} == {"session.failed"}
    assert len(logged) == (2 if what == "sent" else 1)
    world.done()
