"""A back end as any other could be: it sees what the gateway publishes, asks for commands, and answers questions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer
from support.callers import until
from support.gateway import Gateway
from support.kafka_reader import Record, read_topic
from support.topic_tail import TopicTail

REQUESTS = "cpms.command.requests"
STATION_EVENTS = "ocpp.station.events"
SESSION_EVENTS = "ocpp.session.events"
COMMAND_EVENTS = "ocpp.command.events"
FINAL = frozenset({"CommandAccepted", "CommandRejected", "CommandTimeout", "CommandFailed"})

_CORRELATION = "kafka_correlationId"


class BackEnd(TopicTail):
    """``with BackEnd(brokers) as back_end``. Answers go where the event says, unless a test wants otherwise."""

    def __init__(self, brokers: str) -> None:
        super().__init__(brokers, STATION_EVENTS, SESSION_EVENTS, COMMAND_EVENTS)
        self.brokers = brokers
        self._producer = Producer({"bootstrap.servers": brokers, "linger.ms": 1, "log_level": 2})

    def said(self, message_id: str, *, seconds: float = 15) -> dict[str, Any]:
        """The event of a charge point's CALL."""
        return self.wait_for(lambda event: event.get("messageId") == message_id, seconds=seconds)

    def records(self, message_id: str) -> list[Record]:
        """Every record there is of a charge point's CALL, in all topics of events."""
        found = [each for topic in (STATION_EVENTS, SESSION_EVENTS) for each in read_topic(self.brokers, topic)]
        return [each for each in found if json.loads(each.value).get("messageId") == message_id]

    def answer(self, event: dict[str, Any], members: Any, *, partition: int | None = None) -> None:
        """Answer a question with ``members``, which are bytes as they are, or become JSON."""
        to = event["replyTo"]
        self.say(
            to["topic"],
            members if isinstance(members, bytes) else json.dumps(members).encode(),
            partition=to["partition"] if partition is None else partition,
            headers=[(_CORRELATION, to["correlationId"].encode())],
        )

    def say(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Write a record, whatever it is."""
        told: list[Any] = []
        self._producer.produce(
            topic, value, partition=partition, headers=list(headers), on_delivery=lambda error, _: told.append(error)
        )
        assert self._producer.flush(15) == 0
        assert told == [None]

    def ask(self, charge_point_id: str, command_type: str, payload: Any, **members: Any) -> str:
        """Request a command; its id."""
        command_id = members.pop("commandId", None) or str(uuid.uuid4())
        request = {
            "commandId": command_id,
            "commandType": command_type,
            "chargePointId": charge_point_id,
            "payload": payload,
            "requestedAt": datetime.now(UTC).isoformat(),
            **members,
        }
        self._producer.produce(REQUESTS, json.dumps(request), charge_point_id)
        assert self._producer.flush(15) == 0
        return str(command_id)

    def end_of(self, command_id: str, *, seconds: float = 20) -> dict[str, Any]:
        """The final event of a command."""
        return self.wait_for(
            lambda event: event.get("correlationId") == command_id and event["eventType"] in FINAL, seconds=seconds
        )


def make_topics(brokers: str, *topics: str) -> None:
    """An operator makes the topics before anything runs; here, asking for one makes it."""
    client = Producer({"bootstrap.servers": brokers, "log_level": 2})
    for topic in topics:
        until(lambda: client.list_topics(topic, timeout=10).topics[topic].partitions, topic)  # noqa: B023


def partitions_read(gateway: Gateway, topic: str) -> set[int]:
    """Which partitions of ``topic`` the gateway reads, as its log says."""
    gateway.logged("")
    mine: set[int] = set()
    for line in gateway.events:
        if line.get("topic") != topic:
            continue
        if line.get("event") == "kafka.partitions_assigned":
            mine.update(line["partitions"])
        elif line.get("event") == "kafka.partitions_revoked":
            mine.difference_update(line["partitions"])
    return mine


def read_by_all(topic: str, *gateways: Gateway, count: int = 4) -> None:
    """Wait until each of ``gateways`` reads some of the ``count`` partitions of ``topic``, and together all."""

    def is_settled() -> bool:
        read = [partitions_read(each, topic) for each in gateways]
        return all(read) and sum(map(len, read)) == len(set().union(*read)) == count

    until(is_settled, f"everybody who reads {topic}", seconds=30)
