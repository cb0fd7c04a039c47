"""The opening handshake, byte by byte: who is refused with what, who is let in, and what nobody ever gets to see."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis as redis_py
from attrs import field, frozen
from support.gateway import Gateway
from support.raw_socket import CLOSE, RawSocket, Response, handshake, http_get, metric
from support.stations import PASSWORD, basic, provision

from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.redis.embedded import EmbeddedRedis

TOKEN = "t0ken-of-a-charge-point"
WRONG = "a wrong password, but typed by somebody"
SALT = "saltsalt"


def sha256(secret: bytes) -> str:
    return hashlib.sha256(SALT.encode() + secret).hexdigest()


def scrypt(secret: bytes) -> str:
    return "scrypt$" + hashlib.scrypt(secret, salt=SALT.encode(), n=16384, r=8, p=1, dklen=32).hex()


def auth(**members: Any) -> dict[str, Any]:
    return {"type": "basic", "hashAlgorithm": "sha256", "secretSalt": SALT, **members}


def authorization(user: str, password: str | bytes = PASSWORD) -> tuple[str, str]:
    return "Authorization", basic(user, password)["Authorization"]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def redis_url(redis_server: EmbeddedRedis) -> str:
    return redis_server.url


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """Talkative: all that it can be made to say is said, and none of it may be a secret."""
    with Gateway(redis_url, brokers, LOG_LEVEL="debug", FLOOD_LOG_COOLDOWN="0") as running:
        yield running
    assert_no_secrets(json.dumps(running.events))


@pytest.fixture(scope="module")
def literal_gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """Does as OCPP-J says about subprotocols, is in a hurry, and logs a refusal once."""
    with Gateway(
        redis_url, brokers, OCPP_SUBPROTOCOL_MISMATCH="close", OCPP_HANDSHAKE_TIMEOUT="1", FLOOD_LOG_COOLDOWN="300"
    ) as running:
        yield running


_addresses = (f"127.0.{high}.{low}" for high in range(1, 250) for low in range(1, 250))


@pytest.fixture
def address() -> str:
    """A loopback address that only this test connects from: the log's lines about it are this test's."""
    return next(_addresses)


@contextlib.contextmanager
def frozen_redis(server: EmbeddedRedis) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def assert_no_secrets(text: str) -> None:
    for secret in (PASSWORD, WRONG, TOKEN, b64encode(WRONG.encode()).decode()[4:-4], sha256(PASSWORD.encode())):
        assert secret not in text
    # Base64 of the password, wherever in a group of three bytes it begins.
    for shift in range(3):
        encoded = b64encode(b"x" * shift + PASSWORD.encode()).decode()
        assert encoded[4:-4] not in text


def turn(gateway: Gateway, port: int) -> None:
    """All that the gateway received before is in its hands now: one whole exchange later."""
    with RawSocket(port) as other:
        other.send(handshake("/ocpp"))
        assert other.response().status == 404


def ask(port: int, request: bytes, address: str = "127.0.0.1") -> Response:
    with RawSocket(port, address=address) as connection:
        connection.send(request)
        return connection.response()


# Refused.


@frozen
class Refused:
    reason: str
    request: Callable[[str], bytes]
    record: dict[str, Any] | None = field(factory=dict)
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.reason


def asking(
    target: str = "/ocpp/1.6/{}",
    *credentials: tuple[str, str],
    headers: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> Callable[[str], bytes]:
    """A request of a charge point with the right password, unless other ``credentials`` are given."""

    def request(identity: str) -> bytes:
        shown = credentials or (authorization(identity),)
        return handshake(target.format(identity), headers=(*shown, *headers), **options)

    return request


def with_block(change: Callable[[bytes], bytes]) -> Callable[[str], bytes]:
    return lambda identity: change(handshake(f"/ocpp/{identity}", headers=[authorization(identity)]))


def raw(block: bytes) -> Callable[[str], bytes]:
    return lambda _: block


ANYBODY = ("X-Nobody", "")
UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
BASIC = (("WWW-Authenticate", 'Basic realm="ocpp"'),)
BEARER = (("WWW-Authenticate", 'Bearer realm="ocpp"'),)

# The request as such: judged on the OCPP port, before anybody is asked anything. The HTTP port has a parser before it.
MALFORMED = [
    Refused("malformed_request", raw(b"\r\n\r\n")),
    Refused("malformed_request", raw(b"GET /ocpp/CP-1\r\n\r\n")),
    Refused("malformed_request", raw(b"GET  /ocpp/CP-1  HTTP/1.1\r\n\r\n")),
    Refused("malformed_request", raw(b"GET /ocpp/CP 1 HTTP/1.1\r\n\r\n")),
    Refused("malformed_request", raw("GET /ocpp/CP-é HTTP/1.1\r\n\r\n".encode())),
    Refused("malformed_request", with_block(lambda block: block.replace(b"Host: ", b"Host : "))),
    Refused("malformed_request", with_block(lambda block: block.replace(b"Host: localhost", b"no colon"))),
    Refused("malformed_request", raw(b"\x16\x03\x01\x02\x00\r\n\r\n".replace(b"\x16\x03\x01\x02\x00", b"?"))),
    *(
        Refused("control_bytes", with_block(lambda block, byte=byte: block.replace(b"Host: ", b"Host: x" + byte)))
        for byte in (b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x7f", b"\x85", b"\n", b"\r")
    ),
    Refused(
        "control_bytes",
        lambda identity: handshake(
            f"/ocpp/{identity}", headers=[("X-A", "1\x0bAuthorization: " + authorization(identity)[1])]
        ),
    ),
    Refused("control_bytes", raw(b"GET /ocpp/CP-1\x00 HTTP/1.1\r\nHost: a\r\n\r\n")),
    Refused("folded_header", with_block(lambda block: block.replace(b"Host: ", b"X-A: 1\r\n 2\r\nHost: "))),
    Refused("repeated_header", asking(headers=[("Authorization", "Basic Og==")])),
    Refused("repeated_header", asking(headers=[("Host", "other")])),
    Refused("too_many_headers", asking(headers=[("X-A", "1")] * 100)),
    Refused("header_block_too_large", asking(headers=[("X-A", "1" * 16_384)])),
    Refused("http_version_not_supported", asking(version="HTTP/1.0")),
    Refused("http_version_not_supported", asking(version="HTTP/2.0")),
    Refused("method_not_allowed", asking(method="POST"), headers=(("Allow", "GET"),)),
    Refused("host_invalid", asking(without=["Host"])),
    Refused("host_invalid", asking(without=["Host"], headers=[("Host", "a b")])),
    Refused("unexpected_body", asking(headers=[("Content-Length", "4")])),
    Refused("unexpected_body", asking(headers=[("Transfer-Encoding", "chunked")])),
    Refused("websocket_key_invalid", asking(without=["Sec-WebSocket-Key"])),
    Refused("websocket_key_invalid", asking(without=["Sec-WebSocket-Key"], headers=[("Sec-WebSocket-Key", "short")])),
]

# Where it leads, who may connect and with what: the same on both ports.
UNWANTED = [
    Refused("upgrade_required", asking(without=["Upgrade"]), headers=UPGRADE),
    Refused("upgrade_required", asking(without=["Connection"]), headers=UPGRADE),
    Refused(
        "websocket_version_not_supported",
        asking(without=["Sec-WebSocket-Version"], headers=[("Sec-WebSocket-Version", "12")]),
        headers=(("Sec-WebSocket-Version", "13"),),
    ),
    Refused("unknown_path", asking("/ocpp")),
    Refused("unknown_path", asking("/ocpp/1.6/{}/more")),
    Refused("unknown_path", asking("/ocpp/1.6/{}//")),
    Refused("unknown_version", asking("/ocpp/1.5/{}")),
    Refused("identity_malformed", asking("/ocpp/1.6/")),
    Refused("identity_malformed", asking("/ocpp/1.6/charger-1")),
    Refused("identity_malformed", asking("/ocpp/1.6/{};type=a")),
    Refused("identity_malformed", asking("/ocpp/1.6/{}%0d%0a")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%FF")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%2")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%252D")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-a%2Fb")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-" + "1" * 46)),
    Refused("suspicious_path", asking("/ocpp/../../etc/passwd")),
    Refused("suspicious_path", asking("/ocpp/1.6/CP-1'%20OR%201=1--")),
    Refused("subprotocol_missing", asking(subprotocols=None)),
    Refused("subprotocol_missing", asking(subprotocols=" , ")),
    Refused("no_common_subprotocol", asking(subprotocols="ocpp1.5, ocpp0.1, mqtt")),
    Refused("identity_missing", asking(), record=None),
    Refused("identity_invalid", asking(), record={"chargePointId": "CP-other"}),
    Refused("identity_invalid", asking(), record={"stationId": None}),
    Refused("status_inactive", asking(), record={"status": "disabled"}),
    Refused("protocol_not_allowed", asking(), record={"allowedProtocols": ["2.0.1", "ocpp2.1"]}),
    Refused("ip_not_allowed", asking(), record={"allowedIps": ["10.0.0.10"]}),
    Refused("ip_not_allowed", asking(), record={"allowedCidrs": ["10.0.0.0/8", "2001:db8::/32"]}),
    Refused("auth_mode_not_allowed", asking(), record={"auth": auth(allowedTypes=["token"])}),
    Refused("auth_mode_not_allowed", asking(), record={"auth": auth(type="kerberos")}),
    Refused("basic_missing_header", asking("/ocpp/{}", ANYBODY), headers=BASIC),
    Refused("basic_missing_header", asking("/ocpp/{}", ("Authorization", f"Bearer {TOKEN}")), headers=BASIC),
    Refused("basic_invalid_format", asking("/ocpp/{}", ("Authorization", "Basic " + "A" * 2000)), headers=BASIC),
    Refused("basic_invalid_format", asking("/ocpp/{}", ("Authorization", "Basic Zm9v")), headers=BASIC),
    Refused("basic_invalid_format", asking("/ocpp/{}", ("Authorization", "Basic ?")), headers=BASIC),
    Refused("basic_user_mismatch", asking("/ocpp/{}", authorization("CP-other")), headers=BASIC),
    Refused("basic_hash_missing", asking(), record={"auth": {"type": "basic"}}, headers=BASIC),
    Refused(
        "basic_invalid",
        lambda identity: handshake(f"/ocpp/{identity}", headers=[authorization(identity, WRONG)]),
        headers=BASIC,
    ),
    Refused(
        "basic_invalid",
        lambda identity: handshake(f"/ocpp/{identity}", headers=[authorization(identity, WRONG)]),
        record={"auth": {"type": "basic", "secretHash": scrypt(PASSWORD.encode()), "secretSalt": SALT}},
        headers=BASIC,
    ),
    Refused("token_missing", asking(), record={"auth": auth(type="token", tokenHash=sha256(b"x"))}, headers=BEARER),
    Refused(
        "token_hash_missing",
        asking("/ocpp/{}", ("Authorization", f"Bearer {TOKEN}")),
        record={"auth": auth(type="token")},
        headers=BEARER,
    ),
    Refused(
        "token_invalid",
        asking("/ocpp/{}", ("x-api-key", TOKEN)),
        record={"auth": auth(type="token", tokenHash=sha256(b"x"))},
        headers=BEARER,
    ),
    Refused("mtls_missing_cert", asking(), record={"auth": auth(type="mtls")}),
]


def assert_refused(case: Refused, answer: Response) -> None:
    refusal = REFUSALS[case.reason]
    assert (answer.status, answer.body.decode()) == (refusal.status, refusal.wire_text)
    for name, value in case.headers:
        given = answer.header(name)
        assert given is not None
        assert given.startswith(value)
    if "Connection" not in dict(case.headers):
        assert answer.header("Connection") == "close"
    assert answer.header("Server") is None
    assert (answer.header("WWW-Authenticate") is not None) == (refusal.status == 401)
    assert_no_secrets(repr(answer))


@pytest.fixture
def refuse(gateway: Gateway, redis_url: str, address: str, charge_point_id: str) -> Callable[[Refused, int], None]:
    def check(case: Refused, port: int) -> None:
        if case.record is None:
            with redis_py.Redis.from_url(redis_url) as client:
                client.delete(f"chargers:{charge_point_id}")
        elif case.record:
            provision(redis_url, charge_point_id, **case.record)
        counted = metric(gateway.http_port, "ocpp_handshakes_total", result="refused", reason=case.reason)
        with RawSocket(port, address=address) as connection:
            connection.send(case.request(charge_point_id))
            assert_refused(case, connection.response())
            assert connection.rest() == b""
        line = gateway.wait_for("handshake.refused", peer=address)
        assert (line["reason"], line["status"], line["level"]) == (case.reason, REFUSALS[case.reason].status, "warn")
        assert metric(gateway.http_port, "ocpp_handshakes_total", reason=case.reason) == counted + 1

    return check


@pytest.mark.parametrize("case", MALFORMED, ids=str)
def test_a_malformed_request_is_refused(
    gateway: Gateway, refuse: Callable[[Refused, int], None], case: Refused
) -> None:
    refuse(case, gateway.ocpp_port)


@pytest.mark.parametrize("case", UNWANTED, ids=str)
@pytest.mark.parametrize("port", ["ocpp", "http"])
def test_who_may_not_connect_is_refused(
    gateway: Gateway, refuse: Callable[[Refused, int], None], case: Refused, port: str
) -> None:
    refuse(case, gateway.ocpp_port if port == "ocpp" else gateway.http_port)


def test_every_reason_for_a_refusal_is_tried_here_or_needs_an_outage() -> None:
    tried = {case.reason for case in (*MALFORMED, *UNWANTED)}
    elsewhere = {"second_request", "handshake_timeout", "redis_unavailable", "handshake_rejected"}  # below
    outages = {"hashing_busy", "readmission_limited", "starting", "draining", "kafka_unavailable", "kafka_queue_full"}
    never = {"internal_error", "rate_limited", "too_many_connections"}
    tls = {reason for reason in REFUSALS if reason.startswith("mtls_")}
    assert set(REFUSALS) - tried - tls == (elsewhere | outages | never) & set(REFUSALS)
