"""What a dead node left behind, and who clears it away."""

from __future__ import annotations

import json
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
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import SessionRecord, node_sessions_key, record_key
from ocpp_gateway.redis.sweeping import Sweeper

ADD = Script("add", b"return redis.call('SADD', KEYS[1], unpack(ARGV))")
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
    ) -> None:
        self.told: list[SessionRecord] = []
        self.also = lost
        clock = clock or SystemClock(reactor)
        self.sweeper = Sweeper(
            client=client,
            clock=clock,
            born_ms=int(clock.now() * 1000),
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


# What should not be there.


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
