"""The one command: what a validated, durable message costs, next to the plainest echo on the same stack.

The echo server (Autobahn + Twisted, defaults) and the gateway (validation, Kafka with acks=all before the answer) get
the same MeterValues in turns, A B A B, so that whatever else the machine does hits both. CPU per message is the figure
to compare between machines and days; messages per second depend on who else is running.

    python benchmarks/messages.py                 # 5 pairs of 5 s, at 50 and at 200 connections: about 2.5 minutes
    python benchmarks/messages.py --json > result.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import servers
from attrs import frozen
from charge_points import Fleet, LoadError, raise_open_files
from load import LoadResult
from load import run as load
from rich.console import Console
from rich.table import Table

_BUSY_GENERATOR = 0.9


@frozen
class Turn:
    """One measurement of one server."""

    server: str
    pair: int
    result: LoadResult


def measure(server: servers.Server, pair: int, given: argparse.Namespace, connections: int) -> Turn:
    """Connect, start sessions, load for the time given, leave."""
    fleet = Fleet(server.target)
    try:
        fleet.open(connections)
        fleet.begin_sessions()
        server.settle()
        result = load(fleet, given.seconds, warm_up=given.warm_up, server_pid=server.pid)
    finally:
        fleet.close()
    server.settle()
    return Turn(server.name, pair, result)


def run(given: argparse.Namespace, progress: Console) -> list[Turn]:
    """All pairs, at every number of connections."""
    most = max(given.connections)
    raise_open_files(most + 200)
    turns = []
    with servers.scratch_folder() as directory, ExitStack() as stack:
        settings = dict(given.set)
        options = (
            ("--profile", str(given.profile.resolve()), "--profiler", "cprofile", "--savestats")
            if given.profile
            else ()
        )
        contestants = []
        if given.only != "gateway":
            contestants.append(stack.enter_context(servers.echo(directory)))
        if given.only != "echo":
            gateway = servers.gateway(directory, most, settings=settings, twistd_options=options)
            contestants.append(stack.enter_context(gateway))
        for connections in given.connections:
            for pair in range(1, given.pairs + 1):
                for server in contestants:
                    turn = measure(server, pair, given, connections)
                    turns.append(turn)
                    progress.print(
                        f"{connections} connections, pair {pair}, {server.name}: "
                        f"{turn.result.messages_per_second:,.0f}/s, {_us(turn):.1f} us CPU"
                    )
    return turns


def _us(turn: Turn) -> float:
    return turn.result.server_cpu_us_per_message or 0.0


def summarize(turns: list[Turn]) -> list[dict[str, Any]]:
    """Medians per server and number of connections, and the medians of the pairs' ratios."""
    summary: list[dict[str, Any]] = []
    for connections in sorted({turn.result.connections for turn in turns}):
        here = [turn for turn in turns if turn.result.connections == connections]
        for name in ("echo", "gateway"):
            mine = [turn.result for turn in here if turn.server == name]
            if mine:
                summary.append(_medians(name, connections, mine))
        echo = {turn.pair: turn for turn in here if turn.server == "echo"}
        gateway = {turn.pair: turn for turn in here if turn.server == "gateway"}
        pairs = [(echo[pair], gateway[pair]) for pair in sorted(echo.keys() & gateway.keys())]
        if pairs:
            rates = [ours.result.messages_per_second / base.result.messages_per_second for base, ours in pairs]
            summary.append(
                {
                    "server": "gateway / echo",
                    "connections": connections,
                    "messages_per_second_ratio": median(rates),
                    "messages_per_second_ratios": rates,
                    "cpu_per_message_ratio": median(_us(ours) / _us(base) for base, ours in pairs),
                    "messages_per_cpu_second_ratio": median(_us(base) / _us(ours) for base, ours in pairs),
                }
            )
    return summary


def _medians(name: str, connections: int, results: list[LoadResult]) -> dict[str, Any]:
    errors: dict[str, int] = {}
    for result in results:
        for reason, count in result.errors.items():
            errors[reason] = errors.get(reason, 0) + count
    return {
        "server": name,
        "connections": connections,
        "messages_per_second": median(result.messages_per_second for result in results),
        "best_messages_per_second": max(result.messages_per_second for result in results),
        "p50_ms": median(result.p50_ms for result in results),
        "p99_ms": median(result.p99_ms for result in results),
        "server_cpu_us_per_message": median(result.server_cpu_us_per_message or 0.0 for result in results),
        "generator_cpu_share": median(result.generator_cpu_share for result in results),
        "errors": errors,
    }


def show(summary: list[dict[str, Any]], console: Console) -> None:
    """The summary as a table."""
    table = Table(title="1.6 MeterValues, 645 bytes, one CALL outstanding per connection (medians)")
    for heading in ("conns", "server", "msg/s", "p50 ms", "p99 ms", "us CPU/msg", "generator"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for row in summary:
        connections = str(row["connections"])
        if "messages_per_second_ratio" in row:
            rate, cpu = row["messages_per_second_ratio"], row["cpu_per_message_ratio"]
            table.add_row(connections, "ratio", f"{rate:.2f}", "", "", f"{cpu:.2f}", "")
            table.add_section()
            continue
        busy = row["generator_cpu_share"] > _BUSY_GENERATOR
        table.add_row(
            connections,
            row["server"],
            f"{row['messages_per_second']:,.0f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
            f"{row['server_cpu_us_per_message']:.1f}",
            f"{row['generator_cpu_share']:.0%}" + (" (it was the limit)" if busy else ""),
        )
    table.caption = "ratio: gateway / echo, median of the pairs"
    console.print(table)
    for row in summary:
        if "messages_per_cpu_second_ratio" in row:
            share = row["messages_per_cpu_second_ratio"]
            console.print(f"{row['connections']} connections: {share:.2f} of the echo's messages per second of CPU")
        if row.get("errors"):
            console.print(f"[bold red]{row['server']}, {row['connections']} connections: {row['errors']}")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{
            package: version(package)
            for package in ("twisted", "autobahn", "confluent-kafka", "orjson", "jsonschema-rs")
        },
    }


def setting(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"NAME=VALUE is wanted, not {assignment!r}")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description="Messages per second and CPU per message: gateway against echo.")
    parser.add_argument("--pairs", type=int, default=5, help="how often each server has its turn")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured seconds of a turn")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before them")
    parser.add_argument("--connections", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--only", choices=("echo", "gateway"), help="leave the other one out")
    parser.add_argument(
        "--set", action="append", type=setting, default=[], metavar="NAME=VALUE", help="a setting for the gateway"
    )
    parser.add_argument(
        "--profile", type=Path, help="run the gateway under cProfile; write its statistics here, for python -m pstats"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    try:
        turns = run(given, Console(stderr=True, highlight=False))
    except (LoadError, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    summary = summarize(turns)
    if given.json:
        print(json.dumps({"machine": machine(), "summary": summary, "turns": [attrs.asdict(turn) for turn in turns]}))
    else:
        show(summary, Console())
    return 1 if any(turn.result.errors for turn in turns) else 0


if __name__ == "__main__":
    raise SystemExit(main())
