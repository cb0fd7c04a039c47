"""What a node hears on its channel, over a server that works, goes away, does not answer or says no."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_support import (
    FlakyProxyFactory,
    connected_client,
    listening,
    log_line,
    logged,
    new_client,
    says,
    self_signed,
    until,
    using,
)
from support.manual_clock import ManualClock
from twisted.internet import reactor
from twisted.logger import LogEvent
from twisted.protocols.portforward import ProxyFactory

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.redis import bus as bus_module
from ocpp_gateway.redis.bus import NodeBus, kick
from ocpp_gateway.redis.bus_messages import BusMessage, SessionKick, SessionSuperseded, parse
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.sessions import SessionRecord

SUPERSEDED = {"type": "session_superseded", "chargePointId": "CP-001", "nodeId": "node-b", "epoch": 2}


class Ear:
    """A node's bus, and what it heard."""

    def __init__(self, client: RedisClient, clock: Any = None, node_id: str = "node-a", random: float = 0.0) -> None:
        self.heard: list[BusMessage] = []
        self.times = 0
        self.bus = NodeBus(
            client=client,
            clock=clock or SystemClock(reactor),
            random=lambda: random,
            node_id=node_id,
            received=self.heard.append,
            resubscribed=self.resubscribed,
        )

    def resubscribed(self) -> None:
        self.times += 1


@asynccontextmanager
async def ear(client: RedisClient, clock: Any = None, node_id: str = "node-a") -> AsyncIterator[Ear]:
    ours = Ear(client, clock, node_id)
    ours.bus.start()
    try:
        yield ours
    finally:
        await ours.bus.stop()


@asynccontextmanager
async def listening_ear(client: RedisClient, clock: Any = None, node_id: str = "node-a") -> AsyncIterator[Ear]:
    async with ear(client, clock, node_id) as ours:
        await until(lambda: ours.bus.is_subscribed)
        yield ours


async def kicked(client: RedisClient, node_id: str = "node-a", charge_point_id: str = "CP-001") -> int:
    return await kick(client, node_id, charge_point_id, epoch=7, actor="alice", reason="maintenance")


# The messages.


@given(st.text(), st.none() | st.integers(0, 2**53), st.text(), st.text())
def test_a_kick_is_read_as_it_was_written(charge_point_id: str, epoch: int | None, actor: str, reason: str) -> None:
    message = SessionKick(charge_point_id=charge_point_id, epoch=epoch, actor=actor, reason=reason)
    assert parse(message.encode()) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["session_superseded", "session_kick"]) | JSON,
        **dict.fromkeys(["chargePointId", "nodeId", "epoch", "actor", "reason"], JSON),
    },
)


@given(st.binary() | (MEMBERS | JSON).map(orjson.dumps))
def test_whatever_is_published_is_a_message_with_all_its_members_or_none(raw: bytes) -> None:
    message = parse(raw)
    if isinstance(message, SessionKick):
        assert message.epoch is None or type(message.epoch) is int
        assert {type(message.charge_point_id), type(message.actor), type(message.reason)} == {str}
    elif message is not None:
        assert type(message.epoch) is int
        assert {type(message.charge_point_id), type(message.node_id)} == {str}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "session_praised"},
        {"chargePointId": 1},
        {"nodeId": None},
        {"epoch": "2"},
        {"epoch": True},
        {"epoch": 2.0},
    ],
)
def test_what_is_not_understood_is_none(change: dict[str, Any]) -> None:
    assert parse(orjson.dumps(SUPERSEDED)) is not None
    assert parse(orjson.dumps(SUPERSEDED | change)) is None


@pytest.mark.parametrize("missing", sorted(SUPERSEDED))
def test_a_message_with_a_member_missing_is_none(missing: str) -> None:
    assert parse(orjson.dumps({name: value for name, value in SUPERSEDED.items() if name != missing})) is None


# A server that works.


