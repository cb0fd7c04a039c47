"""Events out of Kafka for a person to read: every partition of some topics, in no consumer group.

Nothing is committed and no group is joined, so reading along never takes an event from anybody. Topics that do not
exist yet are waited for, and read from their beginning when they appear; so are new partitions.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.failures import delivery_failed

_LOOK_AGAIN_SECONDS: Final = 2.0
_QUESTION_SECONDS: Final = 5.0
_MOST_AT_ONCE: Final = 500
_HARMLESS: Final = (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)


@frozen
class TailedRecord:
    """A record as it lies in Kafka. ``timestamp`` is seconds since the epoch, None if the record has none."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: float | None


@define(eq=False)
class EventTail:
    """Reads ``topics`` from their end, or from their beginning. All methods block and are for one thread.

    ``notices`` collects what librdkafka has to tell about its connections, until somebody takes it.
    """

    config: KafkaConfig
    topics: Sequence[str]
    from_beginning: bool = False
    notices: list[str] = field(factory=list, init=False)
    _assigned: set[tuple[str, int]] = field(factory=set, init=False)
    _opened: bool = field(default=False, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _consumer: Consumer = field(init=False)

    def __attrs_post_init__(self) -> None:
        quiet = logging.Logger("kafka")
        quiet.addHandler(logging.NullHandler())
        properties = self.config.client_properties() | {
            "group.id": f"ocpp-gateway-tail-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "error_cb": self._heard,
        }
        self._consumer = Consumer(properties, logger=quiet)

    def open(self, timeout: float) -> None:
        """Find the topics and the places to read from. Raises BusUnavailable if no broker answers in ``timeout`` s."""
        self._find_partitions(timeout)
        self._opened = True

    def read(self, timeout: float) -> list[TailedRecord]:
        """The next records; an empty list if none came in ``timeout`` seconds. An outage is waited for."""
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
            try:
                self._find_partitions(_QUESTION_SECONDS)
            except BusUnavailable as error:
                self._notice(str(error))
        records = []
        for message in self._consumer.consume(_MOST_AT_ONCE, timeout):
            failure = message.error()
            if failure is not None:
                if failure.code() not in _HARMLESS:
                    self._notice(failure.str())
                continue
            milliseconds = message.timestamp()[1]
            records.append(
                TailedRecord(
                    topic=str(message.topic()),
                    partition=int(message.partition() or 0),
                    offset=int(message.offset() or 0),
                    key=_bytes(message.key()),
                    value=_bytes(message.value()) or b"",
                    timestamp=milliseconds / 1000 if milliseconds > 0 else None,
                )
            )
        return records

    def take_notices(self) -> list[str]:
        """What there was to tell since the last time."""
        taken, self.notices = self.notices, []
        return taken

    def close(self) -> None:
        """Leave. Nothing was committed."""
        self._consumer.close()

    def _find_partitions(self, timeout: float) -> None:
        """Assign partitions that are not yet: at their end only when tailing begins, else nothing of them was seen."""
        deadline = time.monotonic() + timeout
        self._looked_at = time.monotonic()
        try:
            known = self._consumer.list_topics(timeout=timeout).topics
            new = [
                (topic, partition)
                for topic in self.topics
                if topic in known and known[topic].error is None
                for partition in known[topic].partitions
                if (topic, partition) not in self._assigned
            ]
            if not new:
                return
            starts = [TopicPartition(*place, self._start_of(place, deadline)) for place in new]
            self._consumer.incremental_assign(starts)
        except KafkaException as error:
            raise delivery_failed(error.args[0]) from error
        self._assigned.update(new)

    def _start_of(self, place: tuple[str, int], deadline: float) -> int:
        """An offset in numbers: librdkafka would look "the end" up later, and miss what is written until then."""
        if self.from_beginning or self._opened:
            return int(OFFSET_BEGINNING)
        left = max(0.1, deadline - time.monotonic())
        marks = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=left)
        return int(marks[1]) if marks is not None else int(OFFSET_BEGINNING)

    def _heard(self, error: KafkaError) -> None:
        self._notice(error.str())

    def _notice(self, text: str) -> None:
        told = self.config.without_secrets(text)
        if told not in self.notices[-20:]:
            self.notices.append(told)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
