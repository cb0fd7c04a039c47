"""permessage-deflate's two ends as functions: what is offered and answered, and what zlib made against what we make."""

from __future__ import annotations

import json
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.websocket.deflate import CannotInflate, Deflate, agree, inflate

MOST = 262_144
TAIL = b"\x00\x00\xff\xff"
BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def offer(*fields: str) -> RequestHead:
    lines = [f"Sec-WebSocket-Extensions: {field}\r\n" for field in fields]
    return RequestHead.parse(f"GET / HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1"))


# What is agreed upon.


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (["permessage-deflate"], BOTH),
        (["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], BOTH),
        (["permessage-deflate; client_max_window_bits"], f"{BOTH}; client_max_window_bits=12"),
        (["permessage-deflate; client_max_window_bits=15"], f"{BOTH}; client_max_window_bits=12"),
        (["permessage-deflate; client_max_window_bits=12"], f"{BOTH}; client_max_window_bits=12"),
        (["permessage-deflate; client_max_window_bits=8"], f"{BOTH}; client_max_window_bits=8"),
        (["permessage-deflate; server_max_window_bits=15"], f"{BOTH}; server_max_window_bits=12"),
        (["permessage-deflate; server_max_window_bits=8"], f"{BOTH}; server_max_window_bits=8"),
        (
            ['permessage-deflate ;\tserver_max_window_bits = "10";client_max_window_bits="9"'],
            f"{BOTH}; server_max_window_bits=10; client_max_window_bits=9",
        ),
        (["Permessage-Deflate; Server_Max_Window_Bits=10"], f"{BOTH}; server_max_window_bits=10"),
        (["x-mine, permessage-deflate"], BOTH),
        ([",, permessage-deflate ,"], BOTH),
        (['x-mine; a=b; c="d"', "permessage-deflate"], BOTH),
        (["permessage-deflate; server_max_window_bits=9, permessage-deflate"], f"{BOTH}; server_max_window_bits=9"),
        # Declined, each for itself.
        (["permessage-deflate; no_such=parameter, permessage-deflate"], BOTH),
        (["permessage-deflate; server_max_window_bits, permessage-deflate"], BOTH),
        (["permessage-deflate; server_max_window_bits=7, permessage-deflate"], BOTH),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=08"], None),
        (["permessage-deflate; server_max_window_bits=1e1"], None),
        (["permessage-deflate; client_max_window_bits=7"], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; client_no_context_takeover=true"], None),
        (["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (["permessage-deflate; client_max_window_bits; Client_Max_Window_Bits=9"], None),
        (["x-webkit-deflate-frame"], None),
        (["permessage-bzip2, permessage-deflate2"], None),
        # No list of extensions.
        ([], None),
        ([""], None),
        (["permessage-deflate;"], None),
        (["permessage-deflate; ?=,,;;"], None),
        (["permessage-deflate; client_max_window_bits="], None),
        (['permessage-deflate; client_max_window_bits=""'], None),
        (['permessage-deflate; client_max_window_bits="9'], None),
        (["permessage-deflate client_max_window_bits"], None),
        (['x; y="z, permessage-deflate, z"'], None),
        (["permessage-d\u00e9flate"], None),
    ],
)
def test_the_first_offer_that_says_what_we_know_is_accepted(fields: list[str], answer: str | None) -> None:
    agreed = agree(offer(*fields))
    assert (agreed.answer if agreed else None) == answer


@given(st.text(st.sampled_from(" \t,;=\"'permsagdflt-_wibo0189"), max_size=200))
@example("a," + " " * 16_000 + "?")
@example("a" + " " * 16_000 + "?")
@example("a; b =" + " " * 16_000 + "?")
@example("a;" * 8_000)
@example("permessage-deflate; " + "a" * 16_000 + '"')
@example("permessage-deflate; client_max_window_bits" + "\t;a" * 5_000 + "\t")
def test_whatever_is_offered_is_answered_or_not(field: str) -> None:
    agreed = agree(offer(field))
    assert agreed is None or agreed.answer.startswith(BOTH)


@pytest.mark.parametrize("server_bits", [None, 9, 15])
@pytest.mark.parametrize("client_bits", [None, True, 9, 15])
def test_another_library_takes_our_answer(server_bits: int | None, client_bits: int | None) -> None:
    client = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits, client_max_window_bits=client_bits)
    wanted = "; ".join(name if value is None else f"{name}={value}" for name, value in client.get_request_params())
    agreed = agree(offer(f"permessage-deflate; {wanted}" if wanted else "permessage-deflate"))
    assert agreed is not None
    answer = [part.strip().split("=") for part in agreed.answer.split(";")[1:]]
    extension = client.process_response_params([(part[0], part[1] if part[1:] else None) for part in answer], [])
    assert extension.remote_no_context_takeover
    assert extension.local_no_context_takeover


# What we read.


def cut(deflated: bytes) -> bytes:
    assert deflated.endswith(TAIL)
    return deflated[:-4]


def deflated(data: bytes, bits: int = 15) -> bytes:
    stream = zlib.compressobj(wbits=-bits)
    return cut(stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))


HELLO = [
    # RFC 7692 section 7.2.3, one after the other.
    bytes.fromhex("f2 48 cd c9 c9 07 00"),
    bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00"),
    bytes.fromhex("f3 48 cd c9 c9 07 00 00"),
    bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"),
    # Not as it is written there, and nothing is missing: without the octet behind the last block; with the tail.
    bytes.fromhex("f3 48 cd c9 c9 07 00"),
    bytes.fromhex("f2 48 cd c9 c9 07 00 00 00 ff ff"),
    bytes.fromhex("01 05 00 fa ff 48 65 6c 6c 6f 01 00 00 ff ff"),
]


@pytest.mark.parametrize("data", HELLO)
def test_the_examples_of_the_specification(data: bytes) -> None:
    assert inflate(data, MOST) == b"Hello"


@pytest.mark.parametrize("data", [b"", b"\x00", TAIL, b"\x00" + TAIL, b"\x02\x00", b"\x03\x00", b"\x03\x00\x00"])
def test_an_empty_message(data: bytes) -> None:
    assert inflate(data, MOST) == b""


LEVELS = st.integers(0, 9)
STRATEGIES = st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED])
FLUSHES = st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK])
PARTS = st.lists(st.binary(max_size=200) | st.sampled_from([b'"measurand":"Voltage",', b"0" * 5000]), max_size=8)


