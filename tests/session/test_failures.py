"""Which refusals count as failed authentications, for whom, and what is told of a ban."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field, frozen
from routing.memory_bus import MemoryBus
from routing.routing_parts import security_events
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.session import failures as failures_module
from ocpp_gateway.session.failures import Failures

PROXY = "10.0.0.1"


@frozen
class Ban:
    count: int
    seconds: float
    charge_point_id: str | None


@define(eq=False)
class Store:
    """Redis, which answers at once, or when it is told to."""

    told: list[tuple[str, str | None, str]] = field(factory=list)
    answers: list[Any] = field(factory=list)
    waiting: Deferred[None] | None = None

    async def failed(self, address: str, charge_point_id: str | None, reason: str, *, is_shared: bool) -> Ban | None:
        self.told.append((f"{address} shared" if is_shared else address, charge_point_id, reason))
        if self.waiting is not None:
            await self.waiting
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


@define(eq=False)
class Counts:
    bans: list[str] = field(factory=list)

    def count_ban(self, scope: str) -> None:
        self.bans.append(scope)


@define(eq=False)
class World:
    store: Store = field(factory=Store)
    counts: Counts = field(factory=Counts)
    bus: MemoryBus = field(factory=MemoryBus)
    failures: Failures = field(init=False)

    def __attrs_post_init__(self) -> None:
        security = security_events(self.bus, ManualClock())
        self.failures = Failures(
            store=self.store, security=security, counters=self.counts, is_shared=lambda address: address == PROXY
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(failures_module.log, "observer", seen.append)
    return seen


def test_what_counts_and_for_whom(world: World) -> None:
    for reason in REFUSALS:
        world.failures.refused(reason, "192.0.2.1", "CP-001")
    of_charge_point = {"basic_invalid", "basic_invalid_format", "basic_user_mismatch", "token_invalid"}
    of_address = {
        "control_bytes",
        "identity_missing",
        "mtls_binding_mismatch",
        "mtls_not_authorized",
        "mtls_revoked",
        "second_request",
        "suspicious_path",
    }
    assert {reason for _, charge_point_id, reason in world.store.told if charge_point_id == "CP-001"} == of_charge_point
    assert {reason for _, charge_point_id, reason in world.store.told if charge_point_id is None} == of_address
    assert {address for address, _, _ in world.store.told} == {"192.0.2.1"}
    assert len(world.store.told) == len(of_charge_point) + len(of_address)


def test_an_address_that_stands_for_anybody_is_not_to_blame(world: World) -> None:
    for reason in REFUSALS:
        world.failures.refused(reason, PROXY, "CP-001")
    told = {(address, charge_point_id) for address, charge_point_id, _ in world.store.told}
    assert told == {(f"{PROXY} shared", "CP-001")}
    assert len(world.store.told) == 4


def test_a_ban_is_told_of(world: World, logged: list[LogEvent]) -> None:
    world.store.answers = [None, Ban(10, 60.0, "CP-001"), Ban(200, 120.0, None)]
    for _ in range(3):
        world.failures.refused("basic_invalid", "192.0.2.1", "CP-001")
    assert world.counts.bans == ["charge_point", "address"]
    facts = [
        {"peer": "192.0.2.1", "scope": "charge_point", "reason": "basic_invalid", "failures": 10, "seconds": 60.0},
        {"peer": "192.0.2.1", "scope": "address", "reason": "basic_invalid", "failures": 200, "seconds": 120.0},
    ]
    events = [record.event for record in world.bus.records]
    assert [event["eventType"] for event in events] == ["FloodBanned"] * 2
    assert [event["payload"] for event in events] == facts
    assert [event.get("chargePointId") for event in events] == ["CP-001", None]
    assert [(line["event"], line["charge_point_id"], line["peer"]) for line in logged] == [
        ("flood.banned", "CP-001", "192.0.2.1"),
        ("flood.banned", None, "192.0.2.1"),
    ]


def test_without_redis_nobody_is_banned_and_nothing_is_said(world: World, logged: list[LogEvent]) -> None:
    world.store.answers = [StoreUnavailable("gone")]
    world.failures.refused("basic_invalid", "192.0.2.1", "CP-001")
    assert (world.counts.bans, logged) == ([], [])


def test_reports_under_way_are_bounded(world: World) -> None:
    world.store.waiting = waiting = Deferred()
    for number in range(1_500):
        world.failures.refused("basic_invalid", "192.0.2.1", f"CP-{number}")
    assert len(world.store.told) == 1_000
    waiting.callback(None)
    world.store.waiting = None
    world.failures.refused("basic_invalid", "192.0.2.1", "CP-001")
    assert len(world.store.told) == 1_001
