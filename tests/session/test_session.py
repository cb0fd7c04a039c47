"""One session, with the real uplink behind it and Kafka in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from routing.memory_bus import MemoryBus
from routing.routing_parts import station
from support.manual_clock import ManualClock
from twisted.internet.task import Clock as TwistedClock
from twisted.logger import LogEvent

from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session import session as session_module
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.session import Session, SessionIdentity, SessionLimits

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21
START = {"connectorId": 1, "idTag": "T", "meterStart": 0, "timestamp": "2026-01-02T03:04:05Z"}


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


@define(eq=False)
class Line:
    """The WebSocket: what was sent, whether it is read, how it was closed."""

    sent: list[Any] = field(factory=list)
    paused: int = 0
    closed: CloseReason | None = None

    def send_text(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    def close(self, reason: CloseReason) -> None:
        self.closed = reason

    def abort(self) -> None:
        raise AssertionError("nobody asked for that")

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


@define(eq=False)
class Counts:
    calls: list[str] = field(factory=list)
    bad: list[str] = field(factory=list)
    quirks: list[Quirk] = field(factory=list)

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        self.calls.append(outcome)

    def observe_publish(self, seconds: float) -> None:
        """Not looked at here."""

    def count_bad_frame(self, version: OcppVersion, reason: str) -> None:
        self.bad.append(reason)

    def count_quirk(self, version: OcppVersion, quirk: Quirk) -> None:
        self.quirks.append(quirk)


@define(eq=False)
class World:
    schemas: Schemas
    version: OcppVersion = V16
    bus: MemoryBus = field(factory=MemoryBus)
    clock: ManualClock = field(factory=ManualClock)
    line: Line = field(factory=Line)
    counts: Counts = field(factory=Counts)
    holds: Holds = field(init=False)
    session: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.holds = Holds(8.0, self.clock)
        uplink = Uplink(
            schemas=self.schemas,
            bus=self.bus,
            topics={topic: topic.value for topic in Topic},
            holds=self.holds,
            writability=Writability(self.clock, lambda: None, lambda: None),
            counters=self.counts,
            clock=self.clock,
        )
        self.session = Session(
            identity=SessionIdentity(
                charge_point_id="CP-001",
                connection_id="connection-1",
                epoch=1,
                peer="192.0.2.1",
                security_profile=1,
                connected_at_ms=0,
                opened_at=0.0,
            ),
            station=station(self.version),
            connection=self.line,
            uplink=uplink,
            limits=SessionLimits(max_nesting=32, max_bad_frames=10, max_waiting_calls=16, answer_ttl=60.0),
            counters=self.counts,
            clock=self.clock,
        )

    def say(self, action: str, payload: Any, message_id: str = "1") -> None:
        self.hear(json.dumps([2, message_id, action, payload]))

    def hear(self, text: str) -> None:
        self.session.received(text.encode())

    def done(self) -> None:
        while self.bus.waiting:
            self.bus.settle()
        self.holds.stop()
        assert self.timers == []

    @property
    def timers(self) -> list[Any]:
        timers: TwistedClock = self.clock.timers
        return timers.getDelayedCalls()


def test_a_retransmission_gets_its_answer_again_and_makes_no_second_event(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(3):
        world.say("StartTransaction", START)
        world.bus.settle()
    assert len(world.bus.records) == 1
    assert world.line.sent[0] == world.line.sent[1] == world.line.sent[2]
    assert world.counts.calls == ["answered", "retransmitted", "retransmitted"]
    world.clock.advance(61)
    world.say("StartTransaction", START)
    assert len(world.bus.records) == 2
    world.done()


def test_an_answer_with_a_clock_in_it_is_made_anew(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(2):
        world.say("Heartbeat", {})
        world.bus.settle()
        world.clock.advance(15)
    first, second = (frame[2]["currentTime"] for frame in world.line.sent)
    assert first != second
    world.done()


def test_a_refusal_is_thought_over_when_the_call_comes_again(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(2):
        world.say("Nonsense", {})
    assert [frame[2] for frame in world.line.sent] == ["NotImplemented"] * 2
    assert world.counts.calls == ["refused", "refused"]


def test_what_waits_is_bounded_in_bytes_too(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    big = {"vendorId": "V", "data": "x" * 30_000}
    for number in range(3):
        world.say("DataTransfer", big, f"m-{number}")
    assert world.line.paused == 1
    world.bus.settle()
    world.bus.settle()
    assert world.line.paused == 0
    world.done()
    assert [frame[1] for frame in world.line.sent] == ["1", "m-0", "m-1", "m-2"]


def test_calls_that_end_at_once_leave_the_reactor_its_turns(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    for number in range(40):
        world.say("Nonsense", {}, f"m-{number}")
    world.bus.settle()
    assert len(world.line.sent) == 1 + 16
    world.say("Nonsense", {}, "m-40")  # arrives between two turns, and waits for its own
    world.clock.advance(0)
    assert [frame[1] for frame in world.line.sent] == ["1", *(f"m-{number}" for number in range(41))]
    world.done()


def test_bad_frames_end_a_connection_only_one_after_the_other(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(5):
        for _ in range(9):
            world.hear("nonsense")
        world.say("Nonsense", {})
    assert world.line.closed is None
    for _ in range(10):
        world.hear("nonsense")
    assert world.line.closed is CloseReason.BAD_FRAMES


@pytest.mark.parametrize("text", ['[9,"1",{}]', '[2,"%s","Heartbeat",{}]' % ("x" * 38)])
def test_what_firmware_does_for_ever_ends_no_connection(schemas: Schemas, text: str) -> None:
    world = World(schemas)
    for _ in range(50):
        world.hear(text)
    assert world.line.closed is None
    assert len(world.counts.bad) == 50


def test_a_rejected_answer_is_logged_once_a_connection_and_without_the_peers_text(
    schemas: Schemas, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(session_module.log, "observer", logged.append)
    world = World(schemas, V21)
    for number in range(100):
        world.hear(json.dumps([5, str(number), "\x1b]0;owned\x07", "", {}]))
    (event,) = logged
    assert (event["event"], event["code"]) == ("call.answer_rejected", "other")
    assert world.counts.bad == ["callresulterror"] * 100


def test_billing_data_under_a_long_id_is_published_as_it_came(schemas: Schemas) -> None:
    world = World(schemas)
    stop = {"transactionId": 7, "meterStop": 9, "timestamp": "2026-01-02T03:04:05Z"}
    world.say("StopTransaction", stop, "x" * 60)
    (record,) = world.bus.records
    assert record.event["payload"]["payload"] == stop
    assert record.event["payload"]["schemaErrors"] == ["message_id_too_long"]
    assert "rawFrame" not in record.event["payload"]
    world.done()
    assert world.line.sent == [[3, "x" * 60, {}]]


@pytest.mark.parametrize(
    ("version", "text", "answer"),
    [
        (V16, '[2,"m1\n,"StopTransaction",{"transactionId":7}]', []),
        (V16, '[2,"m1",,"StopTransaction",{"transactionId":7}]', [[3, "m1", {}]]),
        (V201, '[2,"m1\n,"TransactionEvent",{"seqNo":7}]', [[3, "-1", {}]]),
    ],
)
def test_billing_data_behind_a_damaged_id_is_kept(
    schemas: Schemas, version: OcppVersion, text: str, answer: list[Any]
) -> None:
    world = World(schemas, version)
    world.hear(text)
    (record,) = world.bus.records
    assert record.event["payload"]["rawFrame"] == text.replace("\n", "?")
    assert record.event["payload"]["schemaErrors"] == ["not_json"]
    world.done()
    assert world.line.sent == answer


def test_a_session_that_is_closing_already_goes_on_reading_when_the_gateway_stops(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    world.session.close(CloseReason.REPLACED)
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert world.line.paused == 0
    assert world.line.closed is CloseReason.REPLACED
    world.done()


def test_stopping_waits_for_the_answer_under_way_and_begins_no_other(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("StartTransaction", START)
    world.say("Heartbeat", {}, "2")
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert world.line.closed is None
    world.bus.settle()
    assert [frame[1] for frame in world.line.sent] == ["1"]
    assert world.line.closed is CloseReason.SERVICE_RESTART
    assert len(world.bus.records) == 1
    world.done()


def test_kafka_gone_closes_without_an_answer(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(schemas)
    monkeypatch.setattr("ocpp_gateway.routing.writability.log.observer", lambda event: None)
    world.say("StartTransaction", START)
    world.clock.advance(8)
    assert world.line.sent == []
    assert world.line.closed is CloseReason.KAFKA_UNAVAILABLE
    assert world.timers == []
