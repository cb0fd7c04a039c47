"""Sessions claimed for charge points: their security profile never falls unseen, and take-overs are told of."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from adapters.adapter_ports import CALLER
from redis_support import Listener, connected_client, connection_change, using
from routing.memory_bus import MemoryBus
from routing.routing_parts import security_events
from support.manual_clock import ManualClock
from test_redis_ownership import node, record, stored
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import LogEvent, LogLevel

from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis import claims as claims_module
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Claim, Release
from ocpp_gateway.redis.sessions import SessionRecord

PROFILE = "security-profiles:CP-001"
MOMENT = 1_767_323_045_678


async def refusal_of(ours: Ownership, security_profile: int) -> str:
    with pytest.raises(AuthenticationFailed) as refused:
        await ours.claim(record(security_profile=security_profile))
    return refused.value.reason


async def connect(ours: Ownership, security_profile: int, *, may_downgrade: bool = False) -> Claim:
    """A session that is claimed and then open."""
    claim = await ours.claim(record(ours.node_id, security_profile=security_profile), may_downgrade=may_downgrade)
    ours.opened_later("CP-001", claim.epoch)
    await ours.finish()
    return claim


async def test_the_profile_of_the_last_session_is_kept_for_good(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for profile in (1, 2, 2, 3):
        claim = await connect(ours, profile)
        assert await client.get(PROFILE) == str(profile).encode()
    await ours.release("CP-001", claim.epoch)
    assert await client.get(PROFILE) == b"3"
    assert await refusal_of(ours, 2) == "profile_downgrade"


async def test_a_handshake_that_comes_to_nothing_does_not_raise_it(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await connect(ours, 2)
    given_up = await ours.claim(record(security_profile=3))
    assert await ours.release("CP-001", given_up.epoch) is Release.DELETED
    assert await client.get(PROFILE) == b"2"
    assert (await connect(ours, 2)).epoch == 3


async def test_nor_does_it_lower_it(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await connect(ours, 3)
    given_up = await ours.claim(record(security_profile=1), may_downgrade=True)
    await ours.release("CP-001", given_up.epoch)
    assert await refusal_of(ours, 2) == "profile_downgrade"


async def test_of_two_handshakes_the_one_that_is_displaced_when_it_opens_does_not_count(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    slower = await ours.claim(record(security_profile=3))
    await connect(theirs, 2)
    ours.opened_later("CP-001", slower.epoch)
    await ours.finish()
    assert await client.get(PROFILE) == b"2"


async def test_what_did_not_change_is_not_written(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await connect(ours, 2)
    claim = await ours.claim(record(security_profile=2))
    await client.delete(PROFILE)
    ours.opened_later("CP-001", claim.epoch)
    await ours.finish()
    assert await client.get(PROFILE) is None


@pytest.mark.parametrize(("last", "now"), [(3, 2), (3, 1), (2, 1)])
async def test_a_lower_profile_claims_nothing_and_displaces_nobody(client: RedisClient, last: int, now: int) -> None:
    await client.set(lease_key("node-a"), b"{}")
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    session = await connect(ours, last)
    assert await refusal_of(theirs, now) == "profile_downgrade"
    assert await refusal_of(ours, now) == "profile_downgrade"
    assert await client.get("sessions:CP-001") == session.record.encode()
    assert await client.get("session-epochs:CP-001") == b"1"
    assert await client.get(PROFILE) == str(last).encode()
    assert await theirs.refresh([]) == await ours.refresh([session.record]) == []
    assert (ours.owed, theirs.owed) == (0, 0)
    assert await ours.release("CP-001", session.epoch) is Release.DELETED
    assert await refusal_of(theirs, now) == "profile_downgrade"
    assert await stored(client) is None


async def test_a_record_may_allow_it_and_then_the_lower_one_counts(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await connect(ours, 3)
    assert (await connect(ours, 2, may_downgrade=True)).epoch == 2
    assert await client.get(PROFILE) == b"2"
    assert (await connect(ours, 2)).epoch == 3
    assert await refusal_of(ours, 1) == "profile_downgrade"


async def test_profiles_are_each_charge_points_own(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await connect(ours, 3)
    assert (await ours.claim(record(number=2, security_profile=1))).epoch == 1


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"{}"])
async def test_a_profile_that_cannot_be_read_is_in_nobodys_way(client: RedisClient, raw: bytes) -> None:
    await client.set(PROFILE, raw)
    assert (await connect(node(client, "node-a"), 2)).epoch == 1
    assert await client.get(PROFILE) == b"2"


async def test_of_claims_at_once_none_slips_below_the_profile_of_an_open_session(client: RedisClient) -> None:
    """Over several connections, of two nodes: refused is what comes lower, and nothing else."""
    names = ("node-a", "node-b")
    nodes = [node(client, name) for name in names]
    await connect(nodes[0], 2)
    profiles = [1, 2, 3] * 20
    claims = [
        nodes[number % 2].claim(record(names[number % 2], security_profile=profile))
        for number, profile in enumerate(profiles)
    ]
    results: list[Any] = await DeferredList(map(Deferred.fromCoroutine, claims), consumeErrors=True)
    claimed = [(result.epoch, profile) for (ok, result), profile in zip(results, profiles, strict=True) if ok]
    refused = [result for ok, result in results if not ok]
    assert sorted(epoch for epoch, _ in claimed) == list(range(2, 42))
    assert {profile for _, profile in claimed} == {2, 3}
    assert {failure.value.reason for failure in refused} == {"profile_downgrade"}
    assert await client.get(PROFILE) == b"2"


# Redis loses it, or misses it.


async def test_a_redis_that_lost_its_data_has_the_profiles_of_the_connected_again(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    session = await connect(ours, 3)
    await client.delete("sessions:CP-001", "session-epochs:CP-001", PROFILE)
    assert await ours.refresh([session.record]) == []
    assert await client.get(PROFILE) == b"3"
    assert await refusal_of(theirs, 2) == "profile_downgrade"


async def test_a_refresh_leaves_the_profile_of_another_nodes_session_alone(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    lost = await connect(ours, 3)
    await connect(theirs, 2, may_downgrade=True)
    assert [each.epoch for each in await ours.refresh([lost.record])] == [lost.epoch]
    assert await client.get(PROFILE) == b"2"


@pytest.mark.parametrize("how", ["refreshed", "released"])
async def test_a_profile_that_redis_misses_is_made_up_for(own_server: EmbeddedRedis, how: str) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a")
        claim = await ours.claim(record(security_profile=3))
        back = connection_change(client, True)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            ours.opened_later("CP-001", claim.epoch)
            await ours.finish()
            if how == "released":
                assert await ours.release("CP-001", claim.epoch) is Release.OWED
            # What was sent and not answered is not to be carried out after all.
            own_server.stop()
        finally:
            own_server.start()
        await back
        await client.set("sessions:CP-001", claim.record.encode())
        assert await client.get(PROFILE) is None
        assert await ours.refresh([claim.record] if how == "refreshed" else []) == []
        assert await client.get(PROFILE) == b"3"
        assert (await stored(client) is None) is (how == "released")


async def test_a_session_that_ends_at_once_counts_all_the_same(client: RedisClient) -> None:
    """Over several connections the release may overtake."""
    ours = node(client, "node-a")
    claims = [await ours.claim(record(number=number, security_profile=3)) for number in range(30)]
    for claim in claims:
        ours.opened_later(claim.record.charge_point_id, claim.epoch)
        ours.release_later(claim.record.charge_point_id, claim.epoch)
    await ours.finish()
    assert [await client.get(f"security-profiles:CP-{number:03d}") for number in range(30)] == [b"3"] * 30
    assert [await stored(client, number) for number in range(30)] == [None] * 30


class Node:
    """One gateway's claims, and the security events that it publishes."""

    def __init__(self, client: RedisClient, node_id: str, *, reconnects: Rate | None = None, born_ms: int = 0) -> None:
        clock = ManualClock()
        self.bus = MemoryBus()
        self.ownership = node(client, node_id)
        self.ownership.reconnects = reconnects
        self.lost: list[SessionRecord] = []
        self.claims = Claims(
            self.ownership,
            node_id,
            security_events(self.bus, clock),
            LogCooldown(clock, seconds=300, max_entries=10),
            self.lost.append,
            born_ms,
        )

    async def claim(self, moment: int = MOMENT, security_profile: int = 1, peer: str = "192.0.2.1") -> int:
        return await self.claims.claim_session(
            CALLER,
            OcppVersion.V16,
            moment,
            connection_id="connection-1",
            peer=peer,
            security_profile=security_profile,
            may_downgrade=False,
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
    assert await theirs.claim(MOMENT + 1000, peer="192.0.2.2") == 2
    (published,) = theirs.bus.records
    assert published.key == b"CP-001"
    assert {name: published.event[name] for name in ("eventType", "stationId", "tenantId", "chargePointId")} == {
        "eventType": "SessionTakenOver",
        "stationId": "station-1",
        "tenantId": "tenant-a",
        "chargePointId": "CP-001",
    }
    assert published.event["payload"] == {
        "peer": "192.0.2.2",
        "epoch": 2,
        "previousNodeId": "node-a",
        "previousConnectedAt": "2026-01-02T03:04:05.678Z",
        "previousLastSeenAt": "2026-01-02T03:04:05.678Z",
    }
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("session.taken_over", LogLevel.info)
    assert (line["previous_node_id"], line["peer"], line["epoch"]) == ("node-a", "192.0.2.2", 2)


async def test_so_is_one_of_the_same_node(client: RedisClient, logged: list[LogEvent]) -> None:
    ours = Node(client, "node-a")
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim()
    await ours.claim(MOMENT + 1000)
    (published,) = ours.bus.records
    assert published.event["payload"]["previousNodeId"] == "node-a"
    (line,) = logged
    assert (line["event"], line["previous_node_id"], line["epoch"]) == ("session.taken_over", "node-a", 2)


async def test_the_session_of_a_dead_node_was_nobodys(client: RedisClient) -> None:
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await ours.claim()
    await theirs.claim()
    assert theirs.bus.records == []
    assert [(lost.node_id, lost.epoch, lost.connection_id) for lost in theirs.lost] == [("node-a", 1, "connection-1")]


async def test_nor_is_that_of_a_node_that_was_killed_and_started_again_under_its_name(client: RedisClient) -> None:
    await client.set(lease_key("node-a"), b"{}")
    await Node(client, "node-a").claim(MOMENT)
    again = Node(client, "node-a", born_ms=MOMENT + 1)
    await again.claim(MOMENT + 1000)
    assert [lost.epoch for lost in again.lost] == [1]
    assert again.bus.records == []
    await again.claim(MOMENT + 2000)
    assert [lost.epoch for lost in again.lost] == [1]
    assert [record.event["eventType"] for record in again.bus.records] == ["SessionTakenOver"]


async def test_two_that_throw_each_other_out_are_told_of_once_in_a_while(
    client: RedisClient, logged: list[LogEvent]
) -> None:
    ours = Node(client, "node-a", reconnects=Rate(0.1, 2))
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim()
    await ours.claim()
    for _ in range(3):
        with pytest.raises(ReconnectsLimited) as limited:
            await ours.claim(peer="192.0.2.9")
        assert 0 < limited.value.wait_seconds <= 10
    contended = [record.event for record in ours.bus.records if record.event["eventType"] == "SessionContended"]
    assert [event["payload"] for event in contended] == [{"peer": "192.0.2.9", "suppressed": 0}]
    assert [line["event"] for line in logged] == ["session.taken_over", "session.contended"]


async def test_one_that_only_comes_and_goes_too_often_is_alone(client: RedisClient) -> None:
    ours = Node(client, "node-a", reconnects=Rate(0.1, 1))
    await client.set(lease_key("node-a"), b"{}")
    await ours.ownership.release("CP-001", await ours.claim())
    with pytest.raises(ReconnectsLimited):
        await ours.claim()
    assert ours.bus.records == []


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
    ours.claims.opened_later("CP-001", await ours.claim(security_profile=3))
    await ours.ownership.finish()
    with pytest.raises(AuthenticationFailed) as refused:
        await theirs.claim(security_profile=2)
    assert refused.value.reason == "profile_downgrade"
    assert theirs.bus.records == []
    assert (await stored(client) or {})["nodeId"] == "node-a"


# The node that had it: dead, or only without its lease.


async def test_a_node_without_a_lease_that_listens_is_alive(
    client: RedisClient, bus_of_node_a: Listener, logged: list[LogEvent]
) -> None:
    """Its lease expired while Redis was away: the others are back before it has renewed it."""
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await ours.claim()
    assert await theirs.claim(MOMENT + 1000) == 2
    assert json.loads(bus_of_node_a.read_message()) == {
        "type": "session_superseded",
        "chargePointId": "CP-001",
        "nodeId": "node-b",
        "epoch": 2,
    }
    assert theirs.lost == []  # it tells the end itself
    assert [record.event["eventType"] for record in theirs.bus.records] == ["SessionTakenOver"]
    assert [line["event"] for line in logged] == ["session.taken_over"]


async def test_one_with_a_lease_that_does_not_listen_is_alive_too(client: RedisClient) -> None:
    ours, theirs = Node(client, "node-a"), Node(client, "node-b")
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim()
    await theirs.claim(MOMENT + 1000)
    assert theirs.lost == []
    assert len(theirs.bus.records) == 1


@pytest.mark.parametrize("is_alive", [True, False])
async def test_who_may_not_publish_claims_all_the_same(own_server: EmbeddedRedis, is_alive: bool) -> None:
    async with using(await connected_client(own_server.url)) as admin:
        await admin._call("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "resetchannels")
        await node(admin, "node-a").claim(record("node-a"))
        if is_alive:
            await admin.set(lease_key("node-a"), b"{}")
        url = f"redis://gateway:secret@127.0.0.1:{own_server.port}/0"
        async with using(await connected_client(url)) as client:
            theirs = Node(client, "node-b")
            assert await theirs.claim(MOMENT + 1000) == 2
        assert (await stored(admin) or {})["nodeId"] == "node-b"
        assert len(theirs.lost) == (0 if is_alive else 1)