async def test_a_node_hears_what_is_for_it_and_nothing_else(client: RedisClient, redis_server: EmbeddedRedis) -> None:
    async with (
        listening_ear(client) as ours,
        listening_ear(client, node_id="node-b") as theirs,
        using(await connected_client(redis_server.url)) as unprefixed,
    ):
        assert await kicked(client) == 1
        assert await kicked(client, "node-c") == 0
        assert await kicked(unprefixed) == 0
        await until(lambda: bool(ours.heard))
        assert ours.heard == [
            SessionKick(charge_point_id="CP-001", epoch=7, actor="alice", reason="maintenance"),
        ]
        assert (ours.times, ours.bus.ignored) == (1, 0)
        assert theirs.heard == []
    assert await kicked(client) == 0
    assert not ours.bus.is_subscribed


async def test_a_claim_tells_the_node_that_had_the_charge_point(client: RedisClient) -> None:
    def record(node_id: str) -> SessionRecord:
        return SessionRecord(
            charge_point_id="CP-001",
            ocpp_version="1.6J",
            node_id=node_id,
            station_id="station-1",
            tenant_id="tenant-1",
            connected_at_ms=1,
            last_seen_at_ms=1,
        )

    await client.set(lease_key("node-a"), b"{}")
    async with listening_ear(client) as ours:
        await Ownership(client=client, node_id="node-a", session_ttl=60).claim(record("node-a"))
        taken = await Ownership(client=client, node_id="node-b", session_ttl=60).claim(record("node-b"))
        await until(lambda: bool(ours.heard))
    assert ours.heard == [SessionSuperseded(charge_point_id="CP-001", node_id="node-b", epoch=taken.epoch)]


async def test_what_is_not_understood_is_counted_and_what_follows_is_heard(client: RedisClient) -> None:
    junk = [b"", b"{", b"[]", b"\xff", b'{"type":"session_praised"}', b"x" * 100_000]
    with logged() as lines:
        async with listening_ear(client) as ours:
            for raw in junk:
                assert await client.publish("node-bus:node-a", raw) == 1
            await kicked(client)
            await until(lambda: bool(ours.heard))
            assert ours.bus.ignored == len(junk)
            assert ours.times == 1
    assert not any("praised" in line for line in lines)


async def test_one_who_hears_and_fails_does_not_end_the_hearing(
    client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LogEvent] = []
    monkeypatch.setattr(bus_module.log, "observer", seen.append)
    heard: list[BusMessage] = []

    def received(message: BusMessage) -> None:
        heard.append(message)
        raise ValueError("hunter2")

    def resubscribed() -> None:
        raise ValueError("hunter2")

    bus = NodeBus(
        client=client,
        clock=SystemClock(reactor),
        random=lambda: 0.0,
        node_id="node-a",
        received=received,
        resubscribed=resubscribed,
    )
    bus.start()
    await until(lambda: bus.is_subscribed)
    await kicked(client)
    await kicked(client)
    await until(lambda: len(heard) == 2)
    await bus.stop()
    assert [line["event"] for line in seen].count("redis.bus_listener_failed") == 3


async def test_a_server_that_answers_is_asked_again_and_again(client: RedisClient) -> None:
    clock = ManualClock()
    async with listening_ear(client, clock) as ours:
        connection = ours.bus._connection
        assert connection is not None
        for _ in range(3):
            clock.advance(10)
            assert not connection._heard
            await until(lambda: connection._heard)
            clock.advance(2)
        assert ours.bus._connection is connection
        assert (ours.bus.is_subscribed, ours.times) == (True, 1)
    assert clock.timers.getDelayedCalls() == []


# A server that does not.


