"""Whatever we write is read back as it was meant, and no text whatsoever breaks the reader."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocpp_gateway.ocppj.codec import (
    MAX_DESCRIPTION_LENGTH,
    decode,
    encode_call,
    encode_call_error,
    encode_call_result,
    encode_call_result_error,
    encode_send,
)
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import (
    FRAME_ERRORS,
    Call,
    CallError,
    CallResult,
    CallResultError,
    FrameError,
    MessageId,
    Quirk,
    Send,
)
from ocpp_gateway.ocppj.versions import OcppVersion

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))
payloads = st.dictionaries(text, values, max_size=5)
actions = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
message_ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=36) | st.integers(-(2**63), 2**64 - 1)
versions = st.sampled_from(OcppVersion)
codes = st.sampled_from(ErrorCode)


def quirks(message_id: MessageId) -> tuple[Quirk, ...]:
    return (Quirk.NUMERIC_MESSAGE_ID,) if isinstance(message_id, int) else ()


@given(versions, message_ids, actions, payloads)
def test_questions(version: OcppVersion, message_id: MessageId, action: str, payload: dict[str, Any]) -> None:
    raw = orjson.dumps(payload)
    seen = quirks(message_id)
    assert decode(encode_call(message_id, action, raw), version) == Call(message_id, action, payload, raw, seen)
    assert decode(encode_send(message_id, action, raw), OcppVersion.V21) == Send(message_id, action, payload, raw, seen)


@given(versions, message_ids, payloads)
def test_results(version: OcppVersion, message_id: MessageId, payload: dict[str, Any]) -> None:
    raw = orjson.dumps(payload)
    result = CallResult(message_id, payload, raw, quirks(message_id))
    assert decode(encode_call_result(message_id, raw), version) == result


@given(versions, message_ids, codes, text, payloads)
def test_errors(
    version: OcppVersion, message_id: MessageId, code: ErrorCode, description: str, details: dict[str, Any]
) -> None:
    raw = orjson.dumps(details)
    seen = quirks(message_id)
    assert decode(encode_call_error(version, message_id, code, description, raw), version) == CallError(
        message_id, code.spelling(version), description, details, seen
    )
    assert decode(encode_call_result_error(message_id, code, description, raw), OcppVersion.V21) == CallResultError(
        message_id, code.value, description, details, seen
    )


def test_texts_as_the_standard_prints_them() -> None:
    code = ErrorCode.FORMAT_VIOLATION
    assert encode_call("19223201", "Reset", b'{"type":"Hard"}') == b'[2,"19223201","Reset",{"type":"Hard"}]'
    assert encode_call_result(17, b"{}") == b"[3,17,{}]"
    assert encode_call_error(OcppVersion.V16, "1", code, "x") == b'[4,"1","FormationViolation","x",{}]'
    assert encode_call_error(OcppVersion.V201, "-1", code, "", b'{"a":1}') == b'[4,"-1","FormatViolation","",{"a":1}]'
    assert encode_call_result_error("1", code, "x") == b'[5,"1","FormatViolation","x",{}]'
    assert encode_send("1", "NotifyPeriodicEventStream", b"{}") == b'[6,"1","NotifyPeriodicEventStream",{}]'


def test_a_long_description_is_cut() -> None:
    data = encode_call_error(OcppVersion.V21, "1", ErrorCode.GENERIC_ERROR, "é" * 300)
    assert orjson.loads(data)[3] == "é" * MAX_DESCRIPTION_LENGTH == "é" * 255


@given(payloads, st.booleans(), st.sampled_from([None, 1]))
def test_the_payload_s_own_bytes_survive_any_way_of_writing(
    payload: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    written = json.dumps([2, "1", "A", payload], ensure_ascii=ascii_only, indent=indent)
    frame = decode(written.encode(), OcppVersion.V16)
    assert isinstance(frame, Call)
    assert frame.payload == payload
    assert frame.raw_payload in written.encode()
    assert json.loads(frame.raw_payload) == payload
    assert frame.raw_payload[:1] + frame.raw_payload[-1:] == b"{}"


@given(payloads, text, scalars, st.data())
def test_a_repeated_key_is_found_wherever_it_is(
    payload: dict[str, Any], key: str, value: object, data: st.DataObject
) -> None:
    members = [f"{json.dumps(name)}:{json.dumps(inner)}" for name, inner in payload.items()]
    twice = f"{json.dumps(key)}:{json.dumps(value)}"
    members.insert(data.draw(st.integers(0, len(members))), twice)
    members.insert(data.draw(st.integers(0, len(members))), twice)
    broken = "{" + ",".join(members) + "}"
    for around in ("%s", '{"outer":%s}', '{"outer":[0,%s,{}]}'):
        with pytest.raises(FrameError) as caught:
            decode(f'[2,"1","A",{around % broken}]'.encode(), OcppVersion.V16)
        assert caught.value.reason == "duplicate_key"
        assert (caught.value.message_id, caught.value.action) == ("1", "A")


@given(st.integers(2**64, 10**40) | st.integers(-(10**40), -(2**63) - 1))
def test_an_integer_that_would_be_rounded_is_found(number: int) -> None:
    with pytest.raises(FrameError) as caught:
        decode(b'[2,"1","A",{"a":[%d]}]' % number, OcppVersion.V16)
    assert caught.value.reason == "number_out_of_range"


FRAMES = [
    b'[2,"19223201","BootNotification",{"chargePointVendor":"VendorX","chargePointModel":"SingleSocketCharger"}]',
    b'[3,"19223201",{"status":"Accepted","currentTime":"2013-02-01T20:53:32.486Z","interval":300}]',
    b'[4,"162376037","NotSupported","SetDisplayMessageRequest not implemented",{}]',
    b'[5,"162376037","FormatViolation","",{"a":[1,2.5,null]}]',
    ' [ 6 , "id" , "NotifyPeriodicEventStream" , { "é" : "\\u00e9\\"" } ] '.encode(),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_no_part_of_a_frame_is_a_frame(frame: bytes) -> None:
    decode(frame, OcppVersion.V21)
    for end in range(len(frame.rstrip())):
        with pytest.raises(FrameError):
            decode(frame[:end], OcppVersion.V21)
    for garbage in (b"x", b"]", b",", b"\x00", b"{}", b"\xff", frame):
        with pytest.raises(FrameError):
            decode(frame + garbage, OcppVersion.V21)


def check(data: bytes, version: OcppVersion) -> None:
    """Decode to a frame or a FrameError, and hold both to their promises."""
    try:
        frame = decode(data, version)
    except FrameError as error:
        assert error.code is FRAME_ERRORS[error.reason]
        assert error.message_id is None or type(error.message_id) is int or len(str(error.message_id)) <= 255
        if error.reason == "lone_surrogate":
            assert b"\\u" in data
        if type(error.message_id) is str:
            encode_call_error(version, error.message_id, error.code, error.reason)
        return
    if isinstance(frame, Call | Send | CallResult):
        assert json.loads(frame.raw_payload) == frame.payload
        assert frame.raw_payload in data or frame.quirks


@given(st.binary(max_size=100), versions)
def test_garbage(data: bytes, version: OcppVersion) -> None:
    check(data, version)


JSONISH = ["[", "]", "{", "}", ",", ":", '"', "\\", "\\u", "d800", "0", "2", "-", ".", "e9", "1e999", "NaN", "null"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(JSONISH) | text, max_size=30), st.sampled_from(["", '[2,"1","A",{"a":']), versions)
@example(["\\u", "d800", '"'], '[2,"1","A",{"a":"', OcppVersion.V16)
def test_text_that_is_nearly_json(parts: list[str], before: str, version: OcppVersion) -> None:
    check((before + "".join(parts)).encode(), version)


@settings(max_examples=300)
@given(st.sampled_from(FRAMES), st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3), versions)
def test_frames_with_damage(frame: bytes, at: int, lost: int, new: bytes, version: OcppVersion) -> None:
    check(frame[:at] + new + frame[at + lost :], version)


@given(st.lists(values, max_size=7), versions)
def test_any_array(array: list[Any], version: OcppVersion) -> None:
    check(orjson.dumps(array), version)
