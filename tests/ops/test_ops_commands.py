"""The HTTP port's door for commands, on a real Site over loopback; what is behind the door is played."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from commands.door_parts import PlayedBack
from support.raw_socket import PeerClosed, RawSocket
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.commands.door import CommandDoor
from ocpp_gateway.commands.states import CommandState, Stage
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.ops.http import site
from ocpp_gateway.ops.operators import OperatorPorts

TOKEN = "sesame"
PATH = "/chargers/CP-1/commands"
RESET = b'{"commandType": "Reset", "payload": {"type": "Soft"}}'


@define(eq=False)
class Behind(PlayedBack):
    """Whoever asks for a command gets it done: ``does`` says how."""

    does: Callable[[Behind, str], None] = field(default=lambda behind, command_id: behind.ends(command_id))
    requested: Deferred[None] = field(factory=Deferred)

    def publish(self, topic: str, key: bytes, value: bytes, headers: Any, delivered: Any) -> None:
        PlayedBack.publish(self, topic, key, value, headers, delivered)
        self.does(self, self.requests[-1].record["commandId"])
        if not self.requested.called:
            self.requested.callback(None)


@define(eq=False)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        assert self.headers["cache-control"] == "no-store" and "server" not in self.headers
        return json.loads(self.body)


@define(eq=False)
class Port:
    number: int
    behind: Behind
    door: CommandDoor
    scans: list[str]


@asynccontextmanager
async def served(
    behind: Behind | None = None, *, token: str = TOKEN, has_door: bool = True, most_waiting: int = 100
) -> AsyncIterator[Port]:
    behind = behind or Behind()
    door = CommandDoor(
        states=behind, bus=behind, clock=SystemClock(reactor), default_timeout=15.0, most_waiting=most_waiting
    )
    scans: list[str] = []

    async def nothing(*_: object) -> Any:
        return []

    factory = site(
        token=token,
        problems=nothing,
        exposition=lambda: b"",
        unknown_path=lambda target, address, forwarded_for: scans.append(target),
        ocpp=None,
        timeout=10.0,
        operators=OperatorPorts(sessions=list, kick=nothing, nodes=nothing),
        door=door if has_door else None,
    )
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    try:
        yield Port(port.getHost().port, behind, door, scans)
    finally:
        await port.stopListening()
    assert door.waiting == 0


def request(
    body: bytes = RESET, *, path: str = PATH, method: str = "POST", token: str | None = TOKEN, headers: str = ""
) -> bytes:
    shown = "" if token is None else f"Authorization: Bearer {token}\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}{length}{headers}\r\n"
    ).encode() + body


async def ask(port: Port, body: bytes = RESET, **about: Any) -> Answer:
    return await sent(port, request(body, **about))


async def sent(port: Port, data: bytes) -> Answer:
    """The answer, read by somebody who does not share the server's thread."""

    def talk() -> bytes:
        with RawSocket(port.number) as connection:
            try:
                connection.send(data)
            except PeerClosed as closed:
                return bytes(closed.args[0])
            return connection.rest()

    head, body = (await deferToThread(talk)).split(b"\r\n\r\n", 1)
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return Answer(int(status_line.split(" ")[1]), headers, body)


@pytest_twisted.ensureDeferred
async def test_the_final_event_is_the_answer() -> None:
    behind = Behind(does=lambda behind, command_id: behind.ends(command_id, accepted=True, response={"status": "Ok"}))
    async with served(behind) as port:
        body = b'{"commandType": "Reset", "payload": {"type": "Soft"}, "timeoutSec": 5, "commandId": "mine"}'
        answer = await ask(port, body)
    assert answer.status == 200
    assert answer.json == {
        "commandId": "mine",
        "chargePointId": "CP-1",
        "eventType": "CommandAccepted",
        "payload": {"commandType": "Reset", "accepted": True, "response": {"status": "Ok"}},
    }
    (record,) = [each.record for each in behind.requests]
    assert (record["chargePointId"], record["requestedBy"]) == ("CP-1", {"role": "operator"})
    assert (record["payload"], record["timeoutSec"]) == ({"type": "Soft"}, 5)


