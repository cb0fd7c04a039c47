"""Commands that wait in Redis for a charge point that is offline, and what becomes of them without it.

Parked, a command is nobody's but Redis's: the node that its charge point comes to sends it (``unparking``), and all
nodes sweep for those that nobody comes for, or whose sender has died. One with a secret is not written down, so it is
not parked.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from attrs import define
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.outcome import Outcome, event_key, event_record, repeatable_event_id
from ocpp_gateway.commands.recovery import Recovery
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.secrecy import secrets_of
from ocpp_gateway.commands.states import CommandState, CommandStore, Stage
from ocpp_gateway.commands.states import Parking as ParkingResult
from ocpp_gateway.commands.tasks import Tasks

log = Logger()

_SWEPT_AT_ONCE: Final = 100


class Parked(Enum):
    """Whether a command was parked."""

    YES = auto()
    CONNECTED = auto()  # its charge point has come meanwhile
    MOVED_ON = auto()  # somebody else has sent or ended it


@define(eq=False, kw_only=True)
class Parking:
    """See the module's text. At most ``limit`` commands wait for a charge point."""

    store: CommandStore
    finals: Finals
    recovery: Recovery
    clock: Clock
    limit: int
    tasks: Tasks

    async def park(self, command: Command) -> Parked | Outcome:
        """Let ``command`` wait; an Outcome: it cannot, and ends so."""
        if secrets_of(command.command_type, command.payload):
            return outcomes.failed("secret_not_parkable")
        parked = await self.tasks.until_redis(lambda: self.store.park(command, command.send_before_ms, self.limit))
        if parked is ParkingResult.FULL:
            return outcomes.failed("parking_full")
        if parked is ParkingResult.PARKED:
            return Parked.YES
        return Parked.CONNECTED if parked is ParkingResult.CONNECTED else Parked.MOVED_ON

    async def tell(self, command: Command) -> None:
        """Publish that ``command`` waits; returns when Kafka has it. Told again, it has the same eventId."""
        outcome = outcomes.queued(command.send_before_ms)
        record = event_record(
            outcome,
            command,
            envelope=None,
            stamps=self.finals.stamps,
            node_id=self.finals.process.node_id,
            now=self.clock.now(),
            event_id=repeatable_event_id(command, outcome.event_type),
        )
        await self.finals.events.publish(event_key(command), record)

    async def sweep(self) -> None:
        """End parked commands whose time is over, and those whose process has died. Raises StoreUnavailable."""
        now_ms = int(self.clock.now() * 1000)
        due = await self.store.due(now_ms, _SWEPT_AT_ONCE)
        if not due:
            return
        states = await self.store.look([command.command_id for command in due])
        under_way: list[tuple[Command, CommandState]] = []
        for command, state in zip(due, states, strict=True):
            if state is None or state.state is Stage.DONE:
                continue
            if state.state is not Stage.OPEN:
                under_way.append((command, state))
            elif command.is_expired(now_ms):
                self.tasks.run(self._expire(command))
        self.recovery.look_after(under_way)

    async def stop(self) -> None:
        """Leave it to others."""
        await self.tasks.finish(0)

    async def _expire(self, command: Command) -> None:
        await self.finals.end(command, outcomes.failed("command_expired"))
