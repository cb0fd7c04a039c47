"""One session, with the real uplink behind it and Kafka in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from session_parts import certificate
from session_world import World
from twisted.logger import LogEvent

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session import defects
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.revoking import revoke

V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21
START = {"connectorId": 1, "idTag": "T", "meterStart": 0, "timestamp": "2026-01-02T03:04:05Z"}


def test_a_retransmission_gets_its_answer_again_and_makes_no_second_event(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(3):
        world.say("StartTransaction", START)
        world.bus.settle()
    assert len(world.bus.records) == 1
    assert world.line.sent[0] == world.line.sent[1] == world.line.sent[2]
    assert world.counts.calls == ["answered", "retransmitted", "retransmitted"]
    world.clock.advance(61)
    world.say("StartTransaction", START)
    assert len(world.bus.records) == 2
    world.done()


def test_an_answer_with_a_clock_in_it_is_made_anew(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(2):
        world.say("Heartbeat", {})
        world.bus.settle()
        world.clock.advance(15)
    first, second = (frame[2]["currentTime"] for frame in world.line.sent)
    assert first != second
    world.done()


def test_a_refusal_is_thought_over_when_the_call_comes_again(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(2):
        world.say("Nonsense", {})
    assert [frame[2] for frame in world.line.sent] == ["NotImplemented"] * 2
    assert world.counts.calls == ["refused", "refused"]


def test_what_waits_is_bounded_in_bytes_too(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    big = {"vendorId": "V", "data": "x" * 30_000}
    for number in range(3):
        world.say("DataTransfer", big, f"m-{number}")
    assert world.line.paused == 1
    world.bus.settle()
    world.bus.settle()
    assert world.line.paused == 0
    world.done()
    assert [frame[1] for frame in world.line.sent] == ["1", "m-0", "m-1", "m-2"]


def test_calls_that_end_at_once_leave_the_reactor_its_turns(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    for number in range(40):
        world.say("Nonsense", {}, f"m-{number}")
    world.bus.settle()
    assert len(world.line.sent) == 1 + 16
    world.say("Nonsense", {}, "m-40")  # arrives between two turns, and waits for its own
    world.clock.advance(0)
    assert [frame[1] for frame in world.line.sent] == ["1", *(f"m-{number}" for number in range(41))]
    world.done()


def test_bad_frames_end_a_connection_only_one_after_the_other(schemas: Schemas) -> None:
    world = World(schemas)
    for _ in range(5):
        for _ in range(9):
            world.hear("nonsense")
        world.say("Nonsense", {})
    assert world.line.closed is None
    for _ in range(10):
        world.hear("nonsense")
    assert world.line.closed is CloseReason.BAD_FRAMES


@pytest.mark.parametrize("text", ['[9,"1",{}]', '[2,"%s","Heartbeat",{}]' % ("x" * 38)])
def test_what_firmware_does_for_ever_ends_no_connection(schemas: Schemas, text: str) -> None:
    world = World(schemas)
    for _ in range(50):
        world.hear(text)
    assert world.line.closed is None
    assert len(world.counts.bad) == 50


def test_a_rejected_answer_is_logged_once_a_connection_and_without_the_peers_text(
    schemas: Schemas, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[LogEvent] = []
    monkeypatch.setattr(defects.log, "observer", logged.append)
    world = World(schemas, V21)
    for number in range(100):
        world.hear(json.dumps([5, str(number), "\x1b]0;owned\x07", "", {}]))
    (event,) = logged
    assert (event["event"], event["code"]) == ("call.answer_rejected", "other")
    assert world.counts.bad == ["callresulterror"] * 100


def test_billing_data_under_a_long_id_is_published_as_it_came(schemas: Schemas) -> None:
    world = World(schemas)
    stop = {"transactionId": 7, "meterStop": 9, "timestamp": "2026-01-02T03:04:05Z"}
    world.say("StopTransaction", stop, "x" * 60)
    (record,) = world.bus.records
    assert record.event["payload"]["payload"] == stop
    assert record.event["payload"]["schemaErrors"] == ["message_id_too_long"]
    assert "rawFrame" not in record.event["payload"]
    world.done()
    assert world.line.sent == [[3, "x" * 60, {}]]


@pytest.mark.parametrize(
    ("version", "text", "answer"),
    [
        (V16, '[2,"m1\n,"StopTransaction",{"transactionId":7}]', []),
        (V16, '[2,"m1",,"StopTransaction",{"transactionId":7}]', [[3, "m1", {}]]),
        (V201, '[2,"m1\n,"TransactionEvent",{"seqNo":7}]', [[3, "-1", {}]]),
    ],
)
def test_billing_data_behind_a_damaged_id_is_kept(
    schemas: Schemas, version: OcppVersion, text: str, answer: list[Any]
) -> None:
    world = World(schemas, version)
    world.hear(text)
    (record,) = world.bus.records
    assert record.event["payload"]["rawFrame"] == text.replace("\n", "?")
    assert record.event["payload"]["schemaErrors"] == ["not_json"]
    world.done()
    assert world.line.sent == answer


def test_a_session_that_is_closing_already_goes_on_reading_when_the_gateway_stops(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    world.session.close(CloseReason.REPLACED)
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert world.line.paused == 0
    assert world.line.closed is CloseReason.REPLACED
    world.done()


def test_stopping_waits_for_the_answer_under_way_and_begins_no_other(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("StartTransaction", START)
    world.say("Heartbeat", {}, "2")
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    assert world.line.closed is None
    world.bus.settle()
    assert [frame[1] for frame in world.line.sent] == ["1"]
    assert world.line.closed is CloseReason.SERVICE_RESTART
    assert len(world.bus.records) == 1
    world.done()


def test_kafka_gone_closes_without_an_answer(schemas: Schemas, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(schemas)
    monkeypatch.setattr("ocpp_gateway.routing.writability.log.observer", lambda event: None)
    world.say("StartTransaction", START)
    world.clock.advance(8)
    assert world.line.sent == []
    assert world.line.closed is CloseReason.KAFKA_UNAVAILABLE
    assert world.timers == []


def boot(serial_number: Any = None) -> dict[str, Any]:
    charging_station = {"model": "M", "vendorName": "V", "serialNumber": serial_number}
    if serial_number is None:
        del charging_station["serialNumber"]
    return {"reason": "PowerUp", "chargingStation": charging_station}


@pytest.mark.parametrize("version", [V201, V21])
def test_the_serial_number_of_the_certificate_is_what_boot_notification_has_to_say(
    schemas: Schemas, version: OcppVersion
) -> None:
    world = World(schemas, version, certificate("SN-0815"))
    assert world.session.serial_number == "SN-0815"
    world.say("BootNotification", boot("SN-0815"))
    world.done()
    assert world.line.closed is None
    assert [frame[0] for frame in world.line.sent] == [3]
    assert world.security_bus.records == []


@pytest.mark.parametrize(
    "payload",
    [
        boot("SN-4711"),
        boot("sn-0815"),
        boot(),
        boot(815),
        {"chargingStation": "SN-0815", "reason": "PowerUp"},
        {},
        None,
    ],
)
@pytest.mark.parametrize("version", [V201, V21])
def test_another_serial_number_or_none_is_neither_published_nor_answered(
    schemas: Schemas, version: OcppVersion, payload: Any, warnings: list[LogEvent]
) -> None:
    world = World(schemas, version, certificate("SN-0815"))
    world.say("BootNotification", payload)
    world.say("Heartbeat", {}, "2")
    assert world.line.closed is CloseReason.SERIAL_NUMBER_MISMATCH
    assert world.line.sent == []
    assert world.bus.records == []
    assert world.timers == []
    (revoked,) = world.security_bus.records
    assert revoked.event["eventType"] == "SessionRevoked"
    assert revoked.event["chargePointId"] == "CP-001"
    assert revoked.event["payload"] == {
        "reason": "serial_number_mismatch",
        "peer": "192.0.2.1",
        "connectionId": "connection-1",
        "epoch": 1,
        "certificate": "0A" * 32,
    }
    (line,) = warnings
    assert (line["event"], line["reason"], line["log_level"].name) == (
        *("session.revoked", "serial_number_mismatch", "warn"),
    )


def test_a_boot_notification_that_waited_is_looked_at_too(schemas: Schemas, warnings: list[LogEvent]) -> None:
    world = World(schemas, V201, certificate("SN-0815"))
    world.say("Heartbeat", {})
    world.say("BootNotification", boot("SN-4711"), "2")
    world.say("Heartbeat", {}, "3")
    assert world.line.closed is None
    world.bus.settle()
    assert world.line.closed is CloseReason.SERIAL_NUMBER_MISMATCH
    assert [frame[1] for frame in world.line.sent] == ["1"]
    assert len(world.bus.records) == 1
    assert len(warnings) == 1
    world.done()


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (V16, certificate("SN-0815")),
        (V201, certificate("CP-001")),
        (V201, certificate(None)),
        (V201, certificate("charger-0001.operator.example")),
        (V21, evolve(certificate("SN-0815"), alternative_names=("URI:CP-001",))),
        (V201, None),
    ],
)
def test_elsewhere_boot_notification_may_say_any_serial_number(
    schemas: Schemas, version: OcppVersion, shown: ClientCertificate | None
) -> None:
    """1.6 has no such rule. Nor does a certificate say one that names the identity, or nothing as short as a number."""
    world = World(schemas, version, shown)
    assert world.session.serial_number is None
    payload = boot("SN-4711")
    if version is V16:
        payload = {"chargePointVendor": "V", "chargePointModel": "M", "chargePointSerialNumber": "SN-4711"}
    world.say("BootNotification", payload)
    world.done()
    assert [frame[0] for frame in world.line.sent] == [3]
    assert world.line.closed is None


def test_a_session_that_is_closing_is_not_revoked_besides(schemas: Schemas, warnings: list[LogEvent]) -> None:
    world = World(schemas)
    world.session.close(CloseReason.REPLACED)
    revoke(world.session, CloseReason.MTLS_REVOKED, world.session.security)
    assert world.session.close_reason is CloseReason.REPLACED
    assert world.security_bus.records == []
    assert warnings == []


# Somebody else has the charge point, and is asked what we did not answer.


@pytest.mark.parametrize("reason", [CloseReason.REPLACED, CloseReason.TRANSFERRED])
def test_what_had_not_gone_to_kafka_when_another_took_over_goes_there_from_him(
    schemas: Schemas, reason: CloseReason
) -> None:
    world = World(schemas)
    world.bus.congested = True
    world.say("StartTransaction", START)
    world.session.close(reason)
    world.bus.settle()
    assert world.bus.records == []
    assert world.counts.calls == ["superseded"]
    assert len(world.holds) == 0
    world.session.closed(CloseReason.CONNECTION_LOST)
    world.done()


@pytest.mark.parametrize("reason", [CloseReason.KICKED, CloseReason.STALE, CloseReason.MESSAGE_FLOOD])
def test_whoever_is_only_sent_away_is_published_all_the_same(schemas: Schemas, reason: CloseReason) -> None:
    world = World(schemas)
    world.bus.congested = True
    world.say("StartTransaction", START)
    world.session.close(reason)
    world.bus.settle()
    assert len(world.bus.records) == 1
    world.done()
    assert world.counts.calls == ["answered"]


def test_what_is_dropped_is_not_counted_as_sent(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    world.bus.settle()
    sent = (world.session.messages_out, world.session.bytes_out)
    assert sent[0] == 1
    assert sent[1] > 40
    world.say("Heartbeat", {}, "2")
    world.session.close(CloseReason.KICKED)
    world.done()
    assert (world.session.messages_out, world.session.bytes_out) == sent
    assert len(world.line.sent) == 1


def test_what_is_sent_while_the_gateway_stops_counts(schemas: Schemas) -> None:
    world = World(schemas)
    world.say("Heartbeat", {})
    world.session.close_when_answered(CloseReason.SERVICE_RESTART)
    world.done()
    assert world.session.messages_out == len(world.line.sent) == 1
