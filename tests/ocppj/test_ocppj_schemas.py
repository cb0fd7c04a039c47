"""The official schemas as the gateway applies them."""

from __future__ import annotations

import importlib.resources
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.errors import StartFailed
from ocpp_gateway.ocppj.actions import csms_actions, send_actions, station_actions
from ocpp_gateway.ocppj.corrections import is_tolerable_timestamp
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.schemas import MAX_VALUES_DESCRIBED, Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ocppj.violations import Violation

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21

Json = dict[str, Any]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


def meter_values(*samples: Json, timestamp: str = "2026-01-02T03:04:05Z") -> Json:
    return {"connectorId": 1, "meterValue": [{"timestamp": timestamp, "sampledValue": list(samples)}]}


def charging_profile(limit: float) -> Json:
    period = {"startPeriod": 0, "limit": limit}
    return {
        "connectorId": 0,
        "csChargingProfiles": {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "ChargePointMaxProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [period]},
        },
    }


def ev_needs(state_of_charge: int) -> Json:
    parameters = {"evMaxCurrent": 1, "evMaxVoltage": 1, "stateOfCharge": state_of_charge}
    return {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC", "dcChargingParameters": parameters}}


def event_stream(number: int) -> Json:
    return {"constantStreamData": {"id": number, "params": {}, "variableMonitoringId": 1}}


NOW = "2026-01-02T03:04:05Z"
STOP: Json = {"transactionId": -1, "meterStop": 10, "timestamp": "2026-01-02T03:04:05Z"}


PROTOCOL, FORMAT, TYPE = ErrorCode.PROTOCOL_ERROR, ErrorCode.FORMAT_VIOLATION, ErrorCode.TYPE_CONSTRAINT_VIOLATION
PROPERTY, OCCURRENCE = ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION

SAMPLE = "/meterValue/0/sampledValue/0"
PERIOD = "/csChargingProfiles/chargingSchedule/chargingSchedulePeriod/0"
DC_PARAMETERS = "/chargingNeeds/dcChargingParameters"
HASHES = "/iso15118CertificateHashData"
NOT_LISTED = "not one of the values that the standard lists"
NO_DATE = "not a date-time"
FIVE = "more than 4 items"

ID_TOKEN = {"idToken": "a", "type": "Central"}
HASH = {
    "hashAlgorithm": "SHA256",
    "issuerNameHash": "a",
    "issuerKeyHash": "b",
    "serialNumber": "1",
    "responderURL": "https://ocsp.example/",
}


def test_every_action_has_its_schemas_and_no_other_name_has(schemas: Schemas) -> None:
    for version in OcppVersion:
        for action in station_actions(version) | csms_actions(version):
            assert schemas.request(version, action).version is version
            assert schemas.response(version, action).version is version
        for action in send_actions(version):
            assert schemas.request(version, action).version is version
            with pytest.raises(KeyError):
                schemas.response(version, action)
    for name in ("./Heartbeat", "../../v201/schemas/HeartbeatRequest", "HeartbeatResponse", "", "Nonsense"):
        with pytest.raises(KeyError):
            schemas.request(V16, name)


def test_only_what_was_asked_for_is_loaded() -> None:
    loaded = Schemas.load([V16])
    assert loaded.request(V16, "Heartbeat").violation({}) is None
    with pytest.raises(KeyError):
        loaded.request(V201, "Heartbeat")


def test_loading_is_quick() -> None:
    begin = time.process_time()
    Schemas.load()
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"$schema":"draft-04","type":7}', '{"$schema":3}'])
def test_a_damaged_installation_is_named(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "v16" / "schemas"
    folder.mkdir(parents=True)
    for file in (importlib.resources.files("ocpp") / "v16" / "schemas").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert Schemas.load([V16], tmp_path).request(V16, "Reset").violation({"type": "Hard"}) is None
    if content is None:
        (folder / "Reset.json").unlink()
    else:
        (folder / "Reset.json").write_text(content)
    with pytest.raises(StartFailed, match="v16/Reset ") as caught:
        Schemas.load([V16], tmp_path)
    assert caught.value.reason == "schemas_unusable"


@pytest.mark.parametrize(
    ("version", "action", "payload"),
    [
        (V16, "Heartbeat", {}),
        (V16, "MeterValues", meter_values({"value": "1", "unit": "Wh"})),
        (V16, "StopTransaction", STOP),
        (V16, "SecurityEventNotification", {"type": "ResetOrReboot", "timestamp": "2026-01-02T03:04:05.678+01:00"}),
        (
            V201,
            "StatusNotification",
            {"timestamp": "2026-01-02T03:04:05Z", "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1},
        ),
        (V21, "Heartbeat", {"customData": {"vendorId": "x", "anything": [1]}}),
        (
            V21,
            "NotifyPeriodicEventStream",
            {"data": [{"t": 1.0, "v": "2"}], "id": 1, "pending": 0, "basetime": "2026-01-02T03:04:05Z"},
        ),
    ],
)
def test_what_the_standard_says_is_no_violation(
    schemas: Schemas, version: OcppVersion, action: str, payload: Json
) -> None:
    schema = schemas.request(version, action)
    assert schema.violations(payload) == ()
    assert schema.violation(payload) is None


@pytest.mark.parametrize(
    ("version", "action", "payload", "code", "path", "message"),
    [
        (V16, "Authorize", {}, PROTOCOL, "/idTag", "missing"),
        (V201, "Authorize", {}, OCCURRENCE, "/idToken", "missing"),
        (V16, "Authorize", {"idTag": 7}, TYPE, "/idTag", "not of type string"),
        (V16, "Authorize", {"idTag": None}, TYPE, "/idTag", "not of type string"),
        (V16, "Authorize", {"idTag": "x" * 21}, PROPERTY, "/idTag", "longer than 20 characters"),
        (V16, "Heartbeat", {"a": 1}, FORMAT, "", "unknown member 'a'"),
        (V21, "Heartbeat", {"a": 1, "b": 2, "c": 3}, FORMAT, "", "unknown member 'a'"),
        (V16, "Heartbeat", {"x" * 90: 1}, FORMAT, "", "unknown member '" + "x" * 40 + "'"),
        (V16, "Heartbeat", {"x\n": 1}, FORMAT, "", "unknown member"),
        (V16, "Heartbeat", {"é": 1}, FORMAT, "", "unknown member"),
        (V16, "MeterValues", meter_values({"value": 1}), TYPE, f"{SAMPLE}/value", "not of type string"),
        (V16, "MeterValues", meter_values({"value": "1", "unit": "Hz"}), PROPERTY, f"{SAMPLE}/unit", NOT_LISTED),
        (V16, "StopTransaction", {**STOP, "meterStop": 10.5}, TYPE, "/meterStop", "not of type integer"),
        (V16, "StopTransaction", {**STOP, "meterStop": True}, TYPE, "/meterStop", "not of type integer"),
        (V16, "StopTransaction", {**STOP, "timestamp": "222222017-01-02T03:04:05Z"}, PROPERTY, "/timestamp", NO_DATE),
        (V16, "SetChargingProfile", charging_profile(16.25), PROPERTY, f"{PERIOD}/limit", "not a multiple of 0.1"),
        (V201, "MeterValues", {"evseId": 1, "meterValue": []}, OCCURRENCE, "/meterValue", "fewer than 1 items"),
        (V201, "SetMonitoringLevel", {"severity": "x"}, TYPE, "/severity", "not of type integer"),
        (V201, "Authorize", {"idToken": ID_TOKEN, "iso15118CertificateHashData": [HASH] * 5}, OCCURRENCE, HASHES, FIVE),
        (V201, "NotifyEVChargingNeeds", ev_needs(101), PROPERTY, f"{DC_PARAMETERS}/stateOfCharge", "greater than 100"),
        (V21, "OpenPeriodicEventStream", event_stream(-1), PROPERTY, "/constantStreamData/id", "less than 0"),
        (V21, "GetVariables", {"getVariableData": []}, OCCURRENCE, "/getVariableData", "fewer than 1 items"),
        (V21, "GetVariables", {}, OCCURRENCE, "/getVariableData", "missing"),
    ],
)
def test_violations_say_where_and_how(
    schemas: Schemas, version: OcppVersion, action: str, payload: Json, code: ErrorCode, path: str, message: str
) -> None:
    violation = Violation(code, path, message)
    schema = schemas.request(version, action)
    assert schema.violation(payload) == violation
    assert schema.violations(payload) == (violation,)


def test_violations_are_counted_out(schemas: Schemas) -> None:
    payload = {f"x{number}": 1 for number in range(3)} | meter_values(*[{"value": 1}] * 30)
    schema = schemas.request(V16, "MeterValues")
    assert len(schema.violations(payload)) == 10
    assert len(schema.violations(payload, limit=3)) == 3
    assert len(schema.violations(payload, limit=100)) == 31


def test_a_huge_payload_is_described_by_one_violation_and_quickly(schemas: Schemas) -> None:
    schema = schemas.request(V16, "MeterValues")
    payload = {"connectorId": 1, "meterValue": [1] * 100_000}
    begin = time.process_time()
    assert schema.violations(payload) == (
        Violation(ErrorCode.TYPE_CONSTRAINT_VIOLATION, "/meterValue/0", "not of type object"),
    )
    assert time.process_time() - begin < 0.1
    assert len(schema.violations({"connectorId": 1, "meterValue": [1] * (MAX_VALUES_DESCRIBED - 2)})) == 10
    assert len(schema.violations({"connectorId": 1, "meterValue": [1] * (MAX_VALUES_DESCRIBED - 1)})) == 1


# The corrections


def test_empty_lists_in_1_6_meter_values_are_allowed(schemas: Schemas) -> None:
    schema = schemas.request(V16, "MeterValues")
    assert schema.violation(meter_values()) is None
    assert schema.violation({"connectorId": 1, "meterValue": []}) is None


@pytest.mark.parametrize("unit", ["Celsius", "Celcius", "Hertz"])
def test_units_that_the_standard_forgot_or_misspelt(schemas: Schemas, unit: str) -> None:
    payload = meter_values({"value": "1", "unit": unit})
    assert schemas.request(V16, "MeterValues").violation(payload) is None
    stop = {**STOP, "transactionData": payload["meterValue"]}
    assert schemas.request(V16, "StopTransaction").violation(stop) is None


def test_every_limit_with_one_decimal_is_a_multiple_of_a_tenth(schemas: Schemas) -> None:
    schema = schemas.request(V16, "SetChargingProfile")
    assert [tenths for tenths in range(1001) if schema.violation(charging_profile(tenths / 10))] == []


def test_whole_numbers_with_a_point_are_taken_from_a_charge_point_but_not_sent_to_one(schemas: Schemas) -> None:
    assert schemas.request(V16, "StopTransaction").violation({**STOP, "meterStop": 10.0}) is None
    assert schemas.response(V16, "GetLocalListVersion").violation({"listVersion": 3.0}) is None
    not_integer = Violation(ErrorCode.TYPE_CONSTRAINT_VIOLATION, "/connectorId", "not of type integer")
    assert schemas.request(V16, "UnlockConnector").violation({"connectorId": 1.0}) == not_integer
    boot = {"status": "Accepted", "currentTime": "2026-01-02T03:04:05Z", "interval": 300.0}
    assert schemas.response(V16, "BootNotification").violation({**boot, "interval": 300}) is None
    assert schemas.response(V16, "BootNotification").violations(boot) == (
        Violation(ErrorCode.TYPE_CONSTRAINT_VIOLATION, "/interval", "not of type integer"),
    )


@pytest.mark.parametrize("version", OcppVersion)
def test_a_timestamp_without_zone_is_taken_from_a_charge_point_but_not_sent_to_one(
    schemas: Schemas, version: OcppVersion
) -> None:
    payload = {"type": "ResetOrReboot", "timestamp": "2026-01-02T03:04:05.377"}
    schema = schemas.request(version, "SecurityEventNotification")
    assert schema.violation(payload) is None
    assert schema.violations(payload) == ()
    bad = {**payload, "timestamp": "yesterday"}
    assert schema.violation(bad) == Violation(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, "/timestamp", "not a date-time")
    both = schema.violations({"timestamp": "2026-01-02T03:04:05", "type": 7})
    assert [found.path for found in both] == ["/type"]
    answer = schemas.response(version, "Heartbeat").violation({"currentTime": "2026-01-02T03:04:05"})
    assert answer is not None
    assert answer.path == "/currentTime"


@pytest.mark.parametrize(
    ("text", "tolerable"),
    [
        ("2026-01-02T03:04:05Z", True),
        ("2026-01-02t03:04:05z", True),
        ("2026-01-02T03:04:05", True),
        ("2026-01-02T03:04:05.377", True),
        ("2026-01-02T03:04:05.123456789123Z", True),
        ("2026-01-02T03:04:05+14:00", True),
        ("2026-01-02T23:59:60Z", True),
        ("2024-02-29T00:00:00", True),
        ("2026-02-29T00:00:00", False),
        ("2026-00-01T00:00:00", False),
        ("2026-13-01T00:00:00", False),
        ("2026-01-02T24:00:00", False),
        ("2026-01-02T03:60:00", False),
        ("2026-01-02T03:04:61", False),
        ("2026-01-02T03:04:05+24:00", False),
        ("2026-01-02T03:04:05+0100", False),
        ("2026-01-02T03:04:05.", False),
        ("2026-01-02T03:04:05Z\n", False),
        ("2026-01-02 03:04:05", False),
        ("2026-01-02", False),
        ("0000-01-01T00:00:00", False),
        ("222222017-01-02T03:04:05Z", False),
        ("\uff12\uff10\uff12\uff16-01-02T03:04:05Z", False),
        ("", False),
    ],
)
def test_tolerable_timestamps(text: str, tolerable: bool) -> None:
    assert is_tolerable_timestamp(text) is tolerable


@given(st.datetimes(), st.sampled_from(["", "Z", "+01:00", "-11:30"]))
def test_every_date_and_time_is_tolerable(moment: Any, zone: str) -> None:
    assert is_tolerable_timestamp(moment.isoformat() + zone)


def test_violations_never_repeat_what_the_peer_wrote(schemas: Schemas) -> None:
    secret = "correct horse battery staple"
    payload = {"connectorId": secret, "errorCode": secret, "status": secret, "timestamp": secret, "info": secret * 9}
    found = schemas.request(V16, "StatusNotification").violations(payload)
    assert len(found) == 5
    assert secret not in repr(found)
