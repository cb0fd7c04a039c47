"""What BootNotification was answered with is kept for all nodes, and who was accepted is never held back."""

from __future__ import annotations

import os
import signal

import pytest
from redis_support import connected_client, reason_of, using
from support.redis_gate import RedisGate
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from ocpp_gateway.csms.boot import BootState, BootStates
from ocpp_gateway.redis.boot_states import TTL_SECONDS, RedisBootStates
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.scripts import Script

TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")
PENDING, REJECTED = BootState("Pending", 60), BootState("Rejected", 3600)


async def test_it_is_what_the_registrations_ask_for(client: RedisClient) -> None:
    port: BootStates = RedisBootStates(client)
    assert await port.get("CP-001") is None


async def test_every_node_knows_it_until_it_changes(client: RedisClient) -> None:
    one, other = RedisBootStates(client), RedisBootStates(client)
    for state in (PENDING, REJECTED):
        await one.keep("CP-001", 5, state)
        assert await other.get("CP-001") == state
        assert await other.get("CP-002") is None
    assert TTL_SECONDS - 5 < await client.run(TTL, ["boot-states:CP-001"], []) <= TTL_SECONDS
    await other.forget("CP-001", 5)
    assert await one.get("CP-001") is None
    assert (one.owed, other.owed) == (0, 0)


@pytest.mark.parametrize(("newest", "is_kept"), [(None, True), (b"4", True), (b"5", True), (b"6", False)])
async def test_an_answer_to_an_old_session_does_not_count(
    client: RedisClient, newest: bytes | None, is_kept: bool
) -> None:
    states = RedisBootStates(client)
    if newest is not None:
        await client.set("session-epochs:CP-001", newest)
    await states.keep("CP-001", 5, PENDING)
    assert await states.get("CP-001") == (PENDING if is_kept else None)
    assert states.owed == 0


@pytest.mark.parametrize(("epoch", "is_kept"), [(4, True), (5, False), (6, False)])
async def test_that_an_old_session_was_accepted_does_not_undo_what_a_newer_one_was_answered(
    client: RedisClient, epoch: int, is_kept: bool
) -> None:
    states = RedisBootStates(client)
    await client.set("session-epochs:CP-001", b"5")
    await states.keep("CP-001", 5, PENDING)
    await client.set("session-epochs:CP-001", b"7")
    await states.forget("CP-001", epoch)
    assert await states.get("CP-001") == (PENDING if is_kept else None)
    assert states.owed == 0


@pytest.mark.parametrize(
    "raw", [b"Pending", b"[]", b"null", b'{"status":"Accepted","interval":1}', b'{"status":"Pending"}', b"\xff"]
)
async def test_what_cannot_be_read_holds_nobody_back(client: RedisClient, raw: bytes) -> None:
    await client.set("boot-states:CP-001", raw)
    assert await RedisBootStates(client).get("CP-001") is None


async def test_what_redis_missed_is_made_up_for(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        states = RedisBootStates(client)
        await states.keep("CP-001", 1, PENDING)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await states.forget("CP-001", 1)
            await states.keep("CP-002", 1, REJECTED)
            assert states.owed == 2
            await reason_of(states.get("CP-001"))
            await reason_of(states.settle())
            assert states.owed == 2
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        await states.settle()
        assert states.owed == 0
        fresh = RedisBootStates(client)
        assert await fresh.get("CP-001") is None
        assert await fresh.get("CP-002") == REJECTED


async def test_who_reads_sees_what_redis_missed(own_server: EmbeddedRedis) -> None:
    """Before it is settled, and with the last word where there were several."""
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        states = RedisBootStates(client)
        await states.keep("CP-001", 1, PENDING)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await states.keep("CP-001", 1, REJECTED)
            await states.forget("CP-001", 1)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        assert await states.get("CP-001") is None
        assert states.owed == 0


async def test_a_later_answer_to_the_same_session_waits_for_an_earlier_one(own_server: EmbeddedRedis) -> None:
    """Each may go over another connection, and their epoch is the same."""
    with RedisGate(own_server.url) as gate:
        async with (
            using(await connected_client(gate.url, timeout=5.0)) as client,
            using(await connected_client(own_server.url)) as others,
        ):
            states = RedisBootStates(client)
            await states.keep("CP-002", 1, PENDING)  # Redis knows the script then
            gate.hold("boot-states:CP-001")
            keeping = Deferred.fromCoroutine(states.keep("CP-001", 1, PENDING))
            await deferToThread(gate.held.wait, 10)
            forgetting = Deferred.fromCoroutine(states.forget("CP-001", 1))
            for _ in range(50):
                assert await RedisBootStates(others).get("CP-001") == PENDING
            gate.release()
            await gatherResults([keeping, forgetting])
            assert await states.get("CP-001") is None
            assert states.owed == 0


async def test_what_redis_missed_is_remembered_in_a_bounded_number(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        states = RedisBootStates(client, max_owed=5)
        own_server.stop()
        for number in range(20):
            await states.keep(f"CP-{number}", 1, PENDING)
        assert states.owed == 5
