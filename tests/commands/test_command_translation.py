"""A command in the words of each version: what comes out satisfies the version's own schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from adapters.schema_samples import sample_request
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.commands.translation import Untranslatable, translate
from ocpp_gateway.ocppj.actions import csms_actions, station_actions
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion

SCHEMAS = Schemas.load()
V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21
EACH_2X = (V201, V21)

START_ID = 4711
CENTRAL = {"idToken": "TAG-1", "type": "Central"}
DATE = "2026-11-22T12:00:00Z"
URL = "https://example.com/firmware.bin"


def translated(
    command_type: str, payload: dict[str, Any], version: OcppVersion, connector_id: int | None = None
) -> tuple[str, dict[str, Any]]:
    before = copy.deepcopy(payload)
    result = translate(command_type, payload, version, connector_id=connector_id, new_start_id=lambda: START_ID)
    assert payload == before
    return result


def sound(
    command_type: str, payload: dict[str, Any], version: OcppVersion, connector_id: int | None = None
) -> tuple[str, dict[str, Any]]:
    action, result = translated(command_type, payload, version, connector_id)
    assert SCHEMAS.request(version, action).violation(result) is None
    return action, result


def broken(command_type: str, payload: dict[str, Any], version: OcppVersion, connector_id: int | None = None) -> str:
    action, result = translated(command_type, payload, version, connector_id)
    violation = SCHEMAS.request(version, action).violation(result)
    assert violation is not None
    return f"{violation.path}: {violation.message}"


@pytest.mark.parametrize(
    ("payload", "connector_id", "expected"),
    [
        ({"idTag": "TAG-1"}, None, {"idTag": "TAG-1"}),
        ({"idTag": "TAG-1", "connectorId": 2}, 1, {"idTag": "TAG-1", "connectorId": 2}),
        ({"idTag": "TAG-1"}, 1, {"idTag": "TAG-1", "connectorId": 1}),
        ({"idTag": "TAG-1"}, 0, {"idTag": "TAG-1"}),
        ({"idToken": "TAG-1", "evseId": 2}, 1, {"idTag": "TAG-1", "connectorId": 2}),
        ({"idToken": CENTRAL, "remoteStartId": 9}, None, {"idTag": "TAG-1"}),
    ],
)
def test_remote_start_16(payload: dict[str, Any], connector_id: int | None, expected: dict[str, Any]) -> None:
    assert sound("RemoteStart", payload, V16, connector_id) == ("RemoteStartTransaction", expected)


@pytest.mark.parametrize("version", EACH_2X)
@pytest.mark.parametrize(
    ("payload", "connector_id", "expected"),
    [
        ({"idTag": "TAG-1"}, None, {"idToken": CENTRAL, "remoteStartId": START_ID}),
        ({"idTag": "TAG-1", "connectorId": 2}, 1, {"idToken": CENTRAL, "evseId": 2, "remoteStartId": START_ID}),
        ({"idToken": "TAG-1"}, 1, {"idToken": CENTRAL, "evseId": 1, "remoteStartId": START_ID}),
        ({"idToken": "TAG-1"}, 0, {"idToken": CENTRAL, "remoteStartId": START_ID}),
        (
            {"idToken": {"idToken": "A", "type": "ISO14443"}, "evseId": 3, "remoteStartId": 9},
            1,
            {"idToken": {"idToken": "A", "type": "ISO14443"}, "evseId": 3, "remoteStartId": 9},
        ),
    ],
)
def test_remote_start_2x(
    version: OcppVersion, payload: dict[str, Any], connector_id: int | None, expected: dict[str, Any]
) -> None:
    assert sound("RemoteStart", payload, version, connector_id) == ("RequestStartTransaction", expected)


def test_remote_stop() -> None:
    for payload in (
        {"sessionId": "17"},
        {"sessionId": 17},
        {"transactionId": 17},
        {"transactionId": 17, "sessionId": 5},
    ):
        assert sound("RemoteStop", payload, V16) == ("RemoteStopTransaction", {"transactionId": 17})
        for version in EACH_2X:
            assert sound("RemoteStop", payload, version) == ("RequestStopTransaction", {"transactionId": "17"})
    assert sound("RemoteStop", {"sessionId": "-1"}, V16)[1] == {"transactionId": -1}
    for text in ("b3ab7c8e-f2ab", "1" * 5000, "\u0661", "1.0", ""):
        assert broken("RemoteStop", {"sessionId": text}, V16) == "/transactionId: not of type integer"
    assert broken("RemoteStop", {}, V16) == "/transactionId: missing"


@pytest.mark.parametrize(
    ("said", "in_16", "in_2x"),
    [
        ("Hard", "Hard", "Immediate"),
        ("Soft", "Soft", "OnIdle"),
        ("Immediate", "Hard", "Immediate"),
        ("OnIdle", "Soft", "OnIdle"),
    ],
)
def test_reset(said: str, in_16: str, in_2x: str) -> None:
    assert sound("Reset", {"type": said}, V16, 1) == ("Reset", {"type": in_16})
    for version in EACH_2X:
        assert sound("Reset", {"type": said}, version, 1) == ("Reset", {"type": in_2x})
        assert sound("Reset", {"type": said, "evseId": 2}, version)[1] == {"type": in_2x, "evseId": 2}


def test_what_a_version_cannot_say_is_not_made_into_something_else() -> None:
    assert broken("Reset", {"type": "Immediate", "evseId": 2}, V16) == ": unknown member 'evseId'"
    assert broken("Reset", {"type": "ImmediateAndResume"}, V16).startswith("/type: not one of")
    assert broken("Reset", {"type": "ImmediateAndResume"}, V201).startswith("/type: not one of")
    assert sound("Reset", {"type": "ImmediateAndResume"}, V21)[1] == {"type": "ImmediateAndResume"}
    assert broken("Reset", {"type": ["Hard"]}, V201) == "/type: not of type string"
    assert broken("Reset", {}, V16) == "/type: missing"
    second_connector = {"evseId": 1, "connectorId": 2}
    assert broken("UnlockConnector", second_connector, V16) == ": unknown member 'evseId'"
    trigger = {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 2}}
    assert broken("TriggerMessage", trigger, V16) == ": unknown member 'evse'"
    signed = {"location": URL, "retrieveDateTime": DATE, "signature": "x"}
    assert broken("UpdateFirmware", {"firmware": signed}, V16) == "/location: missing"


@pytest.mark.parametrize(
    ("payload", "connector_id", "in_16", "in_2x"),
    [
        ({"connectorId": 2}, None, 2, (2, 1)),
        ({}, 2, 2, (2, 1)),
        ({"connectorId": 2}, 1, 2, (2, 1)),
        ({"evseId": 2}, None, 2, (2, 1)),
        ({"evseId": 2}, 0, 2, (2, 1)),
        ({"evseId": 2, "connectorId": 1}, None, 2, (2, 1)),
    ],
)
def test_unlock_connector(
    payload: dict[str, Any], connector_id: int | None, in_16: int, in_2x: tuple[int, int]
) -> None:
    assert sound("UnlockConnector", payload, V16, connector_id)[1] == {"connectorId": in_16}
    for version in EACH_2X:
        evse_id, connector = in_2x
        expected = {"evseId": evse_id, "connectorId": connector}
        assert sound("UnlockConnector", payload, version, connector_id)[1] == expected


def test_unlock_the_second_connector_of_an_evse() -> None:
    assert sound("UnlockConnector", {"evseId": 1, "connectorId": 2}, V201)[1] == {"evseId": 1, "connectorId": 2}
    assert sound("UnlockConnector", {"evseId": 1}, V201, 2)[1] == {"evseId": 1, "connectorId": 2}
    assert broken("UnlockConnector", {}, V201) == "/evseId: missing"


def test_update_firmware() -> None:
    as_16 = {"location": URL, "retrieveDate": DATE, "retries": 3, "retryInterval": 60}
    firmware = {"location": URL, "retrieveDateTime": DATE}
    as_2x = {"requestId": START_ID, "firmware": firmware, "retries": 3, "retryInterval": 60}
    assert sound("UpdateFirmware", as_16, V16)[1] == as_16
    assert sound("UpdateFirmware", as_2x, V16)[1] == as_16
    for version in EACH_2X:
        assert sound("UpdateFirmware", as_16, version)[1] == as_2x
        assert sound("UpdateFirmware", {**as_2x, "requestId": 5}, version)[1] == {**as_2x, "requestId": 5}
        signed = {**firmware, "installDateTime": DATE, "signingCertificate": "PEM", "signature": "c2ln"}
        assert sound("UpdateFirmware", signed, version)[1] == {"requestId": START_ID, "firmware": signed}
        assert sound("UpdateFirmware", {"firmware": signed}, version)[1]["requestId"] == START_ID


def test_trigger_message() -> None:
    heartbeat = {"requestedMessage": "Heartbeat"}
    status = {"requestedMessage": "StatusNotification"}
    for version in OcppVersion:
        assert sound("TriggerMessage", heartbeat, version)[1] == heartbeat
        assert sound("TriggerMessage", heartbeat, version, 0)[1] == heartbeat
    meter = {"requestedMessage": "MeterValues"}
    for payload, connector_id in (({"connectorId": 2}, 1), ({"evse": {"id": 2}}, 1), ({}, 2)):
        assert sound("TriggerMessage", {**meter, **payload}, V16, connector_id)[1] == {**meter, "connectorId": 2}
        for version in EACH_2X:
            assert sound("TriggerMessage", {**meter, **payload}, version, connector_id)[1] == {
                **meter,
                "evse": {"id": 2},
            }
    of_connector = {**status, "evse": {"id": 2, "connectorId": 1}}
    for version in EACH_2X:
        assert sound("TriggerMessage", {**status, "connectorId": 2}, version)[1] == of_connector
        assert sound("TriggerMessage", status, version, 2)[1] == of_connector
    assert sound("TriggerMessage", of_connector, V16)[1] == {**status, "connectorId": 2}


def test_change_configuration_is_for_16_only() -> None:
    payload = {"key": "HeartbeatInterval", "value": "300"}
    assert sound("ChangeConfiguration", payload, V16) == ("ChangeConfiguration", payload)
    for version in EACH_2X:
        with pytest.raises(Untranslatable) as raised:
            translated("ChangeConfiguration", payload, version)
        assert raised.value.reason == "not_in_version"
        assert raised.value.text == f"Command not available in OCPP {version.label}"


@pytest.mark.parametrize("version", OcppVersion)
def test_every_action_goes_by_its_own_name_with_its_own_payload(version: OcppVersion) -> None:
    for action in csms_actions(version):
        payload = sample_request(version, action)
        name, result = translated(action, payload, version)
        assert (name, result) == (action, payload)


def test_a_start_by_its_own_name_gets_its_remote_start_id() -> None:
    payload = {"idToken": CENTRAL}
    expected = {"idToken": CENTRAL, "remoteStartId": START_ID}
    assert sound("RequestStartTransaction", payload, V201) == ("RequestStartTransaction", expected)
    # Nothing else of it is translated.
    assert broken("RequestStartTransaction", {"idTag": "TAG-1"}, V201) == "/idToken: missing"


@pytest.mark.parametrize(
    ("version", "action", "payload", "connector_id", "expected"),
    [
        (V16, "ChangeAvailability", {"type": "Operative"}, 0, {"connectorId": 0}),
        (V16, "ChangeAvailability", {"type": "Operative"}, 2, {"connectorId": 2}),
        (V16, "ChangeAvailability", {"type": "Operative", "connectorId": 1}, 2, {}),
        (V16, "GetCompositeSchedule", {"duration": 60}, 1, {"connectorId": 1}),
        (V16, "RemoteStartTransaction", {"idTag": "A"}, 1, {"connectorId": 1}),
        (V16, "ExtendedTriggerMessage", {"requestedMessage": "MeterValues"}, 1, {"connectorId": 1}),
        (V16, "GetConfiguration", {}, 1, {}),
        (V201, "ChangeAvailability", {"operationalStatus": "Operative"}, 0, {}),
        (V201, "ChangeAvailability", {"operationalStatus": "Operative"}, 2, {"evse": {"id": 2}}),
        (V201, "ChangeAvailability", {"operationalStatus": "Operative", "evse": {"id": 1}}, 2, {}),
        (V21, "GetCompositeSchedule", {"duration": 60}, 0, {"evseId": 0}),
        (V21, "GetCompositeSchedule", {"duration": 60, "evseId": 1}, 2, {}),
        (V21, "RequestStartTransaction", {"idToken": CENTRAL, "remoteStartId": 1}, 2, {"evseId": 2}),
        (V21, "ReserveNow", {"id": 1, "expiryDateTime": DATE, "idToken": CENTRAL}, 2, {"evseId": 2}),
        (V21, "ReserveNow", {"id": 1, "expiryDateTime": DATE, "idToken": CENTRAL}, 0, {}),
        (V21, "ClearCache", {}, 2, {}),
    ],
)
def test_the_commands_connector_stands_in_where_the_payload_names_none(
    version: OcppVersion, action: str, payload: dict[str, Any], connector_id: int, expected: dict[str, Any]
) -> None:
    assert sound(action, payload, version, connector_id) == (action, {**payload, **expected})


def test_actions_of_other_versions_and_none() -> None:
    for version in OcppVersion:
        others = frozenset[str]().union(*(csms_actions(each) for each in OcppVersion)) - csms_actions(version)
        for action in others:
            with pytest.raises(Untranslatable) as raised:
                translated(action, {}, version)
            assert raised.value.reason == "not_in_version"
        for action in (
            *(station_actions(version) - {"DataTransfer"}),
            "reset",
            "Reset ",
            "",
            "RequestStartTransaction-Signed",
        ):
            with pytest.raises(Untranslatable) as raised:
                translated(action, {}, version)
            assert (raised.value.reason, raised.value.text) == ("unsupported_command", "Unsupported command type")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
_MEMBERS = (
    *("idTag", "idToken", "connectorId", "evseId", "evse", "remoteStartId", "sessionId", "transactionId", "type"),
    *("location", "retrieveDate", "retrieveDateTime", "firmware", "requestId", "requestedMessage", "key", "value"),
)


@given(
    st.sampled_from(
        [*("RemoteStart", "RemoteStop", "Reset", "UnlockConnector", "UpdateFirmware", "TriggerMessage"), "ClearCache"]
    ),
    st.dictionaries(st.sampled_from(_MEMBERS), _JSON | st.sampled_from([1, "1", {"id": 1}]), max_size=6),
    st.sampled_from(OcppVersion),
    st.none() | st.integers(0, 2**31 - 1),
)
def test_any_payload_is_translated_or_left(
    command_type: str, payload: dict[str, Any], version: OcppVersion, connector_id: int | None
) -> None:
    """What a back end writes may be anything: the schema judges, and translation neither fails nor changes it."""
    before = copy.deepcopy(payload)
    action, result = translate(command_type, payload, version, connector_id=connector_id, new_start_id=lambda: START_ID)
    assert repr(payload) == repr(before)  # NaN is not itself
    assert action in csms_actions(version)
    assert all(type(name) is str for name in result)
