"""Clearing away what dead nodes left behind: session records of charge points that are connected to nobody.

A node is dead when its lease is gone (``nodes``). Each node looks for dead ones now and then. However many do so at the
same time, exactly one gets each record: the script that deletes it gives it, and looks at the lease once more.

* A lease can expire while its node lives: Redis was away for longer, and the first node that is back would take all
  others for dead. So a node counts as dead after ``patience`` seconds without a lease, in which our own connection to
  Redis held: enough for the others to come back, too.
* A node that was killed and started again under its name has a lease, and nobody else would clear away what it left
  behind before. It does so itself, in its first round: whatever was connected before it began.
* If the answer to a deletion gets lost, or we end before we have told, nobody tells of these sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.redis.nodes import KNOWN_NODES, lease_key
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import (
    EPOCH_SECONDS,
    SessionRecord,
    epoch_key,
    node_sessions_key,
    node_taken_key,
    record_key,
)

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()

_BATCH = 50
_PAUSE = 0.02
"""Seconds between two batches: what is told of them has to get out, and Redis has others to serve."""


@define(eq=False, kw_only=True)
class Sweeper:
    """Looks every ``interval`` seconds for what nodes left behind; ``node_id``: ours. Make it before anybody connects.

    ``lost`` is called for each session whose record was deleted here, as it was written last. ``patience``: seconds.
    """

    client: RedisClient
    clock: Clock
    node_id: str
    interval: float
    patience: float
    lost: Callable[[SessionRecord], None]
    born_ms: int
    """When this node began, milliseconds since the epoch: what is of its name and earlier is of a former life."""

    _is_own_past_cleared: bool = field(default=False, init=False)
    _missing: dict[str, float] = field(factory=dict, init=False)
    _is_stopping: bool = field(default=False, init=False)
    _script: Script = field(factory=lambda: Script.load("sweep_sessions"), init=False)
    _periodic: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._periodic = Periodic(
            name="The sweep after dead nodes", clock=self.clock, interval=self.interval, action=self.round
        )
        self.client.observe(self._connection_changed)

    def start(self) -> None:
        """Begin; the first round runs now."""
        self._is_stopping = False
        self._periodic.start()

    async def stop(self) -> None:
        """End, after the records that are being deleted."""
        self._is_stopping = True
        await self._periodic.finish()

    async def round(self) -> None:
        """Look once. Not to be called again before it has ended. Raises StoreUnavailable."""
        if not self._is_own_past_cleared:
            await self._sweep(self.node_id, str(self.born_ms))
            self._is_own_past_cleared = True
        dead = await self._without_lease()
        now = self.clock.monotonic()
        self._missing = {node_id: self._missing.get(node_id, now) for node_id in dead}
        for node_id, since in tuple(self._missing.items()):
            # Looked up again: the connection may have been lost during a long sweep of another node's records.
            if node_id in self._missing and now - since >= self.patience:
                await self._sweep(node_id, "")

    async def _without_lease(self) -> list[str]:
        dead: list[str] = []
        async for page in self.client.members(KNOWN_NODES):
            others = [node_id for raw in page if (node_id := raw.decode("utf-8", "replace")) != self.node_id]
            leases = await self.client.mget([lease_key(node_id) for node_id in others]) if others else []
            dead += [node_id for node_id, lease in zip(others, leases, strict=True) if lease is None]
        return dead

    async def _sweep(self, node_id: str, born: str) -> None:
        """Delete and tell, batch by batch, until nothing is left or the node lives again."""
        count = 0
        async for page in self.client.members(node_sessions_key(node_id)):
            for start in range(0, len(page), _BATCH):
                if count and not self._is_stopping:
                    await self._pause()
                if self._is_stopping:
                    return
                deleted = await self._delete(node_id, born, page[start : start + _BATCH])
                if deleted is None:
                    return
                count += len(deleted)
                self._tell(deleted)
        while not self._is_stopping:
            taken = await self._delete(node_id, born, [])  # without sessions it is known no more
            if not taken:
                break
            count += len(taken)
            self._tell(taken)
            await self._pause()
        if count:
            log.warn(
                "{count} sessions of {lost_node_id} were lost",
                event="redis.sessions_swept",
                count=count,
                lost_node_id=node_id,
            )

    async def _delete(self, node_id: str, born: str, charge_points: Sequence[bytes]) -> list[bytes] | None:
        keys = [lease_key(node_id), node_sessions_key(node_id), KNOWN_NODES, node_taken_key(node_id)]
        for raw in charge_points:
            charge_point_id = raw.decode("utf-8", "replace")
            keys += (record_key(charge_point_id), epoch_key(charge_point_id))
        deleted: list[bytes] | None = await self.client.run(
            self._script, keys, [node_id, EPOCH_SECONDS, born, *charge_points]
        )
        return deleted

    def _tell(self, deleted: Sequence[bytes]) -> None:
        for raw in deleted:
            record = SessionRecord.parse(raw)
            if record is None:
                log.warn("A session record that was swept could not be read", event="redis.swept_unreadable")
                continue
            try:
                self.lost(record)
            except Exception:
                log.failure("Who hears of lost sessions failed", event="redis.sweep_listener_failed")

    async def _pause(self) -> None:
        passed: Deferred[None] = Deferred()
        self.clock.call_later(_PAUSE, passed.callback, None)
        await passed

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._missing.clear()  # nobody could renew a lease meanwhile, for all we know
