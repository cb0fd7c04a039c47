"""Addresses as limits see them: who they belong to, as far as an address can tell."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

from ocpp_gateway.ip import KNOWN_ADDRESSES, parsed_address

_IPV6_SITE_BITS = 64


@lru_cache(KNOWN_ADDRESSES)
def limit_key(address: str) -> str:
    """What stands for ``address`` in limits, bans and cool-downs. It has no ``|`` in it.

    One of IPv6 stands for its /64, which is what a single host has (RFC 6177 section 2); IPv4 mapped into IPv6 is IPv4.
    What is no address stays as it is, but for that one character.
    """
    parsed = parsed_address(address)
    if parsed is None:
        return address.replace("|", "%7C")
    if isinstance(parsed, IPv6Address):
        network = IPv6Address(int(parsed) >> _IPV6_SITE_BITS << _IPV6_SITE_BITS)
        return f"{network}/{_IPV6_SITE_BITS}"
    return str(parsed)
