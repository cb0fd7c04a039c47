"""The lease ``nodes:{nodeId}``: while it is there, this node lives and its session records count.

A lease that has vanished between two renewals means that the others took us for dead, or that Redis lost its data:
either way the session records have to be written again, at once (``Refresher.run_now``).

``known-nodes`` outlives the leases: it names each node that may have left session records behind, so that the others
can clear them away (``sweeping``). ``node-sessions:{nodeId}`` names the charge points of such records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from attrs import define, field
from twisted.logger import Logger

from ocpp_gateway.clock import Clock, iso_millis
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import node_sessions_key

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()


KNOWN_NODES = "known-nodes"
"""The key of the set of nodes that live, or died with session records left."""


def lease_key(node_id: str) -> str:
    """The key of a node's lease."""
    return f"nodes:{node_id}"


@define(eq=False, kw_only=True)
class NodeLease:
    """This node's lease: ``ttl`` seconds long, renewed every ``heartbeat`` seconds.

    ``vanished`` is called after a renewal that found no lease where there was one. ``connections``, where given, says
    how many charge points are connected: the lease tells it to who asks for a list of nodes.
    """

    client: RedisClient
    clock: Clock
    node_id: str
    ttl: int
    heartbeat: float
    vanished: Callable[[], None]
    advertise_url: str | None = None
    connections: Callable[[], int] | None = None
    started_at: str = field(init=False)
    """When this life of the node began, as the lease tells it: a node that starts again under its name has another."""

    _may_be_there: bool = field(default=False, init=False)
    """Redis was asked to take it, whatever became of that."""

    _was_there: bool = field(default=False, init=False)
    _warned: bool = field(default=False, init=False)
    _renewal: Script = field(factory=lambda: Script.load("renew_lease"), init=False)
    _return: Script = field(factory=lambda: Script.load("return_lease"), init=False)
    _periodic: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.started_at = iso_millis(self.clock.now())
        self._periodic = Periodic(
            name="Renewal of the node's lease", clock=self.clock, interval=self.heartbeat, action=self.renew
        )

    @property
    def last_renewed(self) -> float | None:
        """When the lease was last renewed, in ``clock.monotonic()``; None: never."""
        return self._periodic.last_success

    @property
    def is_held(self) -> bool:
        """Whether the lease is still there, as far as we know."""
        return self.last_renewed is not None and self.clock.monotonic() - self.last_renewed < self.ttl

    def start(self) -> None:
        """Take the lease and go on renewing it, whatever happens."""
        self._periodic.start()

    def renew_now(self) -> None:
        """Renew before it is time, for example because Redis is back."""
        self._periodic.run_now()

    async def stop(self) -> None:
        """Give the lease back; if Redis is away, it expires. To be called when the sessions are released."""
        await self._periodic.finish()
        if not self._may_be_there:
            return
        keys = [lease_key(self.node_id), node_sessions_key(self.node_id), KNOWN_NODES]
        try:
            await self.client.run(self._return, keys, [self.started_at, self.node_id])
        except StoreUnavailable:
            log.info("The node's lease could not be given back, it will expire", event="redis.lease_left")

    async def renew(self) -> None:
        """Renew once. Raises StoreUnavailable."""
        now = iso_millis(self.clock.now())
        members: dict[str, Any] = {"nodeId": self.node_id}
        if self.advertise_url is not None:
            members["advertiseUrl"] = self.advertise_url
        members |= {"startedAt": self.started_at, "lastSeenAt": now}
        if self.connections is not None:
            members["connections"] = self.connections()
        value = orjson.dumps(members)
        self._may_be_there = True
        before: bytes | None = await self.client.run(
            self._renewal, [lease_key(self.node_id), KNOWN_NODES], [value, self.ttl, self.node_id]
        )
        had, self._was_there = self._was_there, True
        if not had:
            return
        if before is None:
            log.warn("The node's lease had vanished", event="redis.lease_vanished", node_id=self.node_id)
            self.vanished()
        elif not self._is_ours(before) and not self._warned:
            self._warned = True
            log.warn(
                "Another node has the same NODE_ID, {node_id}: give each its own",
                event="redis.node_id_taken",
                node_id=self.node_id,
            )

    def _is_ours(self, value: bytes) -> bool:
        try:
            return bool(orjson.loads(value)["startedAt"] == self.started_at)
        except (ValueError, TypeError, KeyError):
            return False
