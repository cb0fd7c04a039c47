"""What a simulated charge point answers: to each action of its version, and valid by the official schemas.

So are the messages that it sends afterwards.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator.schema_payloads import example, requests
from simulator.small_csms import assert_request, assert_response
from support.certificates import Authority

from ocpp_gateway.ocppj.actions import csms_actions
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.answers import Answers
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.frames import Call
from ocpp_gateway.simulator.memory import MOST, certificate_hash
from ocpp_gateway.simulator.plan import Settings

VERSIONS = pytest.mark.parametrize("version", list(OcppVersion), ids=lambda version: version.label)
BOTH_2X = pytest.mark.parametrize("version", [OcppVersion.V201, OcppVersion.V21], ids=lambda version: version.label)
EVERY = [(version, action) for version in OcppVersion for action in sorted(csms_actions(version))]


@define
class Levers:
    """A charge point's controls that only remember how they were pulled."""

    version: OcppVersion
    transaction: int | str | None = None
    in_service: bool = True
    pulled: list[tuple[Any, ...]] = field(factory=list)
    said: list[tuple[str, Any]] = field(factory=list)
    settings: Settings = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.settings = Settings(self.version, meter_interval=10.0)

    def reset(self, *, when_idle: bool) -> None:
        self.pulled.append(("reset", when_idle))

    def trigger(self, action: str) -> None:
        self.pulled.append(("trigger", action))

    def say(self, action: str, payload: Any) -> None:
        self.said.append((action, payload))

    def remote_start(self, id_token: str, remote_start_id: int | None) -> None:
        self.pulled.append(("remote_start", id_token, remote_start_id))

    def remote_stop(self) -> None:
        self.pulled.append(("remote_stop",))

    def set_available(self, available: bool) -> None:
        self.pulled.append(("set_available", available))

    def is_idle(self) -> bool:
        return self.transaction is None

    def is_in_service(self) -> bool:
        return self.in_service

    def transaction_id(self) -> int | str | None:
        return self.transaction

    def has_unsent(self) -> bool:
        return False

    def get(self, name: str) -> str | None:
        return self.settings.get(name)

    def names(self) -> tuple[str, ...]:
        return self.settings.names()

    def component(self, name: str) -> str:
        return self.settings.component(name)

    def is_read_only(self, name: str) -> bool:
        return self.settings.is_read_only(name)

    def set(self, name: str, value: str) -> bool:
        return self.settings.set(name, value)

    def set_password(self, secret: bytes) -> None:
        self.pulled.append(("set_password", secret))


class Point:
    """Asks, checks every answer and every message that follows, and pulls the lever."""

    def __init__(self, version: OcppVersion, transaction: int | str | None = None) -> None:
        self.version = version
        self.levers = Levers(version, transaction)
        self.answers = Answers(version, self.levers)

    def answer(self, action: str, payload: Any) -> Answer:
        answer = self.answers.answer(Call("1", action, payload))
        if answer.payload is not None:
            assert_response(self.version.subprotocol, action, answer.payload)
        before = len(self.levers.said)
        if answer.afterwards is not None:
            answer.afterwards()
        for told, message in self.levers.said[before:]:
            assert_request(self.version.subprotocol, told, message)
        return answer

    def ask(self, action: str, **payload: Any) -> Any:
        """The answer to a sound request."""
        assert_request(self.version.subprotocol, action, payload)
        answer = self.answer(action, payload)
        assert answer.payload is not None, answer
        return answer.payload

    def status(self, action: str, **payload: Any) -> str:
        return str(self.ask(action, **payload)["status"])

    def told(self, action: str) -> list[Any]:
        return [payload for told, payload in self.levers.said if told == action]


@VERSIONS
def test_it_knows_exactly_the_actions_of_its_version(version: OcppVersion) -> None:
    assert Answers(version, Levers(version)).actions() == csms_actions(version)


@pytest.mark.parametrize("is_full", [False, True], ids=["least", "full"])
@pytest.mark.parametrize(("version", "action"), EVERY, ids=lambda each: getattr(each, "label", each))
def test_each_action_has_a_valid_answer(version: OcppVersion, action: str, is_full: bool) -> None:
    payload = example(version, action, is_full=is_full)
    for transaction in (None, 1 if version is OcppVersion.V16 else "x"):
        assert Point(version, transaction).ask(action, **payload) is not None


