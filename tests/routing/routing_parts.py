"""What the uplink's collaborators are in its tests: real ones, over memory."""

from __future__ import annotations

from typing import Any

from adapters.adapter_ports import CALLER, MemoryStore, adapter_of
from attrs import define, field
from routing.memory_bus import MemoryBus

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.clock import Clock
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.exchange import Station
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.stamps import EventStamps


def station(
    version: OcppVersion = OcppVersion.V16,
    store: MemoryStore | None = None,
    policy: IdTokenPolicy = IdTokenPolicy.ACCEPT,
    adapter: Any = None,
    caller: Caller = CALLER,
    certificate_expired: bool = False,
) -> Station:
    return Station(
        version=version,
        caller=caller,
        adapter=adapter or adapter_of(version, store or MemoryStore(), policy),
        envelope=Envelope(
            charge_point_id=caller.charge_point_id,
            station_id=caller.station_id,
            tenant_id=caller.tenant_id,
            ocpp_version=version.label,
            connection_id="connection-1",
            epoch=1,
            node_id="node-1",
            stamps=EventStamps(),
            certificate_expired=certificate_expired,
        ),
        key=caller.station_id.encode(),
    )


@define(eq=False)
class SecurityCounts:
    """What became of security events, in order."""

    outcomes: list[tuple[str, str]] = field(factory=list)

    def count_security_event(self, event_type: str, outcome: str) -> None:
        self.outcomes.append((event_type, outcome))


def security_events(
    bus: MemoryBus, clock: Clock, counts: SecurityCounts | None = None, *, max_waiting: int = 10_000
) -> SecurityEvents:
    return SecurityEvents(
        bus=bus,
        topic="security",
        stamps=EventStamps(),
        clock=clock,
        node_id="node-1",
        counters=counts or SecurityCounts(),
        max_waiting=max_waiting,
    )
