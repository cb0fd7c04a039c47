"""Text of a WebSocket message to frame, and frame to text.

The text is parsed once, by orjson, which already refuses what is not JSON, what is not UTF-8, NaN, infinities and lone
surrogates. Three things it lets through would make a payload mean something else to us than to the next reader of the
same bytes: duplicate keys (the last one wins), integers beyond 64 bits (they become floats) and deep nesting. The
proof that none of them is there is cheap for the usual compact text: written again, the payload is the same text. If
it is not, white space may explain it; only if that does not either, a second, strict parser looks.

A payload is handed on together with its bytes as received, so that nobody has to serialise it again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import orjson

from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import (
    MAX_MESSAGE_ID_LENGTH,
    MAX_SALVAGED_ID_LENGTH,
    Call,
    CallError,
    CallResult,
    CallResultError,
    Frame,
    FrameError,
    MessageId,
    Payload,
    Quirk,
    Send,
)
from ocpp_gateway.ocppj.strict import depth_of, why_unreadable, why_untrustworthy
from ocpp_gateway.ocppj.versions import OcppVersion

CALL, CALLRESULT, CALLERROR, CALLRESULTERROR, SEND = 2, 3, 4, 5, 6

#: Characters of a description that we send (OCPP-J 2.0.1 and 2.1, table "CALLERROR").
MAX_DESCRIPTION_LENGTH = 255

#: The standard's longest action has 32 characters with the suffix of signed messages.
MAX_ACTION_LENGTH = 64

_WHITE = b" \t\r\n"
_WITH_ACTION = frozenset({CALL, SEND})

# What comes before the payload in a text that orjson has accepted: an integer, the id, and the action if there is one.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_ID = rb"\s*+\[\s*+\d++\s*+,\s*+(?:" + _STRING + rb"|-?\d++)\s*+,\s*+"
_BEFORE_PAYLOAD = re.compile(_ID, re.DOTALL)
_BEFORE_CALL_PAYLOAD = re.compile(_ID + _STRING + rb"\s*+,\s*+", re.DOTALL)

# The same in a text that may be anything. Bounded, and without a way to backtrack.
_SALVAGE_WINDOW = 2048
_SALVAGE = re.compile(
    rb"\s*+\[\s*+(\d{1,4}+)\s*+,\s*+"
    rb'(?:("(?:[^"\\\x00-\x1f]|\\.){0,255}+"|-?\d{1,18}+)\s*+,\s*+'
    rb'(?:"([A-Za-z0-9_.-]{1,64}+)")?)?',
    re.DOTALL,
)

# Where even the id is damaged, the few actions that carry billing data are looked for behind it.
_TRANSACTION = re.compile(rb'"(StartTransaction|StopTransaction|MeterValues|TransactionEvent)"\s*+,\s*+\{')


def decode(data: bytes, version: OcppVersion, *, max_nesting: int = 32) -> Frame:
    """The frame that ``data`` holds; raises FrameError, and nothing else, for a text that is none.

    ``max_nesting`` counts arrays and objects inside each other, the frame's own array included.
    """
    try:
        array = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _salvaged(why_unreadable(data, max_nesting), data) from None
    if type(array) is not list:
        raise FrameError("not_an_array")
    if not array:
        raise FrameError("wrong_arity")
    if data.count(b"{") + data.count(b"[") > max_nesting and depth_of(data) > max_nesting:
        raise _refusal("too_deep", array)
    message_type = array[0]
    if type(message_type) is not int:
        raise _refusal("unknown_message_type", array)
    if message_type == CALL:
        return Call(*_question(array, data))
    if message_type == CALLRESULT:
        return _call_result(array, data)
    if message_type == CALLERROR:
        return CallError(*_error(array))
    if version is OcppVersion.V21:
        if message_type == SEND:
            return Send(*_question(array, data))
        if message_type == CALLRESULTERROR:
            return CallResultError(*_error(array))
    raise _refusal("unknown_message_type", array)


def _question(array: list[Any], data: bytes) -> tuple[MessageId, str, Payload, bytes, tuple[Quirk, ...]]:
    count = len(array)
    if count != 4 and count != 3:
        raise _refusal("wrong_arity", array)
    message_id, action = array[1], array[2]
    try:
        quirks = () if type(message_id) is str and len(message_id) <= MAX_MESSAGE_ID_LENGTH else _id_quirks(array)
    except FrameError as error:
        raise _with_payload(error, array, data) from None
    if type(action) is not str or len(action) > MAX_ACTION_LENGTH:
        raise _refusal("bad_action", array)
    if count == 3:
        return message_id, action, {}, b"{}", (*quirks, Quirk.MISSING_PAYLOAD)
    payload = array[3]
    if payload is None:
        return message_id, action, {}, b"{}", (*quirks, Quirk.NULL_PAYLOAD)
    return message_id, action, payload, _raw_payload(_BEFORE_CALL_PAYLOAD, payload, array, data), quirks


def _call_result(array: list[Any], data: bytes) -> CallResult:
    count = len(array)
    if count != 3 and count != 2:
        raise _refusal("wrong_arity", array)
    message_id = array[1]
    quirks = () if type(message_id) is str and len(message_id) <= MAX_MESSAGE_ID_LENGTH else _id_quirks(array)
    if count == 2:
        return CallResult(message_id, {}, b"{}", (*quirks, Quirk.MISSING_PAYLOAD))
    payload = array[2]
    if payload is None:
        return CallResult(message_id, {}, b"{}", (*quirks, Quirk.NULL_PAYLOAD))
    return CallResult(message_id, payload, _raw_payload(_BEFORE_PAYLOAD, payload, array, data), quirks)


def _error(array: list[Any]) -> tuple[MessageId, str, str, Payload, tuple[Quirk, ...]]:
    # An error ends a command of ours. Refusing one for its trimmings would leave that command to its timeout.
    count = len(array)
    if count != 5 and count != 4:
        raise _refusal("wrong_arity", array)
    message_id, code, description = array[1:4]
    details = array[4] if count == 5 else {}
    quirks = () if type(message_id) is str and len(message_id) <= MAX_MESSAGE_ID_LENGTH else _id_quirks(array)
    if type(code) is not str:
        raise _refusal("bad_error_code", array)
    if count == 4:
        quirks += (Quirk.SHORT_CALLERROR,)
    if type(description) is not str or type(details) is not dict:
        quirks += (Quirk.LOOSE_CALLERROR,)
        description = description if type(description) is str else ""
        details = details if type(details) is dict else {}
    return message_id, code, description, details, quirks


def _id_quirks(array: list[Any]) -> tuple[Quirk, ...]:
    message_id = array[1]
    if type(message_id) is int:
        return (Quirk.NUMERIC_MESSAGE_ID,)
    raise _refusal("message_id_too_long" if type(message_id) is str else "bad_message_id", array)


def _raw_payload(before: re.Pattern[bytes], payload: object, array: list[Any], data: bytes) -> bytes:
    """The payload's own bytes, proven to say what ``payload`` says."""
    if type(payload) is not dict:
        raise _refusal("payload_not_an_object", array)
    # The pattern fits whatever orjson took for these elements (so there is a match, which mypy cannot know), and only
    # white space can follow the last bracket.
    start = before.match(data).end()  # type: ignore[union-attr]
    raw = data[start : data.rindex(b"]")].rstrip(_WHITE)
    try:
        written = orjson.dumps(payload)
    except orjson.JSONEncodeError:
        # It writes less deep than it reads: 254 levels. Only a max_nesting beyond that leads here.
        raise _refusal("too_deep", array) from None
    if written != raw and written.translate(None, _WHITE) != raw.translate(None, _WHITE):
        reason = why_untrustworthy(raw.decode())
        if reason is not None:
            raise _refusal(reason, array)
    return raw


