"""What a handshake's look-up says about its address: bans that hold, attempts that came too often."""

from __future__ import annotations

import random

import pytest

from ocpp_gateway.flood.gcra import Rate, take
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.flooding import ban_key, gcra_arguments, known_pair_key
from ocpp_gateway.redis.identities import ConnectRates, Found, Identities
from ocpp_gateway.redis.scripts import Script

OURS, THEIRS = "192.0.2.1", "192.0.2.2"
RECORD = b"record"
ONCE = Rate(0.01, 1)
"""The next one may come 100 seconds later: more than any test takes."""

MANY = Rate(1000.0, 1000)
PTTL = Script("pttl", b"return redis.call('PTTL', KEYS[1])")
SERVER_TIME = Script("now", b"local t = redis.call('TIME'); return t[1] .. string.format('%06d', t[2])")


async def identities(client: RedisClient, per_address: Rate = MANY, per_charge_point: Rate = MANY) -> Identities:
    """Two charge points that may connect so often."""
    ours = Identities(client, rates=ConnectRates(per_address, per_charge_point))
    await ours.put("CP-001", RECORD)
    await ours.put("CP-002", RECORD)
    return ours


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_ban_of_a_charge_point_holds_for_it_at_that_address_alone(client: RedisClient, is_known: bool) -> None:
    ours = await identities(client)
    await client.set(ban_key(OURS, "CP-001"), b"{}", expire=50)
    if is_known:
        await client.set(known_pair_key(OURS, "CP-001"), b"1")
    banned = await ours.look_up("CP-001", None, OURS)
    assert banned.record is None
    assert 49 < banned.ban_seconds <= 50
    assert banned.wait_seconds == 0
    assert await ours.look_up("CP-001", None, THEIRS) == Found(RECORD, is_revoked=False)
    assert await ours.look_up("CP-002", None, OURS) == Found(RECORD, is_revoked=False)


async def test_a_ban_of_an_address_spares_who_was_let_in_from_there(client: RedisClient) -> None:
    ours = await identities(client)
    await client.set(ban_key(OURS, None), b"{}", expire=50)
    await client.set(known_pair_key(OURS, "CP-001"), b"1")
    assert await ours.look_up("CP-001", None, OURS) == Found(RECORD, is_revoked=False)
    assert 49 < (await ours.look_up("CP-002", None, OURS)).ban_seconds <= 50
    assert await ours.look_up("CP-002", None, THEIRS) == Found(RECORD, is_revoked=False)


async def test_of_two_bans_the_longer_one_that_holds_is_told(client: RedisClient) -> None:
    ours = await identities(client)
    await client.set(ban_key(OURS, "CP-001"), b"{}", expire=50)
    await client.set(ban_key(OURS, None), b"{}", expire=500)
    assert 499 < (await ours.look_up("CP-001", None, OURS)).ban_seconds <= 500
    await client.set(known_pair_key(OURS, "CP-001"), b"1")
    assert 49 < (await ours.look_up("CP-001", None, OURS)).ban_seconds <= 50


async def test_a_ban_without_an_end_holds(client: RedisClient) -> None:
    ours = await identities(client)
    await client.set(ban_key(OURS, None), b"by hand")
    assert (await ours.look_up("CP-001", None, OURS)).ban_seconds > 0


async def test_whoever_only_reads_is_neither_banned_nor_counted(client: RedisClient) -> None:
    ours = await identities(client, ONCE, ONCE)
    await client.set(ban_key(OURS, "CP-001"), b"{}")
    for _ in range(3):
        assert await ours.look_up("CP-001") == Found(RECORD, is_revoked=False)
    assert [key async for page in client.scan("*", beginning="rate:") for key in page] == []


async def test_attempts_of_a_charge_point_at_one_address_are_limited(client: RedisClient) -> None:
    ours = await identities(client, per_charge_point=Rate(0.01, 3))
    for _ in range(3):
        assert await ours.look_up("CP-001", None, OURS) == Found(RECORD, is_revoked=False)
    limited = await ours.look_up("CP-001", None, OURS)
    assert (limited.record, limited.ban_seconds) == (None, 0)
    assert 99 < limited.wait_seconds <= 100
    assert await ours.look_up("CP-002", None, OURS) == Found(RECORD, is_revoked=False)
    assert await ours.look_up("CP-001", None, THEIRS) == Found(RECORD, is_revoked=False)


async def test_attempts_of_an_address_are_limited_whoever_it_says_it_is(client: RedisClient) -> None:
    ours = await identities(client, per_address=Rate(0.01, 2))
    assert await ours.look_up("CP-001", None, OURS) == Found(RECORD, is_revoked=False)
    assert await ours.look_up("CP-002", None, OURS) == Found(RECORD, is_revoked=False)
    assert 99 < (await ours.look_up("CP-003", None, OURS)).wait_seconds <= 100
    assert await ours.look_up("CP-001", None, THEIRS) == Found(RECORD, is_revoked=False)


