"""What a process that has died leaves of commands, and who has to care for them ends it.

A command that it has sent, or was about to send, is not sent again: nobody knows whether the charge point has it. A
final event that it has stored is published, unless the topic has it.

A lease may be missing for a moment although its node lives, when Redis was restarted without its data. So a process is
dead when it is found so twice, and not just after Redis was away (``patience``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field, frozen
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands import outcome
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.patience import Patience
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandState, CommandStore, Process, Stage
from ocpp_gateway.commands.tasks import Bell, Tasks

log = Logger()

_DOUBT_SECONDS: Final = 2.0


@define(eq=False, kw_only=True)
class Recovery:
    """See the module's text."""

    store: CommandStore
    finals: Finals
    clock: Clock
    patience: Patience
    _looked_after: set[str] = field(factory=set, init=False)
    _tasks: Tasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)

    def look_after(self, commands: Iterable[tuple[Command, CommandState]]) -> None:
        """End those whose process is dead. It takes some seconds, nothing has to be waited for."""
        theirs: list[_Left] = []
        for command, state in commands:
            responsible = _responsible(state)
            if responsible is None or command.command_id in self._looked_after:
                continue
            if responsible != self.finals.process:
                theirs.append(_Left(command, state, responsible))
                self._looked_after.add(command.command_id)
            elif state.state is Stage.FINAL:  # ours, and perhaps forgotten by a defect: then it is as if we had died
                self._tasks.run(self.finals.adopt(command, state))
        if theirs:
            self._tasks.run(self._end_those_of_the_dead(theirs))

    async def stop(self) -> None:
        """Leave it to others."""
        await self._tasks.finish(0)

    async def _end_those_of_the_dead(self, commands: list[_Left]) -> None:
        dead: set[Process] = set()
        try:
            missing = await self._dead({left.process for left in commands})
            if missing:
                await Bell(self.clock).wait(_DOUBT_SECONDS)
                dead = await self._dead(missing)
        finally:
            for left in commands:
                if left.process in dead:
                    self._tasks.run(self._end(left))
                else:
                    self._looked_after.discard(left.command.command_id)

    async def _dead(self, processes: set[Process]) -> set[Process]:
        alive = await self._tasks.until_redis(lambda: self.store.is_alive(processes))
        return set() if self.patience.is_needed else processes - alive

    async def _end(self, left: _Left) -> None:
        command = left.command
        try:
            if left.state.state is Stage.FINAL:
                await self.finals.adopt(command, left.state)
            elif await self.finals.end(command, outcome.node_lost(), message_id=left.state.message_id):
                log.info(
                    "{lost_node_id} has died with a command for {charge_point_id} under way",
                    event="command.node_lost",
                    command_id=command.command_id,
                    charge_point_id=command.charge_point_id,
                    lost_node_id=left.process.node_id,
                )
        finally:
            self._looked_after.discard(command.command_id)


@frozen
class _Left:
    command: Command
    state: CommandState
    process: Process
    """Who has to end it."""


def _responsible(state: CommandState) -> Process | None:
    if state.state is Stage.SENT:
        return state.sent_by
    return state.final_by if state.state is Stage.FINAL else None
