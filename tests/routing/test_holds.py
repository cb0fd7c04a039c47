"""Everybody waits equally long, one timer serves all, and nobody is told twice."""

from __future__ import annotations

from attrs import define, field
from support.manual_clock import ManualClock
from twisted.logger import LogEvent

from ocpp_gateway.routing.holds import Holds

SECONDS = 8.0


@define(eq=False)
class Waiting:
    name: str
    started: float
    told: list[str] = field(factory=list)

    def expired(self) -> None:
        self.told.append(self.name)


def holding() -> tuple[ManualClock, Holds, list[str]]:
    clock = ManualClock()
    return clock, Holds(SECONDS, clock), []


def test_each_expires_after_its_own_wait_with_one_timer_for_all() -> None:
    clock, holds, told = holding()
    for number in range(5):
        holds.add(Waiting(str(number), clock.monotonic(), told))
        clock.advance(1)
    assert len(clock.timers.getDelayedCalls()) == 1
    clock.advance(2.9)
    assert told == []
    for number in range(5):
        clock.advance(0.2 if number == 0 else 1)
        assert told == [str(each) for each in range(number + 1)]
    assert len(holds) == 0
    assert clock.timers.getDelayedCalls() == []


def test_what_was_released_does_not_expire() -> None:
    clock, holds, told = holding()
    kept, released = Waiting("kept", 0.0, told), Waiting("released", 0.0, told)
    holds.add(released)
    holds.add(kept)
    assert holds.release(released) is True
    assert released not in holds
    clock.advance(SECONDS)
    assert told == ["kept"]
    assert holds.release(kept) is False


def test_who_comes_after_all_others_are_gone_waits_its_whole_time() -> None:
    clock, holds, told = holding()
    first = Waiting("first", clock.monotonic(), told)
    holds.add(first)
    clock.advance(1)
    holds.release(first)
    clock.advance(SECONDS * 3)
    holds.add(Waiting("second", clock.monotonic(), told))
    clock.advance(SECONDS - 0.1)
    assert told == []
    clock.advance(0.2)
    assert told == ["second"]


def test_who_is_told_may_add_and_release_others() -> None:
    """A connection that is closed for Kafka's sake is announced, and takes its neighbours with it."""
    clock, holds, told = holding()
    neighbour = Waiting("neighbour", 0.0, told)

    class Closing(Waiting):
        def expired(self) -> None:
            super().expired()
            holds.release(neighbour)
            holds.add(Waiting("announcement", clock.monotonic(), told))

    holds.add(Closing("closing", 0.0, told))
    holds.add(neighbour)
    clock.advance(SECONDS - 1)
    holds.add(Waiting("later", clock.monotonic(), told))
    clock.advance(1)
    assert told == ["closing"]
    assert len(clock.timers.getDelayedCalls()) == 1
    clock.advance(SECONDS - 1)
    assert told == ["closing", "later"]
    clock.advance(1)
    assert told == ["closing", "later", "announcement"]
    assert clock.timers.getDelayedCalls() == []


def test_who_fails_when_told_does_not_keep_it_from_the_others(logged: list[LogEvent]) -> None:
    clock, holds, told = holding()

    class Failing(Waiting):
        def expired(self) -> None:
            raise RuntimeError("broken")

    holds.add(Failing("failing", 0.0, told))
    holds.add(Waiting("other", 0.0, told))
    holds.add(Waiting("later", 1.0, told))
    clock.advance(SECONDS)
    assert told == ["other"]
    assert [event["event"] for event in logged] == ["uplink.failed"]
    assert isinstance(logged[0]["log_failure"].value, RuntimeError)
    clock.advance(1)
    assert told == ["other", "later"]


def test_stopping_forgets_all() -> None:
    clock, holds, told = holding()
    holds.add(Waiting("one", 0.0, told))
    holds.stop()
    assert len(holds) == 0
    assert clock.timers.getDelayedCalls() == []
    clock.advance(SECONDS * 2)
    assert told == []


def test_stopping_while_somebody_is_told() -> None:
    clock, holds, told = holding()

    class Stopping(Waiting):
        def expired(self) -> None:
            super().expired()
            holds.stop()

    holds.add(Stopping("stopping", 0.0, told))
    holds.add(Waiting("other", 0.0, told))
    clock.advance(SECONDS)
    assert told == ["stopping"]
    assert clock.timers.getDelayedCalls() == []
