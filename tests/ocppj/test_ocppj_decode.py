"""Text to frame: what is read, what is tolerated, what is refused and what is saved of it."""

from __future__ import annotations

import time

import pytest

from ocpp_gateway.ocppj.codec import decode
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

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21

ID36 = "x" * 36


def refusal(data: bytes, version: OcppVersion = V16, **options: int) -> FrameError:
    with pytest.raises(FrameError) as caught:
        decode(data, version, **options)
    assert caught.value.code is FRAME_ERRORS[caught.value.reason]
    assert str(caught.value) == caught.value.reason, "a peer's text must not travel in an exception"
    return caught.value


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        (b'[2,"1","Heartbeat",{}]', Call("1", "Heartbeat", {}, b"{}")),
        (
            b' [ 2 , "1" , "Reset" , { "type" : "Hard" } ] \r\n',
            Call("1", "Reset", {"type": "Hard"}, b'{ "type" : "Hard" }'),
        ),
        (b'[3,"1",{"currentTime":"t"}]', CallResult("1", {"currentTime": "t"}, b'{"currentTime":"t"}')),
        (b'[3,"1" ,\t{ } ]', CallResult("1", {}, b"{ }")),
        (b'[4,"1","GenericError","",{}]', CallError("1", "GenericError", "", {})),
        (b'[4,"1","Own","why",{"a":[1]}]', CallError("1", "Own", "why", {"a": [1]})),
        (f'[2,"{ID36}","A",{{}}]'.encode(), Call(ID36, "A", {}, b"{}")),
        (b'[2,"","A",{}]', Call("", "A", {}, b"{}")),
        ('[2,"é😀","A",{}]'.encode(), Call("é😀", "A", {}, b"{}")),
        (b'[2,"\\u00e9\\"],[","A\\n",{"]":"]"}]', Call('é"],[', "A\n", {"]": "]"}, b'{"]":"]"}')),
    ],
)
@pytest.mark.parametrize("version", OcppVersion)
def test_frames_of_all_versions(data: bytes, frame: object, version: OcppVersion) -> None:
    assert decode(data, version) == frame


