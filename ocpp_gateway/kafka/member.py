"""One librdkafka consumer in its group, from joining to leaving, served by one thread.

The thread calls ``turn`` over and over: it takes what has come, hands it on in one piece, pauses or goes on, and
commits. ``poll`` waits for the first record and ``consume`` takes what is there beside it: ``consume`` alone would wait
for a full batch. librdkafka calls back (rebalances, commits, errors) only inside these calls, so in this thread too.

Assignment is cooperative: whoever joins or leaves, a member goes on reading the partitions that it keeps.

What is finished is stored with librdkafka, which commits it by its own timer, and only while the group is settled. Our
own commits would be caught by rebalances: librdkafka keeps a commit back while it waits to be let into the group again,
sends it with the number of the group's last generation, and takes the refusal for the loss of all partitions.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import Value
from ocpp_gateway.kafka.offsets import Offsets
from ocpp_gateway.kafka.records import ReceivedRecord, received_record

_MOST_AT_ONCE: Final = 500
_POLL_SECONDS: Final = 0.1
_PAUSED_POLL_SECONDS: Final = 0.02
"""How long ``poll`` waits for a record: while paused none comes, and the end of the pause should not go unnoticed."""
_QUESTION_SECONDS: Final = 0.5
_LOOK_FOR_TOPIC_SECONDS: Final = 2.0
_GO_ON_AT: Final = 0.5

_NO_TOPIC: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_REBALANCING: Final = (
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._NO_OFFSET,
)
"""What becomes of a commit while the group settles: it is made again, by us or by who has the partition then."""

Partitions = tuple[int, ...]


class GroupMember:
    """All methods are for the consumer's thread, but for the constructor. ``fatal`` says why it cannot go on.

    ``received``, ``assigned``, ``revoked`` and ``topic_seen`` (with the number of partitions, 0 if there is no such
    topic) are called in that thread.
    """

    def __init__(
        self,
        properties: Mapping[str, Value],
        topic: str,
        *,
        offsets: Offsets,
        max_in_flight: int,
        clock: Clock,
        client_log: ClientLog,
        received: Callable[[list[ReceivedRecord]], object],
        assigned: Callable[[Partitions], object],
        revoked: Callable[[Partitions], object],
        topic_seen: Callable[[int], object],
    ) -> None:
        self.fatal: str | None = None
        self._topic = topic
        self._offsets = offsets
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._client_log = client_log
        self._received = received
        self._assigned = assigned
        self._revoked = revoked
        self._topic_seen = topic_seen
        self._partitions: set[int] = set()
        self._is_paused = False
        self._is_full = False
        self._is_leaving = False
        self._is_over = False
        self._stored: dict[int, int] = {}
        self._look_at = 0.0
        try:
            self._consumer = Consumer(
                {**properties, "error_cb": self._client_error, "on_commit": self._committed}, logger=client_log
            )
        except KafkaException as error:
            raise ConfigError([f"KAFKA_*: {error.args[0].str().strip()}"]) from error

    def join(self) -> None:
        """Ask to be let into the group; ``assigned`` tells when we are."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def turn(self, *, hold: bool) -> None:
        """Take what is there, or wait for it for a moment. ``hold``: take nothing."""
        self._pause_or_go_on(hold)
        self._hand_on(self._take())
        self._store()
        self._look_for_topic_if_due()

    def leave(self, seconds: float) -> None:
        """Commit what is finished, for at most ``seconds``, and leave the group.

        The second part has no bound of its own: without brokers that answer it may take minutes.
        """
        self._is_leaving = True
        self._consumer.pause(self._places(self._partitions))
        deadline = time.monotonic() + seconds
        while self._offsets.committable() and time.monotonic() < deadline:
            self._store()
            self._consumer.poll(_PAUSED_POLL_SECONDS)
        self._consumer.close()
        self._give_up(tuple(self._partitions))

    def abandon(self) -> None:
        """Give everything up without asking anybody, as is due after a fatal error.

        ``close`` would wait for ever for a rebalance that nobody answers any more, while a thread of librdkafka keeps a
        core busy. Without it the client ends when the last reference to it goes; a thread of its own waits for that.
        """
        self._is_leaving = True
        self._give_up(tuple(self._partitions))
        self._is_over = True
        last = [self._consumer]
        del self._consumer
        threading.Thread(target=last.clear, name="kafka-consumer-end", daemon=True).start()

    # Records.

    def _take(self) -> list[Message]:
        first = self._consumer.poll(_PAUSED_POLL_SECONDS if self._is_paused else _POLL_SECONDS)
        if first is None:
            return []
        room = min(_MOST_AT_ONCE, self._max_in_flight - self._offsets.unfinished) - 1
        return [first, *self._consumer.consume(room, 0)] if room > 0 else [first]

    def _hand_on(self, messages: list[Message]) -> None:
        now_ms = int(self._clock.now() * 1000)
        records = []
        for message in messages:
            error = message.error()
            partition, offset = message.partition(), message.offset()
            if error is not None:
                self._told_by_a_message(error)
            elif partition is not None and offset is not None:
                assignment = self._offsets.received(partition, offset)
                if assignment is not None:  # else it was revoked meanwhile: who has the partition now reads it
                    records.append(
                        received_record(
                            message, partition=partition, offset=offset, assignment=assignment, now_ms=now_ms
                        )
                    )
        if records:
            self._received(records)

    def _told_by_a_message(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fail(error)
        elif error.code() in _NO_TOPIC:
            self._look_at = 0.0
        elif error.code() != KafkaError._PARTITION_EOF:
            self._client_log.warn("kafka.consumer_error", error.name(), error.str())

    def _pause_or_go_on(self, hold: bool) -> None:
        unfinished = self._offsets.unfinished
        if unfinished >= self._max_in_flight:
            self._is_full = True
        elif unfinished <= self._max_in_flight * _GO_ON_AT:
            self._is_full = False
        if not self._is_paused and (hold or self._is_full):
            self._is_paused = True
            self._consumer.pause(self._places(self._partitions))
        elif self._is_paused and not hold and not self._is_full:
            self._is_paused = False
            self._consumer.resume(self._places(self._partitions))

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    # Commits.

    def _store(self) -> None:
        offsets = self._offsets.committable()
        if offsets != self._stored:
            try:
                self._consumer.store_offsets(offsets=self._places_at(offsets))
            except KafkaException:
                return  # a partition is lost, and we are about to be told
            self._stored = offsets

    def _committed(self, failure: KafkaError | None, places: list[TopicPartition]) -> None:
        if self._is_over:
            return
        if failure is not None:
            self._commit_failed(failure)
            return
        for place in places:
            if place.error is None:
                self._offsets.committed(place.partition, place.offset)
            else:
                self._commit_failed(place.error)

    def _commit_failed(self, error: KafkaError) -> None:
        if error.code() not in _REBALANCING:
            self._warn_of_commit(error, "offsets not committed yet")

    def _warn_of_commit(self, error: KafkaError, consequence: str) -> None:
        self._client_log.warn("kafka.commit_failed", error.name(), f"{consequence}: {error.str()}")

    def _places_at(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]

    # Rebalances.

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        consumer.incremental_assign(places)
        partitions = tuple(place.partition for place in places)
        if self._is_paused or self._is_leaving:
            consumer.pause(self._places(partitions))
        self._partitions.update(partitions)
        self._offsets.assigned(partitions)
        self._look_at = 0.0
        if partitions:
            self._assigned(partitions)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = tuple(place.partition for place in places)
        last = {
            partition: offset for partition, offset in self._offsets.committable().items() if partition in partitions
        }
        # Here a commit of our own is safe: the group has counted us in again. When leaving, nothing is left but what
        # could not be committed in time.
        if last and not self._is_leaving:
            try:
                consumer.commit(offsets=self._places_at(last), asynchronous=False)
            except KafkaException as error:  # also while the group settles: this time we do not make it again
                self._warn_of_commit(error.args[0], "finished records may come once more, to another member")
        consumer.incremental_unassign(places)
        self._give_up(partitions)

    def _on_lost(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        """The group went on without us, so others have our partitions, and a commit would be refused."""
        self._give_up(tuple(place.partition for place in places))

    def _give_up(self, partitions: Partitions) -> None:
        if self._is_over:
            return
        self._partitions.difference_update(partitions)
        self._offsets.revoked(partitions)
        self._stored = {}
        if partitions:
            self._revoked(partitions)

    # The topic, and errors of the client.

    def _look_for_topic_if_due(self) -> None:
        """Until it is there; after that librdkafka looks, and tells of changes as a rebalance or an error."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_FOR_TOPIC_SECONDS
        try:
            known = self._consumer.list_topics(self._topic, timeout=_QUESTION_SECONDS).topics[self._topic]
        except KafkaException:
            return  # the outage is in the log already
        if known.error is None and known.partitions:
            self._look_at = math.inf
            self._topic_seen(len(known.partitions))
        elif known.error is not None and known.error.code() in _NO_TOPIC:
            self._topic_seen(0)

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(error)
        elif error.code() != KafkaError._TRANSPORT:  # each is in the log already, as FAIL
            self._client_log.warn("kafka.client_error", error.name(), error.str())

    def _fail(self, error: KafkaError) -> None:
        self.fatal = self.fatal or f"{error.name()}: {error.str()}"
