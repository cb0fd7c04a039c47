from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.identities import Identities
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