def test_frames_of_2_1() -> None:
    assert decode(b'[6,"1","NotifyPeriodicEventStream",{"id":1}]', V21) == Send(
        "1", "NotifyPeriodicEventStream", {"id": 1}, b'{"id":1}'
    )
    assert decode(b'[5,"1","GenericError","why",{}]', V21) == CallResultError("1", "GenericError", "why", {})


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        (b'[2,"1","A",null]', Call("1", "A", {}, b"{}", (Quirk.NULL_PAYLOAD,))),
        (b'[2,"1","A"]', Call("1", "A", {}, b"{}", (Quirk.MISSING_PAYLOAD,))),
        (b'[2,17,"A",{"a":1}]', Call(17, "A", {"a": 1}, b'{"a":1}', (Quirk.NUMERIC_MESSAGE_ID,))),
        (b'[2,-17,"A"]', Call(-17, "A", {}, b"{}", (Quirk.NUMERIC_MESSAGE_ID, Quirk.MISSING_PAYLOAD))),
        (b'[3,"1",null]', CallResult("1", {}, b"{}", (Quirk.NULL_PAYLOAD,))),
        (b'[3,"1"]', CallResult("1", {}, b"{}", (Quirk.MISSING_PAYLOAD,))),
        (b'[3,17,{"a":1}]', CallResult(17, {"a": 1}, b'{"a":1}', (Quirk.NUMERIC_MESSAGE_ID,))),
        (b'[4,"1","C","d"]', CallError("1", "C", "d", {}, (Quirk.SHORT_CALLERROR,))),
        (b'[4,"1","C",null,{}]', CallError("1", "C", "", {}, (Quirk.LOOSE_CALLERROR,))),
        (b'[4,"1","C","d","text"]', CallError("1", "C", "d", {}, (Quirk.LOOSE_CALLERROR,))),
        (
            b'[4,1,"C",2]',
            CallError(1, "C", "", {}, (Quirk.NUMERIC_MESSAGE_ID, Quirk.SHORT_CALLERROR, Quirk.LOOSE_CALLERROR)),
        ),
    ],
)
def test_known_deviations_are_tolerated_and_named(data: bytes, frame: object) -> None:
    assert decode(data, V16) == frame


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_json"),
        (b" ", "not_json"),
        (b"hello", "not_json"),
        (b"[2", "not_json"),
        (b'[2,"1","A",{}],', "not_json"),
        (b'[2,"1","A",{}]\x00', "not_json"),
        (b"[2,'1','A',{}]", "not_json"),
        (b'[2,"1","A",{"a":1,}]', "not_json"),
        (b'[2,"1","A",{"a":01}]', "not_json"),
        (b'\xef\xbb\xbf[2,"1","A",{}]', "not_json"),
        (b'[2,"1","A",{"a":"\xff"}]', "not_json"),
        (b'[2,"1","A",{"a":"\xed\xa0\x80"}]', "not_json"),
        (b'[2,"1","A",{"a":"\x01"}]', "not_json"),
        (b"{}", "not_an_array"),
        (b'"2"', "not_an_array"),
        (b"null", "not_an_array"),
        (b"2", "not_an_array"),
        (b"[]", "wrong_arity"),
        (b"[2]", "wrong_arity"),
        (b'[2,"1"]', "wrong_arity"),
        (b'[2,"1","A",{},{}]', "wrong_arity"),
        (b"[3]", "wrong_arity"),
        (b'[3,"1",{},{}]', "wrong_arity"),
        (b'[4,"1","C"]', "wrong_arity"),
        (b'[4,"1","C","d",{},{}]', "wrong_arity"),
        (b'[1,"1","A",{}]', "unknown_message_type"),
        (b'[7,"1","A",{}]', "unknown_message_type"),
        (b'[-2,"1","A",{}]', "unknown_message_type"),
        (b'[2.0,"1","A",{}]', "unknown_message_type"),
        (b'["2","1","A",{}]', "unknown_message_type"),
        (b'[true,"1","A",{}]', "unknown_message_type"),
        (b'[null,"1","A",{}]', "unknown_message_type"),
        (b'[[2],"1","A",{}]', "unknown_message_type"),
        (b'[2,null,"A",{}]', "bad_message_id"),
        (b'[2,true,"A",{}]', "bad_message_id"),
        (b'[2,1.0,"A",{}]', "bad_message_id"),
        (b'[2,36893488147419103232,"A",{}]', "bad_message_id"),
        (b'[2,["1"],"A",{}]', "bad_message_id"),
        (b"[3,{},{}]", "bad_message_id"),
        (b'[2,"' + b"x" * 37 + b'","A",{}]', "message_id_too_long"),
        (b'[3,"' + b"x" * 37 + b'",{}]', "message_id_too_long"),
        (b'[4,"' + b"x" * 37 + b'","C","",{}]', "message_id_too_long"),
        (b'[2,"1",7,{}]', "bad_action"),
        (b'[2,"1",null,{}]', "bad_action"),
        (b'[2,"1","' + b"A" * 65 + b'",{}]', "bad_action"),
        (b'[4,"1",7,"",{}]', "bad_error_code"),
        (b'[2,"1","A",[]]', "payload_not_an_object"),
        (b'[2,"1","A",""]', "payload_not_an_object"),
        (b'[2,"1","A",0]', "payload_not_an_object"),
        (b'[2,"1","A",false]', "payload_not_an_object"),
        (b'[3,"1",[]]', "payload_not_an_object"),
        (b'[2,"1","A",{"a":1,"a":1}]', "duplicate_key"),
        (b'[2,"1","A",{"a":{"b":1,"\\u0062":2}}]', "duplicate_key"),
        (b'[3,"1",{"a":1, "a":2}]', "duplicate_key"),
        (b'[2,"1","A",{"a":18446744073709551616}]', "number_out_of_range"),
        (b'[2,"1","A",{"a":-9223372036854775809}]', "number_out_of_range"),
        (b'[2,"1","A",{"a":' + b"9" * 5000 + b"}]", "number_out_of_range"),
        (b'[2,"1","A",{"a":1e400}]', "number_out_of_range"),
        (b'[2,"1","A",{"a":-1e400}]', "number_out_of_range"),
        (b'[2,"1","A",{"a":NaN}]', "not_finite"),
        (b'[2,"1","A",{"a":Infinity}]', "not_finite"),
        (b'[2,"1","A",{"a":-Infinity}]', "not_finite"),
        (b'[2,"1","A",{"a":"\\ud800"}]', "lone_surrogate"),
        (b'[2,"1","A",{"\\udc00":1}]', "lone_surrogate"),
        (b'[2,"1","A",{"a":"\\udc00\\ud800"}]', "lone_surrogate"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    assert refusal(data).reason == reason


@pytest.mark.parametrize("version", [V16, V201])
@pytest.mark.parametrize("data", [b'[5,"1","C","d",{}]', b'[6,"1","NotifyPeriodicEventStream",{}]'])
def test_the_types_of_2_1_are_unknown_before(data: bytes, version: OcppVersion) -> None:
    error = refusal(data, version)
    assert error.reason == "unknown_message_type"
    assert error.code is ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED
    assert error.message_id == "1"
    assert error.message_type == int(data[1:2])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":1.0}',
        b'{"a":1.00}',
        b'{"a":1e5,"b":1E-2,"c":-0,"d":-0.0}',
        b'{"a":"\\/\\u0041\\u00e9\\ud83d\\ude00"}',
        '{"a":"é😀\u2028"}'.encode(),
        b'{ "a" :\r\n[ 1,\t2 ] }',
        b'{"a":0.1000000000000000055511151231257827}',
        b'{"a":18446744073709551615,"b":-9223372036854775808}',
        b'{"a":{"x":1},"b":{"x":1}}',
        b'{"a":" , : ","a ":1}',
        b'{"a":[{}],"b":[{}]}',
        b'{"a":null,"b":true,"c":false}',
    ],
)
def test_other_ways_to_write_the_same_are_accepted(payload: bytes) -> None:
    frame = decode(b'[2,"1","A",' + payload + b"]", V16)
    assert isinstance(frame, Call)
    assert frame.raw_payload == payload
    assert frame.quirks == ()


