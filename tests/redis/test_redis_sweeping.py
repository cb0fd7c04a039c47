"""What a dead node left behind, and who clears it away."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis_support import connected_client, connection_change, reason_of, until, using
from support.manual_clock import ManualClock
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.redis import sweeping
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import KNOWN_NODES, NodeLease, lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Release
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import SessionRecord, node_sessions_key, node_taken_key, record_key
from ocpp_gateway.redis.sweeping import Sweeper

ADD = Script("add", b"return redis.call('SADD', KEYS[1], unpack(ARGV))")
HLEN = Script("hlen", b"return redis.call('HLEN', KEYS[1])")
HSET = Script("hset", b"return redis.call('HSET', KEYS[1], unpack(ARGV))")
TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")
DEAD = "node-a"


def name(number: int) -> str:
    return f"CP-{number:04d}"


def record(
    number: int, node_id: str = DEAD, *, epoch: int = 7, connected_at_ms: int = 1_700_000_000_000
) -> SessionRecord:
    return SessionRecord(
        charge_point_id=name(number),
        ocpp_version="1.6J",
        node_id=node_id,
        station_id="station-1",
        tenant_id="tenant-1",
        connected_at_ms=connected_at_ms,
        last_seen_at_ms=connected_at_ms + 5,
        security_profile=1,
        epoch=epoch,
    )


async def leave(client: RedisClient, count: int, node_id: str = DEAD, **options: Any) -> list[SessionRecord]:
    """``count`` sessions of a node whose lease is gone."""
    records = [record(number, node_id, **options) for number in range(count)]
    await gatherResults(
        [Deferred.fromCoroutine(client.set(record_key(one.charge_point_id), one.encode())) for one in records]
    )
    await client.run(ADD, [KNOWN_NODES], [node_id])
    if records:
        await client.run(ADD, [node_sessions_key(node_id)], [one.charge_point_id for one in records])
    return records


async def members(client: RedisClient, key: str) -> list[str]:
    return sorted([member.decode() async for page in client.members(key) for member in page])


async def left(client: RedisClient) -> list[str]:
    return sorted([key async for page in client.scan("*", beginning="sessions:") for key in page])


class Sweep:
    """A node's sweeper, and what it was given."""

    def __init__(
        self,
        client: RedisClient,
        clock: Any = None,
        node_id: str = "node-b",
        patience: float = 0.0,
        lost: Callable[[SessionRecord], None] = lambda _: None,
        born_ms: int | None = None,
    ) -> None:
        self.told: list[SessionRecord] = []
        self.also = lost
        clock = clock or SystemClock(reactor)
        self.sweeper = Sweeper(
            client=client,
            clock=clock,
            born_ms=int(clock.now() * 1000) if born_ms is None else born_ms,
            node_id=node_id,
            interval=10,
            patience=patience,
            lost=self.lost,
        )

    def lost(self, one: SessionRecord) -> None:
        self.told.append(one)
        self.also(one)

    async def round(self) -> list[SessionRecord]:
        await self.sweeper.round()
        return by_name(self.told)


def by_name(records: list[SessionRecord]) -> list[SessionRecord]:
    return sorted(records, key=lambda one: one.charge_point_id)


@asynccontextmanager
async def several(server: EmbeddedRedis, client: RedisClient, count: int) -> AsyncIterator[list[RedisClient]]:
    """Clients of their own, for nodes at the same time."""
    clients = [await connected_client(server.url, prefix=client.prefix) for _ in range(count)]
    yield clients
    for other in clients:
        await other.close()


async def test_what_a_dead_node_left_is_deleted_and_told_once(client: RedisClient) -> None:
    records = await leave(client, 3)
    ours = Sweep(client)
    assert await ours.round() == records
    assert await left(client) == []
    assert await members(client, node_sessions_key(DEAD)) == []
    assert await members(client, KNOWN_NODES) == []
    assert await ours.round() == records


