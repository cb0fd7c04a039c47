"""The frames that we write ourselves: FIN and no mask, as a server sends them (RFC 6455 section 5.2)."""

from __future__ import annotations

from typing import Final

PING: Final = b"\x89\x00"
"""A ping without a payload."""


def text_frame(data: bytes) -> bytes:
    """``data`` as a whole text message."""
    size = len(data)
    if size < 126:
        return b"\x81%c%b" % (size, data)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), data)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), data)


def compressed_text_frame(data: bytes) -> bytes:
    """``data``, deflated, as a whole text message: with RSV1 (RFC 7692 section 6)."""
    return b"\xc1" + text_frame(data)[1:]