@pytest_twisted.ensureDeferred
async def test_a_failure_of_the_command_is_an_answer_too() -> None:
    behind = Behind(does=lambda behind, command_id: behind.ends(command_id, "CommandFailed", reason="payload_invalid"))
    async with served(behind) as port:
        answer = await ask(port)
    assert (answer.status, answer.json["eventType"]) == (200, "CommandFailed")


@pytest_twisted.ensureDeferred
async def test_any_identity_can_be_in_the_path() -> None:
    async with served() as port:
        answer = await ask(port, path="/chargers/CP%2F%C3%A4/commands")
    assert (answer.status, answer.json["chargePointId"]) == (200, "CP/ä")
    assert port.behind.requests[0].key == "CP/ä".encode()


@pytest_twisted.ensureDeferred
async def test_a_queued_one_is_not_waited_for() -> None:
    behind = Behind(does=lambda behind, command_id: behind.is_at(command_id, Stage.OPEN, is_parked=True))
    async with served(behind) as port:
        answer = await ask(port, b'{"commandType": "Reset", "deliverWithinSec": 3600, "commandId": "mine"}')
    assert answer.status == 202
    assert answer.json.pop("deliverUntil").endswith("Z")
    assert {**answer.json, "deliverUntil": ""} == {
        "commandId": "mine",
        "chargePointId": "CP-1",
        "status": "queued",
        "deliverUntil": "",
    }


@pytest_twisted.ensureDeferred
async def test_at_the_deadline_the_id_is_told() -> None:
    behind = Behind(does=lambda behind, command_id: behind.is_at(command_id, Stage.SENT))
    async with served(behind) as port:
        answer = await ask(port, b'{"commandType": "Reset", "timeoutSec": 1, "commandId": "mine"}')
    assert (answer.status, answer.json) == (202, {"commandId": "mine", "chargePointId": "CP-1", "status": "pending"})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body_invalid"),
        (b"{", "body_invalid"),
        (b"\xff", "body_invalid"),
        (b"[]", "body_invalid"),
        (b"null", "body_invalid"),
        (b'{"commandType": "Reset", "timeoutSeconds": 3}', "body_invalid"),
        (b'{"commandType": "Reset", "chargePointId": "CP-2"}', "body_invalid"),
        (b"[" * 60_000, "body_invalid"),
        (b"{}", "command_invalid"),
        (b'{"commandType": "Reset", "timeoutSec": 3601}', "command_invalid"),
        (b'{"commandType": "Reset", "payload": []}', "payload_invalid"),
        (b'{"commandType": "Reset", "payload": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}", "command_invalid"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_body_that_is_no_command_is_refused(body: bytes, reason: str) -> None:
    async with served() as port:
        answer = await ask(port, body)
    assert (answer.status, answer.json["error"]) == (400, reason)
    assert answer.json["message"]
    assert port.behind.requests == []


@pytest_twisted.ensureDeferred
async def test_an_identity_that_nobody_has_is_refused() -> None:
    async with served() as port:
        answer = await ask(port, path="/chargers/CP%00/commands")
    assert (answer.status, answer.json["error"]) == (400, "command_invalid")


@pytest_twisted.ensureDeferred
async def test_only_who_shows_the_token_is_heard() -> None:
    async with served() as port:
        for token in (None, "", "wrong"):
            refused = await ask(port, token=token)
            assert (refused.status, refused.json) == (401, {"error": "unauthorized"})
    async with served(token="") as locked:
        for token in (None, "", "guess"):
            refused = await ask(locked, token=token)
            assert (refused.status, refused.json) == (403, {"error": "token_not_set"})
    assert port.behind.requests == locked.behind.requests == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "post"])
