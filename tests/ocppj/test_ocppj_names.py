"""The names of the standard: versions, error codes, actions."""

from __future__ import annotations

import importlib.resources

import pytest

from ocpp_gateway.ocppj.actions import classify, csms_actions, send_actions, station_actions, transaction_related
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.versions import OcppVersion

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21


@pytest.mark.parametrize(
    ("version", "label", "subprotocol", "is_2x"),
    [(V16, "1.6J", "ocpp1.6", False), (V201, "2.0.1", "ocpp2.0.1", True), (V21, "2.1", "ocpp2.1", True)],
)
def test_a_version_knows_its_names(version: OcppVersion, label: str, subprotocol: str, is_2x: bool) -> None:
    assert (version.label, version.subprotocol, version.is_2x) == (label, subprotocol, is_2x)
    assert OcppVersion(label) is version
    assert OcppVersion.from_subprotocol(subprotocol) is version
    for spelling in (label, label.lower(), subprotocol, subprotocol.upper(), f" {subprotocol} "):
        assert OcppVersion.from_label(spelling) is version


@pytest.mark.parametrize(
    ("segment", "version"),
    [("1.6", V16), ("1.6j", V16), ("1.6J", V16), ("2.0.1", V201), ("2.1", V21)]
    + [(other, None) for other in ("", "1.5", "2.0", "2.0.1J", "ocpp1.6", "1.6 ", "CP-001")],
)
def test_path_segments(segment: str, version: OcppVersion | None) -> None:
    assert OcppVersion.from_path(segment) is version


@pytest.mark.parametrize(
    ("token", "version"),
    [("ocpp1.6", V16), ("OCPP1.6", V16), ("ocpp1.6j", V16), ("Ocpp1.6J", V16), ("ocpp2.0.1", V201), ("ocpp2.1", V21)]
    + [(other, None) for other in ("", "ocpp", "1.6", "ocpp1.5", "ocpp2.0", "ocpp0.1", "xocpp1.6", "ocppocpp1.6")],
)
def test_subprotocol_tokens(token: str, version: OcppVersion | None) -> None:
    assert OcppVersion.from_subprotocol(token) is version


@pytest.mark.parametrize("text", ["", "1.5", "ocpp", "2", "ocpp 1.6"])
def test_labels_of_no_version(text: str) -> None:
    assert OcppVersion.from_label(text) is None


def test_1_6_keeps_its_historical_spellings() -> None:
    assert ErrorCode.FORMAT_VIOLATION.spelling(V16) == "FormationViolation"
    assert ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION.spelling(V16) == "OccurenceConstraintViolation"
    assert ErrorCode.RPC_FRAMEWORK_ERROR.spelling(V16) == "FormationViolation"
    assert {code.spelling(V16) for code in ErrorCode} == {
        *("NotImplemented", "NotSupported", "InternalError", "ProtocolError", "SecurityError", "FormationViolation"),
        *("PropertyConstraintViolation", "OccurenceConstraintViolation", "TypeConstraintViolation", "GenericError"),
    }


@pytest.mark.parametrize("version", [V201, V21])
def test_2_x_has_twelve_codes(version: OcppVersion) -> None:
    assert {code.spelling(version) for code in ErrorCode} == {
        *("NotImplemented", "NotSupported", "InternalError", "ProtocolError", "SecurityError", "FormatViolation"),
        *("PropertyConstraintViolation", "OccurrenceConstraintViolation", "TypeConstraintViolation", "GenericError"),
        *("MessageTypeNotSupported", "RpcFrameworkError"),
    }


def test_received_codes_are_understood_in_any_spelling() -> None:
    assert ErrorCode.from_spelling("OccurenceConstraintViolation") is ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION
    assert ErrorCode.from_spelling("OccurrenceConstraintViolation") is ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION
    assert ErrorCode.from_spelling("FormationViolation") is ErrorCode.FORMAT_VIOLATION
    assert ErrorCode.from_spelling("FormatViolation") is ErrorCode.FORMAT_VIOLATION
    assert ErrorCode.from_spelling("VendorSpecific") is None


@pytest.mark.parametrize(
    ("version", "folder", "suffix", "from_station", "from_csms"),
    [(V16, "v16", "", 14, 26), (V201, "v201", "Request", 25, 40), (V21, "v21", "Request", 36, 55)],
)
def test_the_tables_name_every_published_schema(
    version: OcppVersion, folder: str, suffix: str, from_station: int, from_csms: int
) -> None:
    assert len(station_actions(version)) == from_station
    assert len(csms_actions(version)) == from_csms
    assert station_actions(version) & csms_actions(version) == {"DataTransfer"}
    assert not send_actions(version) & (station_actions(version) | csms_actions(version))
    pairs = station_actions(version) | csms_actions(version)
    expected = {f"{action}{suffix}.json" for action in pairs} | {f"{action}Response.json" for action in pairs}
    expected |= {f"{action}.json" for action in send_actions(version)}
    files = importlib.resources.files("ocpp") / folder / "schemas"
    assert {file.name for file in files.iterdir() if file.name.endswith(".json")} == expected


def test_2_1_takes_nothing_away() -> None:
    assert station_actions(V201) < station_actions(V21)
    assert csms_actions(V201) < csms_actions(V21)


def test_only_2_1_knows_send() -> None:
    assert [send_actions(version) for version in OcppVersion] == [set(), set(), {"NotifyPeriodicEventStream"}]


def test_billing_data() -> None:
    assert transaction_related(V16) == {"StartTransaction", "StopTransaction", "MeterValues"}
    assert transaction_related(V201) == transaction_related(V21) == {"TransactionEvent", "MeterValues"}
    for version in OcppVersion:
        assert transaction_related(version) < station_actions(version)


@pytest.mark.parametrize(
    ("version", "action", "code"),
    [
        (V16, "Heartbeat", None),
        (V16, "DataTransfer", None),
        (V16, "SignCertificate", None),
        (V16, "Reset", ErrorCode.NOT_SUPPORTED),
        (V16, "TransactionEvent", ErrorCode.NOT_IMPLEMENTED),
        (V16, "Heartbeat-Signed", ErrorCode.NOT_IMPLEMENTED),
        (V16, "heartbeat", ErrorCode.NOT_IMPLEMENTED),
        (V16, "", ErrorCode.NOT_IMPLEMENTED),
        (V16, "../../v201/schemas/HeartbeatRequest", ErrorCode.NOT_IMPLEMENTED),
        (V201, "TransactionEvent", None),
        (V201, "TransactionEvent-Signed", ErrorCode.NOT_SUPPORTED),
        (V201, "Nonsense-Signed", ErrorCode.NOT_IMPLEMENTED),
        (V201, "StartTransaction", ErrorCode.NOT_IMPLEMENTED),
        (V201, "BatterySwap", ErrorCode.NOT_IMPLEMENTED),
        (V21, "BatterySwap", None),
        (V21, "SetVariables", ErrorCode.NOT_SUPPORTED),
        (V21, "NotifyPeriodicEventStream", ErrorCode.NOT_SUPPORTED),
        (V21, "HeartbeatRequest", ErrorCode.NOT_IMPLEMENTED),
    ],
)
def test_who_may_call_what(version: OcppVersion, action: str, code: ErrorCode | None) -> None:
    assert classify(version, action) is code
