"""The one frame that we write ourselves."""

from __future__ import annotations


def text_frame(data: bytes) -> bytes:
    """``data`` as a whole text message: FIN, opcode 1, no mask, as a server sends it (RFC 6455 section 5.2)."""
    size = len(data)
    if size < 126:
        return b"\x81%c%b" % (size, data)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), data)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), data)
