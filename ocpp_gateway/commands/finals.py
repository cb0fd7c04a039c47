"""The final event of a command: decided once, stored, published, and only then done.

::

    finish (compare and set in Redis) ── no ──> somebody else has sent or ended it
        │ yes: we have to publish it, and nobody else does unless we die
        v
    Kafka has it ──> published ──> done

Once decided it goes its way whatever becomes of the one who asked for it.
"""

from __future__ import annotations

from typing import Final, Protocol

import orjson
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.outcome import Outcome, event_key, event_record
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.request import Command, CommandInvalid
from ocpp_gateway.commands.states import CommandState, CommandStore, Process
from ocpp_gateway.commands.states import Final as FinalEvent
from ocpp_gateway.commands.tasks import Bell, Tasks
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps

log = Logger()

_LOST_SUMMARY: Final = b"{}"
_AGAIN_SECONDS: Final = 1.0


class CommandCounters(Protocol):
    """What is counted of commands."""

    def count_command(self, event_type: str, reason: str) -> None:
        """A command ended here with this event."""
        ...

    def count_unusable_command(self, reason: str) -> None:
        """A record does not even say which command it is."""
        ...


@define(eq=False, kw_only=True)
class Finals:
    """See the module's text. ``process``: ours."""

    store: CommandStore
    events: CommandEvents
    counters: CommandCounters
    stamps: EventStamps
    clock: Clock
    process: Process
    _under_way: set[str] = field(factory=set, init=False)
    """Event ids of those that this process is about to publish."""

    _tasks: Tasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)

    def __len__(self) -> int:
        return len(self._tasks)

    async def end(
        self,
        command: Command,
        outcome: Outcome,
        *,
        defect: CommandInvalid | None = None,
        envelope: Envelope | None = None,
        message_id: str | None = None,
        audit: bytes | None = None,
    ) -> bool:
        """End ``command`` with ``outcome``; returns True when Kafka has the event and Redis knows.

        False: somebody else has sent or ended it. ``message_id``: of the CALL that this ends; None: it was not sent.
        ``defect``: ``command`` only stands in for a record that is none.
        """
        ended: Deferred[bool] = Deferred()
        record = event_record(
            outcome,
            command if defect is None else defect,
            envelope=envelope,
            stamps=self.stamps,
            node_id=self.process.node_id,
            now=self.clock.now(),
        )
        final = FinalEvent(record.event_id, event_key(command), record.value, record.headers)
        self._tasks.run(self._end(command, outcome, final, message_id, audit, ended))
        return await ended

    async def adopt(self, command: Command, state: CommandState) -> None:
        """Publish the final event that a dead process has stored, unless it did so itself."""
        dead, known = state.final_by, state.final
        if dead is None or known is None or known.event_id in self._under_way:
            return
        ours = {known.event_id}
        self._under_way |= ours
        try:
            final = await self._tasks.until_redis(lambda: self.store.adopt(command.command_id, dead, self.process))
            if final is None and await self._is_lost(command) and await self._store(command, known, state):
                final = known
            if final is not None and final.event_id not in ours:
                # A later record has begun the command anew meanwhile, and it has ended, too.
                if final.event_id in self._under_way:
                    return
                ours.add(final.event_id)
                self._under_way |= ours
            if final is not None:
                log.debug(
                    "The end of a command is told in place of {lost_node_id}",
                    event="command.adopted",
                    command_id=command.command_id,
                    charge_point_id=command.charge_point_id,
                    lost_node_id=dead.node_id,
                )
                await self._publish(command, final, state.final_at_ms)
        finally:
            self._under_way -= ours

    async def stop(self, seconds: float) -> None:
        """Let what is under way end, for so long at most. Others adopt the rest."""
        await self._tasks.finish(seconds)

    async def _end(
        self,
        command: Command,
        outcome: Outcome,
        final: FinalEvent,
        message_id: str | None,
        audit: bytes | None,
        ended: Deferred[bool],
    ) -> None:
        stored = False
        self._under_way.add(final.event_id)
        try:
            stored = await self._tasks.until_redis(
                lambda: self.store.finish(
                    command,
                    final,
                    self.process,
                    message_id=message_id,
                    is_retryable=outcome.is_retryable,
                    summary=_summary(command, outcome),
                    audit=audit,
                )
            )
            if stored:
                self._tell(command, outcome)
                await self._publish(command, final, None)
        except CancelledError:
            raise
        except Exception:  # ours; False would mean that somebody else ends it
            if ended.called:
                raise
            ended.errback()
        finally:
            self._under_way.discard(final.event_id)
            if not ended.called:
                ended.callback(stored)

    async def _publish(self, command: Command, final: FinalEvent, since_ms: int | None) -> None:
        """Returns when that is done, whatever comes in between: as long as we live nobody else tells it."""
        begun_ms = int(self.clock.now() * 1000)
        while True:
            try:
                await self.events.publish_final(final, since_ms)
                await self._tasks.until_redis(lambda: self.store.published(command, final.event_id))
                return
            except CancelledError:
                raise
            except Exception:
                log.failure(
                    "The end of a command for {charge_point_id} could not be told",
                    event="command.broken",
                    reason="internal_error",
                    command_id=command.command_id,
                    charge_point_id=command.charge_point_id,
                )
            await Bell(self.clock).wait(_AGAIN_SECONDS)
            since_ms = begun_ms if since_ms is None else since_ms  # it may be there by now

    async def _is_lost(self, command: Command) -> bool:
        """Redis has nothing of it any more."""
        states = await self._tasks.until_redis(lambda: self.store.look([command.command_id]))
        return states == [None]

    async def _store(self, command: Command, final: FinalEvent, state: CommandState) -> bool:
        return await self._tasks.until_redis(
            lambda: self.store.finish(
                command,
                final,
                self.process,
                message_id=state.message_id,
                is_retryable=False,
                summary=state.summary or _LOST_SUMMARY,
                audit=None,
            )
        )

    def _tell(self, command: Command, outcome: Outcome) -> None:
        self.counters.count_command(outcome.event_type, outcome.reason)
        log.debug(
            "{command_type} for {charge_point_id}: {reason}",
            event="command.ended",
            command_id=command.command_id,
            command_type=command.command_type,
            charge_point_id=command.charge_point_id,
            outcome=outcome.event_type,
            reason=outcome.reason,
        )


def _summary(command: Command, outcome: Outcome) -> bytes:
    payload = {"commandType": command.command_type, **outcome.payload}
    return orjson.dumps({"eventType": outcome.event_type, "payload": payload})
