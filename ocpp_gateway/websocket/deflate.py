"""permessage-deflate (RFC 7692), at no cost to a connection that is silent.

OCPP 2.0.1 and 2.1 demand it of a CSMS (part 4: section 3.3, section 3.4). zlib keeps some 100 kB for a connection whose
messages build on each other; so neither side may do that (no context takeover), and a message is inflated only when all
of it is there, in one step: between messages and between fragments there is no zlib object, and what a message may
become is known before it is inflated.
"""

from __future__ import annotations

import re
import zlib
from typing import ClassVar

from attrs import frozen

from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.websocket.frames import compressed_text_frame, text_frame

_WINDOW_BITS = 12
"""Window that we use, and ask of who lets us: 4 kB. OCPP's JSON repeats itself within that, a larger one gains nothing;
with the smallest one, 512 bytes, long messages are twice as long."""

_LEAST_ZLIB_BITS = 9
_MEMORY_LEVEL = 5
_MIN_BYTES = 256
"""Shorter messages fit in a packet or two as they are."""

_MAX_RATIO = 100
_FREE_BYTES = 16_384
"""What a message may become however short it was. JSON shrinks to a fifteenth or so; DEFLATE can go to a thousandth."""

_MAX_STREAMS = 16
"""A block may say that it is the last one, and others follow (RFC 7692 section 7.2.3.4): as often as this."""

_TAIL = b"\x00\x00\xff\xff"
"""Each message ends with an empty block without compression, of which these octets are not sent (section 7.2.1)."""

_LAST_BLOCK = b"\x03\x00"
"""An empty block that says that it is the last one."""

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"({_WORD})"))?')
_EXTENSION = re.compile(rf"[ \t]*(?:({_WORD})((?:{_PARAMETER.pattern})*)[ \t]*)?(?:,|$)")
"""RFC 6455 section 9.1: elements of a list, of which some may be empty."""

_KNOWN_PARAMETERS = {
    "server_no_context_takeover": re.compile(""),
    "client_no_context_takeover": re.compile(""),
    "server_max_window_bits": re.compile("[89]|1[0-5]"),
    "client_max_window_bits": re.compile("(?:[89]|1[0-5])?"),
}
"""What an offer may say, and with what values; any other is to be declined (section 7.1)."""


class CannotInflate(Exception):
    """A message that is not taken. ``reason``: for what the connection ends."""

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(reason.label)
        self.reason = reason


@frozen(weakref_slot=False)
class Deflate:
    """What was agreed upon with a client; in Autobahn's terms, the object of a "PMCE".

    The window sizes are 2 to the power of 8 to 15, ours and the client's; None where the offer says nothing of it: then
    the answer must not (the client's), or need not (ours).
    """

    EXTENSION_NAME: ClassVar[str] = "permessage-deflate"

    server_bits: int | None
    client_bits: int | None

    @property
    def answer(self) -> str:
        """The value of Sec-WebSocket-Extensions."""
        sizes = (("server_max_window_bits", self.server_bits), ("client_max_window_bits", self.client_bits))
        return "; ".join(
            (
                self.EXTENSION_NAME,
                "server_no_context_takeover",
                "client_no_context_takeover",
                *(f"{name}={bits}" for name, bits in sizes if bits is not None),
            )
        )

    def text_frame(self, data: bytes) -> bytes:
        """``data`` as a whole text message, compressed if that makes it shorter: each message may be or not."""
        bits = self.server_bits or _WINDOW_BITS
        # zlib has no smaller window; nothing that is sent needs one if it is sent as it is.
        if len(data) > _MIN_BYTES and bits >= _LEAST_ZLIB_BITS:
            stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -bits, _MEMORY_LEVEL)
            compressed = (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
            if len(compressed) < len(data):
                return compressed_text_frame(compressed)
        return text_frame(data)

    def start_decompress_message(self) -> None:
        """Autobahn's: a compressed message begins. It is ``inflate``d when it is complete."""


def agree(head: RequestHead) -> Deflate | None:
    """The first offer in ``head`` that can be accepted. None if there is none, or the field is malformed."""
    for name, parameters in _extensions(", ".join(head.values("sec-websocket-extensions"))):
        if name.lower() == Deflate.EXTENSION_NAME:
            given = [(key.lower(), token or quoted) for key, token, quoted in _PARAMETER.findall(parameters)]
            sizes = dict(given)
            if len(sizes) == len(given) and all(_is_known(key, value) for key, value in given):
                return Deflate(_size(sizes.get("server_max_window_bits")), _size(sizes.get("client_max_window_bits")))
    return None


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The message that was sent as ``data``, of ``max_bytes`` at most; no more than that is ever inflated.

    Raises CannotInflate: MESSAGE_TOO_BIG, COMPRESSION_RATIO, or PROTOCOL_ERROR if it is not DEFLATE's or is cut off.
    """
    # Where the tail was cut off, the last bits are zeros; so if there is one, it was sent nevertheless, as some do.
    rest = data.removesuffix(_TAIL)
    if not rest:
        return b""  # of an empty message, zlib may make nothing at all
    limit = left = min(max_bytes, max(_FREE_BYTES, _MAX_RATIO * len(data)))
    inflated = []
    try:
        for _ in range(_MAX_STREAMS):
            # The window may be larger than was agreed upon: who has compressed so has made no difference to us.
            stream = zlib.decompressobj(-zlib.MAX_WBITS)
            # One more than allowed: zlib takes 0 for no limit, and does not tell whether there would have been more.
            inflated.append(stream.decompress(rest, left + 1))
            left -= len(inflated[-1])
            if left < 0:
                raise CannotInflate(
                    CloseReason.MESSAGE_TOO_BIG if limit == max_bytes else CloseReason.COMPRESSION_RATIO
                )
            rest = stream.unused_data
            if not rest:
                break
        is_whole = not rest and (stream.eof or _ends_here(stream))
    except zlib.error:
        is_whole = False
    if not is_whole:
        raise CannotInflate(CloseReason.PROTOCOL_ERROR)
    return b"".join(inflated)


def _ends_here(stream: zlib._Decompress) -> bool:
    # Between two blocks, the tail completes an empty one and another can be the last; within one, it is taken for more.
    return not stream.decompress(_TAIL + _LAST_BLOCK, 1) and stream.eof and stream.unused_data in (b"", _LAST_BLOCK)


def _extensions(field: str) -> list[tuple[str, str]]:
    found = []
    place = 0
    while place < len(field):
        extension = _EXTENSION.match(field, place)
        if extension is None:
            return []
        if extension[1]:
            found.append((extension[1], extension[2]))
        place = extension.end()
    return found


def _is_known(name: str, value: str) -> bool:
    return name in _KNOWN_PARAMETERS and _KNOWN_PARAMETERS[name].fullmatch(value) is not None


def _size(offered: str | None) -> int | None:
    return None if offered is None else min(int(offered or zlib.MAX_WBITS), _WINDOW_BITS)
