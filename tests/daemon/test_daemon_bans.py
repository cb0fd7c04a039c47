"""Who guesses is kept out, on every node, for longer each time; and nobody else is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from cli.cli_runner import run
from support.callers import until
from support.gateway import Gateway
from support.knocking import (
    ELSEWHERE,
    HURRY,
    crowd,
    is_served,
    lines,
    nobody_is_left,
    retry_after,
    statuses,
    staying,
    visit,
)
from support.raw_socket import RawSocket, Response, handshake, metric
from support.stations import PASSWORD, auth_rules, provision, station
from support.topic_tail import TopicTail

FAILURES, OF_ADDRESS = 5, 40
BAN = 60.0
WRONG = "a guess of 20 letters"

Nodes = tuple[Gateway, Gateway]


@pytest.fixture(scope="module")
def nodes(redis_url: str, brokers: str) -> Iterator[Nodes]:
    settings = {
        "OCPP_BAN_FAILURES": str(FAILURES),
        "OCPP_BAN_ADDRESS_FAILURES": str(OF_ADDRESS),
        "OCPP_BAN_SECONDS": str(BAN),
    }
    with Gateway(redis_url, brokers, **settings) as one, Gateway(redis_url, brokers, **settings) as other:
        yield one, other
        for gateway in (one, other):
            nobody_is_left(gateway)


@pytest.fixture
def elsewhere() -> str:
    return next(ELSEWHERE)


def guesses_until_banned(gateway: Gateway, charge_point_id: str, address: str) -> int:
    """How many wrong passwords were looked at, one after the other, before the door was shut."""
    for number in range(FAILURES + 5):
        answer = visit(gateway.ocpp_port, charge_point_id, WRONG, address=address)
        if answer.status == 429:
            return number
        assert answer.status == 401
    raise AssertionError("it was never banned")


def bans_of(gateway: Gateway, address: str) -> list[dict[str, Any]]:
    return lines(gateway, "flood.banned", peer=address)


def test_a_guesser_at_full_speed_is_stopped_and_nobody_else_feels_it(
    nodes: Nodes,
    redis_url: str,
    charge_point_id: str,
    address: str,
    elsewhere: str,
    security_events: TopicTail,
) -> None:
    gateway, _ = nodes
    bystander = f"{charge_point_id}-good"
    provision(redis_url, bystander)
    before = metric(gateway.http_port, "ocpp_bans_total", scope="charge_point")

    def guess(_: int) -> Response:
        return visit(gateway.ocpp_port, charge_point_id, WRONG, address=address)

    async def meanwhile() -> tuple[list[Response], int]:
        loop = asyncio.get_running_loop()
        heartbeats = 0
        async with station(gateway.url(f"/ocpp/{bystander}"), bystander, "1.6", local_addr=(elsewhere, 0)) as good:
            flood: Future[list[Response]] | Any = loop.run_in_executor(None, crowd, 2000, guess)
            while not flood.done():
                # The charge point that the guesser is after, where it is at home.
                same = await asyncio.to_thread(visit, gateway.ocpp_port, charge_point_id, address=elsewhere)
                assert same.status == 101
                assert (await asyncio.wait_for(good.call(heartbeat()), 5)).current_time
                heartbeats += 1
            return await flood, heartbeats

    answers, heartbeats = asyncio.run(asyncio.wait_for(meanwhile(), 30))
    assert heartbeats >= 3
    counts = statuses(answers)
    assert set(counts) == {401, 429}
    # Those that were on their way when the ban began were still looked at, and no others.
    assert FAILURES <= counts[401] <= FAILURES + HURRY
    for answer in answers:
        if answer.status == 429:
            assert retry_after(answer) <= BAN * 1.5 + 1
            assert (answer.phrase, answer.body) == ("Too Many Requests", b"Too Many Requests")
    assert visit(gateway.ocpp_port, charge_point_id, PASSWORD, address=address).status == 429

    (banned,) = until(lambda: bans_of(gateway, address), "the ban's line")
    facts = {
        "peer": address,
        "scope": "charge_point",
        "reason": "basic_invalid",
        "failures": FAILURES,
        "seconds": BAN,
    }
    assert facts.items() <= banned.items()
    assert (banned["level"], banned["charge_point_id"]) == ("warn", charge_point_id)
    event = security_events.wait_for(
        lambda event: event["eventType"] == "FloodBanned" and event["payload"]["peer"] == address
    )
    assert (event["chargePointId"], event["payload"]) == (charge_point_id, facts)
    assert metric(gateway.http_port, "ocpp_bans_total", scope="charge_point") == before + 1
    # 2000 attempts are one line for each reason.
    told = lines(gateway, "handshake.refused", peer=address)
    assert sorted(line["reason"] for line in told) == ["banned", "basic_invalid"]


def heartbeat() -> Any:
    import ocpp.v16.call

    return ocpp.v16.call.Heartbeat()


def test_who_is_banned_costs_no_hash(nodes: Nodes, redis_url: str, charge_point_id: str, address: str) -> None:
    gateway, _ = nodes
    digest = hashlib.scrypt(PASSWORD.encode(), salt=b"saltsalt", n=16384, r=8, p=1, dklen=32).hex()
    slow = {"hashAlgorithm": "scrypt", "secretHash": digest}
    provision(redis_url, charge_point_id, auth={**auth_rules("basic"), **slow})
    began = cpu_seconds(gateway.pid)
    looked_at = guesses_until_banned(gateway, charge_point_id, address)
    of_a_hash = (cpu_seconds(gateway.pid) - began) / (looked_at + 1)
    began = cpu_seconds(gateway.pid)
    for number in range(100):
        # The right password says nothing any more, either: no guess is worth its while.
        password = PASSWORD if number % 2 else WRONG
        assert visit(gateway.ocpp_port, charge_point_id, password, address=address).status == 429
    assert cpu_seconds(gateway.pid) - began < 20 * of_a_hash


def cpu_seconds(pid: int) -> float:
    """What a process has used, all its threads (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_each_ban_is_longer_up_to_the_longest(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str, address: str
) -> None:
    settings = {"OCPP_BAN_FAILURES": "5", "OCPP_BAN_SECONDS": "1", "OCPP_BAN_MAX_SECONDS": "3"}
    key = f"bans:{address}|{charge_point_id}"
    with Gateway(redis_url, brokers, **settings) as gateway:
        for number, seconds in enumerate((1.0, 2.0, 3.0, 3.0), 1):
            # One more can be on its way while the ban is written.
            assert FAILURES <= guesses_until_banned(gateway, charge_point_id, address) <= FAILURES + 1
            began = time.monotonic()
            line = until(lambda number=number: bans_of(gateway, address)[number - 1 : number], f"ban {number}")[0]
            assert line["seconds"] == seconds
            answer = visit(gateway.ocpp_port, charge_point_id, address=address)
            assert answer.status == 429
            assert retry_after(answer) <= seconds * 1.5 + 1
            until(lambda: not redis.exists(key), "the end of the ban", seconds=seconds + 2)
            assert seconds - 0.5 < time.monotonic() - began < seconds + 1.5
            # It ended by itself; being let in makes the next one no shorter.
            assert visit(gateway.ocpp_port, charge_point_id, address=address).status == 101
        assert len(bans_of(gateway, address)) == 4


def test_a_banned_address_shuts_out_newcomers_and_nobody_else(
    nodes: Nodes,
    redis_url: str,
    charge_point_id: str,
    address: str,
    elsewhere: str,
    security_events: TopicTail,
) -> None:
    gateway, other = nodes
    newcomer, connected = f"{charge_point_id}-new", f"{charge_point_id}-on"
    for each in (newcomer, connected):
        provision(redis_url, each)
    assert visit(gateway.ocpp_port, charge_point_id, address=address).status == 101
    with staying(gateway.ocpp_port, connected, address=address) as live:

        def guess(number: int) -> Response:
            # Identities that nobody has, and those of others: neither is banned for it itself.
            victim = f"{charge_point_id}-{number}"
            if number % 2:
                provision(redis_url, victim)
            return visit(gateway.ocpp_port, victim, WRONG, address=address)

        counts = statuses(crowd(150, guess))
        assert set(counts) == {401, 404, 429}
        assert OF_ADDRESS <= counts[401] + counts[404] <= OF_ADDRESS + HURRY

        assert is_served(live)
        for node in nodes:
            assert visit(node.ocpp_port, charge_point_id, address=address).status == 101
            assert visit(node.ocpp_port, newcomer, address=address).status == 429
            assert visit(node.ocpp_port, newcomer, address=elsewhere).status == 101
    (banned,) = until(lambda: bans_of(gateway, address), "the ban's line")
    assert (banned["scope"], banned["failures"], banned["charge_point_id"]) == ("address", OF_ADDRESS, None)
    event = security_events.wait_for(
        lambda event: event["eventType"] == "FloodBanned" and event["payload"]["peer"] == address
    )
    assert "chargePointId" not in event
    assert event["payload"]["scope"] == "address"
    # Known good is the charge point at this address only: it can still be banned itself.
    guesses_until_banned(gateway, charge_point_id, address)
    assert visit(other.ocpp_port, charge_point_id, address=address).status == 429
    assert visit(other.ocpp_port, charge_point_id, address=elsewhere).status == 101


def test_a_scanner_shuts_out_newcomers_too(
    nodes: Nodes, redis_url: str, charge_point_id: str, address: str, elsewhere: str
) -> None:
    gateway, other = nodes
    newcomer = f"{charge_point_id}-new"
    provision(redis_url, newcomer)
    assert visit(gateway.ocpp_port, charge_point_id, address=address).status == 101
    for number in range(OF_ADDRESS):
        with RawSocket((gateway.ocpp_port, other.http_port)[number % 2], address=address) as connection:
            connection.send(handshake(f"/wp-admin/{number}.php"))
            assert connection.response().status == 404
    until(lambda: visit(other.ocpp_port, newcomer, address=address).status == 429, "the ban")
    assert visit(other.ocpp_port, charge_point_id, address=address).status == 101
    assert visit(other.ocpp_port, newcomer, address=elsewhere).status == 101
    (banned,) = bans_of(gateway, address) + bans_of(other, address)
    assert (banned["scope"], banned["reason"]) == ("address", "suspicious_path")


def test_failures_on_all_nodes_count_together_and_a_lift_holds_on_all(
    nodes: Nodes, redis_url: str, charge_point_id: str, address: str
) -> None:
    place = {"REDIS_URL": redis_url}
    for number in range(FAILURES):
        assert visit(nodes[number % 2].ocpp_port, charge_point_id, WRONG, address=address).status == 401
    until(lambda: bans_of(nodes[0], address) + bans_of(nodes[1], address), "the ban")
    for node in nodes:
        assert visit(node.ocpp_port, charge_point_id, address=address).status == 429

    listed = run("ban", "list", "--json", **place)
    (told,) = [ban for ban in map(json.loads, listed.stdout.splitlines()) if ban["address"] == address]
    since, end = told.pop("bannedAt"), told.pop("until")
    assert since < end
    assert told == {
        "address": address,
        "chargePointId": charge_point_id,
        "reason": "basic_invalid",
        "count": FAILURES,
    }
    table = run("ban", "list", **place, COLUMNS="200").stdout
    assert address in table
    assert charge_point_id in table

    lifted = run("ban", "lift", address, "--charge-point", charge_point_id, **place)
    assert (lifted.returncode, lifted.stdout) == (0, f"{charge_point_id} at {address} no longer banned\n")
    for node in nodes:
        assert visit(node.ocpp_port, charge_point_id, address=address).status == 101
    # What led to it is forgotten: the next ban takes as many failures, and is a first one.
    assert guesses_until_banned(nodes[1], charge_point_id, address) >= FAILURES
    assert until(lambda: bans_of(nodes[1], address), "the second ban")[-1]["seconds"] == BAN


def test_lifting_an_address_lifts_all_that_is_banned_there(
    nodes: Nodes, redis_url: str, charge_point_id: str, address: str
) -> None:
    gateway, other = nodes
    newcomer = f"{charge_point_id}-new"
    provision(redis_url, newcomer)
    guesses_until_banned(gateway, charge_point_id, address)
    crowd(OF_ADDRESS + 20, lambda number: visit(gateway.ocpp_port, f"CP-none-{number}", WRONG, address=address))
    assert visit(other.ocpp_port, newcomer, address=address).status == 429
    of_one = run("ban", "lift", address, "--charge-point", charge_point_id, REDIS_URL=redis_url)
    assert "The address as a whole is banned still" in of_one.stderr
    assert visit(other.ocpp_port, charge_point_id, address=address).status == 429
    guesses = [visit(gateway.ocpp_port, charge_point_id, WRONG, address=address) for _ in range(FAILURES)]
    assert statuses(guesses) == {429: FAILURES}
    lifted = run("ban", "lift", address, REDIS_URL=redis_url)
    assert (lifted.returncode, lifted.stdout) == (0, f"{address} no longer banned\n")
    for each in (charge_point_id, newcomer):
        for node in nodes:
            assert visit(node.ocpp_port, each, address=address).status == 101
    assert run("ban", "lift", address, REDIS_URL=redis_url).stdout == f"{address} was not banned\n"


def test_a_credential_that_is_missing_is_no_guess(
    nodes: Nodes, redis: redis_py.Redis, charge_point_id: str, address: str
) -> None:
    gateway, _ = nodes
    answers = crowd(OF_ADDRESS + 20, lambda _: visit(gateway.ocpp_port, charge_point_id, None, address=address))
    assert statuses(answers) == {401: OF_ADDRESS + 20}
    assert visit(gateway.ocpp_port, charge_point_id, address=address).status == 101
    known = f"known-pairs:{address}|{charge_point_id}".encode()
    assert [*redis.keys(f"*:{address}"), *redis.keys(f"*:{address}|*")] == [known]
    assert bans_of(gateway, address) == []


def test_sessions_go_on_while_their_charge_point_is_banned(nodes: Nodes, charge_point_id: str, address: str) -> None:
    gateway, _ = nodes
    with staying(gateway.ocpp_port, charge_point_id, address=address) as live:
        guesses_until_banned(gateway, charge_point_id, address)
        assert is_served(live)
