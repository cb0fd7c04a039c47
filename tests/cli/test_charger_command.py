"""``ocpp-gateway charger`` against a real Redis and a real Kafka protocol."""

from __future__ import annotations

import json

import pytest
from cli.audit_events import audit_events
from cli.cli_runner import run, run_here
from cli.redis_by_hand import store, stored_bytes

from ocpp_gateway.auth.hashing import HashDefaults, ScryptParameters
from ocpp_gateway.auth.record import IdentityRecord


@pytest.fixture
def place(place: dict[str, str]) -> dict[str, str]:
    """With cheap hashing."""
    return {**place, "OCPP_AUTH_SCRYPT_N": "16"}


def stored(place: dict[str, str], cp_id: str) -> IdentityRecord:
    """The record as the gateway would read it."""
    raw = stored_bytes(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:chargers:{cp_id}")
    assert raw is not None
    return IdentityRecord.parse(raw, cp_id)


def accepts(record: IdentityRecord, secret: bytes) -> bool:
    found = HashDefaults(scrypt=ScryptParameters(n=16)).read(
        record.auth.secret_hash or record.auth.token_hash, record.auth.secret_salt, record.auth.hash_algorithm
    )
    return found is not None and found.matches((secret,))


def test_a_charge_point_from_the_first_day_to_the_last(place: dict[str, str], kafka: str) -> None:
    with_kafka = {**place, "KAFKA_BROKERS": kafka}
    added = run("charger", "add", "CP-001", "--tenant", "acme", "--ocpp", "1.6", "--reason", "new site", **with_kafka)
    assert added.returncode == 0, added.stderr
    password = added.stdout.split("password: ")[1].strip()
    record = stored(place, "CP-001")
    assert accepts(record, password.encode())
    assert (record.tenant_id, record.status) == ("acme", "active")
    assert "shown only now" in added.stderr and "Warning" not in added.stderr

    again = run("charger", "add", "CP-001", **place)
    assert again.returncode == 1
    assert "there already" in again.stderr and "--replace" in again.stderr
    assert "password:" not in again.stdout

    assert run("charger", "disable", "CP-001", **with_kafka).stdout == "CP-001 disabled\n"
    assert stored(place, "CP-001").status == "disabled"
    assert run("charger", "disable", "CP-001", **with_kafka).stdout == "CP-001 was disabled already\n"
    assert run("charger", "enable", "CP-001", **place).stdout == "CP-001 enabled\n"
    assert accepts(stored(place, "CP-001"), password.encode())

    shown = json.loads(run("charger", "show", "CP-001", "--json", **place).stdout)
    assert shown["auth"]["secretHash"] == "***"
    assert shown["session"] is None
    table = run("charger", "show", "CP-001", **place).stdout
    assert "acme" in table and "connected" in table and str(record.auth.secret_hash) not in table

    replaced = run("charger", "add", "CP-001", "--replace", "--json", **place)
    fresh = json.loads(replaced.stdout)["password"]
    record = stored(place, "CP-001")
    assert record.tenant_id == "acme"
    assert accepts(record, fresh.encode()) and not accepts(record, password.encode())

    unsure = run_here("charger", "remove", "CP-001", typed=b"n\n", **place)
    assert unsure.returncode == 1
    assert stored(place, "CP-001") == record
    assert run("charger", "remove", "CP-001", "--yes", **with_kafka).stdout == "CP-001 removed\n"
    gone = run("charger", "show", "CP-001", **place)
    assert gone.returncode == 1 and "no record of CP-001" in gone.stderr

    events = [event["payload"] for event in audit_events(kafka, 3)]
    assert [event["change"] for event in events] == ["added", "disabled", "removed"]
    assert events[0]["reason"] == "new site"
    assert events[1]["status"] == "disabled"


@pytest.mark.parametrize(
    ("options", "typed", "secret"),
    [
        (("--auth", "token"), b"a-token-of-their-own-0123456789", b"a-token-of-their-own-0123456789"),
        (("--hex-key",), b"00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff", bytes.fromhex("00ff" * 10)),
        (("--hash", "sha256"), b"a password of their own\n", b"a password of their own"),
    ],
)
def test_a_given_secret_is_stored_and_not_shown(
    place: dict[str, str], options: tuple[str, ...], typed: bytes, secret: bytes
) -> None:
    done = run("charger", "add", "CP-002", "--password-file", "-", *options, typed=typed, **place)
    assert done.returncode == 0, done.stderr
    assert typed.decode().strip() not in done.stdout + done.stderr
    record = stored(place, "CP-002")
    assert accepts(record, secret)
    assert record.auth.mode == ("token" if "token" in options else "basic")


def test_made_up_keys_and_tokens(place: dict[str, str]) -> None:
    key = json.loads(run("charger", "add", "CP-003", "--hex-key", "--json", **place).stdout)["password"]
    assert accepts(stored(place, "CP-003"), bytes.fromhex(key))
    token = json.loads(run("charger", "add", "CP-004", "--auth", "token", "--json", **place).stdout)["token"]
    assert accepts(stored(place, "CP-004"), token.encode())


def test_lists_are_filtered(place: dict[str, str]) -> None:
    for cp_id, record in (
        ("CP-1", {"tenantId": "a"}),
        ("CP-2", {"tenantId": "b", "status": "disabled"}),
        ("CP-X", {"tenantId": "a", "allowedProtocols": ["2.1"]}),
    ):
        store(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:chargers:{cp_id}", json.dumps(record).encode())

    def ids(*options: str) -> list[str]:
        lines = run("charger", "list", "--json", *options, **place).stdout.splitlines()
        return [json.loads(line)["chargePointId"] for line in lines]

    assert ids("--filter", "CP-[12]") == ["CP-1", "CP-2"]
    assert ids("--tenant", "a") == ["CP-1", "CP-X"]
    assert ids("--status", "disabled") == ["CP-2"]
    table = run("charger", "list", **place)
    assert "disabled" in table.stdout and "2.1" in table.stdout
    assert table.stderr == "3 charge points\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("charger", "add", "no prefix"), "OCPP_CHARGE_POINT_ID_PATTERN"),
        (("charger", "add", "CP-9", "--allow-ip", "10.0.0.0.1"), "--allow-ip"),
        (("charger", "add", "CP-9", "--password-file", "/nowhere"), "Cannot read"),
    ],
)
def test_mistakes_are_explained(arguments: tuple[str, ...], word: str) -> None:
    done = run_here(*arguments)
    assert done.returncode in (1, 2)
    assert word in done.stderr


def test_a_redis_that_is_not_there_is_named_without_its_password() -> None:
    done = run("charger", "list", REDIS_URL="redis://user:hunter2@127.0.0.1:1/0")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr and "REDIS_URL" in done.stderr
    assert "Connection refused" in done.stderr and "--dev" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    told = run_here("--redis-url", "redis://:hunter2@127.0.0.1:1", "charger", "list")
    assert told.returncode == 2 and "set REDIS_URL instead" in told.stderr


@pytest.mark.parametrize(
    ("brokers", "word"), [("127.0.0.1:1", "Connection refused"), ("embedded://", "inside of a gateway")]
)
def test_a_kafka_that_is_away_does_not_undo_the_change(place: dict[str, str], brokers: str, word: str) -> None:
    done = run("charger", "add", "CP-006", KAFKA_BROKERS=brokers, **place)
    assert done.returncode == 0
    assert "audit event is not in Kafka" in done.stderr and word in done.stderr
    assert accepts(stored(place, "CP-006"), done.stdout.split("password: ")[1].strip().encode())
