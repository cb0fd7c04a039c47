"""A CALL is answered behind Kafka's confirmation or not at all, and its outcome has one name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from adapters.adapter_ports import MemoryStore
from attrs import define, field
from memory_bus import MemoryBus
from routing_parts import station
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from ocpp_gateway.adapters.answers import Answer, Caller, Topic
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import Call, Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import Station, UnreadableCall
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.routing.writability import Writability

HOLD = 8.0
V16, V21 = OcppVersion.V16, OcppVersion.V21
START = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 0, "timestamp": "2026-01-02T03:04:05Z"}


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


@define(eq=False)
class Counters:
    calls: list[tuple[str, str, str]] = field(factory=list)
    seconds: list[float] = field(factory=list)

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        self.calls.append((version.label, action, outcome))

    def observe_publish(self, seconds: float) -> None:
        self.seconds.append(seconds)


@define(eq=False)
class Said:
    """What became of one CALL: at most one thing, once."""

    frames: list[Any] = field(factory=list)
    again: list[bool] = field(factory=list)
    given_up: int = 0
    reasons: list[str] = field(factory=list)

    def finish(self, frame: bytes | None, again: bool) -> None:
        self.again.append(again)
        self.frames.append(None if frame is None else json.loads(frame))

    def give_up(self, reason: str) -> None:
        self.reasons.append(reason)
        self.given_up += 1

    @property
    def nothing_yet(self) -> bool:
        return not self.frames and not self.given_up


@define(eq=False)
class World:
    schemas: Schemas
    bus: MemoryBus = field(factory=MemoryBus)
    store: MemoryStore = field(factory=MemoryStore)
    clock: ManualClock = field(factory=ManualClock)
    counters: Counters = field(factory=Counters)
    changes: list[str] = field(factory=list)
    writability: Writability = field(init=False)
    holds: Holds = field(init=False)
    uplink: Uplink = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.writability = Writability(
            self.clock,
            lambda: self.changes.append("lost"),
            lambda: self.changes.append("regained"),
            when_room=self.bus.when_room,
        )
        self.holds = Holds(HOLD, self.clock)
        self.uplink = Uplink(
            schemas=self.schemas,
            bus=self.bus,
            topics={topic: topic.value for topic in Topic},
            holds=self.holds,
            writability=self.writability,
            counters=self.counters,
            clock=self.clock,
        )

    def take(self, call: Call | Send | UnreadableCall, of: Station | None = None) -> Said:
        said = Said()
        self.uplink.take(of or station(V16, self.store), call, said.finish, said.give_up)
        return said

    def say(self, action: str, payload: Mapping[str, Any], of: Station | None = None, id: str = "m-1") -> Said:
        of = of or station(V16, self.store)
        call = decode(json.dumps([2, id, action, payload]).encode(), of.version)
        assert isinstance(call, Call)
        return self.take(call, of)

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, _, outcome in self.counters.calls]


@pytest.fixture
def world(schemas: Schemas) -> World:
    return World(schemas)


class TestAnswered:
    def test_only_behind_the_confirmation(self, world: World) -> None:
        said = world.say("Heartbeat", {})
        world.clock.advance(1.5)
        assert said.nothing_yet
        assert world.outcomes == []
        world.bus.settle()
        # The clock is the one of the answer, not of the question.
        assert said.frames == [[3, "m-1", {"currentTime": "2026-01-02T03:04:07Z"}]]
        assert world.counters.calls == [("1.6J", "Heartbeat", "answered")]
        assert world.counters.seconds == [1.5]
        assert len(world.holds) == 0

    def test_the_event_is_keyed_and_routed(self, world: World) -> None:
        world.say("Heartbeat", {})
        world.say("StartTransaction", START)
        world.bus.settle()
        heartbeat, start = world.bus.records
        assert (heartbeat.topic, heartbeat.key) == ("ocpp.station.events", b"station-1")
        assert (start.topic, start.key) == ("ocpp.session.events", b"station-1")
        assert start.event["payload"]["payload"] == START
        assert start.event["messageId"] == "m-1"

    def test_what_needs_redis_too(self, world: World) -> None:
        said = world.say("StartTransaction", START)
        assert said.nothing_yet
        world.bus.settle()
        ((kind, _, answer),) = said.frames
        assert kind == 3
        assert answer["transactionId"] == world.bus.records[0].event["payload"]["transactionId"]

    def test_it_is_remembered_only_behind_the_confirmation(self, world: World) -> None:
        first = world.say("StartTransaction", START)
        world.bus.settle(BusUnavailable("given up"))
        again = world.say("StartTransaction", START, id="m-2")
        world.bus.settle()
        third = world.say("StartTransaction", START, id="m-3")
        world.bus.settle()
        assert [record.event["payload"]["idempotent"] for record in world.bus.records] == [False, False, True]
        assert first.frames == []
        assert again.frames[0][2]["transactionId"] == third.frames[0][2]["transactionId"]

    def test_a_send_is_published_and_not_answered(self, world: World) -> None:
        payload = {"id": 7, "data": [{"t": 0, "v": "1"}], "basetime": "2026-01-02T03:04:05Z", "pending": 0}
        send = decode(json.dumps([6, "s-1", "NotifyPeriodicEventStream", payload]).encode(), V21)
        assert isinstance(send, Send)
        said = world.take(send, station(V21, world.store))
        world.bus.settle()
        assert said.frames == [None]
        assert len(world.bus.records) == 1
        assert world.outcomes == ["answered"]


class TestRefused:
    @pytest.mark.parametrize(
        ("action", "payload", "code"),
        [
            ("RemoteStartTransaction", {"idTag": "x"}, "NotSupported"),
            ("Nonsense", {}, "NotImplemented"),
            ("BootNotification", {"chargePointModel": "M"}, "ProtocolError"),
            ("BootNotification", {"chargePointModel": 1, "chargePointVendor": "V"}, "TypeConstraintViolation"),
        ],
    )
    def test_at_once_and_without_an_event(self, world: World, action: str, payload: Any, code: str) -> None:
        said = world.say(action, payload)
        ((kind, message_id, given, *_),) = said.frames
        assert (kind, message_id, given) == (4, "m-1", code)
        assert world.bus.records == []
        assert world.outcomes == ["refused"]
        assert len(world.holds) == 0

    def test_by_the_adapter(self, world: World) -> None:
        world.store.away = True
        said = world.say("Authorize", {"idTag": "T"}, station(V16, world.store, IdTokenPolicy.REGISTRY))
        assert said.frames[0][:3] == [4, "m-1", "InternalError"]
        assert world.bus.records == []
        assert world.outcomes == ["refused"]


class TestSchemaInvalid:
    def test_a_transaction_related_call_is_published_and_gets_the_smallest_answer(self, world: World) -> None:
        payload = {"connectorId": "one", "meterValue": []}
        said = world.say("MeterValues", payload)
        assert said.nothing_yet
        world.bus.settle()
        assert said.frames == [[3, "m-1", {}]]
        event = world.bus.records[0].event["payload"]
        assert event["payload"] == payload
        assert event["schemaErrors"]
        assert world.outcomes == ["schema_invalid"]

    def test_not_even_readable_it_is_kept_as_text(self, world: World) -> None:
        text = '[2,"m-1","StopTransaction",{"transactionId":1,"meterStop":NaN}]'
        said = world.take(UnreadableCall("m-1", "StopTransaction", text, "not_finite"))
        assert said.nothing_yet
        world.bus.settle()
        assert said.frames == [[3, "m-1", {}]]
        event = world.bus.records[0].event["payload"]
        assert (event["rawFrame"], event["schemaErrors"]) == (text, ["not_finite"])
        assert world.outcomes == ["schema_invalid"]

    def test_without_a_message_id_there_is_nobody_to_answer(self, world: World) -> None:
        said = world.take(UnreadableCall(None, "MeterValues", '[2,{},"MeterValues",{}]', "bad_message_id"))
        world.bus.settle()
        assert said.frames == [None]
        assert len(world.bus.records) == 1


class TestKafkaUnavailable:
    def test_not_confirmed_in_time_is_no_answer(self, world: World, logged: list[LogEvent]) -> None:
        said = world.say("StartTransaction", START)
        world.clock.advance(HOLD - 0.1)
        assert said.nothing_yet
        world.clock.advance(0.2)
        assert (said.frames, said.given_up) == ([], 1)
        assert world.outcomes == ["kafka_unavailable"]
        assert world.changes == ["lost"]
        assert [event["event"] for event in logged] == ["kafka.lost"]

    def test_a_late_confirmation_is_not_answered_but_remembered(self, world: World, logged: list[LogEvent]) -> None:
        late = world.say("StartTransaction", START)
        world.clock.advance(HOLD)
        assert late.given_up == 1
        world.clock.advance(60)
        world.bus.settle()
        assert (late.frames, late.given_up) == ([], 1)
        assert world.changes == ["lost", "regained"]
        assert world.outcomes == ["kafka_unavailable"]
        again = world.say("StartTransaction", START, id="m-2")
        world.bus.settle()
        assert len(again.frames) == 1
        # The first one is in Kafka after all: its repeat is one.
        assert [record.event["payload"]["idempotent"] for record in world.bus.records] == [False, True]
        assert len(logged) == 2

    def test_while_it_is_lost_calls_are_given_up_at_once(self, world: World, logged: list[LogEvent]) -> None:
        world.writability.refused()
        said = world.say("StartTransaction", START)
        refused = world.say("Nonsense", {})
        assert [(each.frames, each.given_up) for each in (said, refused)] == [([], 1)] * 2
        assert world.bus.records == []
        assert world.outcomes == ["kafka_unavailable"] * 2
        assert len(logged) == 1

    def test_a_slow_partition_takes_only_its_own_charge_points(self, world: World) -> None:
        slow = world.say("StartTransaction", START)
        stuck = world.bus.waiting.pop()
        others = []
        for number in range(10):
            others.append(world.say("Heartbeat", {}, id=f"m-{number + 2}"))
            world.clock.advance(0.8)
            world.bus.settle()
        world.clock.advance(0.1)
        assert (slow.frames, slow.given_up) == ([], 1)
        assert [len(other.frames) for other in others] == [1] * 10
        assert world.changes == []
        stuck.delivered(None)
        assert slow.frames == []

    def test_a_single_failure_takes_only_its_own_charge_point(self, world: World) -> None:
        failed, fine = world.say("StartTransaction", START), world.say("Heartbeat", {}, id="m-2")
        world.bus.settle(BusUnavailable("given up"), count=1)
        assert (failed.frames, failed.given_up) == ([], 1)
        assert fine.nothing_yet
        world.bus.settle()
        assert len(fine.frames) == 1
        assert world.changes == []

    def test_failures_alone_for_as_long_as_a_call_may_wait_are_the_end(
        self, world: World, logged: list[LogEvent]
    ) -> None:
        for number in range(5):
            said = world.say("StartTransaction", START, id=f"m-{number}")
            world.bus.settle(BusUnavailable("not authorized"))
            assert (said.frames, said.given_up) == ([], 1)
            world.clock.advance(2)
        assert world.changes == ["lost"]
        assert len(logged) == 1

    def test_no_client_for_a_moment_is_not_the_end(self, world: World) -> None:
        world.bus.away = BusUnavailable("being replaced")
        said = world.say("StartTransaction", START)
        assert (said.frames, said.given_up) == ([], 1)
        assert world.changes == []
        world.bus.away = None
        again = world.say("StartTransaction", START, id="m-2")
        world.bus.settle()
        assert len(again.frames) == 1

    def test_a_full_queue_is_the_end(self, schemas: Schemas, logged: list[LogEvent]) -> None:
        world = World(schemas, MemoryBus(room=1))
        world.say("Heartbeat", {})
        world.bus.congested = False  # the bound of bytes, say, comes without a warning
        said = world.say("Heartbeat", {}, id="m-2")
        assert (said.frames, said.given_up) == ([], 1)
        assert world.changes == ["lost"]
        assert world.counters.calls[-1][2] == "kafka_queue_full"
        assert len(logged) == 1


class TestBackpressure:
    def test_calls_wait_for_room_and_none_is_lost(self, schemas: Schemas) -> None:
        world = World(schemas, MemoryBus(room=10))
        said = [world.say("Heartbeat", {}, id=f"m-{number}") for number in range(30)]
        said += [world.say("StartTransaction", {**START, "meterStart": number}) for number in range(10)]
        said += [world.say("MeterValues", {"connectorId": number}) for number in range(10)]
        assert len(world.bus.records) == 8
        assert all(each.nothing_yet for each in said)
        while world.bus.waiting:
            assert len(world.bus.waiting) <= 10
            world.bus.settle(count=1)
        assert [len(each.frames) for each in said] == [1] * 50
        assert sum(each.given_up for each in said) == 0
        assert len(world.bus.records) == 50
        assert world.changes == []

    def test_who_waits_for_room_in_vain_is_given_up_and_not_published_later(
        self, schemas: Schemas, logged: list[LogEvent]
    ) -> None:
        world = World(schemas, MemoryBus(room=2))
        published, waiting = world.say("Heartbeat", {}), world.say("StartTransaction", START, id="m-2")
        world.clock.advance(HOLD)
        assert [each.given_up for each in (published, waiting)] == [1, 1]
        world.bus.settle()
        assert len(world.bus.records) == 1
        assert (waiting.frames, waiting.given_up) == ([], 1)
        assert world.changes == ["lost", "regained"]
        assert len(logged) == 2

    def test_a_queue_that_stays_full_is_an_outage_even_while_others_are_confirmed(
        self, schemas: Schemas, logged: list[LogEvent]
    ) -> None:
        world = World(schemas, MemoryBus(room=10))
        for number in range(8):
            world.say("Heartbeat", {}, id=f"m-{number}")
        waiting = world.say("StartTransaction", START, id="m-9")
        world.clock.advance(HOLD / 2)
        world.bus.settle(count=1)  # of a partition that works
        world.clock.advance(HOLD / 2)
        assert waiting.reasons == ["kafka_unavailable"]
        assert world.changes == ["lost"]
        world.bus.settle(count=1)
        assert world.changes == ["lost"]  # confirmed, but still no room
        world.bus.settle()
        assert world.changes == ["lost", "regained"]
        assert [event["event"] for event in logged] == ["kafka.lost", "kafka.regained"]

    def test_the_end_of_the_gateway_is_not_an_error(self, schemas: Schemas) -> None:
        world = World(schemas, MemoryBus(room=2))
        published, waiting = world.say("Heartbeat", {}), world.say("StartTransaction", START, id="m-2")
        world.bus.close(BusUnavailable("closed"))
        assert [(each.frames, each.given_up) for each in (published, waiting)] == [([], 1)] * 2
        assert len(world.holds) == 0
        world.holds.stop()


class SlowAdapter:
    """An adapter that has to ask somebody, who takes his time or fails; the rest is the version's."""

    def __init__(self) -> None:
        self.asked: Deferred[Answer] = Deferred()
        self._real = station(V16).adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def immediate(self, caller: Caller, call: Call | Send) -> Answer | None:
        return None

    async def answer(self, caller: Caller, call: Call | Send) -> Answer:
        return await self.asked


