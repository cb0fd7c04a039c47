"""Whatever happens in whatever order: one CALL in flight, in order, and each that was taken ends exactly once."""

from __future__ import annotations

from typing import Any

from asked import Asked
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred

from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import Call, CallError, CallResult, FrameError
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session.outbox import Outbox

MOST = 3
TIMEOUT = 10.0
ENDS = ("answered", "refused", "unreadable")


def is_end(told: Any) -> bool:
    return told == "timed_out" or told[0] in ("lost", *ENDS)


class AnyOutbox(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.written: list[str] = []
        self.idled = 0
        self.drained = 0
        self.taken: list[Asked] = []
        self.left_out: list[Asked] = []
        self.is_over = False
        self.outbox = Outbox(
            max_waiting=MOST,
            clock=self.clock,
            send=self.send,
            reject=lambda message_id, violation: None,
            idled=self.count_idle,
        )

    def send(self, data: bytes) -> None:
        frame = decode(data, OcppVersion.V16)
        assert isinstance(frame, Call)
        assert self.in_flight() == []  # it is told to be sent behind this
        self.written.append(str(frame.message_id))

    def count_idle(self) -> None:
        self.idled += 1

    def count_drained(self) -> None:
        self.drained += 1

    def in_flight(self) -> list[Asked]:
        return [call for call in self.taken if call.told == ["sent"]]

    def clearing(self) -> Asked | None:
        waiting = [call for call in self.taken if call.clearings and not call.told and call not in self.left_out]
        return waiting[0] if waiting else None

    @rule(may_go=st.sampled_from([True, False, None]))
    def submit(self, may_go: bool | None) -> None:
        call = Asked(f"m-{len(self.taken)}", Deferred() if may_go is None else may_go, TIMEOUT)
        if may_go is False:
            self.left_out.append(call)
        if self.outbox.submit(call):
            assert not self.is_over
            self.taken.append(call)
        else:
            assert self.is_over or sum(not call.clearings for call in self.taken) == MOST

    @precondition(lambda self: self.clearing() is not None)
    @rule(verdict=st.booleans())
    def clear(self, verdict: bool) -> None:
        call = self.clearing()
        assert call is not None
        assert isinstance(call.may_go, Deferred)
        if not verdict:
            self.left_out.append(call)
        call.may_go.callback(verdict)

    @precondition(lambda self: self.taken)
    @rule(kind=st.sampled_from(ENDS), data=st.data())
    def answer(self, kind: str, data: st.DataObject) -> None:
        message_id = data.draw(st.sampled_from([call.message_id for call in self.taken]))
        before = [call.message_id for call in self.in_flight()]
        if kind == "answered":
            assert self.outbox.received(CallResult(message_id, {}, b"{}")) == ([message_id] == before)
        elif kind == "refused":
            assert self.outbox.received(CallError(message_id, "GenericError", "", {})) == ([message_id] == before)
        else:
            self.outbox.received_unreadable(FrameError("wrong_arity", message_id=message_id, message_type=3))

    @rule(seconds=st.sampled_from([1.0, 9.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def drain(self) -> None:
        was_in_flight = bool(self.in_flight())
        assert self.outbox.drain(self.count_drained) == was_in_flight
        self.is_over = True

    @rule()
    def end(self) -> None:
        self.outbox.end()
        self.is_over = True

    @invariant()
    def holds(self) -> None:
        ends = {call.message_id: [told for told in call.told if is_end(told)] for call in self.taken}
        assert all(len(told) <= 1 for told in ends.values())
        assert len(self.in_flight()) <= 1
        assert self.written == [call.message_id for call in self.taken if "sent" in call.told]
        assert all(not call.told or call.told == [("lost", False)] for call in self.left_out)
        pending = [call for call in self.taken if not ends[call.message_id] and call not in self.left_out]
        timers = self.clock.timers.getDelayedCalls()
        assert len(timers) == len(self.in_flight())
        if self.is_over:
            assert pending == self.in_flight()
            assert not self.outbox.takes_calls
            assert self.drained <= 1
        elif pending:
            # Nothing waits without somebody who will go on: an answer or a timeout, or a verdict.
            assert self.in_flight() or self.clearing() is not None


TestAnyOutbox = AnyOutbox.TestCase
