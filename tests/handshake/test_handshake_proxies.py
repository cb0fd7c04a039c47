from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.handshake.proxies import MAX_HOPS, Origin, TrustedProxies
from ocpp_gateway.handshake.request import RequestHead

PROXY, OTHER_PROXY, CLIENT = "10.0.0.1", "10.0.0.2", "198.51.100.7"
TRUSTED = TrustedProxies.parse(["10.0.0.0/24", "2001:db8:1::/48"])


def head(*forwarded_for: str, **fields: str) -> RequestHead:
    lines = [f"X-Forwarded-For: {value}" for value in forwarded_for]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return RequestHead.parse("\r\n".join(["GET /ocpp/CP-001 HTTP/1.1", *lines, "", ""]).encode("latin-1"))


def address(*forwarded_for: str, peer: str = PROXY) -> str:
    return TRUSTED.origin(peer, False, head(*forwarded_for)).address


@pytest.mark.parametrize("peer", [CLIENT, "10.0.1.1", "2001:db8:2::1", "/run/gateway.sock", "", "10.0.0.1.evil"])
@pytest.mark.parametrize("is_secure", [True, False])
def test_what_an_untrusted_peer_claims_counts_for_nothing(peer: str, is_secure: bool) -> None:
    claims = head("203.0.113.9", X_Forwarded_Proto="http" if is_secure else "https", Forwarded="for=203.0.113.9")
    assert TRUSTED.origin(peer, is_secure, claims) == Origin(peer, is_secure)


def test_where_nobody_is_trusted_the_peer_is_the_origin() -> None:
    claims = head(CLIENT, X_Forwarded_Proto="https")
    assert TrustedProxies().origin(PROXY, False, claims) == Origin(PROXY, False)
    assert TrustedProxies.parse([]).origin(PROXY, False, claims) == Origin(PROXY, False)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([CLIENT], CLIENT),
        ([f"203.0.113.9, {CLIENT}"], CLIENT),
        ([f"203.0.113.9, {CLIENT}, {OTHER_PROXY}"], CLIENT),
        ([f"203.0.113.9, {CLIENT}", OTHER_PROXY], CLIENT),
        ([CLIENT, "203.0.113.9"], "203.0.113.9"),
        ([f"{CLIENT},,{OTHER_PROXY},"], CLIENT),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([f"{CLIENT}:4711"], CLIENT),
        ([f"{CLIENT}, 10.0.0.2:80"], CLIENT),
        (["[2001:DB8:2:0::1]:4711"], "2001:db8:2::1"),
        (["[2001:db8:2::1]"], "2001:db8:2::1"),
        (["2001:db8:2::1"], "2001:db8:2::1"),
        (["2001:db8:2::1, 2001:db8:1::5"], "2001:db8:2::1"),
        (["::ffff:198.51.100.7"], CLIENT),
        ([f"{CLIENT}, ::ffff:10.0.0.2"], CLIENT),
        (["fe80::1%eth0"], "fe80::1"),
        # What is no address ends the chain at the nearest proxy that told of it.
        (["unknown"], PROXY),
        (["_hidden, 10.0.0.2"], OTHER_PROXY),
        ([f"{CLIENT}, unknown, 10.0.0.2"], OTHER_PROXY),
        ([f"{CLIENT}, 10.0.0.3, 999.0.0.1, 10.0.0.2"], OTHER_PROXY),
        (["for=198.51.100.7"], PROXY),
        (["'; drop table sessions"], PROXY),
        (["010.0.0.7"], PROXY),
        (["198.51.100.7:80:80"], PROXY),
    ],
)
def test_the_right_most_hop_that_is_no_proxy_of_ours(lines: list[str], expected: str) -> None:
    assert address(*lines) == expected


def test_a_peer_in_its_ipv6_mapped_form_is_trusted_as_well() -> None:
    assert address(CLIENT, peer="::ffff:10.0.0.1") == CLIENT
    assert address(CLIENT, peer="2001:db8:1::1%eth0") == CLIENT


