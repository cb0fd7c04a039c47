"""Keeping this node's session records alive: lastSeenAt and lifetime, in batches, every now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, field

from ocpp_gateway.clock import Clock
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Superseded
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.sessions import SessionRecord


@define(eq=False, kw_only=True)
class Refresher:
    """Refreshes what ``sessions`` gives every ``interval`` seconds, and makes up for owed releases.

    ``sessions`` is called for each round; give an iterator that makes each record when it is asked for it, over a copy
    of the list of sessions. ``superseded`` is called for each session that another connection has taken over.
    """

    ownership: Ownership
    clock: Clock
    interval: float
    sessions: Callable[[], Iterable[SessionRecord]]
    superseded: Callable[[Superseded], None]
    _periodic: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._periodic = Periodic(
            name="Refresh of the session records", clock=self.clock, interval=self.interval, action=self._refresh
        )

    @property
    def last_refreshed(self) -> float | None:
        """When a round last ended well, in ``clock.monotonic()``; None: never."""
        return self._periodic.last_success

    def start(self) -> None:
        """Begin; the first round runs now."""
        self._periodic.start()

    def run_now(self) -> None:
        """Begin a round before it is time: the lease had vanished, or Redis is back."""
        self._periodic.run_now()

    def stop(self) -> None:
        """End; a round under way is cancelled."""
        self._periodic.stop()

    async def _refresh(self) -> None:
        for lost in await self.ownership.refresh(self.sessions()):
            self.superseded(lost)
