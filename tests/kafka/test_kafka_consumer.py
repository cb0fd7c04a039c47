"""One member of a group: what it receives, what it commits, when it pauses and how it leaves."""

from __future__ import annotations

import ctypes
import time
import uuid

import pytest
from confluent_kafka import cimpl
from support.group_reader import GroupReader, quick_group
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.config import KafkaConfig, Property
from ocpp_gateway.kafka.consumer import GroupConsumer

SAME = b"CP-001"
"""The key of records that all lie in one partition."""


@pytest.fixture
def group() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def quick(tmp_path):
    return quick_group(tmp_path)


async def test_records_arrive_as_they_were_written(brokers, topic, group, quick, producing, publish):
    before = int(time.time() * 1000)
    async with producing(brokers) as producer:
        written = [("ce_id", b"e-1"), ("kafka_replyPartition", b"\0\0\0\3"), ("empty", b""), ("none", None)]
        assert await publish(producer, topic, b"{}", key=SAME, headers=written) is None
        assert await publish(producer, topic, b"", key=None) is None
    async with GroupReader(brokers, group, topic, quick) as reader:
        await reader.when_received(2)
        assert reader.consumer.partitions == {0, 1, 2, 3}
        assert reader.consumer.topic_partitions() == 4
        assert reader.consumer.in_flight == 2
    first, second = sorted(reader.records, key=lambda record: record.value or b"", reverse=True)
    assert (first.topic, first.key, first.value, first.headers) == (topic, SAME, b"{}", tuple(written))
    assert before <= first.timestamp_ms <= time.time() * 1000
    assert first.source == f"{topic}/{first.partition}/0"
    assert (second.key, second.value, second.headers) == (None, b"", ())
    assert reader.consumer.partitions == set()
    assert reader.revoked == []  # nobody is told anything after the close


async def test_offsets_are_committed_behind_finished_records_only(brokers, topic, group, quick, producing, publish):
    values = [b"%d" % number for number in range(6)]
    async with producing(brokers) as producer:
        assert await gatherResults([publish(producer, topic, value) for value in values]) == [None] * 6
    async with GroupReader(brokers, group, topic, quick) as first:
        await first.when(lambda: first.values == values)
        first.finish(b"5", b"1", b"0", b"3", b"0")
        assert first.consumer.in_flight == 2
    async with GroupReader(brokers, group, topic, quick, finish=True) as second:
        await second.when(lambda: second.values == values[2:])
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"new") is None
    async with GroupReader(brokers, group, topic, quick) as third:
        await third.when(lambda: third.values == [b"new"])


async def test_reading_pauses_with_too_much_in_flight_and_goes_on_at_half(
    brokers, topic, group, quick, producing, publish
):
    values = [b"%d" % number for number in range(100)]
    async with producing(brokers) as producer:
        assert await gatherResults([publish(producer, topic, value) for value in values]) == [None] * 100
    async with GroupReader(brokers, group, topic, quick, max_in_flight=10) as reader:
        for begin in range(0, 100, 5):
            await reader.when_received(min(100, begin + 10))
            reader.finish(*values[begin : begin + 5])
        assert reader.values == values
        assert reader.most_in_flight == 10
        assert reader.consumer.in_flight == 0


async def test_while_held_nothing_comes_and_the_place_in_the_group_is_kept(
    brokers, topic, group, quick, producing, publish
):
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"before") is None
        async with (
            GroupReader(brokers, group, topic, quick, finish=True) as reader,
            GroupReader(brokers, group + "-witness", topic, quick) as witness,
        ):
            reader.consumer.hold()
            await reader.when(lambda: bool(reader.assigned))
            await witness.when(lambda: witness.values == [b"before"])
            assert reader.records == []
            reader.consumer.release()
            await reader.when(lambda: reader.values == [b"before"])
            reader.consumer.hold()
            reader.consumer.release()
            assert await publish(producer, topic, b"after") is None
            await reader.when(lambda: reader.values == [b"before", b"after"])
            assert reader.revoked == []


