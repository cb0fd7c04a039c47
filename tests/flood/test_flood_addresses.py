from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.flood.addresses import limit_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0A00:0001", "10.0.0.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:DB8:0:1::", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::1%|", "fe80::/64"),
        ("CP-7", "CP-7"),
        ("", ""),
        ("a|b", "a%7Cb"),
    ],
)
def test_what_an_address_counts_as(address: str, key: str) -> None:
    assert limit_key(address) == key


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_network_of_64_bits_is_one_host_and_no_other(network: int, one: int, other: int) -> None:
    # The lowest network has IPv4 in it, in the mapped form.
    network = network or 1
    key = limit_key(str(IPv6Address(network << 64 | one)))
    assert key == limit_key(str(IPv6Address(network << 64 | other)))
    assert key != limit_key(str(IPv6Address((network ^ 2) << 64 | one)))


@given(st.ip_addresses(v=4))
def test_ipv4_is_itself_in_both_forms(address: IPv4Address) -> None:
    assert limit_key(str(address)) == limit_key(f"::ffff:{address}") == str(address)


@given(st.text() | st.ip_addresses().map(str))
def test_no_key_has_a_bar_and_a_key_is_the_same_for_itself(address: str) -> None:
    key = limit_key(address)
    assert "|" not in key
    assert limit_key(key) == key
