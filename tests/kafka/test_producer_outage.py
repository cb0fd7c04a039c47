"""The producer while brokers hang, are gone, or made it fail for good."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.protocols.basic import Int32StringReceiver
from twisted.protocols.portforward import ProxyFactory

from ocpp_gateway.errors import BusUnavailable, ConfigError
from ocpp_gateway.kafka.producer import EventProducer


@pytest.fixture
def impatient(tmp_path):
    """Settings that notice a hanging broker within a second or two, so that the tests do."""
    path = tmp_path / "kafka.properties"
    path.write_text("socket.timeout.ms=1000\nrequest.timeout.ms=1000\n")
    return {"KAFKA_CONFIG_FILE": str(path)}


async def test_a_frozen_broker_delays_records_and_loses_none(topic, producing, publish, impatient, quiet):
    with MockKafka() as kafka:
        async with producing(kafka.brokers, environ=impatient, log=quiet.log, topics=(topic,)) as producer:
            assert await publish(producer, topic, b"before") is None
            with kafka.frozen():
                outcomes = [publish(producer, topic, b"during %d" % number) for number in range(5)]
                with pytest.raises(BusUnavailable) as refusal:
                    await producer.check(2.5)
                assert refusal.value.reason == "kafka_unavailable"
                assert producer.pending == 5
                assert [outcome for outcome in outcomes if outcome.called] == []
            assert await gatherResults(outcomes) == [None] * 5
            await producer.check(10.0)
            assert producer.pending == 0
        values = [record.value for record in read_topic(kafka.brokers, topic)]
    # The mock cluster keeps what is sent again as a second record; a real broker knows it by its number.
    assert list(dict.fromkeys(values)) == [b"before", *(b"during %d" % number for number in range(5))]
    assert quiet.at_least("error") == []


async def test_what_was_published_before_any_broker_answered_is_delivered_when_one_does(topic, producing, publish):
    with MockKafka() as kafka:
        kafka.freeze()
        async with producing(kafka.brokers) as producer:
            outcome = publish(producer, topic, b"early")
            await deferLater(reactor, 0.2)
            assert not outcome.called
            kafka.thaw()
            assert await outcome is None


async def test_closing_while_kafka_is_gone_fails_what_is_left_in_time(topic, producing, publish, impatient, quiet):
    with MockKafka() as kafka:
        async with producing(kafka.brokers, environ=impatient, log=quiet.log) as producer:
            assert await publish(producer, topic, b"before") is None
            kafka.kill()
            outcomes = [publish(producer, topic, b"x") for _ in range(20)]
            started = reactor.seconds()
            assert await producer.close(1.0) == 20
            assert reactor.seconds() - started < 5.0
            assert {failure.reason for failure in await gatherResults(outcomes)} == {"kafka_closed"}
    assert quiet.at_least("error") == []


async def test_closing_ends_a_check_under_way(topic, producing, quiet):
    with MockKafka() as kafka:
        kafka.freeze()
        async with producing(kafka.brokers, log=quiet.log, topics=(topic,)) as producer:
            checking = Deferred.fromCoroutine(producer.check(60.0))
            await deferLater(reactor, 0.1)
            assert await producer.close(0.0) == 0
            with pytest.raises(BusUnavailable):
                await checking


async def test_a_gone_cluster_fills_one_line_of_log_not_hundreds(topic, producing, publish, quiet):
    with MockKafka() as kafka:
        async with producing(kafka.brokers, log=quiet.log, close_within=0.0) as producer:
            assert await publish(producer, topic, b"before") is None
            kafka.kill()
            lost = publish(producer, topic, b"x")
            await deferLater(reactor, 2.5)
            assert not lost.called
    failures = [event for event in quiet.events if event.get("kind") == "FAIL"]
    assert len([event for event in failures if event["log_level"].name == "warn"]) == 1
    assert quiet.at_least("error") == []


def test_librdkafka_writes_nothing_to_stderr():
    """In a process of its own, since librdkafka writes to the file descriptor, not to sys.stderr."""
    program = """
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.producer import EventProducer
from ocpp_gateway.kafka.embedded import EmbeddedKafka

async def main():
    try:
        KafkaConfig.from_environ({"KAFKA_SASL_NONSENSE": "1"}, brokers="127.0.0.1:1", client_id="t")
    except ConfigError:
        print("refused")
    embedded = EmbeddedKafka.start()
    embedded.stop()
    config = KafkaConfig.from_environ({"KAFKA_SSL_KEY_PASSWORD": "x"}, brokers="127.0.0.1:1,[::1]:1", client_id="t")
    producer = EventProducer(config, reactor=reactor, clock=SystemClock(reactor))
    producer.start()
    producer.publish("t", b"k", b"v", [], lambda failure: print(failure.reason))
    await deferLater(reactor, 1.0)
    print(await producer.close(0.2))
    reactor.stop()

reactor.callWhenRunning(lambda: ensureDeferred(main()).addErrback(lambda f: (f.printTraceback(), reactor.stop())))
reactor.run()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["refused", "kafka_closed", "1"]
    assert ran.stderr == ""


class OutdatedBroker(Int32StringReceiver):
    """Answers as a broker that does not know idempotent producers, which librdkafka cannot live with."""

    KNOWN = (
        (0, 0, 7),
        (3, 0, 4),
        (18, 0, 0),
    )  # (Produce, Metadata, ApiVersions), each with its oldest and newest version

    def stringReceived(self, string: bytes) -> None:
        (correlation_id,) = struct.unpack_from(">i", string, 4)
        unsupported_version = 35  # what any broker says to a newer ApiVersions, together with the list
        body = struct.pack(
            ">ihi", correlation_id, unsupported_version if string[:4] != b"\0\x12\0\0" else 0, len(self.KNOWN)
        )
        self.sendString(body + b"".join(struct.pack(">hhh", *one) for one in self.KNOWN))


async def test_a_fatal_error_replaces_the_client_and_fails_what_it_held(
    brokers, topic, producing, publish, quiet, bootstrap
):
    address = await bootstrap(ServerFactory.forProtocol(OutdatedBroker))
    async with producing(address, log=quiet.log, max_pending_messages=2) as producer:
        outcomes = [publish(producer, topic, b"lost") for _ in range(2)]
        assert producer.congested
        room = producer.when_room()
        assert {failure.reason for failure in await gatherResults(outcomes)} == {"kafka_client_restarted"}
        await room
        assert not producer.congested
        host, _, port = brokers.partition(",")[0].rpartition(":")
        assert await bootstrap(ProxyFactory(host, int(port))) == address
        assert await _published_at_last(producer, publish, topic) is None
        assert producer.pending == 0
    assert {event["event"] for event in quiet.at_least("error")} == {"kafka.client_fatal"}
    assert {record.value for record in read_topic(brokers, topic)} == {b"after"}


async def _published_at_last(producer: EventProducer, publish, topic: str) -> BusUnavailable | None:
    """Clients made before the broker became a better one may fail as well; one of the next gets through."""
    while True:
        try:
            failure = await publish(producer, topic, b"after")
        except BusUnavailable as refusal:
            assert refusal.reason == "kafka_client_restarted"
            await deferLater(reactor, 0.1)
        else:
            if failure is None:
                return failure


async def test_a_property_file_that_goes_away_is_named(brokers, tmp_path, producing):
    certificate = tmp_path / "ca.pem"
    environ = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": str(certificate)}
    with pytest.raises(ConfigError) as refusal:
        async with producing(brokers, environ=environ):
            pass
    assert len(refusal.value.problems) == 1
    assert refusal.value.problems[0].startswith("KAFKA_SSL_CA_LOCATION: ")
