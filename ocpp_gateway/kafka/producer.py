"""Events into Kafka: bounded, in order per key, and each with an answer to "is it there?".

``publish`` queues a record and returns at once. When the brokers have confirmed it (acks=all, idempotent),
``delivered`` is called in the reactor with None; when it is given up, with the reason. While Kafka is away records
simply wait, for as long as it takes; nobody's CALL is answered meanwhile, and the queue is bounded:

* ``congested`` turns true at 80 % of either bound and false again at 50 %: whoever reads from a socket should stop, and
  go on after ``when_room()``,
* beyond the bound ``publish`` raises BusQueueFull.

A topic that does not exist is created by the brokers where they do so (``auto.create.topics.enable``). Where they do
not, ``check`` fails with ``kafka_topic_unknown`` at start. A record for it fails with the same reason, after
librdkafka's ``topic.metadata.propagation.max.ms`` (30 s) or at once when it knows already; once the topic is there, the
next ``check``, or librdkafka's own look every 30 s, makes it usable.

A fatal error of the client (the brokers lost track of the idempotent producer, for one) ends that client: its records
fail with ``kafka_client_restarted``, and a new one takes over, at once the first time and at growing intervals then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable, ConfigError
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.failures import CLIENT_RESTARTED, CLOSED, DeliveryFailed, delivery_failed
from ocpp_gateway.kafka.link import Delivered, Headers, ProducerLink

_log = Logger()

_REPORTS_PER_TURN: Final = 500
"""So many reports are handed on in one turn of the reactor: after an outage thousands come at once."""
_CONGESTED_AT: Final = 0.8
_ROOM_AT: Final = 0.5
_RESTART_SECONDS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)

_PURGED: Final = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._FATAL)
"""How librdkafka reports a record that we, or a fatal error, made it give up."""


class EventProducer:
    """The one producer of this process, from ``start`` to ``close``; all methods are for the reactor's thread.

    ``topics`` are the ones ``check`` asks for. The bounds count records and the bytes of their values, from ``publish``
    until the call of ``delivered``.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        reactor: IReactorThreads,
        clock: Clock,
        topics: Sequence[str] = (),
        max_pending_messages: int = 20_000,
        max_pending_bytes: int = 64 * 1024 * 1024,
        log: Logger = _log,
    ) -> None:
        self._config = config
        self._properties = config.producer_properties(
            max_pending_messages=max_pending_messages, max_pending_bytes=max_pending_bytes
        )
        self._reactor = reactor
        self._clock = clock
        self._topics = tuple(topics)
        self._max_messages = max_pending_messages
        self._max_bytes = max_pending_bytes
        self._congested_messages = max(1, int(max_pending_messages * _CONGESTED_AT))
        self._congested_bytes = max(1, int(max_pending_bytes * _CONGESTED_AT))
        self._log = log
        self._client_log = ClientLog(call_from_thread=reactor.callFromThread, clock=clock, log=log)
        self._link: ProducerLink | None = None
        self._congested = False
        self._room_waiters: list[Deferred[None]] = []
        self._restarts = 0
        self._restart: IDelayedCall | None = None
        self._checks: list[Deferred[None]] = []
        self._closing = False
        self._last_link: ProducerLink | None = None
        self._undelivered = 0
        self._close_waiters: list[Deferred[int]] = []

    def start(self) -> None:
        """Make the client, without waiting for a broker. Raises ConfigError naming the property that is wrong."""
        try:
            self._link = self._new_link()
        except ConfigError as error:
            told = [self._config.without_secrets(problem) for problem in error.problems]
            raise ConfigError(self._config.problems() or told) from error

    def publish(self, topic: str, key: bytes | None, value: bytes, headers: Headers, delivered: Delivered) -> None:
        """Queue one record; ``delivered`` is called exactly once, never from within this call.

        Raises BusQueueFull, or BusUnavailable when there is no client just now or the record cannot be sent at all
        (``failures`` lists the reasons). Then ``delivered`` is not called.
        """
        link = self._link
        if link is None:
            raise self._no_client()
        if self._congested and (
            link.pending >= self._max_messages or link.pending_bytes + len(value) > self._max_bytes
        ):
            raise BusQueueFull(f"{link.pending} records are waiting for Kafka")
        try:
            link.publish(topic, key, value, headers, delivered)
        except BufferError as error:
            self._congested = link.pending > 0  # only a delivery can end it
            raise BusQueueFull(f"{link.pending} records are waiting for Kafka") from error
        except KafkaException as error:
            if error.args[0].code() == KafkaError._FATAL:
                self._replace(link, error.args[0].str())
                raise DeliveryFailed(CLIENT_RESTARTED, "the Kafka client had a fatal error") from error
            raise self._told(delivery_failed(error.args[0])) from error
        if link.pending >= self._congested_messages or link.pending_bytes >= self._congested_bytes:
            self._congested = True

    @property
    def pending(self) -> int:
        """Records published whose fate is not known yet."""
        return 0 if self._link is None else self._link.pending

    @property
    def pending_bytes(self) -> int:
        """The size of their values."""
        return 0 if self._link is None else self._link.pending_bytes

    @property
    def congested(self) -> bool:
        """Whether whoever feeds us should pause."""
        return self._congested

    def when_room(self) -> Deferred[None]:
        """Fires when ``congested`` is over, at once when it is not on; fails with BusUnavailable at ``close``."""
        waiter: Deferred[None] = Deferred(self._forget_waiter)
        if self._congested:
            self._room_waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    async def check(self, timeout: float) -> None:
        """Ask the cluster for our topics; raises BusUnavailable when it did not show them all in ``timeout`` seconds.

        It tells that brokers answer and that the topics are there (``reason`` is ``kafka_unavailable``,
        ``kafka_topic_unknown`` or ``kafka_not_authorized``), not that they can be written to just now. Callers at the
        same time share one question.
        """
        waiter: Deferred[None] = Deferred()
        link = self._link
        if link is None:
            raise self._no_client()
        self._checks.append(waiter)
        if len(self._checks) == 1:
            asked = deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), link.ask_for_topics, self._topics, timeout
            )
            asked.addCallbacks(self._checked, lambda failure: self._checked(_unavailable(failure.getErrorMessage())))
        await waiter

    async def close(self, timeout: float) -> int:
        """Deliver what is queued for at most ``timeout`` seconds, then fail the rest with ``kafka_closed``.

        Returns how many records were not delivered. ``publish`` refuses from the first call on.
        """
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        waiter: Deferred[int] = Deferred()
        link, self._link = self._link, None
        if not self._closing:
            self._closing = True
            for room in self._take_room_waiters():
                room.errback(self._no_client())
        if link is None and not self._close_waiters:
            return self._undelivered
        self._close_waiters.append(waiter)
        if link is not None:
            self._last_link = link
            link.retire(timeout)
        return await waiter

    # What the links have to say; in the reactor too.

    def _new_link(self) -> ProducerLink:
        link = ProducerLink(
            self._properties,
            client_log=self._client_log,
            clock=self._clock,
            call_from_thread=self._reactor.callFromThread,
            arrived=self._hand_on,
            broken=self._replace,
        )
        link.start()
        return link

    def _hand_on(self, link: ProducerLink) -> None:
        """Tell publishers what became of their records."""
        link.woken = False
        reports = link.reports
        for _ in range(min(len(reports), _REPORTS_PER_TURN)):
            delivered, size, error = reports.popleft()
            link.pending -= 1
            link.pending_bytes -= size
            if error is None:
                failure: BusUnavailable | None = None
                self._restarts = 0
            else:
                failure = self._failed(link, error)
            try:
                delivered(failure)
            except Exception:
                self._log.failure("A publisher failed on its delivery report", event="kafka.publisher_failed")
        if self._congested and link is self._link:
            self._look_for_room(link)
        if reports and not link.woken:
            link.woken = True
            self._reactor.callFromThread(self._hand_on, link)
        elif link.ended and not reports and link is self._last_link:
            self._closed(link)

    def _failed(self, link: ProducerLink, error: KafkaError) -> BusUnavailable:
        if error.code() in _PURGED:
            if self._closing:
                self._undelivered += 1
                return DeliveryFailed(CLOSED, "the producer was closed before Kafka confirmed the record")
            return DeliveryFailed(CLIENT_RESTARTED, "the Kafka client had a fatal error")
        return self._told(delivery_failed(error))

    def _told(self, failure: DeliveryFailed) -> DeliveryFailed:
        self._client_log.warn("kafka.delivery_failed", failure.reason, f"record not delivered: {failure}")
        return failure

    def _look_for_room(self, link: ProducerLink) -> None:
        if link.pending <= self._max_messages * _ROOM_AT and link.pending_bytes <= self._max_bytes * _ROOM_AT:
            self._congested = False
            for waiter in self._take_room_waiters():
                waiter.callback(None)

    def _take_room_waiters(self) -> list[Deferred[None]]:
        waiters, self._room_waiters = self._room_waiters, []
        return waiters

    def _forget_waiter(self, waiter: Deferred[None]) -> None:
        if waiter in self._room_waiters:
            self._room_waiters.remove(waiter)

    def _checked(self, failure: DeliveryFailed | None) -> None:
        waiters, self._checks = self._checks, []
        for waiter in waiters:
            if failure is None:
                waiter.callback(None)
            else:
                waiter.errback(failure)

    def _replace(self, link: ProducerLink, text: str) -> None:
        """``link`` is beyond repair: give its records up and take a new one."""
        if link is not self._link:
            return
        self._link = None
        link.retire(0.0)
        self._start_again_later(text)

    def _start_again_later(self, text: str) -> None:
        delay = _RESTART_SECONDS[min(self._restarts, len(_RESTART_SECONDS) - 1)]
        self._restarts += 1
        self._log.error(
            "Kafka client failed for good and is replaced in {delay_seconds} s: {text}",
            event="kafka.client_fatal",
            text=text,
            delay_seconds=delay,
        )
        self._restart = self._clock.call_later(delay, self._start_again)

    def _start_again(self) -> None:
        self._restart = None
        try:
            link = self._link = self._new_link()
        except ConfigError as error:  # a file that the properties name may be gone by now
            self._start_again_later(self._config.without_secrets(str(error)))
        else:
            self._look_for_room(link)

    def _closed(self, link: ProducerLink) -> None:
        self._last_link = None
        link.join()
        self._undelivered += link.pending
        waiters, self._close_waiters = self._close_waiters, []
        for waiter in waiters:
            waiter.callback(self._undelivered)

    def _no_client(self) -> BusUnavailable:
        if self._closing:
            return DeliveryFailed(CLOSED, "the producer is closed")
        return DeliveryFailed(CLIENT_RESTARTED, "the Kafka client is being replaced")


def _unavailable(text: str) -> DeliveryFailed:
    return DeliveryFailed(BusUnavailable.reason, text)
