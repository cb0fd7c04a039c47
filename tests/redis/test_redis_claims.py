"""Sessions claimed for charge points: their security profile never falls unseen, and take-overs are told of."""

from __future__ import annotations

from typing import Any

import pytest
from adapters.adapter_ports import CALLER
from routing.memory_bus import MemoryBus
from routing.routing_parts import security_events
from support.manual_clock import ManualClock
from test_redis_ownership import node, record, stored
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import LogEvent

from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis import claims as claims_module
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership, Release

PROFILE = "security-profiles:CP-001"
MOMENT = 1_767_323_045_678


async def refusal_of(ours: Ownership, **how: Any) -> str:
    with pytest.raises(AuthenticationFailed) as refused:
        await ours.claim(record(), **how)
    return refused.value.reason


async def test_the_profile_of_the_last_session_is_kept_for_good(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for profile in (1, 2, 2, 3):
        claim = await ours.claim(record(), security_profile=profile)
        assert await client.get(PROFILE) == str(profile).encode()
    await ours.release("CP-001", claim.epoch)
    assert await client.get(PROFILE) == b"3"
    assert await refusal_of(ours, security_profile=2) == "profile_downgrade"


@pytest.mark.parametrize(("last", "now"), [(3, 2), (3, 1), (2, 1)])
async def test_a_lower_profile_claims_nothing_and_displaces_nobody(client: RedisClient, last: int, now: int) -> None:
    await client.set(lease_key("node-a"), b"{}")
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    session = await ours.claim(record("node-a"), security_profile=last)
    assert await refusal_of(theirs, security_profile=now) == "profile_downgrade"
    assert await refusal_of(ours, security_profile=now) == "profile_downgrade"
    assert await client.get("sessions:CP-001") == session.record.encode()
    assert await client.get("session-epochs:CP-001") == b"1"
    assert await client.get(PROFILE) == str(last).encode()
    assert await theirs.refresh([]) == await ours.refresh([session.record]) == []
    assert (ours.owed, theirs.owed) == (0, 0)
    assert await ours.release("CP-001", session.epoch) is Release.DELETED
    assert await refusal_of(theirs, security_profile=now) == "profile_downgrade"
    assert await stored(client) is None


async def test_a_record_may_allow_it_and_then_the_lower_one_counts(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await ours.claim(record(), security_profile=3)
    assert (await ours.claim(record(), security_profile=2, may_downgrade=True)).epoch == 2
    assert await client.get(PROFILE) == b"2"
    assert (await ours.claim(record(), security_profile=2)).epoch == 3
    assert await refusal_of(ours, security_profile=1) == "profile_downgrade"


async def test_profiles_are_each_charge_points_own(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await ours.claim(record(number=1), security_profile=3)
    assert (await ours.claim(record(number=2), security_profile=1)).epoch == 1


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"{}"])
async def test_a_profile_that_cannot_be_read_is_in_nobodys_way(client: RedisClient, raw: bytes) -> None:
    await client.set(PROFILE, raw)
    assert (await node(client, "node-a").claim(record(), security_profile=2)).epoch == 1
    assert await client.get(PROFILE) == b"2"


async def test_of_claims_at_once_none_slips_below_the_profile_of_another(client: RedisClient) -> None:
    """Over several connections, of two nodes: once one came with profile 3, no later one has less."""
    names = ("node-a", "node-b")
    nodes = [node(client, name) for name in names]
    profiles = [1, 2, 3] * 20
    claims = [
        nodes[number % 2].claim(record(names[number % 2]), security_profile=profile)
        for number, profile in enumerate(profiles)
    ]
    results: list[Any] = await DeferredList(map(Deferred.fromCoroutine, claims), consumeErrors=True)
    claimed = sorted((result.epoch, profile) for (ok, result), profile in zip(results, profiles, strict=True) if ok)
    refused = [result for ok, result in results if not ok]
    in_order = [profile for _, profile in claimed]
    assert in_order == sorted(in_order)
    assert in_order.count(3) == 20
    assert [epoch for epoch, _ in claimed] == list(range(1, len(claimed) + 1))
    assert {failure.value.reason for failure in refused} == {"profile_downgrade"}
    assert await client.get(PROFILE) == b"3"


class Node:
    """One gateway's claims, and the security events that it publishes."""

    def __init__(self, client: RedisClient, node_id: str) -> None:
        self.bus = MemoryBus()
        self.ownership = node(client, node_id)
        self.claims = Claims(self.ownership, node_id, security_events(self.bus, ManualClock()))

    async def claim(self, moment: int = MOMENT, security_profile: int = 1) -> int:
        return await self.claims.claim_session(
            CALLER, OcppVersion.V16, moment, security_profile=security_profile, may_downgrade=False
        )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(claims_module.log, "observer", seen.append)
    return seen


async def test_a_session_taken_over_from_another_node_is_told_of(client: RedisClient, logged: list[LogEvent]) -> None:
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await client.set(lease_key("node-a"), b"{}")
    assert await ours.claim() == 1
    assert ours.bus.records == []
    assert await theirs.claim(MOMENT + 1000) == 2
    (published,) = theirs.bus.records
    assert published.key == b"CP-001"
    assert {name: published.event[name] for name in ("eventType", "stationId", "tenantId", "chargePointId")} == {
        "eventType": "SessionTakenOver",
        "stationId": "station-1",
        "tenantId": "tenant-a",
        "chargePointId": "CP-001",
    }
    assert published.event["payload"] == {
        "epoch": 2,
        "previousNodeId": "node-a",
        "previousConnectedAt": "2026-01-02T03:04:05.678Z",
        "previousLastSeenAt": "2026-01-02T03:04:05.678Z",
    }
    (line,) = logged
    assert (line["event"], line["previous_node_id"], line["epoch"]) == ("session.taken_over", "node-a", 2)


async def test_so_is_one_of_the_same_node(client: RedisClient, logged: list[LogEvent]) -> None:
    ours = Node(client, "node-a")
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim()
    await ours.claim(MOMENT + 1000)
    (published,) = ours.bus.records
    assert published.event["payload"]["previousNodeId"] == "node-a"
    assert logged == []  # the session that is replaced logs its end


async def test_the_session_of_a_dead_node_was_nobodys(client: RedisClient) -> None:
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await ours.claim()
    await theirs.claim()
    assert theirs.bus.records == []


async def test_who_comes_back_after_a_proper_end_takes_nothing_over(client: RedisClient) -> None:
    ours = Node(client, "node-a")
    await client.set(lease_key("node-a"), b"{}")
    epoch = await ours.claim()
    ours.claims.release_later("CP-001", epoch)
    await ours.ownership.finish()
    await ours.claim()
    assert ours.bus.records == []


async def test_an_attempt_with_a_lower_profile_takes_nothing_over(client: RedisClient) -> None:
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim(security_profile=3)
    with pytest.raises(AuthenticationFailed) as refused:
        await theirs.claim(security_profile=2)
    assert refused.value.reason == "profile_downgrade"
    assert theirs.bus.records == []
    assert (await stored(client) or {})["nodeId"] == "node-a"
