"""Which commands carry a secret, and where it must not come back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocpp_gateway.commands.secrecy import redacted, secrets_of

PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("ChangeConfiguration", {"key": "AuthorizationKey", "value": PASSWORD}),
        (
            "SetVariables",
            {
                "setVariableData": [
                    {
                        "component": {"name": "SecurityCtrlr"},
                        "variable": {"name": "BasicAuthPassword"},
                        "attributeValue": PASSWORD,
                    },
                    {"component": {"name": "X"}, "variable": {"name": "Interval"}, "attributeValue": "300"},
                ]
            },
        ),
        ("SetNetworkProfile", {"connectionData": {"apn": {"apn": "x", "apnPassword": PASSWORD}}}),
        ("DataTransfer", {"vendorId": "v", "data": {"password": [PASSWORD]}}),
    ],
)
def test_commands_with_a_secret(action: str, payload: dict[str, Any]) -> None:
    assert secrets_of(action, payload) == (PASSWORD,)
    assert PASSWORD not in str(redacted(action, payload))
    assert PASSWORD in str(payload)


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("Reset", {"type": "Soft"}),
        ("RemoteStart", {"idTag": "TAG-1"}),
        ("RequestStartTransaction", {"idToken": {"idToken": "TAG-1", "type": "Central"}}),
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "300"}),
        ("GetConfiguration", {"key": ["AuthorizationKey"]}),
        ("UpdateFirmware", {"location": "https://example.com/f.bin"}),
    ],
)
def test_commands_without(action: str, payload: dict[str, Any]) -> None:
    assert secrets_of(action, payload) == ()
    assert redacted(action, payload) == payload


def test_a_secret_within_a_text_is_looked_for_with_the_text_and_without() -> None:
    password = PASSWORD.replace(" ", "-")
    location = f"ftp://user:{password}@example.com/f.bin"
    assert secrets_of("UpdateFirmware", {"location": location}) == (location, password)


def test_numbers_are_secrets_too_and_the_longest_comes_first() -> None:
    payload = {"pinCode": 0, "password": 123456789, "secret": "12345678"}
    assert secrets_of("DataTransfer", {"data": payload}) == ("123456789", "12345678")


def test_short_secrets_are_not_looked_for_elsewhere() -> None:
    assert redacted("Reset", {"status": "Accepted"}, ("Acc", "")) == {"status": "Accepted"}


_SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=12)


@given(_SECRETS, st.data())
def test_a_secret_comes_back_nowhere(secret: str, data: st.DataObject) -> None:
    texts = st.sampled_from([secret, secret.upper(), secret.lower(), f"<{secret}>", secret * 2, "status", "Accepted"])
    leaves = st.none() | st.booleans() | st.integers(0, 9) | texts
    answer = data.draw(
        st.dictionaries(
            texts,
            st.recursive(
                leaves,
                lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
                max_leaves=6,
            ),
            max_size=3,
        )
    )
    assume(secret.lower() not in "status accepted true false none")
    assert secret.lower() not in str(redacted("DataTransfer", answer, (secret,))).lower()


@given(
    st.dictionaries(
        st.sampled_from(["password", "a", "AuthorizationKey", "value"]),
        st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["x", "y", "pin=1234567", "***"]),
    )
)
def test_what_is_hidden_is_what_is_called_a_secret(payload: dict[str, Any]) -> None:
    hidden = redacted("DataTransfer", payload)
    changed = {str(value) for name, value in payload.items() if hidden[name] != value}
    assert set(secrets_of("DataTransfer", payload)) == changed
