"""One connected charge point: from the upgrade to the end of its connection.

What it says is taken strictly in order, one CALL at a time (OCPP-J section 4.1.1); a bounded number waits, then its
connection is not read for a while. An answer belongs to a message id together with the same bytes: a retransmission
gets the answer again and makes no second event, other content under a used id is a new message.

What it is asked goes out beside that, one CALL at a time too (``session.outbox``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define, field

from ocpp_gateway.auth.standing import Standing
from ocpp_gateway.clock import Clock
from ocpp_gateway.ocppj.codec import CALL, CALLERROR, CALLRESULT, code_of, decode, encode_call_result_error
from ocpp_gateway.ocppj.frames import (
    Call,
    CallError,
    CallResult,
    CallResultError,
    Frame,
    FrameError,
    MessageId,
    Quirk,
    Send,
)
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ocppj.violations import Violation
from ocpp_gateway.routing.exchange import Station, UnreadableCall
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.session.answers import RecentAnswers
from ocpp_gateway.session.defects import HARMLESS, answer_to, log_rejected_answer, unreadable_call
from ocpp_gateway.session.facts import SessionIdentity, SessionLimits
from ocpp_gateway.session.inbox import Inbox
from ocpp_gateway.session.lifecycle import Phase
from ocpp_gateway.session.outbox import Outbox, OutgoingCall
from ocpp_gateway.session.ports import Connection, SessionCounters
from ocpp_gateway.session.reading import Reading
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.revoking import revoke
from ocpp_gateway.session.serials import expected_serial_number, names_serial_number

_TAKEN = (Call, Send, UnreadableCall)
_ANSWERS = (CALLRESULT, CALLERROR)
_WRITABLE = (Phase.OPEN, Phase.DRAINING)

_GIVEN_UP = {reason.label: reason for reason in (CloseReason.INTERNAL_ERROR, CloseReason.CSMS_UNAVAILABLE)}
"""Why a CALL may end without an answer, besides Kafka."""

_TAKEN_PER_TURN = 16
"""CALLs that end at once are taken one after the other, but not so many that other charge points wait for it."""


@define(eq=False, kw_only=True)
class Session:
    """See the module's text. Created when the upgrade is done."""

    identity: SessionIdentity
    station: Station
    standing: Standing
    """By what it was let in; another one when its identity record has changed, and it may stay."""

    connection: Connection
    uplink: Uplink
    security: SecurityEvents
    limits: SessionLimits
    counters: SessionCounters
    clock: Clock
    first_answered: Callable[[Session], None] | None = None
    """Called once, when the first CALL of the charge point has its answer."""

    calls: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    last_error: str | None = None
    """The last thing that was wrong with a message of the charge point's: a defect, or the code of a CALLERROR."""

    serial_number: str | None = field(init=False)
    """What BootNotification has to name, where the certificate says it in place of the identity; None: anything."""

    _current: tuple[MessageId | None, int] | None = None
    _inbox: Inbox | None = None
    _answers: RecentAnswers | None = None
    _outbox: Outbox | None = None
    """Only while something is asked."""

    _bad_frames: int = 0
    _reading: Reading = field(init=False)
    _taking: bool = False
    _rejection_logged: bool = False

    def __attrs_post_init__(self) -> None:
        self.serial_number = expected_serial_number(self.standing, self.identity.charge_point_id)
        self._reading = Reading(self.connection, self.limits.messages, self.clock)

    @property
    def close_reason(self) -> CloseReason | None:
        """Why it ends; None while it goes on, be it only for the answer to one more CALL."""
        return self.connection.course.reason

    @property
    def version(self) -> OcppVersion:
        """What the two sides speak."""
        return self.station.version

    @property
    def last_seen(self) -> float:
        """When the charge point last gave a sign of life, be it an answer to a ping. Wall clock, seconds."""
        return self.clock.now() - (self.clock.monotonic() - self.connection.last_heard)

    # What the WebSocket tells us.

    def received(self, data: bytes) -> None:
        """One text message."""
        if self.close_reason is not None:
            return
        self.messages_in += 1
        self.bytes_in += len(data)
        if self._reading.arrived(is_impatient=self._is_hurried):
            self.close(CloseReason.MESSAGE_FLOOD)
            return
        try:
            frame: Frame | UnreadableCall = decode(data, self.version, max_nesting=self.limits.max_nesting)
        except FrameError as error:
            salvaged = self._salvage(error, data)
            if salvaged is None:
                self._bad_frame(error)
                return
            frame = salvaged
        else:
            self._bad_frames = 0
        if isinstance(frame, _TAKEN):
            if frame.quirks:
                self._count_quirks(frame.quirks)
            if self._current is None and self._inbox is None:
                self._take(frame, hash(data))
            else:
                self._queue(frame, hash(data), len(data))
        else:
            self._answer_received(frame)

    def paced(self) -> None:
        """What is no message has come, and costs as much as one."""
        if self.close_reason is None and self._reading.arrived(is_impatient=self._is_hurried):
            self.close(CloseReason.MESSAGE_FLOOD)

    def closed(self, reason: CloseReason) -> None:
        """The connection is gone; ``reason`` unless we had one before. What waits is still published."""
        self._reading.stop()
        self.connection.life.lost(reason)
        self._end_outbox()

    def close(self, reason: CloseReason) -> None:
        """End the connection for ``reason``; the first reason stays."""
        if self.close_reason is None:
            self._inbox = None  # never answered, so the charge point keeps them and sends them again
            self.connection.life.close(reason)
            self._end_outbox()

    def abort(self, reason: CloseReason) -> None:
        """End the connection for ``reason`` without waiting for a charge point that does not listen any more."""
        self.close(reason)
        self.connection.abort()

    def close_when_answered(self, reason: CloseReason) -> None:
        """End the connection for ``reason`` as soon as the CALL under way has its answer; no further one is begun.

        If we have asked something, its answer comes first. Until then the charge point is served like any other.
        """
        if self._outbox is None or not self._outbox.drain(partial(self._drain, reason)):
            self._drain(reason)

    def _drain(self, reason: CloseReason) -> None:
        if self._current is None:
            self.close(reason)
        else:
            self._inbox = None
            self.connection.life.drain(reason)

    # What it is asked.

    @property
    def takes_calls(self) -> bool:
        """Whether it may be asked something: it is open, and not about to end."""
        return self.connection.course.phase is Phase.OPEN and (self._outbox is None or self._outbox.takes_calls)

    def call(self, call: OutgoingCall) -> bool:
        """Ask it; see OutgoingCall. False, and nothing is told about the CALL: too many wait, or the session ends."""
        if not self.takes_calls:
            return False
        if self._outbox is None:
            self._outbox = Outbox(
                max_waiting=self.limits.max_waiting_commands,
                clock=self.clock,
                send=self._send,
                reject=self._reject_answer,
                idled=self._end_outbox,
            )
        return self._outbox.submit(call)

    def _reject_answer(self, message_id: MessageId, violation: Violation) -> None:
        self.last_error = violation.code.spelling(self.version)
        if self.version is OcppVersion.V21:
            why = f"{violation.path}: {violation.message}"
            self._send(encode_call_result_error(message_id, violation.code, why))

    def _end_outbox(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            outbox.end()

    # CALLs, one after the other.

    @property
    def _is_hurried(self) -> bool:
        """Whether the charge point does not wait for its answers; what it sent is not even read while it is paused."""
        return self._current is not None or self.connection.has_more

    def _queue(self, call: Call | Send | UnreadableCall, content: int, size: int) -> None:
        if self.connection.course.phase is not Phase.OPEN:
            return
        if self._inbox is None:
            self._inbox = Inbox(self.limits.max_waiting_calls)
        self._inbox.put(call, content, size)
        self._reading.fill(self._inbox.is_full)

    def _take(self, call: Call | Send | UnreadableCall, content: int) -> None:
        if self._answers is not None and call.message_id is not None and not isinstance(call, Send):
            known = self._answers.get(call.message_id, content, self.clock.monotonic())
            if known is not None:
                self.counters.count_call(self.version, call.action, "retransmitted")
                self._send(known)
                return
        serial_number = self.serial_number
        if (
            serial_number is not None
            and call.action == "BootNotification"
            and not names_serial_number(call.payload, serial_number)
        ):
            revoke(self, CloseReason.SERIAL_NUMBER_MISMATCH, self.security)
            return
        self._current = (call.message_id, content)
        self.calls += 1
        self.uplink.take(self.station, call, self._finished, self._given_up, self._is_ours)

    def _is_ours(self) -> bool:
        return self.close_reason not in (CloseReason.REPLACED, CloseReason.TRANSFERRED)

    def _finished(self, frame: bytes | None, again: bool) -> None:
        current = self._current
        assert current is not None  # ours: the uplink finishes each CALL once
        message_id, content = current
        if frame is not None and message_id is not None:
            self.last_error = code_of(frame) or self.last_error
            if again:
                if self._answers is None:
                    self._answers = RecentAnswers(self.limits.answer_ttl)
                self._answers.put(message_id, content, frame, self.clock.monotonic())
            self._send(frame)
        self._current = None
        if self.connection.course.phase is Phase.DRAINING:  # asked first: this is the path of every message
            self.connection.life.answered()
        self._take_waiting()
        if self.first_answered is not None:
            self.first_answered(self)

    def _given_up(self, reason: str) -> None:
        self._current = None
        self.close(_GIVEN_UP.get(reason, CloseReason.KAFKA_UNAVAILABLE))

    def _take_waiting(self) -> None:
        if self._inbox is None or self._taking:
            return  # taking: a CALL that ended at once; the loop below, or the timer, goes on
        self._taking = True
        for _ in range(_TAKEN_PER_TURN):
            inbox = self._inbox
            if inbox is None or self._current is not None:
                self._taking = False
                break
            call, content = inbox.take()
            if not inbox:
                self._inbox = None
            self._take(call, content)
        else:
            self.clock.call_later(0, self._take_more)
        self._reading.fill(self._inbox is not None and self._inbox.is_full)

    def _take_more(self) -> None:
        self._taking = False
        if self._current is None:
            self._take_waiting()

    def _send(self, frame: bytes) -> None:
        if self.connection.course.phase in _WRITABLE:
            self.messages_out += 1
            self.bytes_out += len(frame)
            self.connection.send_text(frame)

    # Everything that is no CALL.

    def _answer_received(self, frame: Frame) -> None:
        if frame.quirks:
            self._count_quirks(frame.quirks)
        if isinstance(frame, CallResultError):
            self.counters.count_bad_frame(self.version, "callresulterror")
            if not self._rejection_logged:  # once a connection; the rest is counted
                self._rejection_logged = True
                log_rejected_answer(frame, self.identity)
        elif isinstance(frame, CallResult | CallError) and (self._outbox is None or not self._outbox.received(frame)):
            self.counters.count_bad_frame(self.version, "unexpected_answer")

    def _salvage(self, error: FrameError, data: bytes) -> UnreadableCall | None:
        """A broken CALL that carries billing data is kept: as text, but it is kept."""
        if error.message_type != CALL or error.action is None or not self.uplink.keeps(self.version, error.action):
            return None
        self.counters.count_bad_frame(self.version, error.reason)
        self.last_error = error.reason
        return unreadable_call(error, error.action, data, self.version)

    def _bad_frame(self, error: FrameError) -> None:
        self.counters.count_bad_frame(self.version, error.reason)
        self.last_error = error.reason
        if self._outbox is not None and error.message_type in _ANSWERS:
            self._outbox.received_unreadable(error)
        if error.reason not in HARMLESS:
            self._bad_frames += 1
        if self._bad_frames >= self.limits.max_bad_frames:
            self.close(CloseReason.BAD_FRAMES)
            return
        answer = answer_to(error, self.version)
        if answer is not None:
            self._send(answer)

    def _count_quirks(self, quirks: tuple[Quirk, ...]) -> None:
        for quirk in quirks:
            self.counters.count_quirk(self.version, quirk)
