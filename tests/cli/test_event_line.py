"""One line for each event, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.cli.event_line import line_of, parse_event, unreadable_line
from ocpp_gateway.cli.events import styled

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    *("eventType", "occurredAt", "chargePointId", "ocppVersion", "payload", "meterValue", "sampledValue"),
    *("transactionInfo", "idToken", "chargingStation", "evseId", "connectorId", "schemaErrors", "idempotent"),
)
EVENT_TYPES = (
    *("StationBooted", "ConnectorStatusChanged", "SessionStarted", "SessionStopped", "MeterValuesReceived"),
    *("SessionEvent", "Authorize", "StationConnected", "StationDisconnected", "ChargerIdentityUpserted"),
    *("StationHeartbeat", "NotifyEvent", "ChargerCertificateRevoked", "HandshakeRefused", "SessionTakenOver"),
)


def event(event_type: str, request: dict[str, Any], **extras: Any) -> dict[str, Any]:
    return {
        "eventType": event_type,
        "occurredAt": "2026-01-02T03:04:05.678Z",
        "chargePointId": "CP-001",
        "ocppVersion": "1.6J",
        "payload": {"action": "X", "payload": request, **extras},
    }


METER = [{"sampledValue": [{"value": "1200", "unit": "Wh"}, {"value": "35", "measurand": "SoC", "unit": "Percent"}]}]


@pytest.mark.parametrize(
    ("given_event", "detail"),
    [
        (event("StationBooted", {"chargePointVendor": "Vendor", "chargePointModel": "M1"}), "Vendor M1"),
        (
            event("StationBooted", {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}),
            "V M PowerUp",
        ),
        (
            event("ConnectorStatusChanged", {"connectorId": 2, "status": "Charging", "errorCode": "NoError"}),
            "connector 2 Charging",
        ),
        (
            event("ConnectorStatusChanged", {"connectorId": 0, "status": "Faulted", "errorCode": "GroundFailure"}),
            "connector 0 Faulted GroundFailure",
        ),
        (
            event("ConnectorStatusChanged", {"evseId": 1, "connectorId": 2, "connectorStatus": "Occupied"}),
            "connector 1.2 Occupied",
        ),
        (
            event("SessionStarted", {"connectorId": 1, "meterStart": 5}, transactionId=77),
            "connector 1 transaction 77 at 5 Wh",
        ),
        (
            event("SessionStopped", {"transactionId": -1, "meterStop": 9, "reason": "Remote"}, idempotent=True),
            "transaction -1 at 9 Wh, Remote [idempotent]",
        ),
        (
            event("MeterValuesReceived", {"connectorId": 1, "transactionId": 7, "meterValue": METER}, orphaned=True),
            "connector 1 transaction 7 1200 Wh, 35 % [orphaned]",
        ),
        (
            event(
                "SessionEvent",
                {
                    "eventType": "Ended",
                    "seqNo": 4,
                    "triggerReason": "RemoteStop",
                    "transactionInfo": {"transactionId": "12345678-90ab", "stoppedReason": "Remote"},
                },
            ),
            "Ended #4 transaction 12345678 RemoteStop Remote",
        ),
        (event("Authorize", {"idToken": {"idToken": "ABC", "type": "Central"}}), "token ABC"),
        (event("NotifyEvent", {"seqNo": 1}, schemaErrors=["x"]), '{"seqNo": 1} [breaks the schema]'),
        (event("StationHeartbeat", {}), ""),
    ],
)
def test_what_happened_is_said_in_words(given_event: dict[str, Any], detail: str) -> None:
    line = line_of(given_event, "ocpp.station.events")
    assert line.detail == detail
    assert line.text().startswith("03:04:05.678  CP-001       1.6J   " + given_event["eventType"])


ACTOR = {"actorId": "someone", "reason": "why"}


@pytest.mark.parametrize(
    ("event_type", "payload", "detail"),
    [
        ("ChargerIdentityUpserted", {"change": "disabled", **ACTOR}, "disabled by someone: why"),
        (
            "ChargerIdentityUpserted",
            {"change": "certificate_bound", "fingerprint": "AB", "actorId": "someone"},
            "certificate_bound AB by someone",
        ),
        (
            "ChargerCertificateRevoked",
            {"fingerprint": "AB", "expiresInSeconds": 5, **ACTOR},
            "AB for 5 s by someone: why",
        ),
        ("ChargerCertificateUnrevoked", {"fingerprint": "AB", **ACTOR}, "AB by someone: why"),
        (
            "HandshakeRefused",
            {"reason": "mtls_revoked", "status": 403, "peer": "10.0.0.7"},
            "reason mtls_revoked, status 403, peer 10.0.0.7",
        ),
        ("SessionRevoked", {"reason": "status_inactive"}, "reason status_inactive"),
    ],
)
def test_what_was_done_and_why(event_type: str, payload: dict[str, Any], detail: str) -> None:
    assert line_of({"eventType": event_type, "payload": payload}, "t").detail == detail


def test_the_latest_meter_value_counts() -> None:
    later = {"sampledValue": [{"value": 1300, "unitOfMeasure": {"unit": "Wh"}}]}
    line = line_of(event("MeterValuesReceived", {"evseId": 1, "meterValue": [*METER, later]}), "t")
    assert line.detail == "connector 1 1300 Wh"


def test_a_terminal_obeys_nothing_that_a_charge_point_wrote() -> None:
    line = line_of(event("StationBooted", {"chargePointVendor": "\x1b[2J\x9b31m", "chargePointModel": "a\nb\r"}), "t")
    assert line.text().isprintable()
    assert "[2J" in line.detail


@given(
    st.sampled_from(EVENT_TYPES),
    st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=6),
    st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=6),
)
def test_every_event_gets_one_printable_line(
    event_type: str, members: dict[str, Any], request_: dict[str, Any]
) -> None:
    whole = {**members, "eventType": event_type, "payload": {"payload": request_}}
    text = line_of(whole, "t").text()
    assert text.isprintable()
    assert len(text) < 330


@given(st.binary(max_size=300))
def test_every_record_gets_a_line(value: bytes) -> None:
    parsed = parse_event(value)
    text, style = styled(parsed, value, "topic")
    assert text.isprintable()
    assert (style == "red") == (parsed is None)


def test_a_record_that_is_no_event_is_shown_as_it_is() -> None:
    assert parse_event(b'{"eventType": 1}') is None
    assert parse_event(b"[1]") is None
    assert "topic: hello" in unreadable_line(b"hello", "topic").text()
    assert parse_event(json.dumps(event("X", {})).encode()) == event("X", {})
