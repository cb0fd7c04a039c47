"""``ocpp-gateway nodes``: the gateways that share this Redis."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.options import json_lines_option
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities


@click.command(short_help="The gateways that share this Redis.")
@json_lines_option
@click.pass_obj
def nodes(places: Places, as_json: bool) -> None:
    """Show the nodes, which are the gateways that share this Redis, and how many charge points each has.

    A node that is gone is shown for as long as sessions of it are left; the others clear them away.
    """

    async def work(reactor: Any) -> list[dict[str, Any]]:
        async def read(client: RedisClient, identities: Identities) -> list[dict[str, Any]]:
            from ocpp_gateway.redis.overview import node_list

            return await node_list(client)

        return await with_redis(places, reactor, read)

    found = run_in_reactor(work)
    if as_json:
        for node in found:
            click.echo(json.dumps(node))
        return
    if not found:
        click.echo("No node uses this Redis now.", err=True)
        return
    from ocpp_gateway.cli.live_tables import nodes_table
    from ocpp_gateway.redis.overview import GONE

    nodes_table(found, int(time.time() * 1000)).show()
    gone = sum(node["state"] == GONE for node in found)
    click.echo(f"{len(found)} node{'' if len(found) == 1 else 's'}" + (f", {gone} gone" if gone else ""), err=True)
