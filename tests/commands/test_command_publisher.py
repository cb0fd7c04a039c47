"""Events about commands, handed over until Kafka has them, and the final ones never twice."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from command_parts import Topic
from support.manual_clock import ManualClock
from support.told_log import told
from twisted.internet.defer import CancelledError, Deferred

from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.outcome import Outcome
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.states import Final
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.ocppj.frames import CallError
from ocpp_gateway.routing.envelope import EventRecord

VALUE = b'{"eventType":"CommandFailed","correlationId":"c-1","payload":{"reason":"outbox_full"}}'


class Permanent(BusUnavailable):
    @property
    def permanent(self) -> bool:
        return True


def final(number: int = 1) -> Final:
    return Final(f"e-{number}", b"CP-001", VALUE, [("ce_id", f"e-{number}".encode())])


def record(number: int = 1) -> EventRecord:
    return EventRecord(f"e-{number}", VALUE, [("ce_id", f"e-{number}".encode())])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def events(clock: ManualClock, topic: Topic) -> CommandEvents:
    return CommandEvents(bus=topic, topic="ocpp.command.events", search=topic.search, clock=clock)


def ids(topic: Topic) -> list[str]:
    return [event_id for event_id, _ in topic.records]


def test_one_that_was_refused_at_once_is_tried_again_without_a_search(
    events: CommandEvents, topic: Topic, clock: ManualClock
) -> None:
    topic.raises.append(BusQueueFull("full"))
    told = Deferred.fromCoroutine(events.publish_final(final()))
    assert not told.called
    clock.advance(2.0)
    assert told.called
    assert ids(topic) == ["e-1"]
    assert topic.searches == []


@pytest.mark.parametrize("arrives", [True, False])
def test_one_whose_fate_is_not_known_is_looked_for_first(
    events: CommandEvents, topic: Topic, clock: ManualClock, arrives: bool
) -> None:
    topic.failures.append(BusUnavailable("lost"))
    topic.arrives_all_the_same = arrives
    told = Deferred.fromCoroutine(events.publish_final(final()))
    assert not told.called
    clock.advance(2.0)
    assert told.called
    assert ids(topic) == ["e-1"]
    assert topic.searches == [{"e-1"}]


def test_one_that_a_dead_node_may_have_published_is_looked_for_first(
    events: CommandEvents, topic: Topic, clock: ManualClock
) -> None:
    topic.append(VALUE, final().headers)
    both = [Deferred.fromCoroutine(events.publish_final(final(each), since_ms=1)) for each in (1, 2)]
    clock.advance(0.0)
    assert all(told.called for told in both)
    assert ids(topic) == ["e-1", "e-2"]
    assert topic.searches == [{"e-1", "e-2"}]


def test_while_the_topic_cannot_be_searched_it_waits(clock: ManualClock, topic: Topic) -> None:
    problems: list[Exception] = [BusUnavailable("away")] * 3

    async def search(event_ids: set[str], since_ms: int) -> set[str]:
        if problems:
            raise problems.pop()
        return await topic.search(event_ids, since_ms)

    events = CommandEvents(bus=topic, topic="ocpp.command.events", search=search, clock=clock)
    told = Deferred.fromCoroutine(events.publish_final(final(), since_ms=1))
    clock.advance(0.0)
    for _ in range(2):
        clock.advance(2.0)
        assert ids(topic) == []
    clock.advance(2.0)
    assert told.called
    assert ids(topic) == ["e-1"]


def test_that_the_topic_cannot_be_searched_is_told_once_in_a_while(clock: ManualClock, topic: Topic) -> None:
    async def search(event_ids: set[str], since_ms: int) -> set[str]:
        raise BusUnavailable("no right to read")

    events = CommandEvents(bus=topic, topic="ocpp.command.events", search=search, clock=clock)
    Deferred.fromCoroutine(events.publish_final(final(), since_ms=1)).addErrback(lambda failure: None)
    with told() as lines:
        for _ in range(200):
            clock.advance(2.0)
    assert [line["event"] for line in lines] == ["command.search_failed"] * 2
    assert (lines[0]["reason"], lines[0]["waiting"]) == (BusUnavailable.reason, 1)
    assert Deferred.fromCoroutine(events.stop()).called


def test_an_event_that_is_not_final_is_handed_over_again_without_a_search(
    events: CommandEvents, topic: Topic, clock: ManualClock
) -> None:
    topic.failures.append(BusUnavailable("lost"))
    events.tell(b"CP-001", record())
    clock.advance(2.0)
    assert ids(topic) == ["e-1"]
    assert topic.searches == []


def test_one_that_kafka_never_takes_keeps_nobody_waiting(
    events: CommandEvents, topic: Topic, clock: ManualClock
) -> None:
    topic.failures.extend([Permanent("too large")] * 4)
    ended = Deferred.fromCoroutine(events.publish_final(final()))
    with told() as lines:
        for _ in range(3):
            assert not ended.called
            clock.advance(2.0)
    assert ended.called
    assert ids(topic) == []
    assert [(line["event"], line["log_level"].name) for line in lines] == [("event.lost", "error")]


def test_one_that_is_not_final_is_given_up_at_once(events: CommandEvents, topic: Topic) -> None:
    topic.failures.append(Permanent("refused"))
    with told() as lines:
        ended = Deferred.fromCoroutine(events.publish(b"CP-001", record()))
    assert ended.called
    assert ids(topic) == []
    assert [line["event"] for line in lines] == ["event.lost"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (
            outcomes.accepted("DataTransfer", {"status": "Accepted", "data": "x" * 5000}),
            {"accepted": True, "response": {}, "responseOmitted": "kafka_unavailable"},
        ),
        (
            outcomes.call_error(CallError("m", "InternalError", "d" * 300, {"errorCode": "x" * 5000})),
            {
                "error": "Rejected by charge point",
                "reason": "call_error",
                "response": {"errorCode": "InternalError", "errorDetails": {}},
                "responseOmitted": "kafka_unavailable",
            },
        ),
    ],
    ids=["a CALLRESULT", "a CALLERROR"],
)
def test_one_that_is_too_large_goes_without_what_the_charge_point_said(
    events: CommandEvents, topic: Topic, clock: ManualClock, outcome: Outcome, left: dict[str, Any], at_once: bool
) -> None:
    (topic.raises if at_once else topic.failures).append(Permanent("too large"))
    value = orjson.dumps({"eventType": outcome.event_type, "correlationId": "c-1", "payload": outcome.payload})
    with told() as lines:
        ended = Deferred.fromCoroutine(events.publish_final(Final("e-1", b"CP-001", value, final().headers)))
        clock.advance(2.0)
    assert ended.called
    ((event_id, event),) = topic.records
    assert (event_id, event) == ("e-1", {**orjson.loads(value), "payload": left})
    assert [(line["event"], line["log_level"].name) for line in lines] == [("event.shortened", "warn")]
    assert topic.searches == []


def test_events_that_nobody_waits_for_are_kept_up_to_a_limit(
    events: CommandEvents, topic: Topic, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.raises.extend([BusQueueFull("full")] * 10_001)
    for number in range(10_001):
        events.tell(b"CP-001", record(number))
    clock.advance(2.0)
    assert len(topic.records) == 10_000
    assert ids(topic)[0] == "e-1"


async def test_whoever_waits_is_told_when_it_is_given_up(events: CommandEvents, topic: Topic) -> None:
    topic.raises.append(BusQueueFull("full"))
    told = Deferred.fromCoroutine(events.publish_final(final()))
    await events.stop()
    with pytest.raises(CancelledError):
        await told
