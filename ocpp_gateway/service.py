"""The daemon: what starts in which order. How it ends is in ``stopping``.

Redis and Kafka come first (embedded ones before), then the node's lease, the listeners last, so that nobody is let in
who cannot be served. A start that fails says why and ends the process with status 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from attrs import define, field
from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from ocpp_gateway import notices
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
from ocpp_gateway.ops.operators import OperatorPorts
from ocpp_gateway.ops.signals import ignore_hangup, reload_on_hangup, stop_on_signals
from ocpp_gateway.ops.systemd import Systemd
from ocpp_gateway.ops.tls_metrics import families
from ocpp_gateway.ports import Ports
from ocpp_gateway.redis.url import RedisUrl
from ocpp_gateway.session.draining import Drain
from ocpp_gateway.settings import Settings
from ocpp_gateway.stopping import Stop
from ocpp_gateway.websocket.resource import OcppResource
from ocpp_gateway.wiring import Node, wire

log = Logger()

_READY_CHECK_SECONDS: Final = 2.0
_START_SLACK_SECONDS: Final = 30.0
"""What a start takes at most besides twice START_TIMEOUT: embedded servers, schemas."""


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
    _drain: Drain = field(init=False)
    _systemd: Systemd = field(init=False)
    _dev_state: tuple[DevState, Path] | None = None
    _stopping: bool = False

    def __attrs_post_init__(self) -> None:
        self._clock = SystemClock(self.reactor)
        self._dependencies = Dependencies(self.settings, self.kafka, self._clock, self.reactor)
        self._ports = Ports(self.settings, self._clock, self.reactor)
        self._drain = Drain(clock=self._clock, seconds=self.settings.drain_seconds)
        self._systemd = Systemd.from_environ(self.environ, self._clock)

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
        stop_on_signals(self.reactor, self._hurry)
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
        self._systemd.starting(2 * settings.start_timeout + _START_SLACK_SECONDS, "Waiting for Redis and Kafka")
        notices.tell(settings, self.environ)
        self._ports.load_tls(self._recheck_certificates)
        schemas = Schemas.load()
        redis, producer = await self._dependencies.open()
        metrics = Metrics()
        self._node = node = wire(
            settings,
            redis=redis,
            bus=producer,
            kafka=self._dependencies.kafka_config,
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
        node.node_bus.start()
        node.refresher.start()
        node.sweeper.start()
        node.settling.start()
        node.door.watching.start()
        node.door.hashing.start()
        if node.csms is not None:
            node.csms.start()
        has_tls = settings.ocpp_tls_enabled
        http = site(
            token=settings.health_metrics_auth_token,
            problems=self._problems,
            exposition=metrics.exposition,
            unknown_path=lambda target, peer, forwarded_for: node.door.refusals.unknown_path(
                target, node.proxies.client(peer, forwarded_for)
            ),
            operators=OperatorPorts(sessions=node.cluster.sessions, kick=node.cluster.kick, nodes=node.cluster.nodes),
            # Where charge points have to use TLS there is no way around it.
            ocpp=None if has_tls else OcppResource(node.door.factory(False)),
            timeout=settings.ocpp_handshake_timeout,
            door=node.commands.door if settings.ocpp_commands_enabled else None,
        )
        http_port, ocpp_port = await self._ports.open(node, http)
        node.commands.start()
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
        self._systemd.ready(f"Charge points may connect to port {ocpp_port}")

    def _recheck_certificates(self) -> None:
        if self._node is not None and self._ports.tls is not None:
            self._node.door.watch.recheck_certificates(self._ports.tls.is_revoked)

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
        if self._stopping:
            return ["draining"]
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

    # Stop.

    async def _stop(self) -> None:
        self._stopping = True
        if self._starting is not None and not self._starting.called:
            self._starting.cancel()
        ignore_hangup()
        log.info("Stopping", event="gateway.stopping")
        await Stop(
            node=self._node,
            drain=self._drain,
            ports=self._ports,
            dependencies=self._dependencies,
            systemd=self._systemd,
            clock=self._clock,
        ).run()
        if self._dev_state is not None:
            state, path = self._dev_state
            with suppress(OSError):  # its reader sees that we have ended
                state.remove(path)
        log.info("Stopped", event="gateway.stopped")
        self._systemd.close()

    def _hurry(self) -> None:
        if not self._drain.is_hurried:
            log.info("Stopping in a hurry", event="gateway.hurried")
            self._drain.hurry()
