"""Reading a payload that need not satisfy its schema: each function gives a usable value or None, and never raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_EMPTY: Mapping[str, Any] = {}

#: Up to here all JSON readers agree on an integer; OCPP's own are 32-bit.
_INTEGER_LIMIT = 2**53


def integer(value: object) -> int | None:
    """``value`` as an integer: an int, or a float without a fraction such as 10.0. A bool is not a number."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) <= _INTEGER_LIMIT else None


def text(value: object) -> str | None:
    """``value`` if it is a string with something in it."""
    return value if type(value) is str and value else None


def member(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object that is the member ``name``; an empty one if it is missing or something else."""
    value = payload.get(name)
    return value if type(value) is dict else _EMPTY


def salvaged_text(raw: bytes, name: str) -> str | None:
    """The first short string without escapes that follows ``"name":`` in a text that is not JSON."""
    found = re.search(rb'"%b"\s{0,16}:\s{0,16}"([^"\\\x00-\x1f]{1,255})"' % re.escape(name.encode()), raw)
    if found is None:
        return None
    try:
        return found[1].decode()
    except UnicodeDecodeError:
        return None


def payload_part(action: str, raw: bytes) -> bytes:
    """Of a whole frame, what follows the action: a retry differs before it, in its message id. Else ``raw`` itself."""
    if raw[:1] == b"{":
        return raw
    _, _, rest = raw.partition(b'"%b"' % action.encode())
    return rest or raw
