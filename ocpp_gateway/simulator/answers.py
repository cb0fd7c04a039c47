"""What a simulated charge point answers to the CSMS.

It does what it says: a Reset reboots it, a remote start charges. What it cannot do it refuses by name
(NotImplemented in 1.6 and 2.x alike: the action is not known to this charge point).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.frames import Call, Payload
from ocpp_gateway.simulator.messages import CONNECTOR, member

_TRIGGERS = frozenset({"BootNotification", "Heartbeat", "MeterValues", "StatusNotification"})


class Controls(Protocol):
    """What the CSMS can make a charge point do. Each is called after the answer has been sent."""

    def reset(self) -> None:
        """Reboot."""
        ...

    def trigger(self, action: str) -> None:
        """Send this message now."""
        ...

    def remote_start(self, id_token: str, remote_start_id: int | None) -> None:
        """Begin to charge for this token."""
        ...

    def remote_stop(self) -> None:
        """End the transaction."""
        ...

    def set_available(self, available: bool) -> None:
        """Take the connector into service or out of it."""
        ...

    def is_idle(self) -> bool:
        """No transaction is going on."""
        ...

    def transaction_id(self) -> int | str | None:
        """The id of the transaction that is going on."""
        ...

    def has_unsent(self) -> bool:
        """Transaction messages are waiting to be sent."""
        ...

    def get(self, name: str) -> str | None:
        """A configuration value."""
        ...

    def names(self) -> tuple[str, ...]:
        """The names of all configuration values."""
        ...

    def set(self, name: str, value: str) -> bool:
        """Change a configuration value; False if that is not possible."""
        ...


@define
class Answers:
    """Answers to the CALLs that the CSMS makes."""

    version: OcppVersion
    controls: Controls
    _by_action: dict[str, Callable[[Payload], Answer]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        accept = {"status": "Accepted"}
        self._by_action = {
            "ChangeAvailability": self._change_availability,
            "ClearCache": lambda _: Answer(accept),
            "DataTransfer": lambda _: Answer({"status": "UnknownVendorId"}),
            "Reset": lambda _: Answer(accept, afterwards=self.controls.reset),
            "TriggerMessage": self._trigger_message,
            "UnlockConnector": self._unlock_connector,
        }
        if self.version.is_2x:
            self._by_action |= {
                "GetTransactionStatus": self._get_transaction_status,
                "GetVariables": self._get_variables,
                "RequestStartTransaction": self._request_start,
                "RequestStopTransaction": self._remote_stop,
                "SetVariables": self._set_variables,
            }
        else:
            self._by_action |= {
                "ChangeConfiguration": self._change_configuration,
                "GetConfiguration": self._get_configuration,
                "RemoteStartTransaction": self._remote_start,
                "RemoteStopTransaction": self._remote_stop,
            }

    def answer(self, call: Call) -> Answer:
        """The answer to ``call``; never raises, whatever the payload holds."""
        answer = self._by_action.get(call.action)
        if answer is None:
            return Answer(
                error_code="NotImplemented", description="The simulated charge point does not know this action"
            )
        return answer(call.payload)

    def _change_availability(self, payload: Payload) -> Answer:
        wanted = payload.get("operationalStatus" if self.version.is_2x else "type")
        if wanted not in ("Operative", "Inoperative"):
            return Answer({"status": "Rejected"})
        return Answer(
            {"status": "Accepted" if self.controls.is_idle() else "Scheduled"},
            afterwards=lambda: self.controls.set_available(wanted == "Operative"),
        )

    def _trigger_message(self, payload: Payload) -> Answer:
        wanted = payload.get("requestedMessage")
        if not isinstance(wanted, str) or wanted not in _TRIGGERS:
            return Answer({"status": "NotImplemented"})
        return Answer({"status": "Accepted"}, afterwards=lambda: self.controls.trigger(wanted))

    def _unlock_connector(self, payload: Payload) -> Answer:
        if payload.get("connectorId") != CONNECTOR:
            return Answer({"status": "UnknownConnector" if self.version.is_2x else "NotSupported"})
        if self.controls.is_idle():
            return Answer({"status": "Unlocked"})
        if self.version.is_2x:
            return Answer({"status": "OngoingAuthorizedTransaction"})
        return Answer({"status": "Unlocked"}, afterwards=self.controls.remote_stop)

    def _remote_start(self, payload: Payload) -> Answer:
        return self._start(payload.get("idTag"), payload.get("connectorId", CONNECTOR), None)

    def _request_start(self, payload: Payload) -> Answer:
        remote_start_id = payload.get("remoteStartId")
        if not isinstance(remote_start_id, int):
            return Answer({"status": "Rejected"})
        return self._start(member(payload, "idToken", "idToken"), payload.get("evseId", CONNECTOR), remote_start_id)

    def _start(self, id_token: object, place: object, remote_start_id: int | None) -> Answer:
        if not isinstance(id_token, str) or place != CONNECTOR or not self.controls.is_idle():
            return Answer({"status": "Rejected"})
        return Answer({"status": "Accepted"}, afterwards=lambda: self.controls.remote_start(id_token, remote_start_id))

    def _remote_stop(self, payload: Payload) -> Answer:
        current = self.controls.transaction_id()
        if current is None or payload.get("transactionId") != current:
            return Answer({"status": "Rejected"})
        return Answer({"status": "Accepted"}, afterwards=self.controls.remote_stop)

    def _get_transaction_status(self, payload: Payload) -> Answer:
        answer: Payload = {"messagesInQueue": self.controls.has_unsent()}
        asked = payload.get("transactionId")
        if asked is not None:
            answer["ongoingIndicator"] = asked == self.controls.transaction_id()
        return Answer(answer)

    def _get_configuration(self, payload: Payload) -> Answer:
        asked = payload.get("key") or list(self.controls.names())
        known: list[Payload] = []
        unknown: list[str] = []
        for name in asked if isinstance(asked, list) else []:
            value = self.controls.get(name) if isinstance(name, str) else None
            if value is not None:
                known.append({"key": name, "readonly": name == "NumberOfConnectors", "value": value})
            elif isinstance(name, str):
                unknown.append(name[:50])
        return Answer({"configurationKey": known, **({"unknownKey": unknown} if unknown else {})})

    def _change_configuration(self, payload: Payload) -> Answer:
        name, value = payload.get("key"), payload.get("value")
        if not isinstance(name, str) or self.controls.get(name) is None:
            return Answer({"status": "NotSupported"})
        done = isinstance(value, str) and self.controls.set(name, value)
        return Answer({"status": "Accepted" if done else "Rejected"})

    def _get_variables(self, payload: Payload) -> Answer:
        results = []
        for place in _places(payload.get("getVariableData")):
            value = self.controls.get(str(member(place, "variable", "name")))
            result = {
                "attributeStatus": "UnknownVariable" if value is None else "Accepted",
                "component": place["component"],
                "variable": place["variable"],
            }
            if value is not None:
                result["attributeValue"] = value
            results.append(result)
        return _results("getVariableResult", results)

    def _set_variables(self, payload: Payload) -> Answer:
        results = []
        for place in _places(payload.get("setVariableData")):
            name = str(member(place, "variable", "name"))
            if self.controls.get(name) is None:
                status = "UnknownVariable"
            else:
                status = "Accepted" if self.controls.set(name, str(place.get("attributeValue"))) else "Rejected"
            results.append({"attributeStatus": status, "component": place["component"], "variable": place["variable"]})
        return _results("setVariableResult", results)


def _places(data: object) -> list[Payload]:
    """The entries of a GetVariables or SetVariables that name a component and a variable."""
    entries = data if isinstance(data, list) else []
    return [
        entry
        for entry in entries
        if isinstance(member(entry, "component"), dict) and isinstance(member(entry, "variable"), dict)
    ]


def _results(name: str, results: list[Payload]) -> Answer:
    if not results:
        return Answer(error_code="PropertyConstraintViolation", description="No component and variable were named")
    return Answer({name: results})
