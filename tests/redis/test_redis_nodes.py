from __future__ import annotations

import json
import os
import signal

import pytest
from redis_support import connected_client, log_line, logged, reason_of, until, using
from support.manual_clock import ManualClock
from support.redis_gate import RedisGate
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import KNOWN_NODES, NodeLease, lease_key
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import node_sessions_key

TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")
ADD = Script("add", b"return redis.call('SADD', KEYS[1], ARGV[1])")


def lease(client: RedisClient, clock: ManualClock, vanished: list[str], node_id: str = "node-a") -> NodeLease:
    return NodeLease(
        client=client,
        clock=clock,
        node_id=node_id,
        ttl=30,
        heartbeat=10,
        vanished=lambda: vanished.append("vanished"),
    )


async def known_nodes(client: RedisClient) -> list[bytes]:
    return sorted([node_id async for page in client.members(KNOWN_NODES) for node_id in page])


async def test_the_lease_is_the_contracts(client: RedisClient) -> None:
    clock = ManualClock()
    ours = NodeLease(
        client=client,
        clock=clock,
        node_id="node-a",
        ttl=30,
        heartbeat=10,
        vanished=list,
        advertise_url="http://10.0.0.1:3001",
    )
    await ours.renew()
    clock.advance(10)
    await ours.renew()
    assert json.loads(await client.get("nodes:node-a") or b"") == {
        "nodeId": "node-a",
        "advertiseUrl": "http://10.0.0.1:3001",
        "startedAt": "2026-01-02T03:04:05.678Z",
        "lastSeenAt": "2026-01-02T03:04:15.678Z",
    }
    assert 0 < await client.run(TTL, ["nodes:node-a"], []) <= 30


async def test_the_lease_tells_how_many_are_connected(client: RedisClient) -> None:
    connected = [3]
    ours = NodeLease(
        client=client,
        clock=ManualClock(),
        node_id="node-a",
        ttl=30,
        heartbeat=10,
        vanished=list,
        connections=connected.pop,
    )
    await ours.renew()
    assert json.loads(await client.get("nodes:node-a") or b"")["connections"] == 3


async def test_a_node_is_known_from_its_first_renewal_to_its_end(client: RedisClient) -> None:
    ours, theirs = lease(client, ManualClock(), []), lease(client, ManualClock(), [], "node-b")
    assert await known_nodes(client) == []
    await ours.renew()
    await theirs.renew()
    assert await known_nodes(client) == [b"node-a", b"node-b"]
    await ours.stop()
    assert await known_nodes(client) == [b"node-b"]


async def test_a_node_that_others_took_for_dead_is_known_again(client: RedisClient) -> None:
    ours = lease(client, ManualClock(), [])
    await ours.renew()
    await client.delete(lease_key("node-a"), KNOWN_NODES)
    await ours.renew()
    assert await known_nodes(client) == [b"node-a"]


async def test_a_node_that_leaves_sessions_behind_stays_known(client: RedisClient) -> None:
    ours = lease(client, ManualClock(), [])
    await ours.renew()
    await client.run(ADD, [node_sessions_key("node-a")], ["CP-001"])
    await ours.stop()
    assert await client.get(lease_key("node-a")) is None
    assert await known_nodes(client) == [b"node-a"]


async def test_a_node_whose_lease_expired_before_its_end_is_known_no_more(client: RedisClient) -> None:
    ours = lease(client, ManualClock(), [])
    await ours.renew()
    await client.delete(lease_key("node-a"))
    await ours.stop()
    assert await known_nodes(client) == []


async def test_it_is_renewed_at_each_heartbeat_and_given_back(client: RedisClient) -> None:
    clock, vanished = ManualClock(), list[str]()
    ours = lease(client, clock, vanished)
    assert not ours.is_held
    ours.start()
    await until(lambda: ours.last_renewed == 0)
    clock.advance(9)
    assert client.pending == 0
    clock.advance(1)
    await until(lambda: ours.last_renewed == 10)
    assert ours.is_held
    assert vanished == []
    await ours.stop()
    assert await client.get(lease_key("node-a")) is None
    assert clock.timers.getDelayedCalls() == []


