"""What the uplink's collaborators are in its tests: real ones, over memory."""

from __future__ import annotations

from typing import Any

from adapters.adapter_ports import CALLER, MemoryStore, adapter_of

from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.uplink import Station


def station(
    version: OcppVersion = OcppVersion.V16,
    store: MemoryStore | None = None,
    policy: IdTokenPolicy = IdTokenPolicy.ACCEPT,
    adapter: Any = None,
) -> Station:
    return Station(
        version=version,
        caller=CALLER,
        adapter=adapter or adapter_of(version, store or MemoryStore(), policy),
        envelope=Envelope(
            charge_point_id=CALLER.charge_point_id,
            station_id=CALLER.station_id,
            tenant_id=CALLER.tenant_id,
            ocpp_version=version.label,
            connection_id="connection-1",
            epoch=1,
            node_id="node-1",
            stamps=EventStamps(),
        ),
        key=CALLER.station_id.encode(),
    )