async def test_a_server_that_is_killed_and_started_again_is_heard_again(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client, listening_ear(client) as ours:
        with logged() as lines:
            os.kill(own_server.pid, signal.SIGKILL)
            await until(lambda: not ours.bus.is_subscribed)
            with log_line("The node bus at redis://127.0.0.1") as refused:
                await refused
            own_server.start()
            await until(lambda: ours.bus.is_subscribed)
        await client.when_connected(10)
        assert await kicked(client) == 1
        await until(lambda: bool(ours.heard))
        assert ours.times == 2
    troubles = [line for line in lines if "The node bus at" in line]
    assert len(troubles) == len(set(troubles))
    assert own_server.password not in "".join(lines)


async def test_an_outage_is_told_once_not_at_every_attempt(redis_server: EmbeddedRedis) -> None:
    proxy = FlakyProxyFactory(redis_server.port, cuts=2)
    async with listening(proxy) as port, using(await connected_client(redis_server.url)) as client:
        through = new_client(f"redis://:{redis_server.password}@127.0.0.1:{port}")
        await through.close()
        with logged() as lines:
            async with listening_ear(through):
                assert await kicked(client) == 1
        assert proxy.cuts == 0
    assert len([line for line in lines if "The node bus at" in line]) == 1
    assert len([line for line in lines if "Listening to the node bus" in line]) == 1


async def test_attempts_become_rarer_also_where_the_server_takes_the_connection_and_ends_it(
    redis_server: EmbeddedRedis,
) -> None:
    client = new_client(redis_server.url)
    await client.close()
    assert [Ear(client, random=0.7).bus._retry_delay(attempt) for attempt in (1, 10_000)] == [1.1, 5.7]
    bus = Ear(client).bus
    assert [bus._retry_delay(attempt) for attempt in (1, 2, 3, 50, 10_000)] == [0.4, 0.8, 1.6, 5.0, 5.0]
    for _ in range(4):
        bus._subscriber()
    assert bus._retry_delay(1) == 3.2
    bus._subscribed()
    assert bus._retry_delay(1) == 0.4


async def test_a_frozen_server_is_noticed_and_heard_again_when_it_thaws(own_server: EmbeddedRedis) -> None:
    clock = ManualClock()
    async with using(await connected_client(own_server.url)) as client, listening_ear(client, clock) as ours:
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            with log_line("The node bus at") as trouble:
                clock.advance(10)
                assert ours.bus.is_subscribed
                clock.advance(2)
                assert "no answer in 2 s" in await trouble
            await until(lambda: not ours.bus.is_subscribed)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await until(lambda: ours.bus.is_subscribed)
        assert ours.times == 2


async def test_a_server_that_accepts_and_says_nothing_is_left(redis_server: EmbeddedRedis) -> None:
    clock = ManualClock()
    async with listening(says(b"")) as port:
        client = new_client(f"redis://127.0.0.1:{port}")
        await client.close()
        async with ear(client, clock) as ours:
            await until(lambda: bool(clock.timers.getDelayedCalls()))
            with log_line("no answer in 2 s") as line:
                clock.advance(2)
                await line
            assert ours.times == 0
    assert clock.timers.getDelayedCalls() == []


async def test_a_wrong_password_is_told_without_it_and_heals_when_it_becomes_right(own_server: EmbeddedRedis) -> None:
    wrong = new_client(own_server.url.replace(own_server.password, "hunter2"))
    await wrong.close()
    with logged() as lines:
        async with using(await connected_client(own_server.url)) as admin, ear(wrong) as ours:
            with log_line("was not accepted: WRONGPASS") as line:
                await line
            assert ours.times == 0
            await admin._call("ACL", "SETUSER", "default", ">hunter2")
            await until(lambda: ours.bus.is_subscribed)
    assert "hunter2" not in "".join(lines)


@pytest.mark.parametrize(
    ("rights", "problem"), [("resetchannels", "NOPERM"), ("&other:*", "NOPERM"), ("&node-bus:*", None)]
)
async def test_a_user_needs_the_right_to_the_channel(
    own_server: EmbeddedRedis, rights: str, problem: str | None
) -> None:
    async with using(await connected_client(own_server.url)) as admin:
        await admin._call("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "resetchannels", rights)
    client = new_client(f"redis://gateway:secret@127.0.0.1:{own_server.port}")
    await client.close()
    with log_line(f"not accepted: {problem}" if problem else "Listening to the node bus") as line:
        async with ear(client):
            await line


async def test_a_missing_password_is_told(redis_server: EmbeddedRedis) -> None:
    client = new_client(f"redis://127.0.0.1:{redis_server.port}")
    await client.close()
    with log_line("was not accepted: NOAUTH") as line:
        async with ear(client):
            await line


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b"*3\r\n+message\r\nx"])
async def test_a_server_that_is_not_redis(answer: bytes) -> None:
    async with listening(says(answer)) as port:
        client = new_client(f"redis://127.0.0.1:{port}")
        await client.close()
        with log_line("The node bus at redis://127.0.0.1") as line:
            async with ear(client):
                assert "does not speak the Redis protocol" in await line


