"""Whether Kafka takes records: known from the records themselves, never from a probe of something else.

Kafka counts as lost when a record waited its whole time and nothing at all was confirmed meanwhile, when our queue
towards it is full, or when records are given up one after the other and none is confirmed in between. A single slow
partition or a single failure is not that: other records go through, so only the charge points concerned are sent
away. The first confirmation afterwards brings it back: records that were never confirmed stay queued or are handed
over again (``presence``), so there is always one to come. If the queue was full, there must be room in it too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusUnavailable

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

    when_room: Callable[[], Deferred[None]] = partial(succeed, None)
    """Fires when the queue towards Kafka has room, maybe at once: before that it is not back, whatever is confirmed."""

    _last_confirmed: float = float("-inf")
    _failing_since: float | None = None
    _since: float = 0.0
    _room: Deferred[None] | None = None

    def confirmed(self) -> None:
        """Kafka confirmed a record just now."""
        self._last_confirmed = self.clock.monotonic()
        self._failing_since = None
        if not self.writable and self._room is None:
            self._room = self.when_room()
            self._room.addCallbacks(self._regained, self._ended)

    def _regained(self, _: None) -> None:
        self._room = None
        self.writable = True
        seconds = self.clock.monotonic() - self._since
        log.info("Kafka takes records again", event="kafka.regained", duration_ms=int(seconds * 1000))
        self.regained()

    def _ended(self, failure: Failure) -> None:
        failure.trap(BusUnavailable)  # the gateway stops

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
