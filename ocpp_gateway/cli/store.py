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
    from ocpp_gateway.redis.url import RedisUrl

_Result = TypeVar("_Result")

_CONNECT_SECONDS = 3.0
_AT_ONCE_SECONDS = 0.5
"""A Redis that runs is connected to by then; after that, it is seen whether anything listens."""


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
        await _connected(places, client, url)
        identities = Identities(client, prefix=places.identity_prefix(), revoked_prefix=places.revoked_prefix())
        return await work(client, identities)
    except StoreUnavailable as error:
        hint = (
            _hint_where(places)
            if places.dev
            else "Does it run there, with this user and password? Set REDIS_URL; if it is a gateway's own, give --dev."
        )
        raise Failure(f"Redis at {url} cannot be used: {error}.", hint) from None
    finally:
        await client.close()


async def _connected(places: Places, client: RedisClient, url: RedisUrl) -> None:
    from ocpp_gateway.cli.reach import redis_address, refusal
    from ocpp_gateway.errors import StoreUnavailable

    try:
        await client.when_connected(_AT_ONCE_SECONDS)
    except StoreUnavailable:
        refused = refusal([redis_address(url)])
        if refused is not None:
            raise Failure(f"No Redis is to be had at {url}: {refused}.", _hint_where(places)) from None
        await client.when_connected(_CONNECT_SECONDS - _AT_ONCE_SECONDS)


def _hint_where(places: Places) -> str:
    if places.dev:
        return "Is the gateway that was started with --dev still running?"
    return (
        "Start Redis there, or set REDIS_URL to where it runs. To use that of a gateway started by "
        "'ocpp-gateway demo' or with --dev, give --dev: ocpp-gateway --dev ..."
    )


def require_identity(places: Places, charge_point_id: str) -> None:
    """Refuse an identity that the gateway would refuse. Raises click's BadParameter."""
    pattern = places.identity_pattern()
    if pattern.fullmatch(charge_point_id) is None:
        raise click.BadParameter(
            f"the gateway only lets in identities that match {pattern.pattern} "
            "(set OCPP_CHARGE_POINT_ID_PATTERN here as for the gateway)",
            param_hint="CHARGE_POINT_ID",
        )
