"""What one node takes, of one address and in all, before it asks anybody: all in memory, a few microseconds a question.

::

    TCP accept ── connected: connections of the node, of the address, unfinished ones, attempts of the address
      └─ request read ── moved: the same for the client, where a trusted proxy names it
           └─ admit: handshakes under way, handshakes a second, attempts of the charge point at the address
                └─ Redis, hashing ── checked
                     └─ 101 ── opened ... gone

Attempts are counted again for all nodes together, in Redis (``redis.flooding``); this is what keeps a flood from there.

What is counted per address is remembered only as long as there are connections, of which there is a limit. Of attempts
so many keys are remembered (``gcra.KeyedRates``), and a key is only worth it until it is paid off: those of a charge
point at an address come no faster than handshakes are begun, whatever identities somebody makes up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from attrs import define, field, frozen

from ocpp_gateway.clock import Clock
from ocpp_gateway.flood.addresses import limit_key
from ocpp_gateway.flood.gcra import KeyedRates, Rate, charge, take

_MAX_KEYS: Final = 50_000
"""Addresses, and charge points at addresses, whose attempts are remembered: some 15 MB each."""

_MAX_PLACES: Final = 8_192
"""Addresses whose key is remembered, as it takes longer to find than all the rest."""

_TOO_MANY: Final = "too_many_connections"
_TOO_OFTEN: Final = "rate_limited"
_OVERLOADED: Final = "overloaded"

_CHECKING_WAIT: Final = 1.0
"""Seconds after which some of the handshakes under way will be done."""

_LONGEST_LINE: Final = 30.0
"""Seconds; some of those in front will not come back."""


@frozen(kw_only=True)
class GuardLimits:
    """All of them; 0 connections and a rate that is off are no limit."""

    connections: int
    """Of the node."""

    connections_per_address: int
    opening_per_address: int
    """Connections whose handshake is not done."""

    connects_per_address: Rate
    connects_per_charge_point: Rate
    """Of one identity at one address."""

    handshakes: Rate
    """Of the node, begun to be checked."""

    checking: int
    """Handshakes of the node that are being checked at once."""


@define
class _Held:
    """The connections of an address."""

    connections: int = 0
    opening: int = 0


@define(eq=False, kw_only=True)
class Guard:
    """See the module's text. Reasons are rows of ``handshake.reasons``.

    Addresses are as the transport or a trusted proxy gives them, and count as ``addresses.limit_key`` has it. Nothing
    is counted per address for those that are trusted proxies (``is_proxy``, always the same for the same address):
    their clients' limits apply as soon as they are known.
    """

    limits: GuardLimits
    is_proxy: Callable[[str], bool]
    clock: Clock
    connections: int = field(init=False, default=0)
    """Of this node."""

    opening: int = field(init=False, default=0)
    """Those of them whose handshake is not done."""

    checking: int = field(init=False, default=0)
    """Handshakes that were admitted and not ``checked`` yet."""

    _held: dict[str, _Held] = field(init=False, factory=dict)
    _connects: KeyedRates = field(init=False)
    _attempts: KeyedRates = field(init=False)
    _handshakes_tat: float = field(init=False, default=float("-inf"))
    _backlog_tat: float = field(init=False, default=float("-inf"))
    _place: Callable[[str], str | None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connects = KeyedRates(self.limits.connects_per_address, _MAX_KEYS, self.clock)
        self._attempts = KeyedRates(self.limits.connects_per_charge_point, _MAX_KEYS, self.clock)
        is_proxy = self.is_proxy
        self._place = lru_cache(_MAX_PLACES)(lambda address: None if is_proxy(address) else limit_key(address))

    @property
    def addresses(self) -> int:
        """How many different ones have connections, without trusted proxies."""
        return len(self._held)

    def connected(self, address: str) -> str | None:
        """A connection of ``address`` was accepted: why it has to end at once, uncounted; or None, and it counts."""
        if 0 < self.limits.connections <= self.connections:
            return _TOO_MANY
        key = self._place(address)
        reason = None if key is None else self._refusal(key)
        if reason is None:
            self.connections += 1
            self.opening += 1
            self._hold(key)
        return reason

    def moved(self, peer: str, client: str) -> str | None:
        """A connection that counted for ``peer``, not open yet, is ``client``'s: why it has to end, or None.

        It counts for ``client`` from now on, either way.
        """
        source, target = self._place(peer), self._place(client)
        if source == target:
            return None
        reason = None if target is None else self._refusal(target)
        self._let_go(source, was_open=False)
        self._hold(target)
        return reason

    def opened(self, address: str) -> None:
        """The handshake of a connection that counts for ``address`` is done."""
        self.opening -= 1
        key = self._place(address)
        if key is not None:
            self._held[key].opening -= 1

    def gone(self, address: str, *, was_open: bool) -> None:
        """A connection that counted for ``address`` has ended. ``was_open``: it was said to be ``opened``."""
        self.connections -= 1
        if not was_open:
            self.opening -= 1
        self._let_go(self._place(address), was_open=was_open)

    def admit(self, address: str, charge_point_id: str) -> tuple[str, float] | None:
        """Whether a handshake may be checked, which costs Redis and hashing: None, and it counts until ``checked``.

        Else the reason, and the seconds after which it is worth coming again; what is refused is not counted.
        """
        now = self.clock.monotonic()
        if self.checking >= self.limits.checking:
            return _OVERLOADED, self._in_line(now)
        handshakes_tat, wait = take(self._handshakes_tat, now, self.limits.handshakes)
        if wait:
            return _OVERLOADED, self._in_line(now)
        # Even a trusted proxy that names no client has many charge points behind it, each with an identity.
        key = self._place(address) or address
        wait = self._attempts.take(f"{key}|{charge_point_id}")
        if wait:
            return _TOO_OFTEN, wait
        self._handshakes_tat = handshakes_tat
        self.checking += 1
        return None

    def _in_line(self, now: float) -> float:
        """Seconds until the turn of one more that is sent away: so a storm comes back at the pace that it is taken."""
        rate = self.limits.handshakes
        if rate.is_off:
            return _CHECKING_WAIT
        tat, _ = charge(self._backlog_tat, now, rate)
        self._backlog_tat = min(tat, now + _LONGEST_LINE)
        return max(self._backlog_tat - now, _CHECKING_WAIT)

    def checked(self) -> None:
        """One that was admitted has its verdict, or was given up."""
        self.checking -= 1

    def _refusal(self, key: str) -> str | None:
        limits = self.limits
        held = self._held.get(key)
        if held is not None and (
            0 < limits.connections_per_address <= held.connections or 0 < limits.opening_per_address <= held.opening
        ):
            return _TOO_MANY
        return _TOO_OFTEN if self._connects.take(key) else None

    def _hold(self, key: str | None) -> None:
        if key is None:
            return
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held()
        held.connections += 1
        held.opening += 1

    def _let_go(self, key: str | None, *, was_open: bool) -> None:
        if key is None:
            return
        held = self._held[key]
        held.connections -= 1
        if not was_open:
            held.opening -= 1
        if not held.connections:
            del self._held[key]
