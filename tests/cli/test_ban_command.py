"""``ocpp-gateway ban`` against bans that the gateway's own store made in a real Redis."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_twisted
from attrs import define
from cli.audit_events import audit_events
from cli.cli_runner import run
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.flooding import Ban, BanRules, FloodStore
from ocpp_gateway.redis.url import RedisUrl

GUESSER, CARRIER = "192.0.2.66", "198.51.100.1"
IPV6, SITE = "2001:db8:0:7::1:2", "2001:db8:0:7::/64"


@define(eq=False)
class Floods:
    """What nodes keep about floods, and the command that shows it."""

    store: FloodStore
    place: dict[str, str]

    async def ban(self, address: str, charge_point_id: str | None, reason: str = "password_wrong") -> Ban:
        ban = await self.store.failed(address, charge_point_id, reason)
        assert ban is not None
        return ban

    async def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return await deferToThread(run, "ban", *arguments, **self.place, **environ)

    async def left(self) -> set[tuple[str, str | None]]:
        return {(ban.address, ban.charge_point_id) async for ban in self.store.bans()}


@pytest_twisted.async_yield_fixture
async def floods(place: dict[str, str]) -> AsyncIterator[Floods]:
    """Where one failure bans a charge point at an address, and three ban the address."""
    client = RedisClient.connect(RedisUrl.parse(place["REDIS_URL"]), reactor=reactor, prefix=place["REDIS_PREFIX"])
    await client.when_connected(10)
    rules = BanRules(failures=1, address_failures=3, window_seconds=60, first_seconds=600.0, longest_seconds=3600.0)
    yield Floods(FloodStore(client, rules), place)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_nobody_is_banned(floods: Floods) -> None:
    done = await floods.run("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Nobody is banned.\n")
    scripted = await floods.run("list", "--json")
    assert (scripted.returncode, scripted.stdout, scripted.stderr) == (0, "", "")


@pytest_twisted.ensureDeferred
async def test_bans_are_listed(floods: Floods) -> None:
    pair = await floods.ban(GUESSER, "CP-1")
    await floods.ban(IPV6, "CP-\x1b[2J[red]2")
    for name in ("CP-1", "CP-2", "CP-3"):
        address = await floods.ban(CARRIER, name, "unknown_identity")
    assert address.charge_point_id is None

    done = await floods.run("list")
    assert done.returncode == 0 and done.stderr == "6 bans\n"
    assert "\x1b" not in done.stdout and "[red]2" in done.stdout
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "address charge point reason failures since ends in"
    (shown,) = (line for line in lines if line.startswith(f"{GUESSER} "))
    assert shown.startswith(f"{GUESSER} CP-1 password_wrong 1 ") and shown.endswith(("s ago 9m", "s ago 10m"))
    assert any(line.startswith(f"{CARRIER} all not let in before unknown_identity 3 ") for line in lines)
    assert any(line.startswith(f"{SITE} ") for line in lines)

    listed = await floods.run("list", "--json")
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(row["address"], row.get("chargePointId")) for row in rows] == [
        (GUESSER, "CP-1"),
        (CARRIER, None),
        *((CARRIER, name) for name in ("CP-1", "CP-2", "CP-3")),
        (SITE, "CP-\x1b[2J[red]2"),
    ]
    (row,) = (row for row in rows if row["address"] == GUESSER)
    assert {name: row[name] for name in ("reason", "count")} == {"reason": "password_wrong", "count": 1}
    assert milliseconds(row["bannedAt"]) == pair.banned_at_ms
    assert milliseconds(row["until"]) == pair.until_ms == pair.banned_at_ms + 600_000
    assert abs(time.time() * 1000 - pair.banned_at_ms) < 60_000


def milliseconds(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


@pytest_twisted.ensureDeferred
async def test_all_bans_at_an_address_are_lifted(floods: Floods, kafka: str) -> None:
    for name in ("CP-1", "CP-2", "CP-3"):
        await floods.ban(CARRIER, name)
    await floods.ban(GUESSER, "CP-1")
    done = await floods.run("lift", CARRIER, "--reason", "our installer", KAFKA_BROKERS=kafka)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CARRIER} no longer banned (4 bans)\n", "")
    assert await floods.left() == {(GUESSER, "CP-1")}
    again = await floods.run("lift", CARRIER, KAFKA_BROKERS=kafka)
    assert (again.returncode, again.stdout) == (0, f"{CARRIER} was not banned\n")

    lone = await floods.run("lift", GUESSER, "--charge-point", "CP-1", KAFKA_BROKERS=kafka)
    assert (lone.returncode, lone.stdout, lone.stderr) == (0, f"CP-1 at {GUESSER} no longer banned\n", "")
    assert await floods.left() == set()
    # Their keys differ, so they may lie in two partitions.
    every, one = sorted(await deferToThread(audit_events, kafka, 2), key=lambda event: "chargePointId" in event)
    assert every["eventType"] == one["eventType"] == "ChargerBanLifted"
    assert "chargePointId" not in every and one["chargePointId"] == "CP-1"
    assert every["payload"].items() >= {"address": CARRIER, "bans": 4, "reason": "our installer"}.items()
    assert one["payload"].items() >= {"address": GUESSER, "bans": 1, "chargePointId": "CP-1"}.items()


@pytest_twisted.ensureDeferred
async def test_one_of_several_is_lifted_and_the_rest_is_pointed_out(floods: Floods) -> None:
    for name in ("CP-1", "CP-2", "CP-3"):
        await floods.ban(CARRIER, name)
    done = await floods.run("lift", CARRIER, "--charge-point", "CP-1")
    assert (done.returncode, done.stdout) == (0, f"CP-1 at {CARRIER} no longer banned\n")
    assert done.stderr == f"The address as a whole is banned still: ban lift {CARRIER}\n"
    assert await floods.left() == {(CARRIER, None), (CARRIER, "CP-2"), (CARRIER, "CP-3")}

    await floods.ban(GUESSER, "CP-1")
    other = await floods.run("lift", GUESSER, "--charge-point", "CP-2")
    assert (other.returncode, other.stdout) == (0, f"CP-2 at {GUESSER} was not banned\n")
    assert "Other charge points are banned there" in other.stderr


@pytest.mark.parametrize("named", [IPV6, SITE, "2001:DB8:0:7:ffff::"])
@pytest_twisted.ensureDeferred
async def test_an_ipv6_network_is_lifted_by_its_name_or_any_address_in_it(floods: Floods, named: str) -> None:
    await floods.ban(IPV6, "CP-1")
    done = await floods.run("lift", named)
    assert (done.returncode, done.stdout) == (0, f"{SITE} no longer banned\n")
    assert await floods.left() == set()


@pytest_twisted.ensureDeferred
async def test_what_is_no_address_is_said_to_be_none(floods: Floods) -> None:
    await floods.ban(GUESSER, "CP-1")
    done = await floods.run("lift", "192.0.2.666")
    assert done.returncode == 1 and done.stdout == ""
    assert "192.0.2.666 is no IP address" in done.stderr and "'ban list'" in done.stderr
    assert await floods.left() == {(GUESSER, "CP-1")}