class TestTakenOver:
    """What is not with Kafka when another has the charge point is not ours to publish: it is asked for the answer."""

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_while_the_adapter_was_asking(self, world: World, is_ours: bool) -> None:
        slow, said = SlowAdapter(), Said()
        call = decode(b'[2,"m-1","Heartbeat",{}]', V16)
        assert isinstance(call, Call)
        world.uplink.take(station(adapter=slow), call, said.finish, said.give_up, lambda: is_ours)
        assert len(world.holds) == 1
        slow.asked.callback(Answer(lambda now: b"{}"))
        world.bus.settle()
        assert len(world.bus.records) == len(said.frames) == int(is_ours)
        assert world.outcomes == ["answered" if is_ours else "superseded"]
        assert said.given_up == 0
        assert len(world.holds) == 0

    def test_while_it_waited_for_room(self, schemas: Schemas) -> None:
        world = World(schemas, MemoryBus(room=1))
        world.say("Heartbeat", {})
        said, mine = Said(), [True]
        call = decode(json.dumps([2, "m-2", "StartTransaction", START]).encode(), V16)
        assert isinstance(call, Call)
        world.uplink.take(station(V16, world.store), call, said.finish, said.give_up, lambda: mine[0])
        mine[0] = False
        world.bus.settle()
        assert [record.event["messageId"] for record in world.bus.records] == ["m-1"]
        assert said.nothing_yet
        assert world.outcomes == ["answered", "superseded"]
        assert len(world.holds) == 0

    def test_what_kafka_has_already_is_answered(self, world: World) -> None:
        said, mine = Said(), [True]
        call = decode(json.dumps([2, "m-1", "StartTransaction", START]).encode(), V16)
        assert isinstance(call, Call)
        world.uplink.take(station(V16, world.store), call, said.finish, said.give_up, lambda: mine[0])
        mine[0] = False
        world.bus.settle()
        assert len(said.frames) == 1
        assert world.outcomes == ["answered"]


class TestAdapter:
    def test_an_answer_that_comes_too_late_is_not_published(self, world: World) -> None:
        """The charge point has been sent away, and will ask again: published now it would only be a duplicate."""
        slow = SlowAdapter()
        said = world.say("Heartbeat", {}, station(adapter=slow))
        world.clock.advance(HOLD)
        assert said.given_up == 1
        slow.asked.callback(Answer(lambda now: b"{}"))
        assert world.bus.records == []
        assert said.frames == []
        assert world.changes == []  # Kafka had no part in it

    def test_an_adapter_that_breaks_costs_one_connection(self, world: World, logged: list[LogEvent]) -> None:
        slow = SlowAdapter()
        said, other = world.say("Heartbeat", {}, station(adapter=slow)), world.say("Heartbeat", {}, id="m-2")
        slow.asked.errback(RuntimeError("broken"))
        assert (said.frames, said.given_up) == ([], 1)
        assert [event["event"] for event in logged] == ["uplink.failed"]
        world.bus.settle()
        assert len(other.frames) == 1
        assert world.outcomes == ["internal_error", "answered"]
