"""One librdkafka producer, served from the reactor.

librdkafka sends in threads of its own, and hands out delivery reports, errors and log lines only inside ``poll()``.
That is called here with a timeout of 0 by a timer: every millisecond while reports come, less and less often while
records wait in vain, a few times a second otherwise. The callbacks do nothing but append to ``reports`` (calling back
into librdkafka from one can crash the process); what has come is handed on in one go.

A thread that waits in ``poll()`` costs more: confluent-kafka takes the interpreter's lock once for each report, against
a reactor that is busy with the next messages (docs/PERFORMANCE.md).

A link is used once: after a fatal error, or at the end, it is retired, which delivers or gives up what is left, in a
thread because it may take a while.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from twisted.internet.interfaces import IDelayedCall

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusUnavailable, ConfigError
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import Value
from ocpp_gateway.kafka.failures import NOT_AUTHORIZED, TOPIC_UNKNOWN, DeliveryFailed, delivery_failed

Delivered = Callable[[BusUnavailable | None], object]
Headers = list[tuple[str, bytes]]

_BUSY_SECONDS: Final = 0.001
_WAITING_SECONDS: Final = 0.02
_IDLE_SECONDS: Final = 0.25
_SLOWER: Final = 1.5
"""Time between polls: while reports come, at most while records wait, while there is nothing to come."""
_FLUSH_SECONDS: Final = 0.1
_PURGE_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 1.0
_ASK_AGAIN_SECONDS: Final = 0.25


class ProducerLink:
    """A client of the cluster, from ``start`` to ``retire``.

    ``arrived(link)`` is called in the reactor when ``reports`` have come, and once more when the link has ended;
    ``broken(link, text)`` once, when librdkafka had an error that it cannot recover from.
    """

    def __init__(
        self,
        properties: Mapping[str, Value],
        *,
        client_log: ClientLog,
        clock: Clock,
        call_from_thread: Callable[..., object],
        arrived: Callable[[ProducerLink], None],
        broken: Callable[[ProducerLink, str], None],
    ) -> None:
        self.reports: deque[tuple[Delivered, int, KafkaError | None]] = deque()
        self.woken = False
        self.pending = 0
        self.pending_bytes = 0
        self.ended = False
        self._clock = clock
        self._call_from_thread = call_from_thread
        self._arrived = arrived
        self._broken = broken
        self._timer: IDelayedCall | None = None
        self._interval = _BUSY_SECONDS
        self._told_of_fatal = False
        self._client_log = client_log
        self._fatal: str | None = None
        self._flush_seconds: float | None = None
        self._metadata_lock = threading.Lock()
        try:
            self._producer: Producer = Producer({**properties, "error_cb": self._client_error}, logger=client_log)
        except KafkaException as error:
            raise ConfigError([f"KAFKA_*: {error.args[0].str().strip()}"]) from error
        self._produce: Callable[..., None] = self._producer.produce
        self._thread = threading.Thread(target=self._end, name="kafka-producer-end", daemon=True)

    def start(self) -> None:
        """Begin to serve reports."""
        self._timer = self._clock.call_later(_IDLE_SECONDS, self._serve)

    def publish(self, topic: str, key: bytes | None, value: bytes, headers: Headers, delivered: Delivered) -> None:
        """Queue one record; raises what ``confluent_kafka.Producer.produce`` raises."""
        size = len(value)
        append = self.reports.append
        self._produce(
            topic,
            value,
            key,
            on_delivery=lambda error, _record: append((delivered, size, error)),
            headers=headers,
        )
        self.pending += 1
        self.pending_bytes += size
        if self.pending == 1 and self._timer is not None:
            self._interval = _BUSY_SECONDS
            self._timer.reset(_BUSY_SECONDS)

    def retire(self, flush_seconds: float) -> None:
        """Deliver what is queued for at most ``flush_seconds``, fail the rest, and end. Only the first call counts."""
        if self._flush_seconds is None:
            self._flush_seconds = flush_seconds
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._thread.start()

    def join(self) -> None:
        """Wait for the thread that has told its end; takes no time worth mentioning."""
        self._thread.join(1.0)

    def ask_for_topics(self, topics: tuple[str, ...], seconds: float) -> DeliveryFailed | None:
        """Whether the cluster answers and has these topics; blocks for at most ``seconds``, so not for the reactor.

        Asking for a topic makes brokers create it that create topics by themselves; such a topic has no leader at
        first, which is why a missing one is asked for again until the time is over.
        """
        deadline = time.monotonic() + seconds
        with self._metadata_lock:
            for topic in topics or (None,):
                failure = self._ask(topic, deadline)
                if failure is not None:
                    return failure
        return None

    def _ask(self, topic: str | None, deadline: float) -> DeliveryFailed | None:
        while True:
            # In short pieces: whoever retires this link waits for the question under way.
            failure = self._ask_once(topic, min(_ASK_SECONDS, max(0.01, deadline - time.monotonic())))
            if failure is None or failure.reason == NOT_AUTHORIZED:
                return failure
            if self._flush_seconds is not None or deadline - time.monotonic() < _ASK_AGAIN_SECONDS:
                return failure
            time.sleep(_ASK_AGAIN_SECONDS)

    def _ask_once(self, topic: str | None, seconds: float) -> DeliveryFailed | None:
        try:
            metadata = self._producer.list_topics(topic, timeout=seconds)
        except KafkaException as error:
            return delivery_failed(error.args[0])
        if topic is None:
            return None
        known = metadata.topics[topic]
        if known.error is None and known.partitions:
            return None
        return _about_topic(topic, known.error)

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = f"{error.name()}: {error.str()}"
        elif error.code() != KafkaError._TRANSPORT:  # each is in the log already, as FAIL
            self._client_log.warn("kafka.client_error", error.name(), error.str())

    def _serve(self) -> None:
        self._timer = None
        try:
            self._producer.poll(0)
        except Exception as error:  # a callback failed: reports may be lost, so this client cannot go on
            self._fatal = self._fatal or f"poll: {error!r}"
        if self._fatal is not None and not self._told_of_fatal:
            self._told_of_fatal = True
            self._broken(self, self._fatal)
        if self.reports:
            self._interval = _BUSY_SECONDS
        elif self.pending:
            self._interval = min(_WAITING_SECONDS, self._interval * _SLOWER)
        else:
            self._interval = _IDLE_SECONDS
        if self._flush_seconds is None:
            self._timer = self._clock.call_later(self._interval, self._serve)
        if self.reports:
            self._arrived(self)

    # The end, in a thread.

    def _end(self) -> None:
        self._flush(self._flush_seconds or 0.0)
        with self._metadata_lock:  # a question under way must not see its client closed
            self._producer.close()
        self.ended = True
        self._call_from_thread(self._arrived, self)

    def _flush(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(min(_FLUSH_SECONDS, max(0.0, deadline - time.monotonic())))
            self._wake_for_reports()
        if len(self._producer):
            self._producer.purge()
            self._producer.flush(_PURGE_SECONDS)

    def _wake_for_reports(self) -> None:
        if self.reports and not self.woken:
            self.woken = True
            self._call_from_thread(self._arrived, self)


def _about_topic(topic: str, error: KafkaError | None) -> DeliveryFailed:
    if error is None or error.code() == KafkaError.LEADER_NOT_AVAILABLE:
        return DeliveryFailed(TOPIC_UNKNOWN, f"topic {topic} has no partitions with a leader yet")
    reason = delivery_failed(error).reason
    return DeliveryFailed(reason, f"topic {topic}: {error.str()}")
