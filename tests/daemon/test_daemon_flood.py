"""Connections and attempts have limits: who is over one is told when to come back, and everybody else is served."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from attrs import frozen
from support.callers import until
from support.certificates import Pki
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.knocking import crowd, is_served, leave, retry_after, statuses, staying, visit
from support.raw_socket import CLOSE, PeerClosed, RawSocket, Response, frame, handshake, metric
from support.stations import basic, provision
from support.tls_socket import TlsSocket
from support.topic_tail import TopicTail

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


_elsewhere = (f"127.4.{middle}.{low}" for middle in range(250) for low in range(1, 250))


@pytest.fixture
def elsewhere() -> str:
    return next(_elsewhere)


def refusals(gateway: Gateway, address: str) -> list[str]:
    """The reasons of the lines about an address."""
    return [line["reason"] for line in gateway.logged("handshake.refused") if line["peer"] == address]


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
    lines = [line for node in nodes for line in node.logged("session.contended")]
    return [line for line in lines if line["charge_point_id"] == charge_point_id]


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

        def guess(_: int) -> Response:
            return visit(gateway.ocpp_port, charge_point_id, WRONG, address=address)

        def lines() -> list[dict[str, Any]]:
            return [line for line in gateway.logged("handshake.refused") if line["peer"] == address]

        guess(0)
        first = gateway.wait_for("handshake.refused", peer=address)
        assert (first["reason"], first["suppressed"]) == ("basic_invalid", 0)
        began = time.monotonic()
        assert statuses(crowd(200, guess)) == {401: 200}
        assert time.monotonic() - began < 3, "this test needs a machine that is not quite so slow"
        assert lines() == [first]
        more = 0

        def again() -> list[dict[str, Any]]:
            nonlocal more
            more += 1
            guess(0)
            return lines()[1:]

        (second,) = until(again, "the next line", seconds=10)
        assert second["suppressed"] == 200 + more - 1
        event = security_events.wait_for(
            lambda event: event["payload"].get("peer") == address and event["payload"]["suppressed"] > 0
        )
        assert event["payload"]["suppressed"] == second["suppressed"]


# Connections.

PER_ADDRESS, OPENING, OF_NODE = 6, 3, 12


@frozen
class Crowded:
    """A gateway with very few places, and its ports."""

    gateway: Gateway
    plain: int
    pki: Pki

    @property
    def tls(self) -> int:
        return self.gateway.ocpp_port

    def is_free(self) -> bool:
        return metric(self.gateway.http_port, "ocpp_sockets") == 0

    def status_over_tls(self, charge_point_id: str, address: str) -> int:
        with TlsSocket(self.tls, self.pki.client(), address=address) as connection:
            status = connection.upgrade(charge_point_id, headers=basic(charge_point_id).items()).status
            leave(connection)
            return status

    def cut_off(self, address: str) -> bytes:
        """All that who begins a TLS handshake gets to see: nothing, if it ends before that."""
        try:
            with RawSocket(self.tls, address=address) as connection:
                connection.send(CLIENT_HELLO)
                return connection.rest()
        except (PeerClosed, ConnectionResetError):
            return b""


CLIENT_HELLO = bytes.fromhex(
    "160301002f0100002b0303" + "5a" * 32 + "000004c02fc02b" + "0000" + "01" + "00"  # the rest would follow
)


@pytest.fixture(scope="module")
def crowded_gateway(redis_url: str, brokers: str, pki: Pki) -> Iterator[Crowded]:
    (plain,) = steady_ports()
    settings = {
        **pki.settings("off"),
        "WEBSOCKET_OCPP_EXTRA_PORTS": f"{plain}=plain",
        "OCPP_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "OCPP_OPENING_PER_ADDRESS": str(OPENING),
        "OCPP_MAX_CONNECTIONS": str(OF_NODE),
        "OCPP_HANDSHAKE_TIMEOUT": "2",
    }
    with Gateway(redis_url, brokers, **settings) as gateway:
        yield Crowded(gateway, plain, pki)


@pytest.fixture
def crowded(crowded_gateway: Crowded) -> Crowded:
    """Nobody of another test is there any more."""
    until(crowded_gateway.is_free, "the connections of the test before to be gone")
    return crowded_gateway


@pytest.fixture
def fleet(redis_url: str, charge_point_id: str) -> list[str]:
    identities = [f"{charge_point_id}-{number}" for number in range(OF_NODE + 2)]
    for each in identities:
        provision(redis_url, each)
    return identities


def refused_for_lack_of_room(answer: Response) -> None:
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
    retry_after(answer)


def test_an_address_has_so_many_connections(
    crowded: Crowded, fleet: list[str], address: str, elsewhere: str
) -> None:
    *inside, late, other = fleet[: PER_ADDRESS + 2]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(staying(crowded.plain, each, address=address)) for each in inside]
        refused_for_lack_of_room(visit(crowded.plain, late, address=address))
        assert crowded.gateway.wait_for("handshake.refused", peer=address)["reason"] == "too_many_connections"
        assert crowded.cut_off(address) == b""
        assert visit(crowded.plain, other, address=elsewhere).status == 101
        assert crowded.status_over_tls(other, elsewhere) == 101
        assert all(map(is_served, connections))
        leave(connections[0])
        until(lambda: visit(crowded.plain, late, address=address).status == 101, "the place of who has left")


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_an_address_has_so_many_connections_that_are_not_done(
    crowded: Crowded, fleet: list[str], kind: str, address: str, elsewhere: str
) -> None:
    port = getattr(crowded, kind)
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(staying(crowded.plain, fleet[0], address=address))
        idle = [stack.enter_context(RawSocket(port, address=address)) for _ in range(OPENING)]
        # Nothing has come over them yet, and they count already.
        refused_for_lack_of_room(visit(crowded.plain, fleet[1], address=address))
        assert crowded.cut_off(address) == b""
        assert visit(crowded.plain, fleet[1], address=elsewhere).status == 101
        assert is_served(live)
        idle[0].close()
        until(lambda: visit(crowded.plain, fleet[1], address=address).status == 101, "the place of who has left")
        answers = [connection.rest() for connection in idle[1:]]  # OCPP_HANDSHAKE_TIMEOUT
        assert all(answer.startswith(b"HTTP/1.1 408 ") if kind == "plain" else not answer for answer in answers)
        assert visit(crowded.plain, fleet[1], address=address).status == 101


def test_the_node_has_so_many_connections(crowded: Crowded, fleet: list[str], redis: redis_py.Redis) -> None:
    def address(number: int) -> str:
        return f"127.5.0.{number + 1}"

    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(staying(crowded.plain, each, address=address(number)))
            for number, each in enumerate(fleet[:OF_NODE])
        ]
        late, stranger = fleet[OF_NODE], "127.5.1.1"
        refused_for_lack_of_room(visit(crowded.plain, late, address=stranger))
        assert crowded.gateway.wait_for("handshake.refused", peer=stranger)["reason"] == "too_many_connections"
        # Over TLS not a byte is answered: what cannot be served must not cost a TLS handshake either.
        labels = {"result": "refused", "reason": "too_many_connections"}
        before = metric(crowded.gateway.http_port, "ocpp_handshakes_total", **labels)
        assert crowded.cut_off("127.5.1.2") == b""
        with pytest.raises(OSError):  # noqa: PT011 - ssl.SSLError or a reset, as it comes
            TlsSocket(crowded.tls, crowded.pki.client(), address="127.5.1.3")
        assert metric(crowded.gateway.http_port, "ocpp_handshakes_total", **labels) == before + 2
        assert all(map(is_served, connections))
        assert metric(crowded.gateway.http_port, "ocpp_sockets", state="open") == OF_NODE
        leave(connections[0])
        until(lambda: visit(crowded.plain, late, address=stranger).status == 101, "the place of who has left")


# The node's budget of handshakes.


def test_handshakes_beyond_the_budget_reach_nobody_behind_the_gateway(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    rate = 10
    comers = [f"{charge_point_id}-{number}" for number in range(80)]
    for each in comers:
        provision(redis_url, each)
    with Gateway(redis_url, brokers, OCPP_HANDSHAKE_RATE=str(rate)) as gateway, redis.monitor() as monitor:
        began = time.monotonic()
        answers = crowd(
            len(comers), lambda number: visit(gateway.ocpp_port, comers[number], address=f"127.6.0.{number + 1}")
        )
        budget = rate + math.ceil((time.monotonic() - began) * rate) + 1
        redis.echo("the end of it")
        seen = until_told(monitor, "the end of it")
        # The longer the line, the later one's turn; all of it is at the pace that the node has.
        accepted = [name for name, answer in zip(comers, answers, strict=True) if answer.status == 101]
        refused = [name for name, answer in zip(comers, answers, strict=True) if answer.status == 503]
        waits = sorted(retry_after(answer) for answer in answers if answer.status == 503)
        lines = [line["reason"] for line in gateway.logged("handshake.refused")]
    assert len(accepted) + len(refused) == len(comers)
    assert rate <= len(accepted) <= budget
    assert set(lines) == {"overloaded"}
    assert 1 <= waits[0] <= 3
    assert len(refused) / rate - 1 <= waits[-1] <= len(refused) / rate * 1.5 + 1
    assert {name for name in comers if mentioned(name, seen)} == set(accepted)


def until_told(monitor: Any, text: str) -> list[str]:
    """Every command that Redis has carried out before the one with ``text``."""
    seen: list[str] = []
    end = threading.Timer(15, monitor.connection.disconnect)
    end.start()
    try:
        while text not in (command := monitor.next_command()["command"]):
            seen.append(command)
    finally:
        end.cancel()
    return seen


def mentioned(charge_point_id: str, commands: list[str]) -> bool:
    exactly = re.compile(re.escape(charge_point_id) + r"(?![-\w])")
    return any(exactly.search(command) for command in commands)
