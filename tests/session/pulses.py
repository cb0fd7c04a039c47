"""Connections that the keep-alive watches, as its tests play them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from support.manual_clock import ManualClock
from twisted.internet.interfaces import IDelayedCall

from ocpp_gateway.session.keepalive import KeepAlive


class PlayedPulse:
    """It answers pings while ``answers_after`` says so, in seconds; None: it does not."""

    __slots__ = (
        "answers_after",
        "clock",
        "filed_under",
        "is_read",
        "last_heard",
        "on_ping",
        "on_stale",
        "pings",
        "stales",
    )

    def __init__(self, clock: ManualClock, answers_after: float | None = None) -> None:
        self.clock = clock
        self.answers_after = answers_after
        self.filed_under: int | None = None
        self.is_read = True
        self.last_heard = clock.monotonic()
        self.pings: list[float] = []
        self.stales: list[float] = []
        self.on_ping: Callable[[], object] = lambda: None
        self.on_stale: Callable[[], object] = lambda: None

    def ping(self) -> None:
        self.pings.append(self.clock.monotonic())
        if self.answers_after is not None:
            self.clock.call_later(self.answers_after, self.heard)
        self.on_ping()

    def stale(self) -> None:
        self.stales.append(self.clock.monotonic())
        self.on_stale()

    def heard(self) -> None:
        self.last_heard = self.clock.monotonic()


class TurnClock(ManualClock):
    """It numbers the turns of the reactor in which something was called."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        def take_turn(*args: Any) -> None:
            self.turn += 1
            function(*args)

        return super().call_later(seconds, take_turn, *args)


def watch(clock: ManualClock, interval: float = 60.0, timeout: float = 20.0, seed: int = 1) -> KeepAlive:
    return KeepAlive(clock=clock, interval=interval, timeout=timeout, random=Random(seed).random)


def pass_time(clock: ManualClock, seconds: float, step: float) -> None:
    """In small steps, as time does."""
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0:
        clock.advance(min(step, left))
