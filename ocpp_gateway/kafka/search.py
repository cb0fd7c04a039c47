"""Is an event in a topic already?

Who takes over the events of a process that died does not know which of them Kafka has. Every event has an id, in its
header ``ce_id``; so one looks, from the time on when the event can have been written at the earliest, to what is the
end of the topic now. No offset is committed. Still librdkafka asks for the coordinator of a group, which may not be
allowed for any name: so the group is one that operators know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Final

from attrs import define, field
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.failures import TOPIC_UNKNOWN, DeliveryFailed, delivery_failed
from ocpp_gateway.kafka.records import headers_of

_EVENT_ID: Final = "ce_id"
_MOST_AT_ONCE: Final = 500
_WAIT_SECONDS: Final = 0.2


async def find_events(
    config: KafkaConfig,
    topic: str,
    event_ids: Collection[str],
    since_ms: int,
    *,
    group_id: str,
    reactor: IReactorThreads,
    timeout: float,
) -> set[str]:
    """Which of ``event_ids`` are in ``topic``, in records of ``since_ms`` (since the epoch) or later.

    A record's time is its producer's clock, or the broker's where the topic is set so: allow for the difference. A
    topic that does not exist has no events. Raises BusUnavailable if it cannot be told in ``timeout`` seconds: nothing
    is known then, neither that an event is there nor that it is not.
    """
    if not event_ids:
        return set()
    search = _Search(
        config=config,
        topic=topic,
        group_id=group_id,
        wanted=set(event_ids),
        deadline=time.monotonic() + timeout,
    )
    return await deferToThreadPool(reactor, reactor.getThreadPool(), search.run, since_ms)


@define(eq=False, kw_only=True)
class _Search:
    """Blocks, so for a thread."""

    config: KafkaConfig
    topic: str
    group_id: str
    wanted: set[str]
    deadline: float
    _consumer: Consumer = field(init=False)

    def run(self, since_ms: int) -> set[str]:
        quiet = logging.Logger("kafka")
        quiet.addHandler(logging.NullHandler())
        properties = self.config.consumer_properties(self.group_id)
        # Uncommitted: a transaction of somebody else that stays open must not hide what comes after it.
        own = {"enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": "read_uncommitted"}
        self._consumer = Consumer({**properties, **own}, logger=quiet)
        try:
            return self._read(self._ends(), since_ms)
        except KafkaException as error:
            raise delivery_failed(error.args[0]) from error
        finally:
            self._consumer.close()

    def _ends(self) -> dict[int, int]:
        """The present end of each partition that has records."""
        known = self._consumer.list_topics(self.topic, timeout=self._left()).topics[self.topic]
        if known.error is not None:
            failure = delivery_failed(known.error)
            if failure.reason == TOPIC_UNKNOWN:
                return {}
            raise failure
        ends = {}
        for partition in known.partitions:
            marks = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=self._left())
            if marks[0] < marks[1]:
                ends[partition] = marks[1]
        return ends

    def _read(self, ends: dict[int, int], since_ms: int) -> set[str]:
        starts = self._starts(list(ends), since_ms)
        unread = {partition for partition, offset in starts.items() if offset < ends[partition]}
        self._consumer.assign([TopicPartition(self.topic, partition, starts[partition]) for partition in unread])
        found: set[str] = set()
        while unread and found != self.wanted:
            for message in self._consumer.consume(_MOST_AT_ONCE, min(_WAIT_SECONDS, self._left())):
                error = message.error()
                partition, offset = message.partition(), message.offset()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise delivery_failed(error)
                if error is None:
                    found |= {_text(value) for name, value in headers_of(message) if name == _EVENT_ID} & self.wanted
                # The last records may be gone, or be no records of anybody: then the end is told as such.
                if partition is not None and (error is not None or (offset or 0) + 1 >= ends[partition]):
                    unread.discard(partition)
        return found

    def _starts(self, partitions: list[int], since_ms: int) -> dict[int, int]:
        """Where records of ``since_ms`` or later begin; partitions without any are left out.

        The mock cluster tells no offsets by time: it says "none" of whatever time. Of 1970, no other broker says so
        about a partition that has records.
        """
        starts = self._offsets_since(since_ms, partitions)
        without = [partition for partition in partitions if partition not in starts]
        since_ever = self._offsets_since(0, without)
        return starts | {partition: OFFSET_BEGINNING for partition in without if partition not in since_ever}

    def _offsets_since(self, milliseconds: int, partitions: list[int]) -> dict[int, int]:
        if not partitions:
            return {}
        asked = [TopicPartition(self.topic, partition, max(0, milliseconds)) for partition in partitions]
        offsets = {}
        for place in self._consumer.offsets_for_times(asked, timeout=self._left()):
            if place.error is not None:
                raise delivery_failed(place.error)
            if place.offset >= 0:
                offsets[place.partition] = place.offset
        return offsets

    def _left(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise DeliveryFailed(BusUnavailable.reason, f"searching topic {self.topic} took too long")
        return seconds


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
