"""PROXY headers: read as HAProxy's specification has them, in whatever pieces they come; anything else ends it."""

from __future__ import annotations

import socket
import struct

import pytest
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from support.proxy_headers import (
    LOCAL,
    PROXY,
    SIGNATURE,
    TCP4,
    TCP6,
    UDP4,
    UDP6,
    UNIX,
    tlv,
    v1,
    v2,
    v2_raw,
    v2_unix,
)
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport

from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.websocket.proxied import ProxiedFactory, ProxiedProtocol, ProxyHeader, read_header

PROXY_HOST = "10.0.0.1"
MOST = 16 + 65_535

HEADERS = [
    (v1("203.0.113.7"), "203.0.113.7", 50000),
    (v1("255.255.255.255", "255.255.255.255", "65535 65535"), "255.255.255.255", 65535),
    (v1("0.0.0.0", "0.0.0.0", "0 0"), "0.0.0.0", 0),
    (v1("2001:db8::7"), "2001:db8::7", 50000),
    (v1("2001:0DB8:0000:0000:0000:0000:0000:0007"), "2001:db8::7", 50000),
    (v1("::ffff:203.0.113.7"), "203.0.113.7", 50000),
    (b"PROXY UNKNOWN\r\n", "unknown", 0),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", "unknown", 0),
    (b"PROXY UNKNOWN \r\n", "unknown", 0),
    (v2("203.0.113.7"), "203.0.113.7", 50000),
    (v2("203.0.113.7", more=tlv(4, b"\0" * 40) + tlv(0xEA, b"x")), "203.0.113.7", 50000),
    (v2("203.0.113.7", more=tlv(4, bytes(65_535 - 12 - 3))), "203.0.113.7", 50000),
    (v2("2001:db8::7"), "2001:db8::7", 50000),
    (v2("::ffff:203.0.113.7"), "203.0.113.7", 50000),
    (v2_raw(LOCAL, 0, b""), None, 0),
    (v2_raw(LOCAL, TCP4, bytes(12)), None, 0),
    (v2_raw(LOCAL, 0, b"whatever"), None, 0),
    (v2_raw(PROXY, 0, b""), "unknown", 0),
    (v2_raw(PROXY, UDP4, bytes(12)), "unknown", 0),
    (v2_raw(PROXY, UDP6, bytes(36)), "unknown", 0),
    (v2_unix(), "unknown", 0),
    (v2_raw(PROXY, UNIX, b"short"), "unknown", 0),
]

NO_HEADERS = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS ClientHello
    b"PROXYTCP4 ",
    b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY TCP5 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 203.0.113.7\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
    b"PROXY TCP4 203.0.113.7  192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
    b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 somebody 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 somebody 1 2\r\n",
    b"PROXY TCP4 \xd9\xa1.0.0.1 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
    b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",  # one too many
    b"PROXY TCP4 " + b"1" * 200,
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
    SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    v2_raw(0x22, TCP4, bytes(12)),
    v2_raw(PROXY, 0x41, bytes(12)),
    v2_raw(PROXY, 0x13, bytes(12)),
    v2_raw(LOCAL, 0x41, b""),
    v2_raw(PROXY, TCP4, bytes(11)),
    v2_raw(PROXY, TCP6, bytes(35)),
]


@pytest.mark.parametrize(("header", "host", "port"), HEADERS)
def test_a_header_is_read_and_what_follows_is_left(header: bytes, host: str | None, port: int) -> None:
    read = ProxyHeader(len(header), host, port)
    assert read_header(header) == read
    assert read_header(header + b"GET / HTTP/1.1\r\n") == read
    assert read_header(header + header) == read


@pytest.mark.parametrize("header", [header for header, _, _ in HEADERS if len(header) < 1000])
def test_a_header_is_waited_for_to_its_last_byte(header: bytes) -> None:
    assert {read_header(header[:length]) for length in range(len(header))} == {None}


