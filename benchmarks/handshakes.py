"""What a connection costs until it is a WebSocket: plain, TLS and mutual TLS, next to the plainest servers.

Up to four servers get the same visits in turns, A B C D A B C D, so that whatever else the machine does hits all:

* echo: Autobahn + Twisted with the TLS of Twisted's CertificateOptions, everything else at its defaults;
* gateway: identity record and session claim in Redis, password or bound certificate checked, session announced;
* openssl: the host's ``openssl s_server``, and loop: the OpenSSL that Twisted and the gateway use, in a plain loop.
  These two are limits, not contestants: they do TLS and a line of text, without WebSocket, one connection at a time.

CPU per handshake of the server's process is the figure to compare: the generator needs about as much arithmetic for
each handshake as the server, so handshakes per second depend on it too.

    python benchmarks/handshakes.py                          # 5 rounds of 2 s per server and row: about 5 minutes
    python benchmarks/handshakes.py --rows mtls-ecdsa --json > result.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import servers
from attrs import frozen
from charge_points import LoadError
from cryptography.hazmat.backends.openssl import backend
from handshake_load import HandshakeLoad, HandshakeResult
from messages import machine, setting
from rich.console import Console
from rich.table import Table
from security import Protection

SERVERS = ("echo", "gateway", "openssl", "loop")
_LIMITS = ("openssl", "loop")
_BUSY_GENERATOR = 0.9


@frozen
class Turn:
    """One measurement of one server."""

    row: str
    server: str
    round: int
    result: HandshakeResult


def run(given: argparse.Namespace, progress: Console) -> list[Turn]:
    """Every row, with servers of its own."""
    turns = []
    with servers.scratch_folder() as directory:
        for protection in given.rows:
            folder = directory / protection
            folder.mkdir()
            turns += _run_row(protection, folder, given, progress)
    return turns


def _run_row(protection: Protection, directory: Path, given: argparse.Namespace, progress: Console) -> list[Turn]:
    security = protection.prepare(directory, given.charge_points)
    turns = []
    with ExitStack() as stack:
        contestants = []
        for name in given.servers:
            if name == "echo":
                server = stack.enter_context(servers.echo(directory, security))
            elif name == "gateway":
                server = stack.enter_context(
                    servers.gateway(
                        directory,
                        given.charge_points,
                        security=security,
                        settings=dict(given.set),
                        twistd_options=_profiling(given.profile, protection),
                    )
                )
            elif security is None:
                continue  # the limits know nothing but TLS
            else:
                start = servers.openssl if name == "openssl" else servers.accept_loop
                server = stack.enter_context(start(directory, security))
            load = HandshakeLoad(server.target, given.charge_points, given.in_flight)
            if security is not None and security.resumes:
                load.prime()
            contestants.append((server, load))
        for round_number in range(1, given.rounds + 1):
            for server, load in contestants:
                server.settle()
                result = load.run(given.seconds, warm_up=given.warm_up, server_pid=server.pid)
                turns.append(Turn(protection, server.name, round_number, result))
                progress.print(
                    f"{protection}, round {round_number}, {server.name}: {result.handshakes_per_second:,.0f}/s, "
                    f"{result.server_cpu_us_per_handshake:,.0f} us CPU"
                )
    return turns


def _profiling(path: Path | None, row: str) -> tuple[str, ...]:
    if path is None:
        return ()
    target = path.with_stem(f"{path.stem}-{row}").resolve()
    return ("--profile", str(target), "--profiler", "cprofile", "--savestats")


def summarize(turns: list[Turn]) -> list[dict[str, Any]]:
    """Medians per row and server, and the medians of each round's ratios to the echo."""
    summary = []
    for row in dict.fromkeys(turn.row for turn in turns):
        here = [turn for turn in turns if turn.row == row]
        echo = {turn.round: turn.result for turn in here if turn.server == "echo"}
        for name in dict.fromkeys(turn.server for turn in here):
            mine = {turn.round: turn.result for turn in here if turn.server == name}
            entry = {"row": row, "server": name, **_medians(list(mine.values()))}
            rounds = sorted(mine.keys() & echo.keys())
            if rounds and name != "echo":
                entry |= _ratios([(echo[number], mine[number]) for number in rounds])
            summary.append(entry)
    return summary


def _medians(results: list[HandshakeResult]) -> dict[str, Any]:
    errors: dict[str, int] = {}
    for result in results:
        for reason, count in result.errors.items():
            errors[reason] = errors.get(reason, 0) + count
    return {
        "handshakes_per_second": median(result.handshakes_per_second for result in results),
        "best_handshakes_per_second": max(result.handshakes_per_second for result in results),
        "p50_ms": median(result.p50_ms for result in results),
        "p99_ms": median(result.p99_ms for result in results),
        "server_cpu_us_per_handshake": median(result.server_cpu_us_per_handshake for result in results),
        "generator_cpu_us_per_handshake": median(result.generator_cpu_us_per_handshake for result in results),
        "generator_cpu_share": median(result.generator_cpu_share for result in results),
        "errors": errors,
    }


