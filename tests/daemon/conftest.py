"""The daemon against a real Redis and the real Kafka protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis as redis_py
from support.certificates import Issued, Pki
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from support.raw_socket import metric
from support.stations import provision
from support.topic_tail import TopicTail

from ocpp_gateway.redis.embedded import EmbeddedRedis

STATION_EVENTS = "ocpp.station.events"
SESSION_EVENTS = "ocpp.session.events"
SECURITY_EVENTS = "ocpp.security.events"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    given = os.environ.get("KAFKA_BROKERS", "")
    if given:
        yield given
        return
    with MockKafka() as kafka:
        yield kafka.brokers


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    with Gateway(redis_url, brokers) as running:
        yield running


_numbers = itertools.count(1)


@pytest.fixture
def charge_point_id(redis_url: str) -> str:
    """A provisioned identity that no other test has."""
    identity = f"CP-{os.getpid()}-{next(_numbers)}"
    provision(redis_url, identity)
    return identity


Events = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def events(brokers: str) -> Events:
    """``events(charge_point_id)``: what Kafka has of it now, of all topics of ours or of one, in the order of each."""

    def read(charge_point_id: str, *topics: str) -> list[dict[str, Any]]:
        found = []
        for topic in topics or (STATION_EVENTS, SESSION_EVENTS):
            for record in read_topic(brokers, topic):
                event = json.loads(record.value)
                if event.get("chargePointId") == charge_point_id:
                    found.append(event)
        return found

    return read


# For connections over TLS.


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An operator's authorities and server certificates: RSA keys take their time."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def security_events(brokers: str) -> Iterator[TopicTail]:
    with TopicTail(brokers, SECURITY_EVENTS) as tail:
        yield tail


@pytest.fixture(scope="module")
def tail(brokers: str) -> Iterator[TopicTail]:
    """What charge points say, as it comes."""
    with TopicTail(brokers, STATION_EVENTS, SESSION_EVENTS) as tail:
        yield tail


_addresses = (f"127.{high}.{middle}.{low}" for high in (1, 2) for middle in range(250) for low in range(1, 250))


@pytest.fixture
def address() -> str:
    """A loopback address that only this test connects from: what is told about it is this test's."""
    return next(_addresses)


Told = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def told(security_events: TopicTail, address: str) -> Told:
    """``with told(gateway, reason)``: inside, a handshake from ``address`` is refused; who watches hears of it."""

    @contextlib.contextmanager
    def watch(
        gateway: Gateway,
        reason: str,
        *,
        status: int = 403,
        charge_point_id: str | None = None,
        shown: Issued | None = None,
    ) -> Iterator[None]:
        labels = {"result": "refused", "reason": reason}
        before = metric(gateway.http_port, "ocpp_handshakes_total", **labels)
        yield
        line = gateway.wait_for("handshake.refused", peer=address)
        assert (line["reason"], line["status"], line["level"]) == (reason, status, "warn")
        assert line["charge_point_id"] == charge_point_id
        assert metric(gateway.http_port, "ocpp_handshakes_total", **labels) == before + 1
        event = security_events.wait_for(
            lambda event: event["eventType"] == "HandshakeRefused" and event["payload"]["peer"] == address
        )
        assert event.get("chargePointId") == charge_point_id
        fingerprint = {} if shown is None else {"certificate": shown.fingerprint}
        assert event["payload"] == {"reason": reason, "status": status, "peer": address, "suppressed": 0, **fingerprint}

    return watch
