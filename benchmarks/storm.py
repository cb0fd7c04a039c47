"""Thousands of charge points at one node at once, as after an outage of the network: when is everybody in again?

In the first round nobody has been there before; in each further one all connections are reset at once, and all come
back at once. They are charge points: a refusal's Retry-After is kept, and without one they back off. Meanwhile
bystanders, connected from the beginning, send Heartbeats: how long do they wait for their answers? Exits with 1 if
somebody is not in when the time is over, a bystander lost its connection, or the gateway logged an error.

    python benchmarks/storm.py                                 # 5,000 charge points, two rounds: about a minute
    python benchmarks/storm.py --protection tls
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter

import attrs
import servers
from attrs import define, field, frozen
from bystanders import Bystanders, BystandersFailed, Latencies, Watched, bystanders
from calls import boot_notification
from charge_points import raise_open_files
from load import quantile
from messages import machine
from probe import Probe, ProbeFailed, Sample, log_lines
from procfs import most_resident_bytes
from rich.console import Console
from rich.table import Table
from scene import add_options, conditions, counts, gateway
from station import BackOff, Ended, Link, get_in, source_address


@frozen(kw_only=True)
class Round:
    """One storm. Times are seconds from its beginning."""

    began: float
    """time.monotonic()."""
    all_in: float
    """Until the last one was connected, and had its BootNotification answered; of those that made it."""
    half_in: float
    connected: int
    attempts: int
    most_attempts: int
    """Of one charge point."""
    refused: dict[str, int]
    """By status."""
    failed: dict[str, int]
    """Attempts that ended in other ways, by reason."""
    cpu_seconds: float
    """Of the gateway."""
    most_redis_queue_bytes: int
    most_gauges: dict[str, float]
    rss_mb: float
    """In the end."""


@frozen(kw_only=True)
class StormResult:
    """What a run found."""

    charge_points: int
    rounds: list[Round]
    bystanders: dict[str, Latencies]
    """Before the storms, during each, and after them."""
    rss_mb: dict[str, float]
    """Before, the most ever, with all connected, and when all have left."""
    keys: dict[str, int]
    """In the gateway's Redis, in the end."""
    warnings: dict[str, int]
    problems: list[str]
    """Why the run failed; empty: it did not."""


