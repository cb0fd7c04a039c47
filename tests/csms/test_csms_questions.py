"""Each question has its own time, its own id, and ends once."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

import pytest
from attrs import define, field
from support.manual_clock import ManualClock

from ocpp_gateway.csms.questions import Questions, ReplyPartitions, asker_of


@define(eq=False)
class World:
    ours: Collection[int] = (3,)
    clock: ManualClock = field(factory=ManualClock)
    answers: list[tuple[str, bytes | None]] = field(factory=list)
    questions: Questions = field(init=False)

    def __attrs_post_init__(self) -> None:
        numbers = count(1)
        self.questions = Questions(
            node_id="node.a-1",
            topic="replies",
            partitions=ReplyPartitions(lambda: self.ours, lambda: 4),
            new_id=lambda: f"id{next(numbers)}",
            clock=self.clock,
            max_waiting=3,
        )

    def ask(self, name: str, timeout: float = 10.0) -> str | None:
        reply_to = self.questions.ask(timeout, lambda value: self.answers.append((name, value)))
        return None if reply_to is None else str(reply_to["correlationId"])

    @property
    def timers(self) -> int:
        return len(self.clock.timers.getDelayedCalls())


@pytest.fixture
def world() -> World:
    return World()


def test_the_reply_to_says_where_and_who(world: World) -> None:
    reply_to = world.questions.ask(10.0, world.answers.append)
    assert reply_to == {"topic": "replies", "partition": 3, "correlationId": "node.a-1.id1"}
    assert asker_of(reply_to["correlationId"]) == "node.a-1"
    assert asker_of("id1") is None
    assert asker_of(".id1") is None


def test_an_answer_ends_its_question_and_no_other(world: World) -> None:
    first, second = world.ask("first"), world.ask("second")
    assert second is not None
    assert world.questions.answer(second, b"2")
    assert world.answers == [("second", b"2")]
    assert not world.questions.answer(second, b"again")
    assert not world.questions.answer("node.a-1.id9", b"never asked")
    assert len(world.questions) == world.timers == 1
    assert first is not None
    assert world.questions.answer(first, b"1")
    assert (len(world.questions), world.timers) == (0, 0)


def test_each_has_its_own_time(world: World) -> None:
    slow, _ = world.ask("slow", 10.0), world.ask("fast", 1.5)
    world.clock.advance(1.4)
    assert world.answers == []
    world.clock.advance(0.2)
    assert world.answers == [("fast", None)]
    world.clock.advance(8.5)
    assert world.answers == [("fast", None), ("slow", None)]
    assert slow is not None
    assert not world.questions.answer(slow, b"late")
    assert len(world.questions) == world.timers == 0


def test_one_that_is_withdrawn_is_told_nothing(world: World) -> None:
    asked = world.ask("x")
    assert asked is not None
    world.questions.withdraw(asked)
    world.questions.withdraw(asked)
    assert not world.questions.answer(asked, b"1")
    world.clock.advance(20)
    assert (world.answers, world.timers) == ([], 0)


def test_too_many_are_not_asked(world: World) -> None:
    asked = [world.ask(str(number)) for number in range(4)]
    assert asked[3] is None
    assert asked[0] is not None
    assert world.questions.answer(asked[0], b"1")
    assert world.ask("one more") is not None


def test_stopped_it_leaves_no_timer(world: World) -> None:
    world.ask("x")
    world.ask("y")
    world.questions.stop()
    assert (len(world.questions), world.timers, world.answers) == (0, 0, [])


@pytest.mark.parametrize(
    ("ours", "known", "expected"),
    [
        ({2, 7}, 8, [7, 2, 7, 2]),
        (frozenset(), 3, [1, 2, 0, 1]),
        ((), 0, [0, 0, 0, 0]),
    ],
)
def test_answers_come_to_us_if_they_can(ours: Collection[int], known: int, expected: list[int]) -> None:
    partitions = ReplyPartitions(lambda: ours, lambda: known)
    assert [partitions.next() for _ in range(4)] == expected
