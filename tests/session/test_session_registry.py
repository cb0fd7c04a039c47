"""What is said of a charge point that connects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from routing.routing_parts import station
from session_parts import Fleet, Line, certificate, session_identity, standing
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session import registry as registry_module
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.session import Session


class NobodysRecords:
    async def look_up_all(self, wanted: Any) -> Any:
        raise AssertionError("not asked here")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(registry_module.log, "observer", seen.append)
    return seen


@pytest.fixture
def fleet(schemas: Schemas) -> Fleet:
    return Fleet(schemas, NobodysRecords())


def test_a_certificate_is_told_of(fleet: Fleet, logged: list[LogEvent]) -> None:
    rests_on = standing(OcppVersion.V201, certificate("SN-1", subject="CN=SN-1"))
    session = fleet.connect(rests_on)
    assert session.standing is rests_on
    assert session.serial_number == "SN-1"
    (connected,) = (record.event for record in fleet.bus.records)
    assert connected["eventType"] == "StationConnected"
    assert "certificateExpired" not in connected
    assert connected["payload"] == {
        "peer": "192.0.2.1",
        "securityProfile": 3,
        "certificate": {
            "fingerprint": "0A" * 32,
            "subject": "CN=SN-1",
            "serialNumber": "1F",
            "notAfter": "2027-01-15T08:00:00.000Z",
        },
    }
    (line,) = logged
    assert (line["event"], line["certificate"]) == ("session.opened", "0A" * 32)


def test_one_that_ran_out_besides(fleet: Fleet, logged: list[LogEvent]) -> None:
    fleet.connect(standing(certificate=certificate(not_after=1_767_000_000.0)), certificate_expired=True)
    (connected,) = (record.event for record in fleet.bus.records)
    assert connected["certificateExpired"] is True
    assert connected["payload"]["certificate"]["expired"] is True
    assert len(logged) == 1


def test_without_one_there_is_nothing_to_tell(fleet: Fleet, logged: list[LogEvent]) -> None:
    session = fleet.connect(standing())
    assert session.serial_number is None
    (connected,) = (record.event for record in fleet.bus.records)
    assert connected["payload"] == {"peer": "192.0.2.1", "securityProfile": 2}
    assert logged[0]["certificate"] is None


def test_a_session_counts_once_it_is_open(fleet: Fleet) -> None:
    session = fleet.connect()
    assert fleet.open_sessions.told == [("CP-001", session.identity.epoch)]


# Taken over by another node, told before the session is open here: the word overtook the reply to the claim.


def connect(fleet: Fleet, epoch: int) -> Session:
    session = fleet.sessions.open(session_identity(epoch=epoch), station(OcppVersion.V16), standing(), Line())
    fleet.bus.settle()
    return session


@pytest.mark.parametrize("told", [4, 5])
def test_a_session_that_was_taken_over_before_it_is_open_ends_at_once(fleet: Fleet, told: int) -> None:
    fleet.sessions.transferred("CP-001", told)
    session = connect(fleet, 4)
    assert session.close_reason is CloseReason.TRANSFERRED
    assert list(fleet.sessions) == []
    assert fleet.open_sessions.told == []
    fleet.sessions.closed(session, CloseReason.CONNECTION_LOST, None)
    fleet.bus.settle()
    assert [record.event["eventType"] for record in fleet.bus.records] == ["StationConnected", "StationDisconnected"]
    assert fleet.counts.closes == ["transferred"]
    assert fleet.sessions.when_empty().called


def test_the_one_after_it_stays(fleet: Fleet) -> None:
    fleet.sessions.transferred("CP-001", 4)
    session = connect(fleet, 5)
    assert session.close_reason is None
    assert list(fleet.sessions) == [session]
    late = connect(fleet, 4)
    assert (late.close_reason, session.close_reason) == (CloseReason.REPLACED, None)


def test_nor_does_the_word_hold_for_ever_or_for_others(fleet: Fleet) -> None:
    fleet.sessions.transferred("CP-002", 9)
    fleet.sessions.transferred("CP-001", 4)
    fleet.clock.advance(10)
    assert connect(fleet, 4).close_reason is CloseReason.TRANSFERRED
    fleet.clock.advance(0.5)
    assert connect(fleet, 4).close_reason is None


def test_the_words_that_are_too_old_are_forgotten(fleet: Fleet) -> None:
    for number in range(100):
        fleet.sessions.transferred(f"CP-{number}", 1)
        fleet.clock.advance(1)
    fleet.sessions.transferred("CP-99", 2)
    assert sorted(fleet.sessions._told.items()) == [(f"CP-{n}", (1, float(n))) for n in range(90, 99)] + [
        ("CP-99", (2, 100.0))
    ]