@define(eq=False)
class Storm:
    """The charge points after the bystanders, and what they go through."""

    server: servers.Server
    given: argparse.Namespace
    progress: Console
    chance: random.Random
    _links: dict[int, tuple[Link, asyncio.Task[None]]] = field(init=False, factory=dict)
    """Of those that are in, with the task that listens."""
    _lost: Counter[str] = field(init=False, factory=Counter)
    """Connections that ended although nobody meant them to, by reason."""
    _arrivals: list[float] = field(init=False, factory=list)

    async def run(self, watching: Bystanders) -> StormResult:
        """All rounds, with calm before and after. Raises ProbeFailed and BystandersFailed."""
        given, probe = self.given, Probe(self.server)
        # Our own collector's pauses would delay the storm.
        gc.freeze()
        calm_before = time.monotonic()
        await asyncio.sleep(given.calm)
        base = await probe.take()
        rounds = [await self._round(probe, number) for number in range(1, given.rounds + 1)]
        calm_after = time.monotonic()
        await asyncio.sleep(given.calm)
        after = await probe.take()
        watched = watching.stop()
        self._cut_off()
        end = await self._emptied(probe)
        probe.close()
        spans = {"before": (calm_before, base.at)}
        for number, storm in enumerate(rounds, start=1):
            spans[f"round {number}"] = (storm.began, storm.began + storm.all_in)
        spans["after"] = (calm_after, after.at)
        warnings, errors = log_lines(self.server.log)
        return StormResult(
            charge_points=given.charge_points,
            rounds=rounds,
            bystanders={name: watched.between(*span) for name, span in spans.items()},
            rss_mb={
                "before": base.rss_mb,
                "most": most_resident_bytes(self.server.pid) / 1e6,
                "all connected": after.rss_mb,
                "all gone": end.rss_mb,
            },
            keys=end.keys or {},
            warnings=dict(warnings),
            problems=self._problems(rounds, watched, errors),
        )

    async def _round(self, probe: Probe, number: int) -> Round:
        self._cut_off()
        self._arrivals.clear()
        tally: Counter[str] = Counter()
        looks = [await probe.take(with_keys=False)]
        looking = asyncio.create_task(self._look(probe, looks))
        began = time.monotonic()
        first = self.given.bystanders + 1
        tasks = [
            asyncio.create_task(self._arrive(number, began, tally))
            for number in range(first, first + self.given.charge_points)
        ]
        _, late = await asyncio.wait(tasks, timeout=self.given.longest)
        for task in late:
            task.cancel()
        attempts = [task.result() for task in tasks if task not in late]
        looking.cancel()
        if looking.done() and not looking.cancelled():
            looking.result()
        looks.append(await probe.take(with_keys=False))
        gauges = {name for look in looks for name in look.gauges}
        arrivals = sorted(self._arrivals) or [self.given.longest]
        self.progress.print(f"round {number}: {len(self._arrivals)} in after {arrivals[-1]:.1f} s; {counts(tally)}")
        return Round(
            began=began,
            all_in=arrivals[-1],
            half_in=quantile(arrivals, 0.5),
            connected=len(self._arrivals),
            attempts=tally["attempts"],
            most_attempts=max(attempts, default=0),
            refused={what: count for what, count in sorted(tally.items()) if what.isdecimal()},
            failed={
                what: count for what, count in sorted(tally.items()) if not what.isdecimal() and what != "attempts"
            },
            cpu_seconds=looks[-1].cpu_seconds - looks[0].cpu_seconds,
            most_redis_queue_bytes=max(look.redis_queue_bytes for look in looks),
            most_gauges={name: max(look.gauges.get(name, 0.0) for look in looks) for name in sorted(gauges)},
            rss_mb=looks[-1].rss_mb,
        )

    async def _arrive(self, number: int, began: float, tally: Counter[str]) -> int:
        """Get in, boot, and stay until the round's end; how many attempts that took."""
        given, mine = self.given, Counter[str]()
        source = source_address(number, given.addresses)
        waits = BackOff(minimum=given.back_off, spread=given.back_off, doublings=5).waits(self.chance)
        try:
            while number not in self._links:
                link = await get_in(self.server.target, number, source, waits, mine)
                try:
                    await link.call("BootNotification", boot_notification())
                except Ended as end:
                    mine[f"boot_{end.reason}"] += 1
                    link.abandon()
                    await asyncio.sleep(next(waits))
                else:
                    self._links[number] = link, asyncio.create_task(self._stay(link))
                    self._arrivals.append(time.monotonic() - began)
        finally:
            tally.update(mine)
        return mine["attempts"]

    async def _look(self, probe: Probe, looks: list[Sample]) -> None:
        while True:
            await asyncio.sleep(1.0)
            looks.append(await probe.take(with_keys=False))

    async def _stay(self, link: Link) -> None:
        """Answer pings until the round's end."""
        try:
            await link.listen(None)
        except Ended as end:
            self._lost[end.reason] += 1

    def _cut_off(self) -> None:
        """Reset all connections."""
        for link, staying in self._links.values():
            staying.cancel()
            link.reset()
        self._links.clear()

    async def _emptied(self, probe: Probe) -> Sample:
        end = time.monotonic() + self.given.longest
        while True:
            sample = await probe.take()
            if not sample.gauges.get("ocpp_connections") or time.monotonic() > end:
                return sample
            await asyncio.sleep(0.5)

    def _problems(self, rounds: list[Round], watched: Watched, errors: Counter[str]) -> list[str]:
        wanted = self.given.charge_points
        problems = [
            f"round {number}: {wanted - storm.connected} were not in after {self.given.longest:g} s"
            for number, storm in enumerate(rounds, start=1)
            if storm.connected < wanted
        ]
        problems += [f"{count} connections were lost: {reason}" for reason, count in self._lost.items()]
        problems += [f"{count} bystanders: {what}" for what, count in watched.errors.items()]
        return problems + [f"{count} error lines of {event}" for event, count in errors.items()]


