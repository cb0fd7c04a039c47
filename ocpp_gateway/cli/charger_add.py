"""``ocpp-gateway charger add``: an identity record, with a credential or for a certificate."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import click

from ocpp_gateway.cli import records
from ocpp_gateway.cli.bindings import bindings_of
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.identity_changes import changed, hash_defaults, put
from ocpp_gateway.cli.options import json_option, reason_option
from ocpp_gateway.cli.passwords import (
    Secret,
    given_secret,
    is_short,
    new_authorization_key,
    new_password,
    new_token,
    secret_options,
)
from ocpp_gateway.cli.store import require_identity

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

_MTLS = "mtls"
_MTLS_PROFILE = 3


@click.command()
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
@click.option(
    "--auth",
    "said_type",
    type=click.Choice(["basic", "token", "mtls"]),
    help="By a password, a bearer token, or a client certificate, for which 'cert bind' is next [default: basic].",
)
@click.option("--username", metavar="NAME", help="User name for basic [default: its identity, as OCPP wants it].")
@click.option("--hash", "algorithm", type=click.Choice(["scrypt", "sha256"]), default="scrypt", show_default=True)
@click.option("--allow-ip", "allowed_ips", multiple=True, metavar="ADDRESS", help="Only from this address; repeatable.")
@click.option(
    "--allow-cidr", "allowed_cidrs", multiple=True, metavar="NETWORK", help="Only from this network; repeatable."
)
@click.option(
    "--min-profile",
    type=click.IntRange(1, 3),
    metavar="1|2|3",
    help="Lowest OCPP security profile: 1 any connection, 2 only over TLS, 3 only with a client certificate.",
)
@click.option(
    "--allow-downgrade/--no-allow-downgrade",
    default=None,
    help="It may come back with a lower security profile than it had [default: no].",
)
@click.option("--disabled", is_flag=True, help="Write the record, but do not let it in yet.")
@click.option(
    "--replace",
    is_flag=True,
    help="It may exist: keep what is not said anew, and give it a new password ('charger set' leaves that alone).",
)
@secret_options
@reason_option
@json_option
@click.pass_obj
def add(
    places: Places,
    charge_point_id: str,
    *,
    tenant: str | None,
    station: str | None,
    versions: tuple[str, ...],
    said_type: str | None,
    username: str | None,
    algorithm: str,
    allowed_ips: tuple[str, ...],
    allowed_cidrs: tuple[str, ...],
    min_profile: int | None,
    allow_downgrade: bool | None,
    disabled: bool,
    replace: bool,
    ask: bool,
    password_file: str | None,
    hex_key: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Let a charge point in.

    Without a password or token one is made up and shown, once: only its hash is stored. With --auth mtls there is none:
    it shows a client certificate, which 'cert bind' binds to it.
    """
    from ocpp_gateway.ocppj.versions import OcppVersion

    require_identity(places, charge_point_id)
    _require_addresses(allowed_ips, allowed_cidrs)
    auth_type = said_type or "basic"
    if min_profile == _MTLS_PROFILE and auth_type != _MTLS:
        raise click.UsageError("--min-profile 3 is for charge points that show a certificate: --auth mtls.")
    secret = _secret(auth_type, ask=ask, password_file=password_file, hex_key=hex_key)
    wishes = records.Wishes(
        tenant_id=tenant,
        station_id=station,
        status="disabled" if disabled else None,
        versions=tuple(found for version in versions if (found := OcppVersion.from_path(version)) is not None),
        allowed_ips=allowed_ips,
        allowed_cidrs=allowed_cidrs,
        username=username,
        auth_type=auth_type,
        min_profile=min_profile,
        allow_downgrade=allow_downgrade,
    )
    hashing = hash_defaults(places, algorithm)

    had_certificate = False

    def objection(cp_id: str, record: records.Record) -> Failure | None:
        nonlocal had_certificate
        had_certificate = records.auth_type_of(record) == _MTLS
        if not replace:
            return _there_already(cp_id)
        return _needs_no_password(cp_id) if had_certificate and said_type is None else None

    async def work(identities: Identities) -> list[Deed]:
        return [await put(identities, charge_point_id, wishes, secret, hashing, objection=objection, reason=reason)]

    deed = changed(places, work)[0]
    _show_added(places, charge_point_id, deed, secret, as_json)
    if had_certificate and auth_type != _MTLS and not deed.record.get("allowProfileDowngrade"):
        command = f"ocpp-gateway charger set {shlex.quote(charge_point_id)} --allow-downgrade"
        text = f"Once it was let in by its certificate, it may not come with less unless you allow it: {command}"
        click.echo(places.advice(text), err=True)


def _show_added(places: Places, cp_id: str, deed: Deed, secret: Secret | None, as_json: bool) -> None:
    kind = "token" if deed.record["auth"]["type"] == "token" else "password"
    shown = None if secret is None else secret.shown
    if as_json:
        click.echo(json.dumps({"chargePointId": cp_id, "change": deed.change, **({kind: shown} if shown else {})}))
        return
    click.echo(
        f"{cp_id} {deed.change}" + ("" if records.status_of(deed.record) == "active" else ", but not let in yet")
    )
    if shown is not None:
        click.echo(f"{kind}: {shown}")
        click.echo("It is shown only now: the gateway stores a hash of it.", err=True)
    if secret is None and not bindings_of(deed.record):
        word = shlex.quote(cp_id)
        text = f"Next: ocpp-gateway cert bind {word} FILE   To try: ocpp-gateway pki issue {word} --bind"
        click.echo(places.advice(text), err=True)
    scheme = "wss" if secret is None or places.has_tls() else "ws"
    click.echo(f"Charge point's URL: {scheme}://HOST:{places.ocpp_port()}/ocpp/1.6/{cp_id} (or 2.0.1, 2.1)", err=True)


def _secret(auth_type: str, *, ask: bool, password_file: str | None, hex_key: bool) -> Secret | None:
    if auth_type == _MTLS:
        if ask or password_file is not None or hex_key:
            raise click.UsageError("--auth mtls takes no password: the charge point shows a client certificate.")
        return None
    secret = given_secret(ask=ask, password_file=password_file, hex_key=hex_key, confirm=True)
    if secret is None:
        return _made_up(auth_type, hex_key)
    if is_short(secret):
        click.echo("Warning: OCPP asks for passwords of 16 characters or more.", err=True)
    return secret


def _needs_no_password(charge_point_id: str) -> Failure:
    return Failure(
        f"{charge_point_id} shows a client certificate and has no password.",
        "To leave it so, say --auth mtls. To let it in by a password from now on, say --auth basic.",
    )


def _there_already(charge_point_id: str) -> Failure:
    return Failure(
        f"{charge_point_id} is there already.",
        f"To give it a new password: charger add {shlex.quote(charge_point_id)} --replace",
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
