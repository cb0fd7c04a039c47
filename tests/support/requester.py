"""Who asks for commands and accounts for what becomes of them, as any other client of Kafka would."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from attrs import define, field
from confluent_kafka import Producer
from support.back_end import COMMAND_EVENTS, FINAL, REQUESTS, partitions_read
from support.callers import until
from support.event_schemas import must_fit
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.topic_tail import TopicTail

ENDS = FINAL | {"CommandDuplicate"}


def moment(seconds_from_now: float = 0.0) -> str:
    """ISO 8601 with milliseconds."""
    seconds = datetime.now(UTC).timestamp() + seconds_from_now
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@define(eq=False)
class Requester:
    """``with Requester(brokers) as requester``. At the end each record must have had exactly one end.

    Every event is held against docs/schemas/command-event.json when it is read.
    """

    brokers: str
    reader: Gateway | None = None
    """Who reads the requests, if that is to be waited for first."""

    records: Counter[str] = field(factory=Counter, init=False)
    """How many records were written, by their commandId."""

    _producer: Producer = field(init=False)
    _tail: TopicTail = field(init=False)
    _checked: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.brokers, "linger.ms": 0, "log_level": 2})
        self._tail = TopicTail(self.brokers, COMMAND_EVENTS)
        until(self.partitions, REQUESTS)  # which creates it
        if (reader := self.reader) is not None:
            until(lambda: partitions_read(reader, REQUESTS), "who reads the requests", seconds=30)

    def partitions(self) -> int:
        """How many the topic of the requests has."""
        return len(self._producer.list_topics(REQUESTS, timeout=10).topics[REQUESTS].partitions)

    def ask(
        self,
        charge_point_id: str,
        command_type: str,
        payload: Any = None,
        *,
        partition: int = -1,
        **members: Any,
    ) -> str:
        """Write a request; its commandId. ``members`` may replace any, or leave it out as None."""
        request = {
            "commandId": str(uuid.uuid4()),
            "commandType": command_type,
            "chargePointId": charge_point_id,
            "payload": payload,
            "requestedAt": moment(),
            **members,
        }
        request = {name: value for name, value in request.items() if value is not None}
        self.put(json.dumps(request), charge_point_id, request["commandId"], partition=partition)
        return str(request["commandId"])

    def put(
        self,
        value: str | bytes | None,
        key: str | bytes | None,
        command_id: str | None = None,
        *,
        partition: int = -1,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> None:
        """Write any record; ``command_id``: the one that has to have an end, if there is one to be read in it."""
        problems: list[Any] = []
        self._producer.produce(
            REQUESTS,
            value,
            key,
            partition,
            headers=headers or [],
            on_delivery=lambda error, _: problems.append(error),
        )
        assert self._producer.flush(20) == 0
        assert problems == [None], problems
        if command_id is not None:
            self.records[command_id] += 1

    def order(self, charge_point_id: str) -> list[tuple[str, str]]:
        """CommandIds and types of the events about a charge point so far, in the order of the topic."""
        return [
            (event["correlationId"], event["eventType"])
            for event in self._tail.events
            if event.get("chargePointId") == charge_point_id
        ]

    def events(self, command_id: str) -> list[dict[str, Any]]:
        """What was read of it so far."""
        return [event for event in self._tail.events if event.get("correlationId") == command_id]

    def types(self, command_id: str) -> list[str]:
        """The types of its events so far, in the order of the topic."""
        return [event["eventType"] for event in self.events(command_id)]

    def wait(self, command_id: str, *event_types: str, number: int = 1, seconds: float = 20) -> dict[str, Any]:
        """Its ``number``-th event of these types."""
        seen = 0

        def is_wanted(event: dict[str, Any]) -> bool:
            nonlocal seen
            seen += event.get("correlationId") == command_id and event["eventType"] in event_types
            return seen == number

        try:
            event = self._tail.wait_for(is_wanted, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"no {event_types} ({number}) of {command_id}: {self.events(command_id)}") from None
        self.check()
        return event

    def ended(self, command_id: str, *, number: int = 1, seconds: float = 20) -> dict[str, Any]:
        """Its final event, or what it is told instead of one: that it is a duplicate."""
        return self.wait(command_id, *ENDS, number=number, seconds=seconds)

    def outcome(self, command_id: str, *, number: int = 1, seconds: float = 20) -> tuple[str, str | None]:
        """Which event it ended with, and the reason."""
        event = self.ended(command_id, number=number, seconds=seconds)
        return event["eventType"], event["payload"].get("reason")

    def check(self) -> None:
        """Hold what was read since the last time against the schema."""
        while self._checked < len(self._tail.events):
            self._checked += 1
            must_fit("command-event", self._tail.events[self._checked - 1])

    def account(self) -> None:
        """Exactly one end for each record."""
        events = [json.loads(record.value) for record in read_topic(self.brokers, COMMAND_EVENTS)]
        ends = Counter(event["correlationId"] for event in events if event["eventType"] in ENDS)
        wrong = {
            command_id: [event for event in events if event["correlationId"] == command_id]
            for command_id, count in self.records.items()
            if ends[command_id] != count
        }
        assert not wrong, f"not one end for each record: {wrong}"
        # On a broker that others use too, their gateways may tell their duplicates again.
        event_ids = Counter(event["eventId"] for event in events if event["correlationId"] in self.records)
        assert max(event_ids.values(), default=1) == 1, f"told twice: {event_ids.most_common(3)}"

    def __enter__(self) -> Requester:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self.account()
        finally:
            self._tail.__exit__()
