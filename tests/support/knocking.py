"""Who comes to a gateway's door, politely or by the hundred, from any address of this machine."""

from __future__ import annotations

import contextlib
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.callers import until
from support.gateway import Gateway
from support.raw_socket import CLOSE, TEXT, PeerClosed, RawSocket, Response, frame, handshake, http_get, metric
from support.stations import PASSWORD, basic

ELSEWHERE = (f"127.{high}.{middle}.{low}" for high in (3, 4) for middle in range(250) for low in range(1, 250))
"""Addresses that nobody else connects from, beside the fixture's."""

HURRY = 16
"""Attempts that a crowd makes at once."""


def visit(
    port: int,
    charge_point_id: str,
    password: str | None = PASSWORD,
    *,
    address: str,
    headers: Iterable[tuple[str, str]] = (),
    first: bytes = b"",
) -> Response:
    """The answer to a handshake; who is let in leaves again.

    ``password`` None: without a credential. ``first`` comes before everything else.
    """
    with RawSocket(port, address=address) as connection:
        _ask(connection, charge_point_id, password, headers, first)
        answer = connection.response()
        if answer.status == 101:
            leave(connection)
        return answer


@contextlib.contextmanager
def staying(
    port: int, charge_point_id: str, *, address: str, headers: Iterable[tuple[str, str]] = (), first: bytes = b""
) -> Iterator[RawSocket]:
    """A charge point that was let in, and is connected inside the block."""
    with RawSocket(port, address=address) as connection:
        _ask(connection, charge_point_id, PASSWORD, headers, first)
        assert (answer := connection.response()).status == 101, answer
        yield connection


def is_served(connection: RawSocket) -> bool:
    """Whether a connected charge point's Heartbeat is answered."""
    connection.send(frame(json.dumps([2, "still-here", "Heartbeat", {}]).encode()))
    answer = connection.frame()
    return answer.opcode == TEXT and json.loads(answer.payload)[:2] == [3, "still-here"]


def leave(connection: RawSocket) -> None:
    """Close in the proper way, or be closed."""
    with contextlib.suppress(PeerClosed):
        connection.send(frame(struct.pack("!H", 1000), CLOSE))
    connection.rest()


def crowd(count: int, attempt: Callable[[int], Response], *, at_once: int = HURRY) -> list[Response]:
    """The answers to ``attempt(0)`` and so on, made as fast as can be."""
    with ThreadPoolExecutor(at_once) as hands:
        return list(hands.map(attempt, range(count)))


def statuses(answers: Iterable[Response]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def retry_after(answer: Response) -> int:
    """The seconds that a refused one is told to stay away: always some, and whole."""
    told = answer.header("Retry-After")
    assert told is not None, answer
    assert told.isdecimal(), answer
    assert int(told) >= 1, answer
    return int(told)


def lines(gateway: Gateway, name: str, **fields: object) -> list[dict[str, Any]]:
    """Every log line up to now with ``event`` ``name`` and ``fields``."""
    # The log comes over a pipe: what a line of later tells has all been read.
    stranger = next(ELSEWHERE)
    visit(gateway.ocpp_port, "CP-stranger", None, address=stranger)
    gateway.wait_for("handshake.refused", peer=stranger)
    return [line for line in gateway.logged(name) if fields.items() <= line.items()]


def nobody_is_left(gateway: Gateway) -> None:
    """Every connection that was counted in is counted out; as soon as all have gone."""
    until(lambda: metric(gateway.http_port, "ocpp_sockets") == 0, "all sockets to be counted out", seconds=10)
    assert metric(gateway.http_port, "ocpp_handshakes_checking") == 0
    exposed = http_get(gateway.http_port, "/metrics").body
    assert b"\nocpp_sockets{" in exposed
    assert b"\nocpp_handshakes_checking " in exposed


def _ask(
    connection: RawSocket, charge_point_id: str, password: str | None, headers: Iterable[tuple[str, str]], first: bytes
) -> None:
    credentials = [] if password is None else basic(charge_point_id, password).items()
    connection.send(first + handshake(f"/ocpp/{charge_point_id}", headers=[*credentials, *headers]))
