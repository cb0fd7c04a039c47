"""Kafka as the routing sees it, in memory; test_memory_bus holds it against the real producer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.errors import BusQueueFull, BusUnavailable

Delivered = Callable[[BusUnavailable | None], object]


@frozen
class Published:
    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    delivered: Delivered

    @property
    def event(self) -> Any:
        return json.loads(self.value)


@define(eq=False)
class MemoryBus:
    """Records wait in ``waiting`` until a test confirms or fails them. At most ``room`` may wait."""

    room: int = 1000
    away: BusUnavailable | None = None
    """What ``publish`` raises, while there is no client at all."""

    waiting: list[Published] = field(factory=list)
    records: list[Published] = field(factory=list)
    """All that was taken, in order."""

    congested: bool = False
    _waiters: list[Deferred[None]] = field(factory=list)

    def publish(
        self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]], delivered: Delivered
    ) -> None:
        if self.away is not None:
            raise self.away
        if len(self.waiting) >= self.room:
            raise BusQueueFull("full")
        record = Published(topic, key, value, headers, delivered)
        self.waiting.append(record)
        self.records.append(record)
        if len(self.waiting) >= max(1, int(self.room * 0.8)):
            self.congested = True

    def when_room(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        if self.congested:
            self._waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def close(self, error: BusUnavailable) -> None:
        self.away = error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(error)
        self.settle(error)

    def settle(self, error: BusUnavailable | None = None, *, count: int | None = None) -> None:
        """Kafka's word on the oldest ``count`` records, or on all that wait now."""
        number = len(self.waiting) if count is None else count
        settled, self.waiting[:number] = self.waiting[:number], []
        for record in settled:
            record.delivered(error)
        if self.congested and len(self.waiting) <= self.room * 0.5:
            self.congested = False
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)