async def test_a_topic_that_does_not_exist_is_told_once_and_read_as_soon_as_it_does(
    brokers, topic, group, quick, producing, publish, quiet
):
    async with GroupReader(brokers, group, topic, quick, log=quiet.log) as reader:
        await _until_logged(reader, quiet, "kafka.topic_missing")
        assert reader.consumer.topic_partitions() == 0
        async with producing(brokers) as producer:
            assert await publish(producer, topic, b"first") is None
        await reader.when(lambda: reader.values == [b"first"])
        assert reader.consumer.topic_partitions() == 4
    told = [event for event in quiet.at_least("warn") if event["event"] == "kafka.topic_missing"]
    assert [event["topic"] for event in told] == [topic]
    assert quiet.at_least("error") == []


async def _until_logged(reader: GroupReader, quiet, event: str) -> None:
    quiet.log.observer = lambda logged: (quiet.events.append(logged), reader.look())
    await reader.when(lambda: any(logged["event"] == event for logged in quiet.events))


async def test_a_header_whose_name_is_no_text_does_not_stop_anybody(brokers, topic, group, quick, producing, publish):
    async with producing(brokers) as producer:
        many = [publish(producer, topic, b"%d" % number, headers=[("a", b"b")]) for number in range(100)]
        assert await gatherResults(many) == [None] * 100
    _produce_with_header_name(brokers, topic, b"\xff\xfe")  # once the interpreter has learned what it calls there
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"next", headers=[("a", b"b")]) is None
    async with GroupReader(brokers, group, topic, quick) as reader:
        await reader.when_received(102)
    headers = {record.value: record.headers for record in reader.records}
    assert headers.pop(b"hostile") == ()
    assert set(headers.values()) == {(("a", b"b"),)}


def _produce_with_header_name(brokers: str, topic: str, name: bytes) -> None:
    """By librdkafka itself: confluent_kafka cannot write what it cannot read."""
    library = ctypes.CDLL(cimpl.__file__)
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    assert library.rd_kafka_conf_set(settings, b"bootstrap.servers", brokers.encode(), said, 512) == 0
    assert library.rd_kafka_conf_set(settings, b"log_level", b"0", said, 512) == 0
    client = ctypes.c_void_p(library.rd_kafka_new(0, settings, said, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
    library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"x", ctypes.c_ssize_t(1))
    to_topic, value, flags, with_headers, end = (ctypes.c_int(kind) for kind in (1, 4, 7, 10, 0))
    copy, size = ctypes.c_int(2), ctypes.c_size_t(7)
    failure = library.rd_kafka_producev(
        client, to_topic, topic.encode(), value, b"hostile", size, flags, copy, with_headers, headers, end
    )
    assert failure == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)


async def test_a_receiver_that_fails_misses_one_batch_and_gets_the_next(
    brokers, topic, group, quick, producing, publish, quiet
):
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"first") is None
        async with GroupReader(brokers, group, topic, quick, log=quiet.log) as reader:
            reader.refusal = ValueError("not this one")
            await reader.when(lambda: reader.values == [b"first"])
            reader.refusal = None
            assert await publish(producer, topic, b"second") is None
            await reader.when(lambda: reader.values == [b"first", b"second"])
    assert [event["event"] for event in quiet.at_least("error")] == ["kafka.receiver_failed"]


async def test_closing_again_or_without_a_start_is_harmless(brokers, topic, group, quick):
    reader = GroupReader(brokers, group, topic, quick)
    assert await reader.consumer.close(1.0) is True
    reader.consumer.start()
    assert await reader.consumer.close(10.0) is True
    assert await reader.consumer.close(0.0) is True


async def test_a_property_that_is_wrong_is_named_at_start(brokers, topic, group, quick):
    config = KafkaConfig(
        brokers=brokers, client_id="test", properties=(Property("max.poll.interval.ms", "5", "the test"),)
    )
    consumer = GroupConsumer(config, group, topic, reactor=reactor, clock=SystemClock(reactor), received=print)
    with pytest.raises(ConfigError) as refusal:
        consumer.start()
    [problem] = refusal.value.problems
    assert problem.startswith("the test: ")
