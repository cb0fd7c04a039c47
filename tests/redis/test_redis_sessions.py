from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.redis.sessions import SessionRecord

RECORD = SessionRecord(
    charge_point_id="CP-001",
    ocpp_version="1.6J",
    node_id="node-a",
    station_id="station-123",
    tenant_id="tenant-abc",
    connected_at_ms=1_767_323_045_678,
    last_seen_at_ms=1_767_323_046_001,
    security_profile=2,
    epoch=7,
)


def test_the_record_is_the_contracts() -> None:
    assert RECORD.encode() == (
        b'{"chargePointId":"CP-001","ocppVersion":"1.6J","nodeId":"node-a","stationId":"station-123",'
        b'"tenantId":"tenant-abc","connectedAt":"2026-01-02T03:04:05.678Z","connectedAtMs":1767323045678,'
        b'"lastSeenAt":"2026-01-02T03:04:06.001Z","lastSeenAtMs":1767323046001,"securityProfile":2,"epoch":7}'
    )
    assert b"epoch" not in RECORD.of_epoch(0).encode()


FULL = attrs.evolve(RECORD, connection_id="01J", peer="192.0.2.1", calls=3, bytes_in=400, bytes_out=500)


def test_what_is_not_in_the_contract_comes_after_it() -> None:
    assert FULL.encode() == RECORD.encode().replace(
        b'"epoch"', b'"connectionId":"01J","peer":"192.0.2.1","calls":3,"bytesIn":400,"bytesOut":500,"epoch"'
    )
    assert SessionRecord.parse(FULL.encode()) == FULL


@pytest.mark.parametrize(("member", "value"), [("connectionId", 1), ("peer", None), ("calls", "x"), ("bytesIn", [])])
def test_an_addition_of_the_wrong_kind_is_no_record(member: str, value: Any) -> None:
    assert SessionRecord.parse(json.dumps({**json.loads(FULL.encode()), member: value}).encode()) is None


@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(0, 2**53),
    st.integers(0, 3),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_what_is_written_is_read(milliseconds: int, epoch: int, profile: int, text: str) -> None:
    record = SessionRecord(
        charge_point_id=text,
        ocpp_version="2.1",
        node_id=text,
        station_id=text,
        tenant_id=text,
        connected_at_ms=milliseconds,
        last_seen_at_ms=milliseconds,
        security_profile=profile,
        epoch=epoch,
    )
    assert SessionRecord.parse(record.encode()) == record
    assert json.loads(record.encode())["connectedAt"].endswith(f".{milliseconds % 1000:03d}Z")


@pytest.mark.parametrize("name", ["chargePointId", "nodeId", "connectedAtMs"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 1e400])
def test_a_member_of_the_wrong_kind_is_no_record(name: str, value: Any) -> None:
    members = {**json.loads(RECORD.encode()), name: value}
    if name != "connectedAtMs" and isinstance(value, str):
        members[name] = 1
    assert SessionRecord.parse(json.dumps(members).encode()) is None


@pytest.mark.parametrize("value", [-1, 253_402_300_800_000, 10**30])
@pytest.mark.parametrize("name", ["connectedAtMs", "lastSeenAtMs"])
def test_a_moment_that_is_no_date_is_no_record(name: str, value: int) -> None:
    """It will be written as a date again, to tell of a take-over."""
    raw = {**json.loads(RECORD.encode()), name: value}
    assert SessionRecord.parse(json.dumps(raw).encode()) is None
    latest = SessionRecord.parse(json.dumps({**raw, name: 253_402_300_799_999}).encode())
    assert latest is not None
    assert "9999-12-31T23:59:59.999Z" in (latest.connected_at, latest.last_seen_at)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"1", b'"text"', b"\xff"])
def test_what_is_no_object_is_no_record(raw: bytes) -> None:
    assert SessionRecord.parse(raw) is None


@pytest.mark.parametrize(
    ("member", "is_read"),
    [
        ("epoch", {"epoch": 0}),
        ("securityProfile", {"security_profile": 0}),
        ("connectionId", {"connection_id": ""}),
        ("peer", {"peer": ""}),
        ("calls", {"calls": 0}),
        ("bytesIn", {"bytes_in": 0}),
        ("bytesOut", {"bytes_out": 0}),
    ],
)
def test_an_earlier_gateways_record_without_it_can_be_read(member: str, is_read: dict[str, Any]) -> None:
    members = json.loads(FULL.encode())
    del members[member]
    assert SessionRecord.parse(json.dumps({**members, "more": 1}).encode()) == attrs.evolve(FULL, **is_read)


@pytest.mark.parametrize("member", ["securityProfile", "calls", "bytesIn", "bytesOut", "epoch"])
@pytest.mark.parametrize("value", [-1, 1 << 63, 10**40])
def test_a_number_that_could_not_be_written_again_is_no_record(member: str, value: int) -> None:
    members = json.loads(FULL.encode())
    assert SessionRecord.parse(json.dumps({**members, member: value}).encode()) is None
    most = SessionRecord.parse(json.dumps({**members, member: (1 << 63) - 1}).encode())
    assert most is not None
    assert json.loads(most.encode())[member] == (1 << 63) - 1
