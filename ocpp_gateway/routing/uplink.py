"""Charge point to back end: a CALL becomes an event, the event is confirmed by Kafka, then the CALL is answered.

::

    Call ── known action, right direction? ── no ──────────────────────────> CALLERROR
      └─ schema ── broken, not transaction-related ────────────────────────> CALLERROR
           └─ adapter decides the answer ── event to Kafka ── confirmed ───> CALLRESULT
                                               │  └─ the CSMS is asked ────> its reply, or what counts without one
                                               └─ not confirmed in time ───> no answer, the connection is closed

A CALLRESULT is the charge point's permission to forget, so it is written only behind the delivery report. A
transaction-related CALL is never answered with a CALLERROR: charge points retry those a few times and then discard
billing data (OCPP 1.6 section 3.7.1; 2.0.1 part 2 E13). One that breaks the schema is published as it came, with
``schemaErrors``, and gets the smallest valid answer.

A charge point whose registration is not accepted may not say everything: that is seen first (``exchange.Gate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.adapters.answers import Answer, CallRefused, Topic
from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.ocppj.actions import classify, send_actions, station_actions, transaction_related
from ocpp_gateway.ocppj.codec import encode_call_error, encode_call_result
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import (
    Csms,
    Exchange,
    Finish,
    Gate,
    GiveUp,
    Refusal,
    Reply,
    Station,
    UnreadableCall,
    UplinkCounters,
)
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.redaction import redact, redact_text
from ocpp_gateway.routing.writability import Writability

log = Logger()


class EventBus(Protocol):
    """Kafka, as the uplink needs it."""

    @property
    def congested(self) -> bool:
        """Whether so many records wait that callers should wait for ``when_room``."""
        ...

    def when_room(self) -> Deferred[None]:
        """Fires when there is room again; may be cancelled."""
        ...

    def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        delivered: Callable[[BusUnavailable | None], None],
    ) -> None:
        """Hand a record over. ``delivered`` is called once, in the reactor. Raises BusQueueFull."""
        ...


_CONTROLS = dict.fromkeys(range(32), "?")
"""As JSON text a control character is six; a frame as text must not outgrow what Kafka takes for a record."""


@define(eq=False, kw_only=True)
class Uplink:
    """The flow above, for all connections of this node."""

    schemas: Schemas
    bus: EventBus
    topics: Mapping[Topic, str]
    holds: Holds
    writability: Writability
    counters: UplinkCounters
    clock: Clock
    csms: Csms | None = None
    """Who is asked for answers; None: nobody."""

    gate: Gate | None = None
    """None where all charge points are accepted, because the gateway itself says so."""

    _station_actions: dict[OcppVersion, frozenset[str]] = field(init=False)
    _transaction_related: dict[OcppVersion, frozenset[str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._station_actions = {version: station_actions(version) for version in OcppVersion}
        self._transaction_related = {version: transaction_related(version) for version in OcppVersion}

    def keeps(self, version: OcppVersion, action: str) -> bool:
        """Whether a CALL of ``action`` is published even if nothing but its name can be read."""
        return action in self._transaction_related[version]

    def take(
        self,
        station: Station,
        call: Call | Send | UnreadableCall,
        finish: Finish,
        give_up: GiveUp,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start the way of ``call``; exactly one of ``finish`` and ``give_up`` is called, now or later.

        Neither is, and nothing is published, if its event is not ready at once, and when it is, the charge point is not
        ``is_ours`` any more.
        """
        exchange = Exchange(self, station, call, finish, give_up, self.clock.monotonic(), is_ours)
        if not self.writability.writable:
            self._abandon(exchange, "kafka_unavailable")
            return
        self.holds.add(exchange)
        if self.gate is not None and not self.gate.is_open(station):
            self._run(exchange, self._pass(self.gate, exchange))
        else:
            self._take(exchange, call)

    async def _pass(self, gate: Gate, exchange: Exchange) -> None:
        """The gate may have to ask Redis. Billing data passes it all the same, and so does what was asked for."""
        station, call = exchange.station, exchange.call
        status = await gate.status(station)
        if status is not None and call.action != "BootNotification":
            if not self.keeps(station.version, call.action) and not gate.was_asked(station, call.action):
                # OCPP 2.0.1 part 2, B02.FR.09, B03.FR.07; OCPP-J 1.6 errata 3.10.
                self._refuse(exchange, Refusal(ErrorCode.SECURITY_ERROR, "Registration is not accepted"))
                return
            exchange.registration = status
        self._take(exchange, call)

    def _take(self, exchange: Exchange, call: Call | Send | UnreadableCall) -> None:
        if isinstance(call, UnreadableCall):
            self._run(exchange, self._answer_broken(exchange, call, (call.defect,)))
            return
        station = exchange.station
        version, action = station.version, call.action
        if isinstance(call, Send):
            if action not in send_actions(version):
                self._refuse(exchange, Refusal(ErrorCode.NOT_IMPLEMENTED, ""))
                return
        elif action not in self._station_actions[version]:
            self._refuse(exchange, Refusal(classify(version, action) or ErrorCode.NOT_IMPLEMENTED, ""))
            return
        schema = self.schemas.request(version, action)
        violation = schema.violation(call.payload)
        if violation is not None:
            if action in self._transaction_related[version]:
                texts = tuple(f"{each.path}: {each.message}" for each in schema.violations(call.payload))
                self._run(exchange, self._answer_broken(exchange, call, texts))
            else:
                self._refuse(exchange, Refusal(violation.code, f"{violation.path}: {violation.message}"))
            return
        if self.csms is not None and self.csms.answers(action):
            self._run(exchange, self._ask(self.csms, exchange, call))
            return
        answer = station.adapter.immediate(station.caller, call)
        if answer is None or self.bus.congested:
            self._run(exchange, self._answer(exchange, call, answer))
        else:
            exchange.answer = answer
            self._publish(exchange, action, call.raw_payload, answer.extras)

    async def _answer(self, exchange: Exchange, call: Call | Send, answer: Answer | None) -> None:
        station = exchange.station
        if answer is None:
            try:
                answer = await station.adapter.answer(station.caller, call)
            except CallRefused as refusal:
                self._refuse(exchange, Refusal(refusal.code, refusal.reason))
                return
        exchange.answer = answer
        await self._publish_when_room(exchange, call.action, call.raw_payload, answer.extras)

    async def _ask(self, csms: Csms, exchange: Exchange, call: Call | Send) -> None:
        """The event is the one that it would be without the CSMS: the adapter decides as if nobody else would."""
        station = exchange.station
        own: Answer | Refusal
        try:
            exchange.answer = own = await station.adapter.answer(station.caller, call)
        except CallRefused as refusal:
            own = Refusal(refusal.code, refusal.reason)
        exchange.question = csms.question(exchange, own)
        await self._publish_when_room(exchange, call.action, call.raw_payload, exchange.answer.extras)

    async def _answer_broken(
        self, exchange: Exchange, call: Call | Send | UnreadableCall, schema_errors: tuple[str, ...]
    ) -> None:
        station = exchange.station
        exchange.outcome = "schema_invalid"
        extras: dict[str, Any] = {}
        if isinstance(call, UnreadableCall) and call.payload is None:
            raw, payload, question = b"{}", {}, call.text.encode()
            extras["rawFrame"] = redact_text(call.text.translate(_CONTROLS))
        else:
            raw, payload, question = call.raw_payload, call.payload or {}, call.raw_payload
        answer = await station.adapter.minimal(station.caller, call.action, payload, question)
        exchange.answer = answer
        extras = {**answer.extras, **extras, "schemaErrors": list(schema_errors)}
        await self._publish_when_room(exchange, call.action, raw, extras)

    async def _publish_when_room(
        self, exchange: Exchange, action: str, raw_payload: bytes, extras: Mapping[str, Any]
    ) -> None:
        while self.bus.congested and exchange in self.holds:
            exchange.room = self.bus.when_room()
            try:
                await exchange.room
            except BusUnavailable as error:  # we are about to end
                if self.holds.release(exchange):
                    self._abandon(exchange, error.reason)
                return
        if exchange not in self.holds:
            return  # its time was over before it could be handed over
        if not exchange.is_ours():
            self.holds.release(exchange)
            self.counters.count_call(exchange.station.version, action, "superseded")
            return
        self._publish(exchange, action, raw_payload, extras)

    def _publish(self, exchange: Exchange, action: str, raw_payload: bytes, extras: Mapping[str, Any]) -> None:
        station, call = exchange.station, exchange.call
        adapter = station.adapter
        event_type = adapter.event_type(action)
        if exchange.registration is not None:
            extras = {**extras, "registrationStatus": exchange.registration}
        event = station.envelope.event(
            event_type,
            now=self.clock.now(),
            connector_id=adapter.connector_id(call.payload or {}),
            message_id=None if isinstance(call, Send) else call.message_id,
            action=action,
            raw_payload=redact(action, raw_payload),
            extras=extras,
            reply_to=None if exchange.question is None else exchange.question.open(),
        )
        exchange.published = True
        try:
            self.bus.publish(
                self.topics[adapter.topic(action)], station.key, event.value, event.headers, exchange.delivered
            )
        except BusUnavailable as error:
            self._failed(exchange, error)

    def exchange_delivered(self, exchange: Exchange, error: BusUnavailable | None) -> None:
        """Kafka's word on the event of ``exchange``."""
        if error is not None:
            self._failed(exchange, error)
            return
        self.writability.confirmed()
        exchange.answer.confirmed()
        if not self.holds.release(exchange):
            return
        self.counters.observe_publish(self.clock.monotonic() - exchange.started)
        if exchange.question is None:
            self._say(exchange, exchange.answer)
        else:
            exchange.question.published()

    def exchange_replied(self, exchange: Exchange, reply: Reply) -> None:
        """What counts where the CSMS was asked. Kafka has the event of ``exchange``."""
        if reply is None:
            self._abandon(exchange, "csms_unavailable")
        elif isinstance(reply, Refusal):
            self._say_no(exchange, reply)
        else:
            self._say(exchange, reply)

    def exchange_expired(self, exchange: Exchange) -> None:
        """The event of ``exchange`` was not confirmed in time."""
        if exchange.published:
            self.writability.waited_in_vain(exchange.started)
        elif self.bus.congested:
            self.writability.refused()  # others may still be confirmed, but nobody gets anything in
        if exchange.room is not None:
            exchange.room.cancel()
        self._abandon(exchange, "kafka_unavailable")

    def _failed(self, exchange: Exchange, error: BusUnavailable) -> None:
        if isinstance(error, BusQueueFull):
            self.writability.refused()
        elif not error.permanent:
            self.writability.failed()
        if error.permanent and not self.keeps(exchange.station.version, exchange.call.action):
            self._refuse(exchange, Refusal(ErrorCode.INTERNAL_ERROR, error.reason))
        elif self.holds.release(exchange):
            self._abandon(exchange, error.reason)

    def _abandon(self, exchange: Exchange, outcome: str) -> None:
        if exchange.question is not None:
            exchange.question.withdraw()
        self.counters.count_call(exchange.station.version, exchange.call.action, outcome)
        exchange.give_up(outcome)

    def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        if not self.holds.release(exchange):
            return
        if exchange.question is not None:
            exchange.question.withdraw()
        self._say_no(exchange, refusal)

    def _say_no(self, exchange: Exchange, refusal: Refusal) -> None:
        call, version = exchange.call, exchange.station.version
        self.counters.count_call(version, call.action, "refused")
        if isinstance(call, Send) or call.message_id is None:
            exchange.finish(None, False)  # SEND is never answered (OCPP 2.1 part 4, 4.2.4)
        else:
            frame = encode_call_error(version, call.message_id, refusal.code, refusal.description, refusal.details)
            exchange.finish(frame, False)

    def _say(self, exchange: Exchange, answer: Answer) -> None:
        call = exchange.call
        self.counters.count_call(exchange.station.version, call.action, exchange.outcome)
        if isinstance(call, Send) or call.message_id is None:
            exchange.finish(None, False)
        else:
            exchange.finish(encode_call_result(call.message_id, answer.body(self.clock.now())), answer.is_timeless)

    def _run(self, exchange: Exchange, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(self._broke, exchange)

    def _broke(self, failure: Failure, exchange: Exchange) -> None:
        if not failure.check(CancelledError):
            log.failure(
                "A CALL of {action} could not be handled",
                failure=failure,
                event="uplink.failed",
                reason="internal_error",
                action=exchange.call.action,
            )
        if self.holds.release(exchange):
            self._abandon(exchange, "internal_error")
