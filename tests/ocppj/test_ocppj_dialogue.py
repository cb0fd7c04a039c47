"""One CALL at a time in each direction, and every answer to its own question."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocpp_gateway.ocppj.dialogue import Dialogue, SecondCallInFlight
from ocpp_gateway.ocppj.frames import CallError, CallResult, MessageId


def result(message_id: MessageId) -> CallResult:
    return CallResult(message_id, {}, b"{}")


def test_a_second_call_waits_for_the_first_one_s_answer() -> None:
    dialogue = Dialogue()
    assert dialogue.may_call()
    dialogue.call_sent("a")
    assert not dialogue.may_call()
    with pytest.raises(SecondCallInFlight) as caught:
        dialogue.call_sent("b")
    assert caught.value.reason == "second_call_in_flight"
    assert dialogue.in_flight == "a"
    assert dialogue.answer_received(result("a"))
    assert dialogue.may_call()


def test_an_error_is_an_answer_too() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("a")
    assert dialogue.answer_received(CallError("a", "GenericError", "", {}))
    assert dialogue.may_call()


def test_a_late_answer_is_not_taken_for_the_next_call_s() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("a")
    assert dialogue.expire("a")
    dialogue.call_sent("b")
    assert not dialogue.answer_received(result("a"))
    assert dialogue.in_flight == "b"
    assert dialogue.answer_received(result("b"))


def test_an_answer_counts_once() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("a")
    assert dialogue.answer_received(result("a"))
    assert not dialogue.answer_received(result("a"))
    assert not dialogue.expire("a")


def test_answers_to_nothing_and_to_ids_of_another_kind_are_dropped() -> None:
    dialogue = Dialogue()
    assert not dialogue.answer_received(result("a"))
    dialogue.call_sent("1")
    assert not dialogue.answer_received(result(1))
    assert not dialogue.expire("2")
    assert dialogue.in_flight == "1"


def test_calls_cross_freely() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("same")
    assert dialogue.call_received("same")
    assert dialogue.call_answered("same")
    assert dialogue.in_flight == "same"


def test_a_charge_point_that_does_not_wait_is_noticed() -> None:
    dialogue = Dialogue()
    assert dialogue.call_received("a")
    assert not dialogue.call_received("b")
    assert not dialogue.call_received("a")
    assert dialogue.unanswered == 3
    assert [dialogue.call_answered(message_id) for message_id in ("a", "a", "a", "b", "c")] == [True] * 2 + [
        False,
        True,
        False,
    ]
    assert dialogue.unanswered == 0
    assert dialogue.call_received("d")


class AnyDialogue(RuleBasedStateMachine):
    """Whatever happens in whatever order, the dialogue agrees with a plain list of what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = Dialogue()
        self.ours: MessageId | None = None
        self.theirs: list[MessageId] = []

    ids = st.sampled_from(["a", "b", "1", 1])

    @precondition(lambda self: self.ours is None)
    @rule(message_id=ids)
    def call(self, message_id: MessageId) -> None:
        self.dialogue.call_sent(message_id)
        self.ours = message_id

    @rule(message_id=ids, expires=st.booleans())
    def end(self, message_id: MessageId, expires: bool) -> None:
        ended = self.dialogue.expire(message_id) if expires else self.dialogue.answer_received(result(message_id))
        assert ended == (self.ours == message_id)
        self.ours = None if ended else self.ours

    @rule(message_id=ids)
    def be_called(self, message_id: MessageId) -> None:
        assert self.dialogue.call_received(message_id) == (not self.theirs)
        self.theirs.append(message_id)

    @rule(message_id=ids)
    def answer(self, message_id: MessageId) -> None:
        assert self.dialogue.call_answered(message_id) == (message_id in self.theirs)
        if message_id in self.theirs:
            self.theirs.remove(message_id)

    @invariant()
    def agrees(self) -> None:
        assert self.dialogue.in_flight == self.ours
        assert self.dialogue.may_call() == (self.ours is None)
        assert self.dialogue.unanswered == len(self.theirs)


TestAnyDialogue = AnyDialogue.TestCase
