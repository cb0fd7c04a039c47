"""Kafka counts as lost when it takes nothing at all, never because one record had bad luck."""

from __future__ import annotations

import pytest
from attrs import define, field
from support.manual_clock import ManualClock
from twisted.logger import LogEvent

from ocpp_gateway.routing.writability import Writability


@define(eq=False)
class Watched:
    clock: ManualClock = field(factory=ManualClock)
    changes: list[str] = field(factory=list)
    writability: Writability = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.writability = Writability(
            self.clock, lambda: self.changes.append("lost"), lambda: self.changes.append("regained"), patience=8.0
        )


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_wait_in_vain_with_nothing_confirmed_meanwhile_is_the_end(watched: Watched, logged: list[LogEvent]) -> None:
    watched.writability.confirmed()
    watched.clock.advance(1)
    since = watched.clock.monotonic()
    watched.clock.advance(8)
    watched.writability.waited_in_vain(since)
    assert not watched.writability.writable
    assert watched.changes == ["lost"]
    assert [(event["event"], event["log_level"].name) for event in logged] == [("kafka.lost", "error")]


def test_before_the_first_confirmation_a_wait_in_vain_counts_too(watched: Watched, logged: list[LogEvent]) -> None:
    watched.clock.advance(8)
    watched.writability.waited_in_vain(0.0)
    assert watched.changes == ["lost"]
    assert len(logged) == 1


def test_a_slow_partition_is_not_the_end(watched: Watched) -> None:
    for _ in range(100):
        since = watched.clock.monotonic()
        watched.clock.advance(4)
        watched.writability.confirmed()  # another partition's
        watched.clock.advance(4)
        watched.writability.waited_in_vain(since)
    assert watched.writability.writable
    assert watched.changes == []


def test_the_first_confirmation_brings_it_back_and_each_change_is_told_once(
    watched: Watched, logged: list[LogEvent]
) -> None:
    for _ in range(3):
        watched.writability.waited_in_vain(0.0)
    watched.clock.advance(12.5)
    for _ in range(3):
        watched.writability.confirmed()
    assert watched.writability.writable
    assert watched.changes == ["lost", "regained"]
    assert [event["event"] for event in logged] == ["kafka.lost", "kafka.regained"]
    assert logged[1]["duration_ms"] == 12_500


def test_a_full_queue_is_the_end_at_once(watched: Watched, logged: list[LogEvent]) -> None:
    watched.writability.confirmed()
    watched.writability.refused()
    assert watched.changes == ["lost"]
    assert len(logged) == 1


def test_a_failure_is_not_the_end_nor_are_many_at_once(watched: Watched) -> None:
    for _ in range(50):
        watched.writability.failed()
    watched.clock.advance(7.9)
    watched.writability.failed()
    assert watched.changes == []


def test_failures_with_confirmations_in_between_are_not_the_end(watched: Watched) -> None:
    for _ in range(50):
        watched.writability.failed()
        watched.clock.advance(5)
        watched.writability.confirmed()
        watched.clock.advance(5)
    assert watched.changes == []


def test_nothing_but_failures_for_a_while_is_the_end(watched: Watched, logged: list[LogEvent]) -> None:
    """No right to write, for one: each record fails at once, and none ever waits in vain."""
    watched.writability.confirmed()
    for _ in range(5):
        watched.writability.failed()
        watched.clock.advance(2)
    assert watched.changes == ["lost"]
    watched.writability.confirmed()
    assert watched.changes == ["lost", "regained"]
    watched.writability.failed()
    assert watched.changes == ["lost", "regained"]
    assert len(logged) == 2
