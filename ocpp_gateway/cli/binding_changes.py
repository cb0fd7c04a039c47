"""Binding a certificate to a charge point: in its record in Redis, and told to Kafka and to the person."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocpp_gateway.cli import bindings, records
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.identity_changes import changed, edit

if TYPE_CHECKING:
    from ocpp_gateway.auth.certificates import ClientCertificate
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.identities import Identities

LIVE_SECONDS = 5
"""So soon, at the latest, a live connection ends that its record does not let in any more."""

LIVE_NOTE = f"A connection that it has now, and may not have any more, ends within {LIVE_SECONDS} seconds."


def charge_points_certificate(path: Path) -> ClientCertificate:
    """The certificate in a file, if a charge point can show it. Raises Failure; warns of one that is over."""
    from ocpp_gateway.cli.certificate_files import certificate_in, facts_of, is_authority

    certificate = certificate_in(path)
    if is_authority(certificate):
        raise Failure(
            f"{path} has the certificate of an authority, not of a charge point.",
            "Authorities belong into the gateway's OCPP_TLS_CA_PATH.",
        )
    facts = facts_of(certificate, path)
    if facts.not_after < time.time():
        click.echo("Warning: the certificate has expired.", err=True)
    return facts


def tell_common_name(charge_point_id: str, facts: ClientCertificate) -> None:
    """Say what its common name means to the gateway, where that is not the charge point's identity."""
    from ocpp_gateway.auth.bindings import names
    from ocpp_gateway.simulator.messages import LONGEST_SERIAL_NUMBER

    if names(facts, charge_point_id):
        return
    name = facts.common_name
    if name is not None and len(name) <= LONGEST_SERIAL_NUMBER:
        text = (
            f"Its common name {name} is not its identity, so it is taken for the charge point's serial number: with "
            "OCPP 2.x a BootNotification that names another one ends the connection (OCPP 2.0.1 B01.FR.11)."
        )
    else:
        said = "no common name" if name is None else f"the common name {name}"
        text = (
            f"Warning: the certificate has {said}: neither the charge point's identity nor, for OCPP 2.x, a serial "
            f"number (1 to {LONGEST_SERIAL_NUMBER} characters), so no BootNotification is compared with it."
        )
    click.echo(printable(text), err=True)


def bind_to(
    places: Places,
    charge_point_id: str,
    facts: ClientCertificate,
    binding: records.Record,
    *,
    replace: bool = False,
    keep_type: bool = False,
    reason: str = "",
) -> None:
    """Write ``binding``, which asks for the certificate with these ``facts``, and say so. Raises Failure."""
    fingerprint = facts.fingerprint
    had_certificate = False

    def with_binding(record: records.Record) -> records.Record:
        nonlocal had_certificate
        had_certificate = records.auth_type_of(record).strip().lower() == bindings.MTLS
        in_record = {*bindings.revoked_in(record)}
        in_record |= {
            bindings.fingerprint_of(other) for other in bindings.bindings_of(record) if bindings.is_revoked(other)
        }
        if fingerprint in in_record:
            raise _revoked(places, fingerprint, f" --charge-point {shlex.quote(charge_point_id)}")
        return bindings.bound(record, binding, replace=replace, keep_type=keep_type, now=time.time())

    async def work(identities: Identities) -> list[Deed]:
        from ocpp_gateway.cli.audit import Deed

        if (await identities.look_up(charge_point_id, fingerprint)).is_revoked:
            raise _revoked(places, fingerprint, "")
        record, _ = await edit(identities, charge_point_id, with_binding)
        return [
            Deed(
                charge_point_id=charge_point_id,
                change="certificate_bound",
                record=record,
                reason=reason,
                fingerprint=fingerprint,
                serial_number=facts.serial_number,
            )
        ]

    record = changed(places, work)[0].record
    by = (
        ""
        if "fingerprint" in binding
        else f" (any certificate with the subject {binding['subject']} from {binding['issuer']})"
    )
    click.echo(f"{printable(charge_point_id)} bound to {fingerprint}{printable(by)}")
    still_has_password = keep_type and not had_certificate
    if still_has_password:
        # From then on it would be a lower security profile than the last one.
        until = "" if record.get("allowProfileDowngrade") is True else " until it first connects with the certificate"
        click.echo(f"Its password still holds{until}.", err=True)
    if replace or not still_has_password:
        click.echo(LIVE_NOTE, err=True)


def _revoked(places: Places, fingerprint: str, where: str) -> Failure:
    hint = f"If that was a mistake: ocpp-gateway cert unrevoke {fingerprint}{where}"
    return Failure(f"{fingerprint} is revoked.", places.advice(hint))
