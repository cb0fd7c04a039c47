"""``ocpp-gateway pki show``: what is in files of certificates."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from ocpp_gateway.cli.failure import Failure


@click.command(short_help="What is in files of certificates and revocation lists.")
@click.argument("place", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(place: Path | None, as_json: bool) -> None:
    """Show the certificates and revocation lists in a file, PEM or DER, or in a directory [default: pki]."""
    from ocpp_gateway.cli.certificate_files import Described, contents, described, files_of

    chosen = place or Path("pki")
    if not chosen.exists():
        raise Failure(f"There is no {chosen}.", "Name a file or a directory, or make one with: ocpp-gateway pki init")
    found: dict[tuple[str, str], Described] = {}
    for path in files_of(chosen):
        for content in contents(path):
            description = described(content, path)
            # An authority is in every chain file: it is told where it comes first.
            found.setdefault((description.kind, json.dumps(description.members)), description)
    now = time.time()
    if as_json:
        shown = [
            {"file": str(each.file), "kind": each.kind, **each.members, "daysLeft": each.days_left(now)}
            for each in found.values()
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    from ocpp_gateway.cli.tables import certificate_view, display

    for number, each in enumerate(found.values()):
        if number:
            click.echo()
        display(certificate_view(each, now))
    if not found:
        raise Failure(f"{chosen} has no certificates.")
