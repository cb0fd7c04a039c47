"""What is told of sessions whose node ended without a word: the sweep has found their records (``sweeping``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.logger import Logger

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis.sessions import SessionRecord
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.reasons import CloseReason

log = Logger()


@define(eq=False, kw_only=True)
class LostSessions:
    """Announces their end, once each, as the node itself would have. ``node_id``: ours."""

    presence: Presence
    stamps: EventStamps
    count: Callable[[OcppVersion], None]
    node_id: str

    def tell(self, record: SessionRecord) -> None:
        """The session of ``record`` is over, and its record is deleted. Its counts are those of its last refresh."""
        reason = CloseReason.NODE_LOST.label
        log.warn(
            "{charge_point_id} was connected to {lost_node_id}, which is gone",
            event="session.lost",
            charge_point_id=record.charge_point_id,
            connection_id=record.connection_id,
            epoch=record.epoch,
            lost_node_id=record.node_id,
            close_reason=reason,
            last_seen_at=record.last_seen_at,
        )
        envelope = Envelope(
            charge_point_id=record.charge_point_id,
            station_id=record.station_id,
            tenant_id=record.tenant_id,
            ocpp_version=record.ocpp_version,
            connection_id=record.connection_id,
            epoch=record.epoch,
            node_id=record.node_id,
            stamps=self.stamps,
        )
        facts: dict[str, Any] = {
            "reason": reason,
            "durationMs": max(0, record.last_seen_at_ms - record.connected_at_ms),
            "lastSeenAt": record.last_seen_at,
            "calls": record.calls,
            "bytesIn": record.bytes_in,
            "bytesOut": record.bytes_out,
            "sweptBy": self.node_id,
        }
        self.presence.announce(envelope, "StationDisconnected", facts)
        version = OcppVersion.from_label(record.ocpp_version)
        if version is not None:
            self.count(version)
