"""What the nodes know together about floods: who failed to authenticate how often, and who is banned for it.

::

    bans:{address}|{id}      a charge point at an address     after BanRules.failures in the window
    bans:{address}           the address as a whole           after BanRules.address_failures, whichever charge points

A ban counts at one address only: an outsider who guesses at an identity must not lock out who has it elsewhere. Nor
does the ban of an address hold for the charge points that were let in from there before (``known-pairs``), who may be a
fleet behind one address of a carrier. Addresses are those of ``flood.addresses``: an IPv6 network of a host is one.

Bans are looked up with the identity record (``identities``), in the same trip; times are those of Redis's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Self

import orjson
from attrs import define, field, frozen

from ocpp_gateway.flood.addresses import limit_key
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.redis.scripts import Script

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_BAN, _FAILURES, _EARLIER_BANS = "bans", "rate:failures", "rate:bans"
_REMEMBERED_SECONDS = 86_400
KNOWN_PAIR_SECONDS = 30 * 86_400
"""How long an address is remembered for a charge point that connected from it."""


@frozen(kw_only=True)
class BanRules:
    """When to ban, and for how long. 0 failures: never.

    A ban is twice as long as the one before it, if that ended less than 24 hours ago.
    """

    failures: int
    address_failures: int
    window_seconds: int
    first_seconds: float
    longest_seconds: float


@frozen(kw_only=True)
class Ban:
    """Nobody may connect from ``address``, or not as ``charge_point_id``. Times are milliseconds since the epoch, UTC.

    ``reason`` is that of the last of ``count`` failures.
    """

    address: str
    charge_point_id: str | None
    reason: str
    count: int
    banned_at_ms: int
    until_ms: int

    @property
    def seconds(self) -> float:
        """How long it is from its beginning to its end."""
        return (self.until_ms - self.banned_at_ms) / 1000

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Read what is stored; None if it cannot be understood."""
        try:
            members = orjson.loads(raw)
            charge_point_id = members.get("chargePointId")
            return cls(
                address=str(members["address"]),
                charge_point_id=None if charge_point_id is None else str(charge_point_id),
                reason=str(members["reason"]),
                count=int(members["count"]),
                banned_at_ms=_milliseconds(members["bannedAt"]),
                until_ms=_milliseconds(members["until"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None


@define(eq=False)
class FloodStore:
    """Failed authentications and bans. Every method may raise StoreUnavailable."""

    client: RedisClient
    rules: BanRules
    _script: Script = field(factory=lambda: Script.load("fail"), init=False)

    async def failed(
        self, address: str, charge_point_id: str | None, reason: str, *, is_shared: bool = False
    ) -> Ban | None:
        """Count a failed authentication; the ban, if it was one too many.

        ``charge_point_id`` is None where only the address is to blame, as for a scan of paths; an address that
        ``is_shared`` is not to blame. If both the charge
        point and the address are banned by it, the ban of the address is given.
        """
        rules, key = self.rules, limit_key(address)
        keys: list[str] = []
        arguments: list[bytes | str | int] = []
        if not is_shared:
            keys = _subject_keys(key, None)
            arguments = [rules.address_failures, _without_end({"address": key, "reason": reason})]
        if charge_point_id is not None:
            keys = _subject_keys(key, charge_point_id) + keys
            pair = {"address": key, "chargePointId": charge_point_id, "reason": reason}
            arguments = [rules.failures, _without_end(pair), *arguments]
        times = (rules.window_seconds, rules.first_seconds, rules.longest_seconds, _REMEMBERED_SECONDS)
        written: bytes | None = await self.client.run(
            self._script, keys, [*(round(seconds * 1000) for seconds in times), *arguments]
        )
        return None if written is None else Ban.parse(written)

    async def bans(self) -> AsyncIterator[Ban]:
        """Every ban that holds, in no order, each once."""
        told: set[str] = set()
        async for page in self.client.scan("*", beginning=f"{_BAN}:"):
            keys = [key for key in dict.fromkeys(page) if key not in told]
            told.update(keys)
            if not keys:
                continue
            for raw in await self.client.mget(keys):
                ban = None if raw is None else Ban.parse(raw)
                if ban is not None:
                    yield ban

    async def lift(self, address: str, charge_point_id: str | None = None) -> int:
        """End the ban of a charge point at ``address``, else all bans there; forget what led to them.

        Gives the number of bans that were there.
        """
        key = limit_key(address)
        bans, counts = [ban_key(key, charge_point_id)], _subject_keys(key, charge_point_id)[:2]
        if charge_point_id is None:
            bans += await self._pairs(_BAN, key)
            counts += await self._pairs(_FAILURES, key) + await self._pairs(_EARLIER_BANS, key)
        await self.client.delete(*counts)
        return await self.client.delete(*bans)

    async def _pairs(self, kind: str, key: str) -> list[str]:
        return [name async for page in self.client.scan("*", beginning=f"{kind}:{_subject(key, '')}") for name in page]


# The names of keys. ``key`` is an address as ``limit_key`` gives it.


def ban_key(key: str, charge_point_id: str | None) -> str:
    """Where the ban of an address is, or of a charge point at it."""
    return f"{_BAN}:{_subject(key, charge_point_id)}"


def known_pair_key(key: str, charge_point_id: str) -> str:
    """What is there if the charge point was let in from the address lately."""
    return f"known-pairs:{_subject(key, charge_point_id)}"


def connects_key(key: str, charge_point_id: str | None) -> str:
    """Where the attempts to connect of an address are counted, or of a charge point at it."""
    return f"rate:connects:{_subject(key, charge_point_id)}"


def reconnects_key(charge_point_id: str) -> str:
    """Where the sessions of a charge point are counted."""
    return f"rate:reconnects:{charge_point_id}"


def gcra_arguments(rate: Rate | None) -> tuple[int, int]:
    """``rate`` for the scripts: microseconds from one to the next, and how many of them one may be early; 0: off."""
    if rate is None or rate.is_off:
        return 0, 0
    step = max(1, round(1_000_000 / rate.per_second))
    return step, step * (rate.burst - 1)


def _subject(key: str, charge_point_id: str | None) -> str:
    # There is no | in an address: whatever the identity, no two pairs have the same name.
    return key if charge_point_id is None else f"{key}|{charge_point_id}"


def _subject_keys(key: str, charge_point_id: str | None) -> list[str]:
    subject = _subject(key, charge_point_id)
    return [f"{_FAILURES}:{subject}", f"{_EARLIER_BANS}:{subject}", f"{_BAN}:{subject}"]


def _milliseconds(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def _without_end(members: dict[str, str]) -> bytes:
    return orjson.dumps(members)[:-1]
