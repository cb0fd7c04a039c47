"""Charge points of the ``ocpp`` package that take every CALL of their version, as its own handlers see it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from ocpp.charge_point import camel_to_snake_case
from ocpp.routing import on
from simulator.schema_payloads import _example, schema
from support.live_points import Loop
from support.stations import SUBPROTOCOLS, basic
from websockets.asyncio.client import connect

from ocpp_gateway.ocppj.actions import csms_actions
from ocpp_gateway.ocppj.versions import OcppVersion

VERSIONS = {"1.6": OcppVersion.V16, "2.0.1": OcppVersion.V201, "2.1": OcppVersion.V21}
_LIBRARIES = {"1.6": "ocpp.v16", "2.0.1": "ocpp.v201", "2.1": "ocpp.v21"}


def smallest_answer(version: str, action: str) -> dict[str, Any]:
    """The smallest CALLRESULT that the standard allows."""
    whole = schema(VERSIONS[version], f"{action}Response")
    answer: dict[str, Any] = _example(whole, whole.get("definitions", {}), is_full=False)
    return answer


class OcppPoint:
    """``with OcppPoint(url, identity, version) as point``: in a thread of its own; says ``answers``, by action."""

    def __init__(self, url: str, charge_point_id: str, version: str) -> None:
        self.heard: list[list[Any]] = []
        """The frames that came."""

        self.handled: list[tuple[str, dict[str, Any]]] = []
        """Actions and arguments, as the package's handlers got them."""

        self.answers: dict[str, dict[str, Any]] = {}
        self._version = version
        self._url = f"{url}/ocpp/{version}/{charge_point_id}"
        self._charge_point_id = charge_point_id
        self._loop = Loop()
        self._exits = contextlib.AsyncExitStack()
        self._listening: asyncio.Task[None] | None = None

    def __enter__(self) -> OcppPoint:
        self._loop.__enter__()
        self._loop.run(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self._loop.run(self._close())
        self._loop.__exit__()

    async def _open(self) -> None:
        socket = await self._exits.enter_async_context(
            connect(
                self._url,
                subprotocols=[SUBPROTOCOLS[self._version]],  # type: ignore[list-item]
                additional_headers=basic(self._charge_point_id),
                close_timeout=1,
                ping_interval=None,
            )
        )
        library = importlib.import_module(_LIBRARIES[self._version])
        point = self
        members: dict[str, Any] = {}
        for action in csms_actions(VERSIONS[self._version]):
            result = getattr(importlib.import_module(f"{_LIBRARIES[self._version]}.call_result"), action)

            def handler(_: Any, *, action: str = action, result: Any = result, **arguments: Any) -> Any:
                point.handled.append((action, arguments))
                answer = point.answers.get(action) or smallest_answer(point._version, action)
                return result(**camel_to_snake_case(answer))

            handler.__name__ = f"on_{action}"
            members[handler.__name__] = on(action)(handler)

        class Recording(library.ChargePoint):  # type: ignore[name-defined, misc]
            async def route_message(self, raw: Any) -> None:
                point.heard.append(json.loads(raw))
                await super().route_message(raw)

        charge_point = type("Answering", (Recording,), members)(self._charge_point_id, socket)
        self._listening = asyncio.get_running_loop().create_task(charge_point.start())

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._listening
        await self._exits.aclose()


@contextlib.contextmanager
def points_of(url: str, *identities: tuple[str, str]) -> Iterator[list[OcppPoint]]:
    """Several, each (identity, version)."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(OcppPoint(url, *each)) for each in identities]
