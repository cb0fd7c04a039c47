"""A Redis that loses its data while a charge point is being let in."""

from __future__ import annotations

import re
from typing import Any

import pytest
from adapters.adapter_ports import CALLER, MemoryStore, adapter_of
from attrs import define, field
from session_parts import Fleet, Line, certificate, raw_record
from support.guards import NO_GUARD_LIMITS
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.path import parse_target
from ocpp_gateway.handshake.proxies import Origin, TrustedProxies
from ocpp_gateway.handshake.subprotocol import offered
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis.identities import Found
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.opening import Admitted, Opening, Request
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


def request_with(shown: ClientCertificate) -> Request:
    return Request(
        path=parse_target("/ocpp/1.6/CP-001", PATTERN),
        offer=offered(["ocpp1.6"]),
        credentials=Credentials.from_headers({}),
        origin=Origin("192.0.2.1", True),
        certificate=shown,
    )


@pytest.mark.parametrize("lost_during", ["looked_up", "claimed"])
def test_who_was_let_in_by_a_store_that_is_no_more_stays(schemas: Schemas, lost_during: str) -> None:
    store = Store(records={"CP-001": raw_record(CALLER, auth={"type": "mtls"})})
    fleet = Fleet(schemas, store)
    shown = certificate(not_before=fleet.clock.now() - 10, not_after=fleet.clock.now() + 10)
    opening, request = opening_of(fleet, store), request_with(shown)
    verdict: Deferred[Admitted] = Deferred.fromCoroutine(opening.admit(request))
    if lost_during == "claimed":
        store.looked_up.callback(None)
    store.lose()
    for answer in (store.looked_up, store.claimed):
        if not answer.called:
            answer.callback(None)

    results: list[Admitted] = []
    verdict.addCallback(results.append)
    (admitted,) = results
    assert admitted.session is not None
    session = fleet.sessions.open(*admitted.session, Line())
    Deferred.fromCoroutine(fleet.watch.round())
    assert session.close_reason is None
    assert fleet.revoked() == []


@pytest.mark.parametrize("late_by_ms", [-5000, 60_000])
def test_nobody_connected_before_the_node_began_however_its_clock_is_set(schemas: Schemas, late_by_ms: int) -> None:
    """What is of this node and earlier is taken for what a former life left behind."""
    store = Store(records={"CP-001": raw_record(CALLER, auth={"type": "mtls"})})
    fleet = Fleet(schemas, store)
    now_ms = int(fleet.clock.now() * 1000)
    opening = opening_of(fleet, store, started_at_ms=now_ms + late_by_ms)
    shown = certificate(not_before=fleet.clock.now() - 10, not_after=fleet.clock.now() + 10)
    results: list[Admitted] = []
    Deferred.fromCoroutine(opening.admit(request_with(shown))).addCallback(results.append)
    store.looked_up.callback(None)
    store.claimed.callback(None)
    (admitted,) = results
    assert admitted.session is not None
    moment = max(now_ms, now_ms + late_by_ms)
    assert admitted.session[0].connected_at_ms == moment
    assert store.moments == [moment]