def _refusal(reason: str, array: list[Any]) -> FrameError:
    message_type = array[0] if type(array[0]) is int else None
    message_id = array[1] if len(array) > 1 else None
    if type(message_id) is str:
        message_id = message_id if len(message_id) <= MAX_SALVAGED_ID_LENGTH else None
    elif type(message_id) is not int:
        message_id = None
    action = array[2] if message_type in _WITH_ACTION and len(array) > 2 else None
    if type(action) is not str or len(action) > MAX_ACTION_LENGTH:
        action = None
    return FrameError(reason, message_id=message_id, action=action, message_type=message_type)


def _with_payload(error: FrameError, array: list[Any], data: bytes) -> FrameError:
    """``error``, which is about the message id, with the payload if that is in order."""
    payload = array[3] if len(array) == 4 else None
    if type(payload) is dict and _BEFORE_CALL_PAYLOAD.match(data) is not None:
        with suppress(FrameError):
            error.raw_payload = _raw_payload(_BEFORE_CALL_PAYLOAD, payload, array, data)
            error.payload = payload
    return error


def _salvaged(reason: str, data: bytes) -> FrameError:
    match = _SALVAGE.match(data[:_SALVAGE_WINDOW])
    if match is None:
        return FrameError(reason)
    message_type = int(match[1])
    try:
        message_id: MessageId | None = orjson.loads(match[2]) if match[2] else None
    except orjson.JSONDecodeError:
        message_id = None
    action = match[3].decode() if match[3] and message_type in _WITH_ACTION else None
    if action is None and message_type == CALL:
        found = _TRANSACTION.search(data[:_SALVAGE_WINDOW])
        action = found[1].decode() if found is not None else None
    return FrameError(reason, message_id=message_id, action=action, message_type=message_type)


def encode_call(message_id: MessageId, action: str, payload: bytes) -> bytes:
    """A CALL; ``payload`` is a JSON object's text."""
    return b"[2,%b,%b,%b]" % (orjson.dumps(message_id), orjson.dumps(action), payload)


def encode_call_result(message_id: MessageId, payload: bytes) -> bytes:
    """A CALLRESULT; ``payload`` is a JSON object's text."""
    return b"[3,%b,%b]" % (orjson.dumps(message_id), payload)


def code_of(frame: bytes) -> str | None:
    """The error code of ``frame``, which is one of ours; None if it is no CALLERROR."""
    return str(orjson.loads(frame)[2]) if frame.startswith(b"[4,") else None


def encode_call_error(
    version: OcppVersion, message_id: MessageId, code: ErrorCode, description: str, details: bytes = b"{}"
) -> bytes:
    """A CALLERROR in the spelling of ``version``; a long description is cut to what the standard allows."""
    return _encode_error(CALLERROR, version, message_id, code, description, details)


def encode_call_result_error(message_id: MessageId, code: ErrorCode, description: str, details: bytes = b"{}") -> bytes:
    """A CALLRESULTERROR (2.1)."""
    return _encode_error(CALLRESULTERROR, OcppVersion.V21, message_id, code, description, details)


def encode_send(message_id: MessageId, action: str, payload: bytes) -> bytes:
    """A SEND (2.1); ``payload`` is a JSON object's text."""
    return b"[6,%b,%b,%b]" % (orjson.dumps(message_id), orjson.dumps(action), payload)


def _encode_error(
    message_type: int, version: OcppVersion, message_id: MessageId, code: ErrorCode, description: str, details: bytes
) -> bytes:
    head = [message_type, message_id, code.spelling(version), description[:MAX_DESCRIPTION_LENGTH]]
    return b"%b,%b]" % (orjson.dumps(head)[:-1], details)
