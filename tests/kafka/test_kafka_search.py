"""Which events are in a topic already."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Producer
from support.mock_kafka import MockKafka
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.search import find_events


async def search(brokers: str, topic: str, *event_ids: str, since_ms: int = 0, timeout: float = 20.0) -> set[str]:
    config = KafkaConfig.from_environ({}, brokers=brokers, client_id="test")
    return await find_events(
        config, topic, event_ids, since_ms, group_id="test-search", reactor=reactor, timeout=timeout
    )


def event_headers(event_id: str) -> list[tuple[str, bytes]]:
    return [("ce_type", b"x"), ("ce_id", event_id.encode())]


def write_in_the_past(brokers: str, topic: str, *events: tuple[str, bytes, int]) -> None:
    """Events of (id, key, milliseconds since the epoch), with these times in their records; blocks."""
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random"})
    for event_id, key, written_ms in events:
        producer.produce(topic, b"{}", key, headers=event_headers(event_id), timestamp=written_ms)
    assert producer.flush(20.0) == 0
    producer.close()


async def test_the_events_that_are_there_are_found_in_whatever_partition(brokers, topic, producing, publish):
    there = [str(uuid.uuid4()) for _ in range(20)]
    async with producing(brokers) as producer:
        outcomes = [
            publish(producer, topic, b"{}", key=event_id.encode(), headers=event_headers(event_id))
            for event_id in there
        ]
        assert await gatherResults(outcomes) == [None] * 20
        assert await publish(producer, topic, b"no event", headers=[("ce_id", None), ("ce_id", b"\xff")]) is None
        assert await publish(producer, topic, b"no headers") is None
    absent = [str(uuid.uuid4()) for _ in range(3)]
    just_now = int(time.time() * 1000) - 60_000
    for since_ms in (0, just_now):
        assert await search(brokers, topic, *there[::2], *absent, since_ms=since_ms) == set(there[::2])
    assert await search(brokers, topic, *absent, since_ms=just_now) == set()


async def test_events_from_the_time_on_are_found_and_quiet_partitions_do_not_matter(brokers, topic):
    now = int(time.time() * 1000)
    keys = [b"CP-%d" % number for number in range(12)]
    early = [(f"early-{number}", key, now - 7_200_000) for number, key in enumerate(keys)]
    late = [("late", keys[0], now), ("late-too", keys[0], now)]
    await deferToThread(write_in_the_past, brokers, topic, *early, *late)
    assert await search(brokers, topic, "late", "late-too", "absent", since_ms=now - 60_000) == {"late", "late-too"}
    assert await search(brokers, topic, "late", "early-3", since_ms=now - 7_300_000) == {"late", "early-3"}


@pytest.mark.kafka_broker
async def test_what_is_older_is_not_read_at_all(brokers, topic):
    """By the broker's index of times, which the mock cluster does not have."""
    now = int(time.time() * 1000)
    await deferToThread(write_in_the_past, brokers, topic, ("early", b"k", now - 7_200_000), ("late", b"k", now))
    assert await search(brokers, topic, "early", "late", since_ms=now - 60_000) == {"late"}
    assert await search(brokers, topic, "early", "late", since_ms=now + 60_000) == set()


async def test_what_is_written_meanwhile_does_not_keep_the_search_going(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"{}", headers=event_headers("there")) is None
        writing = [True]

        def write_another(_failure: object = None) -> None:
            if writing:
                publish(producer, topic, b"{}", headers=event_headers("later")).addCallback(write_another)

        write_another()
        assert await search(brokers, topic, "there", "absent") == {"there"}
        writing.clear()


async def test_a_topic_that_does_not_exist_or_is_empty_has_no_events(brokers, topic):
    assert await search(brokers, topic, "absent") == set()


async def test_nobody_is_asked_about_nothing(topic):
    assert await search("127.0.0.1:1", topic) == set()


async def test_without_brokers_nothing_is_known(topic, producing, publish):
    with MockKafka() as kafka:
        async with producing(kafka.brokers) as producer:
            assert await publish(producer, topic, b"{}", headers=event_headers("there")) is None
        with kafka.frozen():
            started = time.monotonic()
            with pytest.raises(BusUnavailable) as refusal:
                await search(kafka.brokers, topic, "there", timeout=1.0)
            assert refusal.value.reason == "kafka_unavailable"
            assert time.monotonic() - started < 10.0
        assert await search(kafka.brokers, topic, "there") == {"there"}