@given(st.sampled_from(EVERY).flatmap(lambda each: st.tuples(st.just(each), requests(*each))), st.booleans())
@settings(max_examples=400)
def test_any_sound_request_has_a_valid_answer(each: tuple[tuple[OcppVersion, str], Any], is_busy: bool) -> None:
    (version, action), payload = each
    point = Point(version, "T-1" if is_busy else None)
    for _ in range(2):  # what the first changed, the second has to live with
        assert point.answer(action, payload).payload is not None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=300)
def test_nonsense_does_not_hurt_it(data: st.DataObject) -> None:
    version, action = data.draw(st.sampled_from(EVERY))
    sound = example(version, action, is_full=True)
    names = sorted(sound)
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)) if names else ():
        sound[name] = data.draw(_JSON)
    answers = Answers(version, Levers(version))
    answer = answers.answer(Call("1", action, sound))
    assert answer.payload is not None or answer.error_code


@VERSIONS
def test_an_action_of_another_version_is_not_known(version: OcppVersion) -> None:
    answer = Point(version).answer("GetVariables" if version is OcppVersion.V16 else "GetDiagnostics", {})
    assert (answer.payload, answer.error_code) == (None, "NotImplemented")


def test_a_new_password_of_1_6_is_the_bytes_that_the_digits_stand_for() -> None:
    point = Point(OcppVersion.V16)
    assert point.status("ChangeConfiguration", key="AuthorizationKey", value="00FF" * 8) == "Accepted"
    assert point.levers.pulled == [("set_password", b"\x00\xff" * 8)]
    for value in ("", "0", "xy", "00" * 21, "00 00"):
        assert point.status("ChangeConfiguration", key="AuthorizationKey", value=value) == "Rejected"
    assert len(point.levers.pulled) == 1
    (told,) = point.ask("GetConfiguration", key=["AuthorizationKey"])["configurationKey"]
    assert told == {"key": "AuthorizationKey", "readonly": False}


@BOTH_2X
def test_a_new_password_of_2_x_is_its_text(version: OcppVersion) -> None:
    point = Point(version)
    place = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    interval = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}

    def status(value: str, **more: Any) -> list[str]:
        asked = [{**interval, "attributeValue": "60"}, {**place, "attributeValue": value, **more}]
        results = point.ask("SetVariables", setVariableData=asked)["setVariableResult"]
        return [result["attributeStatus"] for result in results]

    assert status("a new password of mine") == ["Accepted", "Accepted"]
    assert point.levers.pulled == [("set_password", b"a new password of mine")]
    assert status("too short") == ["Accepted", "Rejected"]
    assert status("x" * 41) == ["Accepted", "Rejected"]
    assert status("a new password of mine", attributeType="Target") == ["Accepted", "NotSupportedAttributeType"]
    assert len(point.levers.pulled) == 1
    (told,) = point.ask("GetVariables", getVariableData=[place])["getVariableResult"]
    assert told == {"attributeStatus": "Rejected", **place}


@BOTH_2X
def test_variables_are_read_where_they_are(version: OcppVersion) -> None:
    point = Point(version)

    def read(component: str, variable: str) -> tuple[str, str | None]:
        asked = [{"component": {"name": component}, "variable": {"name": variable}}]
        (result,) = point.ask("GetVariables", getVariableData=asked)["getVariableResult"]
        return result["attributeStatus"], result.get("attributeValue")

    assert read("OCPPCommCtrlr", "HeartbeatInterval") == ("Accepted", "300")
    assert read("ChargingStation", "Model") == ("Accepted", "Simulated AC")
    assert read("ChargingStation", "HeartbeatInterval") == ("UnknownVariable", None)
    assert read("OCPPCommCtrlr", "Nonsense") == ("UnknownVariable", None)
    assert read("Nonsense", "Nonsense") == ("UnknownComponent", None)
    fact = {"component": {"name": "ChargingStation"}, "variable": {"name": "Model"}, "attributeValue": "x"}
    (result,) = point.ask("SetVariables", setVariableData=[fact])["setVariableResult"]
    assert result["attributeStatus"] == "Rejected"


def test_configuration_of_1_6() -> None:
    point = Point(OcppVersion.V16)
    assert point.status("ChangeConfiguration", key="HeartbeatInterval", value="60") == "Accepted"
    assert point.status("ChangeConfiguration", key="NumberOfConnectors", value="2") == "Rejected"
    assert point.status("ChangeConfiguration", key="Nonsense", value="2") == "NotSupported"
    told = {each["key"]: each for each in point.ask("GetConfiguration")["configurationKey"]}
    assert told["HeartbeatInterval"] == {"key": "HeartbeatInterval", "readonly": False, "value": "60"}
    assert told["NumberOfConnectors"]["readonly"] is True
    assert point.ask("GetConfiguration", key=["Nonsense"]) == {"configurationKey": [], "unknownKey": ["Nonsense"]}


