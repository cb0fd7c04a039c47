"""What is asked of one charge point: our CALLs, one after the other, each until it has its answer.

::

    submit ──> waiting ──> cleared()? ── no ──> left out
                  │            │ yes
                  │            v
                  │        written, sent() ── answer of its id ──> answered() | refused() | unreadable()
                  │            │           └─ none in time ─────> timed_out()
                  v            v
               lost(False)  lost(True)           the connection ends first

The next CALL goes out when the one before has ended, not before (OCPP-J section 4.1.1); what the charge point asks
meanwhile is answered all the same. Whoever submits a CALL that is taken is told its end exactly once, unless he left it
out himself. He may submit others, or close the session, while he is being told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.clock import Clock
from ocpp_gateway.ocppj.codec import CALLRESULT, encode_call
from ocpp_gateway.ocppj.dialogue import Dialogue
from ocpp_gateway.ocppj.frames import CallError, CallResult, FrameError, MessageId
from ocpp_gateway.ocppj.violations import Violation

log = Logger()


class OutgoingCall(Protocol):
    """A CALL of ours, and who wants to know what became of it. Nothing here raises."""

    @property
    def message_id(self) -> str:
        """Its id, never used before towards this charge point."""
        ...

    @property
    def action(self) -> str:
        """What is asked."""
        ...

    @property
    def payload(self) -> bytes:
        """A JSON object's text, valid for the version that the charge point speaks."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds to wait for the answer."""
        ...

    async def cleared(self) -> bool:
        """Its turn has come: whether it may go out now. False: it is left out, and nothing else is told about it.

        The connection may end before this returns. Then ``lost`` is told at once, and what this returns is ignored.
        """
        ...

    def sent(self) -> None:
        """It is written."""
        ...

    def answered(self, result: CallResult) -> Violation | None:
        """The answer; what is wrong with it, if anything. A charge point of 2.1 is told (CALLRESULTERROR)."""
        ...

    def refused(self, error: CallError) -> None:
        """A CALLERROR came for it."""
        ...

    def unreadable(self, violation: Violation) -> None:
        """An answer came of which no more than the id could be read."""
        ...

    def timed_out(self) -> None:
        """No answer came in time. One that comes later is dropped."""
        ...

    def lost(self, was_sent: bool) -> None:
        """The connection ends, or takes no further CALL; ``was_sent``: the charge point may have got it."""
        ...


class _Step(Enum):
    """How far the CALL is whose turn it is."""

    IDLE = auto()  # there is none
    CLEARING = auto()
    IN_FLIGHT = auto()
    TELLING = auto()  # it has ended; who submitted it is being told
    ENDED = auto()  # so have all others


