from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.identities import ConnectRates, Found, Identities
from ocpp_gateway.redis.scripts import Script


async def test_a_record_is_written_read_and_removed(client: RedisClient) -> None:
    identities = Identities(client)
    assert await identities.get("CP-001") is None
    assert await identities.put("CP-001", b'{"a":1}')
    assert await client.get("chargers:CP-001") == b'{"a":1}'
    assert await identities.get("CP-001") == b'{"a":1}'
    assert not await identities.put("CP-001", b"{}", only_if_absent=True)
    assert await identities.get("CP-001") == b'{"a":1}'
    assert await identities.delete("CP-001")
    assert not await identities.delete("CP-001")
    assert await identities.put("CP-001", b"{}", only_if_absent=True)


async def test_another_prefix(client: RedisClient) -> None:
    await Identities(client, "fleet").put("CP-001", b"{}")
    assert await client.get("fleet:CP-001") == b"{}"
    assert await Identities(client).get("CP-001") is None


async def test_a_change_is_refused_where_somebody_else_was_quicker(client: RedisClient) -> None:
    identities = Identities(client)
    assert not await identities.replace("CP-001", b"", b"new")
    await identities.put("CP-001", b"old")
    assert await identities.replace("CP-001", b"old", b"new")
    assert not await identities.replace("CP-001", b"old", b"newer")
    assert await identities.get("CP-001") == b"new"


async def test_a_change_keeps_a_lifetime_that_somebody_set(client: RedisClient) -> None:
    await client.set("chargers:CP-001", b"old", expire=100)
    assert await Identities(client).replace("CP-001", b"old", b"new")
    assert await client.run(Script("ttl", b"return redis.call('TTL', KEYS[1])"), ["chargers:CP-001"], []) > 0


async def test_scan_gives_each_identity_once(client: RedisClient) -> None:
    identities = Identities(client)
    names = {f"CP-{number:04d}": str(number).encode() for number in range(1500)}
    await gatherResults([Deferred.fromCoroutine(identities.put(name, value)) for name, value in names.items()])
    await client.set("sessions:CP-0001", b"{}")
    found = [pair async for pair in identities.scan()]
    assert len(found) == 1500
    assert dict(found) == names
    assert {name async for name, _ in identities.scan("CP-000?")} == {f"CP-000{digit}" for digit in range(10)}
    assert [pair async for pair in identities.scan("nobody*")] == []


async def commands(client: RedisClient) -> dict[str, int]:
    """How often each command was run on the server."""
    text: bytes = await client.run(Script("stats", b"return redis.call('INFO', 'commandstats')"), [], [])
    rows = (line.split(":") for line in text.decode().splitlines() if line.startswith("cmdstat_"))
    return {name.removeprefix("cmdstat_"): int(facts.split(",")[0].removeprefix("calls=")) for name, facts in rows}


async def asked(client: RedisClient, question: Coroutine[Any, Any, Any]) -> tuple[Any, dict[str, int]]:
    """What ``question`` gives, and the commands that it took, those in its scripts included."""
    await commands(client)  # now the server has its script
    before = await commands(client)
    answer = await question
    after = await commands(client)
    told = {name: count - before.get(name, 0) for name, count in after.items()}
    told["evalsha"] -= 1  # that of the first look at the counters
    return answer, {name: count for name, count in told.items() if count and name != "info"}


async def test_a_look_up_is_one_trip(client: RedisClient) -> None:
    identities = Identities(client)
    await identities.put("CP-001", b"record")
    await identities.revoke("AB12")
    found, trips = await asked(client, identities.look_up("CP-001", "AB12"))
    assert found == Found(b"record", is_revoked=True)
    assert trips == {"mget": 1}
    assert await identities.look_up("CP-001", "CD34") == Found(b"record", is_revoked=False)
    assert await identities.look_up("CP-001") == Found(b"record", is_revoked=False)
    assert await identities.look_up("CP-002", "AB12") == Found(None, is_revoked=True)


