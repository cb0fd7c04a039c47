"""Secrets in a command: a new password, the key of a VPN, a URL with a password in it.

They go to the charge point and nowhere else. What the payload itself says is hidden as everywhere (``redaction``);
beyond that, a charge point may repeat a secret in its answer, where nothing gives it away but what it says.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.routing.redaction import HIDDEN, redact

_SHORTEST_TO_LOOK_FOR = 6
"""Shorter ones are in every second word of an innocent answer."""


def redacted(action: str, payload: Payload, secrets: tuple[str, ...] = ()) -> Payload:
    """A copy of ``payload`` with its secrets hidden, and wherever they are repeated, those of ``secrets``."""
    hidden: Payload = orjson.loads(redact(action, orjson.dumps(payload)))
    looked_for = [secret for secret in secrets if len(secret) >= _SHORTEST_TO_LOOK_FOR]
    if not looked_for:
        return hidden
    pattern = re.compile("|".join(map(re.escape, looked_for)), re.IGNORECASE)  # hexadecimal digits, in either case
    without: Payload = _replaced(hidden, pattern)
    return without


def secrets_of(action: str, payload: Payload) -> tuple[str, ...]:
    """The texts of ``payload`` that are hidden whoever sees it, the longest first; none: it has no secret.

    ``action`` is the action or the type of the command. Secret are

    * ``value`` of a ChangeConfiguration, ``attributeValue`` of a SetVariables, whose key or variable has a telling name
      (AuthorizationKey, BasicAuthPassword, anything with "password", "secret", "psk" and the like)
    * SetNetworkProfile: ``basicAuthPassword``, ``vpn.password``, ``vpn.key``, ``apn.apnPassword``, ``apn.simPin``
    * in any action, members with a telling name, and passwords in URLs (``location`` of GetLog, UpdateFirmware ...)
    """
    secrets: set[str] = set()
    _compare(payload, redacted(action, payload), secrets)
    return tuple(sorted(secrets, key=lambda secret: (-len(secret), secret)))


def _compare(value: Any, hidden: Any, secrets: set[str]) -> None:
    if type(value) is dict and type(hidden) is dict:
        for name, member in value.items():
            _compare(member, hidden[name], secrets)
    elif type(value) is list and type(hidden) is list:
        for item, hidden_item in zip(value, hidden, strict=True):
            _compare(item, hidden_item, secrets)
    elif value != hidden:
        _collect(value, secrets)
        if type(value) is str and type(hidden) is str:
            _collect_part(value, hidden, secrets)


def _collect_part(value: str, hidden: str, secrets: set[str]) -> None:
    """What is hidden within a text: a password in a URL may be repeated without the URL."""
    before, found, after = hidden.partition(HIDDEN)
    if found and (before or after) and value.startswith(before) and value.endswith(after):
        part = value[len(before) : len(value) - len(after)]
        if part:
            secrets.add(part)


def _collect(value: Any, secrets: set[str]) -> None:
    if type(value) is dict:
        value = list(value.values())
    if type(value) is list:
        for item in value:
            _collect(item, secrets)
    else:
        secrets.add(str(value))


def _replaced(value: Any, pattern: re.Pattern[str]) -> Any:
    if type(value) is str:
        return pattern.sub(HIDDEN, value)
    if type(value) is dict:
        return {pattern.sub(HIDDEN, name): _replaced(member, pattern) for name, member in value.items()}
    if type(value) is list:
        return [_replaced(item, pattern) for item in value]
    return value
