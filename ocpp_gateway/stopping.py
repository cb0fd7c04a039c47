"""How the daemon ends: in order, and each step whatever became of the one before.

::

    new handshakes are answered 503 ── sessions close, spread over DRAIN_SECONDS; commands are left to other nodes
      └─ the ports close ── commands that ended with the sessions are told
      └─ Kafka gets what is queued ── Redis gets its keys back ── embedded servers end

The ports stay open while sessions close: a probe, a load balancer and a charge point that comes back are told to go
elsewhere, where a closed port would only look broken.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.dependencies import Dependencies
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ops.systemd import Systemd
from ocpp_gateway.ports import Ports
from ocpp_gateway.session.draining import Drain
from ocpp_gateway.wiring import Node

log = Logger()

_FLUSH_SECONDS: Final = 5.0
"""What Kafka has at least, also when the sessions took all of DRAIN_SECONDS."""

_REST_SECONDS: Final = 35.0
"""What all of it takes at most besides DRAIN_SECONDS, with Kafka and Redis away."""


@define(eq=False, kw_only=True)
class Stop:
    """See the module's text. ``node`` is None where the start did not come that far."""

    node: Node | None
    drain: Drain
    ports: Ports
    dependencies: Dependencies
    systemd: Systemd
    clock: Clock
    _begun_at: float = field(default=0.0, init=False)

    async def run(self) -> None:
        """Take every step. It never fails; what went wrong is logged."""
        self._begun_at = self.clock.monotonic()
        for step in (
            self._close_sessions,
            self.ports.close,
            self._end_commands,
            self._stop_kafka,
            self._stop_redis,
            self.dependencies.close_embedded,
        ):
            try:
                await step()
            except Exception:
                log.failure("Stopping went wrong", event="gateway.stop_failed")

    async def _end_commands(self) -> None:
        if self.node is not None:
            await self.node.commands.stop()
            if self.node.csms is not None:
                await self.node.csms.stop()

    async def _close_sessions(self) -> None:
        node, seconds = self.node, self.drain.seconds
        if node is None:
            return
        node.admission.close("draining")
        self.systemd.stopping(seconds + _REST_SECONDS, f"Closing {len(node.sessions)} connections in {seconds:g} s")
        leaving = Deferred.fromCoroutine(node.commands.stop_taking())
        try:
            await self.drain.run(node.sessions)
        finally:
            await leaving

    async def _stop_kafka(self) -> None:
        if self.node is not None:
            await self.node.sweeper.stop()  # what it clears away has to be told
        left = self._begun_at + self.drain.seconds - self.clock.monotonic()
        seconds = _FLUSH_SECONDS if self.drain.is_hurried else max(_FLUSH_SECONDS, left)
        self.systemd.stopping(seconds + _REST_SECONDS, "Handing over what is queued for Kafka")
        await self.dependencies.close_kafka(seconds)
        if self.node is not None:
            self.node.presence.stop()
            self.node.holds.stop()

    async def _stop_redis(self) -> None:
        node = self.node
        if node is not None:
            node.door.keepalive.stop()
            await node.node_bus.stop()
            node.refresher.stop()
            node.settling.stop()
            node.door.watching.stop()
            try:
                await node.ownership.finish()
            except StoreUnavailable:
                log.warn("Sessions could not be given back to Redis; they expire", event="gateway.sessions_left")
            await node.lease.stop()
            node.door.hashing.stop()
        await self.dependencies.close_redis()
