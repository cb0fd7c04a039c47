"""Secrets leave no payload; what is no secret stays as it came."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.routing.redaction import redact, redact_text

SECRET = "hunter-2-is-long"


def reported(variable: str) -> dict[str, Any]:
    return {
        "requestId": 1,
        "reportData": [
            {
                "component": {"name": "SecurityCtrlr"},
                "variable": {"name": variable},
                "variableAttribute": [{"type": "Actual", "value": SECRET, "mutability": "WriteOnly"}, {}],
            },
            {
                "component": {"name": "ClockCtrlr"},
                "variable": {"name": "DateTime"},
                "variableAttribute": [{"value": "2026-01-01T00:00:00Z"}],
            },
        ],
    }


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("NotifyReport", reported("BasicAuthPassword")),
        ("NotifyEvent", {"eventData": [{"variable": {"name": "basicAuthPassword"}, "actualValue": SECRET}]}),
        ("GetConfiguration", {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": SECRET}]}),
        ("ChangeConfiguration", {"key": "Vendor.Wifi-Password", "value": SECRET}),
        ("DataTransfer", {"vendorId": "v", "data": SECRET, "key": "AuthorizationKey"}),
        ("DataTransfer", {"vendorId": "v", "data": f"AuthorizationKey={SECRET};x=1"}),
        ("DataTransfer", {"vendorId": "v", "data": f"Authorization: Basic {SECRET}"}),
        ("DataTransfer", {"vendorId": "v", "data": f"'wifi_password' : '{SECRET}'"}),
        ("DataTransfer", {"vendorId": "v", "data": orjson.dumps({"authorization_key": SECRET}).decode()}),
        ("DataTransfer", {"vendorId": "v", "data": orjson.dumps([{"key": "PSK", "value": SECRET}]).decode()}),
        ("DataTransfer", {"vendorId": "v", "data": '{"password":"' + SECRET}),
        ("DataTransfer", {"vendorId": "v", "data": {"nested": [{"apiKey": {"hex": SECRET}}]}}),
        ("DataTransfer", {"vendorId": "v", "data": {"variable": "psk", "value": {"hex": [SECRET]}}}),
        ("SetNetworkProfile", {"connectionData": {"basicAuthPassword": SECRET, "apn": {"apnPassword": SECRET}}}),
        ("SetNetworkProfile", {"vpn": {"server": "s", "user": "u", "password": SECRET, "key": SECRET, "type": "PPTP"}}),
        ("LogStatusNotification", {"statusInfo": {"additionalInfo": f"ftp://user:{SECRET}@example.com/log"}}),
    ],
)
def test_secret_is_hidden(action: str, payload: dict[str, Any]) -> None:
    redacted = redact(action, orjson.dumps(payload))
    assert SECRET.encode() not in redacted
    assert b"***" in redacted
    assert orjson.loads(redacted).keys() == payload.keys()
    assert redact(action, redacted) == redacted


def test_name_spelt_with_escapes_is_found() -> None:
    assert SECRET.encode() not in redact("DataTransfer", rb'{"\u0070sk":"' + SECRET.encode() + b'"}')


def test_what_surrounds_a_secret_stays() -> None:
    redacted = orjson.loads(redact("NotifyReport", orjson.dumps(reported("BasicAuthPassword"))))
    expected = reported("BasicAuthPassword")
    expected["reportData"][0]["variableAttribute"][0]["value"] = "***"
    assert redacted == expected


@pytest.mark.parametrize(
    ("action", "raw"),
    [
        ("NotifyReport", orjson.dumps(reported("OrganizationName"))),
        ("Authorize", b'{"idTag":"password"}'),
        ("MeterValues", b'{"password":"a charge point has no business here"}'),
        ("DataTransfer", b'{ "vendorId" : "keys and tokens", "data": "1.00", "n": 1.00 }'),
        ("NotifySettlement", b'{"receiptUrl":"https://example.com/receipt?id=1"}'),
        ("BootNotification", b'{"chargePointModel":"Authorization"}'),
        ("DataTransfer", b'{"data":"{\\"key\\": 1.00, broken"}'),
        ("DataTransfer", b'{"data":"[1.00]","key":null}'),
    ],
)
def test_what_holds_no_secret_stays_byte_for_byte(action: str, raw: bytes) -> None:
    assert redact(action, raw) == raw


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["key", "value", "password", "variable"]), children, max_size=4)
    ),
)


@given(st.dictionaries(st.text(), json_values))
def test_any_payload_stays_a_json_object(payload: dict[str, Any]) -> None:
    assert orjson.loads(redact("DataTransfer", orjson.dumps(payload))).keys() == payload.keys()


def test_json_within_json_is_followed_only_so_far() -> None:
    data = SECRET
    for _ in range(8):
        data = orjson.dumps({"password": data}).decode() if data == SECRET else orjson.dumps({"data": data}).decode()
    assert SECRET.encode() not in redact("DataTransfer", orjson.dumps({"data": data}))
    nested = "[" * 900 + f'{{"password":"{SECRET}"}}' + "]" * 900
    assert SECRET.encode() not in redact("DataTransfer", orjson.dumps({"data": nested}))


@pytest.mark.parametrize(
    "piece", ["a", "auth", "a=", "a= '", "://a:", "://", "a        ", "password", "{", '{"', "=" * 3]
)
def test_no_text_takes_long(piece: str) -> None:
    """64 KiB from a charge point must not hold the reactor up; a quadratic search would take seconds."""
    raw = orjson.dumps({"data": "password " + piece * (65_000 // len(piece))})
    started = time.process_time()
    redact("DataTransfer", raw)
    assert time.process_time() - started < 0.2


def test_text_is_redacted_where_it_assigns() -> None:
    assert redact_text('[2,"1","X",{"AuthorizationKey":"abc","idTag":"T",,}]') == (
        '[2,"1","X",{"AuthorizationKey":"***","idTag":"T",,}]'
    )
    assert redact_text("see ftp://u:p@host/ and a=b") == "see ftp://u:***@host/ and a=b"
