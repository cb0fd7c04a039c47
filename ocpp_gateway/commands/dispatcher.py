"""Commands from Kafka, each until its final event is there, whoever carries it out, and whoever dies meanwhile.

::

    received ── begin ── duplicate ───────────> CommandDuplicate
                  └───── driven (``driving``) until it is done, or parked ──> its offset may be committed

This node keeps the responsibility for a command until then: what is said over the node bus are hints, the truth is in
Redis, where it is looked up each second. If this node dies, its records go to another one, which resumes where Redis
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.driving import Driver, ParkingLot
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.flights import CommandRecord, Flight, Queue
from ocpp_gateway.commands.origins import Taker
from ocpp_gateway.commands.patience import Patience
from ocpp_gateway.commands.recovery import Recovery
from ocpp_gateway.commands.request import Command, CommandInvalid, parse
from ocpp_gateway.commands.states import CommandBus, CommandStore, Process, Taking, Verdict
from ocpp_gateway.commands.tasks import Bell, Tasks
from ocpp_gateway.errors import StoreUnavailable

log = Logger()

_LOOKED_UP_AT_ONCE: Final = 500
_LOG_SECONDS: Final = 300.0


@define(eq=False, kw_only=True)
class Dispatcher:
    """See the module's text. ``finished`` is told which records are done with.

    ``default_timeout``: seconds, of a command that does not say. What is held is what the consumer has under way.
    """

    store: CommandStore
    bus: CommandBus
    taker: Taker
    parking: ParkingLot
    finals: Finals
    recovery: Recovery
    clock: Clock
    patience: Patience
    finished: Callable[[Any], object]
    default_timeout: float
    _flights: dict[str, Flight] = field(factory=dict, init=False)
    """By the source of their record."""

    _begun: dict[str, list[Flight]] = field(factory=dict, init=False)
    """Those that are begun and no duplicates, by commandId: another record may have begun it anew already."""

    _queues: dict[str, Queue] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _hinted: set[str] = field(factory=set, init=False)
    _is_looking: bool = field(default=False, init=False)
    _is_stopping: bool = field(default=False, init=False)
    _logged_at: float | None = field(default=None, init=False)
    _emptied: Bell = field(init=False)
    _tasks: Tasks = field(init=False)
    _driver: Driver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)
        self._emptied = Bell(self.clock)
        self._driver = Driver(
            store=self.store,
            bus=self.bus,
            taker=self.taker,
            parking=self.parking,
            finals=self.finals,
            clock=self.clock,
            tasks=self._tasks,
            patience=self.patience,
        )

    def __len__(self) -> int:
        """How many records are under way."""
        return len(self._flights)

    # What the consumer says.

    def received(self, records: Sequence[CommandRecord]) -> None:
        """Records have come, in the order of their partition."""
        for record in records:
            flight = self._flights.get(record.source)
            if flight is not None and flight.record.value == record.value:
                flight.record = record  # delivered again, while it is still under way here
                continue
            if flight is not None:  # the topic was made anew, and counts from 0 again
                self._drop(flight)
            if not self._is_stopping:
                self._receive(record)

    def revoked(self, partitions: Iterable[int]) -> None:
        """These are another node's from now on: it resumes what is under way."""
        gone = set(partitions)
        self._drop_all([flight for flight in self._flights.values() if flight.record.partition in gone])

    # What the node bus says.

    def heard_taken(self, command_id: str, process: Process, result: Taking) -> None:
        """``process`` was asked to carry a command out."""
        for flight in tuple(self._begun.get(command_id, ())):
            if result is Taking.TAKEN:
                flight.accepted(process)
            elif flight.taken_at is None or flight.taken_by == process:  # else another one has taken it meanwhile
                flight.refused()

    def heard_done(self, command_id: str) -> None:
        """The final event of a command is out, as somebody says."""
        if command_id in self._begun:
            self._hinted.add(command_id)
            if not self._is_looking:
                self._is_looking = True
                self._tasks.run(self._look_at_hinted())

    # Each second.

    async def poll(self) -> None:
        """See how far all commands are. Raises StoreUnavailable."""
        flights = self._all_begun()
        for start in range(0, len(flights), _LOOKED_UP_AT_ONCE):
            await self._driver.look_up(flights[start : start + _LOOKED_UP_AT_ONCE])
        self.recovery.look_after(
            [(flight.command, flight.state) for flight in self._all_begun() if flight.state is not None]
        )

    async def stop(self, seconds: float) -> None:
        """Begin nothing new; wait for so long at most that what is under way is done. The rest is for another node."""
        self._is_stopping = True
        self._drop_all([flight for flight in self._flights.values() if not flight.is_begun])
        end = self.clock.monotonic() + seconds
        while self._flights and (left := end - self.clock.monotonic()) > 0:
            await self._emptied.wait(left)
        self._drop_all(list(self._flights.values()))
        await self._tasks.finish(0)

    def _all_begun(self) -> list[Flight]:
        return [flight for flights in self._begun.values() for flight in flights]

    # One record.

    def _receive(self, record: CommandRecord) -> None:
        now_ms = int(self.clock.now() * 1000)
        defect: CommandInvalid | None = None
        try:
            command = parse(
                record.value,
                source=record.source,
                timestamp_ms=record.timestamp_ms,
                now_ms=now_ms,
                default_timeout=self.default_timeout,
            )
        except CommandInvalid as error:
            if error.command_id is None:
                self._unusable(record, error)
                return
            command, defect = _stand_in(error, error.command_id, record.source, now_ms), error
        self._count += 1
        queue = self._queues.setdefault(command.charge_point_id, Queue(self.clock))
        queue.members += 1
        flight = Flight(
            record=record, command=command, defect=defect, clock=self.clock, queue=queue, number=self._count
        )
        self._flights[record.source] = flight
        self._tasks.run(self._fly(flight))

    def _unusable(self, record: CommandRecord, error: CommandInvalid) -> None:
        self.finals.counters.count_unusable_command(error.reason)
        now = self.clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warn(
                "A record of the commands' topic names no command: {problem}",
                event="command.unusable",
                reason=error.reason,
                problem=error.text,
                source=record.source,
            )
        self.finished(record)

    async def _fly(self, flight: Flight) -> None:
        await flight.queue.turn(flight)
        while not flight.is_over:
            try:
                await self._begin(flight)
            except CancelledError:
                raise
            except Exception:  # ours; its end, its charge point's other commands and the offset must not wait for ever
                log.failure(
                    "A command for {charge_point_id} could not be handled",
                    event="command.broken",
                    reason="internal_error",
                    command_id=flight.command.command_id,
                    charge_point_id=flight.command.charge_point_id,
                )
                if await self._driver.end_broken(flight):
                    break
            else:
                break
        if not flight.is_over:
            self._drop(flight)
            self.finished(flight.record)

    async def _begin(self, flight: Flight) -> None:
        flight.is_begun = True
        begun = await self._tasks.until_redis(lambda: self.store.begin(flight.command))
        if begun.verdict is Verdict.DUPLICATE:
            flight.queue.leave(flight)
            await self._driver.tell_duplicate(flight)
        elif not flight.is_over:
            flight.state = begun.state
            begun_flights = self._begun.setdefault(flight.command.command_id, [])
            if flight not in begun_flights:
                begun_flights.append(flight)
            await self._driver.drive(flight, begun.owner)

    def _drop_all(self, flights: list[Flight]) -> None:
        for flight in reversed(flights):  # or the turn would go on to one that is dropped next
            self._drop(flight)

    def _drop(self, flight: Flight) -> None:
        """Nothing is left to do for it here."""
        if flight.is_over:
            return
        flight.is_over = True
        del self._flights[flight.record.source]
        begun = self._begun.get(flight.command.command_id, [])
        if flight in begun:
            begun.remove(flight)
            if not begun:
                del self._begun[flight.command.command_id]
        queue = flight.queue
        queue.leave(flight)
        queue.members -= 1
        if not queue.members:
            del self._queues[flight.command.charge_point_id]
        flight.bell.ring()
        if not self._flights:
            self._emptied.ring()

    async def _look_at_hinted(self) -> None:
        try:
            while self._hinted:
                hinted, self._hinted = self._hinted, set()
                flights = [flight for each in hinted for flight in self._begun.get(each, ())]
                if flights:
                    await self._driver.look_up(flights)
        except StoreUnavailable:
            pass  # the poll goes on
        finally:
            self._is_looking = False


def _stand_in(defect: CommandInvalid, command_id: str, source: str, now_ms: int) -> Command:
    """What the store needs of a command, for a record that is none."""
    return Command(
        command_id=command_id,
        command_type=defect.command_type or "",
        charge_point_id=defect.charge_point_id or "",
        requested_at_ms=now_ms,
        timeout_seconds=1.0,
        source=source,
    )
