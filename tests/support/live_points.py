"""A gateway with TLS, charge points connected to it, and what their operator changes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import redis as redis_py
from attrs import define, field
from support.certificates import Issued, Pki
from support.gateway import Gateway
from support.stations import auth_rules, basic, provision
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ocpp_gateway.redis.embedded import EmbeddedRedis

Result = TypeVar("Result")


class Loop:
    """``with Loop() as loop: loop.run(coroutine)``: an asyncio loop in a thread of its own.

    What goes on in it goes on between two calls too. The client of ``websockets`` that works with threads is no help
    here: it reads and writes at the same time, which Python's ``ssl`` does not allow; one in 500 connections hangs.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, Result], *, seconds: float = 30) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@define(eq=False)
class Point:
    """A connected charge point of the ``websockets`` package."""

    socket: ClientConnection
    loop: Loop

    def is_served(self) -> bool:
        message_id = str(uuid.uuid4())
        self.loop.run(self.socket.send(json.dumps([2, message_id, "Heartbeat", {}])))
        kind, answered, payload = json.loads(self.loop.run(asyncio.wait_for(self.socket.recv(), 15)))
        return (kind, answered, list(payload)) == (3, message_id, ["currentTime"])

    def end(self, deadline: float) -> tuple[int, str] | str:
        """The close code and text; or what came instead."""
        try:
            seconds = max(0.05, deadline - time.monotonic())  # time to tell what has come
            return f"heard {self.loop.run(asyncio.wait_for(self.socket.recv(), seconds))!r}"
        except TimeoutError:
            return "still connected"
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else "cut off"


@define(eq=False)
class World:
    """A gateway with TLS, and the Redis and the revocation list that tests change."""

    server: EmbeddedRedis
    gateway: Gateway
    pki: Pki
    crl: Path
    plain_port: int
    issued: dict[str, Issued] = field(factory=dict, init=False)

    @property
    def redis(self) -> redis_py.Redis:
        return redis_py.Redis.from_url(self.server.url)

    def enroll(self, name: str, kind: str = "basic", **members: Any) -> str:
        """A new identity that nobody has, with a password or a certificate."""
        charge_point_id = f"CP-{name}-{uuid.uuid4().hex[:8]}"
        rules = auth_rules(kind)
        if kind == "mtls":
            issued = self.pki.chargers.issue(charge_point_id)
            self.issued[charge_point_id] = issued
            rules["certificates"] = [{"fingerprint": issued.fingerprint}]
        provision(self.server.url, charge_point_id, **{"auth": rules, **members})
        return charge_point_id

    @contextlib.contextmanager
    def connected(self, *charge_point_ids: str, gateway: Gateway | None = None) -> Iterator[list[Point]]:
        port = (gateway or self.gateway).ocpp_port
        with Loop() as loop:
            points = []
            for each in charge_point_ids:
                opening = connect(
                    f"wss://127.0.0.1:{port}/ocpp/1.6/{each}",
                    ssl=self.pki.client(self.issued.get(each)),
                    subprotocols=["ocpp1.6"],  # type: ignore[list-item]
                    additional_headers={} if each in self.issued else basic(each),
                    close_timeout=1,
                    ping_interval=None,
                )
                points.append(Point(loop.run(_opened(opening)), loop))
            try:
                yield points
            finally:
                for point in points:
                    loop.run(point.socket.close())

    def read(self, charge_point_id: str) -> dict[str, Any]:
        raw: Any = self.redis.get(f"chargers:{charge_point_id}")
        return json.loads(raw)

    def write(self, charge_point_id: str, **members: Any) -> None:
        """Change the record as an operator's back end would: all of it anew."""
        self.redis.set(f"chargers:{charge_point_id}", json.dumps({**self.read(charge_point_id), **members}))

    def write_auth(self, charge_point_id: str, **members: Any) -> None:
        self.write(charge_point_id, auth={**self.read(charge_point_id)["auth"], **members})

    def bindings(self, charge_point_id: str, *more: dict[str, str], **members: str) -> list[dict[str, str]]:
        return [{"fingerprint": self.issued[charge_point_id].fingerprint, **members}, *more]

    def delete(self, charge_point_id: str) -> None:
        self.redis.delete(f"chargers:{charge_point_id}")

    def revoke_in_redis(self, charge_point_id: str) -> None:
        self.redis.set(f"revoked-certs:{self.issued[charge_point_id].fingerprint}", "1")

    def revoke_in_record(self, charge_point_id: str) -> None:
        self.write_auth(charge_point_id, revokedFingerprints=[self.issued[charge_point_id].fingerprint])

    def revoke_by_crl(self, *charge_point_ids: str) -> None:
        write_crl(self.crl, self.pki, *(self.issued[each] for each in charge_point_ids))


async def _opened(opening: connect) -> ClientConnection:
    return await opening


def write_crl(path: Path, pki: Pki, *revoked: Issued) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(pki.chargers.crl(revoked))
    fresh.replace(path)