def _ratios(pairs: list[tuple[HandshakeResult, HandshakeResult]]) -> dict[str, Any]:
    rates = [mine.handshakes_per_second / echo.handshakes_per_second for echo, mine in pairs]
    costs = [mine.server_cpu_us_per_handshake / echo.server_cpu_us_per_handshake for echo, mine in pairs]
    return {
        "handshakes_per_second_ratio": median(rates),
        "handshakes_per_second_ratios": rates,
        "cpu_per_handshake_ratio": median(costs),
        "cpu_per_handshake_ratios": costs,
        "handshakes_per_cpu_second_ratio": median(1 / cost for cost in costs),
    }


def show(summary: list[dict[str, Any]], in_flight: int, console: Console) -> None:
    """The summary as a table."""
    table = Table(title=f"Handshakes, {in_flight} in flight, TLS 1.3 (medians)")
    for heading in ("row", "server"):
        table.add_column(heading, no_wrap=True)
    for heading in ("hs/s", "ratio", "p99 ms", "us CPU/hs", "ratio", "generator"):
        table.add_column(heading, justify="right")
    shown = None
    for entry in summary:
        if shown not in (None, entry["row"]):
            table.add_section()
        has_ratios = "cpu_per_handshake_ratio" in entry
        busy = entry["generator_cpu_share"] > _BUSY_GENERATOR
        table.add_row(
            entry["row"] if shown != entry["row"] else "",
            entry["server"] + ("*" if entry["server"] in _LIMITS else ""),
            f"{entry['handshakes_per_second']:,.0f}",
            f"{entry['handshakes_per_second_ratio']:.2f}" if has_ratios else "",
            f"{entry['p99_ms']:.1f}",
            f"{entry['server_cpu_us_per_handshake']:,.0f}",
            f"{entry['cpu_per_handshake_ratio']:.2f}" if has_ratios else "",
            f"{entry['generator_cpu_share']:.0%}" + (" (limit)" if busy else ""),
        )
        shown = entry["row"]
    table.caption = "ratio: to the echo of the row, median of the rounds. *: TLS only"
    console.print(table)
    for entry in summary:
        if entry["server"] == "gateway" and "handshakes_per_cpu_second_ratio" in entry:
            share = entry["handshakes_per_cpu_second_ratio"]
            console.print(f"{entry['row']}: {share:.2f} of the echo's handshakes per second of CPU")
        if entry["errors"]:
            console.print(f"[bold red]{entry['row']}, {entry['server']}: {entry['errors']}")


def _openssl_versions() -> dict[str, str]:
    binary = shutil.which("openssl")
    command = subprocess.run([binary, "version"], capture_output=True, text=True, check=False) if binary else None
    return {
        "openssl of echo, gateway and loop": backend.openssl_version_text(),
        "openssl of s_server": command.stdout.strip() if command else "",
        "openssl of the generator": ssl.OPENSSL_VERSION,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Handshakes per second and CPU per handshake: gateway against echo.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server has its turn")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured seconds of a turn")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before them")
    parser.add_argument("--in-flight", type=int, default=32, help="connections at the same time")
    parser.add_argument("--charge-points", type=int, default=256, help="identities that take turns")
    parser.add_argument("--rows", type=Protection, nargs="+", default=list(Protection), choices=list(Protection))
    parser.add_argument("--servers", nargs="+", default=SERVERS, choices=SERVERS)
    parser.add_argument(
        "--set", action="append", type=setting, default=[], metavar="NAME=VALUE", help="a setting for the gateway"
    )
    parser.add_argument(
        "--profile", type=Path, help="run the gateway under cProfile; write NAME-ROW here, for python -m pstats"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    if given.charge_points < 2 * given.in_flight:
        parser.error("--charge-points must be at least twice --in-flight, or charge points displace themselves")
    try:
        turns = run(given, Console(stderr=True, highlight=False))
    except (LoadError, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    summary = summarize(turns)
    if given.json:
        facts = machine() | _openssl_versions()
        print(json.dumps({"machine": facts, "summary": summary, "turns": [attrs.asdict(turn) for turn in turns]}))
    else:
        show(summary, given.in_flight, Console())
    return 1 if any(turn.result.errors for turn in turns) else 0


if __name__ == "__main__":
    raise SystemExit(main())
