"""Lists of addresses that charge points may connect from."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from attrs import frozen

from ocpp_gateway.ip import Network, parsed_address, unmapped_network


@frozen
class AddressList:
    """Networks, single addresses among them. An empty list allows every address; one of only bad entries allows none.

    IPv4 addresses in their IPv6-mapped form (``::ffff:10.0.0.1``, as a dual-stack socket reports them) are the same as
    in their own, in the list and in what is looked up. An IPv6 zone (``%eth0``) is ignored.
    """

    networks: tuple[Network, ...] = ()
    bad_entries: tuple[str, ...] = ()

    @classmethod
    def parse(cls, *entries: Iterable[str]) -> AddressList:
        """Read addresses and CIDR blocks (host bits tolerated). Unreadable ones are kept in ``bad_entries``."""
        networks: list[Network] = []
        bad = []
        for entry in (entry for some in entries for entry in some):
            try:
                networks.append(unmapped_network(ip_network(entry.strip().partition("%")[0], strict=False)))
            except ValueError:
                bad.append(entry)
        return cls(tuple(networks), tuple(bad))

    def __bool__(self) -> bool:
        return bool(self.networks or self.bad_entries)

    def allows(self, address: str) -> bool:
        """Whether the list is empty or ``address`` is on it. What is no IP address is on no list."""
        if not self:
            return True
        parsed = parsed_address(address)
        return parsed is not None and any(parsed in network for network in self.networks)


EVERY_ADDRESS: Final = AddressList()
"""The list that restricts nothing."""
