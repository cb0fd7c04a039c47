"""What happens around the door, for whoever watches it: refused handshakes, sessions taken over, sessions revoked.

These events are a help, not a record: the log has them all, the end of a session is announced besides
(``presence``). So they give way to everything else. One is dropped, and counted, when Kafka has no room for it, when
it fails, or when too many of its type came before it; charge points and strangers can cause any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from attrs import define, field

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.routing.envelope import members, written
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.uplink import EventBus

_RATE = 50.0
"""Events a second that are let through of each type, and ``_BURST`` at once: refusals must not crowd out the rest."""

_BURST = 200.0


class SecurityCounters(Protocol):
    """What is counted here."""

    def count_security_event(self, event_type: str, outcome: str) -> None:
        """A security event was ``published`` (Kafka has it) or ``dropped``."""
        ...


@define
class _Bucket:
    tokens: float
    filled_at: float

    def take(self, now: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now - self.filled_at) * _RATE)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@define(eq=False, kw_only=True)
class SecurityEvents:
    """Publishes on ``topic`` (OCPP_SECURITY_EVENTS_TOPIC). One for the whole node."""

    bus: EventBus
    topic: str
    stamps: EventStamps
    clock: Clock
    node_id: str
    counters: SecurityCounters
    max_waiting: int
    """Events that may wait for Kafka. Without a leader for this topic they would, and fill the queue that all share."""

    _waiting: int = field(default=0, init=False)
    _buckets: dict[str, _Bucket] = field(factory=dict, init=False)

    def publish(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        charge_point_id: str | None = None,
        station_id: str | None = None,
        tenant_id: str | None = None,
        peer: str | None = None,
    ) -> None:
        """Hand an event over, or drop it; never fails. ``event_type`` is one of a few of ours, ``payload`` is JSON.

        The events of one charge point stay in order, and so do those of a ``peer`` (an address) that named none.
        """
        now = self.clock.monotonic()
        bucket = self._buckets.setdefault(event_type, _Bucket(_BURST, now))
        if self.bus.congested or self._waiting >= self.max_waiting or not bucket.take(now):
            self.counters.count_security_event(event_type, "dropped")
            return
        subject = (charge_point_id or "").encode()
        record = written(
            self.stamps,
            event_type,
            self.clock.now(),
            orjson.dumps(dict(payload)),
            members(stationId=station_id, tenantId=tenant_id, chargePointId=charge_point_id),
            members(nodeId=self.node_id),
            subject,
        )
        headers = [header for header in record.headers if subject or header[0] != "ce_subject"]

        def delivered(error: BusUnavailable | None) -> None:
            self._waiting -= 1
            self.counters.count_security_event(event_type, "published" if error is None else "dropped")

        key = subject or (peer or self.node_id).encode()
        self._waiting += 1
        try:
            self.bus.publish(self.topic, key, record.value, headers, delivered)
        except BusUnavailable as error:
            delivered(error)
