"""OCPP-J arrays as a charge point writes and reads them (OCPP-J 1.6 section 4, OCPP 2.0.1 part 4 section 4)."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

Payload = dict[str, Any]


@frozen
class Call:
    """A CALL, from either side."""

    message_id: str
    action: str
    payload: Payload


@frozen
class CallResult:
    """A good answer."""

    message_id: str
    payload: Payload


@frozen
class CallError:
    """A bad answer."""

    message_id: str
    code: str
    description: str


Frame = Call | CallResult | CallError


class Unreadable(Exception):
    """The text is no OCPP-J array that a charge point has a use for."""


def encode_call(message_id: str, action: str, payload: Payload) -> str:
    """The text of a CALL."""
    return _text([2, message_id, action, payload])


def encode_call_result(message_id: str, payload: Payload) -> str:
    """The text of a CALLRESULT."""
    return _text([3, message_id, payload])


def encode_call_error(message_id: str, code: str, description: str) -> str:
    """The text of a CALLERROR."""
    return _text([4, message_id, code, description[:255], {}])


def decode(text: str | bytes) -> Frame:
    """The frame in ``text``. Raises Unreadable for anything else, 2.1's CALLRESULTERROR and SEND included."""
    try:
        array = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    match array:
        case [2, str(message_id), str(action), dict(payload)]:
            return Call(message_id, action, payload)
        case [3, str(message_id), dict(payload)]:
            return CallResult(message_id, payload)
        case [4, str(message_id), str(code), str(description), *_]:
            return CallError(message_id, code, description)
    raise Unreadable("not a CALL, CALLRESULT or CALLERROR")


def _text(array: list[Any]) -> str:
    return json.dumps(array, separators=(",", ":"), ensure_ascii=False)
