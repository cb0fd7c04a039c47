"""What a payload breaks in its schema: where, how, and which error code says so.

No OCPP document maps the keywords of JSON Schema to error codes, and implementations disagree. This is our reading of
the codes' descriptions (OCPP-J 1.6 table 7, 2.0.1 table 8): a missing member is an incomplete payload in 1.6 and a
violated cardinality in 2.x, an unknown one a violation of the structure.

Texts are made of the schema's words and of the path, never of values that the peer chose; only the name of an unknown
member is repeated, cut and if it is plain ASCII.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.versions import OcppVersion

#: Characters of a member's name that the peer chose and we repeat.
MAX_NAME_LENGTH = 40


@frozen
class Violation:
    """One broken rule. ``path`` is a JSON Pointer (RFC 6901) into the payload, empty for the payload itself."""

    code: ErrorCode
    path: str
    message: str


def violation(
    version: OcppVersion, keyword: str, facts: dict[str, Any], instance_path: Sequence[str | int]
) -> Violation:
    """The Violation for a broken ``keyword`` of a schema; ``facts`` is what the validator says about it."""
    path = "".join(f"/{part}" for part in instance_path)
    if keyword == "required":
        path = f"{path}/{facts['property']}"
    describe = _MESSAGES.get(keyword)
    message = describe(facts) if describe is not None else f"breaks the schema's rule {keyword}"
    return Violation(_code(version, keyword), path, message)


def _code(version: OcppVersion, keyword: str) -> ErrorCode:
    if keyword == "required" and not version.is_2x:
        return ErrorCode.PROTOCOL_ERROR
    return _CODES.get(keyword, ErrorCode.FORMAT_VIOLATION)


def _unexpected(facts: dict[str, Any]) -> str:
    name: str = facts["unexpected"][0]
    if not (name.isascii() and name.isprintable()):
        return "unknown member"
    return f"unknown member '{name[:MAX_NAME_LENGTH]}'"


_CODES = {
    "additionalProperties": ErrorCode.FORMAT_VIOLATION,
    "enum": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "format": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "maximum": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "maxItems": ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    "maxLength": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "minimum": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "minItems": ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    "multipleOf": ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
    "required": ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    "type": ErrorCode.TYPE_CONSTRAINT_VIOLATION,
}

_MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "additionalProperties": _unexpected,
    "enum": lambda facts: "not one of the values that the standard lists",
    "format": lambda facts: f"not a {facts['format']}",
    "maximum": lambda facts: f"greater than {facts['limit']:g}",
    "maxItems": lambda facts: f"more than {facts['limit']} items",
    "maxLength": lambda facts: f"longer than {facts['limit']} characters",
    "minimum": lambda facts: f"less than {facts['limit']:g}",
    "minItems": lambda facts: f"fewer than {facts['limit']} items",
    "multipleOf": lambda facts: f"not a multiple of {facts['multiple_of']}",
    "required": lambda facts: "missing",
    "type": lambda facts: f"not of type {' or '.join(facts['types'])}",
}
