"""The frames of OCPP-J as values, and what can be wrong with one.

====  ===============  ==========================================  ========
type  frame            array                                       versions
====  ===============  ==========================================  ========
2     CALL             [2, id, action, payload]                    all
3     CALLRESULT       [3, id, payload]                            all
4     CALLERROR        [4, id, code, description, details]         all
5     CALLRESULTERROR  [5, id, code, description, details]         2.1
6     SEND             [6, id, action, payload]                    2.1
====  ===============  ==========================================  ========

(OCPP-J 1.6 and 2.0.1 section 4.2, 2.1 sections 4.1.3 and 4.2.)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from attrs import frozen

from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.errorcodes import ErrorCode

#: A message id is a string; an int exactly when the charge point sent a number, so that it is echoed as it came.
MessageId = str | int

#: A JSON object in wire form.
Payload = dict[str, Any]

#: The longest message id (OCPP-J section 4.1.4), in characters.
MAX_MESSAGE_ID_LENGTH = 36

#: An id longer than this is not even echoed in an error.
MAX_SALVAGED_ID_LENGTH = 255

#: What a 2.x CALLERROR answers when the id cannot be read (OCPP-J 2.0.1 and 2.1 section 4.2.3). 1.6 has no such rule.
UNREADABLE_MESSAGE_ID = "-1"


class Quirk(StrEnum):
    """A deviation from the standard that the gateway knows and tolerates; counted, never refused."""

    NULL_PAYLOAD = "null_payload"  # null where {} is meant
    MISSING_PAYLOAD = "missing_payload"  # the array ends before the payload
    SHORT_CALLERROR = "short_callerror"  # four elements: no details
    LOOSE_CALLERROR = "loose_callerror"  # description or details of another type than the standard's
    NUMERIC_MESSAGE_ID = "numeric_message_id"
    # In the opening handshake:
    MANGLED_SUBPROTOCOLS = "mangled_subprotocols"  # the list is not a proper comma-separated one
    CASED_SUBPROTOCOL = "cased_subprotocol"  # OCPP1.6 for ocpp1.6
    MISSPELLED_SUBPROTOCOL = "misspelled_subprotocol"  # ocpp1.6j for ocpp1.6
    PATH_VERSION_MISMATCH = "path_version_mismatch"  # the path names another version than the subprotocol


@frozen
class Call:
    """A CALL: a question. ``raw_payload`` holds the payload's bytes exactly as received (``{}`` if there was none)."""

    message_id: MessageId
    action: str
    payload: Payload
    raw_payload: bytes
    quirks: tuple[Quirk, ...] = ()


@frozen
class Send:
    """A SEND (2.1): like a CALL, but never answered."""

    message_id: MessageId
    action: str
    payload: Payload
    raw_payload: bytes
    quirks: tuple[Quirk, ...] = ()


@frozen
class CallResult:
    """A CALLRESULT: the answer to the CALL of the same id."""

    message_id: MessageId
    payload: Payload
    raw_payload: bytes
    quirks: tuple[Quirk, ...] = ()


@frozen
class CallError:
    """A CALLERROR: the CALL of the same id failed. ``code`` is what the peer wrote, known to us or not."""

    message_id: MessageId
    code: str
    description: str
    details: Payload
    quirks: tuple[Quirk, ...] = ()


@frozen
class CallResultError:
    """A CALLRESULTERROR (2.1): the CALLRESULT of the same id was not understood."""

    message_id: MessageId
    code: str
    description: str
    details: Payload
    quirks: tuple[Quirk, ...] = ()


Frame = Call | CallResult | CallError | CallResultError | Send


class FrameError(GatewayError):
    """A text that is no frame. It holds what is needed to answer it, or to keep billing data that came damaged.

    ``reason`` is a key of ``FRAME_ERRORS``, ``code`` the error code to answer with. ``message_id``, ``action`` and
    ``message_type`` are what could be read of the frame, else None; none of them has been checked against anything.
    ``payload`` is that of a CALL where it is sound although its frame is not, with its bytes in ``raw_payload``.
    """

    def __init__(
        self,
        reason: str,
        *,
        message_id: MessageId | None = None,
        action: str | None = None,
        message_type: int | None = None,
        payload: Payload | None = None,
        raw_payload: bytes = b"{}",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = FRAME_ERRORS[reason]
        self.message_id = message_id
        self.action = action
        self.message_type = message_type
        self.payload = payload
        self.raw_payload = raw_payload


#: Every reason of a FrameError, with the error code that answers it: the array itself is an RPC matter, a payload
#: whose text cannot be trusted is a violation of format.
FRAME_ERRORS: dict[str, ErrorCode] = {
    "not_json": ErrorCode.RPC_FRAMEWORK_ERROR,
    "not_an_array": ErrorCode.RPC_FRAMEWORK_ERROR,
    "wrong_arity": ErrorCode.RPC_FRAMEWORK_ERROR,
    "unknown_message_type": ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED,
    "bad_message_id": ErrorCode.RPC_FRAMEWORK_ERROR,
    "message_id_too_long": ErrorCode.RPC_FRAMEWORK_ERROR,
    "bad_action": ErrorCode.RPC_FRAMEWORK_ERROR,
    "bad_error_code": ErrorCode.RPC_FRAMEWORK_ERROR,
    "payload_not_an_object": ErrorCode.FORMAT_VIOLATION,
    "too_deep": ErrorCode.FORMAT_VIOLATION,
    "duplicate_key": ErrorCode.FORMAT_VIOLATION,
    "number_out_of_range": ErrorCode.FORMAT_VIOLATION,
    "not_finite": ErrorCode.FORMAT_VIOLATION,
    "lone_surrogate": ErrorCode.FORMAT_VIOLATION,
}
