"""The calls, on a server that works."""

from __future__ import annotations

from uuid import uuid4

import pytest
from redis_support import connected_client, new_client, reason_of, using
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.scripts import Script


@pytest.mark.parametrize("value", [b"007", b"1.10", b"12_3", b"+1", b"", b"\xff\x00\r\n", b"QUEUED", "ä".encode()])
async def test_a_value_comes_back_as_it_was_stored(client: RedisClient, value: bytes) -> None:
    assert await client.set("key", value)
    assert await client.get("key") == value
    assert await client.mget(["missing", "key"]) == [None, value]


async def test_missing_values_are_none(client: RedisClient) -> None:
    assert await client.get("missing") is None
    assert await client.delete("missing") == 0


async def test_set_only_if_absent_and_expire(client: RedisClient) -> None:
    assert await client.set("key", b"first", only_if_absent=True, expire=100)
    assert not await client.set("key", b"second", only_if_absent=True, expire=100)
    assert await client.get("key") == b"first"
    left = await client.run(Script("ttl", b"return redis.call('TTL', KEYS[1])"), ["key"], [])
    assert 0 < left <= 100
    assert await client.delete("key", "missing") == 1


async def test_keys_and_channels_have_the_prefix_and_arguments_have_not(
    client: RedisClient, redis_server: EmbeddedRedis
) -> None:
    echo = Script("echo", b"redis.call('SET', KEYS[1], ARGV[1]); return {KEYS[1], ARGV[1], ARGV[2]}")
    assert await client.run(echo, ["key"], ["argument", 7]) == [
        f"{client.prefix}:key".encode(),
        b"argument",
        b"7",
    ]
    assert await client.publish("nobody-listens", b"x") == 0
    async with using(await connected_client(redis_server.url)) as bare:
        assert bare.key("a") == "a"
        assert await bare.get(f"{client.prefix}:key") == b"argument"


async def test_scan_gives_every_key_below_its_beginning_without_the_prefix(redis_server: EmbeddedRedis) -> None:
    # The prefix has every character that means something in a glob.
    async with using(await connected_client(redis_server.url, prefix=f"*?[a-z]^\\{uuid4().hex}")) as client:
        names = {f"things:{number}" for number in range(1200)}
        await gatherResults([Deferred.fromCoroutine(client.set(name, b"")) for name in [*names, "other:1"]])
        pages = [page async for page in client.scan("*", beginning="things:")]
        assert {key for page in pages for key in page} == names
        assert len(pages) > 1
        assert [page async for page in client.scan("12?", beginning="things:") if page] != []


async def test_an_error_of_the_server_is_told_by_its_code_only(client: RedisClient) -> None:
    await client.set("key", b"hunter2")
    wrong = Script("wrong", b"return redis.call('INCR', KEYS[1])")
    error = await reason_of(client.run(wrong, ["key"], ["hunter2"]))
    assert error.reason == "redis_unavailable"
    assert "script wrong" in str(error)
    assert "hunter2" not in str(error)
    assert await client.get("key") == b"hunter2"


async def test_a_script_survives_that_the_server_forgets_it(client: RedisClient) -> None:
    script = Script("one", f"return '{uuid4().hex}'".encode())
    first = await client.run(script, [], [])
    await client.run(Script("flush", b"return redis.call('PING')"), [], [])
    await Deferred.fromCoroutine(client._call("SCRIPT", "FLUSH"))
    assert [await client.run(script, [], []) for _ in range(8)] == [first] * 8


async def test_the_user_and_database_of_the_url_count(client: RedisClient, redis_server: EmbeddedRedis) -> None:
    await client._call("ACL", "SETUSER", "gateway", "on", ">of the/user", "~acl-*", "+@all")
    url = f"redis://gateway:of%20the%2Fuser@127.0.0.1:{redis_server.port}/3"
    async with using(await connected_client(url, prefix=f"acl-{uuid4().hex}")) as user:
        await user.set("key", b"in 3")
        assert await user.get("key") == b"in 3"
        error = await reason_of(user._call("GET", "forbidden"))
        assert "NOPERM" in str(error)
        async with using(await connected_client(redis_server.url, prefix=user.prefix)) as other_database:
            assert await other_database.get("key") is None


async def test_more_calls_than_may_wait_fail_at_once(redis_server: EmbeddedRedis) -> None:
    async with using(await connected_client(redis_server.url, max_pending=5)) as client:
        waiting = [Deferred.fromCoroutine(client.ping()) for _ in range(5)]
        assert client.pending == 5
        assert "too many" in str(await reason_of(client.ping()))
        await gatherResults(waiting)
        assert client.pending == 0
        await client.ping()


async def test_cancelling_a_call_only_stops_the_waiting(client: RedisClient) -> None:
    call = Deferred.fromCoroutine(client.set("key", b"value"))
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    await gatherResults([Deferred.fromCoroutine(client.ping()) for _ in range(8)])
    assert client.pending == 0
    assert await client.get("key") == b"value"


async def test_after_close_calls_fail_at_once(redis_server: EmbeddedRedis) -> None:
    client = await connected_client(redis_server.url)
    waiting = Deferred.fromCoroutine(client.ping())
    await client.close()
    with pytest.raises(StoreUnavailable):
        await waiting
    await reason_of(client.ping())
    assert not client.is_connected
    assert client.pending == 0


async def test_closing_before_there_is_a_connection(redis_server: EmbeddedRedis) -> None:
    client = new_client(redis_server.url)
    await client.close()
    await reason_of(client.ping())


def test_an_unusable_tls_file_is_told_at_once(tmp_path: object) -> None:
    empty = f"{tmp_path}/empty.pem"
    with open(empty, "w"):
        pass
    with pytest.raises(ValueError, match="no certificate"):
        new_client(f"rediss://127.0.0.1?ssl_ca_certs={empty}")
    with pytest.raises(OSError, match="missing"):
        new_client(f"rediss://127.0.0.1?ssl_ca_certs={tmp_path}/missing.pem")
