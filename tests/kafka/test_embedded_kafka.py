"""The Kafka we bring ourselves."""

from __future__ import annotations

import socket

import pytest
from support.kafka_reader import read_topic

from ocpp_gateway.kafka.embedded import EmbeddedKafka


@pytest.fixture
def embedded():
    cluster = EmbeddedKafka.start(brokers=2)
    yield cluster
    cluster.stop()


async def test_it_takes_records_on_loopback(embedded, topic, producing, publish):
    addresses = [tuple(broker.rsplit(":", 1)) for broker in embedded.brokers.split(",")]
    assert len(addresses) == 2
    assert {host for host, _ in addresses} == {"127.0.0.1"}
    async with producing(embedded.brokers) as producer:
        assert await publish(producer, topic, b"x") is None
    assert [record.value for record in read_topic(embedded.brokers, topic)] == [b"x"]


def test_it_is_gone_when_stopped(embedded):
    host, port = embedded.brokers.split(",")[0].rsplit(":", 1)
    embedded.stop()
    embedded.stop()
    with pytest.raises(OSError), socket.create_connection((host, int(port)), timeout=2):
        pass