@BOTH_2X
def test_reset_waits_for_the_transaction_if_it_shall(version: OcppVersion) -> None:
    idle, busy = Point(version), Point(version, "T-1")
    assert idle.status("Reset", type="OnIdle") == "Accepted"
    assert busy.status("Reset", type="Immediate") == "Accepted"
    assert busy.status("Reset", type="OnIdle") == "Scheduled"
    assert idle.levers.pulled == [("reset", False)]
    assert busy.levers.pulled == [("reset", False), ("reset", True)]
    assert idle.status("Reset", type="Immediate", evseId=1) == "Rejected"


@BOTH_2X
def test_remote_start_and_stop_of_2_x(version: OcppVersion) -> None:
    token = {"idToken": "TAG", "type": "Central"}
    idle, busy = Point(version), Point(version, "T-1")
    assert idle.status("RequestStartTransaction", idToken=token, remoteStartId=5, evseId=1) == "Accepted"
    assert idle.levers.pulled == [("remote_start", "TAG", 5)]
    assert idle.status("RequestStartTransaction", idToken=token, remoteStartId=5, evseId=2) == "Rejected"
    assert busy.status("RequestStartTransaction", idToken=token, remoteStartId=5) == "Rejected"
    assert busy.status("RequestStopTransaction", transactionId="T-2") == "Rejected"
    assert busy.status("RequestStopTransaction", transactionId="T-1") == "Accepted"
    assert busy.levers.pulled == [("remote_stop",)]
    idle.levers.in_service = False
    assert idle.status("RequestStartTransaction", idToken=token, remoteStartId=5) == "Rejected"


@VERSIONS
def test_what_is_triggered(version: OcppVersion) -> None:
    point = Point(version)
    assert point.status("TriggerMessage", requestedMessage="Heartbeat") == "Accepted"
    assert point.levers.pulled == [("trigger", "Heartbeat")]
    assert point.status("TriggerMessage", requestedMessage="FirmwareStatusNotification") == "Accepted"
    assert point.told("FirmwareStatusNotification") == [{"status": "Idle"}]
    if version.is_2x:
        assert point.status("TriggerMessage", requestedMessage="Heartbeat", evse={"id": 2}) == "Rejected"
        assert point.status("TriggerMessage", requestedMessage="TransactionEvent") == "Rejected"
        assert Point(version, "T").status("TriggerMessage", requestedMessage="TransactionEvent") == "Accepted"
        assert point.status("TriggerMessage", requestedMessage="SignV2GCertificate") == "NotImplemented"
    else:
        assert point.status("TriggerMessage", requestedMessage="Heartbeat", connectorId=2) == "Rejected"
        assert point.status("ExtendedTriggerMessage", requestedMessage="LogStatusNotification") == "Accepted"
        assert point.told("LogStatusNotification") == [{"status": "Idle"}]
        assert point.status("ExtendedTriggerMessage", requestedMessage="SignChargePointCertificate") == "NotImplemented"


@VERSIONS
def test_the_local_list_has_its_version(version: OcppVersion) -> None:
    point = Point(version)
    number, ask = ("versionNumber", "GetLocalListVersion") if version.is_2x else ("listVersion", "GetLocalListVersion")

    def send(list_version: int, update_type: str) -> str:
        return point.status("SendLocalList", **{number: list_version}, updateType=update_type)

    assert point.ask(ask) == {number: 0}
    assert [send(3, "Full"), send(3, "Differential"), send(4, "Differential"), send(2, "Full")] == [
        "Accepted",
        "VersionMismatch",
        "Accepted",
        "Accepted",
    ]
    assert point.ask(ask) == {number: 2}
    assert send(0, "Full") == "Failed"


@VERSIONS
def test_reservations_are_made_and_cancelled(version: OcppVersion) -> None:
    point = Point(version)
    asked: dict[str, Any] = (
        {"id": 7, "expiryDateTime": "2026-01-02T03:04:05Z", "idToken": {"idToken": "TAG", "type": "Central"}}
        if version.is_2x
        else {"reservationId": 7, "expiryDate": "2026-01-02T03:04:05Z", "idTag": "TAG", "connectorId": 1}
    )
    assert point.status("CancelReservation", reservationId=7) == "Rejected"
    assert point.status("ReserveNow", **asked) == "Accepted"
    assert point.status("CancelReservation", reservationId=7) == "Accepted"
    assert Point(version, "T").status("ReserveNow", **asked) == "Occupied"
    point.levers.in_service = False
    assert point.status("ReserveNow", **asked) == "Unavailable"


