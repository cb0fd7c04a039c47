"""A command of a person on its way: into Kafka, and its state out of Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.store import with_redis
from ocpp_gateway.clock import SystemClock
from ocpp_gateway.errors import BusUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from ocpp_gateway.cli.endpoints import Places
    from ocpp_gateway.commands.door import Reply
    from ocpp_gateway.kafka.producer import EventProducer
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities
    from ocpp_gateway.routing.envelope import Headers

_AT_ONCE_SECONDS = 1.0
"""A broker that runs has confirmed by then; after that, it is seen whether anything listens."""

_CLOSE_SECONDS = 0.5


async def requested(places: Places, reactor: Any, members: Mapping[str, Any], not_taken: Callable[[], None]) -> Reply:
    """Request the command with these members, and wait for what becomes of it. Raises Failure.

    ``not_taken`` is called if no gateway takes it on for some seconds.
    """
    from ocpp_gateway.kafka.config import KafkaConfig
    from ocpp_gateway.kafka.producer import EventProducer

    brokers = places.kafka()
    clock = SystemClock(reactor)
    try:
        config = KafkaConfig.from_environ(places.kafka_environ(), brokers=brokers, client_id="ocpp-gateway-cli")
        producer = EventProducer(config, reactor=reactor, clock=clock)
        producer.start()
    except ConfigError as error:
        raise Failure(str(error)) from None
    try:

        async def work(client: RedisClient, identities: Identities) -> Reply:
            return await _through_door(client, clock, _Kafka(producer, brokers, reactor), members, not_taken)

        return await with_redis(places, reactor, work)
    except BusUnavailable as error:
        raise Failure(
            f"Kafka at {brokers} did not take the command: {error}.",
            "Check --kafka-brokers or KAFKA_BROKERS; with a gateway started by --dev: --dev",
        ) from None
    finally:
        await producer.close(_CLOSE_SECONDS)


async def _through_door(
    client: RedisClient, clock: SystemClock, kafka: _Kafka, members: Mapping[str, Any], not_taken: Callable[[], None]
) -> Reply:
    from ocpp_gateway.commands.door import CommandDoor, DuplicateCommand
    from ocpp_gateway.commands.request import CommandInvalid
    from ocpp_gateway.redis.commands import RedisCommands
    from ocpp_gateway.settings import Settings

    defaults = Settings()
    states = RedisCommands(  # only asked how far commands are: how long records live does not matter
        client=client,
        clock=clock,
        idempotency_ttl=defaults.command_idempotency_ttl_seconds,
        audit_ttl=defaults.command_audit_ttl_seconds,
    )
    door = CommandDoor(states=states, bus=kafka, clock=clock, default_timeout=defaults.ocpp_command_timeout)
    try:
        order = door.order(members)
        return await door.submit(order, seconds=order.longest_wait, not_taken=not_taken)
    except CommandInvalid as defect:
        raise Failure(f"{defect.text}.") from None
    except DuplicateCommand as error:
        raise Failure(f"There was a command of this id before: {error}.", "Give another --id, or none.") from None


class _Kafka:
    """The producer; where nobody listens that is said at once, since librdkafka goes on trying."""

    def __init__(self, producer: EventProducer, brokers: str, reactor: Any) -> None:
        self._producer = producer
        self._brokers = brokers
        self._reactor = reactor

    def publish(
        self, topic: str, key: bytes, value: bytes, headers: Headers, delivered: Callable[[BusUnavailable | None], None]
    ) -> None:
        """Hand a record over; ``delivered`` is called once."""
        from twisted.internet.defer import Deferred

        told: Deferred[BusUnavailable | None] = Deferred()
        told.addCallback(delivered)
        looking = self._reactor.callLater(_AT_ONCE_SECONDS, self._look, told)

        def confirmed(failure: BusUnavailable | None) -> None:
            if looking.active():
                looking.cancel()
            if not told.called:
                told.callback(failure)

        self._producer.publish(topic, key, value, headers, confirmed)

    def _look(self, told: Deferred[BusUnavailable | None]) -> None:
        from ocpp_gateway.cli.reach import kafka_addresses, refusal

        refused = refusal(kafka_addresses(self._brokers))
        if refused is not None and not told.called:
            told.callback(BusUnavailable(f"no broker is to be had there: {refused}"))
