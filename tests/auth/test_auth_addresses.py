from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList


@pytest.mark.parametrize(
    ("entries", "address", "is_allowed"),
    [
        (["10.0.0.10"], "10.0.0.10", True),
        (["10.0.0.10"], "10.0.0.11", False),
        (["10.0.0.0/24"], "10.0.0.255", True),
        (["10.0.0.0/24"], "10.0.1.0", False),
        (["10.0.0.7/24"], "10.0.0.200", True),
        ([" 10.0.0.10 "], "10.0.0.10", True),
        (["10.0.0.10"], "::ffff:10.0.0.10", True),
        (["::ffff:10.0.0.0/104"], "10.200.0.1", True),
        (["::ffff:10.0.0.10"], "10.0.0.10", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "10.0.0.1", False),
        (["2001:db8::/32"], "2001:DB8:0::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["fe80::1%eth0"], "fe80::1", True),
        (["10.0.0.10"], "/run/gateway.sock", False),
        (["10.0.0.10"], "", False),
        (["0.0.0.0/0"], "010.0.0.1", False),
    ],
)
def test_which_addresses_are_on_a_list(entries: list[str], address: str, is_allowed: bool) -> None:
    assert AddressList.parse(entries).allows(address) is is_allowed


def test_addresses_and_networks_make_one_list() -> None:
    both = AddressList.parse(["10.0.0.10"], ["192.168.0.0/16"])
    assert both.allows("10.0.0.10")
    assert both.allows("192.168.7.7")
    assert not both.allows("10.0.0.11")


def test_an_empty_list_allows_everything() -> None:
    assert EVERY_ADDRESS.allows("10.0.0.1")
    assert AddressList.parse([], []).allows("no address at all")
    assert not EVERY_ADDRESS


def test_a_list_of_unreadable_entries_allows_nothing() -> None:
    bad = AddressList.parse(["10.0.0", "example.com", ""])
    assert bad.bad_entries == ("10.0.0", "example.com", "")
    assert not bad.allows("10.0.0.1")
    assert bad


@given(st.lists(st.text() | st.ip_addresses().map(str)), st.text() | st.ip_addresses().map(str))
def test_any_texts_make_a_list(entries: list[str], address: str) -> None:
    allowed = AddressList.parse(entries).allows(address)
    assert allowed or entries


@given(st.ip_addresses(), st.integers(0, 32))
def test_an_address_is_in_every_network_around_it(address: IPv4Address | IPv6Address, bits: int) -> None:
    # An IPv4 address in IPv6 clothes counts as IPv4, which no network of IPv6 is around.
    assume(getattr(address, "ipv4_mapped", None) is None)
    assert AddressList.parse([f"{address}/{bits}"]).allows(str(address))
