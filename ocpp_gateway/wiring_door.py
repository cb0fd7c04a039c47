"""The objects that let charge points in, and see whether they may stay (see ``wiring``)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from ocpp_gateway import policies
from ocpp_gateway.adapters.answers import Adapter
from ocpp_gateway.auth.hashthreads import ThreadedHashing
from ocpp_gateway.auth.rewriting import RecordRewriter, SecretSettling
from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.credentials import CredentialChanges
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.flooding import FloodStore
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.failures import Failures
from ocpp_gateway.session.keepalive import KeepAlive
from ocpp_gateway.session.opening import Opening
from ocpp_gateway.session.record_log import RecordLog
from ocpp_gateway.session.refusals import Refusals
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.watch import Watch
from ocpp_gateway.settings import Settings
from ocpp_gateway.tls.peers import PeerCertificates
from ocpp_gateway.websocket.factory import OcppFactory

_HASHING_THREADS: Final = 2
_MAX_WAITING_HASHES: Final = 200
_KNOWN_CERTIFICATES: Final = 20_000


@frozen(kw_only=True)
class Door:
    """What has a life of its own here, and what others need."""

    hashing: ThreadedHashing
    keepalive: KeepAlive
    watch: Watch
    watching: Periodic
    refusals: Refusals
    secrets: CredentialChanges
    factory: Callable[[bool], OcppFactory]
    """Makes the factory of an OCPP port; True: for one with TLS."""


def wire_door(
    settings: Settings,
    *,
    proxies: TrustedProxies,
    admission: Admission,
    guard: Guard,
    cooldown: LogCooldown,
    identities: Identities,
    claims: Claims,
    bans: FloodStore,
    adapters: Mapping[OcppVersion, Adapter],
    sessions: Sessions,
    security: SecurityEvents,
    stamps: EventStamps,
    started_at_ms: int,
    metrics: Metrics,
    clock: Clock,
    reactor: Any,
) -> Door:
    """Every object of the door, and who knows whom."""
    record_log = RecordLog(cooldown)
    hashing = ThreadedHashing(reactor, threads=_HASHING_THREADS, max_waiting=_MAX_WAITING_HASHES)
    authenticator = policies.authenticator(settings, hashing, clock)
    rewriter = RecordRewriter(identities, clock)
    opening = Opening(
        identity_pattern=settings.ocpp_charge_point_id_pattern,
        close_on_mismatch=settings.ocpp_subprotocol_mismatch == "close",
        proxies=proxies,
        admission=admission,
        guard=guard,
        identities=identities,
        authenticator=authenticator,
        claims=claims,
        adapters=adapters,
        stamps=stamps,
        node_id=settings.node_id,
        started_at_ms=started_at_ms,
        record_log=record_log,
        counters=metrics,
        clock=clock,
        settle_secret=SecretSettling(rewriter).settle,
    )
    failures = Failures(
        store=bans,
        security=security,
        counters=metrics,
        is_shared=proxies.is_shared,
    )
    refusals = Refusals(cooldown=cooldown, counters=metrics, security=security, failures=failures)
    keepalive = KeepAlive(
        clock=clock,
        interval=settings.ocpp_ping_interval,
        timeout=settings.ocpp_ping_timeout,
        random=random.random,
    )
    watch = Watch(
        sessions=sessions,
        identities=identities,
        authenticator=authenticator,
        security=security,
        record_log=record_log,
        clock=clock,
    )
    watching = Periodic(
        name="The look at the identity records of connected charge points",
        clock=clock,
        interval=settings.ocpp_recheck_seconds,
        action=watch.round,
    )

    certificates = PeerCertificates(_KNOWN_CERTIFICATES)

    def factory(is_tls: bool) -> OcppFactory:
        return OcppFactory(
            reactor=reactor,
            opening=opening,
            sessions=sessions,
            refusals=refusals,
            guard=guard,
            keepalive=keepalive,
            certificates=certificates,
            counters=metrics,
            is_tls=is_tls,
            handshake_timeout=settings.ocpp_handshake_timeout,
            max_message_bytes=settings.ocpp_max_payload_bytes,
            write_timeout=settings.ocpp_write_timeout,
            max_write_buffer_bytes=settings.ocpp_max_write_buffer_bytes,
            compression=settings.ocpp_compression,
            clock=clock,
        )

    return Door(
        hashing=hashing,
        keepalive=keepalive,
        watch=watch,
        watching=watching,
        refusals=refusals,
        secrets=CredentialChanges(
            rewriter=rewriter,
            hashes=authenticator.hashes,
            hashing=hashing,
            default_mode=authenticator.default_mode,
            find=sessions.find,
        ),
        factory=factory,
    )
