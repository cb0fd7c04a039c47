"""One WebSocket of a charge point: the handshake, one CALL in flight, and the answers to the CSMS's CALLs."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from attrs import define, field, frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.causes import cause_of
from ocpp_gateway.simulator.errors import (
    CallRefused,
    CallTimedOut,
    ConnectionLost,
    Refused,
    SimulatorError,
    Unreachable,
)
from ocpp_gateway.simulator.frames import (
    Call,
    CallError,
    CallResult,
    Payload,
    Unreadable,
    decode,
    encode_call,
    encode_call_error,
    encode_call_result,
)
from ocpp_gateway.simulator.messages import LONGEST_SERIAL_NUMBER

_HANDSHAKE_SECONDS = 30.0
_PING_SECONDS = 60.0
_SAID_CHARACTERS = 80
_ABNORMAL = 1006


@frozen
class Answer:
    """What the charge point answers to a CALL of the CSMS, and what it does once that is sent."""

    payload: Payload | None = None
    error_code: str = ""
    description: str = ""
    afterwards: Callable[[], None] | None = None


@frozen
class Target:
    """Where a charge point connects to, and as whom. The secret is bytes: 1.6 keys need not be text.

    ``shows_certificate``: ``tls`` has a client certificate. ``serial_number`` is the charge point's own, if it is not
    to be its identity: with security profile 3 it is the common name of that certificate. One that is too long for a
    BootNotification is none, for the gateway too.
    """

    url: str
    cp_id: str
    version: OcppVersion
    secret: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    shows_certificate: bool = False
    serial_number: str | None = None

    @property
    def serial(self) -> str:
        """What it says its serial number is."""
        given = self.serial_number
        return given if given and len(given) <= LONGEST_SERIAL_NUMBER else self.cp_id[:LONGEST_SERIAL_NUMBER]

    def headers(self) -> dict[str, str]:
        """The credential, as HTTP says it: Basic (OCPP security profiles 1 and 2) or Bearer."""
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token}"}
        if self.secret is None:
            return {}
        pair = self.cp_id.encode() + b":" + self.secret
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}


class _Connect(connect):
    """An OCPP endpoint never redirects, and a credential is for one address only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Socket(ClientConnection):
    """Puts what it ended with into ``ends``: a handshake that fails with it says no more than that nothing came."""

    def __init__(self, ends: list[Exception | None], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ends = ends

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.append(exc)
        super().connection_lost(exc)


@define
class _Waiting:
    message_id: str
    answer: asyncio.Future[CallResult | CallError]


@define(eq=False)
class Connection:
    """An open connection. ``run`` reads from it until it ends; nothing is answered before that is called."""

    websocket: ClientConnection
    answer_call: Callable[[Call], Answer]
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _waiting: _Waiting | None = field(default=None, init=False)

    @classmethod
    async def open(cls, target: Target, answer_call: Callable[[Call], Answer]) -> Connection:
        """Connect and shake hands. Raises Refused or Unreachable."""
        ends: list[Exception | None] = []
        quiet = logging.getLogger("ocpp_gateway.simulator.websocket")
        quiet.disabled = True  # a lost connection is an ordinary event here, and told in our own words
        try:
            websocket = await _Connect(
                target.url,
                subprotocols=[Subprotocol(target.version.subprotocol)],
                additional_headers=target.headers(),
                user_agent_header="ocpp-gateway simulator",
                compression=None,
                proxy=None,
                open_timeout=_HANDSHAKE_SECONDS,
                ping_interval=_PING_SECONDS,
                ping_timeout=_PING_SECONDS,
                close_timeout=5.0,
                max_size=1 << 20,
                logger=quiet,
                ssl=target.tls,
                create_connection=cast("type[ClientConnection]", partial(_Socket, ends)),
            )
        except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
            raise _no_connection(target, error, ends[0] if ends else None) from None
        if websocket.subprotocol != target.version.subprotocol:
            await websocket.close(1002, "no subprotocol")
            raise Refused(target.cp_id, target.url, 400, "no_common_subprotocol")
        return cls(websocket, answer_call)

    async def run(self) -> None:
        """Read until the connection ends. Raises ConnectionLost."""
        try:
            async for text in self.websocket:
                await self._received(text)
        except ConnectionClosed:
            pass  # its code and reason are the connection's, whoever closed it
        finally:
            if self._waiting is not None and not self._waiting.answer.done():
                self._waiting.answer.set_exception(self._lost())
        raise self._lost()

    async def call(self, action: str, payload: Payload, timeout: float) -> Payload:
        """Make a CALL and return the CALLRESULT's payload; one at a time, others wait for their turn.

        Raises CallRefused, CallTimedOut or ConnectionLost.
        """
        async with self._turn:
            message_id = str(uuid.uuid4())
            waiting = _Waiting(message_id, asyncio.get_running_loop().create_future())
            self._waiting = waiting
            try:
                await self._send(encode_call(message_id, action, payload))
                async with asyncio.timeout(timeout):
                    answer = await waiting.answer
            except TimeoutError:
                raise CallTimedOut(action, timeout) from None
            finally:
                self._waiting = None
                if waiting.answer.done() and not waiting.answer.cancelled():
                    waiting.answer.exception()  # seen, even if sending failed first
            if isinstance(answer, CallError):
                raise CallRefused(action, answer.code, answer.description)
            return answer.payload

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection as RFC 6455 wants it."""
        await self.websocket.close(code, reason)

    async def _received(self, text: str | bytes) -> None:
        try:
            frame = decode(text)
        except Unreadable:
            return
        if isinstance(frame, Call):
            await self._answer(frame)
            return
        waiting = self._waiting
        if waiting is not None and frame.message_id == waiting.message_id and not waiting.answer.done():
            waiting.answer.set_result(frame)

    async def _answer(self, call: Call) -> None:
        answer = self.answer_call(call)
        if answer.payload is not None:
            await self._send(encode_call_result(call.message_id, answer.payload))
        else:
            await self._send(encode_call_error(call.message_id, answer.error_code, answer.description))
        if answer.afterwards is not None:
            answer.afterwards()

    async def _send(self, text: str) -> None:
        try:
            await self.websocket.send(text)
        except ConnectionClosed:
            raise self._lost() from None

    def _lost(self) -> ConnectionLost:
        code = self.websocket.close_code
        return ConnectionLost(_ABNORMAL if code is None else code, _printable(self.websocket.close_reason or ""))


def _no_connection(target: Target, error: Exception, lost_by: Exception | None) -> SimulatorError:
    if isinstance(error, InvalidStatus):
        response = error.response
        retry_after = response.headers.get("Retry-After", "")
        return Refused(
            target.cp_id,
            target.url,
            response.status_code,
            _said(bytes(response.body or b"")),
            float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
            shows_certificate=target.shows_certificate,
        )
    cause = cause_of(error, lost_by, uses_tls=target.tls is not None, shows_certificate=target.shows_certificate)
    return Unreachable(target.cp_id, target.url, cause.text, cause.advice)


def _said(body: bytes) -> str:
    """The first line of an HTTP answer, if it is a word or a short sentence rather than a page."""
    line = body[:4096].decode("utf-8", "replace").strip().split("\n", 1)[0].strip()
    return "" if line.startswith("<") else _printable(line)


def _printable(text: str) -> str:
    return "".join(character for character in text[:_SAID_CHARACTERS] if character.isprintable())
