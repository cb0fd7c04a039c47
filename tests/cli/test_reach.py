"""Whether anybody listens, for an error message that comes soon."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ocpp_gateway.cli.reach import kafka_addresses, redis_address, refusal
from ocpp_gateway.redis.url import RedisUrl


def test_a_closed_port_is_refused_and_an_open_one_is_not() -> None:
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as listening:
        closed.bind(("127.0.0.1", 0))  # taken, so that nobody else listens there meanwhile
        nobody, somebody = closed.getsockname(), listening.getsockname()
        assert refusal([nobody]) == "Connection refused"
        assert refusal([nobody, nobody]) == "Connection refused"
        assert refusal([somebody]) is None
        assert refusal([nobody, somebody]) is None
    assert refusal([]) is None


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert refusal([path]) == "No such file or directory"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        assert refusal([path]) == "Connection refused"
        listening.listen()
        assert refusal([path]) is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://:p@h:1/2", ("h", 1)),
        ("rediss://h", ("h", 6379)),
        ("redis://[::1]:7", ("::1", 7)),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_where_redis_is(url: str, address: tuple[str, int] | str) -> None:
    assert redis_address(RedisUrl.parse(url)) == address


def test_where_brokers_are() -> None:
    found = kafka_addresses("a:1, b,SASL_SSL://c:3,[::1]:4,PLAINTEXT://[::1]")
    assert found == [("a", 1), ("b", 9092), ("c", 3), ("::1", 4), ("::1", 9092)]
    assert kafka_addresses("") == []