@VERSIONS
def test_charging_profiles_are_kept_and_cleared(version: OcppVersion) -> None:
    point = Point(version)
    full = example(version, "SetChargingProfile", is_full=False)
    member, id_of, place = (
        ("chargingProfile", "id", "evseId")
        if version.is_2x
        else ("csChargingProfiles", "chargingProfileId", "connectorId")
    )

    def put(number: int, **more: Any) -> str:
        profile = {**full[member], id_of: number, "chargingProfilePurpose": "TxDefaultProfile", **more}
        return point.status("SetChargingProfile", **{**full, place: 1, member: profile})

    assert put(1) == "Accepted"
    assert put(2, stackLevel=5) == "Accepted"
    assert put(3, chargingProfilePurpose="TxProfile") == "Rejected"  # there is no transaction that it could be for
    if version.is_2x:
        criteria = {"requestId": 9, "chargingProfile": {"stackLevel": 5}}
        assert point.status("GetChargingProfiles", **criteria) == "Accepted"
        (report,) = point.told("ReportChargingProfiles")
        assert (report["requestId"], [each["id"] for each in report["chargingProfile"]]) == (9, [2])
        assert point.status("GetChargingProfiles", requestId=9, chargingProfile={"stackLevel": 6}) == "NoProfiles"
        assert point.status("ClearChargingProfile", chargingProfileCriteria={"stackLevel": 5}) == "Accepted"
        assert point.status("ClearChargingProfile", chargingProfileId=2) == "Unknown"
    else:
        assert point.status("ClearChargingProfile", stackLevel=5) == "Accepted"
        assert point.status("ClearChargingProfile", id=2) == "Unknown"
    assert point.status("ClearChargingProfile") == "Accepted"
    assert point.status("ClearChargingProfile") == "Unknown"


@VERSIONS
def test_root_certificates_are_installed_listed_and_deleted(version: OcppVersion) -> None:
    point = Point(version)
    kind = "CSMSRootCertificate" if version.is_2x else "CentralSystemRootCertificate"
    listed = {"certificateType": [kind] if version.is_2x else kind}
    pem = Authority("Root of a test").certificate_pem.decode()
    assert point.status("InstallCertificate", certificateType=kind, certificate="nonsense") == "Rejected"
    assert point.status("GetInstalledCertificateIds", **listed) == "NotFound"
    for _ in range(2):
        assert point.status("InstallCertificate", certificateType=kind, certificate=pem) == "Accepted"
    told = point.ask("GetInstalledCertificateIds", **listed)
    hashes = told["certificateHashDataChain" if version.is_2x else "certificateHashData"]
    named = certificate_hash(pem)
    assert [each.get("certificateHashData", each) for each in hashes] == [named]
    assert point.status("DeleteCertificate", certificateHashData=named) == "Accepted"
    assert point.status("DeleteCertificate", certificateHashData=named) == "NotFound"


@VERSIONS
def test_firmware_and_logs_come_on(version: OcppVersion) -> None:
    point = Point(version)
    point.ask("UpdateFirmware", **example(version, "UpdateFirmware", is_full=False))
    statuses = [each["status"] for each in point.told("FirmwareStatusNotification")]
    assert statuses == ["Downloading", "Downloaded", "Installing", "Installed"]
    asked = example(version, "GetLog", is_full=False)
    assert point.status("GetLog", **{**asked, "requestId": 4}) == "Accepted"
    assert point.told("LogStatusNotification") == [
        {"status": "Uploading", "requestId": 4},
        {"status": "Uploaded", "requestId": 4},
    ]


@BOTH_2X
def test_reports_follow(version: OcppVersion) -> None:
    point = Point(version)
    assert point.status("GetBaseReport", requestId=3, reportBase="FullInventory") == "Accepted"
    (report,) = point.told("NotifyReport")
    assert (report["requestId"], report["seqNo"], report["tbc"]) == (3, 0, False)
    assert {each["variable"]["name"] for each in report["reportData"]} == set(point.levers.names())
    wanted = [{"component": {"name": "SampledDataCtrlr"}}]
    assert point.status("GetReport", requestId=4, componentVariable=wanted) == "Accepted"
    assert [each["variable"]["name"] for each in point.told("NotifyReport")[1]["reportData"]] == ["TxUpdatedInterval"]
    assert point.status("GetReport", requestId=4, componentVariable=[{"component": {"name": "X"}}]) == "EmptyResultSet"
    assert point.status("CustomerInformation", requestId=5, report=True, clear=False) == "Accepted"
    assert point.told("NotifyCustomerInformation")[0]["requestId"] == 5


