"""Secrets leave no payload; what is no secret stays as it came."""

from __future__ import annotations

import re
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
        ("DataTransfer", b'{ "data":"a<token b, tokens: 3, key: 4, @: 5" }'),
    ],
)
def test_what_holds_no_secret_stays_byte_for_byte(action: str, raw: bytes) -> None:
    assert redact(action, raw) == raw


@pytest.mark.parametrize(
    "text",
    [
        r"ftp:\/\/user:hunter2@host\/x",
        r"ftp:\\\/\\\/user:hunter2@host",
        "ftp://user:p@hunter2@host/x",
        "ftp://user:p/hunter2@host/x",
        "ftp://bob@example.com:hunter2@host/x",
        r"{\"password\":\"hunter2\",\"a\":1}",
        r"\\\"password\\\" : \\\"my hunter2\\\"",
        r'"\u0070assword":"hunter2"',
        r"\u0022password\u0022:\u0022hunter2\u0022",
        'password="my long hunter2"',
        r'password="my \"long\" hunter2"',
        "password='my long hunter2'",
        "password='never ends, hunter2",
        "password: my long hunter2",
        "AuthorizationKey=ab,hunter2",
        "password: &hunter2",
        "password=ab;hunter2&hunter2",
        "--password=hunter2",
        "x.wifi_psk = hunter2",
        "Authorization: Token hunter2",
        "Authorization: Basic hunter2",
        "proxy-authorization: Custom a b hunter2",
        "authToken=hunter2",
        "token: hunter2",
        "https://example.com/x?token=hunter2",
        "vpnKey=hunter2",
        "wpa2-key=hunter2",
        "passphrase=hunter2",
        "API key: hunter2",
        '"credentials":{"user":"}","x":"hunter2"},"a":1',
        '"credentials":["a","hunter2"],"a":1',
        '"credentials":{"user":"hunter2',
        '"key":"AuthorizationKey","readonly":false,"value":"hunter2"',
        '"value":"hunter2","key":"AuthorizationKey"',
        r"\"key\":\"AuthorizationKey\",\"value\":\"hunter2\"",
        "key=AuthorizationKey&value=hunter2",
        '"variable":{"name":"BasicAuthPassword"},"attributeValue":"hunter2"',
        '"variable":{"name":"BasicAuthPassword"},"variableAttribute":[{"type":"Actual","value":"hunter2"}]',
        '"actualValue":"hunter2","variable":{"name":"BasicAuthPassword"}',
        "<password>hunter2</password>",
        r"<password>hunter2<\/password>",
        '<ns:Password type="plain">hunter2</ns:Password>',
        "<password>hunter2",
        "<credentials><a>1</a><b>hunter2</b></credentials>",
        '<wifi password="my hunter2"/>',
        '<param name="password" value="hunter2"/>',
    ],
)
@pytest.mark.parametrize("wrap", ["{}", '[2,"1","X",{{"idTag":"T",{},,', "see {}"])
def test_secret_in_text_is_hidden(text: str, wrap: str) -> None:
    wrapped = wrap.format(text)
    in_frame = redact_text(wrapped)
    assert "hunter2" not in in_frame
    assert "***" in in_frame
    in_data = orjson.loads(redact("DataTransfer", orjson.dumps({"data": wrapped})))["data"]
    assert "hunter2" not in in_data
    assert "***" in in_data


def test_digest_header_is_hidden_to_its_end() -> None:
    header = 'Authorization: Digest username="u", response="hunter2"\r\nHost: example.com'
    redacted = redact("DataTransfer", orjson.dumps({"data": header}))
    assert redacted == b'{"data":"Authorization: ***\\r\\nHost: example.com"}'
    frame = orjson.dumps([2, "1", "DataTransfer", {"data": header, "x": 1}]).decode() + ","
    assert "hunter2" not in redact_text(frame)
    assert redact_text(frame).endswith('***","x":1}],')


