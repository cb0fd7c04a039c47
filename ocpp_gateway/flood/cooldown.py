"""One log line for a wave: what an address does over and over is logged once in a while, with a count.

The table is bounded. While it is full of addresses that are still cooling down, new ones are counted but not logged:
whoever has addresses without end (an IPv6 network, a botnet) must not be able to fill the log with them.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from ocpp_gateway.clock import Clock
from ocpp_gateway.flood.addresses import limit_key


@define
class _Cooling:
    until: float
    suppressed: int = 0


@define(eq=False)
class LogCooldown:
    """Lets one line per address and kind through every ``seconds`` (FLOOD_LOG_COOLDOWN); 0 lets all through.

    ``max_entries`` bounds the memory. ``overflowed`` counts the events that no line tells of because of it.
    """

    clock: Clock
    seconds: float = field(kw_only=True)
    max_entries: int = field(kw_only=True)
    overflowed: int = field(init=False, default=0)
    # In the order of expiry, as every entry cools down for the same time.
    _cooling: OrderedDict[tuple[str, str], _Cooling] = field(init=False, repr=False, factory=OrderedDict)

    def should_log(self, address: str, kind: str) -> int | None:
        """None: do not log. Else log, and say that this many like it were suppressed since the last line.

        Addresses of one IPv6 /64 network, which is what a single host has, are the same address here.
        """
        if self.seconds <= 0:
            return 0
        now = self.clock.monotonic()
        key = (limit_key(address), kind)
        cooling = self._cooling.get(key)
        if cooling is not None and now < cooling.until:
            cooling.suppressed += 1
            return None
        if cooling is not None:
            del self._cooling[key]
        elif not self._has_room(now):
            self.overflowed += 1
            return None
        self._cooling[key] = _Cooling(now + self.seconds)
        return cooling.suppressed if cooling is not None else 0

    def __len__(self) -> int:
        return len(self._cooling)

    def _has_room(self, now: float) -> bool:
        if len(self._cooling) < self.max_entries:
            return True
        oldest = next(iter(self._cooling), None)
        if oldest is None or now < self._cooling[oldest].until:
            return False
        self.overflowed += self._cooling.pop(oldest).suppressed
        return True
