"""What a claim does beside the session itself: it counts, remembers the address, and keeps the node's set."""

from __future__ import annotations

import pytest
from test_redis_identities import asked
from test_redis_ownership import TTL, node, record, stored

from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.flooding import known_pair_key
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Release
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import SessionRecord, node_sessions_key

RATE = Rate(0.01, 2)
"""Two at once, the next 100 seconds later: more than any test takes."""

MEMBERS = Script("members", b"return redis.call('SMEMBERS', KEYS[1])")


async def limited(ours: Ownership, wanted: SessionRecord) -> ReconnectsLimited:
    with pytest.raises(ReconnectsLimited) as refused:
        await ours.claim(wanted)
    return refused.value


async def members(client: RedisClient, node_id: str) -> set[bytes]:
    return set(await client.run(MEMBERS, [node_sessions_key(node_id)], []))


async def test_a_claim_is_one_trip(client: RedisClient) -> None:
    ours = node(client, "node-a", reconnects=Rate(0.1, 10))
    await client.set(lease_key("node-a"), b"{}")
    await ours.claim(record(), address="192.0.2.1")  # now the server has the script
    claim, trips = await asked(client, ours.claim(record(), address="192.0.2.1"))
    assert claim.epoch == 2
    assert trips == {"evalsha": 1, "mget": 1, "exists": 1, "time": 1, "set": 4, "sadd": 2}


async def test_who_comes_back_too_often_has_to_wait_and_changes_nothing(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a", reconnects=RATE), node(client, "node-b", reconnects=RATE)
    await ours.claim(record("node-a"))
    second = await theirs.claim(record("node-b"))
    before = await client.get("sessions:CP-001")
    for _ in range(3):
        assert 99 < (await limited(ours, record("node-a"))).wait_seconds <= 100
    assert await client.get("sessions:CP-001") == before == second.record.encode()
    assert await client.get("session-epochs:CP-001") == b"2"
    assert await members(client, "node-a") == set()
    assert ours.owed == 0
    assert (await ours.claim(record("node-a", number=2))).epoch == 1


@pytest.mark.parametrize("is_alive", [True, False])
async def test_it_is_said_whether_there_is_a_living_session(client: RedisClient, is_alive: bool) -> None:
    ours, theirs = node(client, "node-a", reconnects=RATE), node(client, "node-b", reconnects=RATE)
    if is_alive:
        await client.set(lease_key("node-b"), b"{}")
    await ours.claim(record("node-a"))
    await theirs.claim(record("node-b"))
    assert (await limited(ours, record("node-a"))).contended is is_alive


async def test_who_was_disconnected_in_between_is_not_contended(client: RedisClient) -> None:
    await client.set(lease_key("node-a"), b"{}")
    ours = node(client, "node-a", reconnects=RATE)
    for _ in range(2):
        claim = await ours.claim(record())
        await ours.release("CP-001", claim.epoch)
    assert not (await limited(ours, record())).contended


async def test_a_refused_profile_is_not_counted(client: RedisClient) -> None:
    await client.set("security-profiles:CP-001", b"3")
    ours = node(client, "node-a", reconnects=RATE)
    for _ in range(5):
        with pytest.raises(AuthenticationFailed):
            await ours.claim(record(security_profile=1))
    assert (await ours.claim(record(security_profile=3))).epoch == 1


async def test_without_a_limit_nothing_is_counted(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for _ in range(30):
        claim = await ours.claim(record())
    assert claim.epoch == 30
    assert await client.get("rate:reconnects:CP-001") is None


async def test_the_address_of_who_was_let_in_is_remembered(client: RedisClient) -> None:
    ours = node(client, "node-a")
    await ours.claim(record(), address="::ffff:192.0.2.1")
    key = known_pair_key("192.0.2.1", "CP-001")
    assert 29 * 86_400 < await client.run(TTL, [key], []) <= 30 * 86_400
    await client.set("bans:192.0.2.1", b"{}", expire=50)
    identities = Identities(client)
    assert (await identities.look_up("CP-001", None, "192.0.2.1")).ban_seconds == 0
    assert (await identities.look_up("CP-002", None, "192.0.2.1")).ban_seconds > 0


async def test_a_node_has_the_set_of_its_charge_points(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    for number in (1, 2):
        await ours.claim(record("node-a", number=number))
    assert await members(client, "node-a") == {b"CP-001", b"CP-002"}
    moved = await theirs.claim(record("node-b"))
    assert (await members(client, "node-a"), await members(client, "node-b")) == ({b"CP-002"}, {b"CP-001"})
    assert await theirs.release("CP-001", moved.epoch) is Release.DELETED
    assert await ours.release("CP-002", 1) is Release.DELETED
    assert await members(client, "node-a") == await members(client, "node-b") == set()


async def test_the_late_end_of_an_old_connection_leaves_it_in_the_set(client: RedisClient) -> None:
    ours = node(client, "node-a")
    old, newer = await ours.claim(record()), await ours.claim(record())
    assert await ours.release("CP-001", old.epoch) is Release.NOT_OURS
    assert await members(client, "node-a") == {b"CP-001"}
    await client.delete("sessions:CP-001")  # it ran out, with Redis away for long
    assert await ours.release("CP-001", newer.epoch) is Release.NOT_OURS
    assert await members(client, "node-a") == set()


async def test_after_a_loss_of_data_the_set_is_there_with_the_next_refresh(client: RedisClient) -> None:
    ours = node(client, "node-a")
    records = [(await ours.claim(record(number=number))).record for number in range(250)]
    await client.delete(node_sessions_key("node-a"))
    await ours.refresh(records)
    assert len(await members(client, "node-a")) == 250


async def test_after_a_loss_of_data_a_charge_point_is_in_the_set_of_one_node(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    for _ in range(3):
        claim = await ours.claim(record())
    await client.delete("sessions:CP-001", "session-epochs:CP-001")
    later = await theirs.claim(record("node-b", connected_at_ms=record().connected_at_ms + 1000))
    assert await members(client, "node-a") == {b"CP-001"}
    (lost,) = await ours.refresh([claim.record])
    assert lost.by == later.record
    assert (await members(client, "node-a"), await members(client, "node-b")) == (set(), {b"CP-001"})
    assert (await stored(client) or {})["nodeId"] == "node-b"
