"""A Redis that loses its data while a charge point is being let in."""

from __future__ import annotations

import pytest
from adapters.adapter_ports import CALLER
from opening_parts import PATTERN, Store, opening_of
from session_parts import Fleet, Line, certificate, raw_record
from twisted.internet.defer import Deferred

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.handshake.path import parse_target
from ocpp_gateway.handshake.proxies import Origin
from ocpp_gateway.handshake.subprotocol import offered
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.session.opening import Admitted, Request


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
