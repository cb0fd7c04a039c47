"""``ocpp-gateway charger``: who may connect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from ocpp_gateway.cli import records
from ocpp_gateway.cli.charger_add import add
from ocpp_gateway.cli.charger_set import set_rules
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.identity_changes import changed, set_status, unknown
from ocpp_gateway.cli.options import json_lines_option, json_option, reason_option
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities


@frozen
class _Kept:
    """What Redis keeps about a charge point. ``session`` is None unless the node that has it is alive."""

    record: bytes | None
    session: bytes | None
    profile: bytes | None


@click.group(short_help="Who may connect: add, set, show, list, enable, disable, remove.")
def charger() -> None:
    """Charge points that may connect: add, set, show, list, enable, disable, remove.

    They are records in Redis. A change holds at once: a live connection that its record would not let in any more, as
    disabled, removed or with another password, ends within 5 seconds. When Kafka is named (--kafka-brokers,
    KAFKA_BROKERS or --dev), each change is also an event on the topic cpms.audit.events.
    """


@charger.command()
@click.argument("charge_point_id")
@json_option
@click.pass_obj
def show(places: Places, charge_point_id: str, as_json: bool) -> None:
    """Show a charge point's record, how it last connected, and whether it is connected. Hashes are not shown."""

    async def work(reactor: Any) -> _Kept:
        async def read(client: RedisClient, identities: Identities) -> _Kept:
            session = await client.get(f"sessions:{charge_point_id}")
            node = records.text_of(records.decode(session) or {}, "nodeId") if session else ""
            is_alive = bool(node) and await client.get(f"nodes:{node}") is not None
            return _Kept(
                record=await identities.get(charge_point_id),
                session=session if is_alive else None,
                profile=await client.get(f"security-profiles:{charge_point_id}"),
            )

        return await with_redis(places, reactor, read)

    kept = run_in_reactor(work)
    if kept.record is None:
        raise unknown(charge_point_id)
    record = records.decode(kept.record)
    if record is None:
        raise Failure(
            f"The record of {charge_point_id} is no JSON object, so the gateway refuses it.",
            f"Write it anew: charger add {charge_point_id} --replace",
        )
    connected = records.decode(kept.session) or {} if kept.session is not None else None
    last_profile = int(kept.profile) if kept.profile is not None and kept.profile.isdigit() else None
    shown = records.shown(record)
    if as_json:
        click.echo(json.dumps({**shown, "lastSecurityProfile": last_profile, "session": connected}, indent=2))
        return
    from ocpp_gateway.cli.tables import display, record_view

    display(record_view(shown, last_profile, connected))


@charger.command("list")
@click.option("--filter", "pattern", default="*", metavar="GLOB", help="Identities that match, such as 'CP-0*'.")
@click.option("--tenant", metavar="ID", help="Only of this tenant.")
@click.option("--status", metavar="STATUS", help="Only with this status, such as active or disabled.")
@json_lines_option
@click.pass_obj
def list_chargers(places: Places, pattern: str, tenant: str | None, status: str | None, as_json: bool) -> None:
    """List charge points."""

    async def work(reactor: Any) -> list[tuple[str, bytes]]:
        async def read(client: RedisClient, identities: Identities) -> list[tuple[str, bytes]]:
            return [entry async for entry in identities.scan(pattern)]

        return await with_redis(places, reactor, read)

    found = []
    for charge_point_id, raw in sorted(run_in_reactor(work)):
        record = records.decode(raw) or {"chargePointId": charge_point_id, "status": "(record is not JSON)"}
        if tenant is not None and records.text_of(record, "tenantId") != tenant:
            continue
        if status is None or records.status_of(record) == status:
            found.append((charge_point_id, record))
    if as_json:
        for charge_point_id, record in found:
            click.echo(json.dumps({"chargePointId": charge_point_id, **records.shown(record)}))
        return
    from ocpp_gateway.cli.tables import display, list_table

    if found:
        display([list_table(found)])
    click.echo(f"{len(found)} charge point{'' if len(found) == 1 else 's'}", err=True)


@charger.command()
@click.argument("charge_point_id")
@reason_option
@click.pass_obj
def enable(places: Places, charge_point_id: str, reason: str) -> None:
    """Let a disabled charge point in again."""
    done = set_status(places, charge_point_id, "active", "enabled", reason)
    click.echo(f"{printable(charge_point_id)} " + ("enabled" if done else "was enabled already"))


@charger.command()
@click.argument("charge_point_id")
@reason_option
@click.pass_obj
def disable(places: Places, charge_point_id: str, reason: str) -> None:
    """Keep a charge point out: a live connection ends within 5 seconds. Its record and password stay."""
    done = set_status(places, charge_point_id, "disabled", "disabled", reason)
    click.echo(f"{printable(charge_point_id)} " + ("disabled" if done else "was disabled already"))


@charger.command()
@click.argument("charge_point_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason_option
@click.pass_obj
def remove(places: Places, charge_point_id: str, yes: bool, reason: str) -> None:
    """Forget a charge point, its password too. A live connection ends within 5 seconds."""
    if not yes:
        click.confirm(f"Remove {printable(charge_point_id)} for good?", abort=True)

    async def work(identities: Identities) -> list[Deed]:
        from ocpp_gateway.cli.audit import Deed

        raw = await identities.get(charge_point_id)
        if raw is None or not await identities.delete(charge_point_id):
            raise unknown(charge_point_id)
        record = records.decode(raw) or {}
        return [Deed(charge_point_id=charge_point_id, change="removed", record=record, reason=reason)]

    changed(places, work)
    click.echo(f"{printable(charge_point_id)} removed")


for _command in (add, set_rules):
    charger.add_command(_command)
