"""Topics followed from their beginning: for tests that wait for one event after the other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition


class TopicTail:
    """``with TopicTail(brokers, topic, ...) as tail``; every wait is bounded. Events of one key are in order."""

    def __init__(self, brokers: str, *topics: str) -> None:
        self._missing = set(topics)
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": f"test-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "log_level": 2,
            }
        )
        self.events: list[dict[str, Any]] = []

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], *, seconds: float = 15) -> dict[str, Any]:
        """The first event that is ``wanted``; those from before count too."""
        seen = 0
        deadline = time.monotonic() + seconds
        while True:
            for event in self.events[seen:]:
                if wanted(event):
                    return event
            seen = len(self.events)
            assert time.monotonic() < deadline, f"no such event; the last: {self.events[-5:]}"
            self._poll()

    def of(self, charge_point_id: str, count: int) -> list[dict[str, Any]]:
        """All events of a charge point, as soon as there are ``count`` of them."""
        number = 0

        def is_last(event: dict[str, Any]) -> bool:
            nonlocal number
            number += event.get("chargePointId") == charge_point_id
            return number == count

        self.wait_for(is_last)
        return [event for event in self.events if event.get("chargePointId") == charge_point_id]

    def _poll(self) -> None:
        if self._missing:
            self._assign()
        message = self._consumer.poll(0.05 if self._missing else 0.5)
        if message is None:
            return
        assert message.error() is None, message.error()
        value = message.value()
        assert isinstance(value, bytes)
        self.events.append(json.loads(value))

    def _assign(self) -> None:
        """Begin with the topics that are there by now; the gateway's first event makes one."""
        new = []
        for topic in tuple(self._missing):
            found = self._consumer.list_topics(topic, timeout=10).topics[topic]
            if found.error is None and found.partitions:
                self._missing.remove(topic)
                new += [TopicPartition(topic, partition, 0) for partition in found.partitions]
        if new:
            self._consumer.incremental_assign(new)

    def __enter__(self) -> TopicTail:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
