"""A whole charging session of charge points that we did not write, in every version, through both ports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.gateway import Gateway
from support.stations import charge, station

EXPECTED = {
    "1.6": [
        "StationConnected",
        "StationBooted",
        "ConnectorStatusChanged",
        "StationHeartbeat",
        "Authorize",
        "SessionStarted",
        "MeterValuesReceived",
        "MeterValuesReceived",
        "SessionStopped",
    ],
    "2.0.1": [
        "StationConnected",
        "StationBooted",
        "ConnectorStatusChanged",
        "StationHeartbeat",
        "Authorize",
        "SessionEvent",
        "SessionEvent",
        "SessionEvent",
    ],
}
EXPECTED["2.1"] = EXPECTED["2.0.1"]


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
@pytest.mark.parametrize("port", ["ocpp", "http"])
def test_a_charging_session_is_in_kafka(
    gateway: Gateway, events: Any, charge_point_id: str, version: str, port: str
) -> None:
    number = gateway.ocpp_port if port == "ocpp" else gateway.http_port
    url = f"ws://127.0.0.1:{number}/ocpp/{version}/{charge_point_id}"

    async def session() -> list[Any]:
        async with station(url, charge_point_id, version) as point:
            return await charge(point, version)

    answers = asyncio.run(session())

    assert all(answer is not None for answer in answers)  # the ocpp package gives None for a CALLERROR
    assert answers[0].status == "Accepted"
    gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    published = [event for event in events(charge_point_id) if event["eventType"] != "StationDisconnected"]
    assert sorted(event["eventType"] for event in published) == sorted(EXPECTED[version])
    assert {event["ocppVersion"] for event in published} == {{"1.6": "1.6J"}.get(version, version)}
    assert {event["stationId"] for event in published} == {f"station-{charge_point_id}"}
    assert len({event["connectionId"] for event in published}) == 1