def show(result: StormResult, console: Console) -> None:
    """The figures as tables."""
    table = Table(title=f"Storm: {result.charge_points:,} charge points at once")
    for heading in ("round", "in", "half in s", "all in s", "attempts", "most of one", "CPU s", "RSS MB"):
        table.add_column(heading, justify="right")
    for number, storm in enumerate(result.rounds, start=1):
        table.add_row(
            str(number),
            f"{storm.connected:,}",
            f"{storm.half_in:.1f}",
            f"{storm.all_in:.1f}",
            f"{storm.attempts:,}",
            str(storm.most_attempts),
            f"{storm.cpu_seconds:.1f}",
            f"{storm.rss_mb:.0f}",
        )
    console.print(table)
    table = Table(title="Heartbeats of the bystanders")
    for heading in ("when", "Heartbeats", "p50 ms", "p99 ms", "longest ms"):
        table.add_column(heading, justify="left" if heading == "when" else "right")
    for when, latencies in result.bystanders.items():
        row = (latencies.p50_ms, latencies.p99_ms, latencies.most_ms)
        table.add_row(when, f"{latencies.heartbeats:,}", *(f"{value:.1f}" for value in row))
    console.print(table)
    console.print("RSS, MB: " + ", ".join(f"{when} {value:.1f}" for when, value in result.rss_mb.items()))
    for number, storm in enumerate(result.rounds, start=1):
        console.print(
            f"round {number}: refused {counts(storm.refused) or 'none'}; failed {counts(storm.failed) or 'none'}"
        )
        queued = f"Redis queue B {storm.most_redis_queue_bytes}"
        console.print(
            f"round {number}, the most at once, looked at every second: {queued}, {counts(storm.most_gauges)}"
        )
    console.print(f"keys at the end: {counts(result.keys)}")
    console.print(f"warnings logged: {counts(result.warnings) or 'none'}")
    for problem in result.problems:
        console.print(f"[bold red]{problem}")


def main() -> int:
    parser = argparse.ArgumentParser(description="All charge points at one node at once: when is everybody in again?")
    add_options(parser, charge_points=5000, addresses=500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bystanders", type=int, default=50)
    parser.add_argument("--interval", type=float, default=0.25, help="seconds between a bystander's Heartbeats")
    parser.add_argument("--calm", type=float, default=10.0, help="seconds before and after the storms")
    parser.add_argument("--longest", type=float, default=300.0, help="seconds that a round may take")
    parser.add_argument(
        "--back-off", type=float, default=1.0, help="RetryBackOffWaitMinimum and RetryBackOffRandomRange, seconds"
    )
    given = parser.parse_args()
    if (allowed := raise_open_files(given.charge_points + 1000)) < given.charge_points + 200:
        print(f"this host allows {allowed} open files: fewer charge points, please", file=sys.stderr)
        return 1
    settings = dict(given.set)
    progress = Console(stderr=True, highlight=False)
    progress.print(conditions(given, settings))
    try:
        with (
            gateway(given, given.charge_points + given.bystanders, settings) as server,
            bystanders(server.target, given.bystanders, given.addresses, given.interval) as watching,
        ):
            result = asyncio.run(Storm(server, given, progress, random.Random(given.seed)).run(watching))
    except (ProbeFailed, BystandersFailed, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"machine": machine(), "conditions": conditions(given, settings), **attrs.asdict(result)}))
    else:
        show(result, Console(highlight=False))
    return 1 if result.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
