"""Security events: what they say, and that they give way to everything else."""

from __future__ import annotations

from typing import Any

import orjson
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from memory_bus import MemoryBus, Published
from routing_parts import SecurityCounts, security_events
from support.manual_clock import ManualClock

from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.routing.security import SecurityEvents

REFUSED = "HandshakeRefused"


@define(eq=False)
class Watching:
    bus: MemoryBus = field(factory=MemoryBus)
    clock: ManualClock = field(factory=ManualClock)
    counts: SecurityCounts = field(factory=SecurityCounts)
    events: SecurityEvents = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.events = security_events(self.bus, self.clock, self.counts)

    def publish(self, event_type: str = REFUSED, payload: dict[str, Any] | None = None, **whose: Any) -> None:
        self.events.publish(event_type, payload or {}, **whose)

    def the_record(self) -> Published:
        (record,) = self.bus.records
        return record

    def outcomes(self, event_type: str = REFUSED) -> dict[str, int]:
        all_of_them = [outcome for name, outcome in self.counts.outcomes if name == event_type]
        return {outcome: all_of_them.count(outcome) for outcome in set(all_of_them)}


def test_an_event_of_a_charge_point() -> None:
    world = Watching()
    world.publish(
        "SessionTakenOver",
        {"previousNodeId": "node-2"},
        charge_point_id="CP-001",
        station_id="station-1",
        tenant_id="tenant-a",
        peer="192.0.2.1",
    )
    record = world.the_record()
    event_id = record.event["eventId"]
    assert record.value == (
        b'{"eventId":"' + event_id.encode() + b'","eventType":"SessionTakenOver","source":"ocpp-gateway",'
        b'"occurredAt":"2026-01-02T03:04:05.678Z","stationId":"station-1","tenantId":"tenant-a",'
        b'"chargePointId":"CP-001","nodeId":"node-1","payload":{"previousNodeId":"node-2"}}'
    )
    assert (record.topic, record.key) == ("security", b"CP-001")
    assert record.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", b"SessionTakenOver"),
        ("ce_source", b"ocpp-gateway"),
        ("ce_time", b"2026-01-02T03:04:05.678Z"),
        ("ce_subject", b"CP-001"),
        ("content-type", b"application/json"),
    ]


def test_an_event_about_no_charge_point_belongs_to_the_address_or_to_the_node() -> None:
    world = Watching()
    world.publish(peer="192.0.2.1")
    world.publish()
    assert [record.key for record in world.bus.records] == [b"192.0.2.1", b"node-1"]
    for record in world.bus.records:
        assert list(record.event) == [
            *("eventId", "eventType", "source", "occurredAt", "nodeId", "payload"),
        ]
        assert [name for name, _ in record.headers] == [
            *("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"),
        ]


@given(
    identity=st.text(min_size=1),
    texts=st.lists(st.text(), min_size=3, max_size=3),
    payload=st.dictionaries(st.text(), st.text()),
)
def test_any_text_ends_up_in_its_own_member(identity: str, texts: list[str], payload: dict[str, str]) -> None:
    """Whoever is refused chooses the identity: it must not break out of its place."""
    world = Watching()
    station, tenant, peer = texts
    world.publish(payload=payload, charge_point_id=identity, station_id=station, tenant_id=tenant, peer=peer)
    event = orjson.loads(world.the_record().value)
    assert (event["chargePointId"], event["stationId"], event["tenantId"]) == (identity, station, tenant)
    assert event["payload"] == payload


def test_it_counts_as_published_when_kafka_has_it() -> None:
    world = Watching()
    world.publish()
    assert world.outcomes() == {}
    world.bus.settle()
    assert world.outcomes() == {"published": 1}
    world.publish()
    world.bus.settle(BusUnavailable("no leader"))
    assert world.outcomes() == {"published": 1, "dropped": 1}


def test_without_kafka_it_is_dropped() -> None:
    world = Watching(MemoryBus(away=BusUnavailable("no client")))
    world.publish()
    assert world.outcomes() == {"dropped": 1}


def test_it_leaves_the_last_room_to_events_of_charge_points() -> None:
    world = Watching(MemoryBus(room=10))
    for _ in range(20):
        world.publish()
    assert len(world.bus.records) == 8
    assert world.outcomes() == {"dropped": 12}
    world.bus.settle()
    world.publish()
    assert len(world.bus.records) == 9


def test_a_topic_that_takes_nothing_does_not_fill_the_queue_that_all_share() -> None:
    bus, counts = MemoryBus(), SecurityCounts()
    events = security_events(bus, ManualClock(), counts, max_waiting=3)
    for _ in range(5):
        events.publish(REFUSED, {})
    assert len(bus.records) == 3
    assert counts.outcomes == [(REFUSED, "dropped")] * 2
    bus.settle()
    events.publish(REFUSED, {})
    assert len(bus.records) == 4


def test_what_kafka_does_not_even_take_does_not_count_as_waiting() -> None:
    bus = MemoryBus(away=BusUnavailable("no client"))
    events = security_events(bus, ManualClock(), max_waiting=1)
    events.publish(REFUSED, {})
    bus.away = None
    events.publish(REFUSED, {})
    assert len(bus.records) == 1


def test_a_flood_is_cut_to_fifty_a_second() -> None:
    world = Watching()
    for _ in range(10):
        for _ in range(1000):
            world.publish()
        world.bus.settle()
        world.clock.advance(1)
    assert world.outcomes() == {"published": 200 + 9 * 50, "dropped": 10_000 - 650}
    world.clock.advance(3600)
    for _ in range(300):
        world.publish()
    assert len(world.bus.waiting) == 200


def test_refusals_that_strangers_cause_do_not_crowd_out_the_rest() -> None:
    world = Watching()
    for _ in range(1000):
        world.publish()
    world.publish("SessionRevoked", {"reason": "mtls_revoked"}, charge_point_id="CP-001")
    world.bus.settle()
    assert world.outcomes("SessionRevoked") == {"published": 1}
