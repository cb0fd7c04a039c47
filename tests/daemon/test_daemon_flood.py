"""Connections and attempts have limits: who is over one is told when to come back, and everybody else is served."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from support.callers import until
from support.gateway import NO_LIMITS, Gateway
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
from support.raw_socket import CLOSE, RawSocket, Response
from support.stations import provision
from support.topic_tail import TopicTail

from ocpp_gateway.settings import Settings

WRONG = "a guess of 20 letters"

ADDRESS_RATE, ADDRESS_BURST = 2.0, 40
PAIR_BURST = 20
RECONNECT_BURST = 10

Nodes = tuple[Gateway, Gateway]


@pytest.fixture(scope="module")
def nodes(redis_url: str, brokers: str) -> Iterator[Nodes]:
    """Bursts of each rate that are over soon, and long waits behind them."""
    settings = {
        "OCPP_CONNECT_RATE_PER_ADDRESS": str(ADDRESS_RATE),
        "OCPP_CONNECT_RATE_PER_CHARGE_POINT": "0.05",
        "OCPP_RECONNECTS_PER_MINUTE": "1",
    }
    with Gateway(redis_url, brokers, **settings) as one, Gateway(redis_url, brokers, **settings) as other:
        yield one, other
        for gateway in (one, other):
            nobody_is_left(gateway)


@pytest.fixture
def elsewhere() -> str:
    return next(ELSEWHERE)


def refusals(gateway: Gateway, address: str) -> list[str]:
    """The reasons of the lines about an address."""
    return [line["reason"] for line in lines(gateway, "handshake.refused", peer=address)]


# Attempts.


def test_attempts_of_an_address_are_limited_on_all_nodes(
    nodes: Nodes, charge_point_id: str, address: str, elsewhere: str
) -> None:
    one, other = nodes
    began = time.monotonic()
    answers = crowd(
        ADDRESS_BURST + 60, lambda number: visit(one.ocpp_port, f"{charge_point_id}-{number}", address=address)
    )
    allowed = statuses(answers)[404]
    assert statuses(answers) == {404: allowed, 429: len(answers) - allowed}
    assert ADDRESS_BURST <= allowed <= ADDRESS_BURST + math.ceil((time.monotonic() - began) * ADDRESS_RATE) + 1
    assert all(retry_after(answer) for answer in answers if answer.status == 429)
    assert sorted(refusals(one, address)) == ["identity_missing", "rate_limited"]
    assert visit(one.http_port, charge_point_id, address=address).status == 429, "the bench's port is no way around"
    # The other node has not seen anybody of that address, and still knows.
    tried = [visit(other.ocpp_port, f"{charge_point_id}-x{number}", address=address) for number in range(10)]
    assert statuses(tried)[429] >= 5
    for gateway in nodes:
        assert visit(gateway.ocpp_port, charge_point_id, address=elsewhere).status == 101


def test_attempts_of_a_charge_point_at_an_address_are_limited(
    nodes: Nodes, redis_url: str, charge_point_id: str, address: str, elsewhere: str
) -> None:
    one, other = nodes
    neighbour = f"{charge_point_id}-too"
    provision(redis_url, neighbour)
    answers = crowd(30, lambda _: visit(one.ocpp_port, charge_point_id, WRONG, address=address))
    assert statuses(answers) == {401: PAIR_BURST, 429: 10}
    for answer in answers:
        if answer.status == 429:
            assert 10 <= retry_after(answer) <= 30, "one in 20 seconds, and up to a half more"
    for gateway in nodes:
        assert visit(gateway.ocpp_port, charge_point_id, address=address).status == 429
        assert visit(gateway.ocpp_port, charge_point_id, address=elsewhere).status == 101
        assert visit(gateway.ocpp_port, neighbour, address=address).status == 101
    assert refusals(other, address) == ["rate_limited"]


# Sessions of one charge point.


def test_a_charge_point_that_is_let_in_too_often_has_to_wait_wherever_it_is(
    nodes: Nodes, redis_url: str, charge_point_id: str, address: str, elsewhere: str
) -> None:
    one, other = nodes
    neighbour = f"{charge_point_id}-too"
    provision(redis_url, neighbour)
    for number in range(RECONNECT_BURST):
        assert visit(nodes[number % 2].ocpp_port, charge_point_id, address=address).status == 101
        until(lambda number=number: closed(nodes, charge_point_id) == number + 1, "the end of the session")
    for gateway, origin in ((one, address), (other, address), (other, elsewhere)):
        answer = visit(gateway.ocpp_port, charge_point_id, address=origin)
        assert answer.status == 429
        assert 50 <= retry_after(answer) <= 90
    assert refusals(other, elsewhere) == ["reconnect_limited"]
    assert visit(one.ocpp_port, neighbour, address=address).status == 101
    # It always went before it came: there is only one of it.
    assert contended(nodes, charge_point_id) == []


def closed(nodes: Nodes, charge_point_id: str) -> int:
    return sum(line["charge_point_id"] == charge_point_id for node in nodes for line in node.logged("session.closed"))


def contended(nodes: Nodes, charge_point_id: str) -> list[dict[str, Any]]:
    return [line for node in nodes for line in lines(node, "session.contended", charge_point_id=charge_point_id)]


@pytest.mark.parametrize(("second", "code"), [(0, 1008), (1, 1012)], ids=["one node", "two nodes"])
def test_two_with_one_identity_throw_each_other_out_only_so_often(
    nodes: Nodes,
    second: int,
    code: int,
    charge_point_id: str,
    address: str,
    elsewhere: str,
    security_events: TopicTail,
) -> None:
    homes = [(nodes[0], address), (nodes[second], elsewhere)]
    with contextlib.ExitStack() as stack:
        last: RawSocket | None = None
        for number in range(RECONNECT_BURST):
            gateway, origin = homes[number % 2]
            new = stack.enter_context(staying(gateway.ocpp_port, charge_point_id, address=origin))
            if last is not None:
                thrown_out = last.frame()
                assert (thrown_out.opcode, thrown_out.close_code) == (CLOSE, code)
            last = new
        assert last is not None
        for number in range(RECONNECT_BURST, RECONNECT_BURST + 4):
            gateway, origin = homes[number % 2]
            answer = visit(gateway.ocpp_port, charge_point_id, address=origin)
            assert answer.status == 429
            assert retry_after(answer) >= 50
        assert is_served(last), "who has it keeps it"
    gateway, origin = homes[RECONNECT_BURST % 2]
    line = gateway.wait_for("session.contended", charge_point_id=charge_point_id)
    assert (line["level"], line["peer"], line["suppressed"]) == ("warn", origin, 0)
    assert len(contended(nodes, charge_point_id)) == len({gateway.http_port for gateway, _ in homes})
    event = security_events.wait_for(
        lambda event: event["eventType"] == "SessionContended" and event.get("chargePointId") == charge_point_id
    )
    assert event["payload"] == {"peer": origin, "suppressed": 0}
    assert (event["stationId"], event["tenantId"]) == (f"station-{charge_point_id}", "tenant-1")


def test_wrong_passwords_use_up_none_of_a_charge_points_sessions(
    nodes: Nodes, charge_point_id: str, address: str, elsewhere: str
) -> None:
    one, _ = nodes
    guesses = crowd(ADDRESS_BURST, lambda _: visit(one.ocpp_port, charge_point_id, WRONG, address=elsewhere))
    assert statuses(guesses) == {401: PAIR_BURST, 429: ADDRESS_BURST - PAIR_BURST}
    for _ in range(RECONNECT_BURST):
        assert visit(one.ocpp_port, charge_point_id, address=address).status == 101


# Log lines.


def test_a_flood_is_a_line_and_the_next_one_counts_what_came_meanwhile(
    redis_url: str, brokers: str, charge_point_id: str, address: str, security_events: TopicTail
) -> None:
    with Gateway(redis_url, brokers, FLOOD_LOG_COOLDOWN="3") as gateway:

        def guess(number: int) -> Response:
            return visit(gateway.ocpp_port, f"{charge_point_id}-{number}", address=address)

        guess(0)
        first = gateway.wait_for("handshake.refused", peer=address)
        assert (first["reason"], first["suppressed"]) == ("identity_missing", 0)
        assert statuses(crowd(200, lambda number: guess(1 + number))) == {404: 200}
        numbers = itertools.count(201)

        def another() -> list[dict[str, Any]]:
            guess(next(numbers))
            return [line for line in gateway.logged("handshake.refused") if line["peer"] == address][1:]

        second, *_ = until(another, "the next line", seconds=10)
        assert second["reason"] == "identity_missing"
        # It says whom it is about, so it is known how many were before it.
        assert second["suppressed"] == int(second["charge_point_id"].rpartition("-")[2]) - 1
        event = security_events.wait_for(
            lambda event: event["payload"].get("peer") == address and event["payload"]["suppressed"] > 0
        )
        assert event["payload"]["suppressed"] == second["suppressed"]


# All limits together, as they come.


def test_with_all_limits_as_they_come_a_flood_from_one_address_gets_nowhere(
    redis_url: str, brokers: str, charge_point_id: str, address: str, elsewhere: str
) -> None:
    fields = attrs.fields_dict(Settings)
    defaults = {name: str(fields[name.lower()].default) for name in NO_LIMITS}
    victims = [f"{charge_point_id}-{number}" for number in range(50)]
    for each in victims:
        provision(redis_url, each)
    with (
        Gateway(redis_url, brokers, **defaults) as gateway,
        staying(gateway.ocpp_port, charge_point_id, address=elsewhere) as bystander,
    ):

        def guess(number: int) -> Response:
            return visit(gateway.ocpp_port, victims[number % len(victims)], WRONG, address=address)

        with ThreadPoolExecutor(1) as elsewhere_meanwhile:
            flood = elsewhere_meanwhile.submit(crowd, 3000, guess)
            slowest, heartbeats = 0.0, 0
            while not flood.done():
                began = time.monotonic()
                assert is_served(bystander)
                slowest, heartbeats = max(slowest, time.monotonic() - began), heartbeats + 1
            counts = statuses(flood.result())
        assert slowest < 2
        assert heartbeats >= 10
        # Ten of each of 50, or 200 of the address: what is first; 1,000 attempts at once. And 500 handshakes a second.
        assert set(counts) <= {401, 429, 503}
        assert counts[401] <= 200 + HURRY
        assert counts[429] >= 3000 - 1500
        told = lines(gateway, "handshake.refused", peer=address)
        assert len({line["reason"] for line in told}) == len(told) <= 5
        for victim in victims[:10]:
            assert visit(gateway.ocpp_port, victim, address=elsewhere).status == 101
            assert visit(gateway.ocpp_port, victim, address=address).status == 429
