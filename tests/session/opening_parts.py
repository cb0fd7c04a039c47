"""The door with the store behind it in memory: answers come when a test says so."""

from __future__ import annotations

import re
from typing import Any

from adapters.adapter_ports import MemoryStore, adapter_of
from attrs import define, field
from session_parts import Fleet
from support.guards import NO_GUARD_LIMITS
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis.identities import Found
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.opening import Opening
from ocpp_gateway.session.record_log import RecordLog

PATTERN = re.compile("CP-.*")


@define(eq=False)
class Store:
    """Redis, as handshakes and the watch see it; it answers when it is told to."""

    store_id: bytes | None = b"before"
    records: dict[str, bytes] = field(factory=dict)
    looked_up: Deferred[None] = field(factory=Deferred)
    claimed: Deferred[None] = field(factory=Deferred)
    moments: list[int] = field(factory=list)

    async def look_up(self, charge_point_id: str, fingerprint: str | None, address: str, *, is_shared: bool) -> Found:
        found = Found(self.records.get(charge_point_id), False)
        await self.looked_up
        return found

    async def look_up_all(self, wanted: Any) -> tuple[bytes | None, list[Found]]:
        return self.store_id, [Found(self.records.get(charge_point_id), False) for charge_point_id, _ in wanted]

    async def claim_session(self, caller: Caller, version: OcppVersion, connected_at_ms: int, **_: Any) -> int:
        self.moments.append(connected_at_ms)
        await self.claimed
        return 1

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """Redis does not look at it here."""

    def lose(self) -> None:
        self.records.clear()
        self.store_id = b"after"


def opening_of(fleet: Fleet, store: Store, *, started_at_ms: int = 0) -> Opening:
    return Opening(
        identity_pattern=PATTERN,
        close_on_mismatch=False,
        proxies=TrustedProxies.parse(()),
        admission=Admission(fleet.clock, rate=100, burst=10),
        guard=Guard(limits=NO_GUARD_LIMITS, is_proxy=lambda _: False, clock=fleet.clock),
        identities=store,
        authenticator=fleet.watch.authenticator,
        claims=store,
        adapters={OcppVersion.V16: adapter_of(OcppVersion.V16, MemoryStore())},
        stamps=EventStamps(),
        node_id="node-a",
        started_at_ms=started_at_ms,
        record_log=RecordLog(LogCooldown(fleet.clock, seconds=300, max_entries=100)),
        counters=fleet.counts,
        clock=fleet.clock,
    )
