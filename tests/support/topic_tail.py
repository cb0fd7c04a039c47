"""A topic followed from its beginning: for tests that wait for one event after the other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition


class TopicTail:
    """``with TopicTail(brokers, topic) as tail``: ``wait_for`` gives events as they come; every wait is bounded."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._topic = topic
        self._is_assigned = False
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
            assert time.monotonic() < deadline, f"no such event in {self._topic}; the last: {self.events[-5:]}"
            self._poll()

    def _poll(self) -> None:
        if not self._is_assigned:
            found = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic]
            if found.error is not None or not found.partitions:
                self._consumer.poll(0.05)  # nothing has been published yet; the topic is not there
                return
            self._consumer.assign([TopicPartition(self._topic, partition, 0) for partition in found.partitions])
            self._is_assigned = True
        message = self._consumer.poll(0.5)
        if message is None:
            return
        assert message.error() is None, message.error()
        value = message.value()
        assert isinstance(value, bytes)
        self.events.append(json.loads(value))

    def __enter__(self) -> TopicTail:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
