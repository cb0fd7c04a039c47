"""Releases of sessions that Redis missed: they would leave charge points looking connected, so they are made up for.

The release of a claim whose answer never came is among them: it may have been carried out all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredList

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.shield import shielded

_BATCH = 100


@frozen
class Owed:
    """A release to make up for. ``epoch`` is 0 where the claim's answer never came; then the moment counts.

    ``security_profile``: of the session, if Redis is still to be told, else 0.
    """

    charge_point_id: str
    epoch: int
    connected_at_ms: int = 0
    security_profile: int = 0


@define(eq=False)
class OwedReleases:
    """``release`` tries one, never raises, and says whether Redis answered. Of more than ``limit`` the oldest go."""

    release: Callable[[Owed], Coroutine[Any, Any, bool]]
    limit: int
    _owed: dict[Owed, None] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, release: Owed) -> None:
        """Remember one."""
        self._owed[release] = None
        while len(self._owed) > self.limit:
            del self._owed[next(iter(self._owed))]

    async def settle(self) -> None:
        """Try all again. Raises StoreUnavailable as soon as some fail again."""
        owed = iter(tuple(self._owed))
        while batch := tuple(islice(owed, _BATCH)):
            await shielded(DeferredList([Deferred.fromCoroutine(self._try_again(release)) for release in batch]))
            if any(release in self._owed for release in batch):
                raise StoreUnavailable(f"{len(self._owed)} sessions are still to be released")

    async def _try_again(self, release: Owed) -> None:
        if await self.release(release):
            self._owed.pop(release, None)
