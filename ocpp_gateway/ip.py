"""IP addresses in one form: IPv4 mapped into IPv6, as dual-stack sockets report it, is IPv4 (RFC 4291, 2.5.5.2)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

KNOWN_ADDRESSES: Final = 8_192
"""How many addresses are remembered, some 300 bytes each: a handshake asks for the same one several times."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def unmapped(address: Address) -> Address:
    """``address``, as IPv4 if it is that."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(KNOWN_ADDRESSES)
def parsed_address(text: str) -> Address | None:
    """The address ``text``, its zone left out (RFC 4007 section 11), as IPv4 if it is that; None if it is none."""
    try:
        return unmapped(ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def unmapped_network(network: Network) -> Network:
    """``network``, as one of IPv4 if it lies within the mapped ones."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network
