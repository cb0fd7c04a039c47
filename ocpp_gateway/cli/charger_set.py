"""``ocpp-gateway charger set``: rules of an identity record, with its credential left as it is."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from ocpp_gateway.cli import bindings, records
from ocpp_gateway.cli.binding_changes import LIVE_NOTE
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.identity_changes import changed, edit
from ocpp_gateway.cli.options import reason_option

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

_PROFILE = "minSecurityProfile"
_DOWNGRADE = "allowProfileDowngrade"
_EXPIRED = "allowExpiredCertificate"
_NO_PROFILE = "none"
_MTLS_PROFILE = 3


@click.command("set")
@click.argument("charge_point_id")
@click.option(
    "--min-profile",
    type=click.Choice(["1", "2", "3", _NO_PROFILE]),
    help="Lowest OCPP security profile: 1 any connection, 2 only over TLS, 3 only with a client certificate; none "
    "takes the rule out of the record.",
)
@click.option(
    "--allow-downgrade/--no-allow-downgrade",
    default=None,
    help="It may come back with a lower security profile than it had.",
)
@click.option(
    "--allow-expired-certificate/--no-allow-expired-certificate",
    "allow_expired",
    default=None,
    help="It may show a client certificate that has run out.",
)
@reason_option
@click.pass_obj
def set_rules(
    places: Places,
    charge_point_id: str,
    *,
    min_profile: str | None,
    allow_downgrade: bool | None,
    allow_expired: bool | None,
    reason: str,
) -> None:
    """Change with which security a charge point may connect. Its password, and all that is not said, stays."""
    wanted: dict[str, Any] = {}
    if min_profile is not None:
        wanted[_PROFILE] = None if min_profile == _NO_PROFILE else int(min_profile)
    if allow_downgrade is not None:
        wanted[_DOWNGRADE] = allow_downgrade
    if allow_expired is not None:
        wanted[_EXPIRED] = allow_expired
    if not wanted:
        raise click.UsageError("Say what to change: --min-profile, --allow-downgrade, --allow-expired-certificate.")
    before: records.Record = {}

    def with_rules(record: records.Record) -> records.Record | None:
        nonlocal before
        before = record
        if wanted.get(_PROFILE) == _MTLS_PROFILE and not bindings.may_show_one(record):
            raise _needs_certificate(places, charge_point_id)
        return records.with_members(record, wanted, time.time())

    async def work(identities: Identities) -> list[Deed]:
        from ocpp_gateway.cli.audit import Deed

        record, is_new = await edit(identities, charge_point_id, with_rules)
        return [Deed(charge_point_id=charge_point_id, change="changed", record=record, reason=reason)] if is_new else []

    deeds = changed(places, work)
    after = deeds[0].record if deeds else before
    told = ", ".join(_told(name, before, after) for name in wanted)
    click.echo(printable(f"{charge_point_id} {'changed' if deeds else 'was so already'}: {told}"))
    lowest = _profile(after)
    if allow_downgrade and lowest > 1:
        click.echo(f"It still needs security profile {lowest} or higher (--min-profile).", err=True)
    if _profile(before) < lowest or (before.get(_EXPIRED) is True and after.get(_EXPIRED) is not True):
        click.echo(LIVE_NOTE, err=True)


def _told(name: str, before: records.Record, after: records.Record) -> str:
    unsaid = "none" if name == _PROFILE else "false"
    was, is_now = (records.text_of(record, name, unsaid) for record in (before, after))
    return f"{name} {is_now}" if was == is_now else f"{name} {is_now} (before: {was})"


def _profile(record: records.Record) -> int:
    """The lowest security profile that the gateway lets it connect with."""
    lowest = record.get(_PROFILE)
    return lowest if isinstance(lowest, int) else 1


def _needs_certificate(places: Places, charge_point_id: str) -> Failure:
    hint = f"Bind its certificate first: ocpp-gateway cert bind {shlex.quote(charge_point_id)} FILE"
    return Failure(
        f"{charge_point_id} connects by a password: with --min-profile 3 it could not connect at all.",
        places.advice(hint),
    )
