from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.redis.url import RedisUrl


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://localhost:6379", {"scheme": "redis", "host": "localhost", "port": 6379, "db": 0}),
        ("redis://localhost", {"port": 6379, "username": None, "password": None, "is_tls": False}),
        ("redis://:secret@cache/3", {"host": "cache", "password": "secret", "username": None, "db": 3}),
        ("redis://gateway:p%40ss%2Fw@cache:7000?db=2", {"username": "gateway", "password": "p@ss/w", "db": 2}),
        ("redis://[::1]:6380/1", {"host": "::1", "port": 6380, "db": 1}),
        ("rediss://cache", {"is_tls": True, "ca_file": None}),
        ("rediss://cache?ssl_ca_certs=/etc/ca.pem", {"ca_file": "/etc/ca.pem"}),
        (
            "rediss://cache/1?ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            {"certificate_file": "/c.pem", "key_file": "/k.pem", "db": 1},
        ),
        ("unix:///run/redis.sock", {"scheme": "unix", "socket_path": "/run/redis.sock", "db": 0}),
        ("unix://u:p@/run/redis.sock?db=4", {"username": "u", "password": "p", "db": 4}),
        ("embedded://", {"is_embedded": True}),
        (" redis://localhost ", {"host": "localhost"}),
    ],
)
def test_what_a_url_says(text: str, expected: dict[str, Any]) -> None:
    url = RedisUrl.parse(text)
    assert {name: getattr(url, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must begin with"),
        ("localhost:6379", "must begin with"),
        ("http://localhost", "must begin with"),
        ("redis+sentinel://localhost", "must begin with"),
        ("redis://", "host is missing"),
        ("redis://:6379", "host is missing"),
        ("redis://localhost:70000", "host or port"),
        ("redis://localhost:port", "host or port"),
        ("redis://[::1", "host or port"),
        ("redis://:se/cret@localhost", "host or port"),
        ("redis://:se#cret@localhost", "host or port"),
        ("redis://localhost#x", "'#' part"),
        ("redis://localhost/#", "'#' part"),
        ("redis://gateway@localhost", "no password"),
        ("redis://localhost/x", "database"),
        ("redis://localhost/-1", "database"),
        ("redis://localhost/1?db=1", "twice"),
        ("redis://localhost?db=", "empty"),
        ("redis://localhost?ssl_ca_certs=/x", "query parameters"),
        ("rediss://localhost?ssl_cert_reqs=none", "query parameters"),
        ("rediss://localhost?ssl_certfile=/x", "together"),
        ("redis://localhost?db=1&db=2", "query parameters"),
        ("unix://host/run/redis.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("embedded://x", "takes nothing"),
    ],
)
def test_what_is_wrong_with_a_url(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RedisUrl.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://gateway:hunter2@cache:7000/2", "redis://cache:7000/2"),
        ("redis://:hunter2@[::1]", "redis://[::1]:6379/0"),
        ("unix://:hunter2@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("embedded://", "embedded://"),
    ],
)
def test_its_text_is_fit_for_logs(text: str, shown: str) -> None:
    url = RedisUrl.parse(text)
    assert str(url) == shown
    assert "hunter2" not in repr(url)


@given(st.sampled_from("/?#@:[]% "), st.sampled_from(["redis", "rediss", "unix"]))
def test_no_piece_of_a_badly_escaped_password_is_told(character: str, scheme: str) -> None:
    try:
        url = RedisUrl.parse(f"{scheme}://user:hunter2{character}HUNTER3@somewhere/0")
    except ValueError as error:
        told = repr(error) + str(error.__cause__) + (str(error.__context__) if not error.__suppress_context__ else "")
    else:
        told = str(url)
    assert "hunter2" not in told
    assert "HUNTER3" not in told


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for url in (text, f"redis://{text}", f"rediss://h?{text}", f"unix://{text}"):
        try:
            parsed = RedisUrl.parse(url)
        except ValueError as error:
            assert str(error)
        else:
            assert parsed.is_embedded or parsed.host or parsed.socket_path
