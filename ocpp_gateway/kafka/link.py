"""One librdkafka producer and the one thread that serves it.

librdkafka hands out delivery reports, errors and log lines only inside ``poll()``. A thread of ours sits there; the
callbacks do nothing but append to ``reports`` (calling back into librdkafka from one can crash the process), and after
each ``poll()`` that brought something the reactor is woken once, however many reports there are. One wake-up per report
would cost more than the report.

A link is used once: after a fatal error, or at the end, it is retired, which delivers or gives up what is left.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from ocpp_gateway.errors import BusUnavailable, ConfigError
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import Value
from ocpp_gateway.kafka.failures import NOT_AUTHORIZED, TOPIC_UNKNOWN, DeliveryFailed, delivery_failed

Delivered = Callable[[BusUnavailable | None], object]
Headers = list[tuple[str, bytes]]

_POLL_SECONDS: Final = 0.1
_PURGE_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 1.0
_ASK_AGAIN_SECONDS: Final = 0.25


class ProducerLink:
    """A client of the cluster, from ``start`` to ``retire``.

    ``wake(link)`` is called from the link's thread when ``reports`` have come, and once more when the link has ended;
    ``broken(link, text)`` from that thread too, once, when librdkafka had an error that it cannot recover from.
    """

    def __init__(
        self,
        properties: Mapping[str, Value],
        *,
        client_log: ClientLog,
        wake: Callable[[ProducerLink], None],
        broken: Callable[[ProducerLink, str], None],
    ) -> None:
        self.reports: deque[tuple[Delivered, int, KafkaError | None]] = deque()
        self.woken = False
        self.pending = 0
        self.pending_bytes = 0
        self.ended = False
        self._wake = wake
        self._broken = broken
        self._client_log = client_log
        self._fatal: str | None = None
        self._flush_seconds: float | None = None
        self._metadata_lock = threading.Lock()
        try:
            self._producer: Producer = Producer({**properties, "error_cb": self._client_error}, logger=client_log)
        except KafkaException as error:
            raise ConfigError([f"KAFKA_*: {error.args[0].str().strip()}"]) from error
        self._produce: Callable[..., None] = self._producer.produce
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)

    def start(self) -> None:
        """Begin to serve reports."""
        self._thread.start()

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

    def retire(self, flush_seconds: float) -> None:
        """Deliver what is queued for at most ``flush_seconds``, fail the rest, and end. Only the first call counts."""
        if self._flush_seconds is None:
            self._flush_seconds = flush_seconds

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
        told = False
        while self._flush_seconds is None:
            self._poll()
            if self._fatal is not None and not told:
                told = True
                self._broken(self, self._fatal)
        self._flush(self._flush_seconds)
        with self._metadata_lock:  # a question under way must not see its client closed
            self._producer.close()
        self.ended = True
        self._wake(self)

    def _poll(self) -> None:
        try:
            self._producer.poll(_POLL_SECONDS)
        except Exception as error:  # a callback failed: without this thread no report would ever come
            self._fatal = self._fatal or f"poll: {error!r}"
        self._wake_for_reports()

    def _flush(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            self._wake_for_reports()
        if len(self._producer):
            self._producer.purge()
            self._producer.flush(_PURGE_SECONDS)

    def _wake_for_reports(self) -> None:
        if self.reports and not self.woken:
            self.woken = True
            self._wake(self)


def _about_topic(topic: str, error: KafkaError | None) -> DeliveryFailed:
    if error is None or error.code() == KafkaError.LEADER_NOT_AVAILABLE:
        return DeliveryFailed(TOPIC_UNKNOWN, f"topic {topic} has no partitions with a leader yet")
    reason = delivery_failed(error).reason
    return DeliveryFailed(reason, f"topic {topic}: {error.str()}")
