"""``ocpp-gateway charger``: who may connect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ocpp_gateway.cli import records
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.identity_changes import changed, hash_defaults, put, set_status, unknown
from ocpp_gateway.cli.passwords import (
    Secret,
    given_secret,
    is_short,
    new_authorization_key,
    new_password,
    new_token,
    secret_options,
)
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import require_identity, with_redis

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the audit event.")


@click.group(short_help="Who may connect: add, show, list, enable, disable, remove.")
def charger() -> None:
    """Charge points that may connect: add, show, list, enable, disable, remove.

    They are records in Redis; a change holds from the charge point's next connection on. When Kafka is named
    (--kafka-brokers, KAFKA_BROKERS or --dev), each change is also an event on the topic cpms.audit.events.
    """


@charger.command()
@click.argument("charge_point_id")
@click.option("--tenant", metavar="ID", help="Whose it is [default: default].")
@click.option(
    "--station", metavar="ID", help="Its name in the back end: the key of its events [default: its identity]."
)
@click.option(
    "--ocpp",
    "versions",
    multiple=True,
    type=click.Choice(["1.6", "2.0.1", "2.1"]),
    help="A version that it may speak; may be given more than once [default: all].",
)
@click.option("--auth", "auth_type", type=click.Choice(["basic", "token"]), default="basic", show_default=True)
@click.option("--username", metavar="NAME", help="User name for basic [default: its identity, as OCPP wants it].")
@click.option("--hash", "algorithm", type=click.Choice(["scrypt", "sha256"]), default="scrypt", show_default=True)
@click.option("--allow-ip", "allowed_ips", multiple=True, metavar="ADDRESS", help="Only from this address; repeatable.")
@click.option(
    "--allow-cidr", "allowed_cidrs", multiple=True, metavar="NETWORK", help="Only from this network; repeatable."
)
@click.option("--disabled", is_flag=True, help="Write the record, but do not let it in yet.")
@click.option("--replace", is_flag=True, help="It may exist: keep what is not said anew, and give it a new password.")
@secret_options
@_reason_option
@_json_option
@click.pass_obj
def add(
    places: Places,
    charge_point_id: str,
    *,
    tenant: str | None,
    station: str | None,
    versions: tuple[str, ...],
    auth_type: str,
    username: str | None,
    algorithm: str,
    allowed_ips: tuple[str, ...],
    allowed_cidrs: tuple[str, ...],
    disabled: bool,
    replace: bool,
    ask: bool,
    password_file: str | None,
    hex_key: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Let a charge point in.

    Without a password or token one is made up and shown, once: only its hash is stored.
    """
    from ocpp_gateway.ocppj.versions import OcppVersion

    require_identity(places, charge_point_id)
    _require_addresses(allowed_ips, allowed_cidrs)
    secret = given_secret(ask=ask, password_file=password_file, hex_key=hex_key, confirm=True)
    if secret is None:
        secret = _made_up(auth_type, hex_key)
    elif is_short(secret):
        click.echo("Warning: OCPP asks for passwords of 16 characters or more.", err=True)
    wishes = records.Wishes(
        tenant_id=tenant,
        station_id=station,
        status="disabled" if disabled else None,
        versions=tuple(found for version in versions if (found := OcppVersion.from_path(version)) is not None),
        allowed_ips=allowed_ips,
        allowed_cidrs=allowed_cidrs,
        username=username,
        auth_type=auth_type,
    )
    hashing = hash_defaults(places, algorithm)

    def objection(cp_id: str, record: records.Record) -> Failure | None:
        return None if replace else _there_already(cp_id)

    async def work(identities: Identities) -> list[Deed]:
        return [await put(identities, charge_point_id, wishes, secret, hashing, objection=objection, reason=reason)]

    deed = changed(places, work)[0]
    _show_added(places, deed, secret, as_json)


