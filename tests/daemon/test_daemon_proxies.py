"""The PROXY protocol: connections are their clients', where a trusted proxy says so, and else are cut off."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.certificates import Pki
from support.doors import CLIENTS, PROXIES, TRUSTED, Door
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.proxy_headers import LOCAL, PROXY, SIGNATURE, TCP4, UDP4, tlv, v1, v2, v2_raw, v2_unix
from support.raw_socket import PeerClosed, RawSocket, handshake
from support.stations import basic, provision
from support.topic_tail import TopicTail


@pytest.fixture
def proxy() -> str:
    """A trusted address that only this test connects from."""
    return next(PROXIES)


@pytest.fixture
def client() -> str:
    """An address that only this test speaks of."""
    return next(CLIENTS)


@pytest.fixture(scope="module")
def station_events(brokers: str) -> Iterator[TopicTail]:
    with TopicTail(brokers, "ocpp.station.events") as tail:
        yield tail


@pytest.fixture(scope="module")
def doors(redis_url: str, brokers: str, pki: Pki, station_events: TopicTail) -> Iterator[dict[str, Door]]:
    """Behind proxies that speak the PROXY protocol, with and without TLS behind the header."""
    (plain,) = steady_ports()
    settings = {
        **pki.settings("optional"),
        "OCPP_TRUSTED_PROXIES": TRUSTED,
        "OCPP_RECHECK_SECONDS": "0.5",
        "OCPP_PROXY_PROTOCOL": "true",
        "OCPP_HANDSHAKE_TIMEOUT": "2",
        "WEBSOCKET_OCPP_EXTRA_PORTS": f"{plain}=plain",
    }
    with Gateway(redis_url, brokers, **settings) as gateway:
        ports = {"plain": plain, "tls": gateway.ocpp_port}
        yield {kind: Door(gateway, port, redis_url, station_events, pki) for kind, port in ports.items()}


@pytest.fixture
def plain(doors: dict[str, Door]) -> Door:
    return doors["plain"]


@pytest.mark.parametrize(
    "header", [v1, v2, lambda client: v2(client, more=tlv(4, bytes(65_000)))], ids=["1", "2", "2+"]
)
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_the_address_is_the_clients(doors: dict[str, Door], kind: str, header: Any, proxy: str, client: str) -> None:
    door = doors[kind]
    assert door.pki is not None
    tls = door.pki.client() if kind == "tls" else None
    # Address lists mean the client, not the proxy.
    allowed, wrong = door.enroll(allowedIps=[client]), door.enroll(allowedIps=[proxy])
    assert door.status(allowed, header(client), address=proxy, tls=tls) == 101
    assert door.connected(allowed) == (client, 1 if tls is None else 2)
    assert door.status(wrong, header(client), address=proxy, tls=tls) == 403
    assert door.refused(client) == "ip_not_allowed"
    closed = door.gateway.wait_for("session.closed", charge_point_id=allowed)
    assert (closed["peer"], closed["close_reason"]) == (client, "peer_closed")


def test_addresses_of_ipv6_are_told_in_their_usual_spelling(plain: Door, proxy: str) -> None:
    for written, told in (("2001:DB8:0:0:0:0:0:7", "2001:db8::7"), ("::ffff:198.51.100.7", "198.51.100.7")):
        for header in (v1(written), v2(written)):
            charge_point_id = plain.enroll(allowedIps=[told])
            assert plain.status(charge_point_id, header, address=proxy) == 101
            assert plain.connected(charge_point_id) == (told, 1)


def test_a_client_certificate_comes_through_behind_the_header(doors: dict[str, Door], proxy: str, client: str) -> None:
    door = doors["tls"]
    assert door.pki is not None
    issued = door.pki.chargers.issue("charger")
    record = {"auth": {"type": "mtls", "certificates": [{"fingerprint": issued.fingerprint}]}}
    for header in (v1(client), v2(client)):
        charge_point_id = door.enroll(**record)
        tls = door.pki.client(issued)
        assert door.status(charge_point_id, header, address=proxy, tls=tls, password=False) == 101
        assert door.connected(charge_point_id) == (client, 3)
    # A proxy that has ended the TLS itself may say whom it has met: that is no certificate to us.
    met = tlv(0x20, b"\x07\0\0\0\0" + tlv(0x22, charge_point_id.encode()) + tlv(0x21, b"TLSv1.3"))
    assert doors["plain"].status(charge_point_id, v2(client, more=met), address=proxy, password=False) == 403
    assert door.refused(client) == "mtls_missing_cert"


@pytest.mark.parametrize("header", [v1, v2])
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_who_is_no_trusted_proxy_is_cut_off(doors: dict[str, Door], kind: str, header: Any, address: str) -> None:
    door = doors[kind]
    counted = door.count("proxy_not_trusted")
    with RawSocket(door.port, address=address) as connection:
        connection.finish()
        assert connection.rest() == b""
    assert door.refused(address) == "proxy_not_trusted"
    with contextlib.suppress(PeerClosed), door.connection(header("127.9.0.1"), address=address) as connection:
        assert connection.rest() == b""
    assert door.count("proxy_not_trusted") == counted + 2


NO_HEADERS = {
    "http": handshake("/ocpp/CP-1"),
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "text": v1("somebody"),
    "family": v1("203.0.113.7").replace(b"TCP4", b"TCP6"),
    "half": v1("203.0.113.7").replace(b" 192.0.2.1", b""),
    "endless": b"PROXY TCP4 " + b"1" * 200_000,
    "long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "version": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    "command": v2_raw(0x2F, TCP4, bytes(12)),
    "unknown family": v2_raw(PROXY, 0x51, bytes(12)),
    "short": v2_raw(PROXY, TCP4, bytes(8)),
}


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_without_a_header_nobody_is_heard(doors: dict[str, Door], kind: str) -> None:
    door = doors[kind]
    for name, data in NO_HEADERS.items():
        proxy = next(PROXIES)
        counted = door.count("proxy_header_invalid")
        with contextlib.suppress(PeerClosed), door.connection(data, address=proxy) as connection:
            assert connection.rest() == b"", name
        assert door.refused(proxy) == "proxy_header_invalid", name
        assert door.count("proxy_header_invalid") == counted + 1, name


def test_a_second_header_is_no_header(plain: Door, proxy: str, client: str) -> None:
    charge_point_id = plain.enroll()
    assert plain.status(charge_point_id, v1(client) + v1("198.51.100.1"), address=proxy) == 400
    assert plain.refused(client) == "malformed_request"


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_health_check_is_no_incident(doors: dict[str, Door], kind: str, proxy: str) -> None:
    door = doors[kind]
    for check in (b"", v2_raw(LOCAL, 0, b""), v2_raw(LOCAL, TCP4, bytes(12)), b"PROXY UNKNOWN\r\n", v1("127.9.0.1")):
        with door.connection(check, address=proxy) as connection:
            connection.finish()
            assert connection.rest() == b""
    charge_point_id = door.enroll(allowedIps=[proxy])
    assert door.pki is not None
    tls = door.pki.client() if kind == "tls" else None
    assert door.status(charge_point_id, v2_raw(LOCAL, 0, b""), address=proxy, tls=tls) == 101
    assert door.connected(charge_point_id)[0] == proxy
    assert [line for line in door.gateway.logged("handshake.refused") if line["peer"] == proxy] == []


UNTOLD = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN 203.0.113.7 whatever\r\n",
    v2_unix(),
    v2_raw(PROXY, 0, b""),
    v2_raw(PROXY, UDP4, bytes(12)),
]


def test_a_client_that_the_proxy_does_not_tell_is_unknown_and_not_the_proxy(plain: Door, proxy: str) -> None:
    claims = [("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-Proto", "https")]
    for header in UNTOLD:
        charge_point_id, listed = plain.enroll(), plain.enroll(allowedIps=[proxy, "203.0.113.1"])
        assert plain.status(charge_point_id, header, address=proxy, headers=claims) == 101
        assert plain.connected(charge_point_id) == ("unknown", 1)
        assert plain.status(listed, header, address=proxy, headers=claims) == 403
    assert plain.refused("unknown") == "ip_not_allowed"


@pytest.mark.parametrize("header", [v1, v2])
def test_the_header_may_come_in_pieces(doors: dict[str, Door], header: Any, proxy: str, client: str) -> None:
    door, data = doors["tls"], header(client)
    assert door.pki is not None
    for cuts in ((3,), (12,), (len(data) - 1,), (1, 2, 8, 16)):
        charge_point_id = door.enroll()
        pieces = [data[start:end] for start, end in itertools.pairwise((0, *cuts, len(data)))]
        assert door.status(charge_point_id, *pieces, address=proxy, tls=door.pki.client()) == 101
        assert door.connected(charge_point_id) == (client, 2)


def test_headers_that_never_end_are_waited_for_as_long_as_a_handshake(
    doors: dict[str, Door], plain: Door, proxy: str, client: str
) -> None:
    counted = plain.count("handshake_timeout")
    beginnings = (b"PRO", v1(client)[:-2], SIGNATURE[:5], v2(client)[:-1], v2_raw(PROXY, TCP4, bytes(9), length=65_535))
    began = time.monotonic()
    with contextlib.ExitStack() as exits:
        waiting = [exits.enter_context(plain.connection(each, address=proxy)) for each in beginnings for _ in range(20)]
        silent = exits.enter_context(doors["tls"].connection(v1(client), address=proxy))
        charge_point_id = plain.enroll()
        assert plain.status(charge_point_id, v2(client), address=proxy) == 101
        assert silent.rest() == b""
        for connection in waiting:
            assert connection.response().status == 408
            assert connection.rest() == b""
    assert 1.9 < time.monotonic() - began < 6
    assert plain.refused(proxy) == plain.refused(client) == "handshake_timeout"
    assert plain.count("handshake_timeout") == counted + len(waiting) + 1


def test_who_fails_within_tls_is_told_by_the_clients_address(doors: dict[str, Door], proxy: str, client: str) -> None:
    with doors["tls"].connection(v2(client) + handshake("/ocpp/CP-1"), address=proxy) as connection:
        connection.rest()
    assert doors["tls"].refused(client) == "tls_required"


def test_who_is_connected_is_looked_at_by_the_clients_address(plain: Door, proxy: str, client: str) -> None:
    charge_point_id = plain.enroll()
    with plain.connection(v1(client), address=proxy) as connection:
        connection.send(handshake(f"/ocpp/{charge_point_id}", headers=basic(charge_point_id).items()))
        assert connection.response().status == 101
        provision(plain.redis_url, charge_point_id, allowedIps=[proxy])
        assert connection.frame().close_code == 1008
    revoked = plain.gateway.wait_for("session.revoked", charge_point_id=charge_point_id)
    assert (revoked["reason"], revoked["peer"]) == ("ip_not_allowed", client)
