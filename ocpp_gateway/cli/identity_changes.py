"""Changes to identity records: read, written back only if nobody else was quicker, and told to Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ocpp_gateway.cli import records
from ocpp_gateway.cli.audited import audited
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.passwords import Secret
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.auth.hashing import HashDefaults
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

_ATTEMPTS = 5
"""So often a record is read and written again when somebody else changed it in between."""


async def put(
    identities: Identities,
    charge_point_id: str,
    wishes: records.Wishes,
    secret: Secret | None,
    hashing: HashDefaults,
    *,
    objection: Callable[[str, records.Record], Failure | None],
    reason: str = "",
) -> Deed:
    """Write a record with a new credential; without ``secret``, with none.

    ``objection`` may have a Failure to raise against a record's replacement; a record that is no JSON object is shown
    to it as an empty one.
    """
    from ocpp_gateway.cli.audit import Deed

    for _ in range(_ATTEMPTS):
        raw = await identities.get(charge_point_id)
        before = records.decode(raw) or {} if raw is not None else {}
        if raw is not None and (failure := objection(charge_point_id, before)) is not None:
            raise failure
        record = records.written(charge_point_id, before, wishes, secret, hashing, time.time())
        if raw is None:
            done = await identities.put(charge_point_id, records.encode(record), only_if_absent=True)
        else:
            done = await identities.replace(charge_point_id, raw, records.encode(record))
        if done:
            change = "added" if raw is None else "replaced"
            return Deed(charge_point_id=charge_point_id, change=change, record=record, reason=reason)
    raise _contended(charge_point_id)


def hash_defaults(places: Places, algorithm: str) -> HashDefaults:
    """How to hash: scrypt's parameters are the gateway's settings, because a record does not carry them."""
    from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, ScryptParameters
    from ocpp_gateway.environment import parse
    from ocpp_gateway.errors import ConfigError

    try:
        given = {name: value for name, value in places.environ.items() if name.startswith("OCPP_AUTH_SCRYPT_")}
        settings = parse(given)
        scrypt = ScryptParameters(
            n=settings.ocpp_auth_scrypt_n,
            r=settings.ocpp_auth_scrypt_r,
            p=settings.ocpp_auth_scrypt_p,
            key_length=settings.ocpp_auth_scrypt_keylen,
        )
    except (ConfigError, ValueError) as error:
        raise Failure(str(error)) from None
    return HashDefaults(HashAlgorithm(algorithm), scrypt)


async def edit(
    identities: Identities, charge_point_id: str, change: Callable[[records.Record], records.Record | None]
) -> tuple[records.Record, bool]:
    """Write what ``change`` makes of a record, unless that is None; the record as it is then, and whether it changed.

    ``change`` is called again where somebody else was quicker. Raises Failure without a record.
    """
    for _ in range(_ATTEMPTS):
        raw = await identities.get(charge_point_id)
        record = records.decode(raw) if raw is not None else None
        if raw is None or record is None:
            raise unknown(charge_point_id)
        after = change(record)
        if after is None:
            return record, False
        if await identities.replace(charge_point_id, raw, records.encode(after)):
            return after, True
    raise _contended(charge_point_id)


def set_status(places: Places, charge_point_id: str, status: str, change: str, reason: str) -> bool:
    """Give a record another status; False if it has it already."""

    def other(record: records.Record) -> records.Record | None:
        return None if records.status_of(record) == status else records.with_status(record, status, time.time())

    async def work(identities: Identities) -> list[Deed]:
        from ocpp_gateway.cli.audit import Deed

        record, is_new = await edit(identities, charge_point_id, other)
        return [Deed(charge_point_id=charge_point_id, change=change, record=record, reason=reason)] if is_new else []

    return bool(changed(places, work))


def changed(places: Places, work: Callable[[Identities], Coroutine[Any, Any, list[Deed]]]) -> list[Deed]:
    """Do ``work`` on the records, then tell Kafka."""

    async def on_records(reactor: Any) -> tuple[list[Deed], list[Deed]]:
        deeds = await with_redis(places, reactor, lambda client, identities: work(identities))
        return deeds, deeds

    return audited(places, on_records)


def unknown(charge_point_id: str) -> Failure:
    """There is no such record."""
    return Failure(
        f"There is no record of {charge_point_id}.",
        "'charger list' shows who is there, 'charger add' lets somebody in.",
    )


def _contended(charge_point_id: str) -> Failure:
    return Failure(f"The record of {charge_point_id} changes faster than it can be written.", "Try again.")
