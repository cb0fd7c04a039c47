"""An answer reaches who asked, whichever node reads it; what cannot be delivered is counted and dropped."""

from __future__ import annotations

import pytest
from attrs import define, field, frozen
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred

from ocpp_gateway.csms.answers import MAX_BYTES
from ocpp_gateway.csms.questions import Questions, ReplyPartitions
from ocpp_gateway.csms.replies import Replies
from ocpp_gateway.errors import StoreUnavailable


@frozen
class Record:
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@define(eq=False)
class Bus:
    """The node bus; who is asked by name hears it when a test says so."""

    sent: list[tuple[str, str, bytes]] = field(factory=list)
    heard: list[Deferred[int]] = field(factory=list)

    async def csms_answer(self, node_id: str, correlation_id: str, value: bytes) -> int:
        self.sent.append((node_id, correlation_id, value))
        waiting: Deferred[int] = Deferred()
        self.heard.append(waiting)
        return await waiting


@define(eq=False)
class World:
    bus: Bus = field(factory=Bus)
    outcomes: list[str] = field(factory=list)
    answers: list[bytes | None] = field(factory=list)
    questions: Questions = field(init=False)
    replies: Replies = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.questions = Questions(
            node_id="node.a",
            topic="replies",
            partitions=ReplyPartitions(tuple, lambda: 1),
            new_id=lambda: "5f",
            clock=ManualClock(),
        )
        self.replies = Replies(
            node_id="node.a", questions=self.questions, bus=self.bus, counters=self, max_passing_on=2
        )

    def count_csms_record(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def receive(self, correlation_id: str, value: bytes = b"{}") -> None:
        self.replies.received(Record(value, (("kafka_correlationId", correlation_id.encode()),)))


@pytest.fixture
def world() -> World:
    world = World()
    world.questions.ask(10.0, world.answers.append)
    return world


def test_one_to_us_goes_to_its_question(world: World) -> None:
    world.receive("node.a.5f", b"answer")
    assert world.answers == [b"answer"]
    world.receive("node.a.5f", b"again")
    assert (world.answers, world.outcomes) == ([b"answer"], ["taken", "late"])


def test_the_member_will_do(world: World) -> None:
    world.replies.received(Record(b'{"correlationId":"node.a.5f","payload":{}}'))
    assert len(world.answers) == 1


def test_an_empty_record_is_an_answer_too(world: World) -> None:
    world.replies.received(Record(None, (("kafka_correlationId", b"node.a.5f"),)))
    assert world.answers == [b""]


def test_another_node_passed_it_on(world: World) -> None:
    world.replies.passed_on("node.a.5f", b"answer")
    assert (world.answers, world.outcomes) == ([b"answer"], ["taken"])


def test_one_to_another_node_is_passed_on(world: World) -> None:
    world.receive("node.b.1.77", b"answer")
    assert world.bus.sent == [("node.b.1", "node.b.1.77", b"answer")]
    world.bus.heard[0].callback(1)
    assert (world.answers, world.outcomes) == ([], ["passed_on"])


@pytest.mark.parametrize("heard", [0, StoreUnavailable("away")])
def test_one_to_a_node_that_is_gone_is_dropped(world: World, heard: int | StoreUnavailable) -> None:
    world.receive("node.b.77")
    if isinstance(heard, int):
        world.bus.heard[0].callback(heard)
    else:
        world.bus.heard[0].errback(heard)
    assert world.outcomes == ["unreachable"]


def test_only_so_many_are_on_their_way_at_once(world: World) -> None:
    for number in range(4):
        world.receive(f"node.b.{number}")
    assert (len(world.bus.sent), world.outcomes) == (2, ["unreachable"] * 2)
    for waiting in world.bus.heard:
        waiting.callback(1)
    world.receive("node.b.9")
    assert len(world.bus.sent) == 3


def test_one_that_is_too_large_is_not_put_on_the_bus(world: World) -> None:
    world.receive("node.b.77", b"x" * (MAX_BYTES + 1))
    assert (world.bus.sent, world.outcomes) == ([], ["unreachable"])


@pytest.mark.parametrize(
    "record",
    [Record(None), Record(b"{}"), Record(b"\xff"), Record(b"{}", (("kafka_correlationId", b"no-dot"),))],
)
def test_one_that_names_nobody_is_counted(world: World, record: Record) -> None:
    world.replies.received(record)
    assert (world.outcomes, world.answers, world.bus.sent) == (["unreadable"], [], [])
