"""A command on its way through the dispatcher, and those of one charge point in order."""

from __future__ import annotations

import heapq
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.request import Command, CommandInvalid
from ocpp_gateway.commands.states import CommandState, Process, Stage
from ocpp_gateway.commands.tasks import Bell


class CommandRecord(Protocol):
    """A record of the topic, as it is received."""

    @property
    def partition(self) -> int:
        """Where it is."""
        ...

    @property
    def source(self) -> str:
        """Names it among all records, however often it is received."""
        ...

    @property
    def value(self) -> bytes | None:
        """What it says."""
        ...

    @property
    def timestamp_ms(self) -> int:
        """Its own time, milliseconds since the epoch."""
        ...


@define(eq=False, kw_only=True)
class Flight:
    """One command under way, and what is known of it. It is the Origin of what this node itself carries out."""

    record: CommandRecord
    command: Command
    defect: CommandInvalid | None
    """``command`` only stands in for a record that is none."""

    clock: Clock
    queue: Queue
    number: int
    """Earlier ones of the same charge point have lower numbers."""

    state: CommandState | None = None
    """The last that is known; None: nothing, or Redis has lost it before it was sent."""

    is_begun: bool = False
    is_over: bool = False
    """Nothing is left to do for it here."""

    attempts: int = 0
    """How often it was handed over."""

    refusals: int = 0
    """How often in a row the owner said that it has no such charge point."""

    defects: int = 0
    """How often one of ours kept it from its end."""

    taken_at: float | None = None
    """Monotonic; None: it is in no outbox, as far as we know, or that has to be asked again."""

    taken_by: Process | None = None
    turn: Deferred[None] | None = None
    bell: Bell = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bell = Bell(self.clock)

    @property
    def stage(self) -> Stage:
        """How far it is. What is not in Redis counts as open."""
        return Stage.OPEN if self.state is None else self.state.state

    @property
    def seconds_left(self) -> float:
        """Until it must not be sent any more."""
        return max(0.0, self.command.send_before_ms / 1000 - self.clock.now())

    def learned(self, state: CommandState | None) -> None:
        """Redis was asked."""
        known = self.state
        if state is None and known is not None and known.state in (Stage.SENT, Stage.FINAL):
            return  # lost, with all else in Redis; whoever was responsible still is
        self.state = state
        if self.stage is not Stage.OPEN:
            self.queue.leave(self)
        self.bell.ring()

    def accepted(self, process: Process | None) -> None:
        """It is in an outbox of ``process``; None: of this one."""
        self.refusals = 0
        self.taken_at, self.taken_by = self.clock.monotonic(), process
        self.bell.ring()

    def refused(self) -> None:
        """The one who was thought to have the charge point has not, or has it no more."""
        self.taken_at = None
        self.refusals += 1
        self.bell.ring()

    # As an Origin.

    def taken(self, command_id: str) -> None:
        """See Origin."""
        self.accepted(None)

    def not_here(self, command_id: str) -> None:
        """See Origin."""
        self.refused()

    def ended(self, command_id: str) -> None:
        """See Origin."""
        self.learned(CommandState(state=Stage.DONE, source=self.command.source))


@define(eq=False)
class Queue:
    """The commands of one charge point: one at a time is decided on and handed over, the earliest first.

    That holds for who asks again, too. So whose turn it is knows of each earlier one: it is done with, or in an outbox.
    """

    clock: Clock
    members: int = 0
    """How many are under way, waiting or not."""

    _current: Flight | None = field(default=None, init=False)
    _handed_over: set[Flight] = field(factory=set, init=False)
    _waiting: list[tuple[int, Flight]] = field(factory=list, init=False)

    def is_turn_of(self, flight: Flight) -> bool:
        """Not any more, when an earlier one has come back."""
        return self._current is flight and not (self._waiting and self._waiting[0][0] < flight.number)

    async def turn(self, flight: Flight) -> None:
        """Returns when it is the turn of ``flight``, or it is too late to send it, or it left."""
        if self.is_turn_of(flight) or flight.is_over:
            return
        self.leave(flight)
        if self._current is None:
            self._current = flight
            return
        turn = flight.turn = Deferred()
        heapq.heappush(self._waiting, (flight.number, flight))
        timer = self.clock.call_later(flight.seconds_left, self.leave, flight)
        try:
            await turn
        finally:
            if timer.active():
                timer.cancel()

    def handed_over(self, flight: Flight) -> None:
        """``flight`` is in an outbox."""
        self._handed_over.add(flight)
        self._pass_on(flight)

    def recall(self, flight: Flight, owner: Process | None, *, ours: Process) -> bool:
        """``owner`` has the charge point now: earlier ones in another's outbox will not go out from there.

        True: there are such, which take their turn again; it is the turn of ``flight`` behind them.
        """
        earlier = [
            each
            for each in self._handed_over
            if each.number < flight.number and each.taken_at is not None and (each.taken_by or ours) != owner
        ]
        for each in earlier:
            each.refused()
        return bool(earlier)

    def leave(self, flight: Flight) -> None:
        """``flight`` needs its turn no more, or does not wait for it."""
        self._handed_over.discard(flight)
        turn, flight.turn = flight.turn, None
        if turn is not None:
            self._waiting.remove((flight.number, flight))
            heapq.heapify(self._waiting)
            turn.callback(None)
        self._pass_on(flight)

    def _pass_on(self, flight: Flight) -> None:
        if self._current is flight:
            self._current = None
            if self._waiting:
                following = self._current = heapq.heappop(self._waiting)[1]
                turn, following.turn = following.turn, None
                if turn is not None:
                    turn.callback(None)