TELLING_NAMES = [
    "authToken",
    "token",
    "access_token",
    "apiToken",
    "credentials",
    "credential",
    "vpnKey",
    "wpaKey",
    "passphrase",
    "wifiPassphrase",
    "password",
    "Wifi-Password",
    "AuthorizationKey",
    "authorization",
    "clientSecret",
    "pre_shared_key",
    "simPin",
    "wifiPsk",
]


@pytest.mark.parametrize("name", TELLING_NAMES)
def test_telling_names(name: str) -> None:
    for secret in (SECRET, [SECRET], {"hex": SECRET}, {"deep": [{"x": SECRET}]}):
        redacted = orjson.loads(redact("DataTransfer", orjson.dumps({"data": {name: secret, "idTag": "T"}})))
        assert SECRET not in str(redacted)
        assert redacted["data"]["idTag"] == "T"
    assert SECRET not in redact_text(f'{{"{name}":"{SECRET}"')
    assert SECRET not in redact_text(f"<{name}>{SECRET}</{name}>")


@pytest.mark.parametrize("name", TELLING_NAMES)
def test_yes_no_and_nothing_are_no_secrets(name: str) -> None:
    raw = orjson.dumps({"a": {name: None}, "b": {name: True}}, option=orjson.OPT_INDENT_2)
    assert redact("DataTransfer", raw) == raw


@pytest.mark.parametrize(
    "payload",
    [
        {"idToken": {"idToken": "ABC", "type": "KeyCode", "additionalInfo": []}},
        {"idTag": "password=1", "parentIdTag": "ftp://a:b@c"},
        {"idTokenInfo": {"groupIdToken": {"idToken": "token=1", "type": "Central"}}},
        {"id_token": "A", "rfid-token": "B", "rfidToken": "C"},
        {"data": "idTag=A, idToken: B; id_token=C"},
        {"data": '<idToken type="ISO14443">A</idToken>'},
        {"data": '{"idToken":{"idToken":"A","type":"KeyCode"}}'},
        {"token": {"idToken": {"idToken": "A", "type": "ISO14443"}}},
        {"authorization": {"idTag": "A"}},
    ],
)
def test_who_charges_is_no_secret(payload: dict[str, Any]) -> None:
    raw = orjson.dumps(payload, option=orjson.OPT_INDENT_2)
    assert redact("DataTransfer", raw) == raw
    assert redact_text('[2,"1","X",{"idTag":"A","idToken":{"idToken":"B","type":"KeyCode"},,') == (
        '[2,"1","X",{"idTag":"A","idToken":{"idToken":"B","type":"KeyCode"},,'
    )


def test_driver_stays_where_a_secret_goes() -> None:
    payload = {"authorization": {"idTag": "A", "password": SECRET}}
    assert redact("DataTransfer", orjson.dumps(payload)) == b'{"authorization":{"idTag":"A","password":"***"}}'


@pytest.mark.parametrize("start", ["", " ", "\r\n\t "])
def test_json_in_a_string_may_start_with_space(start: str) -> None:
    data = start + orjson.dumps({"key": "psk", "value": "a " + SECRET}).decode()
    for _ in range(3):
        redacted = redact("DataTransfer", orjson.dumps({"vendorId": "v", "data": data}))
        assert SECRET.encode() not in redacted
        assert orjson.loads(redacted)["vendorId"] == "v"
        data = start + orjson.dumps(data).decode()  # a string in a string


def test_value_below_the_name_of_a_secret_is_hidden() -> None:
    payload = {"variable": {"name": "BasicAuthPassword"}, "variableAttribute": {"type": "Actual", "value": SECRET}}
    assert SECRET.encode() not in redact("NotifyReport", orjson.dumps(payload))


def test_vpn_and_login_tell_in_company_only() -> None:
    for payload in ({"server": "s", "user": "u", "key": SECRET}, {"user": "u", "pass": SECRET}):
        assert SECRET.encode() not in redact("DataTransfer", orjson.dumps(payload))
    raw = b'{"key": "HeartbeatInterval", "value": "30", "test": {"pass": 12, "fail": 0}}'
    assert redact("DataTransfer", raw) == raw


