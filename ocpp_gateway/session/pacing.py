"""How fast charge points may talk, and what follows if they talk faster.

Whoever is over its limit is read more slowly. Nothing is thrown away and no CALL is refused: what it sends meanwhile
waits in its own socket. That costs one that waits for its answers nothing but time. One that does not (OCPP-J section
4.1.1 demands it) and stays over the limit all the same is flooding, and is closed in the end.
"""

from __future__ import annotations

from math import inf
from typing import Final

from attrs import define, field, frozen

from ocpp_gateway.flood.gcra import Rate, charge

_SET_BACK: Final = 2
"""In messages' time: one in two that waited for its answer is enough never to count as flooding."""


@frozen
class Verdict:
    """What follows on a message."""

    wait_seconds: float
    """How long its sender is not to be read; mostly 0.0."""

    is_flood: bool


_FINE: Final = Verdict(0.0, False)


@define(eq=False)
class NodePace:
    """How fast all charge points of this node together may talk."""

    rate: Rate
    _tat: float = field(default=0.0, init=False)

    def arrived(self, now: float) -> float:
        """One message of any of them came at ``now``, monotonic: the seconds for which its sender is not to be read."""
        self._tat, wait = charge(self._tat, now, self.rate)
        return wait


@frozen(kw_only=True)
class MessageLimits:
    """What holds for each charge point (``rate``), and for the node that all are connected to."""

    rate: Rate
    patience: float
    """Seconds of flooding after which it is enough; 0: never."""

    node: NodePace | None = None
    is_off: bool = field(init=False)

    @is_off.default
    def _is_off(self) -> bool:
        return self.rate.is_off and self.node is None


@define(eq=False, weakref_slot=False)
class Pace:
    """How fast one charge point talks."""

    limits: MessageLimits
    _tat: float = field(default=0.0, init=False)
    _flooding_since: float = field(default=inf, init=False)

    def arrived(self, now: float, *, is_impatient: bool) -> Verdict:
        """One message came at ``now``, monotonic. ``is_impatient``: before its sender's last CALL was answered."""
        limits = self.limits
        self._tat, wait = charge(self._tat, now, limits.rate)
        is_flood = self._is_flood(now, wait, is_impatient)
        if limits.node is not None:
            wait = max(wait, limits.node.arrived(now))
        return Verdict(wait, is_flood) if wait > 0 else _FINE

    def _is_flood(self, now: float, wait: float, is_impatient: bool) -> bool:
        if wait <= 0:
            self._flooding_since = inf
        elif is_impatient:
            self._flooding_since = min(self._flooding_since, now)
            return 0 < self.limits.patience <= now - self._flooding_since
        else:
            # Of what is sent at once the first may come when nothing is under way; so a single one is no excuse.
            self._flooding_since += _SET_BACK / self.limits.rate.per_second
        return False