@pytest_twisted.ensureDeferred
async def test_other_methods_are_not_allowed(method: str) -> None:
    async with served() as port:
        answer = await ask(port, b"", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or answer.json == {"error": "method_not_allowed"}


@pytest.mark.parametrize(
    "path", ["/chargers", "/chargers/", "/chargers/CP-1", "/chargers//commands", "/chargers/%ff/commands", PATH + "/x"]
)
@pytest_twisted.ensureDeferred
async def test_what_is_beside_the_path_is_not_there(path: str) -> None:
    async with served() as port:
        answer = await ask(port, b"", path=path)
    assert (answer.status, answer.json) == (404, {"error": "not_found"})
    assert port.scans == [path]


@pytest.mark.parametrize("path", ["/sessions/CP-1", "/nodes", "/health", "/ocpp/CP-1", "/chargers"])
@pytest.mark.parametrize("token", [TOKEN, None])
@pytest_twisted.ensureDeferred
async def test_nothing_else_takes_a_body(path: str, token: str | None) -> None:
    async with served() as port:
        answer = await ask(port, path=path, token=token)
    assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("token", [TOKEN, None])
@pytest_twisted.ensureDeferred
async def test_a_body_has_to_be_small_and_to_say_so(token: str | None) -> None:
    async with served() as port:
        large = await ask(port, b"x" * 65_537, token=token)
        head = request(b"", token=token).removesuffix(b"\r\n")
        endless = await sent(port, head + b"Content-Length: 1000000000000\r\n\r\n")
        in_chunks = await sent(port, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert [each.status for each in (large, endless, in_chunks)] == [413, 413, 413]
    assert port.behind.requests == []


@pytest_twisted.ensureDeferred
async def test_curl_may_ask_first_whether_to_send_it() -> None:
    async with served() as port:

        def talk() -> bytes:
            with RawSocket(port.number) as connection:
                head, body = request(headers="Expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
                connection.send(head + b"\r\n\r\n")
                go_on = connection.response()
                assert go_on.status == 100
                connection.send(body)
                return connection.rest()

        answer = await deferToThread(talk)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest_twisted.ensureDeferred
async def test_one_connection_asks_again_and_again() -> None:
    async with served() as port:

        def talk() -> list[int]:
            with RawSocket(port.number) as connection:
                stays = request().replace(b"Connection: close\r\n", b"")
                statuses = []
                for each in (stays, stays, request()):
                    connection.send(each)
                    statuses.append(connection.response().status)
                assert connection.rest() == b""
                return statuses

        assert await deferToThread(talk) == [200, 200, 200]
    assert len({each.record["commandId"] for each in port.behind.requests}) == 3


@pytest_twisted.ensureDeferred
async def test_what_is_away_is_said_with_the_id_to_ask_again_with() -> None:
    async with served(Behind(is_redis_away=True)) as port:
        answer = await ask(port, b'{"commandType": "Reset", "commandId": "mine"}')
    assert (answer.status, answer.json) == (503, {"error": "redis_unavailable", "commandId": "mine"})
    async with served(Behind(refuses=BusUnavailable("broker secret"))) as port:
        answer = await ask(port, b'{"commandType": "Reset", "commandId": "mine"}')
    assert (answer.status, answer.json) == (503, {"error": "kafka_unavailable", "commandId": "mine"})
    async with served(has_door=False) as port:
        answer = await ask(port)
    assert (answer.status, answer.json) == (503, {"error": "commands_disabled"})


@pytest_twisted.ensureDeferred
async def test_an_id_of_another_charge_point_is_a_conflict() -> None:
    known = {"mine": CommandState(state=Stage.DONE, charge_point_id="CP-2")}
    async with served(Behind(known=known)) as port:
        answer = await ask(port, b'{"commandType": "Reset", "commandId": "mine"}')
    assert (answer.status, answer.json) == (409, {"error": "duplicate_command_id", "commandId": "mine"})


@pytest_twisted.ensureDeferred
async def test_too_many_are_told_to_come_back() -> None:
    async with served(most_waiting=0) as port:
        answer = await ask(port)
    assert (answer.status, answer.json["error"]) == (503, "too_many_waiting")
    assert port.behind.requests == []


@pytest_twisted.ensureDeferred
async def test_who_hangs_up_is_not_waited_for_any_longer() -> None:
    behind = Behind(does=lambda behind, command_id: behind.is_at(command_id, Stage.SENT))
    async with served(behind) as port:

        def ask_and_go() -> None:
            with RawSocket(port.number) as connection:
                connection.send(request().replace(b"Connection: close\r\n", b""))
                connection.finish()

        await deferToThread(ask_and_go)
        await behind.requested.addTimeout(20, reactor)
        left: Deferred[None] = Deferred()

        def look() -> None:
            if port.door.waiting:
                reactor.callLater(0.01, look)
            else:
                left.callback(None)

        look()
        await left.addTimeout(20, reactor)
