"""One CALL of ours at a time, and every answer to its own question."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ocpp_gateway.ocppj.dialogue import Dialogue, SecondCallInFlight
from ocpp_gateway.ocppj.frames import MessageId


def test_a_second_call_waits_for_the_first_one_s_answer() -> None:
    dialogue = Dialogue()
    assert dialogue.in_flight is None
    dialogue.call_sent("a")
    with pytest.raises(SecondCallInFlight) as caught:
        dialogue.call_sent("b")
    assert caught.value.reason == "second_call_in_flight"
    assert dialogue.in_flight == "a"
    assert dialogue.end("a")
    assert dialogue.in_flight is None


def test_a_late_answer_is_not_taken_for_the_next_call_s() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("a")
    assert dialogue.end("a")
    dialogue.call_sent("b")
    assert not dialogue.end("a")
    assert dialogue.in_flight == "b"
    assert dialogue.end("b")


def test_an_answer_counts_once() -> None:
    dialogue = Dialogue()
    dialogue.call_sent("a")
    assert dialogue.end("a")
    assert not dialogue.end("a")


def test_answers_to_nothing_and_to_ids_of_another_kind_are_dropped() -> None:
    dialogue = Dialogue()
    assert not dialogue.end("a")
    dialogue.call_sent("1")
    assert not dialogue.end(1)
    assert not dialogue.end("2")
    assert dialogue.in_flight == "1"


class AnyDialogue(RuleBasedStateMachine):
    """Whatever happens in whatever order, at most one is in flight, and only its own id ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = Dialogue()
        self.ours: MessageId | None = None

    ids = st.sampled_from(["a", "b", "1", 1])

    @rule(message_id=ids)
    def call(self, message_id: MessageId) -> None:
        if self.ours is None:
            self.dialogue.call_sent(message_id)
            self.ours = message_id
        else:
            with pytest.raises(SecondCallInFlight):
                self.dialogue.call_sent(message_id)

    @rule(message_id=ids)
    def end(self, message_id: MessageId) -> None:
        ended = self.dialogue.end(message_id)
        assert ended == (self.ours == message_id)
        self.ours = None if ended else self.ours

    @invariant()
    def agrees(self) -> None:
        assert self.dialogue.in_flight == self.ours


TestAnyDialogue = AnyDialogue.TestCase