def anything(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
        lambda children: st.lists(children, max_size=3) | st.dictionaries(text, children, max_size=4),
    )


json_values = anything(st.text() | st.sampled_from(["key", "value", "password", "variable", "name", "token", "{", '"']))


@given(st.dictionaries(st.text(), json_values))
def test_any_payload_stays_a_json_object(payload: dict[str, Any]) -> None:
    redacted = redact("DataTransfer", orjson.dumps(payload))
    assert orjson.loads(redacted).keys() == payload.keys()
    assert redact("DataTransfer", redacted) == redacted


without_telling_words = st.text().filter(
    lambda text: not re.search("pass|psk|pwd|secret|token|auth|cred|pin|key|user|login|@", text, re.IGNORECASE)
)
ORDINARY = [
    *("key", "Keys", "publicKey", "KeyCode", "idToken", "idTag", "tokenReader", "pinned", "shipping", "compass"),
    *("name", "value", "data", "variable", "passed", "authorize", "LocalAuthListEnabled", "MasterPassGroupId"),
    *("http://host:8080/a", "ftp://host/x", "ops@example.com", "https://host:8080/x?mail=a@b.example", "user@"),
    *(
        " ",
        "=",
        ":",
        ": ",
        ",",
        ";",
        "&",
        '"',
        "'",
        "\\",
        "\\u00e9",
        "<",
        ">",
        "</",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "é",
        "1.00",
    ),
]


@given(
    st.dictionaries(
        st.sampled_from(["vendorId", "messageId", "data", "key", "value", "name", "variable", "idToken"]),
        anything(without_telling_words | st.lists(st.sampled_from(ORDINARY), max_size=8).map("".join)),
    ),
    st.sampled_from([0, orjson.OPT_INDENT_2]),
)
def test_payload_without_telling_words_stays_byte_for_byte(payload: dict[str, Any], option: int) -> None:
    raw = orjson.dumps(payload, option=option)
    assert redact("DataTransfer", raw) == raw


@st.composite
def payloads_with_a_secret(draw: st.DrawFn) -> dict[str, Any]:
    secret = draw(st.text(max_size=5)) + SECRET + draw(st.text(max_size=5))  # with quotes, backslashes, line ends...
    name = draw(st.sampled_from(["password", "AuthorizationKey", "authToken", "wpaKey", "BasicAuthPassword"]))
    item: Any = draw(
        st.sampled_from(
            [
                {name: secret, "idTag": "T"},
                {"key": name, "readonly": False, "value": secret},
                {"variable": {"name": name}, "component": {"name": "x"}, "actualValue": secret},
                {"variable": {"name": name}, "variableAttribute": [{"type": "Actual", "value": secret}]},
            ]
        )
    )
    for wrapper in draw(st.lists(st.sampled_from(["string", "list", "object"]), max_size=5)):
        if wrapper == "string":
            item = draw(st.sampled_from(["", " ", "\n"])) + orjson.dumps(item).decode()
        else:
            item = [1, item] if wrapper == "list" else {"idTag": "T", "x": item, "y": "z"}
    around = st.text(st.characters(exclude_characters="*", codec="utf-8"), max_size=3)
    return {"vendorId": draw(around), "data": item, "messageId": draw(around)}


@given(payloads_with_a_secret())
def test_redacted_payload_is_json_without_the_secret(payload: dict[str, Any]) -> None:
    redacted = redact("DataTransfer", orjson.dumps(payload))
    assert SECRET.encode() not in redacted
    assert redacted.count(b"***") == 1
    assert orjson.loads(redacted).keys() == payload.keys()
    assert orjson.loads(redacted)["messageId"] == payload["messageId"]


