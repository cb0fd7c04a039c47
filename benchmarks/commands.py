"""What a command costs: from Kafka's record to the CALL at the charge point, and to its final event.

Two nodes share Redis and Kafka, and half of the charge points, of both versions, are connected to each; so about every
second command is read by one node and sent by the other. First commands come at a steady rate, then all at once, and
then, with --silent, at the same rate while some charge points never answer. A plain consumer reads the same requests:
what it waits belongs to Kafka. Exits with 1 if a command came out of order, twice, or while another CALL was in flight,
if one had not exactly one final event, or a wrong one, or if a gateway logged an error.

    python benchmarks/commands.py                     # 1,000 commands for 200 charge points, 200/s: about half a minute
    python benchmarks/commands.py --silent 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs
import servers
from attrs import define, field, frozen
from back_end import FETCH_WAIT_MS, BackEnd, BackEndFailed, back_end
from charge_points import LoadError, raise_open_files
from commanded import Commanded, Witness, connect
from load import no_garbage_collection, quantile
from messages import machine, setting
from probe import log_lines
from procfs import cpu_seconds
from rich.console import Console
from rich.table import Table
from scene import counts
from station import Ended

_GOAL_MS = 50.0
"""p99 from the request to the CALL, at the rate."""

_TIMEOUT = 60.0
"""Seconds that a command may take; so long that it never does, however slow the machine is."""
_SILENT_TIMEOUT = 5.0
_REBALANCING_SECONDS = 5.0
"""Until the two nodes have shared out the partitions: the first hears of the second at its next heartbeat."""
_IDLE_SECONDS = 3.0
_STRAGGLERS_SECONDS = 1.0
"""For events that must not come any more."""

_ANSWERED = ("CommandAccepted",)
_UNANSWERED = ("CommandTimeout (no_response)", "CommandFailed (command_expired)", "CommandFailed (outbox_full)")


@frozen(kw_only=True)
class Times:
    """Of all commands to charge points that answer, from the request on."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Times:
        ordered = sorted(1e3 * took for took in seconds) or [0.0]
        return cls(
            p50_ms=quantile(ordered, 0.50),
            p95_ms=quantile(ordered, 0.95),
            p99_ms=quantile(ordered, 0.99),
            most_ms=ordered[-1],
        )


@frozen(kw_only=True)
class Phase:
    """Commands that were asked for in the same way."""

    name: str
    commands: int
    commands_per_second: float
    """From the first request to the last CALL."""
    kafka: Times
    """Until a plain consumer had the request."""
    call: Times
    """Until the charge point had the CALL."""
    final: Times
    """Until a reader of the events had the final one."""
    cpu_us_per_command: dict[str, float]
    """By node, beyond what it needs when idle; per command of both nodes."""
    finals: dict[str, int]
    """How many of each kind, those of the silent charge points too."""


@frozen(kw_only=True)
class CommandsResult:
    """What a run found."""

    charge_points: int
    silent: int
    phases: list[Phase]
    idle_cpu_share: dict[str, float]
    """Of a core, by node: pings, leases, and Kafka asked for more."""
    warnings: dict[str, int]
    problems: list[str]
    """Why the run failed; empty: it did not."""


