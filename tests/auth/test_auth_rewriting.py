from __future__ import annotations

import json
from typing import Any

import pytest
from adapters.adapter_ports import result_of
from attrs import frozen
from memory_records import MemoryRecords
from support.manual_clock import ManualClock
from twisted.logger import LogEvent

from ocpp_gateway.auth import rewriting
from ocpp_gateway.auth.next_secrets import with_next_secret, with_reboot_awaited
from ocpp_gateway.auth.rewriting import ATTEMPTS, ReadRecord, RecordRewriter, SecretSettling
from ocpp_gateway.errors import StoreUnavailable

OLD = {"type": "basic", "secretHash": "aa" * 32, "secretSalt": "salt"}
NEW = "sha256$" + "bb" * 32
TOLD = with_next_secret(OLD, NEW, "pepper")
TAKEN = OLD | {"secretHash": NEW, "secretSalt": "pepper"}


@frozen
class Store:
    records: MemoryRecords
    rewriter: RecordRewriter
    settling: SecretSettling
    log: list[LogEvent]

    def rewrite(self, change: Any) -> bool:
        done: bool = result_of(self.rewriter.rewrite("CP-001", change))
        return done


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    seen: list[LogEvent] = []
    monkeypatch.setattr(rewriting.log, "observer", seen.append)
    records = MemoryRecords()
    rewriter = RecordRewriter(records, ManualClock())
    return Store(records, rewriter, SecretSettling(rewriter), seen)


def other(read: ReadRecord) -> dict[str, Any]:
    return {**read.auth, "username": "someone"}


def test_only_auth_changes_and_when(store: Store) -> None:
    store.records.put(OLD, vendor={"serial": 123456789012345678901234567890, "rate": 0.1, "name": "Zoë"}, status=None)
    before = store.records.members
    assert store.rewrite(other)
    after = store.records.members
    assert after == before | {"auth": OLD | {"username": "someone"}, "updatedAt": "2026-01-02T03:04:05.678Z"}
    assert "123456789012345678901234567890" in store.records.raw.decode()


def test_a_record_without_auth_gets_one(store: Store) -> None:
    store.records.records["CP-001"] = b'{"stationId":"s","tenantId":"t","auth":null}'
    assert store.rewrite(other)
    assert store.records.auth == {"username": "someone"}


def test_whoever_writes_meanwhile_keeps_what_he_wrote(store: Store) -> None:
    store.records.put(OLD)
    store.records.before_write = lambda: store.records.put(OLD, status="inactive")
    assert store.rewrite(other)
    assert store.records.members["status"] == "inactive"
    assert store.records.auth["username"] == "someone"


@pytest.mark.parametrize(
    "raw", [None, b"not json", b"[]", b'{"stationId":"s"}', b'{"stationId":"s","tenantId":"t","auth":1}'], ids=str
)
def test_what_is_no_record_is_left_alone(store: Store, raw: bytes | None) -> None:
    if raw is not None:
        store.records.records["CP-001"] = raw
    assert not store.rewrite(other)
    store.settling.settle("CP-001", raw or b"", None)
    assert store.records.records.get("CP-001") == raw
    assert store.log == []


def test_one_nested_as_deep_as_can_be_read_is_left_alone_or_changed_but_never_broken(store: Store) -> None:
    for depth in (900, 990, 1015, 1020):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        store.records.records["CP-001"] = b'{"stationId":"s","tenantId":"t","deep":' + nested + b"}"
        read = ReadRecord.of("CP-001", store.records.raw)
        assert read is None or read.record.station_id == "s"


def test_nothing_to_change_is_not_written(store: Store) -> None:
    store.records.put(OLD)
    assert not store.rewrite(lambda _: None)
    assert store.records.writes == 0


def test_a_record_that_changes_all_the_time_is_given_up(store: Store) -> None:
    tries = []

    def change(read: ReadRecord) -> dict[str, Any]:
        tries.append(read)
        store.records.before_write = lambda: store.records.put(OLD, note=len(tries))
        return other(read)

    store.records.put(OLD)
    with pytest.raises(StoreUnavailable):
        store.rewrite(change)
    assert len(tries) == ATTEMPTS


def test_a_read_record_shows_no_hash(store: Store) -> None:
    store.records.put(TOLD)
    read = ReadRecord.of("CP-001", store.records.raw)
    assert read is not None
    assert not any(secret in repr(read) for secret in ("aaaa", "bbbb", "pepper"))


@pytest.mark.parametrize(
    ("used", "expected", "kept"), [(None, OLD, "present"), (NEW, TAKEN, "new")], ids=["present", "new"]
)
def test_the_password_that_was_used_stays(store: Store, used: str | None, expected: dict[str, Any], kept: str) -> None:
    store.records.put(TOLD, note="x")
    store.settling.settle("CP-001", store.records.raw, used)
    assert store.records.auth == expected
    assert store.records.members["note"] == "x"
    (line,) = store.log
    assert (line["event"], line["charge_point_id"], line["kept"]) == ("credential.settled", "CP-001", kept)
    assert not any(secret in str(line) for secret in ("aaaa", "bbbb", "pepper"))


def test_a_record_that_somebody_wrote_meanwhile_stays_as_it_is(store: Store) -> None:
    store.records.put(TOLD)
    read = store.records.raw
    store.records.put(TOLD, note="by the operator")
    written = store.records.raw
    for used in (None, NEW):
        store.settling.settle("CP-001", read, used)
    assert store.records.raw == written
    assert store.log == []


def test_a_charge_point_that_must_reboot_may_come_with_the_old_one(store: Store) -> None:
    awaited = with_reboot_awaited(TOLD, NEW)
    assert awaited is not None
    store.records.put(awaited)
    store.settling.settle("CP-001", store.records.raw, None)
    assert store.records.writes == 0
    store.settling.settle("CP-001", store.records.raw, NEW)
    assert store.records.auth == TAKEN


def test_without_redis_nothing_is_settled_and_nobody_minds(store: Store) -> None:
    store.records.put(TOLD)
    store.records.away = True
    store.settling.settle("CP-001", store.records.raw, NEW)
    assert store.records.auth == TOLD
    assert store.log == []


def test_what_is_written_can_be_read_by_anybody(store: Store) -> None:
    store.records.put(TOLD)
    store.settling.settle("CP-001", store.records.raw, NEW)
    assert json.loads(store.records.raw)["auth"] == TAKEN