@BOTH_2X
def test_monitors_are_set_reported_and_cleared(version: OcppVersion) -> None:
    point = Point(version)
    place = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
    monitor = {**place, "value": 500, "type": "UpperThreshold", "severity": 3}
    nowhere = {**monitor, "component": {"name": "X"}}
    unknown = {**monitor, "id": 99}
    results = point.ask("SetVariableMonitoring", setMonitoringData=[monitor, nowhere, unknown])["setMonitoringResult"]
    assert [each["status"] for each in results] == ["Accepted", "UnknownComponent", "Rejected"]
    number = results[0]["id"]
    assert point.status("GetMonitoringReport", requestId=1) == "Accepted"
    (report,) = point.told("NotifyMonitoringReport")
    assert [each["variableMonitoring"][0]["id"] for each in report["monitor"]] == [number]
    criteria = ["DeltaMonitoring"]
    assert point.status("GetMonitoringReport", requestId=1, monitoringCriteria=criteria) == "EmptyResultSet"
    results = point.ask("ClearVariableMonitoring", id=[number, 77])["clearMonitoringResult"]
    assert [each["status"] for each in results] == ["Accepted", "NotFound"]


@BOTH_2X
def test_display_messages_are_kept(version: OcppVersion) -> None:
    point = Point(version)
    message = {"id": 3, "priority": "InFront", "message": {"format": "UTF8", "content": "Hello"}}
    assert point.status("SetDisplayMessage", message=message) == "Accepted"
    assert point.status("SetDisplayMessage", message={**message, "transactionId": "T"}) == "UnknownTransaction"
    assert point.status("GetDisplayMessages", requestId=1, id=[3, 4]) == "Accepted"
    assert point.told("NotifyDisplayMessages")[0]["messageInfo"] == [message]
    assert point.status("GetDisplayMessages", requestId=1, priority="NormalCycle") == "Unknown"
    assert point.status("ClearDisplayMessage", id=3) == "Accepted"
    assert point.status("ClearDisplayMessage", id=3) == "Unknown"


@BOTH_2X
def test_firmware_for_others_is_published(version: OcppVersion) -> None:
    point = Point(version)
    assert point.status("UnpublishFirmware", checksum="abc") == "NoFirmware"
    asked = {"location": "https://firmware.example/1", "checksum": "abc", "requestId": 2}
    assert point.status("PublishFirmware", **asked) == "Accepted"
    assert [each["status"] for each in point.told("PublishFirmwareStatusNotification")][-1] == "Published"
    assert point.status("UnpublishFirmware", checksum="abc") == "Unpublished"


def test_tariffs_of_2_1() -> None:
    point = Point(OcppVersion.V21, "T-1")
    tariff = {"tariffId": "day", "currency": "EUR"}
    assert point.status("GetTariffs", evseId=0) == "NoTariff"
    assert point.status("SetDefaultTariff", evseId=0, tariff=tariff) == "Accepted"
    assert point.status("SetDefaultTariff", evseId=0, tariff=tariff) == "DuplicateTariffId"
    assert point.ask("GetTariffs", evseId=0)["tariffAssignments"][0]["tariffId"] == "day"
    results = point.ask("ClearTariffs", tariffIds=["day", "night"])["clearTariffsResult"]
    assert [each["status"] for each in results] == ["Accepted", "NoTariff"]
    assert point.ask("ClearTariffs") == {"clearTariffsResult": [{"status": "NoTariff"}]}
    assert point.status("ChangeTransactionTariff", tariff=tariff, transactionId="T-1") == "Accepted"
    assert point.status("ChangeTransactionTariff", tariff=tariff, transactionId="T-2") == "TxNotFound"
    assert point.status("UsePriorityCharging", transactionId="T-1", activate=True) == "NoProfile"
    assert point.status("UsePriorityCharging", transactionId="T-2", activate=True) == "Rejected"


@VERSIONS
def test_a_csms_that_goes_on_and_on_fills_no_memory(version: OcppVersion) -> None:
    point = Point(version)
    asked = example(version, "ReserveNow", is_full=False)
    member = "id" if version.is_2x else "reservationId"
    statuses = [point.status("ReserveNow", **{**asked, member: number}) for number in range(MOST + 5)]
    assert statuses == ["Accepted"] * MOST + ["Rejected"] * 5
