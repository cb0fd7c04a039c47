"""The error codes of CALLERROR and CALLRESULTERROR.

OCPP-J 1.6 section 4.2.3 (table 7), 2.0.1 (table 8) and 2.1 (table 9) name the same concepts, two of them in different
spellings: those of 1.6 are historical and will not be corrected (OCPP-J 1.6 errata 5.1, 5.2). Code reasons about the
concept; the spelling is chosen when a frame is written. Codes that a charge point sends stay text, whatever they are.
"""

from __future__ import annotations

from enum import Enum

from ocpp_gateway.ocppj.versions import OcppVersion


class ErrorCode(Enum):
    """What went wrong with a CALL. The value is the spelling of OCPP 2.x."""

    NOT_IMPLEMENTED = "NotImplemented"  # the action is not known
    NOT_SUPPORTED = "NotSupported"  # the action is known, but not from this side or not here
    INTERNAL_ERROR = "InternalError"  # we failed
    PROTOCOL_ERROR = "ProtocolError"  # the payload is incomplete
    SECURITY_ERROR = "SecurityError"
    FORMAT_VIOLATION = "FormatViolation"  # the payload's syntax or structure
    PROPERTY_CONSTRAINT_VIOLATION = "PropertyConstraintViolation"  # a value out of its range
    OCCURRENCE_CONSTRAINT_VIOLATION = "OccurrenceConstraintViolation"  # too few or too many of something
    TYPE_CONSTRAINT_VIOLATION = "TypeConstraintViolation"  # a value of the wrong type
    GENERIC_ERROR = "GenericError"
    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"  # 2.x only
    RPC_FRAMEWORK_ERROR = "RpcFrameworkError"  # not a valid frame; 2.x only

    def spelling(self, version: OcppVersion) -> str:
        """The code as ``version`` writes it; a code unknown to 1.6 becomes the nearest one that it has."""
        return self.value if version.is_2x else _SPELLING_1_6.get(self, self.value)

    @classmethod
    def from_spelling(cls, text: str) -> ErrorCode | None:
        """The concept that a received code names in the spelling of any version, or None for a code of its own."""
        return _BY_SPELLING.get(text)


_SPELLING_1_6 = {
    ErrorCode.FORMAT_VIOLATION: "FormationViolation",
    ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION: "OccurenceConstraintViolation",
    ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED: "GenericError",
    ErrorCode.RPC_FRAMEWORK_ERROR: "FormationViolation",
}

_BY_SPELLING = {
    "FormationViolation": ErrorCode.FORMAT_VIOLATION,
    "OccurenceConstraintViolation": ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    **{code.value: code for code in ErrorCode},
}
