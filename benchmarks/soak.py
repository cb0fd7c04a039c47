"""Whether anything is left behind: charge points connect, talk and die at random for minutes; then all are gone.

The gateway, a Redis and a mock Kafka run as processes of their own. Memory, open files, the gateway's gauges and the
keys in Redis are looked at all the time; in the end there must be no session's key, no open file and no session more
than before, no connection of a silent charge point that the gateway did not end, and no error in its log. Exits with 1
otherwise. Memory's slope is told, not judged, unless --most-mb-per-minute is given.

    python benchmarks/soak.py                                      # 2,000 charge points, 10 minutes
    python benchmarks/soak.py --minutes 1 --charge-points 200
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys

import attrs
import servers
from attrs import define, frozen
from charge_points import LoadError, raise_open_files
from crowd import Crowd, Habits
from messages import machine
from probe import Probe, ProbeFailed, Sample, log_lines, slope_per_minute
from rich.console import Console
from rich.table import Table
from scene import add_options, conditions, counts, gateway

_SESSION_KEYS = ("sessions", "node-sessions")
_BACK_AT_BASE = ("connections", "sockets", "opening", "sessions", "timers", "pulses", "checking")
"""Last words of gauges that must come back to where they were."""

_CLOSING_SECONDS = 15.0
"""From the decision to end a dead connection to its end: a closing handshake that nobody answers."""

_FEW_FILES = 5
"""More than at the base are no leak: a scrape that is under way, a connection to Kafka that was renewed."""

_SHOWN_ROWS = 15


@frozen(kw_only=True)
class SoakResult:
    """What a run found."""

    charge_points: int
    minutes: float
    tally: dict[str, int]
    base: Sample
    end: Sample
    samples: list[Sample]
    slope_mb_per_minute: float
    bytes_per_life: float
    """The growth of memory after the warm-up, for each life since."""
    cpu_share: float
    """Of one core, by the gateway, on average."""
    warnings: dict[str, int]
    errors: dict[str, int]
    leftovers: list[str]
    """Why the run failed; empty: it did not."""


@frozen
class _Look:
    sample: Sample
    lives: int
    """That there were until then."""


@define(eq=False)
class Soak:
    """One run against one gateway."""

    server: servers.Server
    given: argparse.Namespace
    progress: Console

    async def run(self) -> SoakResult:
        """All of it, with the looks in between. Raises ProbeFailed and LoadError."""
        given, probe = self.given, Probe(self.server)
        crowd = self._crowd(given.charge_points)
        # What every program loads once is not counted: some come and go before the base is read.
        warming = self._crowd(min(50, given.charge_points), notice=0.0, deaths=(1.0, 0.0, 0.0))
        await warming.live(5.0, ramp=1.0)
        await warming.see_off_the_silent()
        await asyncio.sleep(2.0)
        base = await probe.take()
        looks: list[_Look] = []
        looking = asyncio.create_task(self._look(probe, crowd, looks))
        living = asyncio.create_task(crowd.live(60 * given.minutes, ramp=given.ramp))
        done, _ = await asyncio.wait((looking, living), return_when=asyncio.FIRST_COMPLETED)
        if looking in done:
            living.cancel()
            looking.result()
        living.result()
        looking.cancel()
        self.progress.print("all are dead; waiting until the gateway has noticed")
        await crowd.see_off_the_silent()
        end = await self._settled(probe, base)
        probe.close()
        return self._result(crowd, base, end, looks)

    def _crowd(
        self, count: int, *, notice: float | None = None, deaths: tuple[float, float, float] | None = None
    ) -> Crowd:
        given = self.given
        habits = Habits(life=given.life, pause=given.pause, rest=given.rest, deaths=deaths or tuple(given.deaths))
        return Crowd(
            target=self.server.target,
            count=count,
            addresses=given.addresses,
            notice=_notice(given) if notice is None else notice,
            habits=habits,
            chance=random.Random(given.seed),
        )

    async def _look(self, probe: Probe, crowd: Crowd, looks: list[_Look]) -> None:
        began = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(self.given.sample)
            sample = await probe.take()
            looks.append(_Look(sample, crowd.tally["lives"]))
            self.progress.print(
                f"{(asyncio.get_running_loop().time() - began) / 60:5.1f} min: {crowd.living} living, "
                f"{crowd.tally['lives']} lives, {crowd.tally['calls']} CALLs, "
                f"{sample.rss_mb:.1f} MB, {sample.open_files} files, {sum((sample.keys or {}).values())} keys"
            )

    async def _settled(self, probe: Probe, base: Sample) -> Sample:
        """The last look: as soon as nothing is left, or when it has had its time."""
        end = asyncio.get_running_loop().time() + _notice(self.given)
        while True:
            sample = await probe.take()
            if not _left_in_the_gateway(base, sample) or asyncio.get_running_loop().time() > end:
                return sample
            await asyncio.sleep(1.0)

    def _result(self, crowd: Crowd, base: Sample, end: Sample, looks: list[_Look]) -> SoakResult:
        warm = [look for look in looks if look.sample.at - base.at >= 60 * self.given.warm_up]
        slope = slope_per_minute([(look.sample.at, look.sample.rss_mb) for look in warm])
        lives = warm[-1].lives - warm[0].lives if warm else 0
        minutes = (warm[-1].sample.at - warm[0].sample.at) / 60 if warm else 0.0
        warnings, errors = log_lines(self.server.log)
        leftovers = _left_in_the_gateway(base, end)
        leftovers += [f"{count} times {what}" for what, count in crowd.tally.items() if what.startswith("wrong_")]
        leftovers += [f"{count} error lines of {event}" for event, count in errors.items()]
        most: float | None = self.given.most_mb_per_minute
        if most is not None and slope > most:
            leftovers.append(f"memory grows by {slope:.2f} MB a minute")
        return SoakResult(
            charge_points=self.given.charge_points,
            minutes=self.given.minutes,
            tally=dict(sorted(crowd.tally.items())),
            base=base,
            end=end,
            samples=[look.sample for look in looks],
            slope_mb_per_minute=slope,
            bytes_per_life=slope * minutes * 1e6 / lives if lives else 0.0,
            cpu_share=(end.cpu_seconds - base.cpu_seconds) / (end.at - base.at),
            warnings=dict(warnings),
            errors=dict(errors),
            leftovers=leftovers,
        )


def _notice(given: argparse.Namespace) -> float:
    """Seconds within which the gateway must have noticed, and ended, a connection without a sign of life.

    Two ping intervals; the last ping's time-out may lie behind them only where it is longer than the interval.
    """
    handshake_timeout = 20.0  # OCPP_HANDSHAKE_TIMEOUT, for those that died within it
    pinged: float = given.ping_interval + max(given.ping_interval, given.ping_timeout)
    return max(pinged, handshake_timeout) + _CLOSING_SECONDS


def _left_in_the_gateway(base: Sample, now: Sample) -> list[str]:
    """What should have gone."""
    keys = now.keys or {}
    left = [f"{keys[prefix]} keys {prefix}:*" for prefix in _SESSION_KEYS if keys.get(prefix)]
    if now.open_files > base.open_files + _FEW_FILES:
        left.append(f"{now.open_files} open files, {base.open_files} at the base")
    for name, value in now.gauges.items():
        if name.endswith(_BACK_AT_BASE) and value > base.gauges.get(name, 0.0):
            left.append(f"{name} is {value:g}, {base.gauges.get(name, 0.0):g} at the base")
    return left


def show(result: SoakResult, given: argparse.Namespace, console: Console) -> None:
    """The looks as a table, and what to make of them."""
    table = Table(title=f"Soak: {result.charge_points:,} charge points, {result.minutes:g} minutes")
    for heading in ("min", "RSS MB", "files", "connections", "sessions:*", "other keys", "Redis queue B"):
        table.add_column(heading, justify="right")
    step = max(1, len(result.samples) // _SHOWN_ROWS)
    for sample in (result.base, *result.samples[step - 1 :: step], result.end):
        table.add_row(
            f"{(sample.at - result.base.at) / 60:.1f}",
            f"{sample.rss_mb:.1f}",
            str(sample.open_files),
            f"{sample.gauges.get('ocpp_connections', 0.0):.0f}",
            *_key_columns(sample),
            str(sample.redis_queue_bytes),
        )
    table.caption = "first row: base; last row: when all are gone"
    console.print(table)
    console.print(f"happened: {counts(result.tally)}")
    console.print(f"keys at the end: {counts(result.end.keys or {})}")
    console.print(f"gauges at the end: {counts(result.end.gauges)}")
    console.print(f"warnings logged: {counts(result.warnings) or 'none'}")
    console.print(
        f"memory: {result.slope_mb_per_minute:+.2f} MB a minute after {given.warm_up:.1f} min of warm-up "
        f"({result.bytes_per_life:+.0f} bytes for each life); gateway's CPU: {result.cpu_share:.0%} of a core"
    )
    for leftover in result.leftovers:
        console.print(f"[bold red]left: {leftover}")
    if not result.leftovers:
        console.print("[bold green]nothing is left")


def _key_columns(sample: Sample) -> tuple[str, str]:
    keys = sample.keys or {}
    sessions = keys.get("sessions", 0)
    return str(sessions), str(sum(keys.values()) - sessions)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Charge points that come, talk and die at random: is anything left?")
    add_options(parser, charge_points=2000, addresses=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, help="minutes before memory's slope is taken (default: a third)")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds within which all come for the first time")
    parser.add_argument("--life", type=float, default=60.0, help="mean seconds of a connection")
    parser.add_argument("--pause", type=float, default=4.0, help="mean seconds between two CALLs")
    parser.add_argument("--rest", type=float, default=5.0, help="mean seconds between two connections")
    parser.add_argument(
        "--deaths", type=float, nargs=3, default=(0.5, 0.25, 0.25), help="weights of close, reset and silence"
    )
    parser.add_argument("--ping-interval", type=float, default=15.0, help="the gateway's OCPP_PING_INTERVAL")
    parser.add_argument("--ping-timeout", type=float, default=5.0, help="the gateway's OCPP_PING_TIMEOUT")
    parser.add_argument("--sample", type=float, default=5.0, help="seconds between two looks")
    parser.add_argument("--most-mb-per-minute", type=float, help="fail if memory grows faster")
    return parser


def main() -> int:
    given = _options().parse_args()
    if given.warm_up is None:
        given.warm_up = given.minutes / 3
    # The silent ones keep their sockets until the gateway must have missed them: more than there are charge points.
    wanted = 6 * given.charge_points + 500
    if (allowed := raise_open_files(wanted)) < 3 * given.charge_points:
        print(f"this host allows {allowed} open files: fewer charge points, please", file=sys.stderr)
        return 1
    settings = {
        "OCPP_PING_INTERVAL": f"{given.ping_interval:g}",
        "OCPP_PING_TIMEOUT": f"{given.ping_timeout:g}",
        **dict(given.set),
    }
    progress = Console(stderr=True, highlight=False)
    progress.print(conditions(given, settings))
    try:
        with gateway(given, given.charge_points, settings) as server:
            result = asyncio.run(Soak(server, given, progress).run())
    except (LoadError, ProbeFailed, servers.ServerFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"machine": machine(), "conditions": conditions(given, settings), **attrs.asdict(result)}))
    else:
        show(result, given, Console(highlight=False))
    return 1 if result.leftovers else 0


if __name__ == "__main__":
    raise SystemExit(main())
