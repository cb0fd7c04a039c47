"""The HTTP port's paths for operators, on a real Site over loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from support.raw_socket import PeerClosed, RawSocket
from support.told_log import failures, told
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ops.http import site
from ocpp_gateway.ops.operators import OperatorPorts

TOKEN = "sesame"
SESSIONS = [
    {"chargePointId": "CP-1", "nodeId": "node-a", "tenantId": "acme", "calls": 3},
    {"chargePointId": "CP-2", "nodeId": "node-a", "tenantId": "other"},
]
PATHS = [("GET", "/sessions"), ("DELETE", "/sessions/CP-1"), ("GET", "/nodes")]


@define(eq=False)
class Gateway:
    """What a node would do, and what it was asked."""

    sessions: Iterable[Mapping[str, Any]] = field(factory=lambda: list(SESSIONS))
    connected: set[str] = field(factory=lambda: {"CP-1", "CP/ä"})
    is_store_away: bool = False
    is_broken: bool = False
    never_kicks: bool = False
    kicked: list[str] = field(factory=list)
    kick_cancelled: Deferred[None] = field(factory=Deferred)
    scans: list[str] = field(factory=list)

    async def kick(self, charge_point_id: str, /) -> bool:
        self._look()
        self.kicked.append(charge_point_id)
        if self.never_kicks:
            await Deferred(lambda _: self.kick_cancelled.callback(None))
        return charge_point_id in self.connected

    async def nodes(self) -> list[dict[str, Any]]:
        self._look()
        return [{"nodeId": "node-a", "state": "alive"}, {"nodeId": "node-b", "state": "gone"}]

    async def problems(self) -> list[str]:
        return []

    def _look(self) -> None:
        if self.is_store_away:
            raise StoreUnavailable("Redis at redis://secret")
        if self.is_broken:
            raise ValueError("a bug, secret")


@define(eq=False)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


@asynccontextmanager
async def served(gateway: Gateway, token: str = TOKEN) -> AsyncIterator[int]:
    factory = site(
        token=token,
        problems=gateway.problems,
        exposition=lambda: b"",
        unknown_path=lambda target, address, forwarded_for: gateway.scans.append(target),
        ocpp=None,
        timeout=10.0,
        operators=OperatorPorts(sessions=lambda: gateway.sessions, kick=gateway.kick, nodes=gateway.nodes),
    )
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()


def request(method: str, path: str, token: str | None = TOKEN) -> bytes:
    shown = "" if token is None else f"Authorization: Bearer {token}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}\r\n".encode()


async def ask(port: int, method: str, path: str, token: str | None = TOKEN) -> Answer:
    """The answer, read by somebody who does not share the server's thread."""

    def talk() -> bytes:
        with RawSocket(port) as connection:
            connection.send(request(method, path, token))
            return connection.rest()

    head, body = (await deferToThread(talk)).split(b"\r\n\r\n", 1)
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked" and body:
        body = unchunked(body)
    return Answer(int(status_line.split(" ")[1]), headers, body)


def unchunked(body: bytes) -> bytes:
    """The chunks' contents; the last one has to be there."""
    parts = []
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size, 16)
        parts.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
        if length == 0:
            assert body == b""
            return b"".join(parts)


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest_twisted.ensureDeferred
async def test_only_who_shows_the_token_is_answered(method: str, path: str) -> None:
    gateway = Gateway()
    async with served(gateway) as port:
        for token in (None, "", "wrong", TOKEN + "x"):
            refused = await ask(port, method, path, token)
            assert (refused.status, refused.json) == (401, {"error": "unauthorized"})
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert gateway.kicked == []
        admitted = await ask(port, method, path)
        assert admitted.status in (200, 202)
        assert admitted.headers["cache-control"] == "no-store" and "server" not in admitted.headers


