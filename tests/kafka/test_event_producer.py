"""The producer against a cluster that works."""

from __future__ import annotations

import threading

import pytest
from support.kafka_reader import read_topic
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.failures import DeliveryFailed
from ocpp_gateway.kafka.producer import EventProducer


async def test_a_confirmed_record_is_in_the_topic_with_key_and_headers(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b'{"a":1}', headers=[("ce_id", b"1"), ("ce_type", "Ü".encode())]) is None
    [record] = read_topic(brokers, topic)
    assert (record.key, record.value) == (b"CP-001", b'{"a":1}')
    assert record.headers == (("ce_id", b"1"), ("ce_type", "Ü".encode()))


async def test_records_of_one_key_stay_in_order_on_one_partition(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        values = [b"%d" % number for number in range(300)]
        assert await gatherResults([publish(producer, topic, value) for value in values]) == [None] * 300
    records = read_topic(brokers, topic)
    assert [record.value for record in records] == values
    assert len({record.partition for record in records}) == 1


async def test_keys_go_where_a_java_producer_puts_them(brokers, topic, producing, publish):
    """Partitions of 4 as Kafka's own DefaultPartitioner computes them: toPositive(murmur2(key)) % 4."""
    expected = {b"CP-001": _murmur2_partition(b"CP-001", 4), b"station-123": _murmur2_partition(b"station-123", 4)}
    async with producing(brokers) as producer:
        await gatherResults([publish(producer, topic, key, key=key) for key in expected])
    assert {record.key: record.partition for record in read_topic(brokers, topic)} == expected


async def test_delivered_is_told_in_the_reactors_thread_and_after_publish_has_returned(brokers, topic, producing):
    told: list[tuple[str, int]] = []
    done: Deferred[None] = Deferred()

    def delivered(failure: BusUnavailable | None) -> None:
        told.append(("delivered", threading.get_ident()))
        done.callback(None)

    async with producing(brokers) as producer:
        producer.publish(topic, None, b"x", [], delivered)
        told.append(("returned", threading.get_ident()))
        await done
    assert told == [("returned", threading.get_ident()), ("delivered", threading.get_ident())]


async def test_pending_counts_records_and_bytes_until_they_are_told(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        outcomes = [publish(producer, topic, b"12345") for _ in range(3)]
        assert (producer.pending, producer.pending_bytes) == (3, 15)
        await gatherResults(outcomes)
        assert (producer.pending, producer.pending_bytes) == (0, 0)


async def test_the_queue_is_bounded_by_messages_and_says_when_there_is_room_again(brokers, topic, producing, publish):
    async with producing(brokers, max_pending_messages=10) as producer:
        await producer.when_room()
        outcomes = [publish(producer, topic, b"x") for _ in range(7)]
        assert not producer.congested
        outcomes += [publish(producer, topic, b"x") for _ in range(3)]
        assert producer.congested
        room = producer.when_room()
        given_up = producer.when_room()
        given_up.cancel()
        with pytest.raises(BusQueueFull):
            publish(producer, topic, b"x")
        assert producer.pending == 10
        await room
        assert not producer.congested
        assert producer.pending <= 5
        await gatherResults(outcomes)
        assert isinstance((await given_up.addErrback(lambda failure: failure.value)), Exception)
    assert len(read_topic(brokers, topic)) == 10


async def test_the_queue_is_bounded_by_bytes_too(brokers, topic, producing, publish):
    async with producing(brokers, max_pending_bytes=1000) as producer:
        outcomes = [publish(producer, topic, bytes(300)) for _ in range(3)]
        assert producer.congested
        with pytest.raises(BusQueueFull):
            publish(producer, topic, bytes(101))
        outcomes.append(publish(producer, topic, bytes(100)))
        await producer.when_room()
        await gatherResults(outcomes)


async def test_a_bound_of_librdkafka_itself_is_our_queue_full_too(brokers, topic, producing, publish, tmp_path):
    (tmp_path / "kafka.properties").write_text("queue.buffering.max.messages=2\n")
    async with producing(brokers, environ={"KAFKA_CONFIG_FILE": str(tmp_path / "kafka.properties")}) as producer:
        outcomes = [publish(producer, topic, b"x") for _ in range(2)]
        with pytest.raises(BusQueueFull):
            publish(producer, topic, b"x")
        assert producer.congested
        await producer.when_room()
        await gatherResults([*outcomes, publish(producer, topic, b"x")])


async def test_a_record_that_is_too_large_is_refused_for_good(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        with pytest.raises(DeliveryFailed) as refusal:
            publish(producer, topic, bytes(2_000_000))
        assert refusal.value.reason == "kafka_record_too_large"
        assert refusal.value.permanent
        assert producer.pending == 0


async def test_a_publisher_that_fails_on_its_report_does_not_stop_the_others(brokers, topic, producing, publish, quiet):
    async with producing(brokers, log=quiet.log) as producer:
        producer.publish(topic, b"k", b"1", [], lambda _failure: 1 // 0)
        assert await publish(producer, topic, b"2") is None
    assert [event["event"] for event in quiet.at_least("error")] == ["kafka.publisher_failed"]


async def test_a_large_backlog_of_reports_leaves_the_reactor_turns_for_others(brokers, topic, producing, publish):
    """Reports are told in portions: something else scheduled meanwhile runs before the last of them."""
    order: list[str] = []
    async with producing(brokers) as producer:
        outcomes = [publish(producer, topic, b"x") for _ in range(3000)]
        outcomes[-1].addCallback(lambda result: order.append("last report") or result)
        # The reactor is kept busy until all are there, as a burst after an outage would find it.
        while len(read_topic(brokers, topic)) < 3000:
            pass
        reactor.callLater(0, order.append, "something else")
        await gatherResults(outcomes)
    assert order == ["something else", "last report"]


async def test_check_is_content_with_a_cluster_that_has_the_topics(brokers, topic, producing):
    async with producing(brokers, topics=(topic, topic + ".b")) as producer:
        await gatherResults([Deferred.fromCoroutine(producer.check(10.0)) for _ in range(3)])


async def test_close_delivers_what_is_queued(brokers, topic, producing, publish):
    async with producing(brokers) as producer:
        outcomes = [publish(producer, topic, b"x") for _ in range(100)]
        assert await producer.close(10.0) == 0
        assert await gatherResults(outcomes) == [None] * 100
    assert len(read_topic(brokers, topic)) == 100


async def test_a_closed_producer_refuses_and_can_be_closed_again(brokers, topic, producing, publish):
    async with producing(brokers, max_pending_messages=1) as producer:
        outcome = publish(producer, topic, b"x")
        room = producer.when_room()
        assert await gatherResults([Deferred.fromCoroutine(producer.close(10.0)) for _ in range(2)]) == [0, 0]
        assert await outcome is None
        with pytest.raises(BusUnavailable) as refusal:
            publish(producer, topic, b"x")
        assert refusal.value.reason == "kafka_closed"
        with pytest.raises(BusUnavailable):
            await producer.check(1.0)
        with pytest.raises(BusUnavailable):
            await room
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kafka-producer")]


async def test_closing_a_producer_that_never_started_is_nothing():
    config = KafkaConfig(brokers="127.0.0.1:1", client_id="test")
    producer = EventProducer(config, reactor=reactor, clock=SystemClock(reactor))
    assert await producer.close(1.0) == 0


def _murmur2_partition(key: bytes, partitions: int) -> int:
    """Kafka's murmur2 (org.apache.kafka.common.utils.Utils), for whole and broken words alike."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if len(key) > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


async def test_every_record_published_in_many_small_turns_is_told_once(brokers, topic, producing, publish):
    told: list[int] = []
    async with producing(brokers) as producer:
        for number in range(200):
            producer.publish(topic, b"k", b"x", [], lambda _failure, number=number: told.append(number))
            if number % 20 == 0:
                await deferLater(reactor, 0)
        await publish(producer, topic, b"last", key=b"k")
    assert told == list(range(200))
