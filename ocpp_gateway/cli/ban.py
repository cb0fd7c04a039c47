"""``ocpp-gateway ban``: who is kept out for failing to authenticate too often, and letting them try again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from ocpp_gateway.cli.audited import audited
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.options import json_lines_option, reason_option, utf8
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.flooding import Ban, FloodStore
    from ocpp_gateway.redis.identities import Identities


@click.group(short_help="Who is kept out for guessing: list, lift.")
def ban() -> None:
    """Addresses that failed to authenticate too often, on whichever node: list them, let them try again.

    A ban holds for one charge point identity at one address; or for a whole address, where it keeps out all who were
    not let in from there before. It ends by itself, and the next one is twice as long (OCPP_BAN_* of the gateway).
    """


@ban.command("list")
@json_lines_option
@click.pass_obj
def list_bans(places: Places, as_json: bool) -> None:
    """List who is banned now, and for how long."""

    async def work(reactor: Any) -> list[Ban]:
        async def read(client: RedisClient, identities: Identities) -> list[Ban]:
            return [each async for each in _bans_in(client).bans()]

        return await with_redis(places, reactor, read)

    bans = sorted(run_in_reactor(work), key=lambda each: (each.address, each.charge_point_id or ""))
    if as_json:
        for each in bans:
            click.echo(json.dumps(_members(each)))
        return
    if not bans:
        click.echo("Nobody is banned.", err=True)
        return
    from ocpp_gateway.cli.live_tables import bans_table

    bans_table(bans, int(time.time() * 1000)).show()
    click.echo(f"{len(bans)} ban{'' if len(bans) == 1 else 's'}", err=True)


@ban.command()
@click.argument("address", callback=utf8)
@click.option(
    "--charge-point",
    "charge_point_id",
    metavar="ID",
    callback=utf8,
    help="Only its ban [default: all].",
)
@reason_option
@click.pass_obj
def lift(places: Places, address: str, charge_point_id: str | None, reason: str) -> None:
    """Let ADDRESS, as 'ban list' shows it, try again at once. What led to the ban is forgotten.

    When Kafka is named (--kafka-brokers, KAFKA_BROKERS or --dev), it is also an event on the topic cpms.audit.events.
    """
    from ocpp_gateway.flood.addresses import limit_key

    key = limit_key(address)

    async def work(reactor: Any) -> tuple[tuple[int, list[Ban]], list[Deed]]:
        async def change(client: RedisClient, identities: Identities) -> tuple[int, list[Ban]]:
            store = _bans_in(client)
            lifted = await store.lift(key, charge_point_id)
            return lifted, [each async for each in store.bans() if each.address == key]

        from ocpp_gateway.cli.audit import Deed

        lifted, left = await with_redis(places, reactor, change)
        deed = Deed(
            charge_point_id=charge_point_id,
            change="ban_lifted",
            record={},
            reason=reason,
            facts={"address": key, "bans": lifted},
        )
        return (lifted, left), [deed] if lifted else []

    lifted, left = audited(places, work)
    who = key if charge_point_id is None else f"{charge_point_id} at {key}"
    if not lifted and not left and not _is_address(key):
        raise Failure(f"{address} is no IP address.", "'ban list' shows who is banned.")
    bans = "" if lifted <= 1 else f" ({lifted} bans)"
    click.echo(f"{printable(who)} " + (f"no longer banned{bans}" if lifted else "was not banned"))
    if any(each.charge_point_id is None for each in left):
        click.echo(f"The address as a whole is banned still: ban lift {printable(key)}", err=True)
    elif left and not lifted:
        click.echo("Other charge points are banned there: 'ban list' shows them.", err=True)


def _bans_in(client: RedisClient) -> FloodStore:
    from ocpp_gateway.redis.flooding import BanRules, FloodStore

    # It is asked only for bans that there are, so that it does not matter when it would ban.
    never = BanRules(failures=0, address_failures=0, window_seconds=1, first_seconds=1.0, longest_seconds=1.0)
    return FloodStore(client, never)


def _members(each: Ban) -> dict[str, Any]:
    from ocpp_gateway.clock import iso_millis

    # Half a millisecond more, or the way through a float could lose one.
    since, until = (iso_millis((moment + 0.5) / 1000) for moment in (each.banned_at_ms, each.until_ms))
    who = {} if each.charge_point_id is None else {"chargePointId": each.charge_point_id}
    return {
        "address": each.address,
        **who,
        "reason": each.reason,
        "count": each.count,
        "bannedAt": since,
        "until": until,
    }


def _is_address(key: str) -> bool:
    from ipaddress import ip_network

    try:
        ip_network(key, strict=False)
    except ValueError:
        return False
    return True