@pytest.mark.parametrize(("method", "path"), [*PATHS, ("POST", "/nodes")])
@pytest_twisted.ensureDeferred
async def test_without_a_token_in_the_settings_nobody_may_do_anything(method: str, path: str) -> None:
    gateway = Gateway()
    async with served(gateway, token="") as port:
        for token in (None, "", "guess"):
            refused = await ask(port, method, path, token)
            assert (refused.status, refused.json) == (403, {"error": "token_not_set"})
        assert (await ask(port, "GET", "/ready", None)).status == 200
    assert gateway.kicked == []


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["CP-1", "CP-2"]),
        ("?node=node-a", ["CP-1", "CP-2"]),
        ("?node=node-b", []),
        ("?tenant=acme", ["CP-1"]),
        ("?tenant=acme&node=node-a&color=red", ["CP-1"]),
        ("?tenant=", ["CP-1", "CP-2"]),
        ("?tenant=%ff", []),
    ],
)
@pytest_twisted.ensureDeferred
async def test_sessions_are_listed_and_filtered(query: str, ids: list[str]) -> None:
    async with served(Gateway()) as port:
        listed = await ask(port, "GET", f"/sessions{query}")
    assert listed.status == 200
    assert listed.json == [each for each in SESSIONS if each["chargePointId"] in ids]


@pytest.mark.parametrize("number", [0, 1, 199, 200, 201, 1000])
@pytest_twisted.ensureDeferred
async def test_any_number_of_sessions_is_one_array(number: int) -> None:
    gateway = Gateway(sessions=[{"chargePointId": f"CP-{each}"} for each in range(number)])
    async with served(gateway) as port:
        listed = await ask(port, "GET", "/sessions")
        head = await ask(port, "HEAD", "/sessions")
    assert listed.json == gateway.sessions
    assert (head.status, head.body) == (200, b"")


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_holds_nobody_up_and_is_not_waited_for() -> None:
    ended: Deferred[None] = Deferred()

    class Endless:
        def __iter__(self) -> Iterator[Mapping[str, Any]]:
            try:
                for number in count():
                    yield {"chargePointId": f"CP-{number}", "tenantId": "x" * 100}
            finally:
                ended.callback(None)

    gateway = Gateway(sessions=Endless())
    async with served(gateway) as port:
        connection = RawSocket(port)
        try:
            connection.send(request("GET", "/sessions"))
            assert (await ask(port, "GET", "/health")).status == 200
            assert (await ask(port, "DELETE", "/sessions/CP-1")).status == 202
            assert not ended.called
        finally:
            connection.reset()
        await ended.addTimeout(20, reactor)


@pytest_twisted.ensureDeferred
async def test_a_session_is_ended_wherever_it_is() -> None:
    gateway = Gateway()
    async with served(gateway) as port:
        ended = await ask(port, "DELETE", "/sessions/CP-1")
        odd = await ask(port, "DELETE", "/sessions/CP%2F%C3%A4")
        absent = await ask(port, "DELETE", "/sessions/CP-9")
    assert (ended.status, ended.json) == (202, {"status": "closing", "chargePointId": "CP-1"})
    assert (odd.status, odd.json["chargePointId"]) == (202, "CP/ä")
    assert (absent.status, absent.json) == (404, {"error": "not_connected"})
    assert gateway.kicked == ["CP-1", "CP/ä", "CP-9"]


@pytest_twisted.ensureDeferred
async def test_who_hangs_up_is_not_waited_for() -> None:
    gateway = Gateway(never_kicks=True)
    async with served(gateway) as port:

        def ask_and_go() -> None:
            with RawSocket(port) as connection:
                connection.send(request("DELETE", "/sessions/CP-1") + request("GET", "/health"))
                connection.finish()

        await deferToThread(ask_and_go)
        await gateway.kick_cancelled.addTimeout(20, reactor)
    assert gateway.kicked == ["CP-1"]


@pytest_twisted.ensureDeferred
async def test_all_nodes_are_listed() -> None:
    async with served(Gateway()) as port:
        listed = await ask(port, "GET", "/nodes")
    assert listed.status == 200
    assert [(node["nodeId"], node["state"]) for node in listed.json] == [("node-a", "alive"), ("node-b", "gone")]


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/sessions/CP-1"), ("GET", "/nodes")])
@pytest_twisted.ensureDeferred
async def test_a_redis_that_is_away_is_said_and_nothing_else(method: str, path: str) -> None:
    async with served(Gateway(is_store_away=True)) as port:
        answer = await ask(port, method, path)
    assert (answer.status, answer.json) == (503, {"error": "redis_unavailable"})


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/sessions/CP-1"), ("GET", "/nodes")])
@pytest_twisted.ensureDeferred
async def test_a_failure_of_our_own_is_logged_and_not_told(method: str, path: str) -> None:
    async with served(Gateway(is_broken=True)) as port:
        with told() as events:
            answer = await ask(port, method, path)
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    assert failures(events) == ["http.failed"]


