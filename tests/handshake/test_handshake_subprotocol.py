from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.subprotocol import MAX_TOKENS, Offer, choose, negotiate, offered, token_quirks
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion

ALL = frozenset(OcppVersion)
MANGLED = (Quirk.MANGLED_SUBPROTOCOLS,)


@pytest.mark.parametrize(
    ("values", "tokens", "quirks"),
    [
        ([], (), ()),
        (["ocpp1.6"], ("ocpp1.6",), ()),
        (["ocpp2.0.1, ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), ()),
        (["ocpp2.0.1,ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), ()),
        (["ocpp2.0.1", "ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), ()),
        (["OCPP1.6J"], ("OCPP1.6J",), ()),
        ([""], (), MANGLED),
        ([","], (), MANGLED),
        ([",ocpp1.6,"], ("ocpp1.6",), MANGLED),
        (["ocpp2.0.1,,ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), MANGLED),
        (["ocpp2.0.1 ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), MANGLED),
        (["ocpp2.0.1; ocpp1.6"], ("ocpp2.0.1", "ocpp1.6"), MANGLED),
        (['"ocpp2.0.1", "ocpp1.6"'], ("ocpp2.0.1", "ocpp1.6"), MANGLED),
        (["['ocpp2.0.1','ocpp1.6']"], ("ocpp2.0.1", "ocpp1.6"), MANGLED),
        (["ocpp1.6, ocpp1.6"], ("ocpp1.6",), MANGLED),
        (["ocpp/1.6, ocpp1.6"], ("ocpp1.6",), MANGLED),
    ],
)
def test_lists_as_charge_points_write_them(
    values: list[str], tokens: tuple[str, ...], quirks: tuple[Quirk, ...]
) -> None:
    assert offered(values) == Offer(tokens, quirks)


def test_the_number_of_tokens_is_bounded() -> None:
    tokens = [f"ocpp{number}" for number in range(1000)]
    assert offered([", ".join(tokens)]) == Offer(tuple(tokens[:MAX_TOKENS]), MANGLED)


def test_the_client_s_order_decides_and_the_token_stays_as_written() -> None:
    offer = offered(["ocpp0.1, OCPP2.0.1, ocpp1.6"])
    assert choose(offer, ALL) == ("OCPP2.0.1", OcppVersion.V201)
    assert choose(offer, {OcppVersion.V16}) == ("ocpp1.6", OcppVersion.V16)
    assert choose(offer, {OcppVersion.V21}) is None


def test_negotiation_heeds_both_the_gateway_and_the_record() -> None:
    offer = offered(["ocpp2.1, ocpp2.0.1, ocpp1.6"])
    assert negotiate(offer, ALL, ALL) == ("ocpp2.1", OcppVersion.V21)
    assert negotiate(offer, {OcppVersion.V16, OcppVersion.V201}, ALL) == ("ocpp2.0.1", OcppVersion.V201)
    assert negotiate(offer, ALL, {OcppVersion.V16}) == ("ocpp1.6", OcppVersion.V16)


@pytest.mark.parametrize(
    ("values", "served", "allowed", "status", "reason"),
    [
        ([], ALL, ALL, 400, "subprotocol_missing"),
        ([" , "], ALL, ALL, 400, "subprotocol_missing"),
        (["ocpp0.1"], ALL, ALL, 400, "no_common_subprotocol"),
        (["ocpp1.6"], frozenset([OcppVersion.V201]), ALL, 400, "no_common_subprotocol"),
        (["ocpp1.6"], ALL, frozenset([OcppVersion.V201]), 403, "protocol_not_allowed"),
        (["ocpp1.6"], ALL, frozenset(), 403, "protocol_not_allowed"),
    ],
)
def test_offers_that_lead_nowhere(
    values: list[str], served: frozenset[OcppVersion], allowed: frozenset[OcppVersion], status: int, reason: str
) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        negotiate(offered(values), served, allowed)
    assert (caught.value.status, caught.value.reason) == (status, reason)


@pytest.mark.parametrize(
    ("token", "version", "quirks"),
    [
        ("ocpp1.6", OcppVersion.V16, ()),
        ("OCPP1.6", OcppVersion.V16, (Quirk.CASED_SUBPROTOCOL,)),
        ("ocpp1.6j", OcppVersion.V16, (Quirk.MISSPELLED_SUBPROTOCOL,)),
        ("ocpp1.6J", OcppVersion.V16, (Quirk.CASED_SUBPROTOCOL, Quirk.MISSPELLED_SUBPROTOCOL)),
        ("ocpp2.0.1", OcppVersion.V201, ()),
    ],
)
def test_odd_spellings_are_counted(token: str, version: OcppVersion, quirks: tuple[Quirk, ...]) -> None:
    assert token_quirks(token, version) == quirks


@given(st.lists(st.text(max_size=40) | st.sampled_from(["ocpp1.6", "ocpp1.6,,OCPP2.0.1", "x" * 70]), max_size=6))
def test_any_header_values_give_tokens_that_can_be_sent_back(values: list[str]) -> None:
    offer = offered(values)
    assert len(offer.tokens) == len(set(offer.tokens)) <= MAX_TOKENS
    # What is echoed in the answer cannot break out of its line or list.
    line = f"X: {', '.join(offer.tokens)}".encode("latin-1")
    head = RequestHead.parse(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
    assert tuple(head.elements("x")) == offer.tokens


@given(
    st.permutations(["ocpp1.6", "ocpp2.0.1", "ocpp2.1", "ocpp1.5"]), st.sets(st.sampled_from(OcppVersion), min_size=1)
)
def test_the_chosen_version_is_the_first_enabled_one(tokens: list[str], enabled: set[OcppVersion]) -> None:
    chosen = choose(offered([", ".join(tokens)]), enabled)
    assert chosen is not None
    spoken = [version.subprotocol for version in enabled]
    assert chosen[0] == next(token for token in tokens if token in spoken)
    assert chosen[1].subprotocol == chosen[0]
