"""Resident memory per idle connection, plain, over TLS and over mutual TLS: an Autobahn + Twisted echo and the gateway.

Each server is a fresh process that has first served a few connections, so that what every program loads once is not
counted; then all connections open and stay. Measured twice: after the handshakes, and after one answered MeterValues
on each.

    python benchmarks/memory.py                        # 2,000 connections, six servers: about a minute
    python benchmarks/memory.py --rows plain
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

import attrs
import servers
from attrs import frozen
from calls import meter_values
from charge_points import Connection, Fleet, LoadError, raise_open_files
from procfs import resident_bytes
from rich.console import Console
from rich.table import Table
from security import Protection

_ROWS = (Protection.PLAIN, Protection.TLS, Protection.MTLS)
_WARMING = 50
"""Connections that come and go before the base is read."""


@frozen(kw_only=True)
class Footprint:
    """What one server needed. kB are 1,000 bytes."""

    row: str
    server: str
    connections: int
    base_mb: float
    handshake_kb: float
    answered_kb: float


def _payload(connection: Connection) -> dict[str, Any]:
    return meter_values(connection.transaction_id)


def measure(row: str, server: servers.Server, connections: int, hold: float) -> Footprint:
    """Open, wait, read; CALL, wait, read."""
    warming = Fleet(server.target)
    try:
        warming.open(_WARMING)
        warming.call_each("MeterValues", _payload)
    finally:
        warming.close()
    time.sleep(hold)
    base = resident_bytes(server.pid)
    fleet = Fleet(server.target)
    try:
        fleet.open(connections, first=_WARMING + 1)
        time.sleep(hold)
        opened = resident_bytes(server.pid)
        fleet.call_each("MeterValues", _payload)
        time.sleep(hold)
        answered = resident_bytes(server.pid)
    finally:
        fleet.close()
    return Footprint(
        row=row,
        server=server.name,
        connections=connections,
        base_mb=base / 1e6,
        handshake_kb=(opened - base) / connections / 1e3,
        answered_kb=(answered - base) / connections / 1e3,
    )


def run(rows: list[Protection], connections: int, hold: float) -> list[Footprint]:
    """Both servers of every row, one after the other."""
    footprints = []
    with servers.scratch_folder() as directory:
        for row in rows:
            folder = directory / row
            folder.mkdir()
            count = connections + _WARMING
            security = row.prepare(folder, count)
            contestants: tuple[AbstractContextManager[servers.Server], ...] = (
                servers.echo(folder, security),
                servers.gateway(folder, count, security=security),
            )
            for contestant in contestants:
                with contestant as server:
                    footprints.append(measure(row, server, connections, hold))
    return footprints


def show(footprints: list[Footprint]) -> None:
    """The figures as a table."""
    table = Table(title=f"Resident memory, {footprints[0].connections:,} idle connections")
    for heading in ("row", "server", "base MB", "kB per connection", "... after one CALL", "against the echo"):
        table.add_column(heading, justify="left" if heading in ("row", "server") else "right")
    echo = {footprint.row: footprint for footprint in footprints if footprint.server == "echo"}
    for footprint in footprints:
        table.add_row(
            footprint.row if footprint.server == "echo" else "",
            footprint.server,
            f"{footprint.base_mb:.0f}",
            f"{footprint.handshake_kb:.1f}",
            f"{footprint.answered_kb:.1f}",
            f"{footprint.answered_kb / echo[footprint.row].answered_kb:.2f}",
        )
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Resident memory per idle connection: gateway against echo.")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rows", type=Protection, nargs="+", default=list(_ROWS), choices=_ROWS)
    parser.add_argument("--hold", type=float, default=2.0, help="seconds of rest before memory is read")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    allowed = raise_open_files(given.connections + 500)
    if allowed < given.connections + 200:
        print(f"this host allows {allowed} open files: fewer connections, please", file=sys.stderr)
        return 1
    try:
        footprints = run(given.rows, given.connections, given.hold)
    except (LoadError, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps([attrs.asdict(footprint) for footprint in footprints]))
    else:
        show(footprints)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
