from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocpp_gateway.environment import parse
from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.path import OcppPath, parse_target
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion

DEFAULT = parse({}).ocpp_charge_point_id_pattern
ANYTHING = re.compile(r".*", re.DOTALL)


@pytest.mark.parametrize(
    ("target", "version", "identity"),
    [
        ("/ocpp/1.6/CP-001", OcppVersion.V16, "CP-001"),
        ("/ocpp/1.6j/CP-001", OcppVersion.V16, "CP-001"),
        ("/ocpp/1.6J/CP-001/", OcppVersion.V16, "CP-001"),
        ("/ocpp/2.0.1/CP-001", OcppVersion.V201, "CP-001"),
        ("/ocpp/2.1/CP-001?a=b/c", OcppVersion.V21, "CP-001"),
        ("/ocpp/CP-001", None, "CP-001"),
        ("/ocpp/CP-001/?x", None, "CP-001"),
        ("/ocpp/1.6/CP-%30%301", OcppVersion.V16, "CP-001"),
        ("/ocpp/CP-A%7CB%40c%2B1", None, "CP-A|B@c+1"),
        ("/ocpp/CP-a+b", None, "CP-a+b"),
        ("/ocpp/CP-" + "x" * 45, None, "CP-" + "x" * 45),
        ("ws://gateway.example:8080/ocpp/1.6/CP-001", OcppVersion.V16, "CP-001"),
    ],
)
def test_targets_that_name_a_charge_point(target: str, version: OcppVersion | None, identity: str) -> None:
    assert parse_target(target, DEFAULT) == OcppPath(version, identity)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/", "unknown_path"),
        ("", "unknown_path"),
        ("*", "unknown_path"),
        ("ocpp/CP-001", "unknown_path"),
        ("/ocpp", "unknown_path"),
        ("/ocpp/", "unknown_path"),
        ("/OCPP/CP-001", "unknown_path"),
        ("//ocpp/CP-001", "unknown_path"),
        ("/ocpp/1.6/CP-001//", "unknown_path"),
        ("/ocpp/1.6/x/CP-001", "unknown_path"),
        ("/ocpp/1.6/../CP-001", "unknown_path"),
        ("/other/1.6/CP-001", "unknown_path"),
        ("ftp://a/ocpp/CP-001", "unknown_path"),
        ("/ocpp/1.5/CP-001", "unknown_version"),
        ("/ocpp//CP-001", "unknown_version"),
        ("/ocpp/%ff/CP-001", "unknown_version"),
        ("/ocpp/1.6/", "identity_malformed"),
        ("/ocpp/1.6/001", "identity_malformed"),
        ("/ocpp/1.6/CP-", "identity_malformed"),
        ("/ocpp/CP-" + "x" * 46, "identity_malformed"),
        ("/ocpp/CP-001;1", "identity_malformed"),
        ("/ocpp/CP-001#1", "identity_malformed"),
        ("/ocpp/CP-a:b", "identity_malformed"),
        ("/ocpp/CP-a%3Ab", "identity_malformed"),
        ("/ocpp/CP-a%2Fb", "identity_malformed"),
        ("/ocpp/CP-a%252Fb", "identity_malformed"),
        ("/ocpp/CP-001%0a", "identity_malformed"),
        ("/ocpp/CP-001%00", "identity_malformed"),
        ("/ocpp/CP-%0d%0aX", "identity_malformed"),
        ("/ocpp/CP-%", "identity_malformed"),
        ("/ocpp/CP-%4", "identity_malformed"),
        ("/ocpp/CP-%zz", "identity_malformed"),
        ("/ocpp/CP-%c3%28", "identity_malformed"),
        ("/ocpp/CP-%ed%a0%80", "identity_malformed"),
        ("/ocpp/CP-%c0%af", "identity_malformed"),
    ],
)
def test_targets_that_do_not(target: str, reason: str) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        parse_target(target, DEFAULT)
    assert (caught.value.status, caught.value.reason) == (404, reason)


@pytest.mark.parametrize("identity", ["a%3Ab", "a%2Fb", "a%5Cb", "%00", "a%0A", "a%7F", "a%C2%85", ".", "..", "%2e%2e"])
def test_no_pattern_allows_what_an_identity_can_never_be(identity: str) -> None:
    with pytest.raises(HandshakeRefused):
        parse_target(f"/ocpp/1.6/{identity}", ANYTHING)


def test_a_pattern_may_allow_the_blank_of_ocpp_1_6() -> None:
    assert parse_target("/ocpp/1.6/RDAM%20123", ANYTHING).charge_point_id == "RDAM 123"


def test_a_pattern_has_to_match_the_whole_identity_without_anchors_too() -> None:
    digits = re.compile(r"CP-\d+")
    assert parse_target("/ocpp/CP-12", digits).charge_point_id == "CP-12"
    for identity in ("CP-12x", "xCP-12", "CP-12%20"):
        with pytest.raises(HandshakeRefused):
            parse_target(f"/ocpp/{identity}", digits)


def test_a_version_alone_is_no_identity_whatever_the_pattern() -> None:
    with pytest.raises(HandshakeRefused) as caught:
        parse_target("/ocpp/1.6", ANYTHING)
    assert caught.value.reason == "unknown_path"


def test_the_length_of_an_identity_is_bounded_whatever_the_pattern() -> None:
    assert len(parse_target("/ocpp/" + "x" * 255, ANYTHING).charge_point_id) == 255
    with pytest.raises(HandshakeRefused):
        parse_target("/ocpp/" + "x" * 256, ANYTHING)


def test_another_version_than_the_path_names_is_a_quirk() -> None:
    path = OcppPath(OcppVersion.V16, "CP-001")
    assert path.quirks(OcppVersion.V16) == ()
    assert path.quirks(OcppVersion.V201) == (Quirk.PATH_VERSION_MISMATCH,)
    assert OcppPath(None, "CP-001").quirks(OcppVersion.V201) == ()


segments = st.lists(st.text() | st.sampled_from(["ocpp", "1.6", "CP-001", "..", "%2e%2e", "%2f", ""]), max_size=5)


@given(st.text() | segments.map(lambda parts: "/" + "/".join(parts)) | segments.map("/ocpp/".join), st.booleans())
@example("/ocpp/CP-1\n", True)
@example("ws://", True)
@example("/ocpp/\ud800", True)
def test_any_target_is_an_identity_or_a_404(target: str, is_default: bool) -> None:
    try:
        path = parse_target(target, DEFAULT if is_default else ANYTHING)
    except HandshakeRefused as refusal:
        assert refusal.status == 404
    else:
        identity = path.charge_point_id
        assert identity.isprintable()
        assert not set(identity) & set(":/\\")
        assert 0 < len(identity) <= 255


@given(st.from_regex(r"CP-[A-Za-z0-9*\-_=+|@.]{1,45}", fullmatch=True), st.sampled_from(OcppVersion))
def test_every_identity_survives_percent_encoding(identity: str, version: OcppVersion) -> None:
    everything = "".join(f"%{byte:02x}" for byte in identity.encode())
    for encoded in (identity, quote(identity, safe=""), everything):
        assert parse_target(f"/ocpp/{version.label}/{encoded}", DEFAULT) == OcppPath(version, identity)
