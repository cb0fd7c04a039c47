"""Servers that commands are run against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli.live_redis import LiveRedis

from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.redis.embedded import EmbeddedRedis


@pytest.fixture(scope="module")
def redis() -> Iterator[dict[str, str]]:
    with EmbeddedRedis() as server:
        yield {"REDIS_URL": server.url}


@pytest.fixture
def place(redis: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """A Redis with nothing of another test in it."""
    return {**redis, "REDIS_PREFIX": f"test-{abs(hash(request.node.name))}"}


@pytest.fixture
def kafka() -> Iterator[str]:
    server = EmbeddedKafka.start()
    try:
        yield server.brokers
    finally:
        server.stop()


@pytest.fixture
def live(place: dict[str, str]) -> Iterator[LiveRedis]:
    """The same, to put sessions and nodes into."""
    live = LiveRedis(place)
    yield live
    live.close()