async def test_the_look_up_of_a_handshake_is_one_trip_too(client: RedisClient) -> None:
    identities = Identities(client, rates=ConnectRates(Rate(50.0, 1000), Rate(0.5, 20)))
    await identities.put("CP-001", b"record")
    await identities.revoke("AB12")
    await identities.look_up("CP-001", "AB12", "192.0.2.1")  # now the server has the script
    found, trips = await asked(client, identities.look_up("CP-001", "AB12", "192.0.2.1"))
    assert found == Found(b"record", is_revoked=True)
    assert trips == {"evalsha": 1, "mget": 1, "time": 1, "set": 2}
    assert await identities.look_up("CP-001", "CD34", "192.0.2.1") == Found(b"record", is_revoked=False)
    assert await identities.look_up("CP-001", None, "192.0.2.1") == Found(b"record", is_revoked=False)
    assert await identities.look_up("CP-002", "AB12", "192.0.2.1") == Found(None, is_revoked=True)


async def test_many_are_looked_up_in_one_trip_too(client: RedisClient) -> None:
    identities = Identities(client)
    await identities.start()
    await identities.put("CP-001", b"one")
    await identities.put("CP-003", b"three")
    await identities.revoke("CC")
    wanted = [("CP-001", None), ("CP-002", "BB"), ("CP-003", "CC"), ("CP-001", "AA")]
    (store_id, found), trips = await asked(client, identities.look_up_all(wanted))
    assert trips == {"mget": 1}
    assert store_id == identities.store_id
    assert found == [
        Found(b"one", is_revoked=False),
        Found(None, is_revoked=False),
        Found(b"three", is_revoked=True),
        Found(b"one", is_revoked=False),
    ]
    assert await identities.look_up_all([]) == (store_id, [])


async def test_revocations_are_the_contracts_and_can_be_taken_back(client: RedisClient) -> None:
    identities = Identities(client, revoked_prefix="out")
    await identities.revoke("AA")
    await identities.revoke("BB", expire=100)
    assert await client.get("out:AA") == b"1"
    ttl = Script("ttl", b"return redis.call('TTL', KEYS[1])")
    assert await client.run(ttl, ["out:AA"], []) == -1
    assert 0 < await client.run(ttl, ["out:BB"], []) <= 100
    assert {fingerprint async for fingerprint in identities.revoked()} == {"AA", "BB"}
    assert await identities.unrevoke("AA")
    assert not await identities.unrevoke("AA")
    assert [fingerprint async for fingerprint in identities.revoked()] == ["BB"]
    await Identities(client).revoke("CC")
    assert await client.get("revoked-certs:CC") == b"1"


async def test_all_nodes_know_the_store_by_the_same_id(client: RedisClient) -> None:
    ours, theirs = Identities(client), Identities(client)
    assert ours.store_id is None
    await gatherResults([Deferred.fromCoroutine(each.start()) for each in (ours, theirs)])
    assert ours.store_id is not None
    assert ours.store_id == theirs.store_id == await client.get("store-id")
    later = Identities(client)
    await later.start()
    assert later.store_id == ours.store_id


async def test_a_store_that_lost_its_data_has_another_id(client: RedisClient) -> None:
    ours, theirs = Identities(client), Identities(client)
    await ours.start()
    before = ours.store_id
    await client.delete("store-id")
    (after, _), (again, _) = await ours.look_up_all([]), await theirs.look_up_all([])
    assert after is not None
    assert after != before
    assert after == again == ours.store_id == theirs.store_id


async def test_a_removed_charge_point_leaves_no_security_profile(client: RedisClient) -> None:
    """Whoever has the identity next may be another device, with another profile."""
    identities = Identities(client)
    await identities.put("CP-001", b"{}")
    await client.set("security-profiles:CP-001", b"3")
    assert await identities.delete("CP-001")
    assert await client.get("security-profiles:CP-001") is None
    await client.set("security-profiles:CP-001", b"3")
    assert not await identities.delete("CP-001")
    assert await client.get("security-profiles:CP-001") is None
