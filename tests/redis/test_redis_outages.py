"""The calls, on a server that does not answer, answers no, or goes away; and that all of it heals by itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from redis_support import (
    FlakyProxyFactory,
    connected_client,
    connection_change,
    listening,
    log_line,
    logged,
    new_client,
    reason_of,
    says,
    self_signed,
    until,
    using,
)
from twisted.internet.defer import Deferred, DeferredList
from twisted.protocols.portforward import ProxyFactory

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.scripts import Script

ONE = Script("one", b"return 1")


def called(client: RedisClient, times: int) -> DeferredList:
    return DeferredList([Deferred.fromCoroutine(client.ping()) for _ in range(times)], consumeErrors=True)


def outcomes(results: list[tuple[bool, object]]) -> set[object]:
    return {"answered" if succeeded else type(result.value) for succeeded, result in results}  # type: ignore[attr-defined]


async def test_without_a_connection_calls_fail_at_once_and_leave_nothing(own_server: EmbeddedRedis) -> None:
    url = own_server.url
    own_server.stop()
    async with using(new_client(url, timeout=5)) as client:
        before = time.monotonic()
        results = await called(client, 1000)
        assert time.monotonic() - before < 2
        assert outcomes(results) == {StoreUnavailable}
        assert client.pending == 0
        assert not client._pool.connectionQueue.peekers
        assert "no connection" in str(await reason_of(client.when_connected(0.05)))
        back = connection_change(client, True)
        own_server.start()
        await back
        await client.ping()


async def test_a_server_that_is_killed_and_started_again_is_found_again(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        assert [await client.run(ONE, [], []) for _ in range(8)] == [1] * 8
        gone, back = connection_change(client, False), connection_change(client, True)
        with logged() as lines:
            os.kill(own_server.pid, signal.SIGKILL)
            await gone
            assert not client.is_connected
            await reason_of(client.ping())
            own_server.start()
            await back
        # The new server knows no script.
        assert await client.run(ONE, [], []) == 1
        assert any("the connection was lost" in line for line in lines)
        assert any("Connected to Redis" in line for line in lines)
        assert own_server.password not in "".join(lines)


async def test_calls_in_flight_fail_when_the_server_dies(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=60)) as client:
        os.kill(own_server.pid, signal.SIGSTOP)
        waiting = called(client, 20)
        os.kill(own_server.pid, signal.SIGKILL)
        assert outcomes(await waiting) == {StoreUnavailable}
        assert client.pending == 0


async def test_a_frozen_server_costs_each_call_its_timeout_at_most(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            before = time.monotonic()
            waiting = called(client, 500)
            impatient = [Deferred.fromCoroutine(client.ping()) for _ in range(500)]
            for call in impatient:
                call.addErrback(lambda _: None)
                call.cancel()
            assert client.pending == 1000
            results = await waiting
            assert 0.25 < time.monotonic() - before < 2
            assert outcomes(results) == {StoreUnavailable}
            await until(lambda: client.pending == 0 and not client.is_connected)
            assert time.monotonic() - before < 2
            # Cancelled calls neither keep the connection nor anything else.
            assert client.pending == 0
            # New connections are accepted by the kernel, but not taken for usable.
            before = time.monotonic()
            assert outcomes(await called(client, 1000)) == {StoreUnavailable}
            assert time.monotonic() - before < 2
            assert not client.is_connected
            assert client.pending == 0
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        await client.ping()


async def test_only_cancelled_calls_do_not_hide_a_frozen_server(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3, pool_size=1)) as client:
        gone = connection_change(client, False)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            call = Deferred.fromCoroutine(client.ping())
            call.addErrback(lambda _: None)
            call.cancel()
            await gone
            assert client.pending == 0
        finally:
            os.kill(own_server.pid, signal.SIGCONT)


async def test_connections_that_end_during_auth_do_not_end_the_trying(redis_server: EmbeddedRedis) -> None:
    proxy = FlakyProxyFactory(redis_server.port, cuts=6)
    async with listening(proxy) as port:
        url = f"redis://:{redis_server.password}@127.0.0.1:{port}"
        async with using(await connected_client(url, pool_size=2)) as client:
            await client.ping()
        assert len(proxy.cut) == 6
        assert all(b"AUTH" in data for data in proxy.cut)


async def test_a_reply_to_auth_that_does_not_come_does_not_end_the_trying(own_server: EmbeddedRedis) -> None:
    os.kill(own_server.pid, signal.SIGSTOP)
    client = new_client(own_server.url, timeout=0.2)
    try:
        with log_line("was not accepted: no answer") as line:
            await line
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    async with using(client):
        await client.when_connected(10)
        await client.ping()


async def test_a_wrong_password_is_told_without_it_and_heals_when_it_becomes_right(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as admin:
        with logged() as lines:
            wrong = own_server.url.replace(own_server.password, "hunter2")
            async with using(new_client(wrong)) as client:
                with log_line("was not accepted: WRONGPASS") as line:
                    await line
                assert "no connection" in str(await reason_of(client.ping()))
                await admin._call("ACL", "SETUSER", "default", ">hunter2")
                await client.when_connected(10)
                await client.ping()
        assert "hunter2" not in "".join(lines)


async def test_a_missing_password_is_told(redis_server: EmbeddedRedis) -> None:
    async with using(new_client(f"redis://127.0.0.1:{redis_server.port}")) as client:
        with log_line("was not usable: NOAUTH") as line:
            await line
        await reason_of(client.ping())
        assert not client.is_connected


async def test_a_server_that_may_not_be_written_to_is_left_for_another(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, pool_size=1)) as client:
        await client._call("REPLICAOF", "127.0.0.1", "1")
        gone, back = connection_change(client, False), connection_change(client, True)
        assert "READONLY" in str(await reason_of(client.set("key", b"value")))
        await gone
        await back
        await client._call("REPLICAOF", "NO", "ONE")
        assert await client.set("key", b"value")


async def test_a_server_that_is_not_redis(redis_server: EmbeddedRedis) -> None:
    async with (
        listening(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port,
        using(new_client(f"redis://:x@127.0.0.1:{port}")) as client,
    ):
        with log_line("does not speak the Redis protocol") as line:
            await line
        await reason_of(client.ping())


async def test_troubles_are_told_once_not_at_every_attempt(redis_server: EmbeddedRedis) -> None:
    proxy = FlakyProxyFactory(redis_server.port, cuts=8)
    with logged() as lines:
        async with listening(proxy) as port:
            url = f"redis://:{redis_server.password}@127.0.0.1:{port}"
            async with using(await connected_client(url, pool_size=4)):
                pass
    assert len([line for line in lines if "was not accepted" in line]) == 1


async def test_rediss_with_the_authority_that_is_trusted(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    ca_file, server_tls = self_signed(tmp_path, "127.0.0.1")
    async with listening(ProxyFactory("127.0.0.1", redis_server.port), server_tls) as port:
        url = f"rediss://:{redis_server.password}@127.0.0.1:{port}/0?ssl_ca_certs={ca_file}"
        async with using(await connected_client(url)) as client:
            await client.ping()


async def test_rediss_with_a_certificate_of_our_own(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    ca_file, server_tls = self_signed(tmp_path, "127.0.0.1", demands_certificate=True)
    async with listening(ProxyFactory("127.0.0.1", redis_server.port), server_tls) as port:
        url = f"rediss://:{redis_server.password}@127.0.0.1:{port}/0?ssl_ca_certs={ca_file}"
        async with using(new_client(url)) as client:
            with log_line("Redis at rediss://") as refused:
                await refused
            await reason_of(client.ping())
        ours = f"&ssl_certfile={ca_file}&ssl_keyfile={tmp_path / 'key.pem'}"
        async with using(await connected_client(url + ours)) as client:
            await client.ping()


@pytest.mark.parametrize(
    ("address", "trusted"), [("127.0.0.1", False), ("127.0.0.2", True)], ids=["unknown authority", "other address"]
)
async def test_rediss_talks_to_no_server_that_it_cannot_verify(
    redis_server: EmbeddedRedis, tmp_path: Path, address: str, trusted: bool
) -> None:
    ca_file, server_tls = self_signed(tmp_path, address)
    proxy = FlakyProxyFactory(redis_server.port)
    received: list[bytes] = []
    proxy.was_cut = received.append  # type: ignore[method-assign]
    proxy.cuts = 1_000_000
    async with listening(proxy, server_tls) as port:
        trust = f"?ssl_ca_certs={ca_file}" if trusted else ""
        async with using(new_client(f"rediss://:{redis_server.password}@127.0.0.1:{port}/0{trust}")) as client:
            with (
                log_line("Redis at rediss://127.0.0.1") as first,
                log_line("ertific" if not trusted else "erif") as line,
            ):
                await first
                await line
            await reason_of(client.ping())
    assert received == []