async def test_answers_that_a_subscriber_does_not_expect_are_nothing(redis_server: EmbeddedRedis) -> None:
    async with listening(says(b"+OK\r\n:7\r\n$-1\r\n*-1\r\n*0\r\n*1\r\n$7\r\nmessage\r\n*1\r\n*0\r\n")) as port:
        client = new_client(f"redis://127.0.0.1:{port}")
        await client.close()
        async with ear(client, ManualClock()) as ours:
            await until(lambda: ours.bus._connection is not None and ours.bus._connection._heard)
            assert ours.heard == []
            assert not ours.bus.is_subscribed


# Over something else than TCP.


async def test_over_tls_with_the_authority_that_is_trusted(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    ca_file, server_tls = self_signed(tmp_path, "127.0.0.1")
    async with listening(ProxyFactory("127.0.0.1", redis_server.port), server_tls) as port:
        url = f"rediss://:{redis_server.password}@127.0.0.1:{port}/0?ssl_ca_certs={ca_file}"
        async with using(await connected_client(url)) as client, listening_ear(client) as ours:
            assert await kicked(client) == 1
            await until(lambda: bool(ours.heard))


async def test_over_tls_a_server_that_cannot_be_verified_is_told_nothing(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    _, server_tls = self_signed(tmp_path, "127.0.0.1")
    proxy = FlakyProxyFactory(redis_server.port, cuts=1_000_000)
    async with listening(proxy, server_tls) as port:
        client = new_client(f"rediss://:{redis_server.password}@127.0.0.1:{port}/0")
        await client.close()
        with log_line("The node bus at rediss://") as line:
            async with ear(client) as ours:
                assert "ertific" in await line
                assert ours.times == 0
    assert proxy.cut == []


async def test_over_a_socket_on_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with EmbeddedRedis(extra_configuration=[f"unixsocket {path}"]) as server:
        async with (
            using(await connected_client(f"unix://:{server.password}@{path}")) as client,
            listening_ear(client) as ours,
        ):
            assert await kicked(client) == 1
            await until(lambda: bool(ours.heard))


# The end. What every test is checked for: no timer, no line at error level.


async def test_the_end_while_it_waits_for_its_next_attempt(own_server: EmbeddedRedis) -> None:
    client = new_client(own_server.url)
    await client.close()
    own_server.stop()
    with log_line("The node bus at") as line:
        async with ear(client):
            await line
    with logged() as lines:
        await until(lambda: not lines)
    assert lines == []


async def test_the_end_before_it_is_connected(redis_server: EmbeddedRedis) -> None:
    client = new_client(redis_server.url)
    await client.close()
    with logged() as lines:
        async with ear(client) as ours:
            pass
    assert ours.times == 0
    assert not any("node bus" in line for line in lines)


async def test_the_end_while_the_server_is_frozen(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        with logged() as lines:
            async with listening_ear(client):
                os.kill(own_server.pid, signal.SIGSTOP)
            os.kill(own_server.pid, signal.SIGCONT)
    assert not any("The node bus at" in line for line in lines)


async def test_it_can_begin_again(client: RedisClient) -> None:
    ours = Ear(client)
    for times in (1, 2):
        ours.bus.start()
        await until(lambda: ours.bus.is_subscribed)
        assert ours.times == times
        await ours.bus.stop()
    await ours.bus.stop()
