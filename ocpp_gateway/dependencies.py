"""Redis and Kafka, as the daemon needs them: there, or the start fails and says what to do.

``embedded://`` brings servers of our own, for development.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.publisher import EVENTS_TOPIC
from ocpp_gateway.errors import BusUnavailable, StartFailed, StoreUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.kafka.producer import EventProducer
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.url import RedisUrl
from ocpp_gateway.settings import Settings

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()

_KAFKA_ATTEMPT_SECONDS = 5.0


@define(eq=False)
class Dependencies:
    """Opened once, closed once; ``redis`` and ``producer`` are None before and after."""

    settings: Settings
    kafka: KafkaConfig
    clock: Clock
    reactor: Any
    redis: RedisClient | None = field(default=None, init=False)
    producer: EventProducer | None = field(default=None, init=False)
    _embedded_redis: EmbeddedRedis | None = field(default=None, init=False)
    _embedded_kafka: EmbeddedKafka | None = field(default=None, init=False)

    @property
    def is_embedded(self) -> bool:
        """Whether any of the two is ours."""
        return self._embedded_redis is not None or self._embedded_kafka is not None

    @property
    def redis_url(self) -> str:
        """Where Redis is, with the password."""
        return self._embedded_redis.url if self._embedded_redis is not None else self.settings.redis_url

    @property
    def brokers(self) -> str:
        """Where Kafka is."""
        return self._embedded_kafka.brokers if self._embedded_kafka is not None else self.kafka.brokers

    @property
    def kafka_config(self) -> KafkaConfig:
        """How to reach Kafka; the embedded one, where there is one."""
        return self.kafka if self._embedded_kafka is None else attrs.evolve(self.kafka, brokers=self.brokers)

    async def open(self) -> tuple[RedisClient, EventProducer]:
        """Start what is embedded, connect, and wait until both answer. Raises StartFailed."""
        url = self._redis_url()
        kafka = await self._kafka_config()
        self.redis = redis = self._connect(url)
        self.producer = producer = EventProducer(
            kafka,
            reactor=self.reactor,
            clock=self.clock,
            topics=[*(topic.value for topic in Topic), EVENTS_TOPIC],
            max_pending_messages=self.settings.kafka_max_pending,
        )
        producer.start()
        await self._wait_for_redis(redis, url)
        await self._wait_for_kafka(producer, kafka.brokers)
        return redis, producer

    async def close_kafka(self, seconds: float) -> None:
        """Hand over what is queued, for at most ``seconds``."""
        producer, self.producer = self.producer, None
        undelivered = 0 if producer is None else await producer.close(seconds)
        if undelivered:
            log.error(
                "{count} events did not reach Kafka; none of them was answered",
                event="gateway.undelivered",
                reason="kafka_unavailable",
                count=undelivered,
            )

    async def close_redis(self) -> None:
        """End the connections."""
        redis, self.redis = self.redis, None
        if redis is not None:
            await redis.close()

    async def close_embedded(self) -> None:
        """End the servers that are ours."""
        if self._embedded_kafka is not None:
            self._embedded_kafka.stop()
        if self._embedded_redis is not None:
            await self._in_thread(self._embedded_redis.stop)

    def _redis_url(self) -> RedisUrl:
        url = RedisUrl.parse(self.settings.redis_url)
        if not url.is_embedded:
            return url
        # Here and not in a thread of the pool: Linux ends the server with the thread that started it.
        self._embedded_redis = server = EmbeddedRedis()
        server.start()
        log.warn("Redis is embedded: for development, nothing is kept", event="gateway.embedded_redis")
        return RedisUrl.parse(server.url)

    async def _kafka_config(self) -> KafkaConfig:
        if not self.kafka.is_embedded:
            return self.kafka
        self._embedded_kafka = cluster = await self._in_thread(EmbeddedKafka.start)
        log.warn("Kafka is embedded: for development, nothing is kept", event="gateway.embedded_kafka")
        return attrs.evolve(self.kafka, brokers=cluster.brokers)

    def _connect(self, url: RedisUrl) -> RedisClient:
        # txredisapi installs the reactor when it is imported; by now there is one.
        from ocpp_gateway.redis.client import RedisClient

        settings = self.settings
        try:
            return RedisClient.connect(
                url,
                reactor=self.reactor,
                prefix=settings.redis_prefix,
                timeout=settings.redis_timeout,
                pool_size=settings.redis_pool_size,
            )
        except (ValueError, OSError) as error:
            raise StartFailed("redis_tls_files", f"REDIS_URL: {error}") from error

    async def _wait_for_redis(self, redis: RedisClient, url: RedisUrl) -> None:
        timeout = self.settings.start_timeout
        try:
            await redis.when_connected(timeout)
            await redis.ping()
        except StoreUnavailable as error:
            raise StartFailed(
                error.reason, f"Redis at {url} did not answer in {timeout:g} s: see that it runs, or set REDIS_URL"
            ) from error

    async def _wait_for_kafka(self, producer: EventProducer, brokers: str) -> None:
        deadline = self.clock.monotonic() + self.settings.start_timeout
        while True:
            left = deadline - self.clock.monotonic()
            try:
                await producer.check(max(0.5, min(_KAFKA_ATTEMPT_SECONDS, left)))
                return
            except BusUnavailable as error:
                if error.reason != "kafka_unavailable" or left <= 0:
                    raise StartFailed(
                        error.reason,
                        f"Kafka at {brokers} cannot be used ({error}): see that it runs and has the topics, "
                        "or set KAFKA_BROKERS",
                    ) from error
            log.info("Still waiting for Kafka at {brokers}", event="gateway.waiting", brokers=brokers)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function)