async def test_stopping_in_the_middle_of_a_renewal_leaves_no_lease(client: RedisClient) -> None:
    ours = lease(client, ManualClock(), [])
    for _ in range(8):
        ours.start()
        assert client.pending == 1
        await ours.stop()
        assert await client.get(lease_key("node-a")) is None


@pytest.mark.parametrize("renewals", [0, 1])
async def test_a_renewal_whose_answer_never_came_is_given_back_too(own_server: EmbeddedRedis, renewals: int) -> None:
    with RedisGate(own_server.url) as gate:
        async with using(await connected_client(gate.url, timeout=0.3)) as client:
            clock = ManualClock()
            ours = lease(client, clock, [])
            await lease(client, clock, [], "node-b").renew()  # Redis knows the script then
            for _ in range(renewals):
                await ours.renew()
            clock.advance(10.0)
            gate.hold(lease_key("node-a"))
            await reason_of(ours.renew())
            gate.release()
            await client.when_connected(10)
            assert await client.get(lease_key("node-a")) is not None
            await ours.stop()
            assert await client.get(lease_key("node-a")) is None
            assert await known_nodes(client) == [b"node-b"]


async def test_the_lease_of_another_with_our_name_is_not_deleted(client: RedisClient) -> None:
    ours = lease(client, ManualClock(), [])
    await ours.renew()
    await client.set(lease_key("node-a"), b"another's")
    await ours.stop()
    assert await client.get(lease_key("node-a")) == b"another's"
    assert await known_nodes(client) == [b"node-a"]


async def test_a_lease_that_has_vanished_is_told_but_a_first_one_is_not(client: RedisClient) -> None:
    vanished = list[str]()
    ours = lease(client, ManualClock(), vanished)
    await ours.renew()
    await ours.renew()
    assert vanished == []
    await client.delete(lease_key("node-a"))
    await ours.renew()
    assert vanished == ["vanished"]
    await ours.renew()
    assert vanished == ["vanished"]


async def test_two_nodes_with_one_name_are_told_once_a_restarted_one_is_not(client: RedisClient) -> None:
    clock = ManualClock()
    await lease(client, clock, []).renew()
    clock.advance(1)
    restarted, vanished = lease(client, clock, []), list[str]()
    with logged() as lines:
        await restarted.renew()
        await restarted.renew()
        assert not any("NODE_ID" in line for line in lines)
        clock.advance(1)
        twin = lease(client, clock, vanished)
        for _ in range(3):
            await twin.renew()
            await restarted.renew()
    assert len([line for line in lines if "NODE_ID" in line]) == 2
    assert vanished == []


async def test_the_loop_survives_an_outage_and_tells_that_the_data_are_gone(own_server: EmbeddedRedis) -> None:
    vanished: Deferred[None] = Deferred()
    async with using(await connected_client(own_server.url)) as client:
        clock = SystemClock(reactor)
        ours = NodeLease(
            client=client,
            clock=clock,
            node_id="node-a",
            ttl=30,
            heartbeat=0.02,
            vanished=lambda: vanished.callback(None),
        )
        with log_line("Renewal of the node's lease failed") as failed, log_line("works again") as recovered:
            ours.start()
            await until(lambda: ours.last_renewed is not None)
            os.kill(own_server.pid, signal.SIGKILL)
            await failed
            own_server.start()
            await vanished
            await recovered
        assert await client.get(lease_key("node-a")) is not None
        await ours.stop()


async def test_stopping_without_redis_ends_at_once(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = lease(client, ManualClock(), [])
        await ours.renew()
        own_server.stop()
        with logged() as lines:
            await ours.stop()
        assert any("it will expire" in line for line in lines)
