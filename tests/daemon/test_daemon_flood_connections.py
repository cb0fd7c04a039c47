"""Connections have places, handshakes a budget: who finds none is sent away, and costs next to nothing."""

from __future__ import annotations

import contextlib
import math
import re
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis as redis_py
from attrs import frozen
from support.callers import until
from support.certificates import Pki
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.knocking import ELSEWHERE, crowd, is_served, leave, nobody_is_left, retry_after, staying, visit
from support.raw_socket import PeerClosed, RawSocket, Response, handshake, http_get, metric
from support.stations import basic, provision
from support.tls_socket import TlsSocket

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

    def opening(self) -> int:
        return int(metric(self.gateway.http_port, "ocpp_sockets", state="opening"))

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
        nobody_is_left(gateway)


@pytest.fixture
def crowded(crowded_gateway: Crowded) -> Crowded:
    """Nobody of another test is there any more."""
    until(crowded_gateway.is_free, "the connections of the test before to be gone")
    return crowded_gateway


@pytest.fixture
def elsewhere() -> str:
    return next(ELSEWHERE)


@pytest.fixture
def fleet(redis_url: str, charge_point_id: str) -> list[str]:
    identities = [f"{charge_point_id}-{number}" for number in range(OF_NODE + 2)]
    for each in identities:
        provision(redis_url, each)
    return identities


def refused_for_lack_of_room(answer: Response) -> None:
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
    retry_after(answer)


def test_an_address_has_so_many_connections(crowded: Crowded, fleet: list[str], address: str, elsewhere: str) -> None:
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
        until(lambda: crowded.opening() == OPENING, "all of them to be accepted")
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
        with pytest.raises(OSError):
            TlsSocket(crowded.tls, crowded.pki.client(), address="127.5.1.3")
        assert metric(crowded.gateway.http_port, "ocpp_handshakes_total", **labels) == before + 2
        assert all(map(is_served, connections))
        assert metric(crowded.gateway.http_port, "ocpp_sockets", state="open") == OF_NODE
        leave(connections[0])
        until(lambda: visit(crowded.plain, late, address=stranger).status == 101, "the place of who has left")


def test_without_a_limit_of_their_own_there_are_as_many_as_open_files_have_room_for(
    redis_url: str, brokers: str, charge_point_id: str
) -> None:
    with contextlib.ExitStack() as running:
        with open_files(400):  # of which 200 are kept for everything else
            gateway = running.enter_context(Gateway(redis_url, brokers, OCPP_OPENING_PER_ADDRESS="0"))
        with contextlib.ExitStack() as stack:
            for number in range(200):
                stack.enter_context(RawSocket(gateway.ocpp_port, address=f"127.5.3.{number % 50 + 1}"))
            for number in range(300):  # more than there would be files for
                late = stack.enter_context(RawSocket(gateway.ocpp_port, address=f"127.5.4.{number % 50 + 1}"))
                refused_for_lack_of_room(late.response())
            assert metric(gateway.http_port, "ocpp_sockets", state="opening") == 200
            assert http_get(gateway.http_port, "/ready").status == 200
        nobody_is_left(gateway)
        assert visit(gateway.ocpp_port, charge_point_id, address="127.5.3.1").status == 101


@contextlib.contextmanager
def open_files(number: int) -> Iterator[None]:
    """Who is started inside may open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield


def test_who_goes_at_once_leaves_no_place_taken(crowded: Crowded, fleet: list[str]) -> None:
    request = handshake(f"/ocpp/{fleet[0]}", headers=basic(fleet[0]).items())

    def come_and_go(number: int) -> None:
        port = crowded.tls if number % 2 else crowded.plain
        with contextlib.suppress(PeerClosed, ConnectionResetError):
            connection = RawSocket(port, address=f"127.5.2.{number % 8 + 1}")
            # Nothing, half of a request, all of it: over TLS that is what TLS cannot begin with.
            connection.send(request[: len(request) * (number % 3) // 2])
            connection.reset()

    with ThreadPoolExecutor(4) as hands:
        assert len(list(hands.map(come_and_go, range(300)))) == 300
    nobody_is_left(crowded.gateway)
    assert visit(crowded.plain, fleet[1], address="127.5.2.1").status == 101


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
