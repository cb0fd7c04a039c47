"""The address that a request really comes from, if it came through proxies of the operator's own.

Each proxy appends to ``X-Forwarded-For`` the address that it was called from. So the header is worth something only as
far as it was written by proxies that we trust: read from its right-hand end, the first address that is no such proxy is
the client's, and what stands to the left of it the client may have made up. From any other peer it is ignored.

A proxy says by ``X-Forwarded-Proto`` whether it was called over TLS, which makes a password security profile 2. No
header is ever taken for a client certificate: mutual TLS ends here or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ocpp_gateway.handshake.request import RequestHead, list_elements
from ocpp_gateway.ip import Address, Network, parsed_address, unmapped_network

MAX_HOPS: Final = 32
"""Elements of X-Forwarded-For that are looked at."""

_MAX_HOP_LENGTH: Final = 80

_SECURE_BY_SCHEME: Final = MappingProxyType({"https": True, "wss": True, "http": False, "ws": False})


@frozen
class Origin:
    """Where a request comes from: the client's ``address``, and whether it called over TLS."""

    address: str
    is_secure: bool


@frozen
class TrustedProxies:
    """The networks whose ``X-Forwarded-`` header fields are believed; none at all where there are no networks."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> TrustedProxies:
        """Read addresses and CIDR blocks (host bits tolerated). Raises ValueError, naming the entry."""
        return cls(tuple(_network(entry.strip()) for entry in entries))

    def trusts(self, address: str) -> bool:
        """Whether ``address`` is a trusted proxy's. IPv4 in its IPv6-mapped form is IPv4; a zone is ignored."""
        parsed = parsed_address(address)
        return parsed is not None and self._trusts(parsed)

    def is_shared(self, address: str) -> bool:
        """Whether ``address`` stands for anybody: a trusted proxy that names no client, or no address at all."""
        parsed = parsed_address(address)
        return parsed is None or self._trusts(parsed)

    def origin(self, peer: str, is_secure: bool, head: RequestHead) -> Origin:
        """Where the request ``head`` comes from that ``peer`` sent, over TLS or not. Never raises.

        The address is ``peer``'s, or one from the header in its usual spelling; never other text of the request's.
        """
        if not self.trusts(peer):
            return Origin(peer, is_secure)
        schemes = head.elements("x-forwarded-proto")
        if schemes:
            is_secure = _SECURE_BY_SCHEME.get(schemes[-1].lower(), is_secure)
        return Origin(self.client(peer, head.values("x-forwarded-for")), is_secure)

    def client(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """The address that a request of ``peer`` with these lines of X-Forwarded-For comes from. Never raises."""
        if not self.trusts(peer):
            return peer
        address = peer
        for hop in reversed(list_elements(forwarded_for)[-MAX_HOPS:]):
            parsed = _hop(hop)
            if parsed is None:
                break
            address = str(parsed)
            if not self._trusts(parsed):
                break
        return address

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _network(text: str) -> Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address or a network such as 10.0.0.0/8") from None
    return unmapped_network(network)


def _hop(element: str) -> Address | None:
    """The address of an element ``address``, ``IPv4:port`` or ``[IPv6]:port``."""
    if len(element) > _MAX_HOP_LENGTH:  # nothing of a peer's making is to be remembered at length
        return None
    if element.startswith("["):
        return parsed_address(element[1:].partition("]")[0])
    return parsed_address(element.partition(":")[0] if element.count(":") == 1 else element)