@pytest.mark.parametrize("data", NO_HEADERS)
def test_what_is_no_header_is_told_so(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_header(data)


anything = st.binary(max_size=200)
beginnings = st.sampled_from([b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"!"])
text = st.text("0123456789abcdef.: \r\nPROXYUNKWTC\x00%-", max_size=120).map(str.encode)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    header = bytearray(draw(st.sampled_from([header for header, _, _ in HEADERS if len(header) < 300])))
    for _ in range(draw(st.integers(1, 3))):
        header[draw(st.integers(0, len(header) - 1))] = draw(st.integers(0, 255))
    return bytes(header)


@st.composite
def prefixed(draw: st.DrawFn) -> bytes:
    return draw(beginnings) + draw(anything | text)


@given(anything | prefixed() | mutated())
@example(b"")
def test_whatever_comes_is_a_header_the_beginning_of_one_or_a_value_error(data: bytes) -> None:
    try:
        read = read_header(data)
    except ValueError:
        return
    if read is None:
        # Never more than the longest header: what waits for its end is bounded.
        assert len(data) < MOST
        assert data.startswith(SIGNATURE) or len(data) < 107
    else:
        assert 15 <= read.length <= len(data)
        if read.host not in (None, "unknown"):
            socket.inet_pton(socket.AF_INET6 if ":" in read.host else socket.AF_INET, read.host)


@given(st.ip_addresses(), st.integers(0, 65_535), st.binary(max_size=50))
def test_every_address_comes_through_in_both_versions(address: object, port: int, behind: bytes) -> None:
    host = str(getattr(address, "ipv4_mapped", None) or address)
    line = v1(str(address), ports=f"{port} 8080")
    assert read_header(line + behind) == ProxyHeader(len(line), host, port)
    packed = v2(str(address)).replace(struct.pack("!HH", 50000, 8080), struct.pack("!HH", port, 8080))
    assert read_header(packed + behind) == ProxyHeader(len(packed), host, port)


class Inside(Protocol):
    """What is behind the header; keeps what it gets."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


@define(eq=False)
class Door:
    """A port for connections of one proxy."""

    refusals: list[tuple[str, str]] = field(factory=list)
    factory: ProxiedFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        inside = Factory.forProtocol(Inside)
        proxies = TrustedProxies.parse([PROXY_HOST])
        self.factory = ProxiedFactory(inside, proxies, lambda reason, host: self.refusals.append((reason, host)))

    def connect(self, host: str = PROXY_HOST) -> tuple[ProxiedProtocol, StringTransport] | None:
        peer = IPv4Address("TCP", host, 40000)
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            return None
        transport = StringTransport(peerAddress=peer)
        protocol.makeConnection(transport)
        return protocol, transport


@given(st.sampled_from(HEADERS), st.binary(max_size=40), st.lists(st.integers(1, 30), max_size=40))
def test_the_header_may_come_in_any_pieces(
    case: tuple[bytes, str | None, int], behind: bytes, sizes: list[int]
) -> None:
    header, host, port = case
    door = Door()
    connected = door.connect()
    assert connected is not None
    protocol, transport = connected
    data = header + behind
    for size in sizes:
        if data:
            protocol.dataReceived(data[:size])
            data = data[size:]
    if data:
        protocol.dataReceived(data)

    assert protocol.wrappedProtocol.received == behind
    kind = IPv6Address if ":" in (host or "") else IPv4Address
    assert protocol.getPeer() == (kind("TCP", host, port) if host else IPv4Address("TCP", PROXY_HOST, 40000))
    assert (door.refusals, transport.disconnecting) == ([], False)


@given(st.lists(anything | prefixed() | mutated(), min_size=1, max_size=5))
def test_whatever_comes_in_pieces_is_taken_or_refused_once(pieces: list[bytes]) -> None:
    door = Door()
    connected = door.connect()
    assert connected is not None
    protocol, transport = connected
    for piece in pieces:
        if not transport.disconnecting:  # Twisted reads no more from then on
            protocol.dataReceived(piece)

    if transport.disconnecting:
        assert door.refusals == [("proxy_header_invalid", PROXY_HOST)]
        assert protocol.wrappedProtocol.received == b""
    else:
        assert door.refusals == []


def test_who_is_no_trusted_proxy_is_not_even_read_from() -> None:
    door = Door()
    assert door.connect("10.0.0.2") is None
    assert door.refusals == [("proxy_not_trusted", "10.0.0.2")]
