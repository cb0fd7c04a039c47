"""The OCPP versions that the gateway speaks, under each of the names they go by.

A version is written in three places: in the URL of some charge points (good practice in OCPP-J 1.6 section 3.1.2), in
the WebSocket subprotocol (which alone decides, OCPP-J 2.0.1 and 2.1 section 3.1.2) and in our own records and events.
"""

from __future__ import annotations

from enum import Enum


class OcppVersion(Enum):
    """A version of OCPP-J. The value is the label that records and events carry."""

    V16 = "1.6J"
    V201 = "2.0.1"
    V21 = "2.1"

    label: str
    subprotocol: str
    is_2x: bool

    def __init__(self, label: str) -> None:
        number = label.removesuffix("J")
        self.label = label
        self.subprotocol = f"ocpp{number}"
        self.is_2x = number.startswith("2.")

    # Members are singletons, so identity hashing is enough; Enum's own hashes the name again at every look-up.
    __hash__ = object.__hash__

    @classmethod
    def from_path(cls, segment: str) -> OcppVersion | None:
        """The version that a path segment such as ``1.6``, ``1.6j``, ``2.0.1`` or ``2.1`` names, if any."""
        return _BY_NUMBER.get(segment.lower())

    @classmethod
    def from_subprotocol(cls, token: str) -> OcppVersion | None:
        """The version of a ``Sec-WebSocket-Protocol`` token, in any case; ``ocpp1.6j`` is a known misspelling."""
        token = token.lower()
        return _BY_NUMBER.get(token[4:]) if token.startswith("ocpp") else None

    @classmethod
    def from_label(cls, text: str) -> OcppVersion | None:
        """The version that an identity record or a command names, in any of the spellings above."""
        return _BY_NUMBER.get(text.strip().lower().removeprefix("ocpp"))


_BY_NUMBER = {
    "1.6": OcppVersion.V16,
    "1.6j": OcppVersion.V16,
    "2.0.1": OcppVersion.V201,
    "2.1": OcppVersion.V21,
}
