"""``ocpp-gateway cert``: which client certificates open which charge point, and which open nothing any more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from ocpp_gateway.cli import bindings, records
from ocpp_gateway.cli.binding_changes import LIVE_SECONDS, bind_to, charge_points_certificate, tell_common_name
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.identity_changes import changed, edit, unknown
from ocpp_gateway.cli.options import json_option, reason_option
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

_charge_point_option = click.option(
    "--charge-point", "charge_point_id", metavar="ID", help="In this charge point's record, too."
)


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """A date or a time, ISO 8601; without a zone: UTC."""
    if value is None:
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("must look like 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


@click.group(short_help="Client certificates: bind, revoke, unrevoke, list.")
def cert() -> None:
    """Client certificates (OCPP security profile 3): bind them to charge points, revoke them, list them.

    Bindings are in the identity records in Redis, revocations there and for all charge points together. A live
    connection that may not be any more ends within 5 seconds. When Kafka is named (--kafka-brokers, KAFKA_BROKERS or
    --dev), each change is also an event on the topic cpms.audit.events.
    """


@cert.command()
@click.argument("charge_point_id")
@click.argument("cert_file", type=click.Path(path_type=Path))
@click.option("--valid-from", callback=_time, metavar="TIME", help="It opens the charge point from then on (ISO 8601).")
@click.option(
    "--valid-to", callback=_time, metavar="TIME", help="... and until then [default: as long as it is valid]."
)
@click.option(
    "--subject-only/--fingerprint",
    "by_subject",
    default=False,
    help="Bind whatever certificate has this subject and this issuer; or this very certificate [default].",
)
@click.option("--replace", is_flag=True, help="In place of the certificates bound so far, not beside them.")
@click.option(
    "--keep-type",
    is_flag=True,
    help="A password or token still holds, and so does the certificate where it comes without one: for the time "
    "until every charge point shows its certificate.",
)
@reason_option
@click.pass_obj
def bind(
    places: Places,
    charge_point_id: str,
    cert_file: Path,
    *,
    valid_from: datetime | None,
    valid_to: datetime | None,
    by_subject: bool,
    replace: bool,
    keep_type: bool,
    reason: str,
) -> None:
    """Let a charge point in by the certificate in CERT_FILE (PEM or DER), and no longer by a password.

    The binding asks for fingerprint and serial number, so it holds for this one certificate: bind the next one beside
    it before the charge point gets it, and the change needs no moment. With --subject-only it holds for every renewal.

    A common name of at most 25 characters that is not the identity is taken for the serial number of the charge point:
    with OCPP 2.x its BootNotification has to name the same one (OCPP 2.0.1 B01.FR.11).
    """
    if valid_from is not None and valid_to is not None and valid_from >= valid_to:
        raise click.UsageError("--valid-from must be before --valid-to.")
    facts = charge_points_certificate(cert_file)
    try:
        binding = bindings.binding_of(facts, by_subject=by_subject, valid_from=valid_from, valid_to=valid_to)
    except ValueError as error:
        raise Failure(f"{cert_file} cannot be bound like this: {error}.", "Bind it without --subject-only.") from None
    if valid_to is not None and valid_to.timestamp() < time.time():
        click.echo("Warning: --valid-to is over already: the binding opens nothing.", err=True)
    tell_common_name(charge_point_id, facts)
    bind_to(places, charge_point_id, facts, binding, replace=replace, keep_type=keep_type, reason=reason)


@cert.command()
@click.argument("target", metavar="FINGERPRINT|CERT_FILE")
@_charge_point_option
@click.option(
    "--ttl",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Forget it after this time [default: never]. A record never forgets.",
)
@reason_option
@click.pass_obj
def revoke(places: Places, target: str, *, charge_point_id: str | None, ttl: int | None, reason: str) -> None:
    """Revoke a certificate, for all charge points and at once."""
    named = _Named.by(target)

    async def work(identities: Identities) -> list[Deed]:
        record = await _record(identities, charge_point_id)
        await identities.revoke(named.fingerprint, ttl)
        if charge_point_id is not None:
            record, _ = await edit(identities, charge_point_id, _applied(bindings.revoked, named.fingerprint))
        return [named.deed("certificate_revoked", charge_point_id, record, reason, ttl)]

    changed(places, work)
    until = "" if ttl is None else f", for {ttl} s"
    click.echo(f"{named.fingerprint} revoked{until}")
    click.echo(f"A connection that was opened with it ends within {LIVE_SECONDS} seconds.", err=True)


@cert.command()
@click.argument("target", metavar="FINGERPRINT|CERT_FILE")
@_charge_point_option
@reason_option
@click.pass_obj
def unrevoke(places: Places, target: str, *, charge_point_id: str | None, reason: str) -> None:
    """Take a revocation back. What a record or a revocation list (CRL) says besides still holds."""
    named = _Named.by(target)

    async def work(identities: Identities) -> list[Deed]:
        record = await _record(identities, charge_point_id)
        done = await identities.unrevoke(named.fingerprint)
        if charge_point_id is not None:
            record, in_record = await edit(identities, charge_point_id, _applied(bindings.unrevoked, named.fingerprint))
            done = done or in_record
        return [named.deed("certificate_unrevoked", charge_point_id, record, reason)] if done else []

    done = changed(places, work)
    click.echo(f"{named.fingerprint} " + ("no longer revoked" if done else "was not revoked"))


@cert.command("list")
@click.argument("charge_point_id", required=False)
@json_option
@click.pass_obj
def list_certificates(places: Places, charge_point_id: str | None, as_json: bool) -> None:
    """List the certificates bound to a charge point; without one, of all, and every fingerprint that is revoked."""

    async def work(reactor: Any) -> tuple[list[tuple[str, bytes]], list[str]]:
        async def read(client: Any, identities: Identities) -> tuple[list[tuple[str, bytes]], list[str]]:
            revoked = [fingerprint async for fingerprint in identities.revoked()]
            if charge_point_id is None:
                return [entry async for entry in identities.scan()], revoked
            raw = await identities.get(charge_point_id)
            if raw is None:
                raise unknown(charge_point_id)
            return [(charge_point_id, raw)], revoked

        return await with_redis(places, reactor, read)

    found, revoked_for_all = run_in_reactor(work)
    revoked = sorted(revoked_for_all)
    rows = []
    for cp_id, raw in sorted(found):
        record = records.decode(raw) or {}
        of_record = bindings.revoked_in(record)
        for binding in bindings.bindings_of(record):
            rows.append((cp_id, binding, bindings.state_of(binding, [*of_record, *revoked], time.time())))
        if charge_point_id is not None:
            revoked = sorted({*of_record, *({bindings.fingerprint_of(row[1]) for row in rows} & set(revoked))})
    if as_json:
        listed = [{"chargePointId": cp_id, **binding, "state": state} for cp_id, binding, state in rows]
        click.echo(json.dumps({"bindings": listed, "revokedFingerprints": revoked}, indent=2))
        return
    from ocpp_gateway.cli.tables import bindings_view, display

    display(bindings_view(rows))
    for fingerprint in revoked:
        click.echo(f"revoked: {printable(fingerprint)}")
    click.echo(f"{len(rows)} binding{'' if len(rows) == 1 else 's'}, {len(revoked)} revoked", err=True)


@frozen
class _Named:
    """A certificate, as somebody named it."""

    fingerprint: str
    serial_number: str | None = None

    @classmethod
    def by(cls, target: str) -> _Named:
        from ocpp_gateway.cli.certificate_files import certificate_in, facts_of, fingerprint_in

        path = Path(target)
        fingerprint = fingerprint_in(target)
        if fingerprint is not None and not path.exists():
            return cls(fingerprint)
        try:
            facts = facts_of(certificate_in(path), path)
        except Failure as failure:
            hint = "" if path.exists() else "A fingerprint is SHA-256: 64 hexadecimal digits, with or without colons."
            raise Failure(failure.message, hint) from None
        return cls(facts.fingerprint, facts.serial_number)

    def deed(
        self, change: str, charge_point_id: str | None, record: records.Record, reason: str, ttl: int | None = None
    ) -> Deed:
        from ocpp_gateway.cli.audit import Deed

        return Deed(
            charge_point_id=charge_point_id,
            change=change,
            record=record,
            reason=reason,
            fingerprint=self.fingerprint,
            serial_number=self.serial_number or bindings.serial_number_in(record, self.fingerprint),
            expires_in=ttl,
        )


def _applied(
    change: Callable[[records.Record, str, float], records.Record | None], fingerprint: str
) -> Callable[[records.Record], records.Record | None]:
    return lambda record: change(record, fingerprint, time.time())


async def _record(identities: Identities, charge_point_id: str | None) -> records.Record:
    """The record that the command is about, empty without one. Raises Failure before anything is changed."""
    if charge_point_id is None:
        return {}
    raw = await identities.get(charge_point_id)
    if raw is None:
        raise unknown(charge_point_id)
    return records.decode(raw) or {}
