"""One command on its way through a charge point's outbox: it is cleared right before it is written, and then ended.

::

    waiting ── cleared: not too late? password prepared? sent in Redis ── written ── answer, silence, connection lost
       │           └─ no: ended, or somebody else has it                               └─ ended
       └─ the connection ends: given back, if it may wait for the next one, or ended

Here it is decided that a CALL is written at most once: ``send`` succeeds for one process only, once, whatever becomes
of it then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands import outcome as outcomes
from ocpp_gateway.commands.audit import Audit
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.origins import Origin
from ocpp_gateway.commands.outcome import Outcome, event_key, event_record
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.request import Command, CommandInvalid
from ocpp_gateway.commands.secrecy import secrets_of
from ocpp_gateway.commands.secrets import ChangeUnclear, SecretChange
from ocpp_gateway.commands.sessions import ExecutingSession, Registration
from ocpp_gateway.commands.states import CommandStore
from ocpp_gateway.commands.tasks import Bell, Tasks
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.frames import CallError, CallResult, Payload
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.routing.stamps import EventStamps

log = Logger()

_RETRY_SECONDS = 1.0


@define(eq=False, kw_only=True)
class CallParts:
    """What every call works with."""

    store: CommandStore
    finals: Finals
    events: CommandEvents
    schemas: Schemas
    stamps: EventStamps
    clock: Clock
    tasks: Tasks
    registration: Registration
    secrets: SecretChange | None
    ended: Callable[[CommandCall], None]
    """Called when nothing is left to do for it here."""


@define(eq=False, kw_only=True)
class CommandCall:
    """See the module's text. It is what the outbox knows as an OutgoingCall."""

    parts: CallParts
    command: Command
    session: ExecutingSession
    action: str
    request: Payload = field(repr=False)
    origin: Origin
    """Who handed the command over; the latest, if it was handed over again."""

    message_id: str
    _change: Any = field(default=None, init=False, repr=False)
    _sent_at: float = field(default=0.0, init=False)
    _is_clearing: bool = field(default=False, init=False)
    _may_be_sent: bool = field(default=False, init=False)
    """Redis was asked to mark it as sent, so it has to be ended by us."""

    _is_lost: bool = field(default=False, init=False)

    @property
    def payload(self) -> bytes:
        """See OutgoingCall."""
        return orjson.dumps(self.request)

    @property
    def timeout(self) -> float:
        """See OutgoingCall."""
        return self.command.timeout_seconds

    def fail(self, outcome: Outcome) -> None:
        """It does not come into the outbox."""
        self._conclude(outcome)

    # Told by the outbox.

    async def cleared(self) -> bool:
        """See OutgoingCall."""
        self._is_clearing = True
        try:
            return await self._clear()
        except Exception:
            self._is_clearing = False
            if self._is_lost:  # told meanwhile, so it is not told again
                self._not_sent()
            raise
        finally:
            self._is_clearing = False

    def sent(self) -> None:
        """See OutgoingCall."""
        parts, command = self.parts, self.command
        record = event_record(
            outcomes.dispatched(self.action, self.message_id),
            command,
            envelope=self.session.station.envelope,
            stamps=parts.stamps,
            node_id=parts.finals.process.node_id,
            now=parts.clock.now(),
        )
        parts.events.tell(event_key(command), record)
        parts.registration.asked(command.charge_point_id, self.action, self.request)

    def answered(self, result: CallResult) -> Violation | None:
        """See OutgoingCall."""
        try:
            violation, outcome = self._judge(result.payload)
        except Exception:  # hostile, perhaps; the command must have its end all the same
            self._log_defect()
            self._conclude(outcomes.internal_error(may_be_sent=True), has_answer=True)
            return None
        self._conclude(outcome, has_answer=True, response=None if violation else result.payload)
        return violation

    def _judge(self, response: Payload) -> tuple[Violation | None, Outcome]:
        violation = self.parts.schemas.response(self.session.version, self.action).violation(response)
        secrets = secrets_of(self.action, self.request)
        if violation is None:
            return None, outcomes.accepted(self.action, response, secrets)
        return violation, outcomes.invalid_response(violation, self.action, response, secrets)

    def refused(self, error: CallError) -> None:
        """See OutgoingCall."""
        try:
            outcome = outcomes.call_error(error, secrets_of(self.action, self.request))
        except Exception:
            self._log_defect()
            outcome = outcomes.internal_error(may_be_sent=True)
        self._conclude(outcome, has_answer=True, is_refused=True)

    def unreadable(self, violation: Violation) -> None:
        """See OutgoingCall."""
        self._conclude(outcomes.invalid_response(violation), has_answer=True)

    def timed_out(self) -> None:
        """See OutgoingCall."""
        self._conclude(outcomes.no_response())

    def lost(self, was_sent: bool) -> None:
        """See OutgoingCall."""
        self._is_lost = True
        if was_sent:
            self._conclude(outcomes.connection_lost(was_sent=True))
        elif not self._is_clearing:  # else that goes on there
            self._not_sent()

    # Whether it may go out.

    async def _clear(self) -> bool:
        command, tasks = self.command, self.parts.tasks
        if self._is_too_late():
            return False
        if self.parts.registration.is_rejected(command.charge_point_id):
            self._conclude(outcomes.failed("charge_point_rejected"))
            return False
        if not await self._prepare():
            return False
        self._sent_at = self.parts.clock.now()
        audit = self._audit()
        self._may_be_sent = True
        is_ours = await tasks.until_redis(
            lambda: self.parts.store.send(
                command, self.parts.finals.process, self.session.identity.epoch, self.message_id, audit
            )
        )
        if not is_ours:
            self._may_be_sent = False
            tasks.run(self._leave_out())
            return False
        return not self._is_too_late()

    def _is_too_late(self) -> bool:
        """Ended then: it took its time to come so far."""
        if self._is_lost:
            self._not_sent()
        elif self.command.is_expired(int(self.parts.clock.now() * 1000)):
            self._conclude(outcomes.failed("command_expired"), is_refused=True)
        else:
            return False
        return True

    async def _prepare(self) -> bool:
        """Let the new password that it may hold work, too. False: it has ended."""
        secrets = self.parts.secrets
        if secrets is None:
            return True
        caller = self.session.station.caller
        while True:
            try:
                self._change = await secrets.prepare(caller, self.action, self.request, self._change)
            except StoreUnavailable as error:
                if isinstance(error, ChangeUnclear):
                    self._change = error.change
                await Bell(self.parts.clock).wait(_RETRY_SECONDS)
            except CommandInvalid as defect:
                self._conclude(outcomes.invalid(defect), is_refused=True)
                return False
            else:
                return not self._is_too_late()
            if self._is_too_late():
                return False

    def _audit(self, outcome: Outcome | None = None, response_at: float | None = None) -> bytes:
        envelope = self.session.station.envelope
        audit = Audit(
            command=self.command,
            action=self.action,
            message_id=self.message_id,
            station_id=envelope.station_id,
            tenant_id=envelope.tenant_id,
            ocpp_version=envelope.ocpp_version,
            node_id=envelope.node_id,
            request_payload=self.request,
            sent_at=self._sent_at,
        )
        return audit.encode(outcome, response_at)

    # The end.

    async def _leave_out(self) -> None:
        """Somebody else has sent or ended it, and tells."""
        await self._settle_secret(None, is_refused=True)
        self.parts.ended(self)

    def _not_sent(self) -> None:
        """The connection ended first. It may wait for the next one, if the back end said so."""
        now_ms = int(self.parts.clock.now() * 1000)
        if self.command.deliver_within_seconds and not self._may_be_sent and not self.command.is_expired(now_ms):
            self.parts.tasks.run(self._give_back())
        else:
            self._conclude(outcomes.connection_lost(was_sent=False), is_refused=True)

    async def _give_back(self) -> None:
        await self._settle_secret(None, is_refused=True)
        self.parts.ended(self)
        self.origin.not_here(self.command.command_id)

    def _conclude(
        self,
        outcome: Outcome,
        *,
        has_answer: bool = False,
        response: Payload | None = None,
        is_refused: bool = False,
    ) -> None:
        answered_at = self.parts.clock.now() if has_answer else None
        self.parts.tasks.run(self._end(outcome, answered_at, response, is_refused))

    async def _end(
        self, outcome: Outcome, answered_at: float | None, response: Payload | None, is_refused: bool
    ) -> None:
        try:
            audit = self._audit(outcome, answered_at) if self._may_be_sent else None
            await self._settle_secret(response, is_refused=is_refused)
            is_ended = await self._end_as(outcome, audit)
        except CancelledError:
            raise
        except Exception:  # ours; the least that can be said of it is its end
            self._log_defect()
            is_ended = await self._end_at_least()
        self.parts.ended(self)
        if is_ended:
            self.origin.ended(self.command.command_id)

    async def _end_at_least(self) -> bool:
        """Nobody else can end it, as long as we live and have it."""
        while True:
            try:
                return await self._end_as(outcomes.internal_error(may_be_sent=self._may_be_sent), None)
            except CancelledError:
                raise
            except Exception:
                self._log_defect()
            await Bell(self.parts.clock).wait(_RETRY_SECONDS)

    async def _end_as(self, outcome: Outcome, audit: bytes | None) -> bool:
        return await self.parts.finals.end(
            self.command,
            outcome,
            envelope=self.session.station.envelope,
            message_id=self.message_id if self._may_be_sent else None,
            audit=audit,
        )

    def _log_defect(self) -> None:
        log.failure(
            "The end of a command for {charge_point_id} could not be told as it was",
            event="command.broken",
            reason="internal_error",
            command_id=self.command.command_id,
            charge_point_id=self.command.charge_point_id,
        )

    async def _settle_secret(self, response: Payload | None, *, is_refused: bool) -> None:
        """Before the final event: who reads that may come with the new password at once."""
        change, secrets = self._change, self.parts.secrets
        if change is None or secrets is None or (response is None and not is_refused):
            return
        try:
            if response is not None:
                await self.parts.tasks.until_redis(lambda: secrets.answered(change, response))
            else:
                await self.parts.tasks.until_redis(lambda: secrets.withdraw(change))
        except CancelledError:
            raise
        except Exception:  # both passwords work then; the command must have its end all the same
            log.failure(
                "The new password of {charge_point_id} could not be settled",
                event="command.broken",
                reason="internal_error",
                charge_point_id=self.command.charge_point_id,
            )