@pytest.mark.parametrize("good", [0, 450])
@pytest_twisted.ensureDeferred
async def test_a_list_that_fails_does_not_look_whole(good: int) -> None:
    def failing() -> Iterator[Mapping[str, Any]]:
        yield from ({"chargePointId": f"CP-{number}"} for number in range(good))
        raise ValueError("a bug, secret")

    def talk(number: int) -> bytes:
        with RawSocket(number) as connection:
            connection.send(request("GET", "/sessions"))
            return connection.rest()

    async with served(Gateway(sessions=failing())) as port:
        with told() as events:
            answer = await deferToThread(talk, port)
    assert failures(events) == ["http.failed"]
    assert b"secret" not in answer
    if good:
        assert answer.startswith(b"HTTP/1.1 200 ") and b"CP-399" in answer
        assert not answer.endswith(b"0\r\n\r\n")  # the last chunk is missing
    else:
        assert answer.startswith(b"HTTP/1.1 500 ") and b'{"error":"internal_error"}' in answer


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/sessions", "GET, HEAD"),
        ("DELETE", "/sessions", "GET, HEAD"),
        ("GET", "/sessions/CP-1", "DELETE"),
        ("PUT", "/nodes", "GET, HEAD"),
        ("get", "/nodes", "GET, HEAD"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_other_methods_are_told_which_there_are(method: str, path: str, allowed: str) -> None:
    async with served(Gateway()) as port:
        answer = await ask(port, method, path)
    assert (answer.status, answer.json) == (405, {"error": "method_not_allowed"})
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/sessions/", "/sessions/CP-1/x", "/sessions/%ff", "/nodes/node-a", "/session"])
@pytest_twisted.ensureDeferred
async def test_what_is_beside_these_paths_is_not_there(path: str) -> None:
    gateway = Gateway()
    async with served(gateway) as port:
        answer = await ask(port, "DELETE", path)
    assert (answer.status, answer.json) == (404, {"error": "not_found"})
    assert gateway.scans == [path] and gateway.kicked == []


@pytest_twisted.ensureDeferred
async def test_a_request_with_a_body_is_refused_before_it_does_anything() -> None:
    gateway = Gateway()
    async with served(gateway) as port:

        def talk() -> bytes:
            with RawSocket(port) as connection:
                head = request("DELETE", "/sessions/CP-1").removesuffix(b"\r\n")
                try:
                    connection.send(head + b"Content-Length: 2\r\n\r\n{}")
                except PeerClosed as closed:
                    return bytes(closed.args[0])
                return connection.rest()

        answer = await deferToThread(talk)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert gateway.kicked == []


@pytest_twisted.ensureDeferred
async def test_whoever_looks_for_few_among_many_holds_nobody_up_either() -> None:
    looked_at: list[int] = [0]
    most_a_turn = [0]
    ended: Deferred[None] = Deferred()

    def many() -> Iterator[Mapping[str, Any]]:
        for number in range(300_000):
            looked_at[0] += 1
            yield {"chargePointId": f"CP-{number}", "tenantId": "acme" if number == 299_999 else "other"}
        ended.callback(None)

    def turn(before: int) -> None:
        most_a_turn[0] = max(most_a_turn[0], looked_at[0] - before)
        if not ended.called:
            reactor.callLater(0, turn, looked_at[0])

    async with served(Gateway(sessions=many())) as port:
        turn(0)
        listed = await ask(port, "GET", "/sessions?tenant=acme")
    assert ended.called
    assert [each["chargePointId"] for each in listed.json] == ["CP-299999"]
    assert most_a_turn[0] < 150_000  # as many as hundredths of a second allow, and not all at once
