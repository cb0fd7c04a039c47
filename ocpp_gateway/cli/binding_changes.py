"""Binding a certificate to a charge point: in its record in Redis, and told to Kafka and to the person."""

from __future__ import annotations

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

    def with_binding(record: records.Record) -> records.Record:
        in_record = {*bindings.revoked_in(record)}
        in_record |= {
            bindings.fingerprint_of(other) for other in bindings.bindings_of(record) if bindings.is_revoked(other)
        }
        if fingerprint in in_record:
            raise _revoked(places, fingerprint, f" --charge-point {charge_point_id}")
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

    changed(places, work)
    by = "" if "fingerprint" in binding else f" (any certificate with the subject {binding['subject']})"
    click.echo(f"{printable(charge_point_id)} bound to {fingerprint}{printable(by)}")
    click.echo(
        "Its password still holds, until it is bound without --keep-type."
        if keep_type
        else f"A connection that it has now, and may not have any more, ends within {LIVE_SECONDS} seconds.",
        err=True,
    )


def _revoked(places: Places, fingerprint: str, where: str) -> Failure:
    hint = f"If that was a mistake: ocpp-gateway cert unrevoke {fingerprint}{where}"
    return Failure(f"{fingerprint} is revoked.", places.advice(hint))