async def test_the_next_session_gets_a_higher_epoch(client: RedisClient) -> None:
    await leave(client, 2, epoch=7)
    await client.set("session-epochs:CP-0001", b"9")
    await Sweep(client).round()
    assert [await client.get(f"session-epochs:{name(number)}") for number in range(2)] == [b"7", b"9"]
    assert await client.run(TTL, ["session-epochs:CP-0000"], []) > 86_400
    claim = await Ownership(client=client, node_id="node-b", session_ttl=60).claim(record(0, "node-b", epoch=0))
    assert (claim.epoch, claim.previous) == (8, None)


async def test_a_node_that_left_nothing_is_known_no_more(client: RedisClient) -> None:
    await leave(client, 0)
    await leave(client, 0, "node-c")
    await client.set(lease_key("node-c"), b"{}")
    assert await Sweep(client).round() == []
    assert await members(client, KNOWN_NODES) == ["node-c"]


async def test_a_living_node_keeps_its_sessions(client: RedisClient) -> None:
    await leave(client, 2)
    await client.set(lease_key(DEAD), b"{}")
    assert await Sweep(client).round() == []
    assert len(await left(client)) == 2
    assert await members(client, KNOWN_NODES) == [DEAD]


async def test_our_own_lease_may_be_late(client: RedisClient) -> None:
    ours = Sweep(client, ManualClock(wall=1_000_000_000), node_id=DEAD)
    await leave(client, 2)
    assert await ours.round() == []
    assert len(await left(client)) == 2


async def test_a_node_counts_as_dead_only_after_a_while(client: RedisClient) -> None:
    records = await leave(client, 2)
    clock = ManualClock()
    ours = Sweep(client, clock, patience=15)
    assert await ours.round() == []
    clock.advance(10)
    assert await ours.round() == []
    clock.advance(5)
    assert await ours.round() == records


async def test_a_node_that_was_back_meanwhile_gets_its_whole_while_again(client: RedisClient) -> None:
    await leave(client, 2)
    clock = ManualClock()
    ours = Sweep(client, clock, patience=15)
    await ours.round()
    clock.advance(10)
    await client.set(lease_key(DEAD), b"{}")
    await ours.round()
    await client.delete(lease_key(DEAD))
    clock.advance(10)
    assert await ours.round() == []
    clock.advance(14)
    assert await ours.round() == []
    clock.advance(1)
    assert len(await ours.round()) == 2


