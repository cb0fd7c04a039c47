"""Charge points whose BootNotification was answered Pending or Rejected: ``boot-states:{id}``.

The value is ``{status, interval, epoch}``; the last is that of the session which was answered.

Whoever is not there is Accepted. What could not be written because Redis was away is remembered here and made up for:
above all that a charge point was accepted, since it will not ask again, and nobody would take its messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.csms.boot import BootState
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import epoch_key
from ocpp_gateway.redis.shield import shielded

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

TTL_SECONDS = 30 * 86_400

_STATUSES = frozenset({"Pending", "Rejected"})


@frozen
class _Change:
    """What Redis is to be told of a charge point. ``state``: None where it was accepted."""

    state: BootState | None
    epoch: int


@define(eq=False)
class RedisBootStates:
    """See ``csms.boot.BootStates``. At most ``max_owed`` changes that Redis missed are remembered."""

    client: RedisClient
    max_owed: int = 10_000
    _owed: dict[str, _Change] = field(factory=dict, init=False)
    _telling: dict[str, Deferred[None]] = field(factory=dict, init=False)
    _script: Script = field(factory=lambda: Script.load("keep_boot_state"), init=False)

    @property
    def owed(self) -> int:
        """How many changes Redis does not have yet."""
        return len(self._owed)

    async def get(self, charge_point_id: str) -> BootState | None:
        """The last answer; None: Accepted, or none. Raises StoreUnavailable."""
        owed = self._owed.get(charge_point_id)
        if owed is not None:  # a newer session may have been told something else by another node since
            await self._tell(charge_point_id)
        return _state(await self.client.get(_key(charge_point_id)))

    async def keep(self, charge_point_id: str, epoch: int, state: BootState) -> None:
        """The session of ``epoch`` was answered ``state``; nothing if there is a newer session. Never raises."""
        await self._change(charge_point_id, _Change(state, epoch))

    async def forget(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is accepted; nothing if a newer one was answered otherwise. Never raises."""
        await self._change(charge_point_id, _Change(None, epoch))

    async def settle(self) -> None:
        """Make up for what Redis missed. Raises StoreUnavailable if it is still away."""
        for charge_point_id in tuple(self._owed):
            await self._tell(charge_point_id)

    async def _change(self, charge_point_id: str, change: _Change) -> None:
        # Remembered first: who reads meanwhile waits until Redis has it.
        self._owed.pop(charge_point_id, None)
        self._owed[charge_point_id] = change
        while len(self._owed) > self.max_owed:
            del self._owed[next(iter(self._owed))]
        try:
            await self._tell(charge_point_id)
        except StoreUnavailable:
            return

    async def _tell(self, charge_point_id: str) -> None:
        """Until Redis has the last change of it; one after the other, as Redis could not tell which is the later."""
        while (change := self._owed.get(charge_point_id)) is not None:
            under_way = self._telling.get(charge_point_id)
            if under_way is not None:
                await shielded(under_way)
                continue
            told = self._telling[charge_point_id] = Deferred()
            try:
                await self._write(charge_point_id, change)
                if self._owed.get(charge_point_id) is change:
                    del self._owed[charge_point_id]
            finally:
                del self._telling[charge_point_id]
                told.callback(None)

    async def _write(self, charge_point_id: str, change: _Change) -> None:
        state, value = change.state, b""
        if state is not None:
            value = orjson.dumps({"status": state.status, "interval": state.interval, "epoch": change.epoch})
        keys = [epoch_key(charge_point_id), _key(charge_point_id)]
        await self.client.run(self._script, keys, [change.epoch, TTL_SECONDS, value])


def _key(charge_point_id: str) -> str:
    return f"boot-states:{charge_point_id}"


def _state(raw: bytes | None) -> BootState | None:
    """What cannot be read holds nobody back."""
    try:
        members = orjson.loads(raw or b"null")
    except ValueError:
        return None
    if type(members) is not dict or members.get("status") not in _STATUSES or type(members.get("interval")) is not int:
        return None
    return BootState(members["status"], members["interval"])