@given(
    parts=st.lists(st.tuples(PARTS.map(b"".join), FLUSHES), max_size=5),
    level=LEVELS,
    strategy=STRATEGIES,
    bits=st.integers(9, 15),
    memory=st.integers(1, 9),
    ending=st.sampled_from(["cut", "whole", "last", "last and an octet"]),
)
def test_what_zlib_makes_is_read_however_it_makes_it(
    parts: list[tuple[bytes, int]], level: int, strategy: int, bits: int, memory: int, ending: str
) -> None:
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits, memory, strategy)
    made = b"".join(stream.compress(data) + stream.flush(flush) for data, flush in parts)
    if ending.startswith("last"):
        made += stream.flush(zlib.Z_FINISH) + (b"\x00" if ending != "last" else b"")
    else:
        made += stream.flush(zlib.Z_SYNC_FLUSH)
        if ending == "cut":
            made = made.removesuffix(TAIL)  # flushed twice, zlib writes nothing
    data = b"".join(data for data, _ in parts)
    if len(data) > 16_384 and len(data) > 100 * len(made):
        with pytest.raises(CannotInflate, match="compression_ratio"):
            inflate(made, MOST)
    else:
        assert inflate(made, MOST) == data


@given(parts=PARTS, level=LEVELS, strategy=STRATEGIES, share=st.floats(0, 1))
def test_of_a_message_cut_off_nothing_is_made_up(parts: list[bytes], level: int, strategy: int, share: float) -> None:
    data = b"".join(parts)
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    made = cut(stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))
    try:
        assert data.startswith(inflate(made[: int(len(made) * share)], MOST))
    except CannotInflate as error:
        assert error.reason in (CloseReason.PROTOCOL_ERROR, CloseReason.COMPRESSION_RATIO)


@given(st.binary(max_size=300), st.integers(1024, 20_000))
@example(b"\x03\x00" * 20_000, MOST)
@example(b"\xff" * 300, MOST)
def test_any_bytes_are_a_message_within_the_bounds_or_none(data: bytes, most: int) -> None:
    try:
        assert len(inflate(data, most)) <= most
    except CannotInflate as error:
        assert error.reason in (
            CloseReason.PROTOCOL_ERROR,
            CloseReason.MESSAGE_TOO_BIG,
            CloseReason.COMPRESSION_RATIO,
        )


