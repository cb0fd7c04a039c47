"""Commands for the charge points that are connected to this node: into the words of their version, into their outbox.

What cannot be said to a charge point of its version is ended here, too: only now the version is known.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.call import CallParts, CommandCall
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.origins import NoOrigin, Origin
from ocpp_gateway.commands.outcome import Outcome
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.secrets import SecretChange
from ocpp_gateway.commands.sessions import EveryoneAccepted, ExecutingSession, LiveSessions, Registration
from ocpp_gateway.commands.states import CommandStore
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.commands.translation import Untranslatable, translate
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.routing.stamps import EventStamps

log = Logger()


@define(eq=False, kw_only=True)
class Executor:
    """See the module's text. What it holds is bounded by the outboxes. ``new_start_id``: see ``translation``."""

    store: CommandStore
    sessions: LiveSessions
    finals: Finals
    events: CommandEvents
    schemas: Schemas
    stamps: EventStamps
    clock: Clock
    new_start_id: Callable[[], int]
    registration: Registration = field(factory=EveryoneAccepted)
    secrets: SecretChange | None = None
    _calls: dict[str, CommandCall] = field(factory=dict, init=False)
    """By commandId: in an outbox, or about to be ended."""

    _tasks: Tasks = field(init=False)
    _parts: CallParts = field(init=False)
    _is_stopped: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)
        self._parts = CallParts(
            store=self.store,
            finals=self.finals,
            events=self.events,
            schemas=self.schemas,
            stamps=self.stamps,
            clock=self.clock,
            tasks=self._tasks,
            registration=self.registration,
            secrets=self.secrets,
            ended=self._forget,
        )

    def __len__(self) -> int:
        """How many commands are under way here."""
        return len(self._calls)

    def take(self, command: Command, origin: Origin) -> None:
        """Carry ``command`` out, if its charge point is connected here, and tell ``origin``.

        The same again changes nothing but who is told.
        """
        call = self._calls.get(command.command_id)
        if call is not None and call.command.source != command.source:
            origin.not_here(command.command_id)  # its earlier round is just being ended: soon again
            return
        if call is not None:
            call.origin = origin
            origin.taken(command.command_id)
            return
        session = None if self._is_stopped else self.sessions.find(command.charge_point_id)
        if session is None:
            origin.not_here(command.command_id)
        else:
            self._take(session, command, origin, is_parked=False)

    def take_parked(self, session: ExecutingSession, command: Command) -> bool:
        """Carry ``command`` out, which has waited in Redis; False: its outbox is full, so it has to wait on."""
        if self._is_stopped:
            return False
        call = self._calls.get(command.command_id)
        if call is not None:
            return call.command.source == command.source  # else its earlier round is just being ended
        return self._take(session, command, NoOrigin(), is_parked=True)

    async def stop(self, seconds: float) -> None:
        """Take nothing any more; let what has ended be told, for so long at most. The sessions are closed before."""
        self._is_stopped = True
        await self._tasks.finish(seconds)

    def _take(self, session: ExecutingSession, command: Command, origin: Origin, *, is_parked: bool) -> bool:
        said = self._said(session, command)
        problem = said if isinstance(said, Outcome) else None
        action, request = ("", command.payload) if isinstance(said, Outcome) else said
        call = CommandCall(
            parts=self._parts,
            command=command,
            session=session,
            action=action,
            request=request,
            origin=origin,
            message_id=self.stamps.event_id(),
        )
        self._calls[command.command_id] = call
        if problem is not None:
            call.fail(problem)
        elif not session.call(call):
            if is_parked:
                self._forget(call)
                return False
            call.fail(outcomes.failed("outbox_full"))
        origin.taken(command.command_id)
        return True

    def _said(self, session: ExecutingSession, command: Command) -> tuple[str, Payload] | Outcome:
        """The command as its charge point understands it, or why it does not."""
        version = session.version
        try:
            action, request = translate(
                command.command_type,
                command.payload,
                version,
                connector_id=command.connector_id,
                new_start_id=self.new_start_id,
            )
            violation = self.schemas.request(version, action).violation(request)
        except Untranslatable as error:
            return outcomes.failed(error.reason, version=version.label)
        except Exception:  # hostile, perhaps; its end is the same as that of any other defect
            log.failure("A command could not be read", event="command.broken", reason="internal_error")
            return outcomes.internal_error(may_be_sent=False)
        return (action, request) if violation is None else outcomes.payload_invalid(violation)

    def _forget(self, call: CommandCall) -> None:
        if self._calls.get(call.command.command_id) is call:
            del self._calls[call.command.command_id]
