"""Who has a charge point: claims, releases and refreshes of two nodes on a real Redis."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import attrs
import pytest
from redis_support import Listener, connected_client, reason_of, using
from test_redis_sessions import RECORD
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Claim, Release
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import SessionRecord

HSET = Script("hset", b"return redis.call('HSET', KEYS[1], unpack(ARGV))")
TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")


def node(client: RedisClient, node_id: str, **options: Any) -> Ownership:
    return Ownership(client=client, node_id=node_id, session_ttl=60, **options)


def record(
    node_id: str = "node-a", number: int = 1, connected_at_ms: int = 1_767_323_045_678, security_profile: int = 1
) -> SessionRecord:
    return attrs.evolve(
        RECORD,
        charge_point_id=f"CP-{number:03d}",
        node_id=node_id,
        connected_at_ms=connected_at_ms,
        last_seen_at_ms=connected_at_ms,
        security_profile=security_profile,
        epoch=0,
    )


async def stored(client: RedisClient, number: int = 1) -> dict[str, Any] | None:
    raw = await client.get(f"sessions:CP-{number:03d}")
    return None if raw is None else json.loads(raw)


async def until_stored(client: RedisClient, number: int = 1) -> None:
    deadline = time.monotonic() + 10
    while await stored(client, number) is None:
        assert time.monotonic() < deadline


async def test_a_claim_writes_the_record_with_the_first_epoch(client: RedisClient) -> None:
    claim = await node(client, "node-a").claim(record())
    assert claim.epoch == 1
    assert claim.previous is None
    assert not claim.previous_alive
    raw = await client.get("sessions:CP-001")
    assert raw == record().of_epoch(1).encode()
    assert raw is not None
    assert raw.endswith(b',"epoch":1}')
    assert 0 < await client.run(TTL, ["sessions:CP-001"], []) <= 60
    assert await client.run(TTL, ["session-epochs:CP-001"], []) > 86_400


async def test_the_newest_claim_wins_and_the_node_before_is_told(client: RedisClient, bus_of_node_a: Listener) -> None:
    await client.set(lease_key("node-a"), b"{}")
    first = await node(client, "node-a").claim(record("node-a"))
    second = await node(client, "node-b").claim(record("node-b"))
    assert second.epoch == 2
    assert second.previous == first.record
    assert second.previous_alive
    assert json.loads(bus_of_node_a.read_message()) == {
        "type": "session_superseded",
        "chargePointId": "CP-001",
        "nodeId": "node-b",
        "epoch": 2,
    }


async def test_the_session_of_a_dead_node_is_free(client: RedisClient) -> None:
    await node(client, "node-a").claim(record("node-a"))
    claim = await node(client, "node-b").claim(record("node-b"))
    assert claim.previous is not None
    assert not claim.previous_alive


async def test_the_same_node_again_is_not_told_of_itself(client: RedisClient, bus_of_node_a: Listener) -> None:
    await client.set(lease_key("node-a"), b"{}")
    ours = node(client, "node-a")
    first = await ours.claim(record("node-a"))
    second = await ours.claim(record("node-a"))
    assert second.previous == first.record
    assert second.previous_alive
    await node(client, "node-b").claim(record("node-b"))
    assert json.loads(bus_of_node_a.read_message())["epoch"] == 3


async def test_the_late_end_of_an_old_connection_does_not_touch_the_new_session(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    old = await ours.claim(record("node-a"))
    newer = await ours.claim(record("node-a"))
    assert await ours.release("CP-001", old.epoch) is Release.NOT_OURS
    newest = await theirs.claim(record("node-b"))
    assert await ours.release("CP-001", newer.epoch) is Release.NOT_OURS
    assert await ours.release("CP-001", newest.epoch) is Release.NOT_OURS
    assert (await stored(client) or {})["epoch"] == newest.epoch
    assert await theirs.release("CP-001", newest.epoch) is Release.DELETED
    assert await stored(client) is None
    assert await theirs.release("CP-001", newest.epoch) is Release.NOT_OURS


async def test_epochs_go_on_after_a_release_and_survive_either_key(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for _ in range(3):
        claim = await ours.claim(record())
    await client.delete("session-epochs:CP-001")
    assert (await ours.claim(record())).epoch == 4
    await client.delete("session-epochs:CP-001")
    await ours.release("CP-001", 4)
    claim = await ours.claim(record())
    assert claim.epoch == 5
    await client.delete("sessions:CP-001")
    assert (await ours.claim(record())).epoch == 6


@pytest.mark.parametrize("epoch", [2**31, 10**14 + 1, 2**53 - 2])
async def test_large_epochs_are_not_reformatted(client: RedisClient, epoch: int) -> None:
    await client.set("session-epochs:CP-001", str(epoch).encode())
    claim = await node(client, "node-a").claim(record())
    assert claim.epoch == epoch + 1
    assert (await stored(client) or {})["epoch"] == epoch + 1
    assert (await client.get("session-epochs:CP-001")) == str(epoch + 1).encode()


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense", b"[]", b"null", b"7", b'{"epoch":"x","nodeId":5}', b'{"epoch":null}']
)
async def test_a_record_that_cannot_be_read_is_in_nobodys_way(client: RedisClient, raw: bytes) -> None:
    await client.set("sessions:CP-001", raw)
    ours = node(client, "node-a")
    assert await ours.release("CP-001", 1) is Release.NOT_OURS
    claim = await ours.claim(record())
    assert (claim.epoch, claim.previous) == (1, None)
    await client.set("sessions:CP-001", raw)
    assert await ours.refresh([claim.record]) == []
    assert await client.get("sessions:CP-001") == claim.record.encode()


async def test_identities_with_quotes_are_told_as_json(client: RedisClient, bus_of_node_a: Listener) -> None:
    await client.set(lease_key("node-a"), b"{}")
    odd = 'CP-"\\\u00e4'
    await node(client, "node-a").claim(attrs.evolve(record("node-a"), charge_point_id=odd))
    await node(client, 'no"de').claim(attrs.evolve(record('no"de'), charge_point_id=odd))
    told = json.loads(bus_of_node_a.read_message())
    assert (told["chargePointId"], told["nodeId"]) == (odd, 'no"de')


async def test_a_refresh_renews_lifetime_and_last_seen_of_all_batches(client: RedisClient) -> None:
    ours = node(client, "node-a")
    claims = await gatherResults([Deferred.fromCoroutine(ours.claim(record(number=number))) for number in range(250)])
    shorten = Script("shorten", b"redis.call('EXPIRE', KEYS[1], 5); return redis.call('EXPIRE', KEYS[2], 5)")
    for number in range(250):
        await client.run(shorten, [f"sessions:CP-{number:03d}", f"session-epochs:CP-{number:03d}"], [])
    seen = [attrs.evolve(claim.record, last_seen_at_ms=1_800_000_000_000) for claim in claims]
    assert await ours.refresh(iter(seen)) == []
    for number in (0, 99, 100, 249):
        assert (await stored(client, number) or {})["lastSeenAtMs"] == 1_800_000_000_000
        assert await client.run(TTL, [f"sessions:CP-{number:03d}"], []) > 5
        assert await client.run(TTL, [f"session-epochs:CP-{number:03d}"], []) > 86_400


async def test_a_refresh_finds_what_others_have_taken_over_and_leaves_it(client: RedisClient) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    kept, lost = await ours.claim(record(number=1)), await ours.claim(record(number=2))
    newer = await theirs.claim(record("node-b", number=2))
    (superseded,) = await ours.refresh([kept.record, lost.record])
    assert (superseded.charge_point_id, superseded.epoch, superseded.by) == ("CP-002", lost.epoch, newer.record)
    assert (await stored(client, 2) or {})["nodeId"] == "node-b"
    assert (await stored(client, 1) or {})["nodeId"] == "node-a"


async def test_a_session_that_a_newcomer_to_the_same_node_is_about_to_replace_is_not_lost_to_others(
    client: RedisClient,
) -> None:
    ours = node(client, "node-a")
    older = await ours.claim(record())
    claiming = Deferred.fromCoroutine(ours.claim(record(connected_at_ms=older.record.connected_at_ms + 1000)))
    assert await ours.refresh([older.record]) == []
    newer: Claim = await claiming
    assert newer.epoch > older.epoch
    assert await ours.release("CP-001", newer.epoch) is Release.DELETED
    assert await ours.refresh([older.record]) == []
    assert (await stored(client) or {})["epoch"] == older.epoch


async def test_another_process_under_our_name_takes_a_session_over_like_any_other(client: RedisClient) -> None:
    ours, twin = node(client, "node-a"), node(client, "node-a")
    older = await ours.claim(record())
    await twin.claim(record(connected_at_ms=older.record.connected_at_ms + 1000))
    assert [lost.epoch for lost in await ours.refresh([older.record])] == [older.epoch]


async def test_after_a_loss_of_data_records_and_epochs_are_written_again(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for _ in range(7):
        claim = await ours.claim(record())
    await client.delete("sessions:CP-001", "session-epochs:CP-001")
    assert await ours.refresh([claim.record]) == []
    assert await client.get("sessions:CP-001") == claim.record.encode()
    assert (await node(client, "node-b").claim(record("node-b"))).epoch == 8


async def test_it_is_told_which_records_were_not_there(client: RedisClient) -> None:
    told: list[SessionRecord] = []
    ours, theirs = node(client, "node-a", restored=told.extend), node(client, "node-b")
    there, missing, taken = [(await ours.claim(record(number=number))).record for number in range(3)]
    await client.delete("sessions:CP-001", "sessions:CP-002")
    await theirs.claim(record("node-b", number=2, connected_at_ms=taken.connected_at_ms + 1000))
    assert [lost.charge_point_id for lost in await ours.refresh([there, missing, taken])] == ["CP-002"]
    assert told == [missing]
    assert len(await ours.refresh([there, missing, taken])) == 1
    assert told == [missing]


async def test_a_record_that_may_not_have_been_there_is_told_too(own_server: EmbeddedRedis) -> None:
    told: list[SessionRecord] = []
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a", restored=told.extend)
        missing, released, taken = [(await ours.claim(record(number=number))).record for number in range(3)]
        await ours.refresh([missing])  # now the server has the script
        await client.delete("sessions:CP-000", "sessions:CP-001", "sessions:CP-002")
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await reason_of(ours.refresh([missing, released, taken]))
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        # Redis carries it out all the same, but may hear new connections before the one that had the script.
        await until_stored(client, 2)
        await ours.release("CP-001", released.epoch)
        await node(client, "node-b").claim(record("node-b", number=2))
        assert told == []
        assert [lost.charge_point_id for lost in await ours.refresh([missing, released, taken])] == ["CP-002"]
        assert told == [missing]
        assert await ours.refresh([missing]) == []
        assert told == [missing]


@pytest.mark.parametrize(("theirs_later", "winner"), [(True, "node-b"), (False, "node-a")])
async def test_after_a_loss_of_data_the_later_connection_wins(
    client: RedisClient, theirs_later: bool, winner: str
) -> None:
    ours, theirs = node(client, "node-a"), node(client, "node-b")
    for _ in range(7):
        claim = await ours.claim(record())
    await client.delete("sessions:CP-001", "session-epochs:CP-001")
    moment = record().connected_at_ms + (1000 if theirs_later else -1000)
    other = await theirs.claim(record("node-b", connected_at_ms=moment))
    assert other.epoch < claim.epoch
    superseded = [*await ours.refresh([claim.record]), *await theirs.refresh([other.record])]
    assert len(superseded) == 1
    assert (await stored(client) or {})["nodeId"] == winner


async def test_a_newer_claim_that_is_given_back_leaves_the_older_session_alive(client: RedisClient) -> None:
    told: list[str] = []
    ours = node(client, "node-a", orphaned=lambda: told.append("orphaned"))
    older = await ours.claim(record())
    newer = await ours.claim(record())
    assert await ours.refresh([older.record]) == []
    assert (await stored(client) or {})["epoch"] == newer.epoch
    assert told == []

    assert await ours.release("CP-001", newer.epoch) is Release.DELETED

    assert told == ["orphaned"]
    assert await ours.refresh([older.record]) == []
    assert await client.get("sessions:CP-001") == older.record.encode()
    assert await ours.release("CP-001", older.epoch) is Release.DELETED
    assert told == ["orphaned"]


async def test_the_floor_of_the_next_epoch_is_the_newest_session_that_is_left(client: RedisClient) -> None:
    ours = node(client, "node-a")
    for _ in range(3):
        older = await ours.claim(record())
    newer = await ours.claim(record())
    await ours.release("CP-001", newer.epoch)
    await client.delete("sessions:CP-001", "session-epochs:CP-001")
    assert (await ours.claim(record())).epoch == older.epoch + 1


async def test_a_released_session_is_not_written_again_by_a_refresh(client: RedisClient) -> None:
    ours = node(client, "node-a")
    claim = await ours.claim(record())
    await ours.release("CP-001", claim.epoch)
    assert await ours.refresh([claim.record]) == []
    assert await stored(client) is None


async def test_a_session_released_while_its_refresh_is_on_its_way_stays_released(client: RedisClient) -> None:
    ours = node(client, "node-a")
    claims = await gatherResults([Deferred.fromCoroutine(ours.claim(record(number=number))) for number in range(50)])
    refresh = Deferred.fromCoroutine(ours.refresh([claim.record for claim in claims]))
    # Over several connections: some releases overtake the refresh.
    for claim in claims:
        ours.release_later(claim.record.charge_point_id, claim.epoch)
    await refresh
    await ours.finish()
    assert ours.owed == 0
    assert [await stored(client, number) for number in range(50)] == [None] * 50


async def test_a_release_that_redis_misses_is_owed_and_made_up_for(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a")
        claims = [await ours.claim(record(number=number)) for number in range(3)]
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            ours.release_later("CP-000", claims[0].epoch)
            assert await ours.release("CP-001", claims[1].epoch) is Release.OWED
            await reason_of(ours.finish())
            await reason_of(ours.refresh([claims[2].record]))
            assert ours.owed == 2
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        assert await ours.refresh([claims[2].record]) == []
        assert ours.owed == 0
        assert [await stored(client, number) is None for number in range(3)] == [True, True, False]


async def test_an_owed_release_does_not_touch_a_newer_session(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a")
        old = await ours.claim(record())
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            assert await ours.release("CP-001", old.epoch) is Release.OWED
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        newer = await ours.claim(record())
        await ours.settle()
        assert ours.owed == 0
        assert (await stored(client) or {})["epoch"] == newer.epoch


async def test_a_claim_whose_answer_never_came_is_given_back(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a")
        await ours.claim(record(number=2))  # now the server has the script
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await reason_of(ours.claim(record()))
            assert ours.owed == 1
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        # Redis carries it out all the same: the script waited in its socket, maybe behind those of newer connections.
        await until_stored(client)
        await ours.settle()
        assert await stored(client) is None
        assert ours.owed == 0


async def test_a_claim_whose_answer_never_came_leaves_a_later_one_alone(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = node(client, "node-a")
        await ours.claim(record(number=2))  # now the server has the script
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await reason_of(ours.claim(record()))
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        later = await ours.claim(record(connected_at_ms=record().connected_at_ms + 1))
        await ours.settle()
        assert (await stored(client) or {})["epoch"] == later.epoch


async def test_a_cancelled_claim_is_given_back(client: RedisClient) -> None:
    ours = node(client, "node-a")
    claim = Deferred.fromCoroutine(ours.claim(record()))
    claim.cancel()
    with pytest.raises(CancelledError):
        await claim
    while await client.get("session-epochs:CP-001") is None:
        pass
    while client.pending:
        await client.ping()
    await ours.finish()
    assert await stored(client) is None


async def test_owed_releases_are_bounded(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = node(client, "node-a", max_owed=3)
        own_server.stop()
        for number in range(10):
            assert await ours.release(f"CP-{number:03d}", 1) is Release.OWED
        assert ours.owed == 3
        own_server.start()
        await client.when_connected(10)
        await ours.settle()
        assert ours.owed == 0


async def test_current_is_who_has_it_while_the_node_lives(client: RedisClient) -> None:
    ours = node(client, "node-a")
    assert await ours.current("CP-001") is None
    claim = await ours.claim(record())
    assert await ours.current("CP-001") is None
    await client.set(lease_key("node-a"), b"{}")
    assert await ours.current("CP-001") == claim.record


# What is in Redis and should not be: a key of another type, or no room for more.


async def test_a_key_of_another_type_costs_nobody_else(client: RedisClient) -> None:
    ours = node(client, "node-a")
    claims = [await ours.claim(record(number=number)) for number in range(4)]
    for number, beginning in enumerate(("sessions", "security-profiles", "session-epochs")):
        key = f"{beginning}:CP-{number:03d}"
        await client.delete(key)
        await client.run(HSET, [key], ["a", "b"])
    await client.delete("sessions:CP-002", "sessions:CP-003")
    assert await ours.refresh([claim.record for claim in claims]) == []
    assert [(await stored(client, number) or {}).get("epoch") for number in range(4)] == [1] * 4
    for key in ("sessions:CP-000", "session-epochs:CP-002"):
        await client.delete(key)
        await client.run(HSET, [key], ["a", "b"])
    assert await ours.release("CP-000", 1) is Release.NOT_OURS
    assert await ours.release("CP-002", 1) is Release.DELETED
    assert await ours.release("CP-003", 1) is Release.DELETED
    assert ours.owed == 0


async def test_a_redis_that_is_full_takes_sessions_back(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = node(client, "node-a")
        for number in range(2):
            await ours.claim(record(number=number))
        await client._call("CONFIG", "SET", "maxmemory", "1")
        assert [await ours.release(f"CP-{number:03d}", 1) for number in range(2)] == [Release.DELETED] * 2
        assert [await stored(client, number) for number in range(2)] == [None] * 2
        await reason_of(ours.claim(record()))
        await client._call("CONFIG", "SET", "maxmemory", "0")
        assert (await ours.claim(record(connected_at_ms=record().connected_at_ms + 1))).epoch == 2
