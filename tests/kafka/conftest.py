"""A cluster for every test that needs one: KAFKA_BROKERS when it is set, else the embedded one."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import LogEvent, Logger, LogLevel

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.kafka.producer import EventProducer

Producing = Callable[..., AbstractAsyncContextManager[EventProducer]]
Publishing = Callable[..., Deferred[BusUnavailable | None]]


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    given = os.environ.get("KAFKA_BROKERS", "")
    if given:
        yield given
        return
    embedded = EmbeddedKafka.start()
    yield embedded.brokers
    embedded.stop()


@pytest.fixture
def topic() -> str:
    return f"test.{uuid.uuid4()}"


@pytest.fixture
def producing() -> Producing:
    """``async with producing(brokers, ...) as producer``: a started producer with quick settings, closed at the end."""

    @asynccontextmanager
    async def run(
        brokers: str,
        *,
        close_within: float = 10.0,
        log: Logger | None = None,
        environ: dict[str, str] | None = None,
        **more: object,
    ) -> AsyncIterator[EventProducer]:
        config = KafkaConfig.from_environ(environ or {}, brokers=brokers, client_id="test")
        arguments = {"reactor": reactor, "clock": SystemClock(reactor), **more}
        if log is not None:
            arguments["log"] = log
        producer = EventProducer(config, **arguments)
        producer.start()
        try:
            yield producer
        finally:
            await producer.close(close_within)

    return run


@pytest.fixture
def publish() -> Publishing:
    """``publish(producer, topic, value)`` as a Deferred of what ``delivered`` is told."""

    def one(
        producer: EventProducer,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = b"CP-001",
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Deferred[BusUnavailable | None]:
        outcome: Deferred[BusUnavailable | None] = Deferred()
        producer.publish(topic, key, value, headers or [], outcome.callback)
        return outcome

    return one


class Quiet:
    """A log whose events the test looks at itself: what it expects there is no reason to fail."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.log = Logger(namespace="test", observer=self.events.append)

    def at_least(self, level: str) -> list[LogEvent]:
        return [event for event in self.events if event["log_level"] >= LogLevel.lookupByName(level)]


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest_twisted.async_yield_fixture
async def bootstrap():
    """A port of which a test says what answers there: ``serve(factory)``, in place of what did."""
    listening: list[IListeningPort] = []

    async def serve(factory: ServerFactory) -> str:
        number = 0
        if listening:
            number = listening[0].getHost().port
            await maybeDeferred(listening.pop().stopListening)
        listening.append(reactor.listenTCP(number, factory, interface="127.0.0.1"))
        return f"127.0.0.1:{listening[0].getHost().port}"

    yield serve
    await maybeDeferred(listening.pop().stopListening)
