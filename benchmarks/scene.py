"""What soak and storm have in common: their options, the gateway under its own limits, and how figures are told."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import servers
from messages import setting
from security import Protection

_ROWS = (Protection.PLAIN, Protection.TLS, Protection.MTLS)


def add_options(parser: argparse.ArgumentParser, *, charge_points: int, addresses: int) -> None:
    """The options of both, with these defaults."""
    parser.add_argument("--charge-points", type=int, default=charge_points)
    parser.add_argument(
        "--addresses", type=int, default=addresses, help="loopback addresses that they come from; 1: as behind a NAT"
    )
    parser.add_argument("--protection", type=Protection, default=Protection.PLAIN, choices=_ROWS)
    parser.add_argument("--seed", type=int, help="the same dice again")
    parser.add_argument(
        "--set", action="append", type=setting, default=[], metavar="NAME=VALUE", help="a setting for the gateway"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


@contextmanager
def gateway(given: argparse.Namespace, count: int, settings: Mapping[str, str]) -> Iterator[servers.Server]:
    """A gateway that knows ``count`` charge points, with all its limits on but for what ``settings`` switch off."""
    with servers.scratch_folder() as directory:
        folder = Path(directory)
        security = given.protection.prepare(folder, count)
        with servers.gateway(folder, count, security=security, settings=settings, keeps_flood_limits=True) as server:
            yield server


def conditions(given: argparse.Namespace, settings: Mapping[str, str]) -> str:
    """In a line: where the charge points come from, and which of the gateway's limits and settings are not as usual."""
    off = [name for name in servers.FLOOD_LIMITS if settings.get(name) in ("0", "0.0")]
    return (
        f"{given.charge_points:,} charge points ({given.protection}) from {given.addresses:,} loopback addresses; "
        f"flood limits that are off: {', '.join(off) or 'none'}; "
        f"settings that are not the defaults: {counts(settings) or 'none'}"
    )


def counts(by_name: Mapping[str, object]) -> str:
    """As text, numbers without needless digits."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name}={value}" for name, value in by_name.items()
    )
