from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.auth.credentials import MAX_BASIC_LENGTH, MAX_TOKEN_LENGTH, Credentials, spellings
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.ocppj.versions import OcppVersion


def basic(raw: bytes, scheme: str = "Basic") -> Credentials:
    return Credentials.from_headers({"authorization": [f"{scheme} {b64encode(raw).decode()}"]})


def reason_of_basic(*authorization: str) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        Credentials(authorization).basic()
    assert caught.value.headers == (("WWW-Authenticate", 'Basic realm="ocpp"'),)
    return caught.value.reason


def reason_of_token(authorization: tuple[str, ...] = (), api_key: tuple[str, ...] = ()) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        Credentials(authorization, api_key).token()
    assert caught.value.headers == (("WWW-Authenticate", 'Bearer realm="ocpp"'),)
    return caught.value.reason


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic "])
def test_a_basic_credential_is_bytes(scheme: str) -> None:
    credential = basic(b"CP-001:\xff\x00:\xfe", scheme).basic()
    assert (credential.username, credential.password) == (b"CP-001", b"\xff\x00:\xfe")


def test_the_password_begins_after_the_first_colon() -> None:
    credential = basic(b":a:b").basic()
    assert (credential.username, credential.password) == (b"", b"a:b")


def test_an_empty_password_is_seen_as_such() -> None:
    assert basic(b"CP-001:").basic().password == b""


def test_padding_may_be_missing() -> None:
    encoded = b64encode(b"CP-001:secret").decode()
    assert encoded.endswith("=")
    assert Credentials((f"Basic {encoded.rstrip('=')}",)).basic().password == b"secret"


def test_no_basic_header() -> None:
    assert reason_of_basic() == "basic_missing_header"
    assert reason_of_basic("Bearer abc") == "basic_missing_header"
    assert reason_of_basic("") == "basic_missing_header"
    assert reason_of_basic("Basicabc") == "basic_missing_header"


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic ",
        "Basic =",
        "Basic a",
        "Basic Zm9v",  # no colon
        "Basic Q1A6!w==",
        "Basic Q1A6 eA==",
        "Basic Q1A6eA==, Basic Q1A6eA==",
        "Basic Q1A6eA===",
        "Basic Q1A6\u00e9",
        "Basic Q1A6-_8=",
        "Basic " + "Q1A6" * (MAX_BASIC_LENGTH // 4) + "Q1A6",
    ],
)
def test_what_is_no_basic_credential(header: str) -> None:
    assert reason_of_basic(header) == "basic_invalid_format"


def test_two_authorization_headers_are_ambiguous() -> None:
    header = f"Basic {b64encode(b'CP-001:x').decode()}"
    assert reason_of_basic(header, header) == "basic_invalid_format"


def test_tokens_of_both_kinds() -> None:
    assert Credentials(("Bearer abc",)).token() == b"abc"
    assert Credentials(("bearer  abc ",)).token() == b"abc"
    assert Credentials((), (" abc ",)).token() == b"abc"
    assert Credentials(("Basic eDp5",), ("abc",)).token() == b"abc"
    assert Credentials(("Bearer abc",), ("abc",)).token() == b"abc"
    assert Credentials(("Bearer a\u00ff",)).token() == b"a\xff"


def test_no_token() -> None:
    assert reason_of_token() == "token_missing"
    assert reason_of_token(("Basic eDp5",)) == "token_missing"
    assert reason_of_token(("Bearer",), ("",)) == "token_missing"
    assert reason_of_token(("Bearer ",), (" ",)) == "token_missing"


def test_ambiguous_or_impossible_tokens() -> None:
    assert reason_of_token(("Bearer abc",), ("abd",)) == "token_invalid"
    assert reason_of_token(("Bearer abc", "Bearer abd")) == "token_invalid"
    assert reason_of_token((), ("abc", "abd")) == "token_invalid"
    assert reason_of_token((), ("x" * (MAX_TOKEN_LENGTH + 1),)) == "token_invalid"
    assert reason_of_token((), ("\u20ac",)) == "token_invalid"


def test_credentials_are_not_in_the_repr() -> None:
    credentials = Credentials.from_headers({"authorization": ["Basic Q1A6c2VjcmV0"], "x-api-key": ["secret"]})
    text = repr(credentials) + repr(credentials.basic())
    assert "Q1A6c2VjcmV0" not in text
    assert "secret" not in text


KEY = bytes.fromhex("FFA1B2C3D4E5F60718293A4B5C6D7E8F90010203")


def test_a_1_6_key_may_have_been_hashed_as_bytes_or_as_digits() -> None:
    assert spellings(KEY, OcppVersion.V16) == (KEY, KEY.hex().encode(), KEY.hex().upper().encode())


def test_a_1_6_key_may_be_sent_as_digits() -> None:
    lower, upper = KEY.hex().encode(), KEY.hex().upper().encode()
    assert set(spellings(lower, OcppVersion.V16)) == {lower, upper, KEY}
    assert spellings(upper, OcppVersion.V16)[0] == upper
    assert set(spellings(upper, OcppVersion.V16)) == {lower, upper, KEY}


def test_a_long_1_6_password_is_no_key() -> None:
    assert spellings(b"x" * 21, OcppVersion.V16) == (b"x" * 21,)


@pytest.mark.parametrize("version", [OcppVersion.V201, OcppVersion.V21])
def test_a_2_x_password_has_one_spelling(version: OcppVersion) -> None:
    assert spellings(KEY.hex().encode(), version) == (KEY.hex().encode(),)


@given(st.binary(min_size=1), st.sampled_from(OcppVersion))
def test_a_password_is_its_own_first_spelling_and_few_follow(password: bytes, version: OcppVersion) -> None:
    forms = spellings(password, version)
    assert forms[0] == password
    assert len(forms) == len(set(forms)) <= 4


@given(
    st.lists(st.text(max_size=60) | st.text(max_size=60).map("Basic {}".format), max_size=3),
    st.lists(st.text(max_size=20), max_size=2),
)
def test_any_header_values_are_a_credential_or_a_labelled_failure(authorization: list[str], api_key: list[str]) -> None:
    credentials = Credentials.from_headers({"authorization": authorization, "x-api-key": api_key})
    for read, label in ((credentials.basic, "basic_"), (credentials.token, "token_")):
        try:
            read()
        except AuthenticationFailed as failed:
            assert failed.reason.startswith(label)
        else:
            assert authorization or api_key


@given(st.binary(max_size=48).filter(lambda name: b":" not in name), st.binary(max_size=64))
def test_every_user_and_password_comes_through(username: bytes, password: bytes) -> None:
    credential = basic(username + b":" + password).basic()
    assert (credential.username, credential.password) == (username, password)
