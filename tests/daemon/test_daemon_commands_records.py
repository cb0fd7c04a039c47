"""Records that are no commands: whatever is in the topic, the consumer goes on, and who can be told is told."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.gateway import Gateway
from support.ocpp_points import OcppPoint
from support.raw_socket import metric
from support.requester import Requester, moment

RESET = ("Reset", {"type": "Soft"})


@pytest.fixture(scope="module")
def requester(brokers: str, gateway: Gateway) -> Iterator[Requester]:
    with Requester(brokers, gateway) as asking:
        yield asking


def unusable(gateway: Gateway) -> float:
    return metric(gateway.http_port, "ocpp_unusable_commands_total")


def goes_on(gateway: Gateway, requester: Requester, point: OcppPoint, charge_point_id: str) -> None:
    """A command behind, in every partition, is carried out."""
    before = len(point.heard)
    asked = [requester.ask(charge_point_id, *RESET, partition=partition) for partition in range(requester.partitions())]
    assert [requester.outcome(each)[0] for each in asked] == ["CommandAccepted"] * len(asked)
    assert len(point.heard) == before + len(asked)


NAMELESS: dict[str, bytes | None] = {
    "null": None,
    "empty": b"",
    "white": b" \n\t ",
    "not UTF-8": b"\xff\xfe{\x80}",
    "UTF-16": '{"commandId": "a"}'.encode("utf-16"),
    "a text": b'"commandId"',
    "a number": b"17",
    "not a number": b"NaN",
    "JSON null": b"null",
    "true": b"true",
    "array": b'[{"commandId": "a", "commandType": "Reset", "chargePointId": "b"}]',
    "no members": b"{}",
    "cut off": b'{"commandId',
    "deep arrays": b"[" * 60_000 + b"]" * 60_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "only brackets": b"[" * 500_000,
    "commandId is null": b'{"commandId": null, "commandType": "Reset", "chargePointId": "b"}',
    "commandId is a number": b'{"commandId": 17, "commandType": "Reset", "chargePointId": "b"}',
    "commandId is an object": b'{"commandId": {"a": 1}, "commandType": "Reset", "chargePointId": "b"}',
    "commandId is empty": b'{"commandId": "", "commandType": "Reset", "chargePointId": "b"}',
    "commandId is too long": b'{"commandId": "%s", "commandType": "Reset", "chargePointId": "b"}' % (b"x" * 129),
    "commandId has a newline": b'{"commandId": "a\\nb", "commandType": "Reset", "chargePointId": "b"}',
    "commandId has half a character": b'{"commandId": "\\ud800", "commandType": "Reset", "chargePointId": "b"}',
    "zeros": b"\0" * 1000,
    "noise": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"k" * 5000])
def test_records_that_name_no_command(
    gateway: Gateway, requester: Requester, charge_point_id: str, key: bytes | None
) -> None:
    before = unusable(gateway)
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        for value in NAMELESS.values():
            requester.put(value, key)
        goes_on(gateway, requester, point, charge_point_id)
        assert unusable(gateway) == before + len(NAMELESS)
    # It is told once in a while, not each time.
    assert len(gateway.logged("command.unusable")) == 1
    assert len(json.dumps(gateway.logged("command.unusable"))) < 1000


def request(charge_point_id: str, **members: Any) -> dict[str, Any]:
    return {
        "commandId": str(uuid.uuid4()),
        "commandType": "Reset",
        "chargePointId": charge_point_id,
        "payload": {"type": "Soft"},
        "requestedAt": moment(),
        **members,
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no charge point": ({"chargePointId": None}, "missing_charge_point_id"),
    "an empty charge point": ({"chargePointId": ""}, "missing_charge_point_id"),
    "a charge point that is a number": ({"chargePointId": 17}, "command_invalid"),
    "a charge point that is an array": ({"chargePointId": ["a"]}, "command_invalid"),
    "a charge point that is too long": ({"chargePointId": "x" * 256}, "command_invalid"),
    "a charge point with a NUL": ({"chargePointId": "a\0b"}, "command_invalid"),
    "no command type": ({"commandType": None}, "command_invalid"),
    "a command type that is an object": ({"commandType": {"a": 1}}, "command_invalid"),
    "a command type that is too long": ({"commandType": "R" * 65}, "command_invalid"),
    "a command type that nobody has": ({"commandType": "constructor"}, "unsupported_command"),
    "a payload that is an array": ({"payload": [1]}, "payload_invalid"),
    "a payload that is a text": ({"payload": '{"type": "Soft"}'}, "payload_invalid"),
    "no payload": ({"payload": None}, "payload_invalid"),
    "a timeout that is a text": ({"timeoutSec": "15"}, "command_invalid"),
    "a timeout of 0": ({"timeoutSec": 0}, "command_invalid"),
    "a timeout that is negative": ({"timeoutSec": -1}, "command_invalid"),
    "a timeout that is huge": ({"timeoutSec": 1e300}, "command_invalid"),
    "a timeout that is true": ({"timeoutSec": True}, "command_invalid"),
    "too long to deliver": ({"deliverWithinSec": 604_801}, "command_invalid"),
    "a connector that is a text": ({"connectorId": "one"}, "command_invalid"),
    "a connector that is negative": ({"connectorId": -1}, "command_invalid"),
    "a connector that is huge": ({"connectorId": 2**63}, "command_invalid"),
    "a station that is a number": ({"stationId": 5}, "command_invalid"),
    "a requester that is a text": ({"requestedBy": "me"}, "command_invalid"),
    "a large payload": ({"payload": {"type": "x" * 70_000}}, "command_invalid"),
    "a huge payload": ({"payload": {"type": "x" * 900_000}}, "command_invalid"),
    "many members": ({"payload": {str(number): number for number in range(3000)}}, "payload_invalid"),
    "a member with a long name": ({"payload": {"type": "Soft", "x" * 60_000: 1}}, "payload_invalid"),
    "a deep payload": ({"payload": {"type": json.loads("[" * 40 + "]" * 40)}}, "command_invalid"),
}


@pytest.mark.parametrize("with_key", [True, False])
def test_records_that_name_a_command_but_are_none(
    gateway: Gateway, requester: Requester, charge_point_id: str, with_key: bool
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        expected = {}
        for what, (members, reason) in WRONG.items():
            wrong = request(charge_point_id, **members)
            expected[what] = wrong["commandId"], reason
            requester.put(json.dumps(wrong), charge_point_id if with_key else None, wrong["commandId"])
        ends = {what: requester.ended(command_id) for what, (command_id, _) in expected.items()}
        assert {what: (end["eventType"], end["payload"]["reason"]) for what, end in ends.items()} == {
            what: ("CommandFailed", reason) for what, (_, reason) in expected.items()
        }
        assert {what for what, end in ends.items() if len(json.dumps(end)) > 1500} == set()
        assert [what for what, (each, _) in expected.items() if requester.types(each) != ["CommandFailed"]] == []
        assert "chargePointId" not in ends["no charge point"]
        assert ends["no charge point"]["payload"]["error"] == "Missing chargePointId"
        goes_on(gateway, requester, point, charge_point_id)


def test_text_that_cannot_be_read_but_names_its_command(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    def text(command_id: str, more: str) -> str:
        head = f'"commandId": "{command_id}", "commandType": "Reset", "chargePointId": "{charge_point_id}"'
        return f"{{{head}, {more}"

    endings: list[str | bytes] = [
        '"payload": {"type": "Soft"',
        '"payload": {"type": "Soft"}} {}',
        '"payload": {"type": NaN}}',
        '"payload": {"type": 1e999}}',
        f'"payload": {"[" * 100_000}',
        '"payload": {"type": "Soft", "type": "Hard"}}',
        '"commandType": "ClearCache"}',
        '"payload": {"type": "\\ud800"}}',
    ]
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        asked = []
        for ending in endings:
            command_id = str(uuid.uuid4())
            asked.append(command_id)
            requester.put(text(command_id, str(ending)), charge_point_id, command_id)
        command_id = str(uuid.uuid4())
        asked.append(command_id)
        requester.put(text(command_id, '"payload": {"type": "').encode() + b'\xff\xfe"}}', charge_point_id, command_id)
        assert [requester.outcome(each) for each in asked] == [("CommandFailed", "command_invalid")] * len(asked)
        goes_on(gateway, requester, point, charge_point_id)


def test_a_broken_record_takes_part_in_idempotency(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        command_id = requester.ask(charge_point_id, *RESET)
        requester.outcome(command_id)
        requester.ask(charge_point_id, *RESET, commandId=command_id, timeoutSec="never")
        assert requester.outcome(command_id, number=2) == ("CommandDuplicate", "duplicate_command_id")
        assert len(point.heard) == 1


def test_odd_headers_and_keys_change_nothing(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    odd: list[list[tuple[str, bytes | None]]] = [
        [("", b""), ("\N{SNOWMAN}" * 50, None), ("x" * 10_000, b"\xff" * 10_000)],
        [("ce_id", b"1"), ("ce_id", b"2"), ("kafka_correlationId", b"\0")],
        [(f"h{number}", os.urandom(10)) for number in range(500)],
    ]
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        asked = []
        for headers in odd:
            for key in (None, b"", b"\xff\x00", b"another-charge-point"):
                wanted = request(charge_point_id)
                requester.put(json.dumps(wanted), key, wanted["commandId"], headers=headers)
                asked.append(wanted["commandId"])
        assert [requester.outcome(each) for each in asked] == [("CommandAccepted", None)] * len(asked)
        assert len(point.heard) == len(asked)


def test_members_that_nobody_knows_are_ignored(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    odd = {
        "__proto__": {"a": 1},
        "traceparent": "00-0",
        "ocppVersion": ["9.9"],
        "connectorId": 1,
        "requestedBy": {"userId": 17, "deep": [[[[]]]]},
        "\N{SNOWMAN}": None,
    }
    with OcppPoint(gateway.url(""), charge_point_id, "2.1") as point:
        command_id = requester.ask(charge_point_id, *RESET, **odd)
        assert requester.outcome(command_id) == ("CommandAccepted", None)
        assert point.heard[-1][2:] == ["Reset", {"type": "OnIdle"}]


def test_commands_for_identities_that_could_be_something_else(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with OcppPoint(gateway.url(""), charge_point_id, "1.6") as point:
        odd = ["*", "../..", "a b", "{x}", "sessions:*", f"{charge_point_id}*", "%00", "\N{SNOWMAN}" * 255]
        asked = [
            requester.ask(each, *RESET, commandId=f"{{*}}:{number} {uuid.uuid4()}", deliverWithinSec=0)
            for number, each in enumerate(odd)
        ]
        assert [requester.outcome(each) for each in asked] == [("CommandFailed", "charge_point_offline")] * len(asked)
        goes_on(gateway, requester, point, charge_point_id)
