"""Who may connect: identity records, ``chargers:{chargePointId}``, and revoked client certificates,
``revoked-certs:{fingerprint}`` (wire contract, section 2).

Here a record is bytes; what is in it is for ``auth`` to say. A fingerprint is SHA-256 in upper-case hex without colons.

A record that is gone may have been deleted, or Redis may have lost its data. The key ``store-id`` tells which: it holds
a random text that is put there when it is missing, so that an empty Redis gets another one.

A handshake's look-up also says whether its address is banned (``flooding``), and counts it there: all in one trip.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from ocpp_gateway.flood.addresses import limit_key
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.redis.flooding import ban_key, connects_key, gcra_arguments, known_pair_key
from ocpp_gateway.redis.scripts import Script

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient


_STORE_ID = "store-id"
_STORE_ID_BYTES = 16
_REVOKED = b"1"


@frozen
class Found:
    """What is stored about a charge point, and about the certificate that it showed, if it was asked for.

    Where ``ban_seconds`` or ``wait_seconds`` is not 0 (how long to stay away), neither was looked at.
    """

    record: bytes | None
    is_revoked: bool
    ban_seconds: float = 0.0
    wait_seconds: float = 0.0


@frozen
class ConnectRates:
    """How often the whole cluster is to be tried, from an address and as a charge point from an address."""

    per_address: Rate
    per_charge_point: Rate


@define(eq=False)
class Identities:
    """The records under ``prefix`` (OCPP_IDENTITY_PREFIX), the revoked certificates under ``revoked_prefix``
    (OCPP_REVOKED_PREFIX). Every method may raise StoreUnavailable.
    """

    client: RedisClient
    prefix: str = "chargers"
    revoked_prefix: str = "revoked-certs"
    rates: ConnectRates | None = None
    _store_id: bytes | None = field(default=None, init=False)
    _replace_script: Script = field(factory=lambda: Script.load("replace_if_equal"), init=False)
    _admit_script: Script = field(factory=lambda: Script.load("admit"), init=False)
    _rate_arguments: tuple[int, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        rates = (None, None) if self.rates is None else (self.rates.per_address, self.rates.per_charge_point)
        self._rate_arguments = tuple(argument for rate in rates for argument in gcra_arguments(rate))

    async def start(self) -> None:
        """Learn the store's id; one that has none gets one."""
        store_id = await self.client.get(_STORE_ID)
        if store_id is None:
            await self.client.set(_STORE_ID, secrets.token_hex(_STORE_ID_BYTES).encode(), only_if_absent=True)
            store_id = await self.client.get(_STORE_ID)  # another node may have been quicker
        self._store_id = store_id

    @property
    def store_id(self) -> bytes | None:
        """The id as last read; None before ``start``."""
        return self._store_id

    async def look_up(
        self,
        charge_point_id: str,
        fingerprint: str | None = None,
        address: str | None = None,
        *,
        is_shared: bool = False,
    ) -> Found:
        """What a handshake has to know, in one trip; it is an attempt of ``address``, if that is given.

        ``is_shared``: the address stands for anybody (``TrustedProxies.is_shared``), so only what it does as this
        charge point counts.
        """
        record_key, *revoked_key = self._keys(charge_point_id, fingerprint)
        if address is None:
            return _found(await self.client.mget([record_key, *revoked_key]))
        origin = limit_key(address)
        keys = [
            record_key,
            ban_key(origin, charge_point_id),
            ban_key(origin, charge_point_id if is_shared else None),
            known_pair_key(origin, charge_point_id),
            connects_key(origin, None),
            connects_key(origin, charge_point_id),
            *revoked_key,
        ]
        rates = (0, 0, *self._rate_arguments[2:]) if is_shared else self._rate_arguments
        record, is_revoked, banned, wait = await self.client.run(self._admit_script, keys, rates)
        return Found(record, bool(is_revoked), banned / 1000, wait / 1000)

    async def look_up_all(self, wanted: Sequence[tuple[str, str | None]]) -> tuple[bytes | None, list[Found]]:
        """The store's id, and what is found of each charge point id and fingerprint, in one trip."""
        keys_of_each = [self._keys(*each) for each in wanted]
        store_id, *values = await self.client.mget([_STORE_ID, *(key for keys in keys_of_each for key in keys)])
        if store_id is None:
            await self.start()  # of the store that lost it
            store_id = self._store_id
        self._store_id = store_id
        found, start = [], 0
        for keys in keys_of_each:
            found.append(_found(values[start : start + len(keys)]))
            start += len(keys)
        return store_id, found

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
        """Remove a record, and the security profile that the charge point had; False if there was no record."""
        deleted = await self.client.delete(self._key(charge_point_id))
        await self.client.delete(profile_key(charge_point_id))
        return deleted == 1

    async def revoke(self, fingerprint: str, expire: int | None = None) -> None:
        """Keep a certificate out, whoever shows it: for good, or for ``expire`` seconds."""
        await self.client.set(self._revoked_key(fingerprint), _REVOKED, expire=expire)

    async def unrevoke(self, fingerprint: str) -> bool:
        """Take a revocation back; False if there was none."""
        return await self.client.delete(self._revoked_key(fingerprint)) == 1

    async def revoked(self) -> AsyncIterator[str]:
        """The fingerprint of every revoked certificate, in no order, each once."""
        beginning = self._revoked_key("")
        told: set[str] = set()
        async for page in self.client.scan("*", beginning=beginning):
            for key in page:
                if key not in told:
                    told.add(key)
                    yield key[len(beginning) :]

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

    def _keys(self, charge_point_id: str, fingerprint: str | None) -> list[str]:
        keys = [self._key(charge_point_id)]
        if fingerprint is not None:
            keys.append(self._revoked_key(fingerprint))
        return keys

    def _key(self, charge_point_id: str) -> str:
        return f"{self.prefix}:{charge_point_id}"

    def _revoked_key(self, fingerprint: str) -> str:
        return f"{self.revoked_prefix}:{fingerprint}"


def profile_key(charge_point_id: str) -> str:
    """Where the security profile of a charge point's last session is kept (``ownership``)."""
    return f"security-profiles:{charge_point_id}"


def _found(values: Sequence[bytes | None]) -> Found:
    return Found(values[0], any(value is not None for value in values[1:]))
