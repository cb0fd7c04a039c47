"""What simulated charge points have done so far: plain counters, read by whoever shows them."""

from __future__ import annotations

from collections import Counter, deque

from attrs import define, field

_REMEMBERED_LATENCIES = 2_000


@define
class Tally:
    """Counters of one fleet. ``online`` and ``charging`` go up and down, the others only up."""

    online: int = 0
    charging: int = 0
    booted: int = 0
    answered: int = 0
    call_errors: int = 0
    timeouts: int = 0
    lost_messages: int = 0
    connections: int = 0
    reconnects: int = 0
    disconnects: int = 0
    transactions: int = 0
    finished_transactions: int = 0
    tokens_refused: int = 0
    commands: int = 0
    energy_wh: int = 0
    refusals: Counter[str] = field(factory=Counter)
    actions: Counter[str] = field(factory=Counter)
    _latencies: deque[float] = field(factory=lambda: deque(maxlen=_REMEMBERED_LATENCIES))

    def took(self, seconds: float) -> None:
        """Note how long a CALL waited for its answer."""
        self._latencies.append(seconds)

    def latency(self, share: float) -> float | None:
        """The time within which ``share`` (0 to 1) of the latest CALLs were answered; None before the first."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
