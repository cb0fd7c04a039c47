"""Whatever record comes on the reply topic, reading it ends in an answer or in a named reason."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.csms.answers import MAX_BYTES, AnswerInvalid, correlation_of, read
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import FRAME_ERRORS
from ocpp_gateway.routing.exchange import Refusal

ID = "node.a.1.2f6c"
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)
OURS = {"too_large", "not_an_object", "no_payload", "bad_payload", "bad_error"}


def reason_of(value: bytes) -> str:
    with pytest.raises(AnswerInvalid) as raised:
        read(value)
    return raised.value.reason


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_a_payload_comes_through_as_it_is(payload: dict[str, Any]) -> None:
    assert read(orjson.dumps({"correlationId": ID, "payload": payload})) == payload
    assert read(json.dumps({"payload": payload, "error": None}, indent=2).encode()) == payload


@given(
    st.binary()
    | JSON.map(orjson.dumps)
    | st.fixed_dictionaries({}, optional={"payload": JSON, "error": JSON}).map(orjson.dumps)
)
def test_anything_else_has_a_reason(value: bytes) -> None:
    try:
        answer = read(value)
    except AnswerInvalid as invalid:
        assert invalid.reason in OURS | set(FRAME_ERRORS)
    else:
        assert isinstance(answer, dict | Refusal)
    correlation_id = correlation_of((), value)
    assert correlation_id is None or correlation_id.isprintable()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'"payload"', "not_an_object"),
        (b"{}", "no_payload"),
        (b'{"payload":null}', "no_payload"),
        (b'{"payload":{},"error":{"code":"GenericError"}}', "no_payload"),
        (b'{"payload":[]}', "bad_payload"),
        (b'{"payload":"Accepted"}', "bad_payload"),
        (b'{"payload":{"a":1,"a":2}}', "duplicate_key"),
        (b'{"payload":{"a":NaN}}', "not_finite"),
        (b'{"payload":{"a":99999999999999999999}}', "number_out_of_range"),
        (b'{"payload":{"a":"\\ud800"}}', "lone_surrogate"),
        (b'{"payload":{"a":' + b"[" * 40 + b"]" * 40 + b"}}", "too_deep"),
        (b'{"payload":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}", "too_deep"),
        (b'{"payload":{"a":"' + b"x" * MAX_BYTES + b'"}}', "too_large"),
        (b'{"error":"InternalError"}', "bad_error"),
        (b'{"error":{}}', "bad_error"),
        (b'{"error":{"code":""}}', "bad_error"),
        (b'{"error":{"code":1}}', "bad_error"),
        (b'{"error":{"code":"GenericError","description":1}}', "bad_error"),
        (b'{"error":{"code":"GenericError","details":[]}}', "bad_error"),
    ],
)
def test_reasons(value: bytes, reason: str) -> None:
    assert reason_of(value) == reason


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        ({"code": "InternalError"}, Refusal(ErrorCode.INTERNAL_ERROR, "")),
        ({"code": "FormationViolation", "description": "d"}, Refusal(ErrorCode.FORMAT_VIOLATION, "d")),
        ({"code": "FormatViolation", "details": None}, Refusal(ErrorCode.FORMAT_VIOLATION, "")),
        ({"code": "OutOfOrder", "details": {"a": 1}}, Refusal(ErrorCode.GENERIC_ERROR, "", b'{"a":1}')),
    ],
)
def test_a_callerror(error: dict[str, Any], refusal: Refusal) -> None:
    assert read(orjson.dumps({"error": error})) == refusal


class TestCorrelation:
    MEMBER = orjson.dumps({"correlationId": ID, "payload": {}})

    def test_the_header_counts(self) -> None:
        headers = [("content-type", b"x"), ("kafka_correlationId", b"node-2.77")]
        assert correlation_of(headers, self.MEMBER) == "node-2.77"
        assert correlation_of(headers, None) == "node-2.77"

    @pytest.mark.parametrize("headers", [[], [("kafka_correlationId", None)], [("kafka_correlationId", b"")]])
    def test_else_the_member_does(self, headers: list[tuple[str, bytes | None]]) -> None:
        assert correlation_of(headers, self.MEMBER) == ID

    def test_even_in_what_is_no_answer(self) -> None:
        """Who asked then need not wait for the end of his time."""
        assert correlation_of((), b'{"correlationId":"node-1.5","payload":{') == "node-1.5"

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            (b"\xff", MEMBER),
            (b"node-1.\n", MEMBER),
            (b"n" * 256, MEMBER),
            (None, None),
            (None, b""),
            (None, b"[]"),
            (None, b'{"correlationId":7}'),
            (None, b'{"correlationId":""}'),
            (None, b'{"correlationId":"a\\nb"}'),
            (None, b'{"correlationId":"' + b"x" * 256 + b'"}'),
            (None, b'{"correlationId":"node-1.5","payload":"' + b"x" * MAX_BYTES + b'"}'),
        ],
    )
    def test_one_that_cannot_be_used_is_none(self, header: bytes | None, value: bytes | None) -> None:
        assert correlation_of([("kafka_correlationId", header)], value) is None
