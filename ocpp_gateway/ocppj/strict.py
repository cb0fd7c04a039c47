"""The strict second look at a text: why it cannot be trusted, and how deep it goes.

Slow, and therefore asked only about texts that the quick checks of ``codec`` could not clear. The answers are reasons
of ``frames.FRAME_ERRORS``.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

# A string that misses its end is taken to the end of the text: each byte is looked at once, whatever the text is.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")

# orjson refuses to read deeper.
_ORJSON_NESTING = 1024

_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_INT_DIGITS = len(str(_INT64_MIN))


class _Untrustworthy(Exception):
    """Ends the strict parser's work; the argument is the reason."""


def _bounded_int(text: str) -> int:
    value = int(text) if len(text) <= _INT_DIGITS else _UINT64_MAX + 1
    if not _INT64_MIN <= value <= _UINT64_MAX:
        raise _Untrustworthy("number_out_of_range")
    return value


def _bounded_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Untrustworthy("number_out_of_range")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Untrustworthy("duplicate_key")
    return members


def _no_constant(text: str) -> NoReturn:
    raise _Untrustworthy("not_finite")


def why_untrustworthy(text: str) -> str | None:
    """The reason not to trust a JSON text, or None; raises ValueError for what is not JSON at all."""
    try:
        json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_int=_bounded_int,
            parse_float=_bounded_float,
            parse_constant=_no_constant,
        )
    except _Untrustworthy as found:
        return str(found)
    except RecursionError:
        return "too_deep"
    return None


def why_unreadable(data: bytes, max_nesting: int) -> str:
    """Why orjson does not take ``data``."""
    if depth_of(data) > min(max_nesting, _ORJSON_NESTING):
        return "too_deep"
    try:
        reason = why_untrustworthy(data.decode())
    except ValueError:  # UnicodeDecodeError is one
        return "not_json"
    # Python's parser takes lone surrogates, and nothing else that orjson refuses and the reasons do not name.
    return reason or "lone_surrogate"


def depth_of(data: bytes) -> int:
    """How deep the arrays and objects of a text are inside each other, whether or not the text is complete."""
    depth = deepest = 0
    for bracket in _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS):
        if bracket in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest
