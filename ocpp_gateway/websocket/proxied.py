"""Connections that a proxy announces with a PROXY protocol header (HAProxy's specification, versions 1 and 2).

The header says where a connection comes from, so it counts only from a trusted proxy; who connects to such a port
without being one is cut off. A connection without the header is none of the proxy's making and is cut off too: guessing
whether there is one would let anybody claim an address (section 2 forbids it).

Twisted has a parser, in a private module. It refuses ``PROXY UNKNOWN`` without addresses and a header that comes in
pieces, and takes any text for an address; so this is one of our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from attrs import frozen
from twisted.internet import address
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ip import Address, unmapped

UNKNOWN_SOURCE: Final = "unknown"
"""Stands for the address of a client that the proxy does not tell (RFC 7239 section 6.2); it is on no list."""

_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?"
    rb"|TCP4 ([0-9.]{7,15}) ([0-9.]{7,15}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
    rb"|TCP6 ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))",
    re.DOTALL,
)
_LINE_BEGINS: Final = b"PROXY "
_LONGEST_LINE: Final = 107
_HIGHEST_PORT: Final = 65_535

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES: Final = 16
_VERSION: Final = 0x20
_LOCAL, _PROXY = 0, 1
_TCP4, _TCP6 = 0x11, 0x21
_FAMILIES: Final = range(4)
_PROTOCOLS: Final = range(3)


@frozen
class ProxyHeader:
    """A header: how many bytes it has, and from which ``host`` and ``port`` the proxy was called.

    ``host`` is None where the proxy speaks for itself (``LOCAL``), UNKNOWN_SOURCE where it does not say.
    """

    length: int
    host: str | None
    port: int = 0


def read_header(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with; None if there is more to come. Raises ValueError if it is none."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(_LINE_BEGINS):
        return _line(data)
    if data == _SIGNATURE[: len(data)] or data == _LINE_BEGINS[: len(data)]:
        return None
    raise ValueError("no PROXY protocol header")


def _line(data: bytes) -> ProxyHeader | None:
    """Version 1, section 2.1."""
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise ValueError("no end of the line")
        return None
    match = _LINE.fullmatch(data, 0, end)
    if match is None:
        raise ValueError("not a line of version 1")
    parts = [part.decode("ascii") for part in match.groups() if part is not None]
    if not parts:
        return ProxyHeader(end + 2, UNKNOWN_SOURCE)
    source, destination, *ports = parts
    family = IPv4Address if data.startswith(b"TCP4", len(_LINE_BEGINS)) else IPv6Address
    family(destination)  # or the line is not to be believed at all
    if any(int(port) > _HIGHEST_PORT for port in ports):
        raise ValueError("no such port")
    return ProxyHeader(end + 2, _usual(family(source)), int(ports[0]))


def _binary(data: bytes) -> ProxyHeader | None:
    """Version 2, section 2.2. What follows the addresses (TLS of the proxy's, say) is skipped, never believed."""
    if len(data) < _FIXED_BYTES:
        return None
    version, command, family, protocol = data[12] & 0xF0, data[12] & 0x0F, data[13] >> 4, data[13] & 0x0F
    if version != _VERSION or command not in (_LOCAL, _PROXY) or family not in _FAMILIES or protocol not in _PROTOCOLS:
        raise ValueError("not a header of version 2")
    length = _FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if len(data) < length:
        return None
    if command == _LOCAL:
        return ProxyHeader(length, None)
    size = {_TCP4: 4, _TCP6: 16}.get(data[13])
    if size is None:  # not TCP, and not to be refused therefore
        return ProxyHeader(length, UNKNOWN_SOURCE)
    if length < _FIXED_BYTES + 2 * size + 4:
        raise ValueError("too short for its addresses")
    source, ports = data[16 : 16 + size], 16 + 2 * size
    return ProxyHeader(length, _usual(ip_address(source)), int.from_bytes(data[ports : ports + 2], "big"))


def _usual(parsed: Address) -> str:
    """The usual spelling; an IPv4 address that is mapped into IPv6 is IPv4."""
    return str(unmapped(parsed))


class ProxiedProtocol(ProtocolWrapper):
    """Reads the header; what is behind it, and behind ``getPeer``, is the client's.

    The protocol inside bounds the time that the header may take.
    """

    factory: Any
    _received = b""
    _is_announced = False
    _source: IAddress | None = None

    def dataReceived(self, data: bytes) -> None:
        """Twisted's: the header, whole or in part, then what is behind it."""
        if self._is_announced:
            self.wrappedProtocol.dataReceived(data)
            return
        self._received += data
        try:
            header = read_header(self._received)
        except ValueError:
            self._received = b""
            self.factory.refused("proxy_header_invalid", host_of(self.getPeer()))
            self.loseConnection()
            return
        if header is None:
            return
        rest, self._received = self._received[header.length :], b""
        self._is_announced = True
        if header.host is not None:
            kind = address.IPv6Address if ":" in header.host else address.IPv4Address
            self._source = kind("TCP", header.host, header.port)
        if rest:
            self.wrappedProtocol.dataReceived(rest)

    def getPeer(self) -> IAddress:
        """Twisted's: the client, as soon as the header has come.

        Never the proxy in the place of a client that it does not tell: what that client says about itself in
        ``X-Forwarded-For`` would be believed as if a proxy had said it.
        """
        return self._source or super().getPeer()


class ProxiedFactory(WrappingFactory[ProxiedProtocol]):
    """Expects the header on each connection, and connections of ``proxies`` only."""

    protocol: Any = ProxiedProtocol
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, proxies: TrustedProxies, refused: Callable[[str, str], None]) -> None:
        super().__init__(wrapped)
        self._proxies = proxies
        self.refused = refused

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted's: somebody has connected."""
        host = host_of(addr)
        if not self._proxies.trusts(host):
            self.refused("proxy_not_trusted", host)
            return None
        return super().buildProtocol(addr)


def host_of(peer: IAddress | None) -> str:
    """The IP address in ``peer``; empty for what has none."""
    return str(getattr(peer, "host", ""))
