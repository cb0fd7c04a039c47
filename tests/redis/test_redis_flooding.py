"""Failed authentications that all nodes count together, and the bans that come of them."""

from __future__ import annotations

import json
from typing import Any

import attrs
from redis_support import connected_client, reason_of, using
from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.clock import iso_millis
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.flooding import Ban, BanRules, FloodStore
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.scripts import Script

OURS, THEIRS = "192.0.2.1", "192.0.2.2"
RULES = BanRules(failures=3, address_failures=100, window_seconds=600, first_seconds=60.0, longest_seconds=200.0)
PTTL = Script("pttl", b"return redis.call('PTTL', KEYS[1])")
SHORTEN = Script("shorten", b"return redis.call('PEXPIRE', KEYS[1], 5000)")


def store(client: RedisClient, **rules: Any) -> FloodStore:
    return FloodStore(client, attrs.evolve(RULES, **rules))


async def fail(ours: FloodStore, times: int, address: str = OURS, charge_point_id: str | None = "CP-001") -> Ban | None:
    """What the last of so many failures gives; those before it give nothing."""
    for _ in range(times - 1):
        assert await ours.failed(address, charge_point_id, "basic_invalid") is None
    return await ours.failed(address, charge_point_id, "token_invalid")


async def listed(ours: FloodStore) -> set[tuple[str, str | None]]:
    return {(ban.address, ban.charge_point_id) async for ban in ours.bans()}


async def test_one_failure_too_many_is_a_ban(client: RedisClient) -> None:
    ours = store(client)
    ban = await fail(ours, 3)
    assert ban is not None
    assert (ban.address, ban.charge_point_id, ban.reason, ban.count) == (OURS, "CP-001", "token_invalid", 3)
    assert ban.until_ms - ban.banned_at_ms == 60_000
    assert ban.seconds == 60
    assert [other async for other in ours.bans()] == [ban]
    raw = await client.get("bans:192.0.2.1|CP-001")
    assert raw is not None
    assert json.loads(raw) == {
        "address": "192.0.2.1",
        "chargePointId": "CP-001",
        "reason": "token_invalid",
        "count": 3,
        "bannedAt": iso_millis((ban.banned_at_ms + 0.5) / 1000),
        "until": iso_millis((ban.until_ms + 0.5) / 1000),
    }
    assert 59_000 < await client.run(PTTL, ["bans:192.0.2.1|CP-001"], []) <= 60_000
    assert 59 < (await Identities(client).look_up("CP-001", None, OURS)).ban_seconds <= 60


async def test_the_dates_of_a_ban_are_those_of_the_calendar(client: RedisClient) -> None:
    dating = Script.load("fail").text.split(b"\nlocal time = ")[0] + b"\nreturn date(tonumber(ARGV[1]))"
    script = Script("date", dating)
    days = [*range(0, 40_000, 97), *range(11_014, 11_018), *range(20_511, 20_515), 19_782, 19_783, 47_540, 47_541]
    for number, day in enumerate(days):
        moment = day * 86_400_000 + number * 6_000_123 % 86_400_000
        assert (await client.run(script, [], [moment])).decode() == iso_millis((moment + 0.5) / 1000)


async def test_a_ban_begins_now(client: RedisClient) -> None:
    ban = await fail(store(client), 3)
    assert ban is not None
    seconds, _ = await client.run(Script("time", b"return redis.call('TIME')"), [], [])
    assert int(seconds) - 10 < ban.banned_at_ms / 1000 < int(seconds) + 1


async def test_failures_elsewhere_and_of_others_do_not_count(client: RedisClient) -> None:
    """An outsider cannot lock a charge point out of its own address."""
    ours = store(client)
    assert await fail(ours, 2) is None
    assert await fail(ours, 2, THEIRS) is None
    assert await fail(ours, 2, OURS, "CP-002") is None
    assert await listed(ours) == set()
    assert await fail(ours, 1) is not None
    assert await listed(ours) == {(OURS, "CP-001")}


async def test_failures_of_all_nodes_count_together(client: RedisClient) -> None:
    ours, theirs = store(client), store(client)
    assert await fail(ours, 2) is None
    assert await fail(theirs, 1) is not None


async def test_failures_are_counted_in_a_fixed_window(client: RedisClient) -> None:
    ours = store(client)
    await fail(ours, 1)
    key = "rate:failures:192.0.2.1|CP-001"
    assert 599_000 < await client.run(PTTL, [key], []) <= 600_000
    await client.run(SHORTEN, [key], [])
    await fail(ours, 1)
    assert await client.run(PTTL, [key], []) <= 5_000
    await client.delete(key)  # as at its end
    assert await fail(ours, 2) is None


async def test_each_ban_is_twice_as_long_up_to_the_longest(client: RedisClient) -> None:
    ours = store(client)
    lengths = []
    for _ in range(4):
        ban = await fail(ours, 3)
        assert ban is not None
        lengths.append(ban.seconds)
        await client.delete("bans:192.0.2.1|CP-001")  # as at its end
    assert lengths == [60, 120, 200, 200]
    remembered = await client.run(PTTL, ["rate:bans:192.0.2.1|CP-001"], [])
    assert 86_400_000 + 190_000 < remembered <= 86_400_000 + 200_000
    await client.delete("rate:bans:192.0.2.1|CP-001")
    ban = await fail(ours, 3)
    assert ban is not None
    assert ban.seconds == 60


async def test_what_fails_during_a_ban_is_not_counted(client: RedisClient) -> None:
    """Handshakes that were under way when it began."""
    ours = store(client)
    ban = await fail(ours, 3)
    assert await fail(ours, 20) is None
    assert [other async for other in ours.bans()] == [ban]
    await client.delete("bans:192.0.2.1|CP-001")
    assert await fail(ours, 2) is None


