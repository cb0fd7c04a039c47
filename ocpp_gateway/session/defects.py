"""What a charge point sends that is no frame, or says that one of ours was none: what is kept, what it is answered."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from ocpp_gateway.ocppj.codec import CALL, encode_call_error
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import UNREADABLE_MESSAGE_ID, CallResultError, FrameError
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import UnreadableCall
from ocpp_gateway.session.facts import SessionIdentity

log = Logger()

HARMLESS: Final = frozenset(("unknown_message_type", "message_id_too_long"))
"""Defects of frames by which no connection ends, however many: readable, and of firmware that will not change."""


def unreadable_call(error: FrameError, action: str, data: bytes, version: OcppVersion) -> UnreadableCall:
    """The broken CALL of ``action`` that ``data`` is, as text and with what else could be read of it."""
    message_id = error.message_id
    if message_id is None and version.is_2x:
        message_id = UNREADABLE_MESSAGE_ID
    text = data.decode("utf-8", "replace")
    return UnreadableCall(message_id, action, text, error.reason, error.payload, error.raw_payload)


def answer_to(error: FrameError, version: OcppVersion) -> bytes | None:
    """The CALLERROR that a text which is no frame gets; None: it gets no answer."""
    if error.message_type not in (CALL, None) and error.reason != "unknown_message_type":
        return None  # a broken answer or SEND: nobody waits for a word about it
    if error.reason == "unknown_message_type" and version is not OcppVersion.V201:
        return None  # to be ignored (1.6 and 2.1 section 4.1.3); 2.0.1 section 4.4 wants it answered
    message_id = error.message_id
    if message_id is None:
        if not version.is_2x:
            return None  # 1.6 knows no answer to a frame without an id
        message_id = UNREADABLE_MESSAGE_ID
    return encode_call_error(version, message_id, error.code, error.reason)


def log_rejected_answer(frame: CallResultError, who: SessionIdentity) -> None:
    """A charge point says that it did not understand an answer of ours."""
    code = ErrorCode.from_spelling(frame.code)
    log.warn(
        "{charge_point_id} did not understand an answer of ours: {code}",
        event="call.answer_rejected",
        charge_point_id=who.charge_point_id,
        connection_id=who.connection_id,
        code="other" if code is None else code.value,
    )
