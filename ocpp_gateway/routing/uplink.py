"""Charge point to back end: a CALL becomes an event, the event is confirmed by Kafka, then the CALL is answered.

::

    Call ── known action, right direction? ── no ──────────────────────────> CALLERROR
      └─ schema ── broken, not transaction-related ────────────────────────> CALLERROR
           └─ adapter decides the answer ── event to Kafka ── confirmed ───> CALLRESULT
                                               └─ not confirmed in time ───> no answer, the connection is closed

A CALLRESULT is the charge point's permission to forget, so it is written only behind the delivery report. A
transaction-related CALL is never answered with a CALLERROR: charge points retry those a few times and then discard
billing data (OCPP 1.6 section 3.7.1; 2.0.1 part 2 E13). One that breaks the schema is published as it came, with
``schemaErrors``, and gets the smallest valid answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.adapters.answers import Adapter, Answer, Caller, CallRefused, Topic
from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.ocppj.actions import classify, send_actions, station_actions, transaction_related
from ocpp_gateway.ocppj.codec import encode_call_error, encode_call_result
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, MessageId, Payload, Quirk, Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.redaction import redact, redact_text
from ocpp_gateway.routing.writability import Writability

log = Logger()

Finish = Callable[[bytes | None, bool], None]
"""Takes the frame to send to the charge point, or None where there is nothing to say; and whether a retransmission of
the CALL may get the same frame again."""

GiveUp = Callable[[str], None]
"""Called instead of Finish, with the reason, when the event was not confirmed: no answer, the connection must go."""


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


class UplinkCounters(Protocol):
    """What the uplink counts."""

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        """A CALL ended as ``outcome``."""
        ...

    def observe_publish(self, seconds: float) -> None:
        """An event took ``seconds`` from hand-over to Kafka's confirmation."""
        ...


@frozen
class Station:
    """The charge point behind a connection, as far as its CALLs need it."""

    version: OcppVersion
    caller: Caller
    adapter: Adapter
    envelope: Envelope
    key: bytes
    """Kafka key of its events: stationId, else its identity."""


@frozen
class UnreadableCall:
    """A transaction-related CALL that is not a frame as it should be: of some only the action could be read."""

    message_id: MessageId | None
    """None: not even that could be read, and the version has no way to answer all the same (1.6)."""

    action: str
    text: str
    """The whole frame as received."""

    defect: str
    payload: Payload | None = None
    """None: it cannot be trusted, so ``text`` is published."""

    raw_payload: bytes = b"{}"
    quirks: tuple[Quirk, ...] = ()


_CONTROLS = dict.fromkeys(range(32), "?")
"""As JSON text a control character is six; a frame as text must not outgrow what Kafka takes for a record."""

_EMPTY = Answer(body=lambda _now: b"{}")