@define(eq=False)
class Commands:
    """The phases, one after the other."""

    nodes: Sequence[servers.Server]
    asking: BackEnd
    given: argparse.Namespace
    progress: Console
    chance: random.Random
    _witness: Witness = field(init=False, factory=Witness)
    _charge_points: dict[int, Commanded] = field(init=False, factory=dict)
    _idle: dict[str, float] = field(init=False, factory=dict)

    async def run(self) -> CommandsResult:
        """Raises LoadError and Ended."""
        given = self.given
        self._charge_points = await self._connect()
        serving = [asyncio.create_task(charge_point.serve()) for charge_point in self._charge_points.values()]
        everybody = list(self._charge_points)
        talkative = [number for number in everybody if not self._charge_points[number].is_silent]
        await self._warm_up(talkative)
        phases = [await self._phase(f"{given.rate:g}/s", talkative, given.rate)]
        self._witness.think = given.think / 1e3
        phases.append(await self._phase("all at once", talkative, None))
        if given.silent:
            self._witness.think = 0.0
            phases.append(await self._phase(f"{given.rate:g}/s, {given.silent} silent", everybody, given.rate))
        await asyncio.sleep(_STRAGGLERS_SECONDS)
        self.asking.look()
        for task in serving:
            task.cancel()
        for charge_point in self._charge_points.values():
            charge_point.link.abandon()
        logs = [log_lines(node.log) for node in self.nodes]
        return CommandsResult(
            charge_points=given.charge_points,
            silent=given.silent,
            phases=phases,
            idle_cpu_share=self._idle,
            warnings=dict(sum((warnings for warnings, _ in logs), Counter())),
            problems=list(self._problems(sum((errors for _, errors in logs), Counter()))),
        )

    async def _connect(self) -> dict[int, Commanded]:
        given, targets = self.given, [node.target for node in self.nodes]
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await connect(
                    targets, given.charge_points, silent=given.silent, patience=_SILENT_TIMEOUT, witness=self._witness
                )
        except TimeoutError:
            raise LoadError(f"not all charge points were connected after {_TIMEOUT:g} s") from None

    async def _warm_up(self, charge_points: list[int]) -> None:
        for _ in range(2):
            numbers = [self.asking.ask(charge_point, _TIMEOUT) for charge_point in charge_points]
            if not await self._end(numbers, _TIMEOUT):
                ended = len(self.asking.finals)
                raise LoadError(f"only {ended} of {len(numbers)} commands ended within {_TIMEOUT:g} s")
            await asyncio.sleep(_REBALANCING_SECONDS)
        before = self._cpu()
        await asyncio.sleep(_IDLE_SECONDS)
        self._idle = {name: (now - before[name]) / _IDLE_SECONDS for name, now in self._cpu().items()}

    async def _phase(self, name: str, charge_points: list[int], rate: float | None) -> Phase:
        began, cpu = time.monotonic(), self._cpu()
        numbers = await self._ask(charge_points, rate)
        measured = [number for number in numbers if not self._is_silent(number)]
        await self._end(measured, _TIMEOUT)
        took = time.monotonic() - began
        used = {node: now - cpu[node] - self._idle[node] * took for node, now in self._cpu().items()}
        # Of commands that wait behind an unanswered CALL, the last may be sent right before its own time is over.
        await self._end(numbers, 2 * _SILENT_TIMEOUT + _TIMEOUT)
        asking, came_at = self.asking, self._witness.came_at
        last = max((came_at[number] for number in measured if number in came_at), default=began)
        phase = Phase(
            name=name,
            commands=len(numbers),
            commands_per_second=len(numbers) / max(last - began, 1e-3),
            kafka=self._times(measured, asking.read_at),
            call=self._times(measured, came_at),
            final=self._times(measured, {number: finals[0].came_at for number, finals in asking.finals.items()}),
            cpu_us_per_command={node: 1e6 * seconds / len(numbers) for node, seconds in used.items()},
            finals=dict(Counter(final.kind for number in numbers for final in asking.finals.get(number, ()))),
        )
        self.progress.print(f"{name}: {phase.commands} commands, p99 until the CALL {phase.call.p99_ms:.1f} ms")
        return phase

    async def _ask(self, charge_points: list[int], rate: float | None) -> list[int]:
        """All commands of a phase, to charge points at random. ``rate``: per second; None: at once."""
        began, numbers = time.monotonic(), []
        for index in range(self.given.commands):
            if rate is not None:
                await asyncio.sleep(max(0.0, began + index / rate - time.monotonic()))
            charge_point = self.chance.choice(charge_points)
            is_silent = self._charge_points[charge_point].is_silent
            numbers.append(self.asking.ask(charge_point, _SILENT_TIMEOUT if is_silent else _TIMEOUT))
        return numbers

    async def _end(self, numbers: list[int], longest: float) -> bool:
        """Wait until all have ended, for at most ``longest`` seconds; whether they have."""
        asking, end = self.asking, time.monotonic() + longest
        while True:
            asking.look()
            if all(number in asking.finals and number in asking.read_at for number in numbers):
                return True
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)

    def _times(self, numbers: list[int], ends: dict[int, float]) -> Times:
        return Times.of(ends[number] - self.asking.asked[number].at for number in numbers if number in ends)

    def _is_silent(self, number: int) -> bool:
        return self._charge_points[self.asking.asked[number].charge_point].is_silent

    def _cpu(self) -> dict[str, float]:
        return {node.name: cpu_seconds(node.pid) for node in self.nodes}

    def _problems(self, errors: Counter[str]) -> Iterator[str]:
        """Of all commands, those of the warm-up too."""
        wrong = self._witness.wrong + self.asking.wrong
        for number in self.asking.asked:
            finals = self.asking.finals.get(number, [])
            expected = _UNANSWERED if self._is_silent(number) else _ANSWERED
            if len(finals) != 1:
                wrong[f"commands with {len(finals)} final events"] += 1
            wrong.update(f"commands ended with {final.kind}" for final in finals if final.kind not in expected)
            if number not in self._witness.came_at and any(final.kind in _ANSWERED for final in finals):
                wrong["commands were accepted by nobody"] += 1
        yield from (f"{count} {what}" for what, count in wrong.items())
        yield from (f"{count} error lines of {event}" for event, count in errors.items())


