from __future__ import annotations

import random

import pytest
from support.manual_clock import ManualClock

from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.handshake.reasons import REFUSALS


def admission(clock: ManualClock, rate: float = 10, burst: int = 5, settle_seconds: float = 60) -> Admission:
    return Admission(clock, rate=rate, burst=burst, settle_seconds=settle_seconds, random=random.Random(1).random)


def refusal_of(gate: Admission) -> HandshakeRefused | None:
    try:
        gate.admit()
    except HandshakeRefused as refusal:
        assert refusal.status == REFUSALS[refusal.reason].status == 503
        return refusal
    return None


def reason_of(gate: Admission) -> str | None:
    refusal = refusal_of(gate)
    return refusal.reason if refusal is not None else None


def test_it_is_open_without_a_limit_at_first() -> None:
    gate = admission(ManualClock())
    assert [reason_of(gate) for _ in range(1000)] == [None] * 1000
    assert gate.closed_for == ()


def test_while_closed_the_reason_is_given() -> None:
    gate = admission(ManualClock())
    gate.close("kafka_unavailable")
    assert reason_of(gate) == "kafka_unavailable"


def test_it_opens_when_the_last_reason_is_gone() -> None:
    gate = admission(ManualClock())
    gate.close("kafka_unavailable")
    gate.close("redis_unavailable")
    gate.close("kafka_unavailable")
    assert gate.closed_for == ("kafka_unavailable", "redis_unavailable")
    gate.reopen("kafka_unavailable")
    assert reason_of(gate) == "redis_unavailable"
    gate.reopen("redis_unavailable")
    assert reason_of(gate) is None


def test_after_an_outage_charge_points_come_back_at_a_rate() -> None:
    clock = ManualClock()
    gate = admission(clock)
    gate.close("redis_unavailable")
    clock.advance(100)
    gate.reopen("redis_unavailable")
    assert [reason_of(gate) for _ in range(8)] == [None] * 5 + ["readmission_limited"] * 3
    clock.advance(0.25)
    assert [reason_of(gate) for _ in range(4)] == [None] * 2 + ["readmission_limited"] * 2
    admitted = 0
    for _ in range(100):
        clock.advance(0.1)
        admitted += sum(reason_of(gate) is None for _ in range(10))
    assert 98 <= admitted <= 102


def test_the_limit_ends_when_things_have_settled() -> None:
    clock = ManualClock()
    gate = admission(clock)
    gate.close("redis_unavailable")
    gate.reopen("redis_unavailable")
    clock.advance(59.9)
    assert [reason_of(gate) for _ in range(7)] == [None] * 5 + ["readmission_limited"] * 2
    clock.advance(0.1)
    assert [reason_of(gate) for _ in range(100)] == [None] * 100


def test_reopening_what_was_open_limits_nothing() -> None:
    gate = admission(ManualClock())
    gate.reopen("redis_unavailable")
    assert [reason_of(gate) for _ in range(100)] == [None] * 100


def test_a_rate_of_zero_is_no_limit() -> None:
    gate = admission(ManualClock(), rate=0)
    gate.close("starting")
    gate.reopen("starting")
    assert [reason_of(gate) for _ in range(100)] == [None] * 100


@pytest.mark.parametrize("is_closed", [True, False])
def test_retry_after_is_spread_over_its_range(is_closed: bool) -> None:
    gate = admission(ManualClock(), burst=0)
    gate.close("draining")
    if not is_closed:
        gate.reopen("draining")
    seconds = set()
    for _ in range(1000):
        refusal = refusal_of(gate)
        assert refusal is not None
        assert [name for name, _ in refusal.headers] == ["Retry-After"]
        seconds.add(int(refusal.headers[0][1]))
    assert seconds == set(range(5, 31))
