"""A Redis in memory with the semantics of the scripts (``redis/commands.py``), and small things that tests share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import orjson
from attrs import define, field

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import (
    Begun,
    CommandState,
    Final,
    Owner,
    Parking,
    Process,
    Stage,
    Verdict,
)
from ocpp_gateway.errors import BusUnavailable, StoreUnavailable

NOW_MS = 1_767_323_045_678
LOOK_AGAIN_MS = 5_000


def command(number: int = 1, **changes: Any) -> Command:
    return attrs.evolve(
        Command(
            command_id=f"c-{number}",
            command_type="Reset",
            charge_point_id="CP-001",
            requested_at_ms=NOW_MS,
            timeout_seconds=15.0,
            payload={"type": "Soft"},
            source=f"cpms.command.requests/0/{number}",
        ),
        **changes,
    )


def request_of(wanted: Command) -> bytes:
    """The record of the topic that ``wanted`` is read from."""
    return orjson.dumps(
        {
            "commandId": wanted.command_id,
            "commandType": wanted.command_type,
            "chargePointId": wanted.charge_point_id,
            "requestedAt": wanted.requested_at_ms,
            "timeoutSec": wanted.timeout_seconds,
            "deliverWithinSec": wanted.deliver_within_seconds,
            "connectorId": wanted.connector_id,
            "payload": wanted.payload,
        }
    )


@attrs.frozen
class Record:
    """As the consumer gives it."""

    partition: int
    offset: int
    value: bytes | None
    timestamp_ms: int = NOW_MS
    assignment: int = 0

    @property
    def source(self) -> str:
        return f"cpms.command.requests/{self.partition}/{self.offset}"


@define(eq=False)
class _Row:
    state: CommandState
    is_retryable: bool = False
    past: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    command: Command | None = None


@define(eq=False)
class MemoryRedis:
    """All is done at once; see MemoryStore for what a node sees of it."""

    rows: dict[str, _Row] = field(factory=dict)
    leases: dict[str, str] = field(factory=dict)
    sessions: dict[str, tuple[str, int]] = field(factory=dict)
    parked: dict[str, list[str]] = field(factory=dict)
    deadlines: dict[str, int] = field(factory=dict)
    audits: dict[str, bytes] = field(factory=dict)
    writes: list[str] = field(factory=list)

    def owner(self, charge_point_id: str) -> Owner | None:
        node_id, epoch = self.sessions.get(charge_point_id, ("", 0))
        born = self.leases.get(node_id)
        return None if born is None else Owner(node_id, born, epoch, "1.6J")

    def begin(self, command: Command) -> Begun:
        row, owner = self.rows.get(command.command_id), self.owner(command.charge_point_id)
        past: tuple[str, ...] = ()
        refused: tuple[str, ...] = ()
        if row is not None:
            if row.state.source == command.source:
                return Begun(Verdict.RESUMED, row.state, owner)
            if command.source in row.past:
                return Begun(Verdict.RESUMED, CommandState(state=Stage.DONE, source=command.source), owner)
            if command.source in row.refused:
                return Begun(Verdict.DUPLICATE, row.state, owner)
            if row.state.state is not Stage.DONE or not row.is_retryable:
                row.refused = (command.source, *row.refused)
                return Begun(Verdict.DUPLICATE, row.state, owner)
            past, refused = (row.state.source, *row.past), row.refused
        state = CommandState(state=Stage.OPEN, source=command.source, charge_point_id=command.charge_point_id)
        self.rows[command.command_id] = _Row(state, past=past, refused=refused)
        return Begun(Verdict.NEW, state, owner)

    def is_alive(self, processes: Iterable[Process]) -> set[Process]:
        return {process for process in processes if self.leases.get(process.node_id) == process.born}

    def send(self, command: Command, process: Process, epoch: int, message_id: str, audit: bytes, now_ms: int) -> bool:
        row = self.rows.get(command.command_id)
        if row is not None and row.state.state is Stage.SENT:
            state = row.state
            return (state.source, state.sent_by, state.message_id) == (command.source, process, message_id)
        if row is not None and (row.state.state is not Stage.OPEN or row.state.source != command.source):
            return False
        row = self._row(command)
        row.state = attrs.evolve(row.state, state=Stage.SENT, sent_by=process, epoch=epoch, message_id=message_id)
        self._move_on(command, row, now_ms)
        self.audits[command.command_id] = audit
        return True

    def finish(
        self,
        command: Command,
        final: Final,
        process: Process,
        message_id: str | None,
        is_retryable: bool,
        summary: bytes,
        audit: bytes | None,
        now_ms: int,
    ) -> bool:
        row = self.rows.get(command.command_id)
        if row is not None:
            state = row.state
            if state.state is Stage.DONE:
                return False
            if state.state is Stage.FINAL:
                assert state.final is not None
                return (state.final.event_id, state.final_by) == (final.event_id, process)
            if state.source != command.source:
                return False
            if state.state is Stage.SENT and (message_id is None or message_id != state.message_id):
                return False
        row = self._row(command)
        row.state = attrs.evolve(
            row.state, state=Stage.FINAL, final_by=process, final=final, final_at_ms=now_ms, summary=summary
        )
        row.is_retryable = is_retryable
        self._move_on(command, row, now_ms)
        if audit is not None:
            self.audits[command.command_id] = audit
        return True

    def adopt(self, command_id: str, dead: Process, process: Process) -> Final | None:
        row = self.rows.get(command_id)
        if row is None or row.state.state is not Stage.FINAL:
            return None
        if row.state.final_by != process:
            if row.state.final_by != dead or self.is_alive([dead]):
                return None
            row.state = attrs.evolve(row.state, final_by=process)
        return row.state.final

    def published(self, command: Command, event_id: str) -> None:
        row = self.rows.get(command.command_id)
        if row is None:
            row = self._row(command)
        elif row.state.final is None or row.state.final.event_id != event_id:
            return
        row.state = attrs.evolve(row.state, state=Stage.DONE, final=None, is_parked=False)
        row.command = None
        if command.command_id in self.parked.get(command.charge_point_id, ()):
            self.parked[command.charge_point_id].remove(command.command_id)
        self.deadlines.pop(command.command_id, None)

    def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        rows = [self.rows.get(command_id) for command_id in command_ids]
        return [None if row is None else row.state for row in rows]

    def park(self, command: Command, expires_at_ms: int, limit: int) -> Parking:
        row = self.rows.get(command.command_id)
        if row is not None and (row.state.state is not Stage.OPEN or row.state.source != command.source):
            return Parking.NOT_OPEN
        if row is not None and row.state.is_parked:
            return Parking.PARKED
        if self.owner(command.charge_point_id) is not None:
            return Parking.CONNECTED
        waiting = self.parked.setdefault(command.charge_point_id, [])
        if len(waiting) >= limit:
            return Parking.FULL
        row = self._row(command)
        row.state = attrs.evolve(row.state, is_parked=True)
        row.command = command
        waiting.append(command.command_id)
        self.deadlines[command.command_id] = expires_at_ms
        return Parking.PARKED

    def parked_of(self, charge_point_id: str) -> list[Command]:
        rows = [self.rows.get(each) for each in self.parked.get(charge_point_id, ())]
        return [row.command for row in rows if row and row.command and row.state.state is Stage.OPEN]

    def due(self, now_ms: int, limit: int) -> list[Command]:
        due: list[Command] = []
        for command_id, at_ms in sorted(self.deadlines.items(), key=lambda each: each[1])[:limit]:
            if at_ms > now_ms:
                break
            row = self.rows.get(command_id)
            if row is None or row.command is None:
                del self.deadlines[command_id]
            else:
                self.deadlines[command_id] = now_ms + LOOK_AGAIN_MS
                due.append(row.command)
        return due

    def flush(self) -> None:
        """Redis comes back empty."""
        for table in (self.rows, self.leases, self.sessions, self.parked, self.deadlines, self.audits):
            table.clear()

    def _row(self, command: Command) -> _Row:
        state = CommandState(state=Stage.OPEN, source=command.source, charge_point_id=command.charge_point_id)
        return self.rows.setdefault(command.command_id, _Row(state))

    def _move_on(self, command: Command, row: _Row, now_ms: int) -> None:
        if row.state.is_parked:
            self.deadlines[command.command_id] = now_ms + LOOK_AGAIN_MS


@define(eq=False, slots=False)
class MemoryStore:
    """The CommandStore of one node. ``reach`` stands for the way there and back; it raises StoreUnavailable."""

    redis: MemoryRedis
    now_ms: Any
    is_away: bool = False

    async def reach(self) -> None:
        """The way to Redis."""
        if self.is_away:
            raise StoreUnavailable("away")

    async def back(self) -> None:
        """The way back; what was done is done."""

    async def _do(self, what: Any, *args: Any) -> Any:
        await self.reach()
        result = what(*args)
        await self.back()
        return result

    async def begin(self, command: Command) -> Begun:
        return await self._do(self.redis.begin, command)

    async def owner(self, charge_point_id: str) -> Owner | None:
        return await self._do(self.redis.owner, charge_point_id)

    async def is_alive(self, processes: Iterable[Process]) -> set[Process]:
        return await self._do(self.redis.is_alive, list(processes))

    async def send(self, command: Command, process: Process, epoch: int, message_id: str, audit: bytes) -> bool:
        return await self._do(self.redis.send, command, process, epoch, message_id, audit, self.now_ms())

    async def finish(
        self,
        command: Command,
        final: Final,
        process: Process,
        *,
        message_id: str | None,
        is_retryable: bool,
        summary: bytes,
        audit: bytes | None,
    ) -> bool:
        return await self._do(
            self.redis.finish, command, final, process, message_id, is_retryable, summary, audit, self.now_ms()
        )

    async def adopt(self, command_id: str, dead: Process, process: Process) -> Final | None:
        return await self._do(self.redis.adopt, command_id, dead, process)

    async def published(self, command: Command, event_id: str) -> None:
        await self._do(self.redis.published, command, event_id)

    async def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        return await self._do(self.redis.look, command_ids)

    async def park(self, command: Command, expires_at_ms: int, limit: int) -> Parking:
        return await self._do(self.redis.park, command, expires_at_ms, limit)

    async def parked(self, charge_point_id: str) -> list[Command]:
        return await self._do(self.redis.parked_of, charge_point_id)

    async def due(self, now_ms: int, limit: int) -> list[Command]:
        return await self._do(self.redis.due, now_ms, limit)


@define(eq=False)
class Topic:
    """``ocpp.command.events``: what arrived, in order. ``failures`` are met by the next records, one each."""

    records: list[tuple[str, dict[str, Any]]] = field(factory=list)
    failures: list[BusUnavailable] = field(factory=list)
    raises: list[Exception] = field(factory=list)
    arrives_all_the_same: bool = False
    held: list[tuple[Any, ...]] | None = None
    """What has not arrived yet; None: all arrives at once."""

    searches: list[set[str]] = field(factory=list)

    def publish(self, topic: str, key: bytes, value: bytes, headers: Any, delivered: Any) -> None:
        assert topic == "ocpp.command.events"
        if self.raises:
            raise self.raises.pop(0)
        if self.held is not None:
            self.held.append((topic, key, value, headers, delivered))
            return
        error = self.failures.pop(0) if self.failures else None
        if error is None or self.arrives_all_the_same:
            self.append(value, headers)
        delivered(error)

    def append(self, value: bytes, headers: Any) -> None:
        self.records.append((dict(headers)["ce_id"].decode(), orjson.loads(value)))

    async def search(self, event_ids: set[str], since_ms: int) -> set[str]:
        self.searches.append(event_ids)
        return event_ids & {event_id for event_id, _ in self.records}

    def types(self, command_id: str | None = None) -> list[str]:
        return [event["eventType"] for _, event in self.records if command_id in (None, event.get("correlationId"))]

    def finals(self, command_id: str) -> list[dict[str, Any]]:
        others = ("CommandDispatched", "CommandQueued", "CommandDuplicate")
        return [
            event
            for _, event in self.records
            if event["correlationId"] == command_id and event["eventType"] not in others
        ]


@define
class Tally:
    """CommandCounters."""

    commands: list[tuple[str, str]] = field(factory=list)
    unusable: list[str] = field(factory=list)

    def count_command(self, event_type: str, reason: str) -> None:
        self.commands.append((event_type, reason))

    def count_unusable_command(self, reason: str) -> None:
        self.unusable.append(reason)
