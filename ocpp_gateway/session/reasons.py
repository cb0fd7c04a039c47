"""Why a connection ended: one name for each, the same in code, logs, metrics, events and docs.

Each that we decide carries the WebSocket close code and text that the charge point sees (RFC 6455 section 7.4.1,
IANA's registry for 1012 and 1013).

A session can also end because the charge point may not be connected any more, as an identity record or a revocation
says since (``session.watch``). Those reasons have the names under which its next handshake is refused.
"""

from __future__ import annotations

from enum import Enum


class CloseReason(Enum):
    """Name, close code and text. The code is None where the peer or the network decided."""

    REPLACED = ("replaced", 1008, "Replaced by new connection")
    TRANSFERRED = ("transferred", 1012, "Session ownership transferred")
    SERVICE_RESTART = ("service_restart", 1012, "Service restart")
    KICKED = ("kicked", 1012, "Closed by the operator")
    STALE = ("stale", 1008, "No answer to a ping")
    SLOW_CONSUMER = ("slow_consumer", 1008, "What was sent is not being read")
    MESSAGE_FLOOD = ("message_flood", 1008, "Too many messages")
    COMPRESSION_RATIO = ("compression_ratio", 1009, "Compressed too well")
    KAFKA_UNAVAILABLE = ("kafka_unavailable", 1013, "Try again later")
    CSMS_UNAVAILABLE = ("csms_unavailable", 1013, "Try again later")
    BAD_FRAMES = ("bad_frames", 1002, "Too many frames that are not OCPP-J")
    PROTOCOL_ERROR = ("protocol_error", 1002, "WebSocket protocol error")
    BINARY_MESSAGE = ("binary_message", 1003, "OCPP-J is text")
    INVALID_UTF8 = ("invalid_utf8", 1007, "Not UTF-8")
    MESSAGE_TOO_BIG = ("message_too_big", 1009, "Message too big")
    TOO_MANY_FRAGMENTS = ("too_many_fragments", 1008, "Too many fragments in one message")
    SUBPROTOCOL_MISMATCH = ("subprotocol_mismatch", 1002, "No common OCPP version")
    IDENTITY_MISSING = ("identity_missing", 1008, "Unknown charge point")
    STATUS_INACTIVE = ("status_inactive", 1008, "Not active")
    PROTOCOL_NOT_ALLOWED = ("protocol_not_allowed", 1008, "OCPP version not allowed")
    IP_NOT_ALLOWED = ("ip_not_allowed", 1008, "Address not allowed")
    AUTH_MODE_NOT_ALLOWED = ("auth_mode_not_allowed", 1008, "Kind of credential not allowed")
    PROFILE_DOWNGRADE = ("profile_downgrade", 1008, "Security profile too low")
    CREDENTIAL_CHANGED = ("credential_changed", 1008, "Credential has changed")
    IDENTITY_CHANGED = ("identity_changed", 1008, "Charge point has moved")
    MTLS_REVOKED = ("mtls_revoked", 1008, "Certificate revoked")
    MTLS_EXPIRED = ("mtls_expired", 1008, "Certificate expired")
    MTLS_BINDING_MISSING = ("mtls_binding_missing", 1008, "Certificate not accepted")
    MTLS_BINDING_MISMATCH = ("mtls_binding_mismatch", 1008, "Certificate not accepted")
    MTLS_ORGANIZATION_NOT_ALLOWED = ("mtls_organization_not_allowed", 1008, "Certificate not accepted")
    SERIAL_NUMBER_MISMATCH = ("serial_number_mismatch", 1008, "Serial number is not the certificate's")
    INTERNAL_ERROR = ("internal_error", 1011, "Internal error")
    NODE_LOST = ("node_lost", None, "The gateway node that had the connection ended without a word")
    PEER_CLOSED = ("peer_closed", None, "The charge point closed the WebSocket")
    CONNECTION_LOST = ("connection_lost", None, "The connection ended without a close frame")

    def __init__(self, label: str, code: int | None, text: str) -> None:
        self.label = label
        self.code = code
        self.text = text

    @classmethod
    def from_label(cls, label: str) -> CloseReason:
        """The reason of this name. ``KeyError`` for a name that is none: a bug."""
        for reason in cls:
            if reason.label == label:
                return reason
        raise KeyError(label)


_OURS_BY_CODE = {
    1002: CloseReason.PROTOCOL_ERROR,
    1007: CloseReason.INVALID_UTF8,
    1009: CloseReason.MESSAGE_TOO_BIG,
}


def from_close_codes(sent: int | None, received: int | None, *, is_clean: bool) -> CloseReason:
    """The reason of a close that the WebSocket layer made by itself: by the code it ``sent``, else by who spoke.

    ``is_clean``: a close frame came, which may have been one without a code.
    """
    if sent is not None and sent in _OURS_BY_CODE:
        return _OURS_BY_CODE[sent]
    return CloseReason.PEER_CLOSED if is_clean or received is not None else CloseReason.CONNECTION_LOST
