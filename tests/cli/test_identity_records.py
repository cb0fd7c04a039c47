"""Identity records as the command writes them are records as the gateway reads them."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import pytest

from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.cli import records
from ocpp_gateway.cli.audit import Deed, event_of
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.passwords import Secret, given_secret, is_short, new_authorization_key, new_password, new_token
from ocpp_gateway.cli.records import Wishes
from ocpp_gateway.ocppj.versions import OcppVersion

NOW = 1_767_323_045.678
SECRET = Secret(b"correct horse battery")
SHA = HashDefaults(HashAlgorithm.SHA256)


def parsed(record: dict[str, Any], cp_id: str = "CP-001") -> IdentityRecord:
    return IdentityRecord.parse(records.encode(record), cp_id)


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
@pytest.mark.parametrize("auth_type", ["basic", "token"])
def test_the_gateway_reads_what_is_written(algorithm: HashAlgorithm, auth_type: str) -> None:
    wishes = Wishes(
        tenant_id="acme",
        station_id="S-1",
        versions=(OcppVersion.V16, OcppVersion.V21),
        allowed_cidrs=("10.0.0.0/24",),
        auth_type=auth_type,
    )
    record = records.written("CP-001", {}, wishes, SECRET, HashDefaults(algorithm), NOW)
    read = parsed(record)
    assert (read.station_id, read.tenant_id, read.status) == ("S-1", "acme", "active")
    assert read.allowed_versions == {OcppVersion.V16, OcppVersion.V21}
    assert read.auth.mode == auth_type
    assert read.warnings == ()
    stored = HashDefaults().read(
        read.auth.token_hash if auth_type == "token" else read.auth.secret_hash,
        read.auth.secret_salt,
        read.auth.hash_algorithm,
    )
    assert stored is not None
    assert stored.algorithm is algorithm
    assert stored.matches((SECRET.value,))
    assert not stored.matches((b"wrong",))
    assert b"correct horse" not in records.encode(record)
    assert record["createdAt"] == record["updatedAt"] == "2026-01-02T03:04:05.678Z"


def test_who_says_nothing_gets_the_defaults() -> None:
    read = parsed(records.written("CP-001", {}, Wishes(), SECRET, SHA, NOW))
    assert (read.station_id, read.tenant_id, read.status) == ("CP-001", "default", "active")
    assert read.allowed_versions == set(OcppVersion)


def test_two_records_with_one_password_look_different() -> None:
    first, second = (records.written("CP-001", {}, Wishes(), SECRET, SHA, NOW) for _ in range(2))
    assert first["auth"]["secretHash"] != second["auth"]["secretHash"]


def test_replacing_keeps_what_is_not_said_anew() -> None:
    before = {
        "chargePointId": "CP-001",
        "stationId": "S-1",
        "tenantId": "acme",
        "status": "disabled",
        "allowedIps": ["10.0.0.1"],
        "site": {"unknown": True},
        "createdAt": "2020",
        "auth": {"type": "token", "allowedTypes": ["token"], "tokenHash": "old", "username": "u", "secret": "plain"},
    }
    record = records.written("CP-001", before, Wishes(tenant_id="other"), SECRET, SHA, NOW)
    assert record["tenantId"] == "other"
    assert (record["stationId"], record["status"], record["allowedIps"]) == ("S-1", "disabled", ["10.0.0.1"])
    assert record["site"] == {"unknown": True}
    assert record["createdAt"] == "2020"
    assert record["auth"]["username"] == "u"
    assert record["auth"]["allowedTypes"] == ["token", "basic"]
    assert not {"tokenHash", "secret"} & set(record["auth"])
    assert parsed(record).warnings == ()


def test_a_simulated_record_is_marked_until_somebody_makes_it_theirs() -> None:
    simulated = records.written("CP-001", {}, Wishes(created_by=records.SIMULATION), SECRET, SHA, NOW)
    assert simulated["createdBy"] == "ocpp-gateway simulate"
    assert records.is_simulated(simulated)
    assert records.is_simulated(records.with_status(simulated, "disabled", NOW))
    assert not records.is_simulated(records.written("CP-001", simulated, Wishes(), SECRET, SHA, NOW))
    theirs = records.written("CP-001", {"createdBy": "a back end"}, Wishes(), SECRET, SHA, NOW)
    assert theirs["createdBy"] == "a back end"
    assert parsed(simulated).warnings == ()


def test_nothing_secret_is_shown() -> None:
    record = records.written("CP-001", {}, Wishes(), SECRET, SHA, NOW)
    text = json.dumps(records.shown({**record, "auth": {**record["auth"], "token": "plain", "tokenHash": None}}))
    assert record["auth"]["secretHash"] not in text
    assert record["auth"]["secretSalt"] not in text
    assert "plain" not in text
    assert records.shown({"auth": "odd"}) == {"auth": "odd"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b"[" * 100_000, b"\xff"])
def test_a_broken_record_is_no_record(raw: bytes) -> None:
    assert records.decode(raw) is None


def test_a_made_up_password_fits_every_version() -> None:
    passwords = {new_password().shown for _ in range(50)}
    assert len(passwords) == 50
    for password in passwords:
        assert re.fullmatch(r"[A-Za-z2-9]{20}", str(password))
        assert not set(str(password)) & set("O0Il1")
    key = new_authorization_key()
    assert key.shown == key.value.hex()
    assert len(key.value) == 20
    assert len(new_token().value) >= 43
    assert SECRET.value.decode() not in repr(SECRET)


def test_a_password_file_is_bytes(tmp_path: Any) -> None:
    def read(content: bytes, hex_key: bool = False) -> bytes:
        path = tmp_path / "password"
        path.write_bytes(content)
        secret = given_secret(ask=False, password_file=str(path), hex_key=hex_key)
        assert secret is not None
        assert secret.shown is None
        return secret.value

    assert read(b"\xff\xfe secret \n") == b"\xff\xfe secret "
    assert read(b"secret\r\n") == b"secret"
    assert read(b"00ff\n", hex_key=True) == b"\x00\xff"
    for content, hex_key in ((b"", False), (b"\n", False), (b"x" * 5000, False), (b"0g", True), (b"abc", True)):
        with pytest.raises(Failure) as caught:
            read(content, hex_key)
        assert "xx" not in str(caught.value)
    assert is_short(Secret(b"x" * 15))
    assert not is_short(Secret(b"x" * 16))


def test_two_passwords_are_one_too_many() -> None:
    with pytest.raises(click.UsageError):
        given_secret(ask=True, password_file="x", hex_key=False)
    with pytest.raises(Failure, match="No such file"):
        given_secret(ask=False, password_file="/nowhere/at/all", hex_key=False)
    assert given_secret(ask=False, password_file=None, hex_key=False) is None
    found = given_secret(ask=False, password_file=None, hex_key=False, variable="from the environment")
    assert found == Secret(b"from the environment")


@pytest.mark.parametrize(
    ("change", "event_type"), [("added", "ChargerIdentityUpserted"), ("removed", "ChargerIdentityRemoved")]
)
def test_the_audit_event_names_the_deed_and_no_hash(change: str, event_type: str) -> None:
    record = records.written("CP-001", {}, Wishes(tenant_id="acme"), SECRET, SHA, NOW)
    deed = Deed(charge_point_id="CP-001", change=change, record=record, reason="because")
    event, headers = event_of(deed, now=NOW, event_id="id-1", actor="someone")
    assert list(event) == [
        "eventId", "eventType", "source", "occurredAt", "stationId", "tenantId", "chargePointId", "payload",
    ]  # fmt: skip
    assert event["eventType"] == event_type
    assert event["payload"]["actorId"] == "someone"
    assert event["payload"]["reason"] == "because"
    assert dict(headers)["ce_type"] == event_type.encode()
    assert record["auth"]["secretHash"] not in json.dumps(event)
    assert record["auth"]["secretSalt"] not in json.dumps(event)


@pytest.mark.parametrize(
    ("stored", "wanted", "changes"),
    [
        ({}, {"minSecurityProfile": 2}, True),
        ({"minSecurityProfile": 2}, {"minSecurityProfile": 2}, False),
        ({"minSecurityProfile": True}, {"minSecurityProfile": 1}, True),  # which the gateway refuses
        ({"minSecurityProfile": 2}, {"minSecurityProfile": None}, True),
        ({"minSecurityProfile": None}, {"minSecurityProfile": None}, False),
        ({}, {"allowProfileDowngrade": False}, False),
        ({"allowProfileDowngrade": True}, {"allowProfileDowngrade": False}, True),
        ({"allowProfileDowngrade": "no"}, {"allowProfileDowngrade": False}, True),
        ({}, {"allowProfileDowngrade": False, "allowExpiredCertificate": True}, True),
    ],
)
def test_members_are_changed_only_where_they_are_others(
    stored: dict[str, Any], wanted: dict[str, Any], changes: bool
) -> None:
    record = {"stationId": "S", "tenantId": "T", "site": {"kept": True}, **stored}
    after = records.with_members(record, wanted, NOW)
    if not changes:
        assert after is None
        return
    assert after is not None and after["site"] == {"kept": True} and "updatedAt" in after
    assert {name: after.get(name) for name in wanted} in (wanted, {**wanted, "allowProfileDowngrade": None})
    assert None not in after.values()
    assert parsed(after).warnings == ()
    assert records.with_members(after, wanted, NOW) is None
