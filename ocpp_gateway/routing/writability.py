"""Whether Kafka takes records: known from the records themselves, never from a probe of something else.

Kafka counts as lost when a record waited its whole time and nothing at all was confirmed meanwhile, or when our
queue towards it is full. A single slow partition is not that: other records go through, so only the charge points
on that partition are sent away. The first confirmation afterwards brings it back: records that were never confirmed
stay queued, so there is always one to come.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define
from twisted.logger import Logger

from ocpp_gateway.clock import Clock

log = Logger()


@define(eq=False)
class Writability:
    """The state, and who is told of its changes."""

    clock: Clock
    lost: Callable[[], None]
    regained: Callable[[], None]
    writable: bool = True
    _last_confirmed: float = float("-inf")
    _since: float = 0.0

    def confirmed(self) -> None:
        """Kafka confirmed a record just now."""
        self._last_confirmed = now = self.clock.monotonic()
        if not self.writable:
            self.writable = True
            log.info("Kafka takes records again", event="kafka.regained", duration_ms=int((now - self._since) * 1000))
            self.regained()

    def waited_in_vain(self, since: float) -> None:
        """A record handed over at ``since`` (monotonic) was not confirmed in its time."""
        if self._last_confirmed < since:
            self.refused()

    def refused(self) -> None:
        """Kafka takes nothing: our queue towards it is full, or the client is beyond repair."""
        if self.writable:
            self.writable = False
            self._since = self.clock.monotonic()
            log.error(
                "Kafka takes no records: charge points are sent away until it does",
                event="kafka.lost",
                reason="kafka_unavailable",
            )
            self.lost()
