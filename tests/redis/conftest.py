"""A real redis-server for these tests, and clients that see only their own test's keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_twisted
from redis_support import Listener, connected_client

from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.ownership import node_channel


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """Shared by all tests: not to be stopped, frozen or flushed."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[EmbeddedRedis]:
    """For one test, to do with as it likes."""
    with EmbeddedRedis() as server:
        yield server


@pytest_twisted.async_yield_fixture
async def client(redis_server: EmbeddedRedis) -> AsyncIterator[RedisClient]:
    client = await connected_client(redis_server.url, prefix=f"test-{uuid4().hex}")
    yield client
    await client.close()


@pytest.fixture
def bus_of_node_a(redis_server: EmbeddedRedis, client: RedisClient) -> Iterator[Listener]:
    listener = Listener(redis_server, client.key(node_channel("node-a")))
    yield listener
    listener.close()
