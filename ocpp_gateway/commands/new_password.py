"""A command that gives a charge point another password, and whether its answer says that it has it now. Pure.

* 1.6: ChangeConfiguration of AuthorizationKey. The value is hexadecimal digits, the password is the bytes that they
  stand for ("Improved security for OCPP 1.6-J", A00.FR.205).
* 2.0.1, 2.1: SetVariables of BasicAuthPassword of the SecurityCtrlr. The value is the password, in UTF-8 (A00.FR.205).
  There are other variables beside it in one CALL, and each has its own answer.

Names of keys, components and variables are the same in upper and lower case. The passwords of network profiles (2.1)
are none of these: they count only when the charge point takes that profile into use.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

from attrs import field, frozen

from ocpp_gateway.auth.credentials import MAX_AUTHORIZATION_KEY
from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.ocppj.frames import Payload

MAX_PASSWORD: Final = 64
"""Characters of a BasicAuthPassword: the highest limit that a 2.x charge point may have."""

_KEY: Final = "authorizationkey"
_COMPONENT: Final = "securityctrlr"
_VARIABLE: Final = "basicauthpassword"

_HEX_TEXT: Final = re.compile(rf"(?:[0-9A-Fa-f]{{2}}){{1,{MAX_AUTHORIZATION_KEY}}}")


class Answer(Enum):
    """What a charge point says of its new password."""

    TAKEN = auto()
    """It has it: the old one must not be accepted any more (A01.FR.03, J16 6.2.2)."""

    TAKEN_AT_REBOOT = auto()
    """It will have it when it has rebooted; until then it comes with the old one."""

    REFUSED = auto()
    """It keeps the old one."""

    UNCLEAR = auto()
    """It says nothing about it that could be understood."""


_ANSWERS: Final = MappingProxyType(
    {
        "Accepted": Answer.TAKEN,
        "RebootRequired": Answer.TAKEN_AT_REBOOT,
        "Rejected": Answer.REFUSED,
        "NotSupported": Answer.REFUSED,
        "NotSupportedAttributeType": Answer.REFUSED,
        "UnknownComponent": Answer.REFUSED,
        "UnknownVariable": Answer.REFUSED,
    }
)
"""Statuses of ChangeConfiguration and SetVariables."""


@frozen
class NewPassword:
    """The password as it will be on the wire."""

    secret: bytes = field(repr=False)


def new_password(action: str, payload: Payload) -> NewPassword | None:
    """The password that a CALL gives; None if it gives none.

    Raises CommandInvalid ``payload_invalid`` if no charge point can have it: missing, too long, not hexadecimal digits
    (1.6), or given twice.
    """
    if action == "ChangeConfiguration":
        if not _is(payload.get("key"), _KEY):
            return None
        value = payload.get("value")
        if not isinstance(value, str) or _HEX_TEXT.fullmatch(value) is None:
            raise _invalid("/value", f"not 2 to {2 * MAX_AUTHORIZATION_KEY} hexadecimal digits, two for each byte")
        return NewPassword(bytes.fromhex(value))
    if action != "SetVariables":
        return None
    found = [(at, entry) for at, entry in enumerate(_entries(payload, "setVariableData")) if _is_password(entry)]
    if not found:
        return None
    at, entry = found[0]
    path = f"/setVariableData/{at}/attributeValue"
    if len(found) > 1:
        raise _invalid(f"/setVariableData/{found[1][0]}", "the password is given twice")
    value = entry.get("attributeValue")
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_PASSWORD:
        raise _invalid(path, f"not 1 to {MAX_PASSWORD} characters")
    try:
        return NewPassword(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise _invalid(path, "not Unicode") from None


def answer_of(action: str, response: Payload) -> Answer:
    """What the CALLRESULT with the payload ``response`` says of the password that its CALL gave."""
    status: Any = None
    if action == "ChangeConfiguration":
        status = response.get("status")
    else:
        for entry in _entries(response, "setVariableResult"):
            if _is_password(entry):
                status = entry.get("attributeStatus")
                break
    return _ANSWERS.get(status, Answer.UNCLEAR) if isinstance(status, str) else Answer.UNCLEAR


def _entries(payload: Payload, name: str) -> list[dict[str, Any]]:
    entries = payload.get(name)
    # What is none is left in its place, as an empty one: places are counted.
    return [entry if isinstance(entry, dict) else {} for entry in entries] if isinstance(entries, list) else []


def _is_password(entry: dict[str, Any]) -> bool:
    component, variable = entry.get("component"), entry.get("variable")
    return (
        isinstance(component, dict)
        and isinstance(variable, dict)
        and _is(component.get("name"), _COMPONENT)
        and _is(variable.get("name"), _VARIABLE)
        and entry.get("attributeType") in (None, "Actual")
    )


def _is(name: object, wanted: str) -> bool:
    return isinstance(name, str) and name.lower() == wanted


def _invalid(path: str, problem: str) -> CommandInvalid:
    return CommandInvalid("payload_invalid", f"Invalid payload: {path}: {problem}")
