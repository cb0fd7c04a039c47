from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.request import MAX_HEADERS, RequestHead

START = b"GET /ocpp/1.6/CP-001 HTTP/1.1\r\n"


def parse(*lines: bytes) -> RequestHead:
    return RequestHead.parse(START + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def reason_of(block: bytes) -> str:
    with pytest.raises(HandshakeRefused) as caught:
        RequestHead.parse(block)
    assert caught.value.status == 400
    return caught.value.reason


def test_a_request_head_gives_its_parts() -> None:
    head = parse(b"Host: example.com:8080", b"X-Empty:", b"Accept:\ta\t", b"ACCEPT: b")
    assert (head.method, head.target, head.version) == ("GET", "/ocpp/1.6/CP-001", "1.1")
    assert dict(head.headers) == {"host": ("example.com:8080",), "x-empty": ("",), "accept": ("a", "b")}
    assert head.values("accept") == ("a", "b")
    assert head.values("missing") == ()


def test_header_values_keep_their_bytes() -> None:
    assert parse(b"X-Name: M\xc3\xbcller\xff").values("x-name")[0].encode("latin-1") == b"M\xc3\xbcller\xff"


def test_a_colon_belongs_to_the_value_after_the_first_one() -> None:
    assert parse(b"Referer: http://a:1/b").values("referer") == ("http://a:1/b",)


def test_list_elements_are_collected_over_all_lines() -> None:
    assert parse(b"Connection: keep-alive, ,", b"Connection: Upgrade").elements("connection") == [
        "keep-alive",
        "Upgrade",
    ]


def test_the_credential_is_not_in_the_repr() -> None:
    assert "c2VjcmV0" not in repr(parse(b"Authorization: Basic c2VjcmV0"))


@pytest.mark.parametrize("byte", [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x85", b"\x00", b"\x7f", b"\r", b"\n"])
def test_bytes_that_end_a_line_for_some_parser_are_refused(byte: bytes) -> None:
    assert reason_of(START + b"X-A: 1" + byte + b"Authorization: Basic eDp5\r\n\r\n") == "control_bytes"
    assert reason_of(b"GET /ocpp/CP-1" + byte + b" HTTP/1.1\r\n\r\n") == "control_bytes"


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/11",
    ],
)
def test_a_request_line_has_exactly_one_form(request_line: bytes) -> None:
    assert reason_of(request_line + b"\r\nHost: a\r\n\r\n") == "malformed_request"


@pytest.mark.parametrize("line", [b"Host : a", b": a", b"Host", b"H\xf6st: a", b"Ho st: a", b"(x): a"])
def test_a_header_line_has_exactly_one_form(line: bytes) -> None:
    assert reason_of(START + line + b"\r\n\r\n") == "malformed_request"


@pytest.mark.parametrize("line", [b" folded", b"\tfolded: x"])
def test_folded_lines_are_refused(line: bytes) -> None:
    assert reason_of(START + b"Authorization: Basic\r\n" + line + b"\r\n\r\n") == "folded_header"


@pytest.mark.parametrize("name", [b"Authorization", b"x-api-key", b"Host", b"Sec-WebSocket-Key", b"Content-Length"])
def test_what_decides_is_said_once(name: bytes) -> None:
    assert reason_of(START + name + b": a\r\n" + name.lower() + b": a\r\n\r\n") == "repeated_header"


def test_the_subprotocol_header_may_be_repeated() -> None:
    head = parse(b"Sec-WebSocket-Protocol: ocpp2.0.1", b"Sec-WebSocket-Protocol: ocpp1.6")
    assert head.values("sec-websocket-protocol") == ("ocpp2.0.1", "ocpp1.6")


def test_the_number_of_headers_is_bounded() -> None:
    assert len(parse(*[b"X-%d: 1" % i for i in range(MAX_HEADERS)]).headers) == MAX_HEADERS
    assert reason_of(START + b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n") == "too_many_headers"


def test_a_block_without_its_end_is_refused() -> None:
    whole = START + b"Host: a\r\n\r\n"
    for end in range(len(whole)):
        assert reason_of(whole[:end]) in ("malformed_request", "control_bytes")
    assert RequestHead.parse(whole).target == "/ocpp/1.6/CP-001"


def test_bytes_after_the_end_are_not_part_of_a_head() -> None:
    assert reason_of(START + b"\r\nGET / HTTP/1.1\r\n\r\n") == "malformed_request"


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: START + tail + b"\r\n\r\n"))
@example(b"\r\n\r\n")
@example(START + b"\r\n\r\n\r\n")
def test_any_bytes_are_a_head_or_a_400(block: bytes) -> None:
    try:
        head = RequestHead.parse(block)
    except HandshakeRefused as refusal:
        assert refusal.status == 400
    else:
        # No line of the head can be taken for two by a parser with another idea of line ends.
        assert len(block.decode("latin-1").splitlines()) == block.count(b"\r\n")
        assert len(head.headers) <= MAX_HEADERS


@given(
    st.dictionaries(
        st.from_regex(r"x-[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85"), min_size=1),
    )
)
def test_well_formed_headers_come_back_as_they_were(headers: dict[str, str]) -> None:
    head = parse(*[f"{name}: {value}".encode("latin-1") for name, value in headers.items()])
    assert {name: values[0] for name, values in head.headers.items()} == headers
