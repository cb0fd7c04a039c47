"""The opening handshake, byte by byte: who is refused with what, who is let in, and what nobody ever gets to see."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis as redis_py
from attrs import field, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateway import Gateway
from support.raw_socket import CLOSE, PeerClosed, RawSocket, Response, handshake, http_get, metric
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
        redis_url, brokers, OCPP_SUBPROTOCOL_MISMATCH="close", OCPP_HANDSHAKE_TIMEOUT="2", FLOOD_LOG_COOLDOWN="300"
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
    Refused(
        "control_bytes",
        lambda identity: handshake(
            f"/ocpp/{identity}", headers=[("X-A", "1\x0bAuthorization: " + authorization(identity)[1])]
        ),
    ),
    *(
        Refused("control_bytes", with_block(lambda block, byte=byte: block.replace(b"Host: ", b"Host: x" + byte)))
        for byte in (b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x7f", b"\x85", b"\n", b"\r")
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
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%FF")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%2")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-%252D")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-a%2Fb")),
    Refused("identity_malformed", asking("/ocpp/1.6/CP-" + "1" * 46)),
    Refused("suspicious_path", asking("/ocpp/../../etc/passwd")),
    Refused("suspicious_path", asking("/ocpp/1.6/CP-1'%20OR%201=1--")),
    Refused("suspicious_path", asking("/ocpp/1.6/{}%0d%0aX-A:1")),
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
def refuse(gateway: Gateway, redis_url: str, charge_point_id: str) -> Callable[[Refused, int], None]:
    def check(case: Refused, port: int) -> None:
        address = next(_addresses)
        provision(redis_url, charge_point_id, **(case.record or {}))
        if case.record is None:
            with redis_py.Redis.from_url(redis_url) as client:
                client.delete(f"chargers:{charge_point_id}")
        counted = metric(gateway.http_port, "ocpp_handshakes_total", result="refused", reason=case.reason)
        with RawSocket(port, address=address) as connection:
            connection.send(case.request(charge_point_id))
            assert_refused(case, connection.response())
            assert connection.rest() == b""
        line = gateway.wait_for("handshake.refused", peer=address)
        assert (line["reason"], line["status"], line["level"]) == (case.reason, REFUSALS[case.reason].status, "warn")
        assert line["charge_point_id"] in (None, charge_point_id)
        assert metric(gateway.http_port, "ocpp_handshakes_total", reason=case.reason) == counted + 1

    return check


@pytest.mark.parametrize("reason", sorted({case.reason for case in (*MALFORMED, *UNWANTED)}))
def test_a_refusal_has_its_status_its_headers_and_its_name(
    gateway: Gateway, refuse: Callable[[Refused, int], None], reason: str
) -> None:
    for case in (*MALFORMED, *UNWANTED):
        if case.reason == reason:
            refuse(case, gateway.ocpp_port)


def test_the_http_port_refuses_the_same(gateway: Gateway, refuse: Callable[[Refused, int], None]) -> None:
    smuggled = next(case for case in MALFORMED if case.reason == "control_bytes")
    for case in (smuggled, *{case.reason: case for case in UNWANTED}.values()):
        refuse(case, gateway.http_port)


def test_every_reason_for_a_refusal_is_tried_here_or_needs_an_outage() -> None:
    tried = {case.reason for case in (*MALFORMED, *UNWANTED)}
    elsewhere = {"second_request", "handshake_timeout", "redis_unavailable"}  # below
    outages = {"hashing_busy", "readmission_limited", "starting", "draining", "kafka_unavailable", "kafka_queue_full"}
    limits = {"rate_limited", "too_many_connections", "banned", "reconnect_limited", "overloaded"}
    never = {"internal_error", *limits}
    # In test_daemon_tls.py, test_daemon_mtls.py and test_daemon_proxies.py.
    tls = {reason for reason in REFUSALS if reason.startswith(("mtls_", "tls_", "proxy_", "profile_"))}
    assert set(REFUSALS) - tried - tls == (elsewhere | outages | never) & set(REFUSALS)


# Let in.


@frozen
class LetIn:
    name: str
    credentials: Callable[[str], tuple[str, str]]
    record: dict[str, Any] = field(factory=dict)
    subprotocol: str = "ocpp1.6"

    def __str__(self) -> str:
        return self.name


KEY = bytes.fromhex("00ff7f80c1a0" + "3a" * 14)  # 20 bytes: NUL, no UTF-8, and colons
KEY_TEXT = KEY.hex()
BY_KEY = {"auth": auth(secretHash=sha256(KEY))}
BY_KEY_TEXT = {"auth": auth(secretHash=sha256(KEY_TEXT.encode()))}
BY_SCRYPT = {"auth": {"type": "basic", "secretSalt": SALT, "secretHash": scrypt(PASSWORD.encode())}}
BY_TOKEN = {"auth": auth(type="token", tokenHash=sha256(TOKEN.encode()))}
BY_TOKEN_SCRYPT = {"auth": auth(type="token", tokenHash=scrypt(TOKEN.encode()))}
BY_OTHER_NAME = {"auth": auth(username="someone", secretHash=sha256(PASSWORD.encode()))}
UNSALTED = {"auth": {"type": "basic", "secretHash": "sha256$" + hashlib.sha256(PASSWORD.encode()).hexdigest()}}

LET_IN = [
    LetIn("salted password", authorization),
    LetIn("scrypt", authorization, BY_SCRYPT),
    LetIn("no salt", authorization, UNSALTED),
    LetIn("user name of its own", lambda _: authorization("someone"), BY_OTHER_NAME),
    LetIn("scheme in capitals", lambda identity: ("AUTHORIZATION", "BASIC" + authorization(identity)[1][5:])),
    LetIn("address on the list", authorization, {"allowedIps": ["127.0.0.1"], "allowedCidrs": ["127.0.0.0/8"]}),
    LetIn("token as bearer", lambda _: ("Authorization", f"Bearer {TOKEN}"), BY_TOKEN),
    LetIn("token as API key", lambda _: ("X-Api-Key", TOKEN), BY_TOKEN),
    LetIn("token in scrypt", lambda _: ("x-api-key", TOKEN), BY_TOKEN_SCRYPT),
    LetIn("key as bytes, stored as bytes", lambda identity: authorization(identity, KEY), BY_KEY),
    LetIn("key as bytes, stored as text", lambda identity: authorization(identity, KEY), BY_KEY_TEXT),
    LetIn("key as text, stored as bytes", lambda identity: authorization(identity, KEY_TEXT), BY_KEY),
    LetIn("key as text, stored as text", lambda identity: authorization(identity, KEY_TEXT), BY_KEY_TEXT),
    LetIn("key in capitals", lambda identity: authorization(identity, KEY_TEXT.upper()), BY_KEY_TEXT),
    LetIn("bytes in 2.0.1", lambda identity: authorization(identity, KEY), BY_KEY, "ocpp2.0.1"),
]


@pytest.mark.parametrize("case", LET_IN, ids=str)
def test_the_right_credential_is_let_in(
    gateway: Gateway, redis_url: str, charge_point_id: str, address: str, case: LetIn
) -> None:
    provision(redis_url, charge_point_id, **case.record)
    request = handshake(
        f"/ocpp/{charge_point_id}", subprotocols=case.subprotocol, headers=[case.credentials(charge_point_id)]
    )

    answer = ask(gateway.ocpp_port, request, address)

    assert (answer.status, answer.header("Sec-WebSocket-Protocol")) == (101, case.subprotocol)
    assert answer.header("Server") is None
    opened = gateway.wait_for("session.opened", charge_point_id=charge_point_id)
    assert (opened["peer"], opened["security_profile"]) == (address, 1)


@pytest.mark.parametrize(
    ("stored", "shown"), [(BY_KEY, KEY_TEXT), (BY_KEY_TEXT, KEY)], ids=["text for bytes", "bytes for text"]
)
def test_the_two_spellings_of_a_key_are_the_same_in_16_only(
    gateway: Gateway, redis_url: str, charge_point_id: str, stored: dict[str, Any], shown: str | bytes
) -> None:
    provision(redis_url, charge_point_id, **stored)
    headers = [authorization(charge_point_id, shown)]

    assert ask(gateway.ocpp_port, handshake(f"/ocpp/{charge_point_id}", headers=headers)).status == 101
    for newer in ("ocpp2.0.1", "ocpp2.1"):
        request = handshake(f"/ocpp/{charge_point_id}", subprotocols=newer, headers=headers)
        assert ask(gateway.ocpp_port, request).status == 401


@pytest.mark.parametrize(
    ("offered", "echoed", "version", "quirk"),
    [
        ("ocpp1.6", "ocpp1.6", "1.6J", None),
        ("OCPP2.0.1", "OCPP2.0.1", "2.0.1", "cased_subprotocol"),
        ("ocpp1.6j", "ocpp1.6j", "1.6J", "misspelled_subprotocol"),
        ("Ocpp1.6J", "Ocpp1.6J", "1.6J", "cased_subprotocol"),
        ("ocpp0.1, ocpp2.1,ocpp1.6", "ocpp2.1", "2.1", None),
        ("ocpp1.6, ocpp2.1", "ocpp1.6", "1.6J", None),
        (",ocpp1.6,", "ocpp1.6", "1.6J", "mangled_subprotocols"),
        ("ocpp2.0.1;ocpp1.6", "ocpp2.0.1", "2.0.1", "mangled_subprotocols"),
        ("ocpp1.6 ocpp2.0.1", "ocpp1.6", "1.6J", "mangled_subprotocols"),
        ('"ocpp1.6"', "ocpp1.6", "1.6J", "mangled_subprotocols"),
        ("ocpp1.6, ocpp1.6", "ocpp1.6", "1.6J", "mangled_subprotocols"),
        ("ocpp1.5\r\nSec-WebSocket-Protocol: ocpp2.1", "ocpp2.1", "2.1", None),
    ],
)
def test_the_subprotocol_is_the_first_that_is_known_and_echoed_as_written(
    gateway: Gateway, charge_point_id: str, offered: str, echoed: str, version: str, quirk: str | None
) -> None:
    def count() -> float:
        return metric(gateway.http_port, "ocpp_quirks_total", version=version, quirk=quirk or "")

    before = count()
    request = handshake(f"/ocpp/{charge_point_id}", subprotocols=offered, headers=[authorization(charge_point_id)])

    answer = ask(gateway.ocpp_port, request)

    assert (answer.status, answer.header("Sec-WebSocket-Protocol")) == (101, echoed)
    assert gateway.wait_for("session.opened", charge_point_id=charge_point_id)["ocpp_version"] == version
    assert count() == before + (quirk is not None)


def test_the_subprotocol_decides_not_the_path(gateway: Gateway, charge_point_id: str) -> None:
    def count() -> float:
        return metric(gateway.http_port, "ocpp_quirks_total", version="2.0.1", quirk="path_version_mismatch")

    before = count()
    headers = [authorization(charge_point_id)]

    answer = ask(
        gateway.ocpp_port, handshake(f"/ocpp/1.6/{charge_point_id}", subprotocols="ocpp2.0.1", headers=headers)
    )

    assert (answer.status, answer.header("Sec-WebSocket-Protocol"), count()) == (101, "ocpp2.0.1", before + 1)


def test_a_charge_point_gets_the_version_that_its_record_allows(
    gateway: Gateway, redis_url: str, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, allowedProtocols=["OCPP1.6"])

    answer = ask(
        gateway.ocpp_port,
        handshake(
            f"/ocpp/{charge_point_id}",
            subprotocols="ocpp2.0.1, ocpp1.6",
            headers=[authorization(charge_point_id)],
        ),
    )

    assert answer.header("Sec-WebSocket-Protocol") == "ocpp1.6"


@pytest.mark.parametrize(
    "target",
    [
        "/ocpp/{}",
        "/ocpp/{}/",
        "/ocpp/1.6/{}",
        "/ocpp/1.6J/{}/",
        "/ocpp/2.0.1/{}",
        "/ocpp/%31.6/{}?token=a&b=/../x",
        "/ocpp/%43P%2d{tail}",
    ],
)
def test_the_identity_is_the_last_segment_decoded_once(gateway: Gateway, charge_point_id: str, target: str) -> None:
    path = target.format(charge_point_id, tail=charge_point_id.removeprefix("CP-"))

    for port in (gateway.ocpp_port, gateway.http_port):
        assert ask(port, handshake(path, headers=[authorization(charge_point_id)])).status == 101

    gateway.wait_for("session.opened", charge_point_id=charge_point_id, epoch=2)


def test_an_identity_with_reserved_characters_is_percent_encoded(gateway: Gateway, redis_url: str) -> None:
    identity = "CP-RDAM|123+a=b"
    provision(redis_url, identity)

    assert ask(gateway.ocpp_port, handshake("/ocpp/CP-RDAM%7C123+a=b", headers=[authorization(identity)])).status == 101

    gateway.wait_for("session.opened", charge_point_id=identity)


def test_extensions_that_cannot_be_met_are_passed_over(gateway: Gateway, charge_point_id: str) -> None:
    for extensions in (
        'x-mine; a="b"',
        "permessage-deflate; no_such=parameter",
        "permessage-deflate; ?=,,;;",
    ):
        headers = [authorization(charge_point_id), ("Sec-WebSocket-Extensions", extensions)]
        answer = ask(gateway.ocpp_port, handshake(f"/ocpp/{charge_point_id}", headers=headers))
        assert (answer.status, answer.header("Sec-WebSocket-Extensions")) == (101, None)


# No common version, by the text of OCPP-J: upgraded without the header, and closed.


@pytest.mark.parametrize("offered", ["ocpp1.5", None])
def test_no_common_version_is_upgraded_and_closed_where_the_operator_wants_it(
    literal_gateway: Gateway, redis_url: str, charge_point_id: str, offered: str | None
) -> None:
    request = handshake(f"/ocpp/{charge_point_id}", subprotocols=offered, headers=[authorization(charge_point_id)])
    with RawSocket(literal_gateway.ocpp_port) as connection:
        connection.send(request)
        answer = connection.response()
        assert (answer.status, answer.header("Sec-WebSocket-Protocol")) == (101, None)
        closing = connection.frame()
        assert (closing.opcode, closing.close_code, closing.close_text) == (CLOSE, 1002, "No common OCPP version")
        connection.send(b"\x88\x80abcd")
        assert connection.rest() == b""
    with redis_py.Redis.from_url(redis_url) as client:
        assert client.get(f"sessions:{charge_point_id}") is None
    assert not [line for line in literal_gateway.logged("session.opened") if line["charge_point_id"] == charge_point_id]


def test_even_then_the_credential_comes_first(literal_gateway: Gateway, charge_point_id: str) -> None:
    request = handshake(
        f"/ocpp/{charge_point_id}", subprotocols="ocpp1.5", headers=[authorization(charge_point_id, WRONG)]
    )

    answer = ask(literal_gateway.ocpp_port, request)

    assert answer.status == 401


# Anything at all.


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_comes_is_refused_or_let_in_never_an_error_of_ours(
    gateway: Gateway, redis_url: str, data: st.DataObject
) -> None:
    provision(redis_url, "CP-fuzz")
    block = bytearray(handshake("/ocpp/1.6/CP-fuzz?a=b", headers=[authorization("CP-fuzz"), ("X-A", "1")]))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(block)))
        block[place : place + data.draw(st.integers(0, 8))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"/", b"%", b"\x0b", b":", b",", b" " * 9])
        )
    port = data.draw(st.sampled_from([gateway.ocpp_port, gateway.http_port]))
    with RawSocket(port) as connection:
        connection.send(bytes(block) if b"\r\n\r\n" in block else bytes(block) + b"\r\n\r\n")
        with contextlib.suppress(PeerClosed):
            answer = connection.response()
            assert answer.status in (101, 400, 401, 404, 405, 426, 431, 505)
            assert_no_secrets(repr(answer))


# Limits of time and space.


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["with its end", "without its end"])
def test_a_header_block_over_16_kib_is_cut_off_at_once(gateway: Gateway, address: str, end: bytes) -> None:
    with RawSocket(gateway.ocpp_port, address=address) as connection:
        connection.send(b"GET /ocpp/CP-1 HTTP/1.1\r\nX-A: ".ljust(16_385, b"a") + end)
        answer = connection.response()
        assert (answer.status, answer.body) == (431, b"header_block_too_large")
        assert connection.rest() == b""
    gateway.wait_for("handshake.refused", peer=address, reason="header_block_too_large")


def test_a_header_block_that_comes_byte_by_byte_ends_at_the_same_length(gateway: Gateway, address: str) -> None:
    with RawSocket(gateway.ocpp_port, address=address) as connection:
        connection.send_bytewise(b"GET /ocpp/CP-1 HTTP/1.1\r\nX-A: ".ljust(16_385, b"a"))
        assert connection.response().status == 431


def test_a_header_block_of_16_kib_that_comes_byte_by_byte_is_let_in(gateway: Gateway, charge_point_id: str) -> None:
    request = handshake(f"/ocpp/{charge_point_id}", headers=[authorization(charge_point_id), ("X-A", "")])
    request = request[:-4] + b"a" * (16_384 - len(request)) + request[-4:]
    with RawSocket(gateway.ocpp_port) as connection:
        connection.send_bytewise(request)
        assert connection.response().status == 101


def test_a_handshake_that_takes_too_long_is_cut_off(literal_gateway: Gateway, address: str) -> None:
    began = time.monotonic()
    with (
        RawSocket(literal_gateway.ocpp_port, address=address) as silent,
        RawSocket(literal_gateway.ocpp_port, address=address) as slow,
    ):
        slow.send(b"GET /ocpp/CP-1 HTTP/1.1\r\n")
        for connection in (silent, slow):
            answer = connection.response()
            assert (answer.status, answer.body) == (408, b"Request Timeout")
            assert time.monotonic() - began >= 2  # the time it was given, not most of it
            assert connection.rest() == b""
    assert literal_gateway.wait_for("handshake.refused", peer=address)["reason"] == "handshake_timeout"


def test_on_the_http_port_a_byte_now_and_then_wins_no_time(literal_gateway: Gateway) -> None:
    port = literal_gateway.http_port
    give_up = time.monotonic() + 10
    with RawSocket(port) as slow:
        slow.send(b"GET /ocpp/CP-1 HTTP/1.1\r\nX-A: ")
        with pytest.raises(PeerClosed):
            while True:
                slow.send(b"a")
                assert http_get(port, "/health").status == 200  # passes some time
                assert time.monotonic() < give_up


# While a credential is being checked.


@pytest.mark.parametrize("port", ["ocpp", "http"])
@pytest.mark.parametrize("second", ["request", "byte"])
def test_a_second_request_while_the_first_is_being_checked_ends_the_connection(
    gateway: Gateway,
    redis_server: EmbeddedRedis,
    redis_url: str,
    charge_point_id: str,
    address: str,
    port: str,
    second: str,
) -> None:
    victim = charge_point_id + "-victim"
    provision(redis_url, victim)
    number = gateway.ocpp_port if port == "ocpp" else gateway.http_port
    headers = [authorization(charge_point_id)]
    request = handshake(f"/ocpp/{charge_point_id}", headers=headers)
    with frozen_redis(redis_server), RawSocket(number, address=address) as connection:
        connection.send(request)
        turn(gateway, number)
        connection.send(handshake(f"/ocpp/{victim}", headers=headers) if second == "request" else b"x")
        assert connection.rest() == b""
    assert gateway.wait_for("handshake.refused", peer=address)["reason"] == "second_request"
    assert_no_session(gateway, redis_url, charge_point_id, victim)


@pytest.mark.parametrize("port", ["ocpp", "http"])
def test_two_requests_in_one_write_end_the_connection(
    gateway: Gateway, redis_url: str, charge_point_id: str, address: str, port: str
) -> None:
    victim = charge_point_id + "-victim"
    provision(redis_url, victim)
    requests = [
        handshake(f"/ocpp/{identity}", headers=[authorization(charge_point_id)])
        for identity in (charge_point_id, victim)
    ]
    with RawSocket(gateway.ocpp_port if port == "ocpp" else gateway.http_port, address=address) as connection:
        connection.send(b"".join(requests))
        assert connection.rest() == b""
    assert gateway.wait_for("handshake.refused", peer=address)["reason"] == "second_request"
    assert_no_session(gateway, redis_url, charge_point_id, victim)


@pytest.mark.parametrize("port", ["ocpp", "http"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_peer_that_leaves_while_being_checked_leaves_no_session(
    gateway: Gateway, redis_server: EmbeddedRedis, redis_url: str, charge_point_id: str, port: str, leave: str
) -> None:
    number = gateway.ocpp_port if port == "ocpp" else gateway.http_port
    with frozen_redis(redis_server):
        connection = RawSocket(number)
        connection.send(handshake(f"/ocpp/{charge_point_id}", headers=[authorization(charge_point_id)]))
        turn(gateway, number)
        getattr(connection, leave)()
        turn(gateway, number)
    assert_no_session(gateway, redis_url, charge_point_id)


def test_peers_that_leave_at_any_moment_leave_no_session(
    gateway: Gateway, redis_url: str, charge_point_id: str
) -> None:
    request = handshake(f"/ocpp/{charge_point_id}", headers=[authorization(charge_point_id)])
    with redis_py.Redis.from_url(redis_url) as client:
        for moment in range(40):
            connection = RawSocket(gateway.ocpp_port)
            connection.send(request)
            for _ in range(moment % 8):
                client.ping()  # passes the time in Redis' own unit
            connection.reset()
        settled(gateway, redis_url)
        opened = [line for line in gateway.logged("session.opened") if line["charge_point_id"] == charge_point_id]
        for line in opened:
            gateway.wait_for("session.closed", connection_id=line["connection_id"])
        assert client.get(f"sessions:{charge_point_id}") is None
    assert metric(gateway.http_port, "ocpp_connections", version="1.6J") == 0


def test_without_redis_nobody_is_let_in_and_nobody_is_called_a_liar(
    gateway: Gateway, redis_server: EmbeddedRedis, charge_point_id: str, address: str
) -> None:
    request = handshake(f"/ocpp/{charge_point_id}", headers=[authorization(charge_point_id, WRONG)])
    with frozen_redis(redis_server):
        answer = ask(gateway.ocpp_port, request, address)
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
    assert int(answer.header("Retry-After") or "") >= 5
    refused = gateway.wait_for("handshake.refused", peer=address)
    assert (refused["reason"], refused["charge_point_id"]) == ("redis_unavailable", charge_point_id)


def settled(gateway: Gateway, redis_url: str) -> None:
    """What was under way in the gateway and in Redis is over: a whole session later."""
    with redis_py.Redis.from_url(redis_url) as client:
        provision(redis_url, "CP-settled")
        while True:
            answer = ask(gateway.ocpp_port, handshake("/ocpp/CP-settled", headers=[authorization("CP-settled")]))
            if answer.status == 101:
                break
            assert answer.status == 503  # Redis is coming back
        while client.get("sessions:CP-settled") is not None:
            pass


def assert_no_session(gateway: Gateway, redis_url: str, *identities: str) -> None:
    settled(gateway, redis_url)
    with redis_py.Redis.from_url(redis_url) as client:
        assert not any(client.exists(f"sessions:{identity}") for identity in identities)
    assert not [line for line in gateway.logged("session.opened") if line["charge_point_id"] in identities]


# What is logged, and what never is.


SCANS = ["/.env", "/ocpp/../../etc/passwd", "/wp-login.php", "/phpmyadmin/", "/xmlrpc.php", "/admin", "/login",
         "/ocpp/1.6/CP-1'%20UNION%20SELECT%201--"]  # fmt: skip


def test_scans_are_logged_once_per_address(literal_gateway: Gateway, address: str) -> None:
    before = metric(literal_gateway.http_port, "ocpp_handshakes_total", reason="suspicious_path")
    other = next(_addresses)

    for target in SCANS:
        answer = ask(literal_gateway.ocpp_port, handshake(target), address)
        assert (answer.status, answer.body) == (404, b"Not Found")
    ask(literal_gateway.ocpp_port, handshake(SCANS[0]), other)

    literal_gateway.wait_for("handshake.refused", peer=other, suspicion="dotfile")
    lines = [line for line in literal_gateway.logged("handshake.refused") if line["peer"] == address]
    assert [(line["reason"], line["suspicion"], line["suppressed"]) for line in lines] == [
        ("suspicious_path", "dotfile", 0)
    ]
    counted = metric(literal_gateway.http_port, "ocpp_handshakes_total", reason="suspicious_path")
    assert counted == before + len(SCANS) + 1


def test_a_scan_of_the_http_port_is_counted_and_logged_too(literal_gateway: Gateway, address: str) -> None:
    before = metric(literal_gateway.http_port, "ocpp_handshakes_total", reason="suspicious_path")

    for target in ("/.env", "/wp-login.php"):
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert ask(literal_gateway.http_port, request, address).status == 404

    line = literal_gateway.wait_for("handshake.refused", peer=address)
    assert (line["reason"], line["suspicion"], line["suppressed"]) == ("suspicious_path", "dotfile", 0)
    assert metric(literal_gateway.http_port, "ocpp_handshakes_total", reason="suspicious_path") == before + 2


def test_each_reason_has_a_line_of_its_own(literal_gateway: Gateway, charge_point_id: str, address: str) -> None:
    for password in (WRONG, PASSWORD):
        for target in (f"/ocpp/{charge_point_id}", "/ocpp/CP-unknown"):
            request = handshake(target, headers=[authorization(charge_point_id, password)])
            ask(literal_gateway.ocpp_port, request, address)

    literal_gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    lines = [line["reason"] for line in literal_gateway.logged("handshake.refused") if line["peer"] == address]
    assert sorted(lines) == ["basic_invalid", "identity_missing"]


def test_no_credential_is_in_answers_logs_or_metrics(
    gateway: Gateway, redis_url: str, charge_point_id: str, address: str
) -> None:
    record = {"auth": auth(type="token", tokenHash=sha256(TOKEN.encode()))}
    provision(redis_url, charge_point_id + "-token", **record)
    hidden = basic("CP-1")["Authorization"]
    requests = [
        *(
            handshake(f"/ocpp/{charge_point_id}", headers=[authorization(charge_point_id, password)])
            for password in (PASSWORD, WRONG)
        ),
        handshake(f"/ocpp/{charge_point_id}-token", headers=[("Authorization", f"Bearer {TOKEN}")]),
        handshake(f"/ocpp/{charge_point_id}-token", headers=[("x-api-key", TOKEN + "x")]),
        # Where credentials do not belong, but come all the same.
        handshake(f"/ocpp/{charge_point_id}?token={TOKEN}"),
        handshake(f"/ocpp/{TOKEN}"),
        handshake(f"/{TOKEN}/.env"),
        handshake(f"http://CP-1:{TOKEN}@localhost/ocpp/{charge_point_id}"),
        handshake("/ocpp/CP-1", subprotocols=TOKEN),
        handshake("/ocpp/CP-1", headers=[("Sec-WebSocket-Extensions", TOKEN)]),
        handshake("/ocpp/CP-1", headers=[("Authorization", hidden), ("Authorization", hidden)]),
        handshake("/ocpp/CP-1", headers=[("Authorization", hidden + "\x0b")]),
        handshake("/ocpp/CP-1", headers=[("Authorization", hidden)], without=["Host"]),
        handshake("/ocpp/CP-1", headers=[("Authorization", hidden)], method="PO ST"),
    ]
    for port in (gateway.ocpp_port, gateway.http_port):
        for request in requests:
            assert_no_secrets(repr(ask(port, request, address)))
        for path in ("/metrics", "/health", "/ready", f"/{TOKEN}"):
            assert_no_secrets(http_get(port, path).body.decode())

    settled(gateway, redis_url)
    gateway.logged("handshake.refused")  # reads what there is
    assert_no_secrets(json.dumps(gateway.events))


def test_no_answer_quotes_the_request(gateway: Gateway) -> None:
    marker = "Zebra7"
    for request in (
        handshake(f"/{marker}", headers=[("X-A", marker)]),
        handshake("/ocpp/CP-1", subprotocols=marker),
        handshake("/ocpp/CP-1", version=f"HTTP/{marker}"),
        handshake("/ocpp/CP-1", method=marker),
        handshake("/ocpp/CP-1", headers=[("Sec-WebSocket-Extensions", marker), ("Upgrade", marker)]),
        handshake("/ocpp/CP-1", without=["Sec-WebSocket-Key"], headers=[("Sec-WebSocket-Key", marker)]),
        f"{marker}\r\n\r\n".encode(),
    ):
        answer = repr(ask(gateway.ocpp_port, request))
        assert marker not in answer
        assert re.search(r"exception|traceback|error\(|\.py|autobahn|twisted", answer, re.IGNORECASE) is None
