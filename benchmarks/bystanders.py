"""Charge points that are connected already while others storm: a process of their own, so that what they measure is the
gateway and not the generator of the storm.

Each sends Heartbeats, the next one some time after the answer. The times are kept with time.monotonic(), which is the
same clock in all processes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

from attrs import define, field, frozen
from calls import boot_notification
from charge_points import Target
from load import no_garbage_collection, quantile
from station import BackOff, Ended, Link, get_in, source_address

_READY_SECONDS = 60.0
_BACK_OFF = BackOff(minimum=0.2, spread=0.5, doublings=3)


class BystandersFailed(Exception):
    """They could not connect, or their process ended."""


@frozen(kw_only=True)
class Latencies:
    """Of the Heartbeats that were sent within a time."""

    heartbeats: int
    p50_ms: float
    p99_ms: float
    most_ms: float


@frozen
class Watched:
    """What they saw."""

    sent_at: array[float]
    """time.monotonic(), in no order."""
    seconds: array[float]
    """Until the answer."""
    errors: dict[str, int]

    def between(self, begin: float, end: float) -> Latencies:
        """Of the Heartbeats sent from ``begin`` to ``end``."""
        here = sorted(took for sent, took in zip(self.sent_at, self.seconds, strict=True) if begin <= sent < end)
        if not here:
            return Latencies(heartbeats=0, p50_ms=0.0, p99_ms=0.0, most_ms=0.0)
        return Latencies(
            heartbeats=len(here),
            p50_ms=quantile(here, 0.50) * 1e3,
            p99_ms=quantile(here, 0.99) * 1e3,
            most_ms=here[-1] * 1e3,
        )


@define(eq=False)
class Bystanders:
    """The process, as the others see it."""

    _pipe: Pipe

    def stop(self) -> Watched:
        """End them; what they saw. Raises BystandersFailed."""
        self._pipe.send("stop")
        watched = _received(self._pipe)
        assert isinstance(watched, Watched)
        return watched


@contextmanager
def bystanders(target: Target, count: int, addresses: int, interval: float) -> Iterator[Bystanders]:
    """Charge points 1 to ``count``, connected and talking. Raises BystandersFailed."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(there, target, count, addresses, interval), daemon=True
    )
    process.start()
    there.close()
    try:
        _received(here)
        yield Bystanders(here)
    finally:
        here.close()  # it ends when it notices
        process.join(10)
        process.terminate()


def _received(pipe: Pipe) -> object:
    try:
        if not pipe.poll(_READY_SECONDS):
            raise BystandersFailed("the bystanders do not answer")
        return pipe.recv()
    except EOFError:
        raise BystandersFailed("the bystanders' process ended") from None


# Within the process.


def _run(pipe: Pipe, target: Target, count: int, addresses: int, interval: float) -> None:
    with no_garbage_collection():
        asyncio.run(_Watch(target, addresses, interval).run(pipe, count))


@define(eq=False)
class _Watch:
    target: Target
    addresses: int
    interval: float
    _sent_at: array[float] = field(init=False, factory=lambda: array("d"))
    _seconds: array[float] = field(init=False, factory=lambda: array("d"))
    _errors: Counter[str] = field(init=False, factory=Counter)
    _chance: random.Random = field(init=False, factory=random.Random)

    async def run(self, pipe: Pipe, count: int) -> None:
        stopped = asyncio.Event()
        links = await asyncio.gather(*(self._get_in(number) for number in range(1, count + 1)))
        asyncio.get_running_loop().add_reader(pipe.fileno(), stopped.set)
        pipe.send("ready")
        talking = [asyncio.create_task(self._talk(link)) for link in links]
        await stopped.wait()
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        for link in links:
            link.abandon()
        if pipe.poll():
            try:
                pipe.recv()
            except EOFError:
                return  # nobody wants to know any more
            pipe.send(Watched(self._sent_at, self._seconds, dict(self._errors)))

    async def _get_in(self, number: int) -> Link:
        source = source_address(number, self.addresses)
        link = await get_in(self.target, number, source, _BACK_OFF.waits(self._chance), Counter())
        await link.call("BootNotification", boot_notification())
        return link

    async def _talk(self, link: Link) -> None:
        try:
            await link.listen(self._chance.uniform(0, self.interval))
            while True:
                sent_at = time.monotonic()
                await link.call("Heartbeat", {})
                self._sent_at.append(sent_at)
                self._seconds.append(time.monotonic() - sent_at)
                await link.listen(self.interval * self._chance.uniform(0.9, 1.1))
        except Ended as end:
            self._errors[end.reason] += 1
            link.abandon()
