"""What an answer of the CSMS looks like: a record of OCPP_CSMS_REPLY_TOPIC (docs/WIRE.md, "Answers by the CSMS").

Others write that topic, so a record may be anything. Whatever it is, reading it ends in a payload, a Refusal or
AnswerInvalid. Whether a payload is what the action's schema says is seen by who asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ocpp_gateway.adapters.fields import salvaged_text
from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.strict import depth_of, why_unreadable, why_untrustworthy
from ocpp_gateway.routing.exchange import Refusal

MAX_BYTES = 262_144
"""A record larger than this is no answer; what charge points are usually ready to take is smaller."""

MAX_NESTING = 32
MAX_CORRELATION_ID_LENGTH = 255

CORRELATION_HEADER = "kafka_correlationId"

_WHITE = b" \t\r\n"
_NAME = "correlationId"


class AnswerInvalid(GatewayError):
    """A record that is no answer. ``reason`` is one of ``frames.FRAME_ERRORS`` that is about JSON, or one of ours.

    Ours: ``too_large``, ``not_an_object``, ``no_payload`` (neither payload nor error, or both), ``bad_payload`` and
    ``bad_error`` (not an object, or with members of the wrong type); from who asked, ``schema_invalid``, with the
    broken rule in ``text``, and ``error_to_billing_data``.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(f"{reason}: {text}" if text else reason)
        self.reason = reason
        self.text = text


def correlation_of(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> str | None:
    """The correlationId of a record; None if it has none that can be read.

    The header counts, so that a CSMS may have it filled in by its library; where there is none, the member of ``value``
    does. The text is printable.
    """
    for name, given in headers:
        if name == CORRELATION_HEADER and given:
            try:
                return _usable(given.decode())
            except UnicodeDecodeError:
                return None
    if not value or len(value) > MAX_BYTES:
        return None
    try:
        members = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _usable(salvaged_text(value, _NAME))
    return _usable(members.get(_NAME)) if type(members) is dict else None


def _usable(correlation_id: Any) -> str | None:
    if type(correlation_id) is not str or not 0 < len(correlation_id) <= MAX_CORRELATION_ID_LENGTH:
        return None
    return correlation_id if correlation_id.isprintable() else None


def read(value: bytes) -> Payload | Refusal:
    """The CALLRESULT's payload or the CALLERROR that ``value`` asks for. Raises AnswerInvalid, and nothing else.

    A member that is null counts as missing. An error code that the standard does not know becomes GenericError.
    """
    members = _members(value)
    payload, error = members.get("payload"), members.get("error")
    if (payload is None) == (error is None):
        raise AnswerInvalid("no_payload")
    if error is not None:
        return _refusal(error)
    if type(payload) is not dict:
        raise AnswerInvalid("bad_payload")
    return payload


def _refusal(error: Any) -> Refusal:
    if type(error) is not dict:
        raise AnswerInvalid("bad_error")
    code, description, details = error.get("code"), error.get("description"), error.get("details")
    if type(code) is not str or not code or type(description) not in (str, type(None)):
        raise AnswerInvalid("bad_error")
    if type(details) not in (dict, type(None)):
        raise AnswerInvalid("bad_error")
    return Refusal(
        ErrorCode.from_spelling(code) or ErrorCode.GENERIC_ERROR,
        description or "",
        b"{}" if details is None else orjson.dumps(details),
    )


def _members(value: bytes) -> dict[str, Any]:
    """The record as JSON that means the same to every reader."""
    if len(value) > MAX_BYTES:
        raise AnswerInvalid("too_large")
    try:
        members = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise AnswerInvalid(why_unreadable(value, MAX_NESTING)) from None
    if type(members) is not dict:
        raise AnswerInvalid("not_an_object")
    if value.count(b"{") + value.count(b"[") > MAX_NESTING and depth_of(value) > MAX_NESTING:
        raise AnswerInvalid("too_deep")
    # Written again it is the same text, or nearly: then there is nothing in it that another reader sees differently.
    if orjson.dumps(members).translate(None, _WHITE) != value.translate(None, _WHITE):
        defect = why_untrustworthy(value.decode())
        if defect is not None:
            raise AnswerInvalid(defect)
    return members
