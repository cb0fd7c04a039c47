"""The consumer while brokers hang, are gone, or made it fail for good."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from support.group_reader import GroupReader, quick_group
from support.kafka_broker import KafkaBroker
from support.mock_kafka import MockKafka
from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import Int32StringReceiver
from twisted.protocols.portforward import ProxyFactory


@pytest.fixture
def group() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def quick(tmp_path):
    return quick_group(tmp_path)


async def test_partitions_are_given_up_while_brokers_hang_and_what_was_not_finished_comes_again(
    topic, group, quick, producing, publish, quiet
):
    with MockKafka() as kafka:
        async with (
            producing(kafka.brokers, log=quiet.log) as producer,
            GroupReader(kafka.brokers, group, topic, quick, log=quiet.log) as reader,
        ):
            for value in (b"first", b"second"):
                assert await publish(producer, topic, value) is None
            await reader.when(lambda: reader.values == [b"first", b"second"])
            early = list(reader.records)
            with kafka.frozen():
                await reader.when(lambda: bool(reader.revoked))
                assert reader.consumer.partitions == set()
                assert reader.consumer.in_flight == 0
            await reader.when(lambda: reader.values == [b"first", b"second"] * 2)
            assert reader.records[2:] == early
            for record in early:
                reader.consumer.finished(record)
            assert reader.consumer.in_flight == 2
            for record in reader.records[2:]:
                reader.consumer.finished(record)
            assert reader.consumer.in_flight == 0
    assert quiet.at_least("error") == []


async def test_a_consumer_started_before_any_broker_answers_reads_when_one_does(
    topic, group, quick, producing, publish, quiet
):
    with MockKafka() as kafka:
        kafka.freeze()
        async with GroupReader(kafka.brokers, group, topic, quick, log=quiet.log) as reader:
            kafka.thaw()
            async with producing(kafka.brokers, log=quiet.log) as producer:
                assert await publish(producer, topic, b"x") is None
            await reader.when(lambda: reader.values == [b"x"])
    assert quiet.at_least("error") == []


async def test_closing_while_kafka_hangs_takes_no_longer_than_it_may(topic, group, quick, producing, publish, quiet):
    with MockKafka() as kafka:
        async with producing(kafka.brokers) as producer:
            assert await publish(producer, topic, b"x") is None
        reader = GroupReader(kafka.brokers, group, topic, quick, finish=True, log=quiet.log)
        reader.consumer.start()
        await reader.when(lambda: reader.values == [b"x"])
        kafka.freeze()
        started = reactor.seconds()
        assert await reader.consumer.close(0.5) is False
        assert reactor.seconds() - started < 2.0
        assert reader.revoked == []
    assert quiet.at_least("error") == []


def test_a_process_whose_consumer_could_not_leave_ends_all_the_same():
    program = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from support.mock_kafka import MockKafka
from ocpp_gateway.clock import SystemClock
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.consumer import GroupConsumer

async def main():
    with MockKafka() as kafka:
        assigned = Deferred()
        config = KafkaConfig(brokers=kafka.brokers, client_id="t")
        consumer = GroupConsumer(
            config, "g", "t", reactor=reactor, clock=SystemClock(reactor), received=print, assigned=assigned.callback
        )
        consumer.start()
        # A topic that is asked for by a producer is there.
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": kafka.brokers, "log_level": 0})
        producer.produce("t", b"x")
        producer.flush()
        await assigned
        kafka.freeze()
        print("left" if await consumer.close(0.2) else "still there", flush=True)
        reactor.stop()

reactor.callWhenRunning(lambda: ensureDeferred(main()).addErrback(lambda f: (f.printTraceback(), reactor.stop())))
reactor.run()
"""
    environ = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environ
    )
    assert ran.stdout.split("\n")[-2] == "still there"
    assert ran.stderr == ""


