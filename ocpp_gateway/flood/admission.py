"""Whether new connections are taken at all, and how fast after they were not.

While Redis or Kafka is away, or the gateway is about to stop, a handshake is answered 503 with Retry-After. When the
cause is gone, every charge point of the fleet wants in at once, and all of them hold events for Kafka; so for a while
they are admitted at a limited rate, and told to come back at different moments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil

from attrs import define, field

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import HandshakeRefused

_SERVICE_UNAVAILABLE = 503


@define(eq=False)
class Admission:
    """The gate for new connections. It is open at first; call ``close("starting")`` to begin closed.

    ``rate`` connections per second, and ``burst`` at once, are admitted in the ``settle_seconds`` after a reopening; a
    ``rate`` of 0 is no limit. Retry-After lies at random between ``retry_after_min`` and ``retry_after_max`` seconds.
    """

    clock: Clock
    rate: float = field(kw_only=True)
    burst: int = field(kw_only=True)
    settle_seconds: float = field(kw_only=True, default=60.0)
    retry_after_min: int = field(kw_only=True, default=5)
    retry_after_max: int = field(kw_only=True, default=30)
    random: Callable[[], float] = field(kw_only=True, default=random.random)
    _closed_for: dict[str, None] = field(init=False, factory=dict)
    _settles_at: float = field(init=False, default=float("-inf"))
    _tokens: float = field(init=False, default=0.0)
    _filled_at: float = field(init=False, default=0.0)

    @property
    def closed_for(self) -> tuple[str, ...]:
        """The reasons for which the gate is closed, oldest first; empty while it is open."""
        return tuple(self._closed_for)

    def close(self, reason: str) -> None:
        """Refuse new connections for ``reason`` (a row of ``handshake.reasons``), beside any other reason."""
        self._closed_for.setdefault(reason)

    def reopen(self, reason: str) -> None:
        """``reason`` is gone; with the last one the gate opens, at a limited rate first."""
        if reason not in self._closed_for:
            return
        del self._closed_for[reason]
        if not self._closed_for:
            self._settles_at = self.clock.monotonic() + self.settle_seconds
            self._tokens = float(self.burst)

    def admit(self) -> None:
        """Return if a new connection may go on; else raise HandshakeRefused (503) with Retry-After."""
        if self._closed_for:
            raise self._refused(self.closed_for[0])
        now = self.clock.monotonic()
        if self.rate <= 0 or now >= self._settles_at:
            return
        self._tokens = min(float(self.burst), self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            raise self._refused("readmission_limited")
        self._tokens -= 1

    def retry_after(self, seconds: float = 0.0) -> tuple[str, str]:
        """A Retry-After header field (RFC 9110 section 10.2.3) in whole seconds, different each time.

        For who must wait at least ``seconds``, if it is known how long: then up to a half longer.
        """
        if seconds > 0:
            return "Retry-After", str(ceil(seconds * (1 + self.random() / 2)))
        span = self.retry_after_max - self.retry_after_min + 1
        return "Retry-After", str(self.retry_after_min + int(self.random() * span))

    def _refused(self, reason: str) -> HandshakeRefused:
        return HandshakeRefused(_SERVICE_UNAVAILABLE, reason, (self.retry_after(),))
