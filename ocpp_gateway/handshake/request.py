"""The header block of an HTTP/1.1 request, parsed once and strictly (RFC 9112 sections 3 and 5).

Parsers that disagree about where a header field ends are how a credential is smuggled past a proxy: Python's
``str.splitlines`` ends a line at VT, FF, FS, GS, RS and NEL too, so that for some libraries ``X-A: 1\\x0bAuthorization:
...`` is two fields. Every byte that any of them could take for a line's end is therefore refused, and so is all else
that is read in two ways: a bare CR or LF, folded lines, blanks before the colon, decisive fields given twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from attrs import field, frozen

from ocpp_gateway.handshake.reasons import refused

MAX_HEADERS: Final = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_HEADER_LINE = re.compile(rb"(%b):[ \t]*(.*)" % _TOKEN, re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
_ONCE = frozenset(
    (
        "authorization",
        "content-length",
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "transfer-encoding",
        "x-api-key",
    )
)


@frozen
class RequestHead:
    """A request line and its header fields.

    ``version`` is like ``1.1``. ``headers`` has the values of each field in their order under its lower-case name;
    they are decoded as ISO-8859-1, so that ``value.encode("latin-1")`` gives the bytes on the wire.
    """

    method: str
    target: str
    version: str
    # Not in the repr: it holds the credential.
    headers: Mapping[str, Sequence[str]] = field(repr=False)

    @classmethod
    def parse(cls, block: bytes) -> RequestHead:
        """Parse ``block``, which ends with the empty line; the caller bounds its size.

        Raises HandshakeRefused (400) with the reason ``malformed_request``, ``control_bytes``, ``folded_header``,
        ``too_many_headers`` or ``repeated_header``.
        """
        if not block.endswith(b"\r\n\r\n"):
            raise refused("malformed_request")
        request_line, *lines = block[:-4].split(b"\r\n")
        if len(lines) > MAX_HEADERS:
            raise refused("too_many_headers")
        if _CONTROL.search(request_line) or any(map(_CONTROL.search, lines)):
            raise refused("control_bytes")
        request = _REQUEST_LINE.fullmatch(request_line)
        if request is None:
            raise refused("malformed_request")
        method, target, version = (part.decode("ascii") for part in request.groups())
        return cls(method, target, version, MappingProxyType(_fields(lines)))

    def values(self, name: str) -> Sequence[str]:
        """The values of the field ``name`` (lower case), in their order; empty if it is not there."""
        return self.headers.get(name, ())

    def elements(self, name: str) -> list[str]:
        """The elements of a comma-separated list field over all its lines, without blanks and empty ones."""
        return list_elements(self.values(name))


def list_elements(lines: Iterable[str]) -> list[str]:
    """The elements of a comma-separated list field over all its ``lines``, without blanks and empty ones."""
    elements = (element.strip() for value in lines for element in value.split(","))
    return [element for element in elements if element]


def _fields(lines: list[bytes]) -> dict[str, Sequence[str]]:
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith((b" ", b"\t")):
            raise refused("folded_header")
        header = _HEADER_LINE.fullmatch(line)
        if header is None:
            raise refused("malformed_request")
        name = header[1].decode("ascii").lower()
        fields.setdefault(name, []).append(header[2].rstrip(b" \t").decode("latin-1"))
        if name in _ONCE and len(fields[name]) > 1:
            raise refused("repeated_header")
    return {name: tuple(values) for name, values in fields.items()}
