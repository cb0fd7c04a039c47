"""A command in the words of a charge point's version: which action it is, and with which payload.

The contract's command types are the same for every version, so their payload may be written in the words of any:

=================== ========================= ========================== ==============================================
command type        1.6                       2.0.1, 2.1                 payload
=================== ========================= ========================== ==============================================
RemoteStart         RemoteStartTransaction    RequestStartTransaction    idTag <-> idToken (Central), connectorId <->
                                                                         evseId, remoteStartId filled in
RemoteStop          RemoteStopTransaction     RequestStopTransaction     sessionId -> transactionId: a number or a text
Reset               Reset                     Reset                      Hard <-> Immediate, Soft <-> OnIdle
UnlockConnector     UnlockConnector           UnlockConnector            connectorId <-> evseId and its connector 1
UpdateFirmware      UpdateFirmware            UpdateFirmware             location, retrieveDate <-> firmware, requestId
                                                                         filled in
TriggerMessage      TriggerMessage            TriggerMessage             connectorId <-> evse
ChangeConfiguration ChangeConfiguration       -
=================== ========================= ========================== ==============================================

Connector n of 1.6 is taken for connector 1 of EVSE n. Any other action of the version goes by its own name, with its
payload as it is. In both, the ``connectorId`` of the command stands in where the payload names none. What cannot be
translated is left: the request schema says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from ocpp_gateway.commands.outcome import FAILURES
from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.actions import csms_actions
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.versions import OcppVersion

NewId = Callable[[], int]
"""Makes a positive 32-bit number that no request had lately: a remoteStartId or requestId."""

_RENAMED_16: Final = MappingProxyType({"RemoteStart": "RemoteStartTransaction", "RemoteStop": "RemoteStopTransaction"})
_RENAMED_2X: Final = MappingProxyType(
    {"RemoteStart": "RequestStartTransaction", "RemoteStop": "RequestStopTransaction"}
)

_RESET_16: Final = MappingProxyType({"Immediate": "Hard", "OnIdle": "Soft"})
_RESET_2X: Final = MappingProxyType({hard: immediate for immediate, hard in _RESET_16.items()})

# Where an action names a connector. Of some, 0 names the charge point as a whole; of the others it names nothing.
_CONNECTOR_ID_16 = frozenset({"ChangeAvailability", "GetCompositeSchedule", "ReserveNow", "SetChargingProfile"})
_CONNECTOR_ID_16_NOT_0 = frozenset(
    {"ExtendedTriggerMessage", "RemoteStartTransaction", "TriggerMessage", "UnlockConnector"}
)
_EVSE_ID = frozenset({"GetCompositeSchedule", "SetChargingProfile"})
_EVSE_ID_NOT_0 = frozenset({"RequestStartTransaction", "ReserveNow"})
_EVSE_NOT_0 = frozenset({"ChangeAvailability", "TriggerMessage"})

_NUMBER = re.compile(r"-?\d{1,10}", re.ASCII)


class Untranslatable(GatewayError):
    """A command that the charge point's version does not have.

    ``reason``: ``not_in_version``, or ``unsupported_command`` if no version has it; ``text`` is for its CommandFailed.
    """

    def __init__(self, reason: str, version: OcppVersion) -> None:
        self.reason = reason
        self.text = FAILURES[reason].format(version=version.label)
        super().__init__(self.text)


def translate(
    command_type: str, payload: Payload, version: OcppVersion, *, connector_id: int | None, new_start_id: NewId
) -> tuple[str, Payload]:
    """The action and its payload, which nobody has validated yet. Raises Untranslatable.

    ``connector_id``: that of the command itself. ``payload`` is not changed. ``new_start_id`` makes a requestId, too.
    """
    action = (_RENAMED_2X if version.is_2x else _RENAMED_16).get(command_type, command_type)
    if action not in csms_actions(version):
        known = any(action in csms_actions(each) for each in OcppVersion)
        raise Untranslatable("not_in_version" if known else "unsupported_command", version)
    translated = dict(payload)
    if version.is_2x:
        _fill_in_2x(action, translated, connector_id)
        change = _CHANGES_2X.get(command_type)
    else:
        _fill_in_16(action, translated, connector_id)
        change = _CHANGES_16.get(command_type)
    if change is not None:
        change(translated)
    if action == "RequestStartTransaction":
        translated.setdefault("remoteStartId", new_start_id())
    elif action == "UpdateFirmware" and version.is_2x:
        translated.setdefault("requestId", new_start_id())
    return action, translated


def _fill_in_16(action: str, payload: Payload, connector_id: int | None) -> None:
    if connector_id is None or not payload.keys().isdisjoint(("connectorId", "evseId", "evse")):
        return
    if action in _CONNECTOR_ID_16 or (connector_id and action in _CONNECTOR_ID_16_NOT_0):
        payload["connectorId"] = connector_id


def _fill_in_2x(action: str, payload: Payload, connector_id: int | None) -> None:
    if connector_id is None or "connectorId" in payload:
        return
    if action == "UnlockConnector":
        if connector_id:
            payload["connectorId"] = connector_id
    elif not payload.keys().isdisjoint(("evseId", "evse")):
        return
    elif action in _EVSE_ID or (connector_id and action in _EVSE_ID_NOT_0):
        payload["evseId"] = connector_id
    elif connector_id and action in _EVSE_NOT_0:
        payload["evse"] = _evse(payload, connector_id)


def _evse(payload: Payload, connector_id: int) -> Payload:
    # Without the connector, StatusNotification cannot be triggered (OCPP 2.0.1 F06.FR.12).
    of_connector = payload.get("requestedMessage") == "StatusNotification"
    return {"id": connector_id, "connectorId": 1} if of_connector else {"id": connector_id}


def _start_16(payload: Payload) -> None:
    id_token = payload.get("idToken")
    if "idTag" not in payload and id_token is not None:
        payload["idTag"] = id_token.get("idToken") if type(id_token) is dict else id_token
        del payload["idToken"]
    _rename(payload, "evseId", "connectorId")
    payload.pop("remoteStartId", None)  # 1.6 has no way to say it


def _start_2x(payload: Payload) -> None:
    _rename(payload, "idTag", "idToken")
    if type(payload.get("idToken")) is str:
        payload["idToken"] = {"idToken": payload["idToken"], "type": "Central"}
    _rename(payload, "connectorId", "evseId")


def _stop_16(payload: Payload) -> None:
    _rename(payload, "sessionId", "transactionId")
    transaction_id = payload.get("transactionId")
    if type(transaction_id) is str and _NUMBER.fullmatch(transaction_id):
        payload["transactionId"] = int(transaction_id)


def _stop_2x(payload: Payload) -> None:
    _rename(payload, "sessionId", "transactionId")
    if type(payload.get("transactionId")) is int:
        payload["transactionId"] = str(payload["transactionId"])


def _reset_16(payload: Payload) -> None:
    _replace(payload, "type", _RESET_16)


def _reset_2x(payload: Payload) -> None:
    _replace(payload, "type", _RESET_2X)


def _unlock_16(payload: Payload) -> None:
    if payload.get("connectorId", 1) == 1 and "evseId" in payload:
        payload["connectorId"] = payload.pop("evseId")


def _unlock_2x(payload: Payload) -> None:
    if "evseId" not in payload and "connectorId" in payload:
        payload["evseId"], payload["connectorId"] = payload["connectorId"], 1
    elif "evseId" in payload:
        payload.setdefault("connectorId", 1)


def _update_16(payload: Payload) -> None:
    firmware = payload.get("firmware")
    # One that is signed, or installed at a time of its own, is more than 1.6 can say.
    if type(firmware) is dict and firmware.keys() <= {"location", "retrieveDateTime"}:
        del payload["firmware"]
        payload.update(firmware)
        _rename(payload, "retrieveDateTime", "retrieveDate")
        payload.pop("requestId", None)


def _update_2x(payload: Payload) -> None:
    if "firmware" in payload or "location" not in payload:
        return
    _rename(payload, "retrieveDate", "retrieveDateTime")
    names = ("location", "retrieveDateTime", "installDateTime", "signingCertificate", "signature")
    payload["firmware"] = {name: payload.pop(name) for name in names if name in payload}


def _trigger_16(payload: Payload) -> None:
    evse = payload.get("evse")
    if type(evse) is dict and "id" in evse and evse.get("connectorId", 1) == 1 and "connectorId" not in payload:
        payload["connectorId"] = evse["id"]
        del payload["evse"]


def _trigger_2x(payload: Payload) -> None:
    connector_id = payload.get("connectorId")
    if type(connector_id) is int and "evse" not in payload:
        del payload["connectorId"]
        payload["evse"] = _evse(payload, connector_id)


def _rename(payload: Payload, old: str, new: str) -> None:
    """What is there by the new name already wins."""
    if old in payload:
        value = payload.pop(old)
        payload.setdefault(new, value)


def _replace(payload: Payload, name: str, values: MappingProxyType[str, str]) -> None:
    value: Any = payload.get(name)
    if type(value) is str:
        payload[name] = values.get(value, value)


_Change = Callable[[Payload], None]

_CHANGES_16: Final[MappingProxyType[str, _Change]] = MappingProxyType(
    {
        "RemoteStart": _start_16,
        "RemoteStop": _stop_16,
        "Reset": _reset_16,
        "UnlockConnector": _unlock_16,
        "UpdateFirmware": _update_16,
        "TriggerMessage": _trigger_16,
    }
)
_CHANGES_2X: Final[MappingProxyType[str, _Change]] = MappingProxyType(
    {
        "RemoteStart": _start_2x,
        "RemoteStop": _stop_2x,
        "Reset": _reset_2x,
        "UnlockConnector": _unlock_2x,
        "UpdateFirmware": _update_2x,
        "TriggerMessage": _trigger_2x,
    }
)
