"""Behind a trusted proxy it is the client that is limited and banned, by either way to tell who that is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
import redis as redis_py
from attrs import define
from cli.cli_runner import run
from support.callers import until
from support.doors import CLIENTS, PROXIES, TRUSTED
from support.gateway import Gateway
from support.knocking import crowd, is_served, leave, nobody_is_left, retry_after, statuses, staying, visit
from support.proxy_headers import LOCAL, v1, v2, v2_raw
from support.raw_socket import RawSocket, Response, handshake
from support.stations import PASSWORD, provision

FAILURES, OF_ADDRESS = 5, 20
BURST = 10
PER_ADDRESS, OPENING = 6, 3
WRONG = "a guess of 20 letters"


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """PROXY headers on the OCPP port, X-Forwarded-For on the HTTP port."""
    settings = {
        "OCPP_TRUSTED_PROXIES": TRUSTED,
        "OCPP_PROXY_PROTOCOL": "true",
        "OCPP_BAN_FAILURES": str(FAILURES),
        "OCPP_BAN_ADDRESS_FAILURES": str(OF_ADDRESS),
        "OCPP_CONNECT_RATE_PER_ADDRESS": "0.5",
        "OCPP_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "OCPP_OPENING_PER_ADDRESS": str(OPENING),
    }
    with Gateway(redis_url, brokers, **settings) as running:
        yield running
        nobody_is_left(running)


@define(eq=False)
class Proxy:
    """A trusted one, which tells of its clients in one way or the other."""

    gateway: Gateway
    kind: str
    address: str

    @property
    def port(self) -> int:
        return self.gateway.http_port if self.kind == "X-Forwarded-For" else self.gateway.ocpp_port

    def told(self, client: str | None) -> tuple[list[tuple[str, str]], bytes]:
        """Header fields and first bytes that tell of ``client``; None: of nobody."""
        if self.kind == "X-Forwarded-For":
            return [] if client is None else [("X-Forwarded-For", client)], b""
        if client is None:
            return [], b"PROXY UNKNOWN\r\n" if self.kind == "PROXY 1" else v2_raw(LOCAL, 0, b"")
        return [], v1(client) if self.kind == "PROXY 1" else v2(client)

    def visit(self, client: str | None, charge_point_id: str, password: str = PASSWORD) -> Response:
        headers, first = self.told(client)
        return visit(self.port, charge_point_id, password, address=self.address, headers=headers, first=first)

    def staying(self, client: str, charge_point_id: str) -> contextlib.AbstractContextManager[RawSocket]:
        headers, first = self.told(client)
        return staying(self.port, charge_point_id, address=self.address, headers=headers, first=first)


@pytest.fixture(params=["X-Forwarded-For", "PROXY 1", "PROXY 2"])
def proxy(request: pytest.FixtureRequest, gateway: Gateway) -> Proxy:
    return Proxy(gateway, request.param, next(PROXIES))


@pytest.fixture
def client() -> str:
    """An address that only this test speaks of."""
    return next(CLIENTS)


@pytest.fixture
def neighbour() -> str:
    """Another one."""
    return next(CLIENTS)


def test_the_client_is_banned(
    proxy: Proxy, redis: redis_py.Redis, redis_url: str, charge_point_id: str, client: str, neighbour: str
) -> None:
    guesses = [proxy.visit(client, charge_point_id, WRONG) for _ in range(FAILURES)]
    assert statuses(guesses) == {401: FAILURES}
    banned = until(lambda: proxy.visit(client, charge_point_id).status == 429, "the ban")
    assert banned
    assert proxy.visit(neighbour, charge_point_id).status == 101
    line = proxy.gateway.wait_for("flood.banned", peer=client)
    assert line["charge_point_id"] == charge_point_id
    listed = map(json.loads, run("ban", "list", "--json", REDIS_URL=redis_url).stdout.splitlines())
    assert {ban["address"] for ban in listed if ban.get("chargePointId") == charge_point_id} == {client}
    assert not redis.keys(f"*{proxy.address}|{charge_point_id}")


def test_attempts_are_the_clients(proxy: Proxy, charge_point_id: str, client: str) -> None:
    answers = [proxy.visit(client, f"{charge_point_id}-{number}") for number in range(BURST + 10)]
    allowed = statuses(answers)[404]
    assert statuses(answers) == {404: allowed, 429: len(answers) - allowed}
    assert BURST <= allowed < BURST + 5
    assert all(retry_after(answer) for answer in answers if answer.status == 429)
    assert proxy.gateway.wait_for("handshake.refused", peer=client, reason="rate_limited")
    # A hundred others, each seldom, over the same proxy and at once.
    others = [next(CLIENTS) for _ in range(100)]
    answers = crowd(len(others), lambda number: proxy.visit(others[number], f"{charge_point_id}-{number}"))
    assert statuses(answers) == {404: len(others)}


def test_clients_of_one_ipv6_network_are_one(proxy: Proxy, charge_point_id: str, client: str) -> None:
    site = f"2001:db8:{client.split('.')[2]}:{client.split('.')[3]}"
    answers = [proxy.visit(f"{site}::{number + 1:x}", f"{charge_point_id}-{number}") for number in range(BURST + 10)]
    allowed = statuses(answers)[404]
    assert BURST <= allowed < BURST + 5
    assert statuses(answers)[429] == len(answers) - allowed
    assert proxy.visit(site.replace("db8", "db9") + "::1", charge_point_id).status == 101


def test_connections_are_the_clients(
    proxy: Proxy, redis_url: str, charge_point_id: str, client: str, neighbour: str
) -> None:
    fleet = [f"{charge_point_id}-{number}" for number in range(PER_ADDRESS + 1)]
    for each in fleet:
        provision(redis_url, each)
    *inside, late = fleet
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(proxy.staying(client, each)) for each in inside]
        refused = proxy.visit(client, late)
        assert refused.status == 503
        retry_after(refused)
        assert proxy.gateway.wait_for("handshake.refused", peer=client)["reason"] == "too_many_connections"
        assert proxy.visit(neighbour, late).status == 101
        # Whose connections have not said yet whose they are: they are the proxy's, and it may have any number.
        for _ in range(10 * OPENING):
            stack.enter_context(RawSocket(proxy.port, address=proxy.address))
        assert proxy.visit(neighbour, late).status == 101
        assert all(map(is_served, connections))
        leave(connections[0])
        until(lambda: proxy.visit(client, late).status == 101, "the place of who has left", seconds=5)


def test_a_proxy_that_names_no_client_is_not_limited(proxy: Proxy, charge_point_id: str) -> None:
    answers = crowd(BURST * 4, lambda number: proxy.visit(None, f"{charge_point_id}-{number}"))
    assert statuses(answers) == {404: BURST * 4}
    assert proxy.visit(None, charge_point_id).status == 101


def test_a_proxy_that_names_no_client_is_not_banned(proxy: Proxy, redis_url: str, charge_point_id: str) -> None:
    newcomer = f"{charge_point_id}-new"
    provision(redis_url, newcomer)
    # One charge point is guessed at; and names that there may be are tried.
    assert statuses(proxy.visit(None, charge_point_id, WRONG) for _ in range(FAILURES)) == {401: FAILURES}
    crowd(OF_ADDRESS + 20, lambda number: proxy.visit(None, f"{charge_point_id}-{number}"))
    assert proxy.visit(None, charge_point_id).status == 429
    assert proxy.visit(None, newcomer).status == 101


def test_a_scanner_behind_a_proxy_is_the_client(proxy: Proxy, redis: redis_py.Redis, client: str) -> None:
    headers, first = proxy.told(client)
    with RawSocket(proxy.port, address=proxy.address) as connection:
        connection.send(first + handshake("/wp-login.php", headers=headers))
        assert connection.response().status == 404
    line = proxy.gateway.wait_for("handshake.refused", reason="suspicious_path", peer=client, seconds=5)
    assert line["suspicion"] == "wordpress"
    until(lambda: redis.exists(f"rate:failures:{client}"), "its failure to be counted", seconds=5)
    assert not redis.exists(f"rate:failures:{proxy.address}")
