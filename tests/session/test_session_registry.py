"""What is said of a charge point that connects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from session_parts import Fleet, certificate, standing
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session import registry as registry_module


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
