"""Records out of Kafka as one member of a group: each partition is read by one node, and by another when that is gone.

A thread of its own reads (``member``) and hands records over to the reactor in batches, in order per partition.
Whoever gets them calls ``finished`` for each when nothing is left to be done about it, in any order; offsets are
committed behind finished records only (``offsets``), twice a second at most, and once more when a partition is given
up. So a record may be received again after a crash or a rebalance, but none is left out.

Back pressure: with ``max_in_flight`` records unfinished reading pauses, and goes on at half of it. ``hold`` pauses it
for other reasons: without Redis, nothing can be done with what comes.

A topic that does not exist is no error: it is looked for again, and told once. A fatal error of the client ends that
client, and a new one joins, at once the first time and at growing intervals then; what it had received is forgotten, as
at every rebalance, and comes again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.member import GroupMember, Partitions
from ocpp_gateway.kafka.offsets import Offsets
from ocpp_gateway.kafka.records import ReceivedRecord

_log = Logger()

_RESTART_SECONDS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_JOIN_SECONDS: Final = 1.0
_COMMIT_SHARE: Final = 0.5
"""What commits get of the time there is to leave. While the group settles there are none; what is not committed comes
again to the next reader, but who does not leave in time has everybody wait for the session timeout."""


def _unheard(_partitions: Partitions) -> None:
    """For who need not know which partitions come and go."""


class GroupConsumer:
    """A member of ``group_id`` that reads ``topic``, from ``start`` to ``close``; all methods are for the reactor.

    ``received`` gets the records, ``assigned`` and ``revoked`` the partitions that came or went since; a revoked one
    may be read by another node already when we are told. Records of a revoked partition need not be finished.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str,
        topic: str,
        *,
        reactor: IReactorThreads,
        clock: Clock,
        received: Callable[[list[ReceivedRecord]], object],
        assigned: Callable[[Partitions], object] = _unheard,
        revoked: Callable[[Partitions], object] = _unheard,
        max_in_flight: int = 1_000,
        log: Logger = _log,
    ) -> None:
        self._config = config
        self._properties = config.consumer_properties(group_id)
        self._topic = topic
        self._reactor = reactor
        self._clock = clock
        self._received = received
        self._assigned = assigned
        self._revoked = revoked
        self._max_in_flight = max_in_flight
        self._log = log
        self._client_log = ClientLog(call_from_thread=reactor.callFromThread, clock=clock, log=log)
        self._offsets = Offsets()
        self._partitions: frozenset[int] = frozenset()
        self._topic_partitions = 0
        self._told_missing = False
        self._is_held = False
        self._restarts = 0
        self._stop = threading.Event()
        self._commit_seconds = 0.0
        self._leaving_since: float | None = None
        self._told_late = False
        self._thread: threading.Thread | None = None
        self._has_left = False
        self._close_waiters: list[Deferred[None]] = []

    def start(self) -> None:
        """Join, without waiting for a broker. Raises ConfigError naming the property that is wrong."""
        try:
            member = self._new_member()
        except ConfigError as error:
            told = [self._config.without_secrets(problem) for problem in error.problems]
            raise ConfigError(self._config.problems() or told) from error
        self._thread = threading.Thread(target=self._run, args=(member,), name="kafka-consumer", daemon=True)
        self._thread.start()

    def finished(self, record: ReceivedRecord) -> None:
        """Nothing is left to be done about ``record``; again, or after its partition was revoked, is harmless."""
        self._offsets.finished(record.partition, record.offset, record.assignment)

    def hold(self) -> None:
        """Read no further until ``release``; the place in the group is kept. What is under way may still come."""
        self._is_held = True

    def release(self) -> None:
        """The end of ``hold``."""
        self._is_held = False

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are ours now."""
        return self._partitions

    def topic_partitions(self) -> int:
        """How many partitions the topic has; 0 while that is not known or there is no such topic."""
        return self._topic_partitions

    @property
    def in_flight(self) -> int:
        """Records received and not finished, of partitions that are ours."""
        return self._offsets.unfinished

    async def close(self, timeout: float) -> bool:
        """Receive nothing more, commit what is finished and leave the group, in at most ``timeout`` seconds.

        Returns whether we left in time; if not, brokers do not answer soon, and the thread is left behind with them. It
        goes on leaving: ask again to wait for that. The group notices after its session timeout that we are gone.
        """
        if self._thread is None or self._has_left:
            return True
        if self._leaving_since is None:
            self._leaving_since = self._clock.monotonic()
            self._commit_seconds = timeout * _COMMIT_SHARE
            self._stop.set()
        waiter: Deferred[None] = Deferred()
        self._close_waiters.append(waiter)
        bound = self._clock.call_later(timeout, waiter.callback, None)
        try:
            await waiter
        finally:
            self._close_waiters.remove(waiter)
            if bound.active():
                bound.cancel()
        if not self._has_left and not self._told_late:
            self._told_late = True
            self._log.warn(
                "Still a member of the group that reads {topic}, after {seconds} s",
                event="kafka.leaving_late",
                topic=self._topic,
                seconds=round(self._clock.monotonic() - self._leaving_since, 1),
            )
        return self._has_left

    # The thread.

    def _new_member(self) -> GroupMember:
        call = self._reactor.callFromThread
        return GroupMember(
            self._properties,
            self._topic,
            offsets=self._offsets,
            max_in_flight=self._max_in_flight,
            clock=self._clock,
            client_log=self._client_log,
            received=lambda records: call(self._hand_over, records),
            assigned=lambda partitions: call(self._came, partitions),
            revoked=lambda partitions: call(self._went, partitions),
            topic_seen=lambda count: call(self._saw_topic, count),
        )

    def _run(self, first: GroupMember) -> None:
        member: GroupMember | None = first
        while member is not None:
            failure = self._serve(member)
            member = None if failure is None or self._stop.is_set() else self._next_member(failure)
        self._reactor.callFromThread(self._left)

    def _serve(self, member: GroupMember) -> str | None:
        """From joining to leaving; why it ended, or None if that was asked for."""
        try:
            member.join()
            while member.fatal is None and not self._stop.is_set():
                member.turn(hold=self._is_held)
            if member.fatal is None:
                member.leave(self._commit_seconds)
                return None
        except Exception as error:  # no way to know what was lost with it, so this client cannot go on
            failure = f"consumer: {error!r}"
        else:
            failure = member.fatal
        member.abandon()
        return failure

    def _next_member(self, failure: str) -> GroupMember | None:
        """A new client after the due time; None if we are to stop."""
        while True:
            delay = _RESTART_SECONDS[min(self._restarts, len(_RESTART_SECONDS) - 1)]
            self._restarts += 1
            self._reactor.callFromThread(self._tell_fatal, failure, delay)
            if self._stop.wait(delay):
                return None
            try:
                return self._new_member()
            except ConfigError as error:  # a file that the properties name may be gone by now
                failure = self._config.without_secrets(str(error))

    # What the thread has to say; in the reactor.

    def _hand_over(self, records: list[ReceivedRecord]) -> None:
        if self._stop.is_set():
            return
        self._restarts = 0
        try:
            self._received(records)
        except Exception:
            self._log.failure("Records were not taken", event="kafka.receiver_failed")

    def _came(self, partitions: Partitions) -> None:
        self._partitions |= frozenset(partitions)
        self._log.info(
            "Reading {topic}: {partitions}",
            event="kafka.partitions_assigned",
            topic=self._topic,
            partitions=list(partitions),
        )
        self._tell(self._assigned, partitions)

    def _went(self, partitions: Partitions) -> None:
        self._partitions -= frozenset(partitions)
        self._log.info(
            "No longer reading {topic}: {partitions}",
            event="kafka.partitions_revoked",
            topic=self._topic,
            partitions=list(partitions),
        )
        self._tell(self._revoked, partitions)

    def _tell(self, listener: Callable[[Partitions], object], partitions: Partitions) -> None:
        if self._stop.is_set():
            return
        try:
            listener(partitions)
        except Exception:
            self._log.failure("Partitions were not taken note of", event="kafka.receiver_failed")

    def _saw_topic(self, count: int) -> None:
        self._topic_partitions = count
        if count == 0 and not self._told_missing:
            self._log.warn("Kafka has no topic {topic} yet", event="kafka.topic_missing", topic=self._topic)
        elif count and self._told_missing:
            self._log.info("Topic {topic} is there", event="kafka.topic_found", topic=self._topic)
        self._told_missing = count == 0

    def _tell_fatal(self, text: str, delay: float) -> None:
        self._log.error(
            "Kafka client failed for good and is replaced in {delay_seconds} s: {text}",
            event="kafka.client_fatal",
            text=text,
            delay_seconds=delay,
        )

    def _left(self) -> None:
        self._has_left = True
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        for waiter in list(self._close_waiters):
            waiter.callback(None)
