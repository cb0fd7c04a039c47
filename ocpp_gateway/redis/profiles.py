"""The security profile that a charge point was last connected with: ``security-profiles:{id}``, without an end.

A claim with a lower one is refused (``ownership``). What is written is the profile of a session that was really open:
a handshake that is given up, or refused after its claim, must not shut out a charge point that then falls back to the
profile it had before.

::

    claim: compared ──> open: written if it differs ──> each refresh, while the session is ours: written if it differs
                          └── missed by Redis: written by that refresh, or by the release

So a Redis that lost its data has the profiles of those connected again with their records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.identities import profile_key
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import SessionRecord, record_key

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient


@define(eq=False, kw_only=True)
class SessionProfiles:
    """Which sessions of this node have a profile that Redis does not have yet. A session is (id, epoch)."""

    client: RedisClient
    node_id: str
    _claimed: dict[tuple[str, int], int] = field(factory=dict, init=False)
    _open: dict[tuple[str, int], int] = field(factory=dict, init=False)
    _script: Script = field(factory=lambda: Script.load("keep_profile"), init=False)

    def claimed(self, record: SessionRecord, stored: bytes | None) -> None:
        """``record`` was claimed while ``stored`` was the charge point's profile."""
        if stored != str(record.security_profile).encode():
            self._claimed[record.charge_point_id, record.epoch] = record.security_profile

    def is_new(self, charge_point_id: str, epoch: int) -> bool:
        """Whether the session was claimed with another profile than Redis had: then it has to be told (``opened``)."""
        return (charge_point_id, epoch) in self._claimed

    async def opened(self, charge_point_id: str, epoch: int) -> None:
        """The session, which ``is_new``, is open: have its profile written. Never raises."""
        session = (charge_point_id, epoch)
        self._open[session] = profile = self._claimed.pop(session)
        keys = [record_key(charge_point_id), profile_key(charge_point_id)]
        try:
            await self.client.run(self._script, keys, [self.node_id, epoch, profile])
        except StoreUnavailable:
            return
        self._open.pop(session, None)

    def refreshed(self, record: SessionRecord) -> None:
        """The session was refreshed, and its profile with it."""
        self._open.pop((record.charge_point_id, record.epoch), None)

    def ended(self, charge_point_id: str, epoch: int) -> int:
        """The session is to be released: the profile that the release has to write, else 0."""
        self._claimed.pop((charge_point_id, epoch), None)
        return self._open.pop((charge_point_id, epoch), 0)
