"""CALLs that wait for Kafka, each for the same bounded time, with one timer for all.

A timer per CALL would cost more than the rest of its bookkeeping: as all wait equally long, the oldest is always the
next to expire, and one timer for the oldest serves them all.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock

log = Logger()


class Held(Protocol):
    """Something that waits; told once if it waited too long."""

    started: float
    """When the wait began, monotonic seconds."""

    def expired(self) -> None:
        """The time is over."""
        ...


@define(eq=False)
class Holds:
    """What waits now. ``seconds`` is how long each may."""

    seconds: float
    clock: Clock
    _held: dict[Held, None] = field(factory=dict)
    _timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, held: Held) -> bool:
        return held in self._held

    def add(self, held: Held) -> None:
        """``held`` begins to wait."""
        self._held[held] = None
        if self._timer is None:
            self._timer = self.clock.call_later(self.seconds, self._check)

    def release(self, held: Held) -> bool:
        """``held`` waits no longer. False if its time was over already."""
        if held not in self._held:
            return False
        del self._held[held]
        return True

    def stop(self) -> None:
        """Forget all, without telling."""
        self._held.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _check(self) -> None:
        # The timer that has just run out stays until then: who is told may add something, and needs no second one.
        over = self.clock.monotonic() - self.seconds
        for held in list(self._held):
            if held.started > over:
                break
            if self.release(held):  # else whoever was told before it has released it
                self._tell(held)
        self._timer = None
        if self._held:
            oldest = next(iter(self._held))
            self._timer = self.clock.call_later(max(0.0, oldest.started - over), self._check)

    def _tell(self, held: Held) -> None:
        try:
            held.expired()
        except Exception:  # the others' time is over all the same
            log.failure("The end of a wait could not be told", event="uplink.failed", reason="internal_error")
