"""A simulated fleet on the terminal: its life in asyncio, its counters in place, its troubles in words."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ocpp_gateway.cli.failure import printable
from ocpp_gateway.simulator.charge_point import Trouble
from ocpp_gateway.simulator.fleet import Fleet
from ocpp_gateway.simulator.tally import Tally

_REFRESHES_PER_SECOND = 4
_PLAIN_SECONDS = 5.0
_SAME_AGAIN_SECONDS = 15.0


@define
class Troubles:
    """Tells troubles without repeating itself: hundreds of charge points have the same one at once."""

    write: Callable[[str, str], None]
    _told: dict[str, float] = field(factory=dict, init=False)
    _withheld: int = field(default=0, init=False)

    def __call__(self, trouble: Trouble) -> None:
        """Tell it, unless the same was told a moment ago."""
        kind = trouble.text.replace(trouble.cp_id, "", 1)
        now = time.monotonic()
        if now < self._told.get(kind, 0.0) + _SAME_AGAIN_SECONDS:
            self._withheld += 1
            return
        self._told[kind] = now
        others = f" ({self._withheld} more like those before)" if self._withheld else ""
        self._withheld = 0
        self.write(printable(trouble.text + others), printable(trouble.advice))


def counters(tally: Tally, seconds: float) -> Table:
    """The tally as a small table."""
    median, slow = tally.latency(0.5), tally.latency(0.99)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")  # fits into 80 columns
    for column in (
        "time",
        "online",
        "charging",
        "sessions",
        "kWh",
        "CALLs",
        "p50/p99 ms",
        "errors",
        "reconnects",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    bad = tally.call_errors + tally.timeouts
    table.add_row(
        f"{int(seconds) // 60}:{int(seconds) % 60:02d}",
        Text(str(tally.online), "green" if tally.online else "red"),
        str(tally.charging),
        f"{tally.finished_transactions}/{tally.transactions}",
        f"{tally.energy_wh / 1000:.2f}",
        str(tally.answered),
        "-" if median is None or slow is None else f"{median * 1000:.0f}/{slow * 1000:.0f}",
        Text(str(bad), "red" if bad else ""),
        str(tally.reconnects),
    )
    return table


def summary(tally: Tally) -> str:
    """The tally as a sentence."""
    text = (
        f"{tally.online} online, {tally.charging} charging, {tally.finished_transactions} of {tally.transactions} "
        f"transactions finished, {tally.energy_wh / 1000:.2f} kWh, {tally.answered} CALLs answered, "
        f"{tally.call_errors} CALLERRORs, {tally.timeouts} without an answer, {tally.disconnects} connections lost"
    )
    if tally.tokens_refused:
        text += f", {tally.tokens_refused} id tokens refused"
    if tally.lost_messages:
        text += f", {tally.lost_messages} transaction messages given up"
    return text


async def until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]], seconds: float | None) -> None:
    """Run ``work`` with an event that SIGINT, SIGTERM or ``seconds`` set; a second signal ends it at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    working = asyncio.ensure_future(work(stop))

    def stopped() -> None:
        if stop.is_set():
            working.cancel()
        stop.set()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        loop.add_signal_handler(number, stopped)
    timer = None if seconds is None else loop.call_later(seconds, stop.set)
    try:
        await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in handlers.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def show_while(running: Fleet, stop: asyncio.Event, console: Console) -> None:
    """Run the fleet with its counters on the terminal; without one, as a line now and then."""
    began = time.monotonic()
    if not console.is_terminal:
        reporting = asyncio.create_task(_report(running.tally, console))
        try:
            await running.run(stop)
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
        return
    with Live(
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        get_renderable=lambda: counters(running.tally, time.monotonic() - began),
    ):
        await running.run(stop)


async def _report(tally: Tally, console: Console) -> None:
    while True:
        await asyncio.sleep(_PLAIN_SECONDS)
        console.print(summary(tally))