class FencingBroker(Int32StringReceiver):
    """Shows one topic, and tells whoever joins a group that another has its place, which librdkafka cannot live with.

    Every answer is in the oldest form (version 0) of its request.
    """

    KNOWN = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18)
    FENCED_INSTANCE_ID = 82
    UNSUPPORTED_VERSION = 35

    def stringReceived(self, string: bytes) -> None:
        kind, version, correlation_id = struct.unpack_from(">hhi", string)
        answer = {3: self._metadata, 10: self._coordinator, 11: self._join, 18: self._versions}.get(kind)
        if answer is not None:
            self.sendString(struct.pack(">i", correlation_id) + answer(version))

    def _versions(self, version: int) -> bytes:
        failure = self.UNSUPPORTED_VERSION if version else 0
        return struct.pack(">hi", failure, len(self.KNOWN)) + b"".join(
            struct.pack(">hhh", kind, 0, 0) for kind in self.KNOWN
        )

    def _address(self) -> bytes:
        host = self.transport.getHost()
        return struct.pack(">i", 1) + _string(host.host) + struct.pack(">i", host.port)

    def _metadata(self, _version: int) -> bytes:
        partition = struct.pack(">hiiiiii", 0, 0, 1, 1, 1, 1, 1)
        topic = struct.pack(">h", 0) + _string(self.factory.topic) + struct.pack(">i", 1) + partition
        return struct.pack(">i", 1) + self._address() + struct.pack(">i", 1) + topic

    def _coordinator(self, _version: int) -> bytes:
        return struct.pack(">h", 0) + self._address()

    def _join(self, _version: int) -> bytes:
        self.factory.refused += 1
        return struct.pack(">hi", self.FENCED_INSTANCE_ID, -1) + _string("") * 3 + struct.pack(">i", 0)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


class FencingFactory(ServerFactory):
    protocol = FencingBroker

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.refused = 0


async def test_a_fatal_error_replaces_the_client(brokers, topic, group, quick, producing, publish, quiet, bootstrap):
    fencing = FencingFactory(topic)
    address = await bootstrap(fencing)
    async with GroupReader(address, group, topic, quick, log=quiet.log) as reader:
        quiet.log.observer = lambda event: (quiet.events.append(event), reader.look())
        await reader.when(lambda: len(quiet.at_least("error")) >= 2)
        assert fencing.refused >= 1
        async with producing(brokers) as producer:
            assert await publish(producer, topic, b"after") is None
        host, _, port = brokers.partition(",")[0].rpartition(":")
        assert await bootstrap(ProxyFactory(host, int(port))) == address
        await reader.when(lambda: reader.values == [b"after"])
    assert {event["event"] for event in quiet.at_least("error")} == {"kafka.client_fatal"}
    assert [event["delay_seconds"] for event in quiet.at_least("error")][:2] == [0.0, 1.0]
    # One that never ends keeps a core busy.
    endings = [thread for thread in threading.enumerate() if thread.name == "kafka-consumer-end"]
    for ending in endings:
        await deferToThread(ending.join, 10)
    assert not any(ending.is_alive() for ending in endings)


@pytest.mark.kafka_broker
async def test_reading_goes_on_when_a_broker_that_was_killed_is_back(topic, group, tmp_path, producing, publish, quiet):
    with KafkaBroker() as broker:
        async with (
            producing(broker.brokers, log=quiet.log) as producer,
            GroupReader(
                broker.brokers, group, topic, quick_group(tmp_path, session_ms=6_000), finish=True, log=quiet.log
            ) as reader,
        ):
            assert await publish(producer, topic, b"before") is None
            await reader.when_received(1)
            broker.kill()
            await deferToThread(broker.restart)
            assert await publish(producer, topic, b"after") is None
            await reader.when(lambda: b"after" in reader.values)
        assert set(reader.values) == {b"before", b"after"}
        async with (
            producing(broker.brokers) as producer,
            GroupReader(broker.brokers, group, topic, quick_group(tmp_path, session_ms=6_000)) as next_reader,
        ):
            assert await publish(producer, topic, b"next") is None
            await next_reader.when(lambda: next_reader.values == [b"next"])
    assert quiet.at_least("error") == []


@pytest.mark.kafka_broker
async def test_a_topic_created_by_hand_is_read_soon(topic, group, tmp_path, producing, publish, quiet):
    with KafkaBroker(auto_create_topics=False) as strict:
        async with GroupReader(
            strict.brokers, group, topic, quick_group(tmp_path, session_ms=6_000), log=quiet.log
        ) as reader:
            quiet.log.observer = lambda event: (quiet.events.append(event), reader.look())
            await reader.when(lambda: any(event["event"] == "kafka.topic_missing" for event in quiet.events))
            admin = AdminClient({"bootstrap.servers": strict.brokers})
            admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
            await reader.when(lambda: reader.consumer.partitions == {0, 1, 2})
            await reader.when(lambda: reader.consumer.topic_partitions() == 3)
    assert len([event for event in quiet.events if event["event"] == "kafka.topic_missing"]) == 1