@contextmanager
def two_nodes(given: argparse.Namespace) -> Iterator[tuple[servers.Server, servers.Server]]:
    """With one Redis and one Kafka, and all their limits on."""
    count, settings = given.charge_points, dict(given.set)
    with servers.scratch_folder() as directory, ExitStack() as stack:
        properties = directory / "kafka.properties"
        properties.write_text(f"fetch.wait.max.ms={FETCH_WAIT_MS}\n")
        settings = {"KAFKA_CONFIG_FILE": str(properties), **settings}
        first = stack.enter_context(servers.gateway(directory, count, settings=settings, keeps_flood_limits=True))
        second = servers.gateway(directory, count, settings=settings, keeps_flood_limits=True, beside=first)
        yield first, stack.enter_context(second)


def show(result: CommandsResult, console: Console) -> None:
    """The figures as a table."""
    table = Table(title=f"Commands for {result.charge_points:,} charge points on two nodes, ms from the request on")
    for heading in ("how", "until", "p50", "p95", "p99", "longest", "p50 is", "p99 is"):
        table.add_column(heading, justify="left" if heading in ("how", "until") else "right")
    for phase in result.phases:
        kafka = phase.kafka
        rows = {"plain consumer": kafka, "CALL": phase.call, "final event": phase.final}
        for number, (until, times) in enumerate(rows.items()):
            values = (f"{value:.1f}" for value in (times.p50_ms, times.p95_ms, times.p99_ms, times.most_ms))
            ratios = (_ratio(times.p50_ms, kafka.p50_ms), _ratio(times.p99_ms, kafka.p99_ms))
            table.add_row("" if number else phase.name, until, *values, *ratios)
        table.add_section()
    table.caption = "is: times the plain consumer's; charge points that never answer are left out"
    console.print(table)
    for phase in result.phases:
        cpu = ", ".join(f"{node} {us:,.0f}" for node, us in phase.cpu_us_per_command.items())
        console.print(
            f"{phase.name}: {phase.commands:,} commands, {phase.commands_per_second:,.0f}/s; "
            f"us CPU/command: {cpu}, both {sum(phase.cpu_us_per_command.values()):,.0f}; {counts(phase.finals)}"
        )
    idle = ", ".join(f"{node} {share:.1%}" for node, share in result.idle_cpu_share.items())
    console.print(f"idle, of a core (not in the figures above): {idle}")
    console.print(f"warnings logged: {counts(result.warnings) or 'none'}")
    steady = result.phases[0]
    verdict = "met" if steady.call.p99_ms < _GOAL_MS else "missed"
    console.print(f"the goal, at {steady.name} a p99 below {_GOAL_MS:g} ms until the CALL: {verdict}")
    if result.silent:
        ratio = _ratio(result.phases[-1].call.p99_ms, steady.call.p99_ms)
        console.print(f"p99 of the others beside {result.silent} silent charge points: {ratio} what it is without")
    for problem in result.problems:
        console.print(f"[bold red]{problem}")


def _ratio(ours: float, base: float) -> str:
    return f"{ours / base:.2f} x" if base else ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Commands on two nodes: order, exactly one end, and how long it takes."
    )
    parser.add_argument("--commands", type=int, default=1000, help="of each phase")
    parser.add_argument("--charge-points", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0, help="commands per second")
    parser.add_argument("--silent", type=int, default=0, help="so many of the charge points never answer a CALL")
    parser.add_argument(
        "--think", type=float, default=10.0, help="ms until a charge point answers, where all come at once"
    )
    parser.add_argument("--seed", type=int, help="the same dice again")
    parser.add_argument(
        "--set", action="append", type=setting, default=[], metavar="NAME=VALUE", help="a setting for both gateways"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    given = parser.parse_args()
    if not 0 <= given.silent < given.charge_points or given.commands < 1 or given.rate <= 0:
        parser.error("--commands and --rate are above 0, and somebody has to answer")
    raise_open_files(given.charge_points + 200)
    try:
        with two_nodes(given) as nodes, back_end(nodes[0].brokers) as asking, no_garbage_collection():
            commands = Commands(nodes, asking, given, Console(stderr=True, highlight=False), random.Random(given.seed))
            result = asyncio.run(commands.run())
    except (LoadError, BackEndFailed, Ended, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"machine": machine(), **attrs.asdict(result)}))
    else:
        show(result, Console(highlight=False))
    return 1 if result.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