@define(eq=False)
class _Exchange:
    """One CALL on its way from arrival to answer."""

    uplink: Uplink
    station: Station
    call: Call | Send | UnreadableCall
    finish: Finish
    give_up: GiveUp
    started: float
    is_ours: Callable[[], bool]
    answer: Answer = _EMPTY
    outcome: str = "answered"
    published: bool = False
    room: Deferred[None] | None = None

    def expired(self) -> None:
        self.uplink.exchange_expired(self)

    def delivered(self, error: BusUnavailable | None) -> None:
        self.uplink.exchange_delivered(self, error)


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

        Neither is, and nothing is published, if the charge point is not ``is_ours`` any more when its event is ready.
        """
        exchange = _Exchange(self, station, call, finish, give_up, self.clock.monotonic(), is_ours)
        if not self.writability.writable:
            self._abandon(exchange, "kafka_unavailable")
            return
        self.holds.add(exchange)
        if isinstance(call, UnreadableCall):
            self._run(exchange, self._answer_broken(exchange, call, (call.defect,)))
        else:
            self._take_readable(exchange, call)

    def _take_readable(self, exchange: _Exchange, call: Call | Send) -> None:
        station = exchange.station
        version, action = station.version, call.action
        if isinstance(call, Send):
            if action not in send_actions(version):
                self._refuse(exchange, ErrorCode.NOT_IMPLEMENTED, "")
                return
        elif action not in self._station_actions[version]:
            self._refuse(exchange, classify(version, action) or ErrorCode.NOT_IMPLEMENTED, "")
            return
        schema = self.schemas.request(version, action)
        violation = schema.violation(call.payload)
        if violation is not None:
            if action in self._transaction_related[version]:
                texts = tuple(f"{each.path}: {each.message}" for each in schema.violations(call.payload))
                self._run(exchange, self._answer_broken(exchange, call, texts))
            else:
                self._refuse(exchange, violation.code, f"{violation.path}: {violation.message}")
            return
        answer = station.adapter.immediate(station.caller, call)
        if answer is None or self.bus.congested:
            self._run(exchange, self._answer(exchange, call, answer))
        else:
            exchange.answer = answer
            self._publish(exchange, action, call.raw_payload, answer.extras)

    async def _answer(self, exchange: _Exchange, call: Call | Send, answer: Answer | None) -> None:
        station = exchange.station
        if answer is None:
            try:
                answer = await station.adapter.answer(station.caller, call)
            except CallRefused as refusal:
                self._refuse(exchange, refusal.code, refusal.reason)
                return
        exchange.answer = answer
        await self._publish_when_room(exchange, call.action, call.raw_payload, answer.extras)

    async def _answer_broken(
        self, exchange: _Exchange, call: Call | Send | UnreadableCall, schema_errors: tuple[str, ...]
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
        self, exchange: _Exchange, action: str, raw_payload: bytes, extras: Mapping[str, Any]
    ) -> None:
        while self.bus.congested and exchange in self.holds:
            exchange.room = self.bus.when_room()
            try:
                await exchange.room
            except BusUnavailable as error:  # we are about to end
                if self.holds.release(exchange):
                    self._abandon(exchange, error.reason)
                return
        self._publish(exchange, action, raw_payload, extras)

    def _publish(self, exchange: _Exchange, action: str, raw_payload: bytes, extras: Mapping[str, Any]) -> None:
        if exchange not in self.holds:
            return  # its time was over before it could be handed over
        if not exchange.is_ours():
            self.holds.release(exchange)
            self.counters.count_call(exchange.station.version, action, "superseded")
            return
        station, call = exchange.station, exchange.call
        adapter = station.adapter
        event_type = adapter.event_type(action)
        event = station.envelope.event(
            event_type,
            now=self.clock.now(),
            connector_id=adapter.connector_id(call.payload or {}),
            message_id=None if isinstance(call, Send) else call.message_id,
            action=action,
            raw_payload=redact(action, raw_payload),
            extras=extras,
        )
        exchange.published = True
        try:
            self.bus.publish(
                self.topics[adapter.topic(action)], station.key, event.value, event.headers, exchange.delivered
            )
        except BusUnavailable as error:
            self._failed(exchange, error)

    def exchange_delivered(self, exchange: _Exchange, error: BusUnavailable | None) -> None:
        """Kafka's word on the event of ``exchange``."""
        if error is not None:
            self._failed(exchange, error)
            return
        self.writability.confirmed()
        exchange.answer.confirmed()
        if not self.holds.release(exchange):
            return
        self.counters.observe_publish(self.clock.monotonic() - exchange.started)
        call = exchange.call
        self.counters.count_call(exchange.station.version, call.action, exchange.outcome)
        if isinstance(call, Send) or call.message_id is None:
            exchange.finish(None, False)
        else:
            answer = exchange.answer
            exchange.finish(encode_call_result(call.message_id, answer.body(self.clock.now())), answer.is_timeless)

    def exchange_expired(self, exchange: _Exchange) -> None:
        """The event of ``exchange`` was not confirmed in time."""
        if exchange.published:
            self.writability.waited_in_vain(exchange.started)
        elif self.bus.congested:
            self.writability.refused()  # others may still be confirmed, but nobody gets anything in
        if exchange.room is not None:
            exchange.room.cancel()
        self._abandon(exchange, "kafka_unavailable")

    def _failed(self, exchange: _Exchange, error: BusUnavailable) -> None:
        if isinstance(error, BusQueueFull):
            self.writability.refused()
        elif not error.permanent:
            self.writability.failed()
        if error.permanent and not self.keeps(exchange.station.version, exchange.call.action):
            self._refuse(exchange, ErrorCode.INTERNAL_ERROR, error.reason)
        elif self.holds.release(exchange):
            self._abandon(exchange, error.reason)

    def _abandon(self, exchange: _Exchange, outcome: str) -> None:
        self.counters.count_call(exchange.station.version, exchange.call.action, outcome)
        exchange.give_up(outcome)

    def _refuse(self, exchange: _Exchange, code: ErrorCode, description: str) -> None:
        if not self.holds.release(exchange):
            return
        call, version = exchange.call, exchange.station.version
        self.counters.count_call(version, call.action, "refused")
        if isinstance(call, Send) or call.message_id is None:
            exchange.finish(None, False)  # SEND is never answered (OCPP 2.1 part 4, 4.2.4)
        else:
            exchange.finish(encode_call_error(version, call.message_id, code, description), False)

    def _run(self, exchange: _Exchange, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(self._broke, exchange)

    def _broke(self, failure: Failure, exchange: _Exchange) -> None:
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
