"""Events as the back ends read them (docs/WIRE.md).

An event is one JSON object with its members in a fixed order. All that does not change while a connection lives is
written once; what a charge point sent is spliced in as the bytes it came in, because they have been read and checked
already: nothing is serialised twice, and nothing is lost on the way (1.00 stays 1.00).

The headers are those of the CloudEvents 1.0 binding for Kafka, binary content mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define, field, frozen

from ocpp_gateway.ocppj.frames import MessageId
from ocpp_gateway.routing.stamps import EventStamps

Headers = list[tuple[str, bytes]]


@frozen
class EventRecord:
    """A record for Kafka, but for topic and key."""

    event_id: str
    value: bytes
    headers: Headers


@define(eq=False, kw_only=True)
class Envelope:
    """Writes the events of one connection. All texts may hold any character."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    ocpp_version: str
    """The label: 1.6J, 2.0.1 or 2.1."""

    connection_id: str
    epoch: int
    node_id: str
    stamps: EventStamps
    certificate_expired: bool = False
    """The charge point was let in by a client certificate that had run out: its events say so."""

    _who: bytes = field(init=False, repr=False)
    _version: bytes = field(init=False, repr=False)
    _connection: bytes = field(init=False, repr=False)
    _subject: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._subject = self.charge_point_id.encode()
        self._who = members(stationId=self.station_id, tenantId=self.tenant_id, chargePointId=self.charge_point_id)
        self._version = members(ocppVersion=self.ocpp_version)
        self._connection = members(connectionId=self.connection_id, epoch=self.epoch, nodeId=self.node_id)
        if self.certificate_expired:
            self._connection += members(certificateExpired=True)

    def event(
        self,
        event_type: str,
        *,
        now: float,
        action: str,
        raw_payload: bytes,
        extras: Mapping[str, Any],
        message_id: MessageId | None = None,
        connector_id: int | None = None,
        correlation_id: str | None = None,
        reply_to: Mapping[str, Any] | None = None,
    ) -> EventRecord:
        """The event of a CALL or SEND. ``now``: wall clock, seconds since the epoch.

        ``raw_payload`` is a JSON object, spliced in as it is. ``extras`` come behind it, within the event's payload. A
        numeric message id is written as text: readers see one type. ``reply_to``: where the CSMS's answer is waited
        for (``topic``, ``partition``, ``correlationId``), as a member and as headers.
        """
        payload = b"".join(
            (
                b'{"action":',
                orjson.dumps(action),
                b',"payload":',
                raw_payload,
                b"," + orjson.dumps(dict(extras))[1:] if extras else b"}",
            )
        )
        connection = self._connection
        if reply_to is not None:
            connection += b',"replyTo":' + orjson.dumps(dict(reply_to))
        record = written(
            self.stamps,
            event_type,
            now,
            payload,
            self._who,
            connection,
            self._subject,
            self._version,
            message_id,
            connector_id,
            correlation_id,
        )
        if reply_to is not None:
            record.headers.extend(_reply_headers(reply_to))
        return record

    def plain(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        now: float,
        connector_id: int | None = None,
        correlation_id: str | None = None,
        event_id: str | None = None,
    ) -> EventRecord:
        """An event of the gateway's own about the charge point, with ``payload`` as it is.

        ``event_id``: where a repetition has to have the same; else it gets a new one.
        """
        return written(
            self.stamps,
            event_type,
            now,
            orjson.dumps(dict(payload)),
            self._who,
            self._connection,
            self._subject,
            self._version,
            connector_id=connector_id,
            correlation_id=correlation_id,
            event_id=event_id,
        )


def written(
    stamps: EventStamps,
    event_type: str,
    now: float,
    payload: bytes,
    who: bytes,
    connection: bytes,
    subject: bytes,
    version: bytes = b"",
    message_id: MessageId | None = None,
    connector_id: int | None = None,
    correlation_id: str | None = None,
    event_id: str | None = None,
) -> EventRecord:
    """An event of any kind. ``payload`` is JSON, ``who``, ``version`` and ``connection`` are made by ``members``.

    ``subject``: the charge point's identity for the header ``ce_subject``. Without an ``event_id`` it gets a new one.
    """
    if event_id is None:
        event_id = stamps.event_id()
    id_bytes = event_id.encode()
    time_bytes = stamps.occurred_at(now).encode()
    value = b"".join(
        (
            b'{"eventId":"',
            id_bytes,
            b'","eventType":',
            orjson.dumps(event_type),
            b',"source":"ocpp-gateway","occurredAt":"',
            time_bytes,
            b'"' if correlation_id is None else b'","correlationId":' + orjson.dumps(correlation_id),
            who,
            b"" if connector_id is None else b',"connectorId":%d' % connector_id,
            version,
            b"" if message_id is None else b',"messageId":' + orjson.dumps(str(message_id)),
            connection,
            b',"payload":',
            payload,
            b"}",
        )
    )
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id_bytes),
        ("ce_type", event_type.encode()),
        ("ce_source", b"ocpp-gateway"),
        ("ce_time", time_bytes),
        ("ce_subject", subject),
        ("content-type", b"application/json"),
    ]
    return EventRecord(event_id, value, headers)


def _reply_headers(reply_to: Mapping[str, Any]) -> Headers:
    """Those of Spring Kafka's request-reply: its ``@SendTo`` answers by them without a line of code."""
    partition: int = reply_to["partition"]
    return [
        ("kafka_replyTopic", reply_to["topic"].encode()),
        ("kafka_replyPartition", partition.to_bytes(4, "big")),
        ("kafka_correlationId", reply_to["correlationId"].encode()),
    ]


def members(**values: str | int | None) -> bytes:
    """Those ``values`` that are not None as members of a JSON object, each with a comma before it."""
    given = {name: value for name, value in values.items() if value is not None}
    return b"," + orjson.dumps(given)[1:-1] if given else b""
