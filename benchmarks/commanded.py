"""Charge points that get commands, and see whether these come as they must: in the order asked for, one at a time.

A command is a DataTransfer, which every version has, and its data is a number that grows with every command.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
from attrs import define, field
from charge_points import Target
from security import IDENTITY
from station import BackOff, Ended, Link, get_in, source_address

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.messages import BootReason, messages_of

_VENDOR = "com.example.benchmark"
_VERSIONS = (OcppVersion.V16, OcppVersion.V201)
_BACK_OFF = BackOff(minimum=0.2, spread=0.5, doublings=3)
_IMPATIENCE = 0.9
"""Of the time that a CALL may take: who sends the next one earlier has not waited."""


def data_transfer(number: int) -> dict[str, Any]:
    """The payload of command ``number``."""
    return {"vendorId": _VENDOR, "data": str(number)}


@define(eq=False)
class Witness:
    """What all charge points saw."""

    came_at: dict[int, float] = field(init=False, factory=dict)
    """When a command's CALL came, by its number: time.monotonic()."""
    wrong: Counter[str] = field(init=False, factory=Counter)
    """What must not happen, and how often it did."""
    think: float = field(init=False, default=0.0)
    """Seconds that a charge point takes to answer."""


@define(eq=False, kw_only=True)
class Commanded:
    """One of them, connected and booted. ``patience``: seconds until the gateway gives up a CALL to a silent one."""

    link: Link
    witness: Witness
    patience: float
    is_silent: bool = False
    """It never answers."""
    _last_number: int = field(init=False, default=0)
    _last_came_at: float = field(init=False, default=0.0)
    _in_flight: int = field(init=False, default=0)

    async def serve(self) -> None:
        """Until the connection ends, which is not expected."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                message_id, action, payload = await self.link.asked()
                self._look_at(action, payload, time.monotonic())
                if not self.is_silent:
                    # Never within this turn of the loop: what came together with the CALL is looked at before.
                    loop.call_later(self.witness.think, self._answer, message_id)
        except Ended as end:
            self.witness.wrong[f"connections ended: {end.reason}"] += 1

    def _look_at(self, action: str, payload: dict[str, Any], now: float) -> None:
        wrong = self.witness.wrong
        if action != "DataTransfer" or payload.get("vendorId") != _VENDOR:
            wrong[f"CALLs that nobody asked for: {action}"] += 1
            return
        number = int(payload["data"])
        if number in self.witness.came_at:
            wrong["commands came twice"] += 1
        elif number < self._last_number:
            wrong["commands came out of order"] += 1
        if self.is_silent:
            is_early = now - self._last_came_at < _IMPATIENCE * self.patience
        else:
            is_early = self._in_flight > 0
            self._in_flight += 1
        if is_early:
            wrong["CALLs came while another one was in flight"] += 1
        self._last_number, self._last_came_at = number, now
        self.witness.came_at.setdefault(number, now)

    def _answer(self, message_id: str) -> None:
        self._in_flight -= 1
        self.link.answer(message_id, {"status": "Accepted"})


async def connect(
    targets: Sequence[Target], count: int, *, silent: int, patience: float, witness: Witness
) -> dict[int, Commanded]:
    """Charge points 1 to ``count``, connected to ``targets`` in turn, both versions on each; the last never answer."""
    chance = random.Random()

    async def arrive(number: int) -> Commanded:
        version = _VERSIONS[number // len(targets) % len(_VERSIONS)]
        target = attrs.evolve(
            targets[number % len(targets)],
            path=f"/ocpp/{version.label.removesuffix('J')}/{IDENTITY}",
            subprotocol=version.subprotocol,
        )
        link = await get_in(target, number, source_address(number, count), _BACK_OFF.waits(chance), Counter())
        boot = messages_of(version).boot(IDENTITY % number, BootReason.POWER_UP)
        await link.call(boot.action, boot.payload)
        return Commanded(link=link, witness=witness, patience=patience, is_silent=number > count - silent)

    numbers = range(1, count + 1)
    return dict(zip(numbers, await asyncio.gather(*map(arrive, numbers)), strict=True))
