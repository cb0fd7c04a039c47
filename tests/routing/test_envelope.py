"""Events are the wire contract's: members, order, bytes as received, headers."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.clock import iso_millis
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps

NOW = 1_767_323_045.678


def envelope(**facts: Any) -> Envelope:
    return Envelope(
        **{
            "charge_point_id": "CP-001",
            "station_id": "station-1",
            "tenant_id": "tenant-a",
            "ocpp_version": "1.6J",
            "connection_id": "6a1f7a5e-0000-4000-8000-000000000001",
            "epoch": 3,
            "node_id": "node-1",
            "stamps": EventStamps(),
            **facts,
        }
    )


def test_event_of_a_call() -> None:
    record = envelope().event(
        "SessionStarted",
        now=NOW,
        action="StartTransaction",
        raw_payload=b'{"connectorId":1, "meterStart" : 1.00}',
        extras={"transactionId": 7, "idempotent": False},
        message_id="id-1",
        connector_id=1,
        correlation_id="command-1",
    )
    assert record.value == (
        b'{"eventId":"' + record.event_id.encode() + b'","eventType":"SessionStarted","source":"ocpp-gateway",'
        b'"occurredAt":"2026-01-02T03:04:05.678Z","correlationId":"command-1","stationId":"station-1",'
        b'"tenantId":"tenant-a","chargePointId":"CP-001","connectorId":1,"ocppVersion":"1.6J","messageId":"id-1",'
        b'"connectionId":"6a1f7a5e-0000-4000-8000-000000000001","epoch":3,"nodeId":"node-1",'
        b'"payload":{"action":"StartTransaction","payload":{"connectorId":1, "meterStart" : 1.00},'
        b'"transactionId":7,"idempotent":false}}'
    )
    assert record.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", record.event_id.encode()),
        ("ce_type", b"SessionStarted"),
        ("ce_source", b"ocpp-gateway"),
        ("ce_time", b"2026-01-02T03:04:05.678Z"),
        ("ce_subject", b"CP-001"),
        ("content-type", b"application/json"),
    ]


def test_what_is_absent_is_left_out() -> None:
    record = envelope().event("StationHeartbeat", now=NOW, action="Heartbeat", raw_payload=b"{}", extras={})
    event = orjson.loads(record.value)
    assert list(event) == [
        *("eventId", "eventType", "source", "occurredAt", "stationId", "tenantId", "chargePointId", "ocppVersion"),
        *("connectionId", "epoch", "nodeId", "payload"),
    ]
    assert event["payload"] == {"action": "Heartbeat", "payload": {}}


def test_events_of_a_charge_point_with_an_expired_certificate_say_so() -> None:
    call = envelope(certificate_expired=True).event("E", now=NOW, action="A", raw_payload=b"{}", extras={})
    assert b'"nodeId":"node-1","certificateExpired":true,"payload":' in call.value
    plain = envelope(certificate_expired=True).plain("StationConnected", {}, now=NOW)
    assert orjson.loads(plain.value)["certificateExpired"] is True
    assert b"certificateExpired" not in envelope().plain("StationConnected", {}, now=NOW).value


def test_numeric_message_id_is_text_and_connector_zero_is_there() -> None:
    record = envelope().event("E", now=NOW, action="A", raw_payload=b"{}", extras={}, message_id=17, connector_id=0)
    event = orjson.loads(record.value)
    assert (event["messageId"], event["connectorId"]) == ("17", 0)


def test_plain_event_carries_its_payload_as_it_is() -> None:
    record = envelope().plain("StationDisconnected", {"reason": "replaced", "durationMs": 5}, now=NOW)
    event = orjson.loads(record.value)
    assert event["eventType"] == "StationDisconnected"
    assert event["payload"] == {"reason": "replaced", "durationMs": 5}
    assert ("ce_type", b"StationDisconnected") in record.headers
    assert "messageId" not in event and "connectorId" not in event


def test_plain_event_of_a_connector_that_is_told_again() -> None:
    given_id = "5b1f6f9c-7f0e-5f0a-8f55-6d6f1c1a9d11"
    record = envelope().plain(
        "CommandAccepted", {}, now=NOW, connector_id=0, correlation_id="command-1", event_id=given_id
    )
    event = orjson.loads(record.value)
    assert record.event_id == event["eventId"] == given_id
    assert ("ce_id", given_id.encode()) in record.headers
    assert list(event) == [
        *("eventId", "eventType", "source", "occurredAt", "correlationId", "stationId", "tenantId", "chargePointId"),
        *("connectorId", "ocppVersion", "connectionId", "epoch", "nodeId", "payload"),
    ]
    assert (event["connectorId"], event["correlationId"]) == (0, "command-1")


def test_event_that_asks_for_an_answer_is_the_same_but_for_where_to_answer() -> None:
    call: dict[str, Any] = {
        "now": NOW,
        "action": "Authorize",
        "raw_payload": b'{"idTag":"TAG-1"}',
        "extras": {},
        "message_id": "id-1",
    }
    reply_to = {"topic": "ocpp.csms.replies", "partition": 300, "correlationId": "node-1.2f6c"}
    asking, telling = envelope(), envelope(stamps=EventStamps())
    record = asking.event("Authorize", **call, reply_to=reply_to)
    plain = telling.event("Authorize", **call)
    member = b',"replyTo":{"topic":"ocpp.csms.replies","partition":300,"correlationId":"node-1.2f6c"}'
    assert member + b',"payload":' in record.value
    assert record.value.replace(member, b"").replace(record.event_id.encode(), plain.event_id.encode()) == plain.value
    assert record.headers[:-3] == [
        (name, record.event_id.encode() if name == "ce_id" else value) for name, value in plain.headers
    ]
    assert record.headers[-3:] == [
        ("kafka_replyTopic", b"ocpp.csms.replies"),
        ("kafka_replyPartition", b"\x00\x00\x01\x2c"),
        ("kafka_correlationId", b"node-1.2f6c"),
    ]
    # Nothing of it stays for the next event of the connection.
    assert b"replyTo" not in asking.event("Authorize", **call).value


@given(
    texts=st.lists(st.text(), min_size=9, max_size=9),
    payload=st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.none()),
    extras=st.dictionaries(st.text().filter(lambda name: name not in ("action", "payload")), st.text()),
    epoch=st.integers(0, 2**53),
)
def test_any_text_ends_up_in_its_own_member(
    texts: list[str], payload: dict[str, Any], extras: dict[str, str], epoch: int
) -> None:
    """Nothing that a charge point or an operator chose can break out of its place."""
    charge_point, station, tenant, connection, node, message_id, action, event_type, correlation = texts
    record = envelope(
        charge_point_id=charge_point,
        station_id=station,
        tenant_id=tenant,
        connection_id=connection,
        node_id=node,
        epoch=epoch,
    ).event(
        event_type,
        now=NOW,
        action=action,
        raw_payload=orjson.dumps(payload),
        extras=extras,
        message_id=message_id,
        correlation_id=correlation,
    )
    assert orjson.loads(record.value) == {
        "eventId": record.event_id,
        "eventType": event_type,
        "source": "ocpp-gateway",
        "occurredAt": "2026-01-02T03:04:05.678Z",
        "correlationId": correlation,
        "stationId": station,
        "tenantId": tenant,
        "chargePointId": charge_point,
        "ocppVersion": "1.6J",
        "messageId": message_id,
        "connectionId": connection,
        "epoch": epoch,
        "nodeId": node,
        "payload": {"action": action, "payload": payload, **extras},
    }


def test_event_ids_are_random_uuids_and_never_the_same() -> None:
    stamps = EventStamps()
    ids = [stamps.event_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for event_id in ids:
        parsed = uuid.UUID(event_id)
        assert (str(parsed), parsed.version, parsed.variant) == (event_id, 4, uuid.RFC_4122)


@given(st.lists(st.floats(0, 4_000_000_000), min_size=1, max_size=20))
def test_cached_time_is_the_clocks(moments: list[float]) -> None:
    stamps = EventStamps()
    for now in [*moments, *(moment + 0.001 for moment in moments), *moments]:
        assert stamps.occurred_at(now) == iso_millis(now)


@pytest.mark.parametrize("now", [0.0, 0.9996, 1_767_323_045.9999])
def test_time_is_cut_not_rounded(now: float) -> None:
    assert EventStamps().occurred_at(now) == iso_millis(now)