@charger.command()
@click.argument("charge_point_id")
@_json_option
@click.pass_obj
def show(places: Places, charge_point_id: str, as_json: bool) -> None:
    """Show a charge point's record, and whether it is connected. Hashes are not shown."""

    async def work(reactor: Any) -> tuple[bytes | None, bytes | None, bool]:
        async def read(client: Any, identities: Identities) -> tuple[bytes | None, bytes | None, bool]:
            record = await identities.get(charge_point_id)
            session = await client.get(f"sessions:{charge_point_id}")
            node = records.text_of(records.decode(session) or {}, "nodeId") if session else ""
            return record, session, bool(node) and await client.get(f"nodes:{node}") is not None

        return await with_redis(places, reactor, read)

    raw, session, node_alive = run_in_reactor(work)
    if raw is None:
        raise unknown(charge_point_id)
    record = records.decode(raw)
    if record is None:
        raise Failure(
            f"The record of {charge_point_id} is no JSON object, so the gateway refuses it.",
            f"Write it anew: charger add {charge_point_id} --replace",
        )
    connected = (records.decode(session) or {}) if session and node_alive else None
    if as_json:
        click.echo(json.dumps({**records.shown(record), "session": connected}, indent=2))
        return
    from ocpp_gateway.cli.tables import record_table

    _print(record_table(records.shown(record), connected))


@charger.command("list")
@click.option("--filter", "pattern", default="*", metavar="GLOB", help="Identities that match, such as 'CP-0*'.")
@click.option("--tenant", metavar="ID", help="Only of this tenant.")
@click.option("--status", metavar="STATUS", help="Only with this status, such as active or disabled.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead of a table.")
@click.pass_obj
def list_chargers(places: Places, pattern: str, tenant: str | None, status: str | None, as_json: bool) -> None:
    """List charge points."""

    async def work(reactor: Any) -> list[tuple[str, bytes]]:
        async def read(client: Any, identities: Identities) -> list[tuple[str, bytes]]:
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
    from ocpp_gateway.cli.tables import list_table

    if found:
        _print(list_table(found))
    click.echo(f"{len(found)} charge point{'' if len(found) == 1 else 's'}", err=True)


@charger.command()
@click.argument("charge_point_id")
@_reason_option
@click.pass_obj
def enable(places: Places, charge_point_id: str, reason: str) -> None:
    """Let a disabled charge point in again."""
    done = set_status(places, charge_point_id, "active", "enabled", reason)
    click.echo(f"{printable(charge_point_id)} " + ("enabled" if done else "was enabled already"))


@charger.command()
@click.argument("charge_point_id")
@_reason_option
@click.pass_obj
def disable(places: Places, charge_point_id: str, reason: str) -> None:
    """Keep a charge point out, from its next connection on. Its record and password stay."""
    done = set_status(places, charge_point_id, "disabled", "disabled", reason)
    click.echo(f"{printable(charge_point_id)} " + ("disabled" if done else "was disabled already"))


@charger.command()
@click.argument("charge_point_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_reason_option
@click.pass_obj
def remove(places: Places, charge_point_id: str, yes: bool, reason: str) -> None:
    """Forget a charge point, its password too."""
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


def _show_added(places: Places, deed: Deed, secret: Secret, as_json: bool) -> None:
    cp_id = deed.charge_point_id
    kind = "token" if deed.record["auth"]["type"] == "token" else "password"
    if as_json:
        answer = {"chargePointId": cp_id, "change": deed.change, **({kind: secret.shown} if secret.shown else {})}
        click.echo(json.dumps(answer))
        return
    click.echo(
        f"{cp_id} {deed.change}" + ("" if records.status_of(deed.record) == "active" else ", but not let in yet")
    )
    if secret.shown is not None:
        click.echo(f"{kind}: {secret.shown}")
        click.echo("It is shown only now: the gateway stores a hash of it.", err=True)
    port = places.ocpp_port()
    click.echo(f"Charge point's URL: ws://HOST:{port}/ocpp/1.6/{cp_id} (or 2.0.1, 2.1)", err=True)


def _there_already(charge_point_id: str) -> Failure:
    return Failure(
        f"{charge_point_id} is there already.",
        f"To give it a new password: charger add {charge_point_id} --replace",
    )


def _made_up(auth_type: str, hex_key: bool) -> Secret:
    if auth_type == "token":
        return new_token()
    return new_authorization_key() if hex_key else new_password()


def _require_addresses(ips: tuple[str, ...], cidrs: tuple[str, ...]) -> None:
    from ocpp_gateway.auth.addresses import AddressList

    bad = AddressList.parse(ips, cidrs).bad_entries
    if bad:
        raise click.UsageError(
            "--allow-ip and --allow-cidr take addresses and networks, such as 10.0.0.7 and 10.0.0.0/24"
        )


def _print(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False).print(table)
