"""The daemon: what starts in which order, and what ends in which.

Start: Redis and Kafka (embedded ones first), the node's lease, the listeners last, so that nobody is let in who cannot
be served. A start that fails says why and ends the process with status 1.

Stop: no new connections, the CALLs under way are answered, connections close with 1012, Kafka gets what is queued,
Redis gets its keys back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from attrs import define, field
from autobahn.websocket import USES_NVX
from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.clock import Clock, SystemClock
from ocpp_gateway.dependencies import Dependencies
from ocpp_gateway.errors import BusUnavailable, GatewayError, StoreUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops import logs
from ocpp_gateway.ops.dev_state import DevState, default_path
from ocpp_gateway.ops.garbage import settle_garbage
from ocpp_gateway.ops.http import site
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.ops.signals import ignore_hangup, reload_on_hangup, stop_on_signals
from ocpp_gateway.ops.tls_metrics import families
from ocpp_gateway.ports import Ports
from ocpp_gateway.redis.url import RedisUrl
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.settings import Settings, client_auths, without_effect
from ocpp_gateway.websocket.resource import OcppResource
from ocpp_gateway.wiring import Node, wire

log = Logger()

_READY_CHECK_SECONDS = 2.0
_ABORT_SECONDS = 1.0


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
    _dependencies: Dependencies = field(init=False)
    _starting: Deferred[None] | None = None
    _node: Node | None = None
    _ports: Ports = field(init=False)
    _dev_state: tuple[DevState, Path] | None = None
    _stopping: bool = False

    def __attrs_post_init__(self) -> None:
        self._clock = SystemClock(self.reactor)
        self._dependencies = Dependencies(self.settings, self.kafka, self._clock, self.reactor)
        self._ports = Ports(self.settings, self._clock, self.reactor)

    # Twisted's IService.

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Twisted's: twistd hands over its application; the log's form is set here, before it begins."""
        super().setServiceParent(parent)
        if self.log_stream is not None:
            settings = self.settings
            parent.setComponent(  # type: ignore[attr-defined]  # twistd's Application is Componentized too
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
        reload_on_hangup(self.reactor, self._ports.reload_tls)
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
        self._ports.load_tls(self._recheck_certificates)
        schemas = Schemas.load()
        redis, producer = await self._dependencies.open()
        metrics = Metrics()
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
        tls = self._ports.tls
        if tls is not None:
            metrics.tls = lambda: families(tls.facts(), self._clock.now())
        await node.identities.start()
        await node.transactions.start()
        await node.lease.renew()  # before anybody connects: a session counts only while its node's lease is there
        node.lease.start()
        node.refresher.start()
        node.settling.start()
        node.watching.start()
        node.hashing.start()
        has_tls = settings.ocpp_tls_enabled
        http = site(
            token=settings.health_metrics_auth_token,
            problems=self._problems,
            exposition=metrics.exposition,
            unknown_path=node.refusals.unknown_path,
            # Where charge points have to use TLS there is no way around it.
            ocpp=None if has_tls else OcppResource(node.factory(False)),
            timeout=settings.ocpp_handshake_timeout,
        )
        http_port, ocpp_port = await self._ports.open(node, http)
        self._leave_dev_state(http_port, ocpp_port)
        settle_garbage()
        log.info(
            "Charge points may connect to port {ocpp_port}",
            event="gateway.started",
            ocpp_port=ocpp_port,
            http_port=http_port,
            tls=settings.ocpp_tls_client_auth if has_tls else "none",
            redis=str(RedisUrl.parse(self._dependencies.redis_url)),
            kafka=self._dependencies.brokers,
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
        if self.settings.ocpp_tls_cert_path and not client_auths(self.settings):
            log.warn(
                "There are TLS certificates but no port uses them: set OCPP_TLS_ENABLED=true",
                event="gateway.tls_unused",
            )
        unused = without_effect(self.environ)
        if unused:
            log.warn(
                "Nothing reads {variables}: of another release, or misspelt",
                event="gateway.unused_settings",
                variables=", ".join(unused),
            )

    def _recheck_certificates(self) -> None:
        if self._node is not None and self._ports.tls is not None:
            self._node.watch.recheck_certificates(self._ports.tls.is_revoked)

    def _leave_dev_state(self, http_port: int, ocpp_port: int) -> None:
        dependencies = self._dependencies
        if not dependencies.is_embedded:
            return
        path = Path(self.settings.ocpp_dev_state_file) if self.settings.ocpp_dev_state_file else default_path()
        state = DevState(
            redis_url=dependencies.redis_url,
            kafka_brokers=dependencies.brokers,
            http_port=http_port,
            ocpp_port=ocpp_port,
            tls=self.settings.ocpp_tls_enabled,
            pid=os.getpid(),
        )
        try:
            state.write(path)
        except OSError as error:
            log.warn("The command-line tool will not find us: {problem}", event="gateway.dev_state", problem=str(error))
        else:
            self._dev_state = state, path

    # Readiness.

    async def _problems(self) -> list[str]:
        node, redis, producer = self._node, self._dependencies.redis, self._dependencies.producer
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
        ignore_hangup()
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
        await self._ports.close()

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
            # Their ends are told of a turn of the reactor later, and go to Kafka and Redis like those of the others.
            gone = node.sessions.when_empty()
            gone.addTimeout(_ABORT_SECONDS, self.reactor)
            try:
                await gone
            except TimeoutError:
                log.warn(
                    "{count} connections are left behind", event="gateway.connections_left", count=len(node.sessions)
                )

    async def _stop_kafka(self) -> None:
        await self._dependencies.close_kafka()
        if self._node is not None:
            self._node.presence.stop()
            self._node.holds.stop()

    async def _stop_redis(self) -> None:
        node = self._node
        if node is not None:
            node.refresher.stop()
            node.settling.stop()
            node.watching.stop()
            try:
                await node.ownership.finish()
            except StoreUnavailable:
                log.warn("Sessions could not be given back to Redis; they expire", event="gateway.sessions_left")
            await node.lease.stop()
            node.hashing.stop()
        await self._dependencies.close_redis()

    async def _stop_embedded(self) -> None:
        if self._dev_state is not None:
            state, path = self._dev_state
            with suppress(OSError):  # its reader sees that we have ended
                state.remove(path)
        await self._dependencies.close_embedded()