@given(payloads_with_a_secret(), st.integers(0, 40), st.booleans())
def test_broken_frame_is_without_the_secret(payload: dict[str, Any], cut: int, spaced: bool) -> None:
    frame = orjson.dumps([2, "1", "DataTransfer", payload], option=orjson.OPT_INDENT_2 if spaced else 0).decode()
    assert SECRET not in redact_text(frame[: len(frame) - cut])
    assert SECRET not in redact_text(frame.replace("/", "\\/") + ",")


def test_json_within_json_is_followed_only_so_far() -> None:
    data = SECRET
    for _ in range(8):
        data = orjson.dumps({"password": data}).decode() if data == SECRET else orjson.dumps({"data": data}).decode()
    assert SECRET.encode() not in redact("DataTransfer", orjson.dumps({"data": data}))
    nested = "[" * 900 + f'{{"password":"{SECRET}"}}' + "]" * 900
    assert SECRET.encode() not in redact("DataTransfer", orjson.dumps({"data": nested}))


HOSTILE = [
    *("a", "auth", "a=", "a= '", "://a:", "://", "://a:@", "a        ", "password", "{", '{"', "===", "\\", '\\"', "@"),
    *("psk=1\n", "psk=1 ", "psk= ", 'psk="', 'psk=\\"', 'psk=["', "psk={}", '"token":{', 'authorization:a "', "pass"),
    *(
        "secret",
        "secret.",
        "secret" * 9 + "x ",
        "key:a,",
        '"key":"',
        "<psk>",
        "</psk>",
        "<psk ",
        "<",
        "<" + "secret" * 10,
    ),
    *(
        "\\u0070",
        "\\\\u0070",
        "\\u00",
        "user:p@",
        "wifi ",
        "\u0130",
        "psk:\u0130\n",
        '"psk":1,',
        'psk=a \\"',
        "id_token=",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("start", ["password ", 'password="', "key=psk ", "://a:b", "<psk>", "token:["])
def test_no_text_takes_long(start: str, piece: str) -> None:
    """260 kB from a charge point must not hold the reactor up; a quadratic search would take seconds."""
    text = start + piece * (260_000 // len(piece))
    raw = orjson.dumps({"data": text})
    started = time.process_time()
    redact_text(text)
    between = time.process_time()
    redact("DataTransfer", raw)
    assert max(between - started, time.process_time() - between) < 0.25  # 0.05 when nothing else runs


@pytest.mark.parametrize(
    "item",
    [
        '"a"',
        "{}",
        "[]",
        '{"a":1}',
        '"key:"',
        '"psk=1"',
        '"{psk="',
        '{"psk":1}',
        '"<psk>"',
        '"{\\"psk\\":1}"',
        '"://a:b@"',
    ],
)
def test_no_object_takes_long(item: str) -> None:
    raw = ('{"psk":1,"data":[' + ",".join([item] * (260_000 // (len(item) + 1))) + "]}").encode()
    started = time.process_time()
    redacted = redact("DataTransfer", raw)
    assert time.process_time() - started < 0.25
    assert orjson.loads(redacted)["psk"] == "***"


def test_after_very_many_secrets_all_suspicious_text_is_hidden() -> None:
    data = ["psk=1 A"] * 10_000 + ["password=" + SECRET, "plain"]
    redacted = redact("DataTransfer", orjson.dumps({"data": data}))
    assert SECRET.encode() not in redacted
    assert orjson.loads(redacted)["data"][-2:] == ["***", "plain"]
    assert SECRET not in redact_text("psk='1'\n" * 10_000 + SECRET)


def test_text_is_redacted_where_it_assigns() -> None:
    assert redact_text('[2,"1","X",{"AuthorizationKey":"abc","idTag":"T",,}]') == (
        '[2,"1","X",{"AuthorizationKey":"***","idTag":"T",,}]'
    )
    assert redact_text("see ftp://u:p@host/ and a=b") == "see ftp://u:***@host/ and a=b"