@define(eq=False, kw_only=True)
class Outbox:
    """See the module's text. A session has one while something is asked; ``idled`` is called when all has ended."""

    max_waiting: int
    clock: Clock
    send: Callable[[bytes], None]
    """Writes a frame."""

    reject: Callable[[MessageId, Violation], None]
    """Tells the charge point that its answer of this id was not understood."""

    idled: Callable[[], None]
    _dialogue: Dialogue = field(factory=Dialogue, init=False)
    _waiting: deque[OutgoingCall] = field(factory=deque, init=False)
    _call: OutgoingCall | None = field(default=None, init=False)
    """The one whose turn it is, until its end is told."""

    _step: _Step = field(default=_Step.IDLE, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _drained: Callable[[], None] | None = field(default=None, init=False)

    @property
    def takes_calls(self) -> bool:
        """Whether it is not about to end."""
        return self._step is not _Step.ENDED and self._drained is None

    def submit(self, call: OutgoingCall) -> bool:
        """Send ``call`` when its turn comes; False, and nothing is told about it: too many wait, or this is the end."""
        if not self.takes_calls or len(self._waiting) >= self.max_waiting:
            return False
        self._waiting.append(call)
        if self._step is _Step.IDLE:
            self._go_on()
        return True

    def received(self, frame: CallResult | CallError) -> bool:
        """An answer came; False if it is none to the CALL in flight, and was dropped."""
        call = self._take(frame.message_id)
        if call is None:
            return False
        if isinstance(frame, CallError):
            _guarded(call.refused, frame)
        else:
            violation: Violation | None = _guarded(call.answered, frame)
            if violation is not None:
                self.reject(frame.message_id, violation)
        self._told()
        return True

    def received_unreadable(self, error: FrameError) -> None:
        """What came was no frame. Should it be meant for the CALL in flight, that need not wait for its timeout."""
        call = None if error.message_id is None else self._take(error.message_id)
        if call is None or error.message_id is None:
            return
        violation = Violation(error.code, "", error.reason)
        _guarded(call.unreadable, violation)
        if error.message_type == CALLRESULT:
            self.reject(error.message_id, violation)
        self._told()

    def drain(self, drained: Callable[[], None]) -> bool:
        """Begin no further CALL. False: none is in flight; else ``drained`` is called when that has ended.

        It is not if ``end`` comes first.
        """
        if self._step is _Step.IN_FLIGHT:
            self._drained = drained
            self._lose_waiting()
            return self._step is _Step.IN_FLIGHT  # who was told may have ended it all
        self.end()
        return False

    def end(self) -> None:
        """The connection ends."""
        step, self._step = self._step, _Step.ENDED
        call, self._call = self._call, None
        self._stop_timer()
        if call is not None:
            _guarded(call.lost, step is _Step.IN_FLIGHT)
        self._lose_waiting()

    def _lose_waiting(self) -> None:
        while self._waiting:  # none is added any more
            _guarded(self._waiting.popleft().lost, False)

    # One after the other.

    def _go_on(self) -> None:
        if self._waiting:
            self._step = _Step.CLEARING
            Deferred.fromCoroutine(self._begin_next()).addErrback(_log_failure)
        elif self._drained is not None:
            self._step = _Step.ENDED
            self._drained()
        else:
            self._step = _Step.IDLE
            self.idled()

    async def _begin_next(self) -> None:
        while self._waiting:
            call = self._call = self._waiting.popleft()
            frame = await self._cleared_frame(call)
            if self._step is not _Step.CLEARING:
                return  # ended meanwhile, and told so
            if frame is not None:
                self._write(call, frame)
                return
            self._call = None
        self._go_on()

    async def _cleared_frame(self, call: OutgoingCall) -> bytes | None:
        try:
            return encode_call(call.message_id, call.action, call.payload) if await call.cleared() else None
        except Exception:
            _log_failure()
            if self._call is call:
                self._call = None
                _guarded(call.lost, False)
            return None

    def _write(self, call: OutgoingCall, frame: bytes) -> None:
        self._dialogue.call_sent(call.message_id)
        self._step = _Step.IN_FLIGHT
        self._timer = self.clock.call_later(call.timeout, self._timed_out)
        self.send(frame)
        if self._call is call:  # a connection that takes no more may have ended with that
            _guarded(call.sent)

    def _take(self, message_id: MessageId) -> OutgoingCall | None:
        """The CALL in flight, if it has that id; it has ended."""
        if self._step is not _Step.IN_FLIGHT or not self._dialogue.end(message_id):
            return None
        self._stop_timer()
        call, self._call = self._call, None
        self._step = _Step.TELLING
        return call

    def _told(self) -> None:
        if self._step is _Step.TELLING:
            self._go_on()

    def _timed_out(self) -> None:
        self._timer = None
        message_id = self._dialogue.in_flight
        call = None if message_id is None else self._take(message_id)
        if call is not None:
            _guarded(call.timed_out)
            self._told()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _guarded(tell: Callable[..., Any], *args: Any) -> Any:
    """One that cannot be told must keep neither the others nor the session waiting."""
    try:
        return tell(*args)
    except Exception:
        _log_failure()
        return None


def _log_failure(failure: Failure | None = None) -> None:
    log.failure("A CALL of ours could not be handled", failure, event="session.failed", reason="internal_error")
