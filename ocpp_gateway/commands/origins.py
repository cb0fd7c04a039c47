"""Who handed a command over, and is told what becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from attrs import define, field, frozen

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandBus, Process, Taking
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.errors import StoreUnavailable


class Origin(Protocol):
    """Hints only: who is responsible for a command looks for himself as well."""

    def taken(self, command_id: str) -> None:
        """It is in the charge point's outbox."""
        ...

    def not_here(self, command_id: str) -> None:
        """The charge point is not connected here, or not any more; the command was not sent."""
        ...

    def ended(self, command_id: str) -> None:
        """Its final event is in Kafka, by us or by somebody else."""
        ...


class Taker(Protocol):
    """Who carries commands out on this node."""

    def take(self, command: Command, origin: Origin) -> None:
        """See Executor."""
        ...


@frozen
class RemoteOrigin:
    """Another node's dispatcher: it is told over the node bus."""

    bus: CommandBus
    node_id: str
    process: Process
    """Ours."""

    tasks: Tasks

    def taken(self, command_id: str) -> None:
        """See Origin."""
        self._say(lambda: self.bus.taken(self.node_id, command_id, self.process, Taking.TAKEN))

    def not_here(self, command_id: str) -> None:
        """See Origin."""
        self._say(lambda: self.bus.taken(self.node_id, command_id, self.process, Taking.NOT_HERE))

    def ended(self, command_id: str) -> None:
        """See Origin."""
        self._say(lambda: self.bus.done(self.node_id, command_id))

    def _say(self, message: Callable[[], Awaitable[int]]) -> None:
        self.tasks.run(_said(message))


async def _said(message: Callable[[], Awaitable[int]]) -> None:
    with suppress(StoreUnavailable):  # it asks again, or looks
        await message()


@define(eq=False, kw_only=True)
class Handovers:
    """What other nodes ask of this one, over the node bus. ``taker``: who carries it out."""

    taker: Taker
    bus: CommandBus
    clock: Clock
    process: Process
    _tasks: Tasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)

    def heard(self, command: Command, node_id: str) -> None:
        """``node_id`` hands ``command`` over."""
        self.taker.take(command, RemoteOrigin(self.bus, node_id, self.process, self._tasks))

    async def stop(self) -> None:
        """Nobody is told anything any more; they look for themselves."""
        await self._tasks.finish(0)


class NoOrigin:
    """Of a command that was parked: Redis is responsible for it."""

    def taken(self, command_id: str) -> None:
        """See Origin."""

    def not_here(self, command_id: str) -> None:
        """See Origin."""

    def ended(self, command_id: str) -> None:
        """See Origin."""