async def test_after_an_outage_of_redis_every_node_gets_its_whole_while_again(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        await leave(client, 2)
        clock = ManualClock()
        ours = Sweep(client, clock, patience=15)
        await ours.round()
        gone = connection_change(client, False)
        back = connection_change(client, True)
        await client._call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        await gone
        await reason_of(ours.round())
        await back
        clock.advance(15)
        assert await ours.round() == []
        clock.advance(15)
        assert len(await ours.round()) == 2


async def test_however_many_sweep_at_once_each_session_is_told_once(
    client: RedisClient, redis_server: EmbeddedRedis
) -> None:
    records = await leave(client, 400)
    async with several(redis_server, client, 3) as clients:
        sweeps = [Sweep(other, node_id=f"node-{number}") for number, other in enumerate(clients)]
        await gatherResults([Deferred.fromCoroutine(sweep.round()) for sweep in sweeps])
    assert by_name([one for sweep in sweeps for one in sweep.told]) == records
    assert all(sweep.told for sweep in sweeps)
    assert await left(client) == []
    assert await members(client, KNOWN_NODES) == []


async def test_a_node_that_comes_back_in_between_loses_nothing_more(client: RedisClient) -> None:
    records = await leave(client, 120)
    back: list[Deferred[None]] = []
    lease = NodeLease(client=client, clock=SystemClock(reactor), node_id=DEAD, ttl=30, heartbeat=10, vanished=list)

    def come_back(_: SessionRecord) -> None:
        if not back:
            back.append(Deferred.fromCoroutine(lease.renew()))

    told = await Sweep(client, lost=come_back).round()
    await back[0]
    assert len(told) == 50
    kept = [one for one in records if one not in told]
    assert await left(client) == [record_key(one.charge_point_id) for one in kept]
    assert await members(client, node_sessions_key(DEAD)) == [one.charge_point_id for one in kept]
    assert await members(client, KNOWN_NODES) == [DEAD]


async def test_a_claim_in_between_is_untouched(client: RedisClient) -> None:
    records = await leave(client, 3)
    await client.set(lease_key("node-c"), b"{}")
    theirs = await Ownership(client=client, node_id="node-c", session_ttl=60).claim(record(1, "node-c", epoch=0))
    assert await Sweep(client).round() == [records[0], records[2]]
    assert await client.get(record_key(name(1))) == theirs.record.encode()


async def test_a_record_of_another_node_is_untouched_whatever_the_set_says(client: RedisClient) -> None:
    await leave(client, 2, "node-c")
    await client.run(ADD, [node_sessions_key(DEAD)], [name(0), name(1), "long gone"])
    await client.run(ADD, [KNOWN_NODES], [DEAD])
    await client.set(lease_key("node-c"), b"{}")
    assert await Sweep(client).round() == []
    assert len(await left(client)) == 2
    assert await members(client, node_sessions_key(DEAD)) == []
    assert await members(client, node_sessions_key("node-c")) == [name(0), name(1)]


# A node that was killed and started again before its lease expired.


async def test_what_our_former_life_left_is_cleared_away_first(client: RedisClient) -> None:
    clock = ManualClock()
    now = int(clock.now() * 1000)
    records = await leave(client, 60, connected_at_ms=now - 1)
    await client.set(lease_key(DEAD), b"{}")
    ours = Sweep(client, clock, node_id=DEAD)
    new = record(1, connected_at_ms=now, epoch=8)
    await client.set(record_key(name(1)), new.encode())
    rounds = Deferred.fromCoroutine(ours.round())
    await until(lambda: bool(clock.timers.getDelayedCalls()))
    clock.advance(0.02)
    assert await rounds == [one for one in records if one.charge_point_id != name(1)]
    assert await left(client) == [record_key(name(1))]
    assert await members(client, node_sessions_key(DEAD)) == [name(1)]
    assert await members(client, KNOWN_NODES) == [DEAD]


async def test_only_the_first_round_looks_at_our_former_life(client: RedisClient) -> None:
    ours = Sweep(client, node_id=DEAD)
    await ours.round()
    await leave(client, 1)
    assert await ours.round() == []


async def test_a_first_round_that_fails_does_not_count(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = Sweep(client, node_id=DEAD)
        gone = connection_change(client, False)
        own_server.stop()
        await gone
        await reason_of(ours.round())
        own_server.start()
        await client.when_connected(10)
        records = await leave(client, 1)
        assert await ours.round() == records


async def test_a_node_began_when_it_says_whatever_its_clock_says_since(client: RedisClient) -> None:
    born_ms = 1_767_323_105_678
    (mine,) = await leave(client, 1, connected_at_ms=born_ms)
    set_back = ManualClock(wall=born_ms / 1000 - 60)
    assert await Sweep(client, set_back, node_id=DEAD, born_ms=born_ms).round() == []
    assert await client.get(record_key(name(0))) == mine.encode()
    set_forward = ManualClock(wall=born_ms / 1000 + 60)
    assert await Sweep(client, set_forward, node_id=DEAD, born_ms=born_ms).round() == []
    assert await left(client) == [record_key(name(0))]


# What others took from a node that was killed before it could tell the end of it.


def owner(client: RedisClient, node_id: str) -> Ownership:
    return Ownership(client=client, node_id=node_id, session_ttl=60)


async def take_over(client: RedisClient, number: int = 0, **options: Any) -> SessionRecord:
    """A session of DEAD, which is alive yet, that node-c takes over; as it was."""
    await client.set(lease_key(DEAD), b"{}")
    await client.set(lease_key("node-c"), b"{}")
    claim = await owner(client, DEAD).claim(record(number, epoch=0, **options))
    await owner(client, "node-c").claim(record(number, "node-c", epoch=0, connected_at_ms=1_700_000_010_000))
    return claim.record


async def taken(client: RedisClient) -> int:
    count: int = await client.run(HLEN, [node_taken_key(DEAD)], [])
    return count


async def test_what_was_taken_from_a_node_that_died_before_it_told_is_told_once(
    client: RedisClient, redis_server: EmbeddedRedis
) -> None:
    records = [await take_over(client, number) for number in range(60)]
    await client.delete(lease_key(DEAD))
    async with several(redis_server, client, 2) as clients:
        sweeps = [Sweep(other, node_id=f"node-{number}") for number, other in enumerate(clients)]
        await gatherResults([Deferred.fromCoroutine(sweep.round()) for sweep in sweeps])
    assert by_name([one for sweep in sweeps for one in sweep.told]) == records
    assert await taken(client) == 0
    assert len(await left(client)) == 60, "those of node-c"
    assert await members(client, KNOWN_NODES) == ["node-c"]
    assert await Sweep(client).round() == []


async def test_not_while_it_lives(client: RedisClient) -> None:
    await take_over(client)
    assert await Sweep(client).round() == []
    assert await taken(client) == 1


async def test_it_is_kept_as_long_as_an_epoch(client: RedisClient) -> None:
    await take_over(client)
    assert 86_400 < await client.run(TTL, [node_taken_key(DEAD)], []) <= 30 * 86_400


async def test_what_its_node_told_is_not_told_again(client: RedisClient) -> None:
    (first, second) = [await take_over(client, number) for number in range(2)]
    assert await owner(client, DEAD).release(first.charge_point_id, first.epoch) is Release.NOT_OURS
    await client.delete(lease_key(DEAD))
    assert await Sweep(client).round() == [second]


async def test_nor_what_it_has_again(client: RedisClient) -> None:
    """Redis lost the claim that took it over: its first node writes it again, and goes on with it."""
    ours = owner(client, DEAD)
    await client.set(lease_key(DEAD), b"{}")
    mine = (await ours.claim(record(0, epoch=0))).record
    await owner(client, "node-c").claim(record(0, "node-c", epoch=0))
    assert await taken(client) == 1
    await client.delete(record_key(mine.charge_point_id))
    assert await ours.refresh([mine]) == []
    assert await client.get(record_key(mine.charge_point_id)) == mine.encode()
    await client.delete(lease_key(DEAD))
    assert await Sweep(client).round() == [mine]
    assert await Sweep(client).round() == []


async def test_nor_one_whose_claim_was_never_answered(own_server: EmbeddedRedis) -> None:
    """It was carried out all the same, and taken over before it could be given back: nobody was ever connected."""
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        ours = owner(client, DEAD)
        await client.set(lease_key(DEAD), b"{}")
        await client.set(lease_key("node-c"), b"{}")
        await ours.claim(record(2, epoch=0))  # now the server has the script
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await reason_of(ours.claim(record(1, epoch=0)))
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        theirs = await owner(client, "node-c").claim(record(1, "node-c", epoch=0, connected_at_ms=1_700_000_010_000))
        assert theirs.epoch == 2
        assert await taken(client) == 1
        await ours.settle()
        assert (ours.owed, await taken(client)) == (0, 0)


async def test_what_was_taken_from_our_former_life_is_told_by_us(client: RedisClient) -> None:
    before = await take_over(client, 0, connected_at_ms=1_700_000_000_000)
    await take_over(client, 1, connected_at_ms=1_700_000_005_000)
    ours = Sweep(client, node_id=DEAD, born_ms=1_700_000_005_000)
    assert await ours.round() == [before]
    assert await taken(client) == 1


async def test_a_claim_of_a_node_makes_it_known(client: RedisClient) -> None:
    """One that was swept for dead may live on, and die in earnest before it renews its lease."""
    claim = await owner(client, DEAD).claim(record(0, epoch=0))
    assert await members(client, KNOWN_NODES) == [DEAD]
    assert await Sweep(client).round() == [claim.record]


# What should not be there.


async def test_a_key_of_another_type_is_in_nobodys_way(client: RedisClient) -> None:
    records = await leave(client, 4)
    await client.delete(record_key(name(1)))
    for key in (record_key(name(1)), "session-epochs:CP-0002"):
        await client.run(HSET, [key], ["a", "b"])
    assert await Sweep(client).round() == [records[0], *records[2:]]
    assert await members(client, node_sessions_key(DEAD)) == []


async def test_a_redis_that_is_full_lets_the_dead_go(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        records = await leave(client, 3)
        await client._call("CONFIG", "SET", "maxmemory", "1")
        assert await Sweep(client).round() == records
        assert await left(client) == []
        assert await members(client, KNOWN_NODES) == []


async def test_junk_is_cleared_away_and_told_to_nobody(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[LogEvent] = []
    monkeypatch.setattr(sweeping.log, "observer", seen.append)
    records = await leave(client, 5)
    await client.set(record_key(name(0)), b"{")
    await client.set(record_key(name(1)), b"[]")
    await client.set(record_key(name(2)), b'"node-a"')
    await client.set(record_key(name(3)), json.dumps({"nodeId": DEAD}).encode())
    await client.run(ADD, [node_sessions_key(DEAD)], [b"\xff\xfe", ""])
    await client.run(ADD, [KNOWN_NODES], [b"\xff"])
    assert await Sweep(client).round() == [records[4]]
    assert await members(client, node_sessions_key(DEAD)) == []
    # What does not name the node is not its record; one that does, however little else it says, is.
    assert await left(client) == [record_key(name(number)) for number in range(3)]
    assert [event["event"] for event in seen] == ["redis.swept_unreadable", "redis.sessions_swept"]


async def test_one_who_hears_of_lost_sessions_and_fails_misses_no_other(
    client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LogEvent] = []
    monkeypatch.setattr(sweeping.log, "observer", seen.append)
    records = await leave(client, 3)

    def fail(_: SessionRecord) -> None:
        raise ValueError("x")

    assert await Sweep(client, lost=fail).round() == records
    assert [event["event"] for event in seen].count("redis.sweep_listener_failed") == 3


# Its life.


async def test_it_looks_again_and_again_until_it_is_stopped(client: RedisClient) -> None:
    clock = ManualClock()
    ours = Sweep(client, clock)
    ours.sweeper.start()
    await until(lambda: bool(clock.timers.getDelayedCalls()))
    assert ours.told == []
    for count in (1, 2):
        await leave(client, count)
        before = len(ours.told)
        clock.advance(10)
        await until(lambda: bool(clock.timers.getDelayedCalls()))
        assert len(ours.told) == before + count
    await ours.sweeper.stop()
    assert clock.timers.getDelayedCalls() == []


async def test_stopped_in_the_middle_it_leaves_the_rest_to_others(client: RedisClient) -> None:
    records = await leave(client, 120)
    stopped: list[Deferred[None]] = []

    def stop(_: SessionRecord) -> None:
        if not stopped:
            stopped.append(Deferred.fromCoroutine(first.sweeper.stop()))

    first, second = Sweep(client, lost=stop), Sweep(client, node_id="node-c")
    first.sweeper.start()
    await until(lambda: bool(stopped))
    await stopped[0]
    assert len(first.told) == 50
    await second.round()
    assert len(second.told) == 70
    assert by_name(first.told + second.told) == records
