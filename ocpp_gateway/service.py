"""The daemon: what starts in which order, and what ends in which.

Start: Redis and Kafka (embedded ones first), the node's lease, the listeners last, so that nobody is let in who cannot
be served. A start that fails says why and ends the process with status 1.

Stop: no new connections, the CALLs under way are answered, connections close with 1012, Kafka gets what is queued,
Redis gets its keys back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs
from attrs import define, field
from autobahn.twisted.resource import WebSocketResource
from autobahn.websocket import USES_NVX
from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.clock import Clock, SystemClock
from ocpp_gateway.errors import BusUnavailable, GatewayError, StartFailed, StoreUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.kafka.producer import EventProducer
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops import logs
from ocpp_gateway.ops.dev_state import DevState, default_path
from ocpp_gateway.ops.http import site
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.ops.signals import stop_on_signals
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.url import RedisUrl
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.settings import Settings, without_effect
from ocpp_gateway.websocket.listener import listen
from ocpp_gateway.wiring import Node, wire

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()

_KAFKA_ATTEMPT_SECONDS = 5.0
_READY_CHECK_SECONDS = 2.0


@define(eq=False)
class ExitStatus:
    """The status that the process ends with; twistd itself ends with 0 whenever the reactor stops."""

    code: int = 0

    def apply(self) -> None:
        """End the process now if the status is not 0; for ``atexit``, when all else is done."""
        if self.code:
            import sys

            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def assemble(
    settings: Settings, *, kafka: KafkaConfig, environ: Mapping[str, str], log_stream: IO[str] | None, reactor: Any
) -> Gateway:
    """The service for ``settings``. ``log_stream``: where to log; None leaves the log to twistd."""
    return Gateway(settings, kafka, environ, log_stream, reactor)


@define(eq=False, slots=False)
class Gateway(Service):
    """Starts and stops everything else."""

    settings: Settings
    kafka: KafkaConfig
    environ: Mapping[str, str]
    log_stream: IO[str] | None
    reactor: Any
    exit_status: ExitStatus = field(factory=ExitStatus)
    name = "ocpp-gateway"
    _clock: Clock = field(init=False)
    _starting: Deferred[None] | None = None
    _node: Node | None = None
    _redis: RedisClient | None = None
    _producer: EventProducer | None = None
    _embedded_redis: EmbeddedRedis | None = None
    _embedded_kafka: EmbeddedKafka | None = None
    _ports: list[IListeningPort] = field(factory=list)
    _dev_state: Path | None = None
    _stopping: bool = False

    def __attrs_post_init__(self) -> None:
        self._clock = SystemClock(self.reactor)

    # Twisted's IService.

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Twisted's: twistd hands over its application; the log's form is set here, before it begins."""
        super().setServiceParent(parent)
        if self.log_stream is not None:
            settings = self.settings
            parent.setComponent(  # type: ignore[attr-defined]
                ILogObserver,
                logs.observer(
                    self.log_stream,
                    level=settings.log_level,
                    form=settings.log_format,
                    constant={"service": settings.service_name, "node_id": settings.node_id},
                ),
            )

    def startService(self) -> None:
        """Twisted's: begin. What takes time goes on in the reactor."""
        super().startService()
        self.reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None]:
        """Twisted's: end. Fires when the process may go."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def _begin(self) -> None:
        stop_on_signals(self.reactor)
        if not self._stopping:
            self._starting = Deferred.fromCoroutine(self._start())
            self._starting.addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        if self._stopping:
            return
        error = failure.value
        if isinstance(error, GatewayError):
            log.error("Cannot start: {problem}", event="gateway.start_failed", reason=error.reason, problem=str(error))
        else:
            log.failure("Cannot start", failure=failure, event="gateway.start_failed", reason="internal_error")
        self.exit_status.code = 1
        self.reactor.stop()

    # Start.

    async def _start(self) -> None:
        settings = self.settings
        self._say_what_to_know()
        schemas = Schemas.load()
        redis_url = await self._redis_url()
        kafka = await self._kafka_config()
        metrics = Metrics()
        self._redis = redis = self._connect(redis_url)
        self._producer = producer = EventProducer(
            kafka,
            reactor=self.reactor,
            clock=self._clock,
            topics=[topic.value for topic in Topic],
            max_pending_messages=settings.kafka_max_pending,
        )
        producer.start()
        await self._wait_for_redis(redis, redis_url)
        await self._wait_for_kafka(producer, kafka.brokers)
        self._node = node = wire(
            settings,
            redis=redis,
            bus=producer,
            schemas=schemas,
            metrics=metrics,
            clock=self._clock,
            reactor=self.reactor,
        )
        metrics.pending = lambda: producer.pending
        metrics.kafka_writable = lambda: node.writability.writable
        await node.transactions.start()
        await node.lease.renew()  # before anybody connects: a session counts only while its node's lease is there
        node.lease.start()
        node.refresher.start()
        node.hashing.start()
        ocpp_port = await self._listen(
            settings.websocket_ocpp_host, settings.websocket_ocpp_port, node.factory, "WEBSOCKET_OCPP_PORT"
        )
        http = site(
            token=settings.health_metrics_auth_token,
            problems=self._problems,
            exposition=metrics.exposition,
            unknown_path=node.opening.log_unknown_path,
            ocpp=WebSocketResource(node.factory),
        )
        http_port = await self._listen(settings.http_host, settings.port, http, "PORT")
        self._leave_dev_state(redis_url, kafka.brokers, http_port, ocpp_port)
        log.info(
            "Charge points may connect to port {ocpp_port}",
            event="gateway.started",
            ocpp_port=ocpp_port,
            http_port=http_port,
            redis=str(redis_url),
            kafka=kafka.brokers,
        )

    def _say_what_to_know(self) -> None:
        if not USES_NVX:
            log.warn(
                "Autobahn runs without its native code, at a third of the speed: install a wheel that has it",
                event="gateway.no_nvx",
            )
        if IdTokenPolicy(self.settings.ocpp_id_token_policy) is IdTokenPolicy.ACCEPT:
            log.warn(
                "Every id token is accepted: set OCPP_ID_TOKEN_POLICY=registry to look them up",
                event="gateway.accepts_all_id_tokens",
            )
        unused = without_effect(self.environ)
        if unused:
            log.warn(
                "Nothing reads {variables}: of another release, or misspelt",
                event="gateway.unused_settings",
                variables=", ".join(unused),
            )

    async def _redis_url(self) -> RedisUrl:
        url = RedisUrl.parse(self.settings.redis_url)
        if not url.is_embedded:
            return url
        self._embedded_redis = server = EmbeddedRedis()
        await self._in_thread(server.start)
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
        deadline = self._clock.monotonic() + self.settings.start_timeout
        while True:
            left = deadline - self._clock.monotonic()
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

    async def _listen(self, host: str, port: int, factory: Any, setting: str) -> int:
        listening = await listen(self.reactor, host, port, factory, setting)
        self._ports.append(listening)
        address: Any = listening.getHost()
        return int(address.port)

    def _leave_dev_state(self, redis_url: RedisUrl, brokers: str, http_port: int, ocpp_port: int) -> None:
        if self._embedded_redis is None and self._embedded_kafka is None:
            return
        path = Path(self.settings.ocpp_dev_state_file) if self.settings.ocpp_dev_state_file else default_path()
        state = DevState(
            redis_url=self._embedded_redis.url if self._embedded_redis else self.settings.redis_url,
            kafka_brokers=brokers,
            http_port=http_port,
            ocpp_port=ocpp_port,
            pid=os.getpid(),
        )
        try:
            state.write(path)
        except OSError as error:
            log.warn("The command-line tool will not find us: {problem}", event="gateway.dev_state", problem=str(error))
        else:
            self._dev_state = path

    # Readiness.

    async def _problems(self) -> list[str]:
        node, redis, producer = self._node, self._redis, self._producer
        if node is None or redis is None or producer is None:
            return ["starting"]
        problems = list(node.admission.closed_for)
        try:
            await redis.ping()
        except StoreUnavailable as error:
            problems.append(error.reason)
        if node.writability.writable:
            try:
                await producer.check(_READY_CHECK_SECONDS)
            except BusUnavailable as error:
                problems.append(error.reason)
        return problems

    # Stop. Each step is taken whatever became of the one before.

    async def _stop(self) -> None:
        self._stopping = True
        if self._starting is not None and not self._starting.called:
            self._starting.cancel()
        log.info("Stopping", event="gateway.stopping")
        for step in (
            self._stop_listening,
            self._drain,
            self._stop_kafka,
            self._stop_redis,
            self._stop_embedded,
        ):
            try:
                await step()
            except Exception:
                log.failure("Stopping went wrong", event="gateway.stop_failed")
        log.info("Stopped", event="gateway.stopped")

    async def _stop_listening(self) -> None:
        if self._node is not None:
            self._node.admission.close("draining")
        for port in self._ports:
            await maybeDeferred(port.stopListening)

    async def _drain(self) -> None:
        node = self._node
        if node is None:
            return
        node.sessions.drain(CloseReason.SERVICE_RESTART)
        empty = node.sessions.when_empty()
        empty.addTimeout(max(0.1, self.settings.drain_seconds), self.reactor)
        try:
            await empty
        except TimeoutError:
            log.warn("{count} connections did not end in time", event="gateway.drain_timeout", count=len(node.sessions))
            node.sessions.abort_all(CloseReason.SERVICE_RESTART)

    async def _stop_kafka(self) -> None:
        producer = self._producer
        if producer is None:
            return
        undelivered = await producer.close(self.settings.drain_seconds)
        if undelivered:
            log.error(
                "{count} events did not reach Kafka; none of them was answered",
                event="gateway.undelivered",
                reason="kafka_unavailable",
                count=undelivered,
            )
        if self._node is not None:
            self._node.presence.stop()
            self._node.holds.stop()

    async def _stop_redis(self) -> None:
        node, redis = self._node, self._redis
        if node is not None:
            node.refresher.stop()
            try:
                await node.ownership.finish()
            except StoreUnavailable:
                log.warn("Sessions could not be given back to Redis; they expire", event="gateway.sessions_left")
            await node.lease.stop()
            node.hashing.stop()
        if redis is not None:
            await redis.close()

    async def _stop_embedded(self) -> None:
        if self._dev_state is not None:
            self._dev_state.unlink(missing_ok=True)
        if self._embedded_kafka is not None:
            self._embedded_kafka.stop()
        if self._embedded_redis is not None:
            await self._in_thread(self._embedded_redis.stop)

    async def _in_thread(self, function: Any) -> Any:
        return await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function)
