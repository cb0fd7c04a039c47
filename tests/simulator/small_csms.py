"""A CSMS that checks every word against the official schemas, and misbehaves on request."""

from __future__ import annotations

import asyncio
import base64
import http
import importlib.resources
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jsonschema_rs
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_NOW = "2026-01-02T03:04:05Z"


@cache
def _validator(subprotocol: str, name: str) -> Any:
    folder = {"ocpp1.6": "v16", "ocpp2.0.1": "v201", "ocpp2.1": "v21"}[subprotocol]
    text = (importlib.resources.files("ocpp") / folder / "schemas" / f"{name}.json").read_text("utf-8-sig")
    return jsonschema_rs.validator_for(json.loads(text), validate_formats=True)


def assert_request(subprotocol: str, action: str, payload: Any) -> None:
    _validator(subprotocol, action if subprotocol == "ocpp1.6" else f"{action}Request").validate(payload)


def assert_response(subprotocol: str, action: str, payload: Any) -> None:
    _validator(subprotocol, f"{action}Response").validate(payload)


class Seen:
    """One CALL of a charge point."""

    def __init__(self, cp_id: str, subprotocol: str, message_id: str, action: str, payload: dict[str, Any]) -> None:
        self.cp_id = cp_id
        self.subprotocol = subprotocol
        self.message_id = message_id
        self.action = action
        self.payload = payload


class SmallCsms:
    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}
        self.common_names: dict[str, str] = {}  # of the client certificates that open the door, too
        self.scheme = "ws"
        self.port = 0
        self.seen: list[Seen] = []
        self.problems: list[str] = []
        self.handshakes: Counter[int] = Counter()
        self.headers: list[dict[str, str]] = []
        self.refuse_next: list[tuple[int, dict[str, str]]] = []
        self.respond: Callable[[Seen], Any] = lambda seen: None  # an answer, an error code, "drop" or "silence"
        self.connections: dict[str, ServerConnection] = {}
        self._next_transaction_id = 1000
        self._changed = asyncio.Condition()
        self._answers: dict[str, asyncio.Future[list[Any]]] = {}
        self._closing: Counter[int] = Counter()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def actions(self, cp_id: str | None = None) -> list[str]:
        return [seen.action for seen in self.seen if cp_id in (None, seen.cp_id)]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def call(self, cp_id: str, action: str, payload: dict[str, Any]) -> list[Any]:
        """Make a CALL and return the answer's array, checked."""
        connection = self.connections[cp_id]
        assert_request(str(connection.subprotocol), action, payload)
        message_id = f"csms-{len(self._answers)}"
        self._answers[message_id] = asyncio.get_running_loop().create_future()
        await connection.send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(5.0):
            answer = await self._answers[message_id]
        if answer[0] == 3:
            assert_response(str(connection.subprotocol), action, answer[2])
        return answer

    @asynccontextmanager
    async def running(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[SmallCsms]:
        self.scheme = "ws" if tls is None else "wss"
        async with serve(
            self._connected,
            "127.0.0.1",
            port,
            subprotocols=["ocpp2.1", "ocpp2.0.1", "ocpp1.6"],
            process_request=self._admit,
            compression=None,
            ssl=tls,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(dict(request.headers.raw_items()))
        status, headers = self._verdict(connection, request)
        self.handshakes[status] += 1
        if status == 101:
            return None
        response = connection.respond(http.HTTPStatus(status), "reason_of_the_gateway\n")
        response.headers.update(headers)
        return response

    def _verdict(self, connection: ServerConnection, request: Request) -> tuple[int, dict[str, str]]:
        if self.refuse_next:
            return self.refuse_next.pop(0)
        cp_id = request.path.rpartition("/")[2]
        subject = (connection.transport.get_extra_info("peercert") or {}).get("subject", ())
        if cp_id in self.common_names and subject:
            named = ("commonName", self.common_names[cp_id])
            return (101 if any(named in relative for relative in subject) else 403), {}
        if cp_id not in self.secrets:
            return 404, {}
        pair = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic "))
        return (101, {}) if pair == cp_id.encode() + b":" + self.secrets[cp_id] else (401, {})

    async def _connected(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        cp_id = connection.request.path.rpartition("/")[2]
        self.connections[cp_id] = connection
        try:
            async for text in connection:
                await self._received(connection, cp_id, json.loads(text))
        except ConnectionClosed:
            pass

    async def _received(self, connection: ServerConnection, cp_id: str, array: list[Any]) -> None:
        if array[0] != 2:
            self._answers[array[1]].set_result(array)
            return
        _, message_id, action, payload = array
        subprotocol = str(connection.subprotocol)
        seen = Seen(cp_id, subprotocol, message_id, action, payload)
        try:
            assert_request(subprotocol, action, payload)
        except jsonschema_rs.ValidationError as error:
            self.problems.append(f"{subprotocol} {action}: {error}")
        async with self._changed:
            self.seen.append(seen)
            self._changed.notify_all()
        answer = self.respond(seen)
        if answer == "silence":
            return
        if answer == "drop":
            connection.transport.abort()
        elif isinstance(answer, str):
            await connection.send(json.dumps([4, message_id, answer, "because", {}]))
        else:
            answer = self._ordinary(seen) if answer is None else answer
            assert_response(subprotocol, action, answer)
            await connection.send(json.dumps([3, message_id, answer]))

    def _ordinary(self, seen: Seen) -> dict[str, Any]:
        info = {"status": "Accepted"}
        match seen.action:
            case "BootNotification":
                return {"status": "Accepted", "currentTime": _NOW, "interval": 300}
            case "Heartbeat":
                return {"currentTime": _NOW}
            case "Authorize":
                return {"idTagInfo": info} if seen.subprotocol == "ocpp1.6" else {"idTokenInfo": info}
            case "StartTransaction":
                self._next_transaction_id += 1
                return {"transactionId": self._next_transaction_id, "idTagInfo": info}
            case "TransactionEvent":
                return {"idTokenInfo": info} if "idToken" in seen.payload else {}
        return {}
