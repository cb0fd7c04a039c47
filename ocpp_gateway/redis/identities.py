"""The identity records, who may connect: ``chargers:{chargePointId}`` (wire contract, section 2).

Here a record is bytes; what is in it is for ``auth`` to say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from attrs import define, field

from ocpp_gateway.redis.scripts import Script

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient


@define(eq=False)
class Identities:
    """The records under ``prefix`` (OCPP_IDENTITY_PREFIX). Every method may raise StoreUnavailable."""

    client: RedisClient
    prefix: str = "chargers"
    _replace_script: Script = field(factory=lambda: Script.load("replace_if_equal"), init=False)

    async def get(self, charge_point_id: str) -> bytes | None:
        """The record, None if there is none."""
        return await self.client.get(self._key(charge_point_id))

    async def put(self, charge_point_id: str, record: bytes, *, only_if_absent: bool = False) -> bool:
        """Write a record; False if ``only_if_absent`` and there was one."""
        return await self.client.set(self._key(charge_point_id), record, only_if_absent=only_if_absent)

    async def replace(self, charge_point_id: str, read: bytes, record: bytes) -> bool:
        """Write ``record`` if what is there is still ``read``; False if somebody else was quicker."""
        return bool(await self.client.run(self._replace_script, [self._key(charge_point_id)], [read, record]))

    async def delete(self, charge_point_id: str) -> bool:
        """Remove a record; False if there was none."""
        return await self.client.delete(self._key(charge_point_id)) == 1

    async def scan(self, match: str = "*") -> AsyncIterator[tuple[str, bytes]]:
        """Every identity that matches the glob ``match`` with its record, in no order, each once."""
        beginning = self._key("")
        told: set[str] = set()
        async for page in self.client.scan(match, beginning=beginning):
            keys = [key for key in dict.fromkeys(page) if key not in told]
            told.update(keys)
            if not keys:
                continue
            for key, record in zip(keys, await self.client.mget(keys), strict=True):
                if record is not None:
                    yield key[len(beginning) :], record

    def _key(self, charge_point_id: str) -> str:
        return f"{self.prefix}:{charge_point_id}"
