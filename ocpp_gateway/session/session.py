"""One connected charge point: from the upgrade to the end of its connection.

What it says is taken strictly in order, one CALL at a time (OCPP-J section 4.1.1); a bounded number waits, then its
connection is not read for a while. An answer belongs to a message id together with the same bytes: a retransmission
gets the answer again and makes no second event, other content under a used id is a new message.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen
from twisted.logger import Logger

from ocpp_gateway.auth.standing import Standing
from ocpp_gateway.clock import Clock
from ocpp_gateway.ocppj.codec import code_of, decode, encode_call_error
from ocpp_gateway.ocppj.dialogue import Dialogue
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import (
    UNREADABLE_MESSAGE_ID,
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
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.uplink import Station, UnreadableCall, Uplink
from ocpp_gateway.session.answers import RecentAnswers
from ocpp_gateway.session.facts import SessionIdentity, SessionLimits
from ocpp_gateway.session.lifecycle import Phase
from ocpp_gateway.session.ports import Connection, SessionCounters
from ocpp_gateway.session.reading import Reading
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.revoking import revoke
from ocpp_gateway.session.serials import expected_serial_number, names_serial_number

log = Logger()

_HARMLESS = frozenset(("unknown_message_type", "message_id_too_long"))
"""Defects of frames by which no connection ends, however many: readable, and of firmware that will not change."""


_TAKEN = (Call, Send, UnreadableCall)

_MAX_WAITING_BYTES = 65_536
"""Bytes of CALLs that may wait: parsed, they are some 25 times that in memory."""

_TAKEN_PER_TURN = 16
"""CALLs that end at once are taken one after the other, but not so many that other charge points wait for it."""


@frozen
class _Waiting:
    """A CALL or SEND that has arrived."""

    call: Call | Send | UnreadableCall
    content: int
    """Hash of its bytes."""

    size: int


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
    dialogue: Dialogue = field(factory=Dialogue)
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
    _waiting: deque[_Waiting] | None = None
    _waiting_bytes: int = 0
    _answers: RecentAnswers | None = None
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
            if self._current is None and not self._waiting:
                self._take(frame, hash(data))
            else:
                self._queue(_Waiting(frame, hash(data), len(data)))
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

    def close(self, reason: CloseReason) -> None:
        """End the connection for ``reason``; the first reason stays."""
        if self.close_reason is None:
            self._waiting = None  # never answered, so the charge point keeps them and sends them again
            self.connection.life.close(reason)

    def abort(self, reason: CloseReason) -> None:
        """End the connection for ``reason`` without waiting for a charge point that does not listen any more."""
        self.close(reason)
        self.connection.abort()

    def close_when_answered(self, reason: CloseReason) -> None:
        """End the connection for ``reason`` as soon as the CALL under way has its answer; no further one is begun."""
        if self._current is None:
            self.close(reason)
        else:
            self._waiting = None
            self.connection.life.drain(reason)

    # CALLs, one after the other.

    @property
    def _is_hurried(self) -> bool:
        """Whether the charge point does not wait for its answers; what it sent is not even read while it is paused."""
        return self._current is not None or self.connection.has_more

    def _queue(self, arrived: _Waiting) -> None:
        if self.connection.course.phase is not Phase.OPEN:
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(arrived)
        self._waiting_bytes += arrived.size
        self._reading.fill(self._is_full)

    @property
    def _is_full(self) -> bool:
        return len(self._waiting or ()) >= self.limits.max_waiting_calls or self._waiting_bytes >= _MAX_WAITING_BYTES

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

    def _given_up(self, reason: str) -> None:
        self._current = None
        ours = CloseReason.INTERNAL_ERROR
        self.close(ours if reason == ours.label else CloseReason.KAFKA_UNAVAILABLE)

    def _take_waiting(self) -> None:
        if self._taking:
            return  # a CALL that ended at once; the loop below, or the timer, goes on
        self._taking = True
        for _ in range(_TAKEN_PER_TURN):
            if not self._waiting or self._current is not None:
                self._taking = False
                break
            arrived = self._waiting.popleft()
            self._waiting_bytes -= arrived.size
            self._take(arrived.call, arrived.content)
        else:
            self.clock.call_later(0, self._take_more)
        self._reading.fill(self._is_full)

    def _take_more(self) -> None:
        self._taking = False
        if self._current is None:
            self._take_waiting()

    def _send(self, frame: bytes) -> None:
        if self.connection.course.phase in (Phase.OPEN, Phase.DRAINING):
            self.messages_out += 1
            self.bytes_out += len(frame)
            self.connection.send_text(frame)

    # Everything that is no CALL.

    def _answer_received(self, frame: Frame) -> None:
        if frame.quirks:
            self._count_quirks(frame.quirks)
        if isinstance(frame, CallResultError):
            self.counters.count_bad_frame(self.version, "callresulterror")
            self._log_rejected_answer(frame)
        elif isinstance(frame, CallResult | CallError) and not self.dialogue.answer_received(frame):
            self.counters.count_bad_frame(self.version, "unexpected_answer")

    def _log_rejected_answer(self, frame: CallResultError) -> None:
        if self._rejection_logged:
            return  # once a connection; the rest is counted
        self._rejection_logged = True
        code = ErrorCode.from_spelling(frame.code)
        log.warn(
            "{charge_point_id} did not understand an answer of ours: {code}",
            event="call.answer_rejected",
            charge_point_id=self.identity.charge_point_id,
            connection_id=self.identity.connection_id,
            code="other" if code is None else code.value,
        )

    def _salvage(self, error: FrameError, data: bytes) -> UnreadableCall | None:
        """A broken CALL that carries billing data is kept: as text, but it is kept."""
        if error.message_type != 2 or error.action is None or not self.uplink.keeps(self.version, error.action):
            return None
        self.counters.count_bad_frame(self.version, error.reason)
        self.last_error = error.reason
        message_id = error.message_id
        if message_id is None and self.version.is_2x:
            message_id = UNREADABLE_MESSAGE_ID
        text = data.decode("utf-8", "replace")
        return UnreadableCall(message_id, error.action, text, error.reason, error.payload, error.raw_payload)

    def _bad_frame(self, error: FrameError) -> None:
        self.counters.count_bad_frame(self.version, error.reason)
        self.last_error = error.reason
        if error.reason not in _HARMLESS:
            self._bad_frames += 1
        if self._bad_frames >= self.limits.max_bad_frames:
            self.close(CloseReason.BAD_FRAMES)
            return
        if error.message_type not in (2, None) and error.reason != "unknown_message_type":
            return  # a broken answer or SEND: nobody waits for a word about it
        if error.reason == "unknown_message_type" and self.version is not OcppVersion.V201:
            return  # to be ignored (1.6 and 2.1 section 4.1.3); 2.0.1 section 4.4 wants it answered
        message_id = error.message_id
        if message_id is None:
            if not self.version.is_2x:
                return  # 1.6 knows no answer to a frame without an id
            message_id = UNREADABLE_MESSAGE_ID
        self._send(encode_call_error(self.version, message_id, error.code, error.reason))

    def _count_quirks(self, quirks: tuple[Quirk, ...]) -> None:
        for quirk in quirks:
            self.counters.count_quirk(self.version, quirk)