INVALID = [
    b"\x07",  # a block of a type that there is not
    b"\x00\x05\x00\xfa\xff\x48",  # five octets are announced, one is there
    b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",  # lengths that do not agree
    deflated(b"Hello, Hello, Hello, Hello")[:5],
    b"\xf2\x48\xcd\xc9\xc9\x07\x10",  # the block at the end is not empty
    b"\x4b\x04\x81\x00",  # looks back further than there is anything
    HELLO[0] + b"[2]",
    b'[2,"1","Heartbeat",{}]',
    b"\x03\x00" * 17,  # said to be the last one once too often
    zlib.compress(b"Hello"),  # zlib's own format
]


@pytest.mark.parametrize("data", INVALID)
def test_what_is_not_deflate_or_not_all_of_it_is_told_so(data: bytes) -> None:
    with pytest.raises(CannotInflate) as caught:
        inflate(data, MOST)
    assert caught.value.reason is CloseReason.PROTOCOL_ERROR


def test_as_many_last_blocks_as_a_message_may_have() -> None:
    stream = zlib.compressobj(wbits=-15)
    one = stream.compress(b"Hello") + stream.flush()
    assert inflate(one * 16, MOST) == b"Hello" * 16


@pytest.mark.parametrize("most", [1024, MOST])
def test_a_message_may_be_as_long_as_any_other(most: int) -> None:
    text = (b"%06d," * (most // 7 + 1) % tuple(range(most // 7 + 1)))[:most]
    assert inflate(deflated(text), most) == text
    for longer in (text + b"1", text + b"1" * 300, text * 10):  # also where a repetition goes beyond the end
        with pytest.raises(CannotInflate) as caught:
            inflate(deflated(longer), most)
        assert caught.value.reason is CloseReason.MESSAGE_TOO_BIG


def test_a_short_message_may_become_anything_a_long_one_a_hundred_times_as_long() -> None:
    assert inflate(deflated(b" " * 16_384), MOST) == b" " * 16_384
    with pytest.raises(CannotInflate) as caught:
        inflate(deflated(b" " * 200_000), MOST)
    assert caught.value.reason is CloseReason.COMPRESSION_RATIO
    readings = json.dumps([{"value": "230.1", "measurand": "Voltage", "unit": "V"}] * 4000).encode()
    with pytest.raises(CannotInflate):
        inflate(deflated(readings), MOST)
    told_apart = json.dumps([{"value": str(n), "measurand": "Voltage", "unit": "V"} for n in range(4000)]).encode()
    assert inflate(deflated(told_apart), MOST) == told_apart


def test_of_a_bomb_no_more_is_inflated_than_a_message_may_be_long() -> None:
    bomb = deflated(b" " * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(CannotInflate) as caught:
            inflate(bomb, MOST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason is CloseReason.MESSAGE_TOO_BIG
    assert peak < 4 * MOST


# What we write.


def read_back(frame: bytes, deflate: Deflate) -> tuple[bool, bytes]:
    """Whether it is compressed, and what another library finds in it."""
    reader = StreamReader()
    reader.feed_data(frame)
    extension = PerMessageDeflate(True, True, deflate.server_bits or 15, 15)
    parsing = Frame.parse(reader.read_exact, mask=False, extensions=[extension])
    try:
        while True:
            next(parsing)
    except StopIteration as parsed:
        read = parsed.value
    assert (read.opcode, read.fin) == (Opcode.TEXT, True)
    return frame[0] == 0xC1, bytes(read.data)


@given(parts=PARTS, bits=st.none() | st.integers(8, 12))
def test_zlib_reads_what_we_write(parts: list[bytes], bits: int | None) -> None:
    data = b"".join(parts)
    deflate = Deflate(bits, None)
    is_compressed, read = read_back(deflate.text_frame(data), deflate)
    assert read == data
    assert len(deflate.text_frame(data)) <= len(data) + 10
    assert not is_compressed or (len(data) > 256 and bits != 8)


@pytest.mark.parametrize(
    ("data", "bits", "is_compressed"),
    [
        (b"", None, False),
        (b"x" * 256, None, False),
        (b"x" * 257, None, True),
        (b"x" * 100_000, 9, True),
        (b"x" * 100_000, 8, False),  # zlib cannot
        (bytes(range(256)) * 2, None, True),
        (zlib.compress(bytes(range(256)) * 40)[:260], None, False),
        (json.dumps([[n, "Current.Import"] for n in range(5000)]).encode(), 12, True),
    ],
)
def test_a_message_is_compressed_if_that_makes_it_shorter(data: bytes, bits: int | None, is_compressed: bool) -> None:
    deflate = Deflate(bits, None)
    assert read_back(deflate.text_frame(data), deflate) == (is_compressed, data)
