"""Secrets that a charge point's payload carries do not reach Kafka, logs or metrics.

They come where configuration is reported: NotifyReport and NotifyEvent of a badly behaved firmware, DataTransfer of
any, GetConfiguration's answer. Messages of the charging itself have no place for them and are not looked at. A message
without a suspicious word costs a few searches; only one that has it is read, and written again.

Hidden are (1) members with a telling name, (2) the values in an object that names such a variable, in the shapes of
1.6 (``{"key": ..., "value": ...}``) and 2.x (``{"variable": {"name": ...}, "variableAttribute": [...]}``), (3) the
same in JSON or ``name=value`` within a string, as vendors put into DataTransfer, (4) passwords in URLs.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

HIDDEN = "***"

_NEVER_LOOKED_AT = frozenset(
    [
        "Authorize",
        "Heartbeat",
        "MeterValues",
        "NotifyPeriodicEventStream",
        "StartTransaction",
        "StatusNotification",
        "StopTransaction",
        "TransactionEvent",
    ]
)

#: Any name that contains one of these, once case and punctuation are gone.
_TELLING = (
    "password",
    "passwd",
    "passphrase",
    "authorizationkey",
    "authkey",
    "secret",
    "privatekey",
    "presharedkey",
    "apikey",
    "accesstoken",
    "bearertoken",
    "simpin",
)
_TELLING_EXACTLY = frozenset({"authorization", "psk", "pwd"})

#: A payload without any of these, in lower case, holds nothing to hide. An escape might spell one.
_SUSPICIOUS = (
    b"passw",
    b"passphrase",
    b"key",
    b"secret",
    b"token",
    b"authorization",
    b"pin",
    b"psk",
    b"pwd",
    b"://",
    b"\\u",
)

_NAMING_MEMBERS = ("key", "name", "variable", "variableName", "configurationKey")
_VALUE_MEMBERS = frozenset({"value", "values", "data", "attributeValue", "actualValue", "newValue", "oldValue"})

# Both are bounded and cannot start within their own match, so that no text takes more than linear time.
_ASSIGNMENT = re.compile(
    r"""(?<![\w.-])(?P<name>[A-Za-z][\w.-]{1,63})(?P<sign>["']?\s{0,8}[:=]\s{0,8}["']?)(?:(?:basic|bearer|digest)\s+)?[^"'&,;\s}]+""",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@\"]{0,255}:)[^/\s@\"]{1,255}@")
_PUNCTUATION = re.compile(r"[^a-z0-9]")

#: Deeper than any OCPP message; what lies below is hidden whole.
_MAX_DEPTH = 32


def redact(action: str, raw_payload: bytes) -> bytes:
    """``raw_payload``, a JSON object, with its secrets hidden; the very same bytes if there are none."""
    if action in _NEVER_LOOKED_AT:
        return raw_payload
    lower_case = raw_payload.lower()
    if not any(word in lower_case for word in _SUSPICIOUS):
        return raw_payload
    payload = orjson.loads(raw_payload)
    redacted = _redacted(payload, 0)
    return raw_payload if redacted == payload else orjson.dumps(redacted)


def redact_text(text: str) -> str:
    """Free text, such as a frame that could not be read, with assignments of secrets and passwords in URLs hidden."""
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}@", _ASSIGNMENT.sub(_hide_assignment, text))


def _redacted(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return HIDDEN
    if type(value) is dict:
        return _redacted_object(value, depth)
    if type(value) is list:
        return [_redacted(item, depth + 1) for item in value]
    if type(value) is str:
        return _redacted_string(value, depth)
    return value


def _redacted_object(item: dict[str, Any], depth: int) -> dict[str, Any]:
    names_a_secret = _names_a_secret(item)
    is_vpn = item.keys() >= {"server", "user", "key"}  # VPNType of 2.x, where "key" is the shared secret
    redacted: dict[str, Any] = {}
    for name, member in item.items():
        if _is_telling(name) or (names_a_secret and name in _VALUE_MEMBERS) or (is_vpn and name == "key"):
            redacted[name] = HIDDEN
        elif names_a_secret and name == "variableAttribute" and type(member) is list:
            redacted[name] = [_redacted_attribute(attribute) for attribute in member]
        else:
            redacted[name] = _redacted(member, depth + 1)
    return redacted


def _redacted_attribute(attribute: Any) -> Any:
    """Hide the value, and leave what says whether there may be one: type and mutability."""
    if type(attribute) is not dict:
        return HIDDEN
    return {name: HIDDEN if name == "value" else _redacted(member, 1) for name, member in attribute.items()}


def _redacted_string(text: str, depth: int) -> str:
    if text[:1] in ("{", "["):
        try:
            inner = orjson.loads(text)
        except orjson.JSONDecodeError:
            return redact_text(text)
        redacted = _redacted(inner, depth + 1)
        return text if redacted == inner else orjson.dumps(redacted).decode()
    return redact_text(text)


def _names_a_secret(item: dict[str, Any]) -> bool:
    for member in _NAMING_MEMBERS:
        named = item.get(member)
        if type(named) is dict:
            named = named.get("name")
        if type(named) is str and _is_telling(named):
            return True
    return False


def _is_telling(name: str) -> bool:
    bare = _PUNCTUATION.sub("", name.lower())
    return bare in _TELLING_EXACTLY or any(word in bare for word in _TELLING)


def _hide_assignment(found: re.Match[str]) -> str:
    return f"{found['name']}{found['sign']}{HIDDEN}" if _is_telling(found["name"]) else found[0]
