"""Records of cpms.command.requests: any bytes end in a Command or in CommandInvalid, and in nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocpp_gateway.commands.request import MAX_BYTES, Command, CommandInvalid, parse

NOW = 1_795_346_250_000
WRITTEN = NOW - 2_000
REQUESTED = 1_795_346_242_000

RECORD: dict[str, Any] = {
    "commandId": "command-1",
    "commandType": "RemoteStart",
    "chargePointId": "CP-001",
    "payload": {"idTag": "TAG-1", "connectorId": 1},
    "requestedAt": "2026-11-22T11:17:22.000Z",
    "timeoutSec": 30,
}


def read(record: dict[str, Any] | bytes | None, **circumstances: Any) -> Command:
    value = orjson.dumps(record) if isinstance(record, dict) else record
    facts = {"source": "requests:0:7", "timestamp_ms": WRITTEN, "now_ms": NOW, "default_timeout": 15.0, **circumstances}
    return parse(value, **facts)


def defect(record: dict[str, Any] | bytes | None, **circumstances: Any) -> CommandInvalid:
    with pytest.raises(CommandInvalid) as raised:
        read(record, **circumstances)
    return raised.value


def test_a_record_as_the_contract_has_it() -> None:
    record = {
        **RECORD,
        "stationId": "station-1",
        "connectorId": 2,
        "ocppVersion": "1.6J",
        "requestedBy": {"userId": "u-1", "role": "operator", "orgId": "org-1"},
        "deliverWithinSec": 3600,
        "somethingNew": [1, 2],
    }
    assert read(record) == Command(
        command_id="command-1",
        command_type="RemoteStart",
        charge_point_id="CP-001",
        requested_at_ms=REQUESTED,
        timeout_seconds=30.0,
        deliver_within_seconds=3600.0,
        payload={"idTag": "TAG-1", "connectorId": 1},
        station_id="station-1",
        connector_id=2,
        requested_by={"userId": "u-1", "role": "operator", "orgId": "org-1"},
        source="requests:0:7",
    )


def test_what_is_missing_or_null_has_a_default() -> None:
    least = {"commandId": "c", "commandType": "ClearCache", "chargePointId": "CP-001"}
    expected = Command(
        command_id="c",
        command_type="ClearCache",
        charge_point_id="CP-001",
        requested_at_ms=WRITTEN,
        timeout_seconds=15.0,
        source="requests:0:7",
    )
    assert read(least) == expected
    absent = ("payload", "stationId", "connectorId", "requestedBy", "requestedAt", "timeoutSec", "deliverWithinSec")
    assert read({**least, **dict.fromkeys(absent)}) == expected


@pytest.mark.parametrize(
    ("requested_at", "milliseconds"),
    [
        ("2026-11-22T11:17:22Z", REQUESTED),
        ("2026-11-22T11:17:22.345678Z", REQUESTED + 346),
        ("2026-11-22t11:17:22.001z", REQUESTED + 1),
        ("2026-11-22 12:17:22+01:00", REQUESTED),
        ("2026-11-22T12:17:22+0100", REQUESTED),
        ("2026-11-22T11:17:22", REQUESTED),
        ("2026-11-22T11:17Z", REQUESTED - 22_000),
        (REQUESTED, REQUESTED),
        (float(REQUESTED), REQUESTED),
        (-5, 0),
        ("0001-01-01T00:00:00+23:59", 0),
        ("1969-12-31T23:59:59Z", 0),
        ("2027-01-01T00:00:00Z", NOW),  # from the future
        (2**63, NOW),
        (1e300, NOW),
        ("2026-02-30T00:00:00Z", WRITTEN),
        ("2026-11-22", WRITTEN),
        ("soon", WRITTEN),
        ("", WRITTEN),
        (["2026-11-22T11:17:22Z"], WRITTEN),
        (True, WRITTEN),
    ],
)
def test_when_it_was_requested(requested_at: object, milliseconds: int) -> None:
    assert read({**RECORD, "requestedAt": requested_at}).requested_at_ms == milliseconds


@pytest.mark.parametrize(("timestamp", "milliseconds"), [(WRITTEN, WRITTEN), (NOW + 9, NOW), (-1, NOW), (0, NOW)])
def test_the_records_time_stands_in(timestamp: int, milliseconds: int) -> None:
    assert read({**RECORD, "requestedAt": None}, timestamp_ms=timestamp).requested_at_ms == milliseconds


def test_a_command_is_late_when_its_time_to_be_sent_is_over() -> None:
    at_once = read(RECORD)
    assert at_once.send_before_ms == REQUESTED + 30_000
    assert not at_once.is_expired(REQUESTED + 29_999)
    assert at_once.is_expired(REQUESTED + 30_000)
    assert read({**RECORD, "deliverWithinSec": 3600}).send_before_ms == REQUESTED + 3_600_000
    assert read({**RECORD, "deliverWithinSec": 2}).send_before_ms == REQUESTED + 30_000


@pytest.mark.parametrize(
    ("member", "values", "problem"),
    [
        ("commandType", ["", "x" * 65, 5, "a\nb", None], "commandType is not 1 to 64 printable characters"),
        ("chargePointId", ["x" * 256, 5, "CP\x7f", {}], "chargePointId is not 1 to 255 printable characters"),
        ("stationId", ["", "x" * 256, 5, "\u202e"], "stationId is not 1 to 255 printable characters"),
        ("timeoutSec", [0, 0.99, 3600.1, -1, "15", True, 1e308], "timeoutSec is not 1 to 3600"),
        ("deliverWithinSec", [-1, 604_801, "60", False, {}], "deliverWithinSec is not 0 to 604800"),
        ("connectorId", [-1, 2**31, "1", 1.5, True], "connectorId is not a whole number"),
        ("requestedBy", ["me", [], 5], "requestedBy is not an object"),
    ],
)
def test_members_of_another_kind(member: str, values: list[object], problem: str) -> None:
    for value in values:
        found = defect({**RECORD, member: value})
        assert (found.reason, found.text) == ("command_invalid", f"Invalid command: {problem}")
        assert found.command_id == "command-1"
        assert found.command_type == (None if member == "commandType" else "RemoteStart")
        assert found.charge_point_id == (None if member == "chargePointId" else "CP-001")
        assert found.source == "requests:0:7"


@pytest.mark.parametrize("value", [None, "", 5, "x" * 129, "a\tb", ["a"]])
def test_without_a_usable_command_id_nothing_can_be_said_to_anybody(value: object) -> None:
    found = defect({**RECORD, "commandId": value})
    assert (found.reason, found.command_id) == ("command_invalid", None)
    assert (found.command_type, found.charge_point_id) == ("RemoteStart", "CP-001")


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_charge_point(value: str | None) -> None:
    found = defect({**RECORD, "chargePointId": value})
    assert (found.reason, found.text) == ("missing_charge_point_id", "Missing chargePointId")
    assert found.command_id == "command-1"


@pytest.mark.parametrize("value", ["{}", [], 5, True])
def test_a_payload_is_an_object(value: object) -> None:
    found = defect({**RECORD, "payload": value})
    assert (found.reason, found.text) == ("payload_invalid", "Invalid payload: not an object")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not an object"),
        (b'"commandId"', "not an object"),
        (b"null", "not an object"),
        (b"[" * 5000, "nested too deep"),
    ],
)
def test_what_names_no_command(value: bytes | None, problem: str) -> None:
    found = defect(value)
    assert (found.text, found.command_id) == (f"Invalid command: {problem}", None)


HEAD = b'{"commandId": "command-1", "commandType":"Reset", "chargePointId":"CP-001", "payload": '


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (b'{"type": "Soft"', "not JSON"),
        (b'{"type": "Soft"}}}', "not JSON"),
        (b'{"type": "So\xfft"}}', "not JSON"),
        (b'{"a":' * 31 + b"1" + b"}" * 32, None),
        (b'{"a":' * 32 + b"1" + b"}" * 33, "nested too deep"),
        (b"[" * 2000 + b"]" * 2000 + b"}", "nested too deep"),
        (b'{"a": 1, "a": 2}}', "a member is there twice"),
        (b'{}, "payload": {}}', "a member is there twice"),
        (b'{"a": 18446744073709551616}}', "a number is out of range"),
        (b'{"a": 1e999}}', "a number is out of range"),
        (b'{"a": NaN}}', "a number is not finite"),
        (b'{"a": "\\ud800"}}', "half a character"),
        (b'{"a": "' + b"x" * MAX_BYTES + b'"}}', "too large"),
    ],
)
def test_what_cannot_be_trusted_names_its_command_all_the_same(rest: bytes, problem: str | None) -> None:
    if problem is None:
        assert read(HEAD + rest).command_id == "command-1"
        return
    found = defect(HEAD + rest)
    assert (found.reason, found.text) == ("command_invalid", f"Invalid command: {problem}")
    assert (found.command_id, found.command_type, found.charge_point_id) == ("command-1", "Reset", "CP-001")


def test_white_space_and_escapes_are_no_defect() -> None:
    text = b'{ "commandId" : "c\\u0031",\r\n\t"commandType":"Reset","chargePointId":"CP\\/1","payload":{"x":1.00} }\n'
    command = read(text)
    assert (command.command_id, command.charge_point_id, command.payload) == ("c1", "CP/1", {"x": 1.0})


def test_the_largest_record() -> None:
    filling = MAX_BYTES - len(orjson.dumps({**RECORD, "x": ""}))
    assert read({**RECORD, "x": "y" * filling}).command_id == "command-1"
    assert defect({**RECORD, "x": "y" * (filling + 1)}).text == "Invalid command: too large"
    assert defect(RECORD, max_bytes=10).command_id == "command-1"


def test_neither_a_repr_nor_a_defect_shows_what_the_payload_holds() -> None:
    assert "hunter2" not in repr(read({**RECORD, "payload": {"value": "hunter2"}}))
    assert "hunter2" not in str(defect({**RECORD, "timeoutSec": "hunter2"}))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
_RECORDS = st.fixed_dictionaries(
    {},
    optional={
        name: _JSON | st.just(value)
        for name, value in {
            **RECORD,
            "stationId": "s",
            "connectorId": 1,
            "deliverWithinSec": 60,
            "requestedBy": {},
        }.items()
    },
)


@given(_RECORDS)
@example({})
def test_any_object(record: dict[str, Any]) -> None:
    try:
        command = read(record)
    except CommandInvalid as found:
        assert found.reason in ("command_invalid", "missing_charge_point_id", "payload_invalid")
        assert found.command_id in (record.get("commandId"), None)
        return
    assert command.command_id == record["commandId"]
    assert 0 <= command.requested_at_ms <= NOW
    assert 1 <= command.timeout_seconds <= 3600
    assert Command.decode(command.encode()) == command


@given(st.binary() | st.builds(lambda text: text.encode(errors="surrogatepass"), st.text()))
def test_any_bytes(value: bytes) -> None:
    assert defect(value).reason == "command_invalid"


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """A record with some of its bytes replaced: whatever comes of it, only a CommandInvalid."""
    value = bytearray(orjson.dumps(RECORD))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(value)))
        value[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    try:
        command = read(bytes(value))
    except CommandInvalid as found:
        assert found.text.startswith(("Invalid command: ", "Invalid payload: ", "Missing chargePointId"))
    else:
        assert Command.decode(command.encode()) == command


_COMMANDS = st.builds(
    Command,
    command_id=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=128),
    command_type=st.sampled_from(["Reset", "RemoteStart", "Déjà"]),
    charge_point_id=st.sampled_from(["CP-001", "Säule 1"]),
    requested_at_ms=st.integers(0, 2**53),
    timeout_seconds=st.floats(1, 3600),
    deliver_within_seconds=st.floats(0, 604_800),
    payload=st.dictionaries(st.text(), _JSON, max_size=4),
    station_id=st.none() | st.just("station-1"),
    connector_id=st.none() | st.integers(0, 2**31 - 1),
    requested_by=st.none() | st.dictionaries(st.text(), _JSON, max_size=3),
    source=st.text(),
)


@given(_COMMANDS)
def test_round_trip_between_nodes(command: Command) -> None:
    assert Command.decode(command.encode()) == command


@given(st.binary() | _JSON.map(orjson.dumps) | _RECORDS.map(orjson.dumps))
def test_what_another_gateway_wrote_is_no_command_but_no_failure_either(data: bytes) -> None:
    assert Command.decode(data) is None
