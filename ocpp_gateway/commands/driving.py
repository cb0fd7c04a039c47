"""One command, from its beginning until it is done or parked: what is to be done next follows from what Redis says.

::

           ┌── open ── too late ─────────────────────────────────> CommandFailed
           │      ├── charge point offline ──────────────────────> CommandFailed, or parked
           │      └── handed over to its owner ── taken ── sent ── final ── done
           └──────────────── not here, silence ─────┘
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Protocol

from attrs import define
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.flights import Flight
from ocpp_gateway.commands.origins import Taker
from ocpp_gateway.commands.outcome import Outcome, event_key, event_record
from ocpp_gateway.commands.parking import Parked
from ocpp_gateway.commands.patience import Patience
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandBus, CommandState, CommandStore, Owner, Stage
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.errors import StoreUnavailable

log = Logger()

_AGAIN_SECONDS: Final = 1.0
"""Until it is handed over once more, if nobody says that it was taken."""

_TAKEN_SECONDS: Final = 5.0
"""For so long that is believed: who took it may have died, or forgotten it."""

_FIRST_REFUSAL_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 60.0


class ParkingLot(Protocol):
    """Where commands wait for their charge point."""

    async def park(self, command: Command) -> Parked | Outcome:
        """What became of it; an Outcome: it cannot be parked, and ends so."""
        ...

    async def tell(self, command: Command) -> None:
        """Publish that it is parked; returns when Kafka has it."""
        ...


@define(eq=False, kw_only=True)
class Driver:
    """See the module's text."""

    store: CommandStore
    bus: CommandBus
    taker: Taker
    parking: ParkingLot
    finals: Finals
    clock: Clock
    tasks: Tasks
    patience: Patience

    async def drive(self, flight: Flight, owner: Owner | None) -> None:
        """Until it is done, or parked, or over. ``owner``: who had its charge point when it was begun."""
        is_known = True  # begin has told the owner
        while not flight.is_over and flight.stage is not Stage.DONE:
            if flight.stage is not Stage.OPEN:
                flight.queue.leave(flight)
                await flight.bell.wait()
            elif flight.state is not None and flight.state.is_parked:
                await self.parking.tell(flight.command)  # again, perhaps
                return
            elif flight.defect is not None:
                await self._fail(flight, outcomes.invalid(flight.defect))
            elif flight.command.is_expired(int(self.clock.now() * 1000)):
                await self._fail(flight, outcomes.failed("command_expired"))
            elif flight.taken_at is not None and flight.taken_at + _TAKEN_SECONDS > self.clock.monotonic():
                flight.queue.handed_over(flight)
                if flight.taken_at is not None:  # else the next one, whose turn it was in there, has called it back
                    await flight.bell.wait(min(_TAKEN_SECONDS, flight.seconds_left))
            else:
                flight.taken_at = None
                if not flight.queue.is_turn_of(flight):
                    await flight.queue.turn(flight)
                    is_known = False
                if not is_known:
                    owner = await self.tasks.until_redis(lambda: self.store.owner(flight.command.charge_point_id))
                is_known = False
                if flight.is_over or flight.stage is not Stage.OPEN or flight.taken_at is not None:
                    continue
                if not flight.queue.is_turn_of(flight):
                    continue  # an earlier one has come back meanwhile
                if await self._go_on(flight, owner):
                    return

    async def _go_on(self, flight: Flight, owner: Owner | None) -> bool:
        """It is its turn, and nobody has it. True: it is parked."""
        if owner is None and self.patience.is_needed:
            await flight.bell.wait(min(_AGAIN_SECONDS, flight.seconds_left))
        elif owner is None and not flight.command.deliver_within_seconds:
            await self._fail(flight, outcomes.failed("charge_point_offline"))
        elif flight.queue.recall(flight, None if owner is None else owner.process, ours=self.finals.process):
            pass  # these go first, to the same place
        elif owner is None:
            return await self._is_parked(flight)
        else:
            await self._hand_over(flight, owner)
        return False

    async def _hand_over(self, flight: Flight, owner: Owner) -> None:
        flight.attempts += 1
        refusals = flight.refusals
        if owner.process == self.finals.process:
            self.taker.take(flight.command, flight)
        else:
            with suppress(StoreUnavailable):  # as if nobody had heard it
                await self.bus.hand_over(owner.node_id, flight.command, flight.attempts)
        if flight.taken_at is None and flight.refusals == refusals and flight.stage is Stage.OPEN:
            await flight.bell.wait(min(_AGAIN_SECONDS, flight.seconds_left))
        if flight.taken_at is None and flight.refusals > refusals:
            # Its session has just ended, and Redis will know soon; or it has come to another node.
            pause = _FIRST_REFUSAL_SECONDS * 2 ** min(flight.refusals - 1, 10)
            await flight.bell.wait(min(pause, _AGAIN_SECONDS, flight.seconds_left))

    async def _is_parked(self, flight: Flight) -> bool:
        """The charge point is offline. True: the command waits for it. False: it has ended, or goes on otherwise."""
        parked = await self.parking.park(flight.command)
        if isinstance(parked, Outcome):
            await self._fail(flight, parked)
        elif parked is Parked.YES:
            flight.queue.leave(flight)
            await self.parking.tell(flight.command)
            return True
        elif parked is Parked.MOVED_ON:
            await self.tasks.until_redis(lambda: self.look_up([flight]))
        return False

    async def _fail(self, flight: Flight, outcome: Outcome) -> None:
        """End it, as it was not sent. If it was all the same, it goes its way."""
        if await self.finals.end(flight.command, outcome, defect=flight.defect):
            flight.ended(flight.command.command_id)
        else:
            await self.tasks.until_redis(lambda: self.look_up([flight]))
            if flight.stage is Stage.OPEN:
                await flight.bell.wait(_AGAIN_SECONDS)

    async def end_broken(self, flight: Flight) -> bool:
        """It met a defect of ours: end it, if it was not sent. False, and after a while: it cannot be ended so."""
        try:
            if await self.finals.end(flight.command, outcomes.internal_error(may_be_sent=False), defect=flight.defect):
                return True
        except CancelledError:
            raise
        except Exception:
            log.failure(
                "A command for {charge_point_id} could not be ended",
                event="command.broken",
                reason="internal_error",
                command_id=flight.command.command_id,
                charge_point_id=flight.command.charge_point_id,
            )
        flight.queue.leave(flight)
        await flight.bell.wait(min(_AGAIN_SECONDS * 2**flight.defects, _LONGEST_PAUSE_SECONDS))
        flight.defects += 1
        return False

    async def tell_duplicate(self, flight: Flight) -> None:
        """Another record had its commandId before; returns when Kafka has that event."""
        duplicate = outcomes.duplicate()
        record = event_record(
            duplicate,
            flight.command if flight.defect is None else flight.defect,
            envelope=None,
            stamps=self.finals.stamps,
            node_id=self.finals.process.node_id,
            now=self.clock.now(),
        )
        self.finals.counters.count_command(duplicate.event_type, duplicate.reason)
        await self.finals.events.publish(event_key(flight.command), record)

    async def look_up(self, flights: list[Flight]) -> None:
        """Ask Redis how far they are. Raises StoreUnavailable."""
        states = await self.store.look([flight.command.command_id for flight in flights])
        for flight, state in zip(flights, states, strict=True):
            if not flight.is_over:
                flight.learned(_as_of(flight, state))


def _as_of(flight: Flight, state: CommandState | None) -> CommandState | None:
    if state is not None and state.source not in ("", flight.command.source):
        return CommandState(state=Stage.DONE)  # another record has begun the command anew, so ours is done
    return state
