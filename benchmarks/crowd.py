"""Charge points that come, talk and die at random: the load of the soak.

Half speak 1.6, half 2.0.1; every fourth offers compression. A life ends between two CALLs, with a CALL unanswered, or
within a frame; some end within the handshake. It ends by a closing handshake, by a reset (RST), or in silence: then
the connection is kept open, unread, until the gateway must have ended it, and then it is looked at whether it has.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from enum import StrEnum
from functools import partial
from typing import Any

import attrs
from attrs import define, field, frozen
from charge_points import Target
from security import IDENTITY
from station import BackOff, Ended, Link, get_in, source_address

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.messages import (
    BootReason,
    ConnectorStatus,
    Message,
    Messages,
    StopReason,
    Transaction,
    messages_of,
)
from ocpp_gateway.simulator.meter import Meter, utc_timestamp

_ID_TAG = "SOAK-TAG"
_STILLBIRTHS = 0.05
"""Share of visits that end within the handshake."""

_VERSIONS = (OcppVersion.V16, OcppVersion.V201)


class Death(StrEnum):
    """How a connection ends."""

    CLOSE = "close"
    RESET = "reset"
    SILENCE = "silence"


@frozen(kw_only=True)
class Habits:
    """What the charge points are like. Durations are seconds, means of exponential distributions."""

    life: float = 60.0
    pause: float = 4.0
    """Between two CALLs."""
    rest: float = 5.0
    """Between two lives."""
    deaths: tuple[float, float, float] = (0.5, 0.25, 0.25)
    """Weights of the members of Death."""
    back_off: BackOff = field(factory=partial(BackOff, minimum=1.0, spread=2.0, doublings=5))


@define(eq=False, kw_only=True)
class Crowd:
    """``count`` charge points of one gateway. ``notice`` seconds after its last byte, one is expected to be missed."""

    target: Target
    count: int
    addresses: int
    notice: float
    habits: Habits = Habits()
    chance: random.Random = field(factory=random.Random)

    tally: Counter[str] = field(init=False, factory=Counter)
    """What happened. Unexpected things begin with ``wrong_``."""

    living: int = field(init=False, default=0)
    _end: float = field(init=False, default=0.0)
    _silent: set[asyncio.Task[None]] = field(init=False, factory=set)

    async def live(self, seconds: float, *, ramp: float) -> None:
        """All of them, for ``seconds``, the first time within the first ``ramp`` seconds. In the end all are dead."""
        self._end = _now() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(1, self.count + 1):
                group.create_task(self._be(number, self.chance.uniform(0, ramp)))

    async def see_off_the_silent(self) -> None:
        """Until it is known of each silent one whether the gateway missed it."""
        while self._silent:
            await asyncio.gather(*self._silent)

    async def _be(self, number: int, delay: float) -> None:
        version = _VERSIONS[number % len(_VERSIONS)]
        path_version = version.label.removesuffix("J")
        target = attrs.evolve(
            self.target,
            path=f"/ocpp/{path_version}/{IDENTITY}",
            subprotocol=version.subprotocol,
            compresses=number % 4 == 0,
        )
        source = source_address(number, self.addresses)
        await self._wait(delay)
        while _now() < self._end:
            if self.chance.random() < _STILLBIRTHS:
                await self._die_unborn(target, number, source)
            else:
                await self._live_once(target, number, source, messages_of(version))
            await self._wait(self.chance.expovariate(1 / self.habits.rest))

    async def _live_once(self, target: Target, number: int, source: str, messages: Messages) -> None:
        waits = self.habits.back_off.waits(self.chance)
        handshakes: Counter[str] = Counter()
        try:
            async with asyncio.timeout_at(self._end):
                link = await get_in(target, number, source, waits, handshakes)
        except TimeoutError:
            return
        finally:
            self._count_handshakes(handshakes)
        self.tally["lives"] += 1
        self.living += 1
        talk = _Talk(messages, IDENTITY % number, self.chance)
        try:
            await self._talk(link, talk)
            await self._die(link, talk)
        except Ended as end:
            self.tally[f"wrong_{end.reason}"] += 1
            link.abandon()
        finally:
            self.living -= 1

    async def _talk(self, link: Link, talk: _Talk) -> None:
        end = min(self._end, _now() + self.chance.expovariate(1 / self.habits.life))
        while True:
            message = talk.next()
            talk.heard(message, await link.call(message.action, message.payload))
            self.tally["calls"] += 1
            pause = self.chance.expovariate(1 / self.habits.pause)
            await link.listen(max(0.0, min(pause, end - _now())))
            if _now() >= end:
                return

    async def _die(self, link: Link, talk: _Talk) -> None:
        (death,) = self.chance.choices(list(Death), self.habits.deaths)
        self.tally[f"died_by_{death}"] += 1
        message = talk.next()
        match self.chance.randrange(3):
            case 1:
                link.send_without_waiting(message.action, message.payload)
            case 2 if death is not Death.CLOSE:
                link.send_half_a_frame(message.action, message.payload)
        await self._end_link(link, death)

    async def _end_link(self, link: Link, death: Death) -> None:
        if death is Death.CLOSE:
            await link.leave()
        elif death is Death.RESET:
            link.reset()
        else:
            link.fall_silent()
            self._later(self._look_after(link))

    async def _die_unborn(self, target: Target, number: int, source: str) -> None:
        """Within the handshake. Nobody is expected to close politely there."""
        try:
            async with asyncio.timeout_at(self._end):
                link = await Link.connect(target, number, source)
        except TimeoutError:
            return
        except Ended as end:
            self.tally[f"wrong_{end.reason}"] += 1
            return
        self.tally["died_in_handshake"] += 1
        if self.chance.random() < 0.5:
            link.send_half_a_request(target)
        await self._end_link(link, self.chance.choice((Death.RESET, Death.SILENCE)))

    async def _look_after(self, link: Link) -> None:
        await asyncio.sleep(self.notice)
        self.tally["missed" if await link.was_ended() else "wrong_not_missed"] += 1

    def _later(self, watching: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(watching)
        self._silent.add(task)
        task.add_done_callback(self._silent.discard)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self._end - _now())))

    def _count_handshakes(self, handshakes: Counter[str]) -> None:
        for reason, count in handshakes.items():
            # Full or busy is what a gateway may say; anything else is not what these have earned.
            is_honest = reason in ("attempts", "429", "503")
            self.tally[f"handshake_{reason}" if is_honest else f"wrong_handshake_{reason}"] += count


@define
class _Talk:
    """What one charge point says in one life: it boots, and then charges cars."""

    messages: Messages
    identity: str
    chance: random.Random
    _meter: Meter = field(init=False)
    _transaction: Transaction | None = None
    _waiting: list[Message] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._meter = Meter(self.chance, self.chance.uniform(0, 1e6))
        self._waiting = [
            self.messages.boot(self.identity, BootReason.POWER_UP),
            self.messages.status(ConnectorStatus.AVAILABLE, utc_timestamp()),
        ]

    def next(self) -> Message:
        """The next CALL."""
        if not self._waiting:
            self._waiting += self._think_up()
        return self._waiting.pop(0)

    def heard(self, message: Message, answer: dict[str, Any]) -> None:
        """The answer came. 1.6 charge points learn the transaction's id from it."""
        if message.action == "StartTransaction" and self._transaction is not None:
            self._transaction.id = answer.get("transactionId")

    def _think_up(self) -> tuple[Message, ...]:
        dice, transaction = self.chance.random(), self._transaction
        if dice < 0.2:
            return (self.messages.heartbeat(),)
        if transaction is None:
            if dice < 0.6:
                return (self.messages.authorize(_ID_TAG),)
            self._meter.plug_in()
            self._transaction = self.messages.begin(_ID_TAG)
            charging = self.messages.status(ConnectorStatus.CHARGING, utc_timestamp())
            return (*self.messages.started(self._transaction, self._meter.read()), charging)
        self._meter.charge(self.chance.uniform(10, 60))
        if dice < 0.8:
            return (self.messages.metered(transaction, self._meter.read()),)
        self._transaction = None
        self._meter.stop()
        available = self.messages.status(ConnectorStatus.AVAILABLE, utc_timestamp())
        return (self.messages.stopped(transaction, self._meter.read(), StopReason.LOCAL), available)


def _now() -> float:
    return asyncio.get_running_loop().time()