def test_only_so_many_hops_are_looked_at() -> None:
    hops = ["10.0.0.9"] * (MAX_HOPS - 1)
    assert address(", ".join([CLIENT, *hops])) == CLIENT
    assert address(", ".join([CLIENT, "10.0.0.8", *hops])) == "10.0.0.8"


@pytest.mark.parametrize(
    ("scheme", "is_secure", "expected"),
    [
        (None, False, False),
        (None, True, True),
        ("https", False, True),
        ("wss", False, True),
        ("HTTPS", False, True),
        ("http", True, False),
        ("ws", True, False),
        ("http, https", False, True),
        ("https, http", False, False),
        ("https, http", True, False),
        ("quic", False, False),
        ("quic", True, True),
        ("https, quic", False, False),
        (" , ", True, True),
    ],
)
def test_whether_the_proxy_was_called_over_tls(scheme: str | None, is_secure: bool, expected: bool) -> None:
    fields = {} if scheme is None else {"X_Forwarded_Proto": scheme}
    assert TRUSTED.origin(PROXY, is_secure, head(CLIENT, **fields)) == Origin(CLIENT, expected)


@pytest.mark.parametrize(
    ("entries", "peer", "is_trusted"),
    [
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        ([" 10.0.0.7/24 "], "10.0.0.200", True),
        (["::ffff:10.0.0.0/104"], "10.200.0.1", True),
        (["::/0"], "10.0.0.1", False),
        (["::/0"], "2001:db8::1", True),
        (["0.0.0.0/0"], "::ffff:10.0.0.1", True),
        (["0.0.0.0/0"], "::1", False),
    ],
)
def test_who_is_trusted(entries: list[str], peer: str, is_trusted: bool) -> None:
    assert TrustedProxies.parse(entries).trusts(peer) is is_trusted


@pytest.mark.parametrize("entry", ["", "proxy.example.com", "10.0.0", "10.0.0.0/33", "10.0.0.1:80", "*"])
def test_an_entry_that_is_no_address_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address or a network"):
        TrustedProxies.parse(["10.0.0.1", entry])


in_trusted = st.ip_addresses(network="10.0.0.0/24").map(str) | st.ip_addresses(network="2001:db8:1::/48").map(str)
outside = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda text: not TRUSTED.trusts(text))
forged = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


def written(hop: str) -> st.SearchStrategy[str]:
    """``hop`` as a proxy may write it."""
    if ":" in hop:
        return st.sampled_from([hop, hop.upper(), f"[{hop}]", f"[{hop}]:65000"])
    return st.sampled_from([hop, f"{hop}:65000", f"::ffff:{hop}"])


@given(st.lists(forged, max_size=3), outside, st.lists(in_trusted, max_size=6), st.data())
def test_what_a_client_puts_in_front_never_matters(
    front: list[str], client: str, hops: list[str], data: st.DataObject
) -> None:
    chain = [data.draw(written(hop)) for hop in (client, *hops)]
    cut = data.draw(st.integers(0, len(chain)))
    lines = [",".join([*front, *chain[:cut]]), ",".join(chain[cut:])]
    mapped = ip_address(client)
    expected = str(getattr(mapped, "ipv4_mapped", None) or mapped)
    assert address(*lines) == expected


@given(st.lists(forged, max_size=4))
def test_the_origin_is_always_an_address_whatever_is_sent(lines: list[str]) -> None:
    assert ip_address(address(*lines)) is not None


@given(st.lists(in_trusted, min_size=1, max_size=10))
def test_where_all_hops_are_ours_the_left_most_is_the_origin(hops: list[str]) -> None:
    assert address(", ".join(hops)) == hops[0]
    assert any(ip_address(hops[0]) in ip_network(network) for network in ("10.0.0.0/24", "2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("of_whom", "is_shared"),
    [
        (PROXY, True),
        (f"::ffff:{PROXY}", True),
        ("2001:db8:1::7", True),
        ("", True),
        ("unknown", True),  # a PROXY header that does not say
        ("/run/gateway.sock", True),
        (CLIENT, False),
        ("2001:db8:2::7", False),
    ],
)
def test_an_address_that_stands_for_anybody(of_whom: str, is_shared: bool) -> None:
    assert TRUSTED.is_shared(of_whom) is is_shared
