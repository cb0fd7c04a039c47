"""What a simulated 2.0.1 or 2.1 charge point answers when it is asked for what it is, and what it watches.

Variables, monitors, and the reports that follow an answer (OCPP 2.0.1 part 2, B05 to B08 and N01 to N09).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.answers import ACCEPTED, REJECTED, Handler, entries, text, whole
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.controls import Controls
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.memory import Memory, Monitor
from ocpp_gateway.simulator.messages import EVSE, member
from ocpp_gateway.simulator.meter import utc_timestamp

PASSWORD = ("SecurityCtrlr", "BasicAuthPassword")
_PASSWORD_LENGTHS = range(16, 41)
_KINDS = {
    "ThresholdMonitoring": ("UpperThreshold", "LowerThreshold"),
    "DeltaMonitoring": ("Delta", "TargetDelta", "TargetDeltaRelative"),
    "PeriodicMonitoring": ("Periodic", "PeriodicClockAligned"),
}


@define
class ReportsV2x:
    """Answers that 2.0.1 and 2.1 have in common."""

    version: OcppVersion
    controls: Controls
    memory: Memory

    def by_action(self) -> dict[str, Handler]:
        """One for each action."""
        return {
            "ClearVariableMonitoring": self._clear_variable_monitoring,
            "CustomerInformation": self._customer_information,
            "GetBaseReport": lambda asked: self._report(asked, self.controls.names()),
            "GetChargingProfiles": self._get_charging_profiles,
            "GetDisplayMessages": self._get_display_messages,
            "GetMonitoringReport": self._get_monitoring_report,
            "GetReport": self._get_report,
            "GetVariables": self._get_variables,
            "SetMonitoringBase": lambda _: Answer(ACCEPTED),
            "SetMonitoringLevel": lambda asked: Answer(
                ACCEPTED if (whole(asked.get("severity")) or 0) in range(10) else REJECTED
            ),
            "SetVariableMonitoring": self._set_variable_monitoring,
            "SetVariables": self._set_variables,
        }

    # Variables.

    def _get_variables(self, asked: Payload) -> Answer:
        results = []
        for entry in entries(asked.get("getVariableData")):
            status = self._found(entry)
            if status == "Accepted" and _place(entry) == PASSWORD:
                status = "Rejected"  # it can be written, and not read
            result = _result(entry, status)
            if status == "Accepted":
                result["attributeValue"] = self.controls.get(_place(entry)[1]) or ""
            results.append(result)
        return _results("getVariableResult", results)

    def _set_variables(self, asked: Payload) -> Answer:
        results: list[Payload] = []
        afterwards: Callable[[], None] | None = None
        for entry in entries(asked.get("setVariableData")):
            status, value = self._found(entry), text(entry.get("attributeValue"))
            if status == "Accepted" and _place(entry) == PASSWORD:
                if value is not None and len(value) in _PASSWORD_LENGTHS:
                    afterwards = self._password(value)
                else:
                    status = "Rejected"
            elif status == "Accepted" and (value is None or not self.controls.set(_place(entry)[1], value)):
                status = "Rejected"
            results.append(_result(entry, status))
        return _results("setVariableResult", results, afterwards)

    def _password(self, value: str) -> Callable[[], None]:
        return lambda: self.controls.set_password(value.encode())

    def _found(self, entry: Payload) -> str:
        component, name = _place(entry)
        components = {PASSWORD[0], *(self.controls.component(each) for each in self.controls.names())}
        if component not in components:
            return "UnknownComponent"
        is_there = self.controls.get(name) is not None and self.controls.component(name) == component
        if not is_there and (component, name) != PASSWORD:
            return "UnknownVariable"
        return "Accepted" if entry.get("attributeType") in (None, "Actual") else "NotSupportedAttributeType"

    # Reports.

    def _get_report(self, asked: Payload) -> Answer:
        wanted = asked.get("componentVariable")
        names = self.controls.names()
        if isinstance(wanted, list):
            places = [(member(each, "component", "name"), member(each, "variable", "name")) for each in wanted]
            names = tuple(
                name
                for name in names
                if any(self.controls.component(name) == where and what in (None, name) for where, what in places)
            )
        return self._report(asked, names) if names else Answer({"status": "EmptyResultSet"})

    def _report(self, asked: Payload, names: tuple[str, ...]) -> Answer:
        data = []
        for name in names:
            value = self.controls.get(name) or ""
            mutability = "ReadOnly" if self.controls.is_read_only(name) else "ReadWrite"
            kind = "integer" if value.isdigit() else "string"
            data.append(
                {
                    "component": {"name": self.controls.component(name)},
                    "variable": {"name": name},
                    "variableAttribute": [{"type": "Actual", "value": value, "mutability": mutability}],
                    "variableCharacteristics": {"dataType": kind, "supportsMonitoring": kind == "integer"},
                }
            )
        return self._followed_by("NotifyReport", {**_part(asked), "tbc": False, "reportData": data})

    def _customer_information(self, asked: Payload) -> Answer:
        if asked.get("report") is not True:
            return Answer(ACCEPTED)
        return self._followed_by("NotifyCustomerInformation", {**_part(asked), "tbc": False, "data": "none"})

    def _get_charging_profiles(self, asked: Payload) -> Answer:
        wanted = asked.get("chargingProfile")
        ids = member(asked, "chargingProfile", "chargingProfileId")
        purpose, level = (member(asked, "chargingProfile", name) for name in ("chargingProfilePurpose", "stackLevel"))
        numbers = self.memory.profiles_like(None, asked.get("evseId"), purpose, level)
        found = [number for number in numbers if not isinstance(ids, list) or number in ids]
        if not found or not isinstance(wanted, dict):
            return Answer({"status": "NoProfiles"})

        def tell() -> None:
            for place in (0, EVSE):
                kept = [self.memory.profiles[number] for number in found if number in self.memory.profiles]
                profiles = [profile.payload for profile in kept if profile.place == place]
                if profiles:
                    report = {"chargingLimitSource": "CSO", "evseId": place, "chargingProfile": profiles}
                    self.controls.say("ReportChargingProfiles", {"requestId": whole(asked.get("requestId")), **report})

        return Answer(ACCEPTED, afterwards=tell)

    def _get_display_messages(self, asked: Payload) -> Answer:
        ids = asked.get("id")
        found = [
            message
            for number, message in self.memory.display_messages.items()
            if (not isinstance(ids, list) or number in ids)
            and asked.get("priority") in (None, message.get("priority"))
            and asked.get("state") in (None, message.get("state"))
        ]
        if not found:
            return Answer({"status": "Unknown"})
        report = {"requestId": whole(asked.get("requestId")), "messageInfo": found}
        return self._followed_by("NotifyDisplayMessages", report)

    # Monitors.

    def _set_variable_monitoring(self, asked: Payload) -> Answer:
        results = []
        for entry in entries(asked.get("setMonitoringData")):
            component, variable = entry.get("component"), entry.get("variable")
            if not isinstance(component, dict) or not isinstance(variable, dict):
                continue
            status = self._found({"component": component, "variable": variable})
            number = whole(entry.get("id"))
            if status == "Accepted" and number is not None and number not in self.memory.monitors:
                status = "Rejected"
            if status == "Accepted" and not self.memory.has_room(self.memory.monitors):
                status = "Rejected"
            result = {name: entry.get(name) for name in ("type", "severity")}
            result |= {"status": status, "component": component, "variable": variable}
            if status == "Accepted":
                number = number or self.memory.new_monitor_id()
                self.memory.monitors[number] = Monitor(component, variable, entry)
                result["id"] = number
            results.append(result)
        return _results("setMonitoringResult", results)

    def _clear_variable_monitoring(self, asked: Payload) -> Answer:
        ids = asked.get("id")
        results: list[Payload] = []
        for each in ids if isinstance(ids, list) else []:
            number = whole(each)
            if number is not None:
                was_there = self.memory.monitors.pop(number, None) is not None
                results.append({"id": number, "status": "Accepted" if was_there else "NotFound"})
        return _results("clearMonitoringResult", results)

    def _get_monitoring_report(self, asked: Payload) -> Answer:
        criteria, places = asked.get("monitoringCriteria"), asked.get("componentVariable")
        kinds = {
            kind for each in (criteria if isinstance(criteria, list) else _KINDS) for kind in _KINDS.get(str(each), ())
        }
        wanted = [
            (number, monitor)
            for number, monitor in self.memory.monitors.items()
            if monitor.setting.get("type") in kinds
            and (not isinstance(places, list) or any(_is_of(monitor, place) for place in places))
        ]
        if not wanted:
            return Answer({"status": "EmptyResultSet"})
        monitors = [
            {
                "component": monitor.component,
                "variable": monitor.variable,
                "variableMonitoring": [self._monitoring(number, monitor.setting)],
            }
            for number, monitor in wanted
        ]
        return self._followed_by("NotifyMonitoringReport", {**_part(asked), "tbc": False, "monitor": monitors})

    def _monitoring(self, number: int, setting: Payload) -> Payload:
        told: Payload = {"id": number, "transaction": setting.get("transaction") is True}
        told |= {name: setting.get(name) for name in ("value", "type", "severity")}
        if self.version is OcppVersion.V21:
            told["eventNotificationType"] = "CustomMonitor"
        return told

    def _followed_by(self, action: str, report: Payload) -> Answer:
        return Answer(ACCEPTED, afterwards=lambda: self.controls.say(action, report))


def _part(asked: Payload) -> Payload:
    """What the first and only part of a report begins with."""
    return {"requestId": whole(asked.get("requestId")), "generatedAt": utc_timestamp(), "seqNo": 0}


def _place(entry: Payload) -> tuple[str, str]:
    return str(member(entry, "component", "name")), str(member(entry, "variable", "name"))


def _is_of(monitor: Monitor, place: object) -> bool:
    named = {"place": place}
    component, variable = member(named, "place", "component", "name"), member(named, "place", "variable", "name")
    return component == monitor.component.get("name") and variable in (None, monitor.variable.get("name"))


def _result(entry: Payload, status: str) -> dict[str, Any]:
    named: Payload = {name: entry[name] for name in ("attributeType", "component", "variable") if name in entry}
    return {"attributeStatus": status, **named}


def _results(name: str, results: list[Payload], afterwards: Callable[[], None] | None = None) -> Answer:
    if not results:
        return Answer(error_code="PropertyConstraintViolation", description="Nothing that could be answered was named")
    return Answer({name: results}, afterwards=afterwards)
