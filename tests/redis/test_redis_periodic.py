from __future__ import annotations

import pytest
from redis_support import logged
from support.manual_clock import ManualClock
from support.told_log import failures, told
from twisted.internet.defer import Deferred

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.shield import shielded


class Work:
    """What is done periodically: each run waits for the test to end it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runs: list[Deferred[None]] = []
        self.cancelled: list[Deferred[None]] = []
        self.periodic = Periodic(name="Work", clock=self.clock, interval=10, action=self.run)

    async def run(self) -> None:
        self.runs.append(Deferred(self.cancelled.append))
        await self.runs[-1]


def test_it_runs_at_once_and_then_the_interval_after_each_end() -> None:
    work = Work()
    work.periodic.start()
    assert len(work.runs) == 1
    work.clock.advance(100)
    assert len(work.runs) == 1
    assert work.periodic.last_success is None
    work.runs[0].callback(None)
    assert work.periodic.last_success == 100
    work.clock.advance(9)
    assert len(work.runs) == 1
    work.clock.advance(1)
    assert len(work.runs) == 2


def test_no_failure_ends_it_and_an_outage_is_told_once() -> None:
    work = Work()
    with logged() as lines:
        work.periodic.start()
        for _ in range(3):
            work.runs[-1].errback(StoreUnavailable("no connection"))
            assert work.periodic.last_success is None
            work.clock.advance(10)
        assert len([line for line in lines if "it goes on trying: no connection" in line]) == 1
        work.runs[-1].callback(None)
        assert len([line for line in lines if "works again" in line]) == 1
        assert work.periodic.last_success == 30
        work.clock.advance(10)
        work.runs[-1].errback(StoreUnavailable("again"))
    assert any("again" in line for line in lines if "goes on" in line)


def test_a_failure_of_our_own_is_told_as_such_and_does_not_end_it() -> None:
    work = Work()
    with told() as events:
        work.periodic.start()
        work.runs[0].errback(ValueError("a bug"))
    assert failures(events) == ["redis.periodic_broken"]
    work.clock.advance(10)
    assert len(work.runs) == 2


def test_run_now_does_not_wait_and_does_not_run_twice_at_a_time() -> None:
    work = Work()
    work.periodic.run_now()
    assert work.runs == []
    work.periodic.start()
    work.periodic.run_now()
    work.periodic.run_now()
    assert len(work.runs) == 1
    work.runs[0].callback(None)
    work.clock.advance(0)
    assert len(work.runs) == 2
    work.runs[1].callback(None)
    work.clock.advance(5)
    assert len(work.runs) == 2
    work.periodic.run_now()
    assert len(work.runs) == 3
    work.runs[2].callback(None)
    work.clock.advance(9)
    assert len(work.runs) == 3
    assert len(work.clock.timers.getDelayedCalls()) == 1


def test_stop_cancels_the_run_under_way_and_is_for_good() -> None:
    work = Work()
    work.periodic.start()
    work.periodic.stop()
    work.periodic.run_now()
    work.clock.advance(100)
    assert work.cancelled == work.runs
    assert len(work.runs) == 1
    work.periodic.stop()


def test_finish_waits_for_the_run_under_way() -> None:
    work = Work()
    work.periodic.start()
    finished = Deferred.fromCoroutine(work.periodic.finish())
    assert not finished.called
    work.runs[0].callback(None)
    assert finished.called
    work.clock.advance(100)
    assert len(work.runs) == 1
    assert Deferred.fromCoroutine(work.periodic.finish()).called


@pytest.mark.parametrize("fails", [False, True])
def test_a_shield_passes_the_result_on_or_to_who_takes_the_unwanted(fails: bool) -> None:
    for cancelled in (False, True):
        running: Deferred[str] = Deferred()
        got: list[object] = []
        unwanted: list[object] = []
        waiting = shielded(running, unwanted.append)
        waiting.addBoth(got.append)
        if cancelled:
            waiting.cancel()
        assert not running.called
        if fails:
            running.errback(ValueError("x"))
        else:
            running.callback("result")
        assert len(got) == 1
        assert len(unwanted) == (1 if cancelled else 0)
