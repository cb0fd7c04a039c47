"""Redis without the project's own client, so that it does not vouch for itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from urllib.parse import urlsplit


def stored_bytes(redis_url: str, key: str) -> bytes | None:
    """The value of ``key``."""
    with _asking(redis_url, "GET", key.encode()) as answer:
        length = int(answer.readline().removeprefix(b"$"))
        return None if length < 0 else answer.read(length)


def store(redis_url: str, key: str, value: bytes) -> None:
    with _asking(redis_url, "SET", key.encode(), value) as answer:
        assert answer.readline() == b"+OK\r\n"


def count_keys(redis_url: str) -> int:
    with _asking(redis_url, "DBSIZE") as answer:
        return int(answer.readline().removeprefix(b":"))


@contextmanager
def _asking(redis_url: str, *words: str | bytes) -> Iterator[IO[bytes]]:
    url = urlsplit(redis_url)
    place = (str(url.hostname), url.port or 0)
    with socket.create_connection(place, timeout=5.0) as connection, connection.makefile("rb") as answer:
        connection.sendall(_command("AUTH", str(url.password)) + _command(*words))
        assert answer.readline() == b"+OK\r\n"
        yield answer


def _command(*words: str | bytes) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
