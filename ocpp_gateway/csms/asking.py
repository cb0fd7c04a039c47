"""One question to the CSMS, from the event that asks it to what is said in the end.

::

    open ── event with replyTo goes to Kafka, the action's time runs
      ├─ answer ── valid ── transactionId, registration remembered ──> it        ┐
      │              └─ not valid ─┐                                             ├─ said when Kafka has the event
      └─ no answer in time ────────┴─────────────────────────────> the fallback  ┘
    withdrawn: the connection is being closed, an answer is dropped
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import orjson
from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.adapters.answers import Answer
from ocpp_gateway.csms import boot
from ocpp_gateway.csms.answers import AnswerInvalid, read
from ocpp_gateway.csms.boot import BootState, Registrations
from ocpp_gateway.csms.policy import CsmsPolicy, Fallback, Rule
from ocpp_gateway.csms.questions import Questions
from ocpp_gateway.ocppj.actions import transaction_related
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.routing.exchange import Exchange, Refusal, Reply

log = Logger()

_UNAVAILABLE = Refusal(ErrorCode.INTERNAL_ERROR, "csms_unavailable")


class CsmsCounters(Protocol):
    """What is counted here."""

    def count_csms_answer(self, action: str, outcome: str) -> None:
        """A question ended.

        ``answered``; ``refused``: the CSMS wants a CALLERROR; or the fallback counts: ``no_answer`` in time,
        ``invalid`` or ``too_many`` questions wait. Of one that is withdrawn nothing is counted.
        """
        ...


class LogLimit(Protocol):
    """Lets a line through once in a while (``flood.cooldown``)."""

    def should_log(self, address: str, kind: str) -> int | None:
        """None: do not log. Else log, and say that so many like it were suppressed."""
        ...


@define(eq=False, kw_only=True)
class Asking:
    """Asks the CSMS as ``policy`` says; see ``routing.exchange.Csms``."""

    policy: CsmsPolicy
    questions: Questions
    schemas: Schemas
    registrations: Registrations | None
    """None where the CSMS is not asked about BootNotification."""

    counters: CsmsCounters
    cooldown: LogLimit

    def answers(self, action: str) -> bool:
        """See Csms."""
        return action in self.policy.rules

    def question(self, exchange: Exchange, own: Answer | Refusal) -> AskedCsms:
        """See Csms."""
        return AskedCsms(self, exchange, own, self.policy.rule(exchange.call.action))


@define(eq=False)
class AskedCsms:
    """See ``routing.exchange.Question``."""

    asking: Asking
    exchange: Exchange
    own: Answer | Refusal
    rule: Rule
    _correlation_id: str | None = None
    _say: Callable[[], None] | None = None
    """What ends it, once that is decided."""

    _is_published: bool = False
    _is_over: bool = False

    def open(self) -> Mapping[str, Any] | None:
        """See Question."""
        reply_to = self.asking.questions.ask(self.rule.timeout, self._answered)
        if reply_to is None:
            self._run(self._fall_back("too_many"))
        else:
            self._correlation_id = reply_to["correlationId"]
        return reply_to

    def published(self) -> None:
        """See Question."""
        self._is_published = True
        self._say_when_ready()

    def withdraw(self) -> None:
        """See Question."""
        self._is_over = True
        if self._correlation_id is not None:
            self.asking.questions.withdraw(self._correlation_id)

    # What is said.

    @property
    def _registrations(self) -> Registrations | None:
        return self.asking.registrations if self.exchange.call.action == boot.ACTION else None

    def _answered(self, value: bytes | None) -> None:
        self._run(self._fall_back("no_answer") if value is None else self._judge(value))

    async def _judge(self, value: bytes) -> None:
        try:
            answer = self._valid(value)
        except AnswerInvalid as defect:
            self._log_invalid(defect)
            await self._fall_back("invalid")
            return
        if isinstance(answer, Refusal):
            self._count("refused")
            self._decided(answer)
            return
        self._count("answered")
        is_timeless = True
        if isinstance(self.own, Answer):
            is_timeless = self.own.is_timeless
            if self.own.overruled is not None:
                answer = await self.own.overruled(answer)
        written = orjson.dumps(answer)
        reply = Answer(lambda _now: written, is_timeless=is_timeless)
        if self._registrations is None:
            self._decided(reply)
        else:
            await self._decide_boot(self._registrations, reply, BootState.of(answer))

    def _valid(self, value: bytes) -> Payload | Refusal:
        """What the CSMS wants to be said, if that may be said. Raises AnswerInvalid."""
        version, action = self.exchange.station.version, self.exchange.call.action
        answer = read(value)
        if isinstance(answer, Refusal):
            if action in transaction_related(version):
                raise AnswerInvalid("error_to_billing_data")
            return answer
        violation = self.asking.schemas.response(version, action).violation(answer)
        if violation is not None:
            raise AnswerInvalid("schema_invalid", f"{violation.path}: {violation.message}")
        return answer

    async def _fall_back(self, why: str) -> None:
        self._count(why)
        fallback = self.rule.fallback
        if fallback is Fallback.CLOSE:
            self._decided(None)
        elif fallback is Fallback.ERROR:
            self._decided(_UNAVAILABLE)
        elif self._registrations is None or isinstance(self.own, Refusal):
            self._decided(self.own)
        else:
            own, state = self._registrations.own(self.exchange.station, self.own)
            await self._decide_boot(self._registrations, own, state)

    async def _decide_boot(self, registrations: Registrations, reply: Answer, state: BootState | None) -> None:
        station = self.exchange.station
        if self.exchange.is_ours():  # else it is another node's to say
            await registrations.before(station, state)
        self._decided(reply, lambda: self._run(registrations.answered(station, state)))

    def _decided(self, reply: Reply, first: Callable[[], None] | None = None) -> None:
        """``first`` is done before the reply goes out: the next CALL may be taken at once."""

        def say() -> None:
            if first is not None and self.exchange.is_ours():
                first()
            self.exchange.uplink.exchange_replied(self.exchange, reply)

        self._say = say
        self._say_when_ready()

    def _say_when_ready(self) -> None:
        if self._say is not None and self._is_published and not self._is_over:
            self._is_over = True
            try:
                self._say()
            except Exception:  # ours; without an answer the charge point must not wait for one
                self._log_failed()
                self.exchange.give_up("internal_error")

    def _count(self, outcome: str) -> None:
        self.asking.counters.count_csms_answer(self.exchange.call.action, outcome)

    def _log_invalid(self, defect: AnswerInvalid) -> None:
        action = self.exchange.call.action
        suppressed = self.asking.cooldown.should_log(action, "csms_answer")
        if suppressed is not None:
            log.warn(
                "What the CSMS answers to {action} cannot be sent to {charge_point_id}: {defect}",
                event="csms.answer_invalid",
                reason=defect.reason,
                action=action,
                charge_point_id=self.exchange.station.caller.charge_point_id,
                defect=str(defect),
                suppressed=suppressed,
            )

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._broke)

    def _broke(self, failure: Failure) -> None:
        self._log_failed(failure)
        if self._say is None:
            self._decided(None)

    def _log_failed(self, failure: Failure | None = None) -> None:
        log.failure(
            "What the CSMS was asked about {action} could not be finished",
            failure=failure,
            event="csms.failed",
            reason="internal_error",
            action=self.exchange.call.action,
        )
