"""X-Forwarded-For and X-Forwarded-Proto: what trusted proxies have written counts, up to the first that is not one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.doors import CLIENTS, PROXIES, TRUSTED, Door
from support.gateway import Gateway
from support.proxy_headers import v2
from support.topic_tail import TopicTail

FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"


@pytest.fixture
def proxy() -> str:
    """A trusted address that only this test connects from."""
    return next(PROXIES)


@pytest.fixture(scope="module")
def station_events(brokers: str) -> Iterator[TopicTail]:
    with TopicTail(brokers, "ocpp.station.events") as tail:
        yield tail


@pytest.fixture(scope="module")
def door(redis_url: str, brokers: str, station_events: TopicTail) -> Iterator[Door]:
    with Gateway(redis_url, brokers, OCPP_TRUSTED_PROXIES=f"{TRUSTED}, ::1") as gateway:
        yield Door(gateway, gateway.ocpp_port, redis_url, station_events)


# {client} is an address that nobody else speaks of, {proxy} the proxy that is connected; other proxies are 127.9.250.x.
COUNTS = {
    "one": (["{client}"], "{client}"),
    "spoofed": (["198.51.100.1, 10.0.0.1, {client}"], "{client}"),
    "spoofed proxy": (["127.9.250.9, {client}"], "{client}"),
    "chain": (["{client}, 127.9.250.1, 127.9.250.2"], "{client}"),
    "spoofed chain": (["198.51.100.1, {client},127.9.250.1"], "{client}"),
    "lines": (["198.51.100.1", "{client}", "127.9.250.1"], "{client}"),
    "port": (["{client}:50000"], "{client}"),
    "IPv6": (["[2001:DB8::7]:50000"], "2001:db8::7"),
    "IPv6 bare": (["2001:db8:0::0:7"], "2001:db8::7"),
    "mapped": (["::ffff:{client}"], "{client}"),
    "empty elements": ([" , ,{client}, ,"], "{client}"),
    "very long": (["198.51.100.1, " * 1000 + "{client}"], "{client}"),
    "nothing": ([""], "{proxy}"),
    "proxies only": (["127.9.250.1, 127.9.250.2"], "127.9.250.1"),
    "garbage": (["{client}, <script>"], "{proxy}"),
    "garbage behind a proxy": (["{client}, unknown, 127.9.250.3"], "127.9.250.3"),
    "host name": (["localhost"], "{proxy}"),
    "number": (["2130706433"], "{proxy}"),
    "network": (["{client}/32"], "{proxy}"),
    "quoted": (['"{client}"'], "{proxy}"),
    "not ASCII": (["\xb2\xb3.0.0.1"], "{proxy}"),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_address_is_the_right_most_that_is_no_trusted_proxy(door: Door, name: str, proxy: str) -> None:
    lines, expected = COUNTS[name]
    client = next(CLIENTS)
    told = expected.format(client=client, proxy=proxy)
    headers = [(FOR, line.format(client=client)) for line in lines]
    allowed, wrong = door.enroll(allowedIps=[told]), door.enroll(allowedIps=["198.51.100.1", "10.0.0.1"])
    assert door.status(allowed, address=proxy, headers=headers) == 101
    assert door.connected(allowed) == (told, 1)
    assert door.status(wrong, address=proxy, headers=headers) == 403
    assert door.refused(told) == "ip_not_allowed"


CLAIMS = [(FOR, "198.51.100.77"), (PROTO, "https"), ("Forwarded", "for=198.51.100.77;proto=https")]


def test_from_anybody_else_it_is_ignored(door: Door, address: str) -> None:
    charge_point_id, listed = door.enroll(), door.enroll(allowedIps=["198.51.100.77"])
    assert door.status(charge_point_id, address=address, headers=CLAIMS) == 101
    assert door.connected(charge_point_id) == (address, 1)
    assert door.status(listed, address=address, headers=CLAIMS) == 403
    assert door.refused(address) == "ip_not_allowed"


@pytest.mark.parametrize("name", ["X-Real-IP", "Forwarded", "True-Client-IP", "X-Client-IP", "X_Forwarded_For"])
def test_no_other_field_tells_an_address(door: Door, name: str, proxy: str) -> None:
    charge_point_id = door.enroll()
    value = "for=203.0.113.200" if name == "Forwarded" else "203.0.113.200"
    assert door.status(charge_point_id, address=proxy, headers=[(name, value)]) == 101
    assert door.connected(charge_point_id) == (proxy, 1)


@pytest.mark.parametrize("schemes", [["https"], ["HTTPS"], ["wss"], ["http, https"], ["http", "https"]])
def test_a_password_that_came_to_the_proxy_over_tls_is_profile_2(door: Door, proxy: str, schemes: list[str]) -> None:
    charge_point_id = door.enroll(minSecurityProfile=2)
    headers = [(PROTO, scheme) for scheme in schemes]
    assert door.status(charge_point_id, address=proxy, headers=headers) == 101
    assert door.connected(charge_point_id) == (proxy, 2)
    # From then on it may not come with less.
    assert door.status(charge_point_id, address=proxy, headers=[(PROTO, "http")]) == 403
    assert door.refused(proxy) == "profile_downgrade"


@pytest.mark.parametrize("schemes", [[], ["http"], ["ws"], ["https, http"], ["https", "ws"], ["tls"], ["https;x"]])
def test_one_that_did_not_is_profile_1(door: Door, proxy: str, schemes: list[str]) -> None:
    charge_point_id = door.enroll(minSecurityProfile=2)
    headers = [(PROTO, scheme) for scheme in schemes]
    assert door.status(charge_point_id, address=proxy, headers=headers) == 403
    assert door.refused(proxy) == "profile_downgrade"


def test_nobody_but_a_proxy_says_that_there_was_tls(door: Door, address: str) -> None:
    charge_point_id = door.enroll(minSecurityProfile=2)
    assert door.status(charge_point_id, address=address, headers=CLAIMS) == 403
    assert door.refused(address) == "profile_downgrade"


CERTIFICATES = [
    ("X-Forwarded-Client-Cert", "Hash=00;Subject=CN={}"),
    ("X-SSL-Client-Verify", "SUCCESS"),
    ("X-SSL-Client-CN", "{}"),
    ("X-SSL-Client-S-DN", "CN={}"),
    ("X-Client-Cert", "-----BEGIN CERTIFICATE-----"),
    ("Client-Cert", ":AAAA:"),
    (PROTO, "https"),
]


def test_not_even_a_trusted_proxy_tells_of_a_client_certificate(door: Door, proxy: str) -> None:
    charge_point_id = door.enroll(auth={"type": "mtls"})
    headers = [(name, value.format(charge_point_id)) for name, value in CERTIFICATES]
    assert door.status(charge_point_id, address=proxy, headers=headers, password=False) == 403
    assert door.refused(proxy) == "mtls_missing_cert"
    # Nor does a password open what is closed to passwords.
    other = next(PROXIES)
    assert door.status(charge_point_id, address=other, headers=headers) == 403
    assert door.refused(other) == "mtls_missing_cert"


def test_it_counts_on_the_http_port_too(door: Door, proxy: str, address: str) -> None:
    bench = Door(door.gateway, door.gateway.http_port, door.redis_url, door.station_events)
    for peer, expected in ((proxy, ("203.0.113.250", 2)), (address, (address, 1))):
        charge_point_id = bench.enroll()
        headers = [(FOR, "203.0.113.250"), (PROTO, "https")]
        assert bench.status(charge_point_id, address=peer, headers=headers) == 101
        assert bench.connected(charge_point_id) == expected


def test_behind_the_proxy_protocol_it_counts_only_if_the_header_names_a_trusted_proxy(
    redis_url: str, brokers: str, station_events: TopicTail
) -> None:
    settings = {"OCPP_TRUSTED_PROXIES": TRUSTED, "OCPP_PROXY_PROTOCOL": "true"}
    with Gateway(redis_url, brokers, **settings) as gateway:
        door = Door(gateway, gateway.ocpp_port, redis_url, station_events)
        headers = [(FOR, "198.51.100.1, 203.0.113.251"), (PROTO, "https")]
        for source, expected in (("203.0.113.252", ("203.0.113.252", 1)), ("127.9.250.1", ("203.0.113.251", 2))):
            charge_point_id = door.enroll()
            assert door.status(charge_point_id, v2(source), address=next(PROXIES), headers=headers) == 101
            assert door.connected(charge_point_id) == expected
