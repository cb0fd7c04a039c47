"""The door for people: what is requested, and what who waits is told, with the time in the test's hands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from commands.door_parts import PlayedBack
from hypothesis import given
from hypothesis import strategies as st
from support.manual_clock import ManualClock
from twisted.internet.defer import CancelledError, Deferred

from ocpp_gateway.commands.door import CommandDoor, DoorFull, DuplicateCommand, Order, Reply, Standing
from ocpp_gateway.commands.outcome import RETRYABLE
from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.commands.states import Stage
from ocpp_gateway.errors import BusUnavailable, StoreUnavailable

RESET = {"commandType": "Reset", "chargePointId": "CP-1", "payload": {"type": "Soft"}}
ID = "command-1"


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.back = PlayedBack()
        self.notices = 0
        self.door = CommandDoor(
            states=self.back, bus=self.back, clock=self.clock, default_timeout=15.0, most_waiting=2, new_id=lambda: ID
        )

    def order(self, **members: Any) -> Order:
        return self.door.order({**RESET, **members})

    def submit(self, order: Order | None = None, seconds: float = 35.0) -> Deferred[Reply]:
        return Deferred.fromCoroutine(self.door.submit(order or self.order(), seconds=seconds, not_taken=self.notice))

    def notice(self) -> None:
        self.notices += 1

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.door.waiting == 0
    assert bench.clock.timers.getDelayedCalls() == [], "somebody still waits"


def result(waiting: Deferred[Reply]) -> Reply:
    replies: list[Reply] = []
    waiting.addCallback(replies.append)
    (reply,) = replies
    return reply


def failure(waiting: Deferred[Reply]) -> Exception:
    failures: list[Any] = []
    waiting.addErrback(failures.append)
    (found,) = failures
    error = found.value
    assert isinstance(error, Exception)
    return error


def test_the_request_is_the_contracts(bench: Bench) -> None:
    waiting = bench.submit(bench.order(requestedBy={"userId": "ann", "role": "operator"}, connectorId=None))
    bench.back.ends(ID, accepted=True, response={"status": "Accepted"})
    bench.passes(0.1)
    (request,) = bench.back.requests
    assert (request.topic, request.key) == ("cpms.command.requests", b"CP-1")
    assert request.headers == [("content-type", b"application/json")]
    assert request.record == {
        "commandId": ID,
        "timeoutSec": 15.0,
        **RESET,
        "requestedBy": {"userId": "ann", "role": "operator"},
        "requestedAt": "2026-01-02T03:04:05.678Z",
    }
    reply = result(waiting)
    assert reply.is_accepted
    assert reply.members() == {
        "commandId": ID,
        "chargePointId": "CP-1",
        "eventType": "CommandAccepted",
        "payload": {"commandType": "Reset", "accepted": True, "response": {"status": "Accepted"}},
    }


def test_each_has_an_id_of_its_own_unless_it_is_given() -> None:
    back = PlayedBack()
    door = CommandDoor(states=back, bus=back, clock=ManualClock(), default_timeout=15.0)
    ids = {door.order(RESET).command.command_id for _ in range(20)}
    assert len(ids) == 20 and all(len(each) == 36 for each in ids)
    assert door.order({**RESET, "commandId": "mine"}).command.command_id == "mine"


@pytest.mark.parametrize(
    ("members", "reason", "text"),
    [
        ({"commandType": None}, "command_invalid", "commandType"),
        ({"commandType": 7}, "command_invalid", "commandType"),
        ({"payload": [1]}, "payload_invalid", "not an object"),
        ({"timeoutSec": 0}, "command_invalid", "timeoutSec"),
        ({"timeoutSec": True}, "command_invalid", "timeoutSec"),
        ({"deliverWithinSec": 10**9}, "command_invalid", "deliverWithinSec"),
        ({"commandId": ""}, "command_invalid", "commandId"),
        ({"chargePointId": "a\nb"}, "command_invalid", "chargePointId"),
        ({"payload": {"x": "y" * 70_000}}, "command_invalid", "too large"),
        ({"payload": {"x": orjson.loads("[" * 100 + "]" * 100)}}, "command_invalid", "too deep"),
        ({"payload": {"x": orjson.loads("[" * 400 + "]" * 400)}}, "command_invalid", "too deep"),
    ],
)
def test_what_the_gateway_would_not_understand_is_not_requested(
    bench: Bench, members: dict[str, Any], reason: str, text: str
) -> None:
    with pytest.raises(CommandInvalid) as caught:
        bench.order(**members)
    assert (caught.value.reason, text in caught.value.text) == (reason, True)
    assert bench.back.requests == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["commandId", "commandType", "payload", "timeoutSec", "deliverWithinSec", "connectorId"]), _JSON
    )
)
def test_any_members_make_an_order_or_are_invalid(members: dict[str, Any]) -> None:
    bench = Bench()
    try:
        order = bench.order(**members)
    except CommandInvalid as defect:
        assert defect.text
    else:
        assert order.command.charge_point_id == "CP-1"
        assert order.longest_wait == order.command.timeout_seconds * 2 + 5


@pytest.mark.parametrize(
    ("event_type", "payload", "is_accepted"),
    [
        ("CommandAccepted", {"accepted": True}, True),
        ("CommandAccepted", {"accepted": False, "response": {"status": "Rejected"}}, False),
        ("CommandAccepted", {"response": {}}, True),
        ("CommandRejected", {"error": "Rejected by charge point", "reason": "call_error"}, False),
        ("CommandTimeout", {"outcome": "unknown"}, False),
        ("CommandFailed", {"reason": "charge_point_offline"}, False),
    ],
)
def test_only_what_the_charge_point_does_is_accepted(
    bench: Bench, event_type: str, payload: dict[str, Any], is_accepted: bool
) -> None:
    waiting = bench.submit()
    bench.back.ends(ID, event_type, **payload)
    bench.passes(0.1)
    reply = result(waiting)
    assert (reply.event_type, reply.is_accepted, reply.is_repeated) == (event_type, is_accepted, False)


def test_the_final_event_is_told_when_kafka_has_it_or_a_little_later(bench: Bench) -> None:
    prompt = bench.submit()
    bench.back.is_at(ID, Stage.SENT)
    bench.passes(1.0)
    bench.back.ends(ID, stage=Stage.FINAL)
    bench.passes(0.5)
    assert not prompt.called
    bench.back.moves(ID, state=Stage.DONE)
    bench.passes(0.1)
    assert result(prompt).standing is Standing.FINAL
    bench.back.known.clear()

    patient = bench.submit()
    bench.back.ends(ID, stage=Stage.FINAL)
    bench.passes(1.9)
    assert not patient.called
    bench.passes(0.5)
    assert result(patient).event_type == "CommandAccepted"


def test_nobody_takes_it_on(bench: Bench) -> None:
    waiting = bench.submit()
    bench.passes(4.9)
    assert bench.notices == 0
    bench.passes(5.0)
    assert bench.notices == 1 and not waiting.called
    bench.passes(5.5)
    reply = result(waiting)
    assert (reply.standing, reply.is_taken, reply.is_accepted) == (Standing.PENDING, False, False)
    assert reply.members() == {"commandId": ID, "chargePointId": "CP-1", "status": "pending", "taken": False}
    assert bench.notices == 1


def test_taken_on_late_is_taken_on(bench: Bench) -> None:
    waiting = bench.submit()
    bench.passes(7.0)
    bench.back.is_at(ID, Stage.OPEN)
    bench.passes(20.0)
    bench.back.ends(ID)
    bench.passes(1.0)
    assert result(waiting).is_accepted
    assert bench.notices == 1


def test_the_wait_ends_before_the_command(bench: Bench) -> None:
    waiting = bench.submit(seconds=10.0)
    bench.back.is_at(ID, Stage.SENT)
    bench.passes(9.9)
    assert not waiting.called
    bench.passes(0.2)
    assert result(waiting).members() == {"commandId": ID, "chargePointId": "CP-1", "status": "pending"}


def test_a_decided_one_is_told_at_the_end_of_the_wait(bench: Bench) -> None:
    waiting = bench.submit(seconds=1.0)
    bench.back.is_at(ID, Stage.SENT)
    bench.passes(0.5)
    bench.back.ends(ID, stage=Stage.FINAL)
    bench.passes(0.6)
    assert result(waiting).is_accepted


def test_a_parked_one_is_not_waited_for(bench: Bench) -> None:
    waiting = bench.submit(bench.order(deliverWithinSec=3600))
    bench.back.is_at(ID, Stage.OPEN)
    bench.passes(0.1)
    assert not waiting.called
    bench.back.moves(ID, is_parked=True)
    bench.passes(0.1)
    assert result(waiting).members() == {
        "commandId": ID,
        "chargePointId": "CP-1",
        "status": "queued",
        "deliverUntil": "2026-01-02T04:04:05.678Z",
    }


def test_the_same_command_again_is_told_or_waited_for_and_not_requested(bench: Bench) -> None:
    bench.back.ends(ID, accepted=True)
    told = result(bench.submit())
    assert told.members()["repeated"] is True and told.is_accepted
    bench.back.is_at(ID, Stage.SENT)
    waiting = bench.submit()
    bench.passes(1.0)
    bench.back.ends(ID, "CommandTimeout")
    bench.passes(0.1)
    assert result(waiting).event_type == "CommandTimeout"
    bench.back.is_at(ID, Stage.OPEN, is_parked=True)
    assert result(bench.submit()).members() == {
        "commandId": ID,
        "chargePointId": "CP-1",
        "status": "queued",
        "repeated": True,
    }
    assert bench.back.requests == []


@pytest.mark.parametrize("reason", sorted(RETRYABLE))
def test_one_that_failed_for_now_is_requested_again(bench: Bench, reason: str) -> None:
    bench.back.ends(ID, "CommandFailed", reason=reason, source="requests:0:1")
    waiting = bench.submit()
    assert len(bench.back.requests) == 1
    bench.passes(1.0)
    assert not waiting.called, "that was the round before"
    bench.back.is_at(ID, Stage.OPEN, "requests:0:2")
    bench.passes(0.1)
    bench.back.ends(ID, accepted=True, source="requests:0:2")
    bench.passes(0.1)
    reply = result(waiting)
    assert reply.is_accepted and not reply.is_repeated


def test_one_that_failed_for_good_is_not(bench: Bench) -> None:
    bench.back.ends(ID, "CommandFailed", reason="payload_invalid")
    assert result(bench.submit()).payload["reason"] == "payload_invalid"
    assert bench.back.requests == []


def test_an_id_of_somebody_elses_command_is_refused(bench: Bench) -> None:
    bench.back.is_at(ID, Stage.SENT, charge_point_id="CP-2")
    assert isinstance(failure(bench.submit()), DuplicateCommand)
    bench.back.is_at(ID, Stage.DONE, charge_point_id="", source="")  # an earlier gateway's
    assert isinstance(failure(bench.submit()), DuplicateCommand)
    bench.back.is_at(ID, Stage.DONE, summary=b'{"eventType": 1, "payload": {}}')
    assert isinstance(failure(bench.submit()), DuplicateCommand)
    assert bench.back.requests == []


def test_redis_away_at_first_requests_nothing(bench: Bench) -> None:
    bench.back.is_redis_away = True
    assert isinstance(failure(bench.submit()), StoreUnavailable)
    assert bench.back.requests == []


def test_redis_away_meanwhile_is_waited_for(bench: Bench) -> None:
    waiting = bench.submit()
    bench.back.is_at(ID, Stage.OPEN)
    bench.passes(0.2)
    bench.back.is_redis_away = True
    bench.passes(10.0)
    assert not waiting.called and bench.notices == 0
    bench.back.is_redis_away = False
    bench.back.ends(ID)
    bench.passes(0.3)
    assert result(waiting).is_accepted


def test_kafka_that_refuses_is_said_at_once(bench: Bench) -> None:
    bench.back.refuses = BusUnavailable("no client")
    assert isinstance(failure(bench.submit()), BusUnavailable)
    bench.back.refuses = None
    bench.back.confirms = False
    waiting = bench.submit()
    bench.passes(1.0)
    bench.back.requests[0].delivered(BusUnavailable("lost"))
    assert str(failure(waiting)) == "lost"


def test_kafka_that_stays_silent_is_said_after_some_seconds(bench: Bench) -> None:
    bench.back.confirms = False
    waiting = bench.submit()
    bench.passes(4.9)
    assert not waiting.called
    bench.passes(0.5)
    assert isinstance(failure(waiting), BusUnavailable)
    assert bench.notices == 0
    bench.back.requests[0].delivered(BusUnavailable("late"))  # nobody is there any more


def test_a_command_under_way_counts_whatever_kafka_says_of_the_request(bench: Bench) -> None:
    bench.back.confirms = False
    waiting = bench.submit()
    bench.back.is_at(ID, Stage.SENT)
    bench.back.requests[0].delivered(BusUnavailable("the confirmation was lost"))
    bench.passes(6.0)
    bench.back.ends(ID)
    bench.passes(0.3)
    assert result(waiting).is_accepted


def test_who_goes_away_leaves_nothing_behind(bench: Bench) -> None:
    waiting = bench.submit()
    bench.passes(1.0)
    assert bench.door.waiting == 1
    waiting.cancel()
    assert isinstance(failure(waiting), CancelledError)
    looks = bench.back.looks
    bench.passes(5.0)
    assert bench.back.looks == looks
    assert bench.door.waiting == 0


def test_no_more_than_so_many_wait(bench: Bench) -> None:
    bench.back.is_at(ID, Stage.SENT)
    first, second = bench.submit(), bench.submit()
    assert isinstance(failure(bench.submit()), DoorFull)
    bench.back.ends(ID)
    bench.passes(0.1)
    assert result(first).is_accepted and result(second).is_accepted
    assert result(bench.submit()).is_accepted


def test_redis_is_not_asked_more_often_the_longer_it_takes(bench: Bench) -> None:
    waiting = bench.submit(bench.order(timeoutSec=100), seconds=205.0)
    bench.back.is_at(ID, Stage.SENT)
    bench.passes(204.0)
    assert bench.back.looks < 40 + 113 + 176 + 3
    bench.passes(1.1)
    assert result(waiting).standing is Standing.PENDING
