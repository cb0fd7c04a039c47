"""Those who are connected, when the operator changes his mind; the records are in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from adapters.adapter_ports import CALLER, OTHER, result_of
from attrs import define, field, frozen
from session_parts import SECRET_HASH, Fleet, certificate, raw_record, standing
from twisted.logger import LogEvent

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.auth.addresses import AddressList
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.session import Session

SHOWN = certificate()
BOUND: dict[str, Any] = {"type": "mtls", "certificates": [{"fingerprint": SHOWN.fingerprint}]}


@frozen
class Known:
    record: bytes | None
    is_revoked: bool


@define(eq=False)
class Records:
    """WatchedIdentities, in a dict; ``during`` is called while a look-up is under way."""

    store_id: bytes | None = b"store-1"
    records: dict[str, bytes] = field(factory=dict)
    revoked: set[str] = field(factory=set)
    questions: list[int] = field(factory=list)
    during: Callable[[], object] = lambda: None
    away: bool = False

    async def look_up_all(self, wanted: Sequence[tuple[str, str | None]]) -> tuple[bytes | None, list[Known]]:
        self.questions.append(len(wanted))
        if self.away:
            raise StoreUnavailable
        self.during()
        return self.store_id, [Known(self.records.get(name), shown in self.revoked) for name, shown in wanted]


@define(eq=False)
class Watched:
    fleet: Fleet
    records: Records

    def connect(
        self, caller: Caller = CALLER, shown: Any = None, version: OcppVersion = OcppVersion.V16, **record: Any
    ) -> Session:
        if shown is not None:
            record.setdefault("auth", BOUND)
        raw = self.records.records[caller.charge_point_id] = raw_record(caller, **record)
        return self.fleet.connect(standing(version, shown, raw, caller=caller, store_id=self.records.store_id), caller)

    def change(self, caller: Caller = CALLER, **record: Any) -> None:
        self.records.records[caller.charge_point_id] = raw_record(caller, **record)

    def look(self) -> list[tuple[str, str]]:
        """One round; who was revoked so far."""
        result_of(self.fleet.watch.round())
        return self.fleet.revoked()

    def recheck(self, *fingerprints: str) -> None:
        self.fleet.watch.recheck_certificates(lambda shown: shown.fingerprint in fingerprints)


@pytest.fixture
def watched(schemas: Schemas, warnings: list[LogEvent]) -> Watched:
    records = Records()
    return Watched(Fleet(schemas, records), records)


@pytest.fixture(autouse=True)
def nothing_secret(watched: Watched, warnings: list[LogEvent]) -> Iterator[None]:
    yield
    said = [record.value.decode() for record in watched.fleet.security_bus.records]
    said += [str({name: value for name, value in event.items() if name != "log_logger"}) for event in warnings]
    assert [text for text in said if SECRET_HASH[:16] in text or "cd" * 8 in text] == []


def test_a_record_that_is_the_same_is_not_even_parsed(watched: Watched, warnings: list[LogEvent]) -> None:
    session = watched.connect(allowedIps=["not an address"], status="active")
    before = session.standing
    assert watched.look() == []
    assert session.standing is before
    assert session.close_reason is None
    assert warnings == []  # parsed, it would have warned


def test_a_harmless_change_is_looked_at_once(watched: Watched) -> None:
    session = watched.connect()
    before = session.standing
    watched.change(displayName="Hall 3", status="active")
    assert watched.look() == []
    after = session.standing
    assert after.record_digest != before.record_digest
    assert watched.look() == []
    assert session.standing is after
    assert session.close_reason is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "inactive"}, "status_inactive"),
        ({"allowedProtocols": ["2.0.1"]}, "protocol_not_allowed"),
        ({"allowedIps": ["192.0.2.2"]}, "ip_not_allowed"),
        ({"auth": {"type": "token", "tokenHash": SECRET_HASH}}, "auth_mode_not_allowed"),
        ({"minSecurityProfile": 3}, "profile_downgrade"),
        ({"auth": {"type": "basic", "secretHash": "cd" * 32}}, "credential_changed"),
        ({"stationId": "station-9"}, "identity_changed"),
        ({"tenantId": "tenant-z"}, "identity_changed"),
    ],
)
def test_a_change_that_would_keep_it_out_ends_the_session(
    watched: Watched, warnings: list[LogEvent], change: dict[str, Any], reason: str
) -> None:
    session = watched.connect()
    other = watched.connect(OTHER)
    watched.change(**change)
    assert watched.look() == [("CP-001", reason)]
    assert session.close_reason is CloseReason.from_label(reason)
    assert session.connection.closed is session.close_reason  # type: ignore[attr-defined]
    assert other.close_reason is None
    (line,) = warnings
    assert (line["event"], line["reason"], line["charge_point_id"]) == ("session.revoked", reason, "CP-001")
    assert watched.look() == [("CP-001", reason)]
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        ({"certificates": [{"fingerprint": "0B" * 32}]}, "mtls_binding_mismatch"),
        ({"certificates": [{"fingerprint": SHOWN.fingerprint, "status": "revoked"}]}, "mtls_revoked"),
        ({"revokedFingerprints": [SHOWN.fingerprint]}, "mtls_revoked"),
        ({"allowedOrganizations": ["Somebody Else"]}, "mtls_organization_not_allowed"),
    ],
)
def test_certificates_by_what_the_record_says_of_them(watched: Watched, auth: dict[str, Any], reason: str) -> None:
    session = watched.connect(shown=SHOWN)
    watched.change(auth=BOUND | auth)
    assert watched.look() == [("CP-001", reason)]
    assert session.close_reason is CloseReason.from_label(reason)


def test_a_certificate_is_renewed_over_the_connection_that_the_old_one_opened(watched: Watched) -> None:
    session = watched.connect(shown=SHOWN)
    ended = {"fingerprint": SHOWN.fingerprint, "validTo": "2025-01-01T00:00:00Z"}
    watched.change(auth=BOUND | {"certificates": [ended, {"fingerprint": "0B" * 32}]})
    watched.fleet.clock.advance(10 * 365 * 86_400)
    assert watched.look() == []
    assert session.close_reason is None


def test_a_revocation_ends_the_session_of_that_certificate(watched: Watched) -> None:
    session = watched.connect(shown=SHOWN)
    other = watched.connect(OTHER, certificate("CP-002", fingerprint="0B" * 32), auth={"type": "mtls"})
    watched.records.revoked.add(SHOWN.fingerprint)
    assert watched.look() == [("CP-001", "mtls_revoked")]
    assert session.close_reason is CloseReason.MTLS_REVOKED
    assert other.close_reason is None


def test_a_revocation_counts_for_a_certificate_shown_beside_a_password_too(watched: Watched) -> None:
    session = watched.connect()
    session.standing = attrs.evolve(session.standing, shown=SHOWN)
    watched.recheck("0C" * 32)
    assert watched.look() == []
    watched.recheck(SHOWN.fingerprint)
    assert session.close_reason is CloseReason.MTLS_REVOKED


def test_one_that_cannot_be_looked_at_does_not_keep_the_others_from_it(
    watched: Watched, warnings: list[LogEvent]
) -> None:
    def broken(shown: ClientCertificate) -> bool:
        raise RuntimeError(shown.fingerprint)

    watched.connect(shown=SHOWN)
    other = watched.connect(OTHER)
    watched.fleet.watch.recheck_certificates(broken)
    watched.change(OTHER, status="disabled")
    assert watched.look() == [(OTHER.charge_point_id, "status_inactive")]
    assert other.close_reason is CloseReason.STATUS_INACTIVE
    assert [event["event"] for event in warnings].count("session.recheck_failed") == 2


def test_a_deleted_record_ends_the_session(watched: Watched) -> None:
    session = watched.connect()
    del watched.records.records["CP-001"]
    assert watched.look() == [("CP-001", "identity_missing")]
    assert session.close_reason is CloseReason.IDENTITY_MISSING


@pytest.mark.parametrize("store_id", [b"store-2", None])
def test_records_that_the_store_lost_end_no_session(watched: Watched, store_id: bytes | None) -> None:
    session = watched.connect()
    saved, watched.records.records = watched.records.records, {}
    watched.records.store_id = store_id
    assert watched.look() == []
    assert session.close_reason is None

    watched.records.store_id = b"store-2"
    watched.records.records = saved
    assert watched.look() == []
    watched.records.records = {}
    assert watched.look() == [("CP-001", "identity_missing")]  # deleted from the store that is there now


def test_a_revocation_counts_in_a_store_that_lost_the_record_too(watched: Watched) -> None:
    watched.connect(shown=SHOWN)
    watched.records.records.clear()
    watched.records.store_id = b"store-2"
    watched.records.revoked.add(SHOWN.fingerprint)
    assert watched.look() == [("CP-001", "mtls_revoked")]


def test_a_broken_record_ends_no_session_and_is_told_of_once(watched: Watched, warnings: list[LogEvent]) -> None:
    session = watched.connect()
    watched.records.records["CP-001"] = b'{"stationId": "cdcdcdcdcdcdcdcd'
    for _ in range(3):
        assert watched.look() == []
    assert session.close_reason is None
    (line,) = warnings
    assert (line["event"], line["charge_point_id"]) == ("identity.invalid", "CP-001")
    watched.change(status="inactive")
    assert watched.look() == [("CP-001", "status_inactive")]


def test_what_a_changed_record_warns_of_is_told(watched: Watched, warnings: list[LogEvent]) -> None:
    session = watched.connect()
    watched.change(allowedIps=["192.0.2.1", "nonsense"])
    assert watched.look() == []
    (line,) = warnings
    assert line["event"] == "identity.invalid"
    assert session.close_reason is None


def test_the_lists_of_the_whole_gateway_still_hold(schemas: Schemas, warnings: list[LogEvent]) -> None:
    records = Records()
    watched = Watched(Fleet(schemas, records, allowed_addresses=AddressList.parse(["192.0.2.1"], [])), records)
    watched.connect()
    watched.change(note="x")
    assert watched.look() == []
    elsewhere = Watched(Fleet(schemas, records, allowed_addresses=AddressList.parse(["192.0.2.9"], [])), records)
    elsewhere.connect()
    elsewhere.change(note="y")
    assert elsewhere.look() == [("CP-001", "ip_not_allowed")]


def test_many_are_asked_for_in_batches(watched: Watched) -> None:
    callers = [Caller(f"CP-{number:04d}", f"station-{number}", "tenant-a") for number in range(450)]
    sessions = [watched.connect(caller) for caller in callers]
    for caller in callers[::50]:
        watched.change(caller, status="blocked")
    assert sorted(watched.look()) == [(caller.charge_point_id, "status_inactive") for caller in callers[::50]]
    assert watched.records.questions == [200, 200, 50]
    assert sum(session.close_reason is None for session in sessions) == 450 - 9


def test_nobody_connected_is_nothing_to_ask(watched: Watched) -> None:
    assert watched.look() == []
    assert watched.records.questions == []


def test_a_session_that_ends_meanwhile_is_left_alone(watched: Watched, warnings: list[LogEvent]) -> None:
    session = watched.connect()
    watched.change(status="inactive")
    watched.records.during = lambda: session.close(CloseReason.SERVICE_RESTART)
    assert watched.look() == []
    assert session.close_reason is CloseReason.SERVICE_RESTART
    assert warnings == []


def test_one_that_is_replaced_meanwhile_does_not_hide_the_newer_one(watched: Watched) -> None:
    older = watched.connect()
    watched.records.during = lambda: watched.fleet.connect(older.standing)
    watched.change(status="inactive")
    assert watched.look() == []
    assert older.close_reason is CloseReason.REPLACED
    watched.records.during = lambda: None
    assert watched.look() == [("CP-001", "status_inactive")]


def test_redis_away_ends_no_session(watched: Watched) -> None:
    session = watched.connect()
    watched.change(status="inactive")
    watched.records.away = True
    with pytest.raises(StoreUnavailable):
        watched.look()
    assert session.close_reason is None
    watched.records.away = False
    assert watched.look() == [("CP-001", "status_inactive")]


def test_new_revocation_lists_are_held_against_those_connected(watched: Watched) -> None:
    session = watched.connect(shown=SHOWN)
    by_password = watched.connect(OTHER)
    watched.recheck("0B" * 32)
    assert watched.fleet.revoked() == []
    watched.recheck(SHOWN.fingerprint)
    assert watched.fleet.revoked() == [("CP-001", "mtls_revoked")]
    assert session.close_reason is CloseReason.MTLS_REVOKED
    assert by_password.close_reason is None
    assert watched.records.questions == []


def test_of_many_in_turns_of_the_reactor_and_the_newest_lists_count(watched: Watched) -> None:
    callers = [Caller(f"CP-{number:04d}", f"station-{number}", "tenant-a") for number in range(450)]
    for number, caller in enumerate(callers):
        shown = certificate(caller.charge_point_id, fingerprint=f"{number:04X}")
        watched.connect(caller, shown, auth={"type": "mtls"})
    last = ("CP-0449", "mtls_revoked")
    watched.recheck(f"{449:04X}")
    assert watched.fleet.revoked() == []
    watched.recheck(f"{449:04X}", f"{0:04X}")  # the lists changed again before all had been looked at
    assert watched.fleet.revoked() == [("CP-0000", "mtls_revoked")]
    watched.fleet.clock.advance(0)
    assert watched.fleet.revoked() == [("CP-0000", "mtls_revoked"), last]
    due = [call for call in watched.fleet.clock.timers.getDelayedCalls() if call.getTime() == 0]
    assert due == []


def test_a_handshake_that_the_old_lists_let_through_is_found_by_the_next_round(watched: Watched) -> None:
    watched.recheck(SHOWN.fingerprint)
    session = watched.connect(shown=SHOWN)
    assert session.close_reason is None
    assert watched.look() == [("CP-001", "mtls_revoked")]


def test_a_record_with_its_members_in_another_order_is_another_text_and_the_same_rights(watched: Watched) -> None:
    session = watched.connect()
    reordered = dict(reversed(json.loads(watched.records.records["CP-001"]).items()))
    watched.records.records["CP-001"] = json.dumps(reordered).encode()
    assert watched.look() == []
    assert session.close_reason is None