async def test_an_attempt_that_is_refused_is_not_counted(client: RedisClient) -> None:
    """Neither by what refused it nor by the other limit: who hammers is in again as soon as who waits."""
    ours = await identities(client, per_address=Rate(0.01, 2), per_charge_point=ONCE)
    await ours.look_up("CP-001", None, OURS)
    for _ in range(5):
        assert 99 < (await ours.look_up("CP-001", None, OURS)).wait_seconds <= 100
    await client.set(ban_key(OURS, "CP-001"), b"{}", expire=50)
    await ours.look_up("CP-001", None, OURS)
    assert await ours.look_up("CP-002", None, OURS) == Found(RECORD, is_revoked=False)


async def test_all_nodes_count_together(client: RedisClient) -> None:
    ours, theirs = await identities(client, ONCE), await identities(client, ONCE)
    assert (await ours.look_up("CP-001", None, OURS)).wait_seconds == 0
    assert (await theirs.look_up("CP-002", None, OURS)).wait_seconds > 99


async def test_the_addresses_of_one_host_are_one(client: RedisClient) -> None:
    ours = await identities(client, per_address=ONCE)
    await ours.look_up("CP-001", None, "2001:db8::1")
    assert (await ours.look_up("CP-002", None, "2001:db8::ffff:2")).wait_seconds > 99
    assert (await ours.look_up("CP-002", None, "2001:db8:0:1::1")).wait_seconds == 0
    await ours.look_up("CP-001", None, "::ffff:192.0.2.7")
    assert (await ours.look_up("CP-001", None, "192.0.2.7")).wait_seconds > 99


async def test_a_limit_can_be_off(client: RedisClient) -> None:
    off = Rate(0.0, 0)
    for ours in (await identities(client, off, off), Identities(client)):
        for _ in range(5):
            assert await ours.look_up("CP-001", None, OURS) == Found(RECORD, is_revoked=False)
    assert [key async for page in client.scan("*", beginning="rate:") for key in page] == []


async def test_what_is_counted_lives_as_long_as_it_means_something(client: RedisClient) -> None:
    ours = await identities(client, ONCE, Rate(0.1, 20))
    await ours.look_up("CP-001", None, OURS)
    assert 99_000 < await client.run(PTTL, ["rate:connects:192.0.2.1"], []) <= 100_000
    assert 9_000 < await client.run(PTTL, ["rate:connects:192.0.2.1|CP-001"], []) <= 10_000


@pytest.mark.parametrize("burst", [1, 5])
async def test_a_server_whose_clock_was_set_back_shuts_nobody_out_for_long(client: RedisClient, burst: int) -> None:
    ours = await identities(client, Rate(0.01, burst))
    now = int(await client.run(SERVER_TIME, [], []))
    await client.set("rate:connects:192.0.2.1", str(now + 10**14).encode())
    assert 99 < (await ours.look_up("CP-001", None, OURS)).wait_seconds <= 100


async def test_a_count_that_cannot_be_read_is_none(client: RedisClient) -> None:
    ours = await identities(client, ONCE)
    await client.set("rate:connects:192.0.2.1", b"nonsense")
    assert (await ours.look_up("CP-001", None, OURS)).wait_seconds == 0
    assert (await ours.look_up("CP-001", None, OURS)).wait_seconds > 99


async def test_the_script_counts_as_the_local_limits_do(client: RedisClient) -> None:
    rate = Rate(0.5, 4)
    text = Script.load("admit").text.replace(b"redis.call('TIME')", b"{ARGV[5], ARGV[6]}")
    script = Script("admit at a moment", text)
    dice = random.Random(7)
    now, tat, refused = 1_767_323_045_000_000, 0.0, 0
    for _ in range(300):
        now += dice.choice((0, 10, 999_999, 2_000_000, dice.randrange(5_000_000)))
        tat, wait = take(tat, now / 1e6, rate)
        seconds, microseconds = divmod(now, 1_000_000)
        arguments = [0, 0, *gcra_arguments(rate), seconds, microseconds]
        *_, milliseconds = await client.run(script, ["a", "b", "c", "d", "e", "f"], arguments)
        assert milliseconds / 1000 == pytest.approx(wait, abs=0.002)
        refused += wait > 0
    assert 50 < refused < 250


# An address that stands for anybody: a proxy's that names no client.


async def test_nobody_pays_for_the_others_behind_a_shared_address(client: RedisClient) -> None:
    ours = await identities(client, per_address=ONCE, per_charge_point=Rate(0.01, 3))
    await client.set(ban_key(OURS, None), b"{}", expire=50)
    for _ in range(3):
        for name in ("CP-001", "CP-002"):
            assert await ours.look_up(name, None, OURS, is_shared=True) == Found(RECORD, is_revoked=False)
    assert [key async for page in client.scan("*", beginning="rate:") for key in page if "|" not in key] == []
    assert 99 < (await ours.look_up("CP-001", None, OURS, is_shared=True)).wait_seconds <= 100


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_ban_of_a_charge_point_holds_there_all_the_same(client: RedisClient, is_known: bool) -> None:
    ours = await identities(client)
    await client.set(ban_key(OURS, "CP-001"), b"{}", expire=50)
    await client.set(ban_key(OURS, None), b"{}", expire=500)
    if is_known:
        await client.set(known_pair_key(OURS, "CP-001"), b"1")
    assert 49 < (await ours.look_up("CP-001", None, OURS, is_shared=True)).ban_seconds <= 50
    assert await ours.look_up("CP-002", None, OURS, is_shared=True) == Found(RECORD, is_revoked=False)