def nested(depth: int) -> bytes:
    """A CALL whose brackets are ``depth`` deep, its own included."""
    return b'[2,"1","A",{"a":' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"}]"


def test_nesting_is_counted_exactly() -> None:
    assert isinstance(decode(nested(32), V16), Call)
    assert refusal(nested(33)).reason == "too_deep"
    assert isinstance(decode(nested(5), V16, max_nesting=5), Call)
    assert refusal(nested(6), max_nesting=5).reason == "too_deep"
    assert isinstance(decode(nested(200), V16, max_nesting=2000), Call)
    for depth in (300, 1020, 1030, 1900):
        assert refusal(nested(depth), max_nesting=2000).reason == "too_deep"


def test_brackets_that_do_not_nest_do_not_count() -> None:
    broad = b'[2,"1","A",{"a":[' + b",".join([b"[]"] * 500) + b'],"b":"' + b"[{" * 500 + b'\\"[[["}]'
    assert isinstance(decode(broad, V16, max_nesting=4), Call)


def test_depth_is_refused_in_every_kind_of_frame() -> None:
    deep = b"[" * 40 + b"]" * 40
    for data in (b'[3,"1",{"a":' + deep + b"}]", b'[4,"1","C","d",{"a":' + deep + b"}]", b"[" + deep + b"]"):
        assert refusal(data).reason == "too_deep"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000,
        b'[2,"1","A",{"a":' + b"[" * 100_000,
        b'[2,"1","A",{"a":' + b"[" * 900 + b"]" * 900 + b"}]",
    ],
)
def test_a_tower_of_brackets_is_refused(data: bytes) -> None:
    assert refusal(data).reason == "too_deep"


