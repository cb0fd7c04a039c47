"""A back end as the gateway's users have one: it asks for commands over Kafka, and reads how each of them ends."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field, frozen
from commanded import data_transfer
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from security import IDENTITY

from ocpp_gateway.clock import iso_millis

FETCH_WAIT_MS = 5
"""fetch.wait.max.ms. librdkafka's mock cluster keeps an empty request for all of it, whatever comes meanwhile; a real
broker answers when there is something."""

_REQUESTS = "cpms.command.requests"
_EVENTS = "ocpp.command.events"
_NOT_FINAL = ("CommandDispatched", "CommandQueued")
_TIMEOUT = 20.0


class BackEndFailed(Exception):
    """Kafka does not work."""


@frozen
class Final:
    """A final event."""

    came_at: float
    """time.monotonic()."""
    kind: str
    """Its type and, if it has one, its reason."""


@frozen
class Asked:
    """A command, and to whom."""

    number: int
    charge_point: int
    at: float
    """time.monotonic()."""


@define(eq=False)
class BackEnd:
    """Use ``back_end``. The two topics are read in threads that only note when a record came."""

    _producer: Producer
    _requests: _Tail
    _events: _Tail
    _run_id: str = field(init=False, factory=lambda: os.urandom(4).hex())
    asked: dict[int, Asked] = field(init=False, factory=dict)
    """By the command's number, from 1."""
    read_at: dict[int, float] = field(init=False, factory=dict)
    """When a plain consumer had the request: what Kafka itself takes."""
    finals: dict[int, list[Final]] = field(init=False, factory=dict)
    """As far as ``look`` found them. More than one is too many."""
    wrong: Counter[str] = field(init=False, factory=Counter)

    def ask(self, charge_point: int, timeout: float) -> int:
        """Ask for one more command; its number. ``timeout``: seconds, as the command says it."""
        number, identity = len(self.asked) + 1, IDENTITY % charge_point
        command = {
            "commandId": f"{self._run_id}-{number}",
            "commandType": "DataTransfer",
            "chargePointId": identity,
            "payload": data_transfer(number),
            "requestedAt": iso_millis(time.time()),
            "timeoutSec": timeout,
        }
        value = json.dumps(command).encode()
        self.asked[number] = Asked(number, charge_point, time.monotonic())
        self._producer.produce(_REQUESTS, value, key=identity.encode(), on_delivery=self._told)
        self._producer.poll(0)
        return number

    def look(self) -> None:
        """Go through what was read since the last time."""
        self._producer.poll(0)
        for at, value in self._requests.taken():
            if (number := self._number(json.loads(value)["commandId"])) is not None:
                self.read_at.setdefault(number, at)
        for at, value in self._events.taken():
            event = json.loads(value)
            number = self._number(event.get("correlationId") or "")
            if number is not None and event["eventType"] not in _NOT_FINAL:
                reason = event["payload"].get("reason")
                kind = f"{event['eventType']} ({reason})" if reason else event["eventType"]
                self.finals.setdefault(number, []).append(Final(at, kind))

    def _number(self, command_id: str) -> int | None:
        """None: of another run, where Kafka is not our own."""
        run_id, _, number = command_id.rpartition("-")
        return int(number) if run_id == self._run_id else None

    def _told(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self.wrong[f"requests that Kafka did not take: {error.name()}"] += 1


@contextmanager
def back_end(brokers: str) -> Iterator[BackEnd]:
    """One that has seen nothing yet. Raises BackEndFailed."""
    # The partitioner of Java's clients.
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 0, "acks": "all", "partitioner": "murmur2_random", "log_level": 2}
    )
    requests, events = (_Tail(topic, producer, brokers) for topic in (_REQUESTS, _EVENTS))
    with requests.reading(), events.reading():
        yield BackEnd(producer, requests, events)
    producer.flush(_TIMEOUT)


class _Tail:
    """What comes to a topic from now on."""

    def __init__(self, topic: str, producer: Producer, brokers: str) -> None:
        self._records: deque[tuple[float, bytes]] = deque()
        self._is_over = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "benchmark",  # has to be set, and is not used
                "enable.auto.commit": False,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "log_level": 2,
            }
        )
        try:
            places = _places(topic, producer)
            for place in places:
                place.offset = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT)[1]
            self._consumer.assign(places)
        except KafkaException as error:
            raise BackEndFailed(f"Kafka: {error}") from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()
            self._consumer.close()

    def taken(self) -> Iterator[tuple[float, bytes]]:
        """When it came (time.monotonic()) and what it is, of each that was not taken yet."""
        while self._records:
            yield self._records.popleft()

    def _read(self) -> None:
        while not self._is_over.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._records.append((time.monotonic(), message.value() or b""))


def _places(topic: str, producer: Producer) -> list[TopicPartition]:
    """The topic's partitions; to ask for them creates it. Raises BackEndFailed and KafkaException."""
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        found = producer.list_topics(topic, timeout=_TIMEOUT).topics[topic]
        if found.error is None and found.partitions:
            return [TopicPartition(topic, partition) for partition in found.partitions]
        time.sleep(0.1)
    raise BackEndFailed(f"Kafka has no topic {topic}")
