"""What has waited in Redis for a charge point that has come goes out first, in the order in which it was asked for.

It waits until the charge point has had its first answer (``settled``), or until something else is to be sent to it:
then that waits for what is older. Commands stay in Redis until their final event is out, so one whose session ends
before it was sent waits for the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from weakref import WeakSet

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.executor import Executor
from ocpp_gateway.commands.origins import Origin
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.sessions import ExecutingSession
from ocpp_gateway.commands.states import CommandStore
from ocpp_gateway.commands.tasks import Bell, Tasks

log = Logger()

_RETRY_SECONDS: Final = 1.0


@define(eq=False, kw_only=True)
class Unparking:
    """See the module's text. All that is handed over to this node comes through ``take``."""

    store: CommandStore
    executor: Executor
    clock: Clock
    _fresh: WeakSet[ExecutingSession] = field(factory=WeakSet, init=False)
    """Sessions for which nobody has looked yet."""

    _behind: dict[ExecutingSession, dict[str, tuple[Command, Origin]]] = field(factory=dict, init=False)
    """What came for a session while its parked commands are looked for, by commandId. Those who handed it over do not
    go on before they are told, so it is little."""

    _once_more: set[ExecutingSession] = field(factory=set, init=False)
    """Of these, sessions for which it is to be looked for again: something may have been parked meanwhile."""

    _is_stopped: bool = field(default=False, init=False)
    _tasks: Tasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)

    def __len__(self) -> int:
        """For how many sessions it is looked for."""
        return len(self._behind)

    def opened(self, session: ExecutingSession) -> None:
        """A charge point has come."""
        self._fresh.add(session)

    def settled(self, session: ExecutingSession) -> None:
        """It may be asked what waited for it."""
        if session in self._fresh:
            self._begin(session, {})

    def recheck(self, sessions: Iterable[ExecutingSession]) -> None:
        """Others could not find them for a while, so something may have been parked although they are here."""
        self._tasks.run(self._recheck(list(sessions)))

    def take(self, command: Command, origin: Origin) -> None:
        """See Executor; what is older goes first."""
        session = self.executor.sessions.find(command.charge_point_id)
        if session is None or (session not in self._behind and session not in self._fresh):
            self.executor.take(command, origin)
            return
        if self._is_stopped:
            origin.not_here(command.command_id)
            return
        behind = self._behind.get(session)
        if behind is not None:
            behind[command.command_id] = command, origin
        else:
            self._begin(session, {command.command_id: (command, origin)})

    async def stop(self) -> None:
        """Leave it to the node that the charge points go to: what is older waits for that, so what is newer has to."""
        self._is_stopped = True
        await self._tasks.finish(0)

    def _begin(self, session: ExecutingSession, behind: dict[str, tuple[Command, Origin]]) -> None:
        self._fresh.discard(session)
        self._behind[session] = behind
        self._tasks.run(self._unpark(session))

    async def _recheck(self, sessions: list[ExecutingSession]) -> None:
        for session in sessions:
            if session in self._behind:
                self._once_more.add(session)
            elif session not in self._fresh:
                self._behind[session] = {}
                await self._unpark(session)

    async def _unpark(self, session: ExecutingSession) -> None:
        """Returns when Redis has told what there is; that goes out as its outbox has room."""
        charge_point_id = session.station.caller.charge_point_id
        try:
            commands = await self._tasks.until_redis(lambda: self.store.parked(charge_point_id))
        except BaseException:
            self._let_go(session)
            raise
        self._tasks.run(self._put_out(session, commands))

    async def _put_out(self, session: ExecutingSession, commands: list[Command]) -> None:
        try:
            for command in commands:
                await self._put_one_out(session, command)
        finally:
            self._let_go(session)

    async def _put_one_out(self, session: ExecutingSession, command: Command) -> None:
        try:
            while self._is_here(session) and not self.executor.take_parked(session, command):
                await Bell(self.clock).wait(_RETRY_SECONDS)
        except CancelledError:
            raise
        except Exception:  # ours; those behind it must not wait for its end
            log.failure(
                "A parked command for {charge_point_id} could not be sent",
                event="command.broken",
                reason="internal_error",
                command_id=command.command_id,
                charge_point_id=command.charge_point_id,
            )

    def _let_go(self, session: ExecutingSession) -> None:
        """What came behind goes on: behind the parked ones of a newer session, if there is one by now."""
        if self._is_stopped:
            behind, self._behind[session] = self._behind.get(session, {}), {}
            for command, origin in behind.values():
                origin.not_here(command.command_id)
            return
        behind, is_once_more = self._behind.pop(session, {}), session in self._once_more
        self._once_more.discard(session)
        if is_once_more and self._is_here(session):
            self._begin(session, behind)
            return
        for command, origin in behind.values():
            self.take(command, origin)

    def _is_here(self, session: ExecutingSession) -> bool:
        return self.executor.sessions.find(session.station.caller.charge_point_id) is session