@pytest.mark.parametrize(
    "data",
    [
        b'"' + b'\\"' * 100_000,
        b'[2,"' + b'\\"' * 100_000,
        b'[2,"1","A",{"a":"' + b'\\"' * 100_000,
        b'[2,"1","A",{' + b'"a":1,' * 30_000 + b'"b":1}]',
        b"[" + b" " * 200_000,
        b'[2,"1",' + b" " * 200_000 + b"x",
        b'[2,"1","A",{"a":' + b"1" * 200_000 + b"}]",
        b"[2," + b"1" * 200_000,
        b'"' * 200_001,
        b'[2,"1","A",{"a":[' + b"[]," * 60_000 + b"[]]}]" + b"x",
    ],
)
def test_no_text_is_expensive(data: bytes) -> None:
    begin = time.process_time()
    refusal(data)
    # Generous: work that grows with the square of the length would take minutes.
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    ("data", "message_id", "action", "message_type"),
    [
        (b'[2,"1","StopTransaction",{"a":NaN}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a":1,"a":2}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a":"\\ud800"}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a":1e999}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a":18446744073709551616}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"transactionId":,"a":1}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a":"\xff"}]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",[]]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{},0]', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction",{"a', "1", "StopTransaction", 2),
        (b'[2,"1","StopTransaction"', "1", "StopTransaction", 2),
        (b' [ 2 , 17 , "StopTransaction" , {', 17, "StopTransaction", 2),
        (b'[2,"1","StopTr', "1", None, 2),
        (b'[2,"1"', None, None, 2),
        (b"[2,123", None, None, 2),
        (b"[2,1.5,", None, None, 2),
        (b'[2,"1","No/Such Action",{', "1", None, 2),
        (b'[2,"\\u00e9\\"","A",{', 'é"', "A", 2),
        (b'[2,"\\ud800","A",{}]', None, "A", 2),
        (b'[2,"\xff","A",{}]', None, "A", 2),
        (b'[3,"1",{"a', "1", None, 3),
        (b'[3,"1","StopTransaction",{"a', "1", None, 3),
        (b"[2", None, None, None),
        (b"[27654", None, None, None),
        (b"StopTransaction", None, None, None),
        (b'[2,null,"StopTransaction",{}]', None, "StopTransaction", 2),
        (b'[2,"1",{},{}]', "1", None, 2),
        (b'[2.0,"1","StopTransaction",{}]', "1", None, None),
        (b'[9,"1","StopTransaction",{}]', "1", None, 9),
        (b"[9]", None, None, 9),
        (b'[2,"1","' + b"A" * 65 + b'",{}]', "1", None, 2),
        (nested(64).replace(b'"A"', b'"StopTransaction"'), "1", "StopTransaction", 2),
        (nested(4000).replace(b'"A"', b'"StopTransaction"'), "1", "StopTransaction", 2),
    ],
)
def test_what_can_be_read_of_a_broken_frame_is_saved(
    data: bytes, message_id: MessageId | None, action: str | None, message_type: int | None
) -> None:
    error = refusal(data)
    assert (error.message_id, error.action, error.message_type) == (message_id, action, message_type)


@pytest.mark.parametrize(("length", "saved"), [(37, True), (255, True), (256, False), (5000, False)])
@pytest.mark.parametrize("rest", [b"{}]", b'{"a":NaN}]'])
def test_a_long_id_is_saved_up_to_a_point(length: int, saved: bool, rest: bytes) -> None:
    error = refusal(b'[2,"' + b"x" * length + b'","StartTransaction",' + rest, V201)
    assert error.message_id == ("x" * length if saved else None)
    if rest == b"{}]":
        assert error.reason == "message_id_too_long"
        assert error.code.spelling(V201) == "RpcFrameworkError"
        assert error.code.spelling(V16) == "FormationViolation"
        assert error.action == "StartTransaction"
