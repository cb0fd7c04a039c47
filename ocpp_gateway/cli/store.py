"""Identity records in Redis, as commands reach them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ocpp_gateway.cli.failure import Failure

if TYPE_CHECKING:
    from ocpp_gateway.cli.endpoints import Places
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities

_Result = TypeVar("_Result")

_CONNECT_SECONDS = 3.0


async def with_redis(
    places: Places, reactor: Any, work: Callable[[RedisClient, Identities], Coroutine[Any, Any, _Result]]
) -> _Result:
    """Connect, work, disconnect. Raises Failure if Redis cannot be used."""
    from ocpp_gateway.errors import StoreUnavailable
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities
    from ocpp_gateway.redis.url import RedisUrl

    try:
        url = RedisUrl.parse(places.redis())
        client = RedisClient.connect(
            url, reactor=reactor, prefix=places.redis_prefix(), timeout=_CONNECT_SECONDS, pool_size=1
        )
    except (ValueError, OSError) as error:
        raise Failure(f"REDIS_URL cannot be used: {error}") from None
    try:
        await client.when_connected(_CONNECT_SECONDS)
        return await work(client, Identities(client, prefix=places.identity_prefix()))
    except StoreUnavailable as error:
        hint = (
            "Is the gateway that was started with --dev still running?"
            if places.dev
            else "Does it run there, with this user and password? Set REDIS_URL; if it is a gateway's own, give --dev."
        )
        raise Failure(f"Redis at {url} cannot be used: {error}.", hint) from None
    finally:
        await client.close()


def require_identity(places: Places, charge_point_id: str) -> None:
    """Refuse an identity that the gateway would refuse. Raises click's BadParameter."""
    pattern = places.identity_pattern()
    if pattern.fullmatch(charge_point_id) is None:
        raise click.BadParameter(
            f"the gateway only lets in identities that match {pattern.pattern} "
            "(set OCPP_CHARGE_POINT_ID_PATTERN here as for the gateway)",
            param_hint="CHARGE_POINT_ID",
        )
