"""Whether a lease that is not in Redis says that its node is dead.

Leases run out while Redis is away, or are lost with its data. The node that finds it again first would take all others
for dead: fail what their charge points could be asked, and give up what they have sent. So for some seconds after our
own connection came back nobody counts as dead (``redis.sweeping`` does the same for sessions).
"""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.clock import Clock


@define(eq=False)
class Patience:
    """See the module's text. ``seconds``: enough for all nodes to find Redis again and to renew their leases."""

    clock: Clock
    seconds: float
    _was_lost: bool = field(default=False, init=False)
    _until: float = field(default=float("-inf"), init=False)

    def redis_changed(self, connected: bool) -> None:
        """Our connection was lost, or is there again."""
        if connected and self._was_lost:
            self._until = self.clock.monotonic() + self.seconds
        self._was_lost = not connected

    @property
    def is_needed(self) -> bool:
        """A missing lease says nothing just now."""
        return self._was_lost or self.clock.monotonic() < self._until
