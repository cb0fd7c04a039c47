"""Whether Kafka takes records: known from the records themselves, never from a probe of something else.

Kafka counts as lost when a record waited its whole time and nothing at all was confirmed meanwhile, when our queue
towards it is full, or when records are given up one after the other and none is confirmed in between. A single slow
partition or a single failure is not that: other records go through, so only the charge points concerned are sent
away. The first confirmation afterwards brings it back: records that were never confirmed stay queued or are handed
over again (``presence``), so there is always one to come.
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
    patience: float = 8.0
    """Seconds for which records may fail, without a single one confirmed, before that counts as lost."""

    _last_confirmed: float = float("-inf")
    _failing_since: float | None = None
    _since: float = 0.0

    def confirmed(self) -> None:
        """Kafka confirmed a record just now."""
        self._last_confirmed = now = self.clock.monotonic()
        self._failing_since = None
        if not self.writable:
            self.writable = True
            log.info("Kafka takes records again", event="kafka.regained", duration_ms=int((now - self._since) * 1000))
            self.regained()

    def waited_in_vain(self, since: float) -> None:
        """A record handed over at ``since`` (monotonic) was not confirmed in its time."""
        if self._last_confirmed < since:
            self.refused()

    def failed(self) -> None:
        """A record was given up, or could not even be handed over."""
        now = self.clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= self.patience:
            self.refused()

    def refused(self) -> None:
        """Kafka takes nothing: our queue towards it is full, for one."""
        if self.writable:
            self.writable = False
            self._since = self.clock.monotonic()
            log.error(
                "Kafka takes no records: charge points are sent away until it does",
                event="kafka.lost",
                reason="kafka_unavailable",
            )
            self.lost()
