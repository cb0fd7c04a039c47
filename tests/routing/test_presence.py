"""Who came and who went reaches Kafka, however often it has to be tried."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from memory_bus import MemoryBus
from routing_parts import station
from support.manual_clock import ManualClock
from twisted.logger import LogEvent

from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.writability import Writability

RETRY = 2.0


@define(eq=False)
class Announcing:
    bus: MemoryBus = field(factory=MemoryBus)
    max_waiting: int = 100
    clock: ManualClock = field(factory=ManualClock)
    changes: list[str] = field(factory=list)
    holds: Holds = field(init=False)
    presence: Presence = field(init=False)

    def __attrs_post_init__(self) -> None:
        writability = Writability(
            self.clock, lambda: self.changes.append("lost"), lambda: self.changes.append("regained")
        )
        self.holds = Holds(8.0, self.clock)
        self.presence = Presence(
            bus=self.bus,
            topic="stations",
            holds=self.holds,
            writability=writability,
            clock=self.clock,
            max_waiting=self.max_waiting,
        )

    def announce(self, name: str = "StationConnected", **payload: Any) -> None:
        self.presence.announce(station().envelope, name, payload)

    def published(self) -> list[str]:
        return [record.event["eventType"] for record in self.bus.records]


def test_an_announcement_is_published_as_an_event_of_its_charge_point() -> None:
    world = Announcing()
    world.announce("StationDisconnected", reason="service_restart", durationMs=5)
    (record,) = world.bus.records
    assert (record.topic, record.key) == ("stations", b"station-1")
    assert record.event["eventType"] == "StationDisconnected"
    assert record.event["chargePointId"] == "CP-001"
    assert record.event["payload"] == {"reason": "service_restart", "durationMs": 5}
    assert dict(record.headers)["ce_type"] == b"StationDisconnected"
    world.bus.settle()
    assert len(world.holds) == 0
    world.clock.advance(60)
    assert len(world.bus.records) == 1


def test_one_that_failed_is_handed_over_again_as_the_same_event() -> None:
    world = Announcing()
    world.announce()
    for attempt in range(2, 4):
        world.bus.settle(BusUnavailable("given up"))
        world.clock.advance(RETRY)
        assert len(world.bus.records) == attempt
    world.bus.settle()
    world.clock.advance(60)
    assert len({record.value for record in world.bus.records}) == 1
    assert len(world.bus.records) == 3
    assert world.clock.timers.getDelayedCalls() == []


def test_those_that_could_not_be_handed_over_are_later_in_their_order() -> None:
    world = Announcing()
    world.bus.away = BusUnavailable("no client")
    for name in ("StationConnected", "StationDisconnected", "StationConnected"):
        world.announce(name)
    world.clock.advance(RETRY)
    assert world.bus.records == []
    world.bus.away = None
    world.clock.advance(RETRY)
    assert world.published() == ["StationConnected", "StationDisconnected", "StationConnected"]
    assert world.changes == []


def test_a_full_queue_is_the_end_of_writing_and_the_announcement_ends_it_again(logged: list[LogEvent]) -> None:
    """Nobody else publishes then: without another try of this one, Kafka would never count as back."""
    world = Announcing(bus=MemoryBus(room=1))
    world.announce("StationConnected")
    world.announce("StationDisconnected")
    assert world.changes == ["lost"]
    world.clock.advance(RETRY)
    assert world.published() == ["StationConnected"]
    world.bus.settle()
    world.clock.advance(RETRY)
    world.bus.settle()
    assert world.published() == ["StationConnected", "StationDisconnected"]
    assert world.changes == ["lost", "regained"]
    assert [event["event"] for event in logged] == ["kafka.lost", "kafka.regained"]


def test_one_that_waits_in_vain_shows_that_kafka_is_lost(logged: list[LogEvent]) -> None:
    """A gateway whose charge points say nothing notices too."""
    world = Announcing()
    world.announce()
    world.clock.advance(7.9)
    assert world.changes == []
    world.clock.advance(0.2)
    assert world.changes == ["lost"]
    world.clock.advance(600)
    assert len(world.bus.records) == 1  # it is still queued: a second one would be a duplicate
    world.bus.settle()
    assert world.changes == ["lost", "regained"]
    assert len(logged) == 2


def test_every_announcement_failing_is_the_end_of_writing_too(logged: list[LogEvent]) -> None:
    world = Announcing()
    world.announce()
    for _ in range(5):
        world.bus.settle(BusUnavailable("not authorized"))
        world.clock.advance(RETRY)
    assert world.changes == ["lost"]
    world.bus.settle()
    assert world.changes == ["lost", "regained"]
    assert len(logged) == 2


def test_no_more_wait_than_the_bound_allows(logged: list[LogEvent]) -> None:
    world = Announcing(max_waiting=2)
    world.bus.away = BusUnavailable("no client")
    for _ in range(3):
        world.announce()
    world.bus.away = None
    world.clock.advance(RETRY)
    assert len(world.bus.records) == 2
    assert logged == []
    world.bus.settle()
    (lost,) = logged  # told once, when the outage is over
    assert (lost["event"], lost["reason"], lost["count"]) == ("event.lost", "kafka_unavailable", 1)


def test_thousands_are_tried_again_in_portions_and_not_while_there_is_no_room(logged: list[LogEvent]) -> None:
    world = Announcing(MemoryBus(room=2000), max_waiting=10_000)
    world.bus.away = BusUnavailable("no client")
    for _ in range(3000):
        world.announce()
    world.bus.away = None
    world.clock.advance(RETRY)
    assert len(world.bus.records) == 500
    for _ in range(20):
        world.clock.advance(RETRY)
    assert len(world.bus.records) == 1600  # 80 % of the room
    while world.bus.waiting:
        world.bus.settle()
        world.clock.advance(RETRY)
    assert len(world.bus.records) == 3000
    world.holds.stop()


def test_stopping_names_what_is_lost_and_leaves_no_timer(logged: list[LogEvent]) -> None:
    world = Announcing()
    world.announce()
    world.bus.settle(BusUnavailable("closed"))
    world.presence.stop()
    world.holds.stop()
    assert [event["event"] for event in logged] == ["event.lost"]
    assert world.clock.timers.getDelayedCalls() == []
