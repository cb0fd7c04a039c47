"""The daemon against a real Redis and the real Kafka protocol."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from support.stations import provision

from ocpp_gateway.redis.embedded import EmbeddedRedis

STATION_EVENTS = "ocpp.station.events"
SESSION_EVENTS = "ocpp.session.events"


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
                if event["chargePointId"] == charge_point_id:
                    found.append(event)
        return found

    return read
