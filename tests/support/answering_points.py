"""Charge points that answer commands, come back to any node that lives, and keep account of every CALL they heard.

How a command is answered is the last word of its commandId, which the ``data`` of its DataTransfer is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import attrs
from attrs import define, field
from support.live_points import Loop
from support.stations import SUBPROTOCOLS, basic
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

AT_ONCE, LATER, REFUSED, NEVER = "now", "later", "refused", "never"

_COMES_BACK_SECONDS = 0.1
_LATER_SECONDS = (0.05, 1.0)


@attrs.frozen
class Heard:
    """A CALL that reached a charge point."""

    charge_point_id: str
    node_id: str
    message_id: str
    command_id: str


@define(eq=False)
class AnsweringPoints:
    """``with AnsweringPoints(identities, rng) as points``: connected to nodes of ``points.ports`` until the end."""

    identities: list[str]
    rng: random.Random
    ports: dict[str, int] = field(factory=dict)
    """Where charge points go to, by node id."""

    heard: list[Heard] = field(factory=list, init=False)
    answered: set[str] = field(factory=set, init=False)
    """CommandIds whose answer was written."""

    failures: list[BaseException] = field(factory=list, init=False)
    _at: dict[str, tuple[str, ClientConnection]] = field(factory=dict, init=False)
    _changed: threading.Condition = field(factory=threading.Condition, init=False)
    _loop: Loop = field(factory=Loop, init=False)
    _living: Future[None] | None = field(default=None, init=False)

    def node_of(self, charge_point_id: str) -> str | None:
        """Where it is connected, as it knows; None: nowhere."""
        found = self._at.get(charge_point_id)
        return None if found is None else found[0]

    def all_connected(self) -> bool:
        return len(self._at) == len(self.identities)

    def wait_for_calls(self, count: int, *, seconds: float) -> bool:
        """Return at once when so many CALLs were heard in all; whether they were."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.heard) >= count, seconds)

    def wander(self, *charge_point_ids: str) -> None:
        """These leave, and come to any node."""
        for each in charge_point_ids:
            if (found := self._at.get(each)) is not None:
                self._loop.run(found[1].close())

    def __enter__(self) -> AnsweringPoints:
        self._loop.__enter__()
        self._living = asyncio.run_coroutine_threadsafe(self._live_all(), self._loop._loop)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        assert self._living is not None
        self._living.cancel()
        self._loop.run(self._ended())
        self._loop.__exit__()
        assert kind is not None or not self.failures, self.failures

    async def _ended(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _live_all(self) -> None:
        versions = list(SUBPROTOCOLS)
        await asyncio.gather(
            *(self._live(each, versions[number % 3]) for number, each in enumerate(self.identities)),
        )

    async def _live(self, charge_point_id: str, version: str) -> None:
        while True:
            if self.ports:
                node_id, port = self.rng.choice(list(self.ports.items()))
                # A node that is killed, or does not serve yet.
                with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, EOFError, TimeoutError):
                    await self._be_connected(charge_point_id, version, node_id, port)
            await asyncio.sleep(_COMES_BACK_SECONDS)

    async def _be_connected(self, charge_point_id: str, version: str, node_id: str, port: int) -> None:
        async with connect(
            f"ws://127.0.0.1:{port}/ocpp/{version}/{charge_point_id}",
            subprotocols=[SUBPROTOCOLS[version]],  # type: ignore[list-item]
            additional_headers=basic(charge_point_id),
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,
        ) as socket:
            await socket.send(json.dumps([2, "first", "Heartbeat", {}]))
            self._at[charge_point_id] = node_id, socket
            try:
                async for text in socket:
                    await self._hear(charge_point_id, node_id, socket, json.loads(text))
            finally:
                del self._at[charge_point_id]

    async def _hear(self, charge_point_id: str, node_id: str, socket: ClientConnection, frame: list[Any]) -> None:
        if frame[0] != 2:
            if frame[:2] != [3, "first"]:
                self.failures.append(AssertionError(f"{charge_point_id} heard {frame}"))
            return
        _, message_id, action, payload = frame
        command_id = payload["data"]
        with self._changed:
            self.heard.append(Heard(charge_point_id, node_id, message_id, command_id))
            self._changed.notify_all()
        how = command_id.rpartition("-")[2]
        if action != "DataTransfer" or how not in (AT_ONCE, LATER, REFUSED, NEVER):
            self.failures.append(AssertionError(f"{charge_point_id} heard {frame}"))
        elif how == LATER:
            asyncio.get_running_loop().create_task(self._answer_later(socket, message_id, command_id))
        elif how != NEVER:
            await self._answer(socket, message_id, command_id)

    async def _answer_later(self, socket: ClientConnection, message_id: str, command_id: str) -> None:
        await asyncio.sleep(self.rng.uniform(*_LATER_SECONDS))
        with contextlib.suppress(ConnectionClosed):
            await self._answer(socket, message_id, command_id)

    async def _answer(self, socket: ClientConnection, message_id: str, command_id: str) -> None:
        if command_id.endswith(REFUSED):
            await socket.send(json.dumps([4, message_id, "InternalError", "", {}]))
        else:
            await socket.send(json.dumps([3, message_id, {"status": "Accepted", "data": command_id}]))
        self.answered.add(command_id)
