"""The bus in memory behaves as the producer does, where the routing depends on it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from memory_bus import MemoryBus
from support.mock_kafka import MockKafka
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.producer import EventProducer

ROOM = 10


@contextlib.asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[Any, Callable[[], None]]]:
    bus = MemoryBus(room=ROOM)
    yield bus, bus.settle


@contextlib.asynccontextmanager
async def real() -> AsyncIterator[tuple[Any, Callable[[], None]]]:
    with MockKafka() as kafka:
        config = KafkaConfig.from_environ({}, brokers=kafka.brokers, client_id="test")
        bus = EventProducer(config, reactor=reactor, clock=SystemClock(reactor), max_pending_messages=ROOM)
        bus.start()
        first: Deferred[BusUnavailable | None] = Deferred()
        bus.publish("t", b"k", b"first", [], first.callback)
        assert await first is None
        kafka.freeze()  # from now on a record waits until the test lets it go
        try:
            yield bus, kafka.thaw
        finally:
            await bus.close(0.0)


@pytest.fixture(params=[in_memory, real], ids=["memory", "kafka"])
def opened(request: pytest.FixtureRequest) -> Any:
    return request.param


def publish(bus: Any, fates: list[Deferred[BusUnavailable | None]]) -> None:
    fate: Deferred[BusUnavailable | None] = Deferred()
    bus.publish("t", b"k", b"v", [("h", b"1")], fate.callback)
    assert not fate.called, "told from within publish"
    fates.append(fate)


async def test_a_record_is_confirmed_later_and_once(opened: Any) -> None:
    async with opened() as (bus, confirm):
        fates: list[Deferred[BusUnavailable | None]] = []
        publish(bus, fates)
        confirm()
        assert await fates[0] is None


async def test_congested_at_four_fifths_until_half_is_gone_and_full_beyond_the_bound(opened: Any) -> None:
    async with opened() as (bus, confirm):
        fates: list[Deferred[BusUnavailable | None]] = []
        for number in range(ROOM):
            assert bus.congested is (number >= 8)
            publish(bus, fates)
        with pytest.raises(BusQueueFull):
            publish(bus, fates)
        waiting, cancelled = bus.when_room(), bus.when_room()
        cancelled.addErrback(lambda _: None).cancel()
        assert not waiting.called
        confirm()
        await waiting
        assert not bus.congested
        assert [await fate for fate in fates] == [None] * ROOM
        await bus.when_room()


async def test_closing_fails_who_waits_for_room_and_what_was_not_confirmed(opened: Any) -> None:
    async with opened() as (bus, _confirm):
        fates: list[Deferred[BusUnavailable | None]] = []
        for _ in range(ROOM):
            publish(bus, fates)
        waiting = bus.when_room()
        closing = bus.close(BusUnavailable("closed")) if isinstance(bus, MemoryBus) else bus.close(0.0)
        if closing is not None:
            await closing
        with pytest.raises(BusUnavailable):
            await waiting
        for fate in fates:
            assert isinstance(await fate, BusUnavailable)
        with pytest.raises(BusUnavailable):
            publish(bus, fates)