async def test_many_charge_points_of_an_address_ban_it(client: RedisClient) -> None:
    ours = store(client, address_failures=5)
    for number in range(4):
        assert await fail(ours, 1, OURS, f"CP-{number:03d}") is None
    ban = await fail(ours, 1, OURS, "CP-004")
    assert ban is not None
    assert (ban.address, ban.charge_point_id, ban.count) == (OURS, None, 5)
    assert b"chargePointId" not in (await client.get("bans:192.0.2.1") or b"")
    assert (await Identities(client).look_up("CP-999", None, OURS)).ban_seconds > 0
    # The pair's own failures still count: it may be one that the other ban does not hold for.
    assert await fail(ours, 2, OURS, "CP-004") is not None
    assert await listed(ours) == {(OURS, None), (OURS, "CP-004")}


async def test_where_both_are_banned_the_address_is_told(client: RedisClient) -> None:
    ours = store(client, address_failures=3)
    ban = await fail(ours, 3)
    assert ban is not None
    assert ban.charge_point_id is None
    assert await listed(ours) == {(OURS, None), (OURS, "CP-001")}


async def test_a_scan_counts_for_the_address_alone(client: RedisClient) -> None:
    ours = store(client, failures=1, address_failures=3)
    assert await fail(ours, 3, OURS, None) is not None
    assert await listed(ours) == {(OURS, None)}
    assert [key async for page in client.scan("*", beginning="rate:failures:192.0.2.1|") for key in page] == []


async def test_bans_can_be_off(client: RedisClient) -> None:
    ours = store(client, failures=0, address_failures=0)
    assert await fail(ours, 20) is None
    assert await listed(ours) == set()


async def test_the_addresses_of_one_host_are_banned_together(client: RedisClient) -> None:
    ours = store(client)
    assert await fail(ours, 2, "2001:db8::1") is None
    ban = await fail(ours, 1, "2001:db8::2")
    assert ban is not None
    assert (await Identities(client).look_up("CP-001", None, "2001:db8::3")).ban_seconds > 0
    assert (await Identities(client).look_up("CP-001", None, "2001:db8:0:1::3")).ban_seconds == 0
    assert await ours.lift("2001:db8::4", "CP-001") == 1
    # As the list shows it.
    assert await fail(ours, 3, "2001:db8::1") is not None
    assert await ours.lift(ban.address, "CP-001") == 1


async def test_an_identity_can_have_any_characters(client: RedisClient) -> None:
    ours = store(client)
    odd = 'CP|"\\*?[\u00e4]'
    ban = await fail(ours, 3, OURS, odd)
    assert ban is not None
    assert ban.charge_point_id == odd
    assert await listed(ours) == {(OURS, odd)}
    assert (await Identities(client).look_up(odd, None, OURS)).ban_seconds > 0
    assert await ours.lift(OURS) == 1


async def test_all_bans_are_listed_once_and_what_is_none_is_left_out(client: RedisClient) -> None:
    ours = store(client, failures=1, address_failures=0)
    names = {f"CP-{number:04d}" for number in range(1200)}
    await gatherResults([Deferred.fromCoroutine(fail(ours, 1, OURS, name)) for name in names])
    for number, raw in enumerate((b"", b"[]", b"{}", b'{"address":1}', b"by hand")):
        await client.set(f"bans:192.0.2.{number + 10}", raw)
    found = [ban async for ban in ours.bans()]
    assert len(found) == 1200
    assert {ban.charge_point_id for ban in found} == names


async def test_lifting_one_ban_leaves_the_others(client: RedisClient) -> None:
    ours = store(client, address_failures=4)
    await fail(ours, 3)
    await fail(ours, 1, OURS, "CP-002")
    await fail(ours, 3, THEIRS)
    assert await listed(ours) == {(OURS, "CP-001"), (OURS, None), (THEIRS, "CP-001")}
    assert await ours.lift(OURS, "CP-001") == 1
    assert await listed(ours) == {(OURS, None), (THEIRS, "CP-001")}
    assert await ours.lift(OURS, "CP-001") == 0


async def test_lifting_those_of_an_address_forgets_what_led_to_them(client: RedisClient) -> None:
    ours = store(client, address_failures=4)
    await fail(ours, 3)
    await fail(ours, 1, OURS, "CP-002")
    await fail(ours, 3, "192.0.2.10")
    assert await ours.lift(OURS) == 2
    assert await listed(ours) == {("192.0.2.10", "CP-001")}
    assert (await Identities(client).look_up("CP-001", None, OURS)).ban_seconds == 0
    left = [key async for page in client.scan("*") for key in page if OURS in key.replace("192.0.2.10", "")]
    assert left == []
    again = await fail(ours, 3)
    assert again is not None
    assert again.seconds == 60
    assert await ours.lift("203.0.113.1") == 0


async def test_without_redis_nothing_is_counted_and_that_is_said(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        own_server.stop()
        ours = store(client)
        await reason_of(ours.failed(OURS, "CP-001", "basic_invalid"))
        await reason_of(ours.lift(OURS))


async def test_a_shared_address_is_not_to_blame(client: RedisClient) -> None:
    ours = store(client, address_failures=2)
    for _ in range(2):
        assert await ours.failed(OURS, "CP-001", "basic_invalid", is_shared=True) is None
    ban = await ours.failed(OURS, "CP-001", "basic_invalid", is_shared=True)
    assert ban is not None
    assert (ban.address, ban.charge_point_id, ban.count) == (OURS, "CP-001", 3)
    assert await listed(ours) == {(OURS, "CP-001")}
    assert await client.get(f"rate:failures:{OURS}") is None
    assert await fail(ours, 1, charge_point_id="CP-002") is None, "it is the first one of the address"
