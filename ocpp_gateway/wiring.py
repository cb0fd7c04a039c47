"""The object graph of a running gateway, built in one place once Redis and Kafka are there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ocpp_gateway import policies
from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.auth.hashthreads import ThreadedHashing
from ocpp_gateway.clock import Clock
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.bus import NodeBus
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.cluster import Cluster
from ocpp_gateway.redis.flooding import FloodStore
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.lost import LostSessions
from ocpp_gateway.redis.nodes import NodeLease
from ocpp_gateway.redis.ownership import Ownership, Superseded
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.refreshing import Refresher
from ocpp_gateway.redis.sessions import SessionRecord
from ocpp_gateway.redis.sweeping import Sweeper
from ocpp_gateway.redis.transactions import RedisTransactionIds
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.uplink import EventBus, Uplink
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session.facts import SessionLimits
from ocpp_gateway.session.failures import Failures
from ocpp_gateway.session.keepalive import KeepAlive
from ocpp_gateway.session.opening import Opening
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.record_log import RecordLog
from ocpp_gateway.session.refusals import Refusals
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.watch import Watch
from ocpp_gateway.settings import Settings
from ocpp_gateway.tls.peers import PeerCertificates
from ocpp_gateway.websocket.factory import OcppFactory

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_HASHING_THREADS = 2
_MAX_WAITING_HASHES = 200
_COOLDOWN_ENTRIES = 10_000
_KNOWN_CERTIFICATES = 20_000
_SWEEP_PATIENCE = 10.0
_READMISSION_BURST_SECONDS = 1.0
_SECURITY_SHARE = 0.02
"""Of the records that may wait for Kafka, those that may be security events."""

KAFKA_UNAVAILABLE = CloseReason.KAFKA_UNAVAILABLE.label


@frozen(kw_only=True)
class Node:
    """The parts that have a life of their own, for whoever starts and stops them."""

    admission: Admission
    holds: Holds
    writability: Writability
    presence: Presence
    sessions: Sessions
    hashing: ThreadedHashing
    ownership: Ownership
    lease: NodeLease
    node_bus: NodeBus
    sweeper: Sweeper
    cluster: Cluster
    keepalive: KeepAlive
    refresher: Refresher
    settling: Periodic
    watch: Watch
    watching: Periodic
    identities: Identities
    transactions: RedisTransactionIds
    proxies: TrustedProxies
    refusals: Refusals
    factory: Callable[[bool], OcppFactory]
    """Makes the factory of an OCPP port; True: for one with TLS."""


def wire(
    settings: Settings,
    *,
    redis: RedisClient,
    bus: EventBus,
    schemas: Schemas,
    metrics: Metrics,
    clock: Clock,
    reactor: Any,
) -> Node:
    """Every object of the gateway and who knows whom."""
    rate = settings.ocpp_readmission_rate
    admission = Admission(clock, rate=rate, burst=max(1, int(rate * _READMISSION_BURST_SECONDS)))
    cooldown = LogCooldown(clock, seconds=settings.flood_log_cooldown, max_entries=_COOLDOWN_ENTRIES)

    proxies = TrustedProxies.parse(settings.ocpp_trusted_proxies)
    started_at_ms = int(clock.now() * 1000)
    guard = policies.guard(settings, proxies, clock)
    metrics.sockets = lambda: {"opening": guard.opening, "open": guard.connections - guard.opening}
    metrics.checking = lambda: guard.checking
    metrics.redis_pending = lambda: redis.pending
    metrics.timers = lambda: len(reactor.getDelayedCalls())

    # Towards Kafka.
    def kafka_lost() -> None:
        admission.close(KAFKA_UNAVAILABLE)
        sessions.close_all(CloseReason.KAFKA_UNAVAILABLE)

    def kafka_regained() -> None:
        admission.reopen(KAFKA_UNAVAILABLE)

    holds = Holds(settings.ocpp_publish_timeout, clock)
    writability = Writability(
        clock, kafka_lost, kafka_regained, patience=settings.ocpp_publish_timeout, when_room=bus.when_room
    )
    topics = {topic: topic.value for topic in Topic}
    uplink = Uplink(
        schemas=schemas,
        bus=bus,
        topics=topics,
        holds=holds,
        writability=writability,
        counters=metrics,
        clock=clock,
    )
    presence = Presence(bus=bus, topic=topics[Topic.STATION], holds=holds, writability=writability, clock=clock)

    stamps = EventStamps()
    security = SecurityEvents(
        bus=bus,
        topic=settings.ocpp_security_events_topic,
        stamps=stamps,
        clock=clock,
        node_id=settings.node_id,
        counters=metrics,
        max_waiting=max(1, int(settings.kafka_max_pending * _SECURITY_SHARE)),
    )

    # State in Redis.
    identities = Identities(
        redis,
        settings.ocpp_identity_prefix,
        settings.ocpp_revoked_prefix,
        policies.connect_rates(settings),
    )
    ownership = Ownership(
        client=redis,
        node_id=settings.node_id,
        session_ttl=settings.session_ttl_seconds,
        reconnects=policies.reconnect_rate(settings),
        orphaned=lambda: refresher.run_now(),  # noqa: PLW0108 - it is made further down
    )
    lost = LostSessions(presence=presence, stamps=stamps, count=metrics.session_lost, node_id=settings.node_id)
    claims = Claims(ownership, settings.node_id, security, cooldown, lost.tell, started_at_ms)
    transactions = RedisTransactionIds(redis, settings.ocpp_transaction_ttl_seconds)

    # Answers and sessions.
    adapters = policies.adapters(settings, redis, transactions, clock)
    sessions = Sessions(
        uplink=uplink,
        security=security,
        presence=presence,
        claims=claims,
        limits=SessionLimits(
            max_nesting=settings.ocpp_max_nesting,
            max_bad_frames=settings.ocpp_max_bad_frames,
            max_waiting_calls=settings.ocpp_max_waiting_calls,
            messages=policies.message_limits(settings),
            answer_ttl=settings.ocpp_response_cache_ttl_seconds,
        ),
        counters=metrics,
        clock=clock,
    )

    def records() -> Iterator[SessionRecord]:
        return claims.records(iter(sessions))

    def superseded(lost: Superseded) -> None:
        sessions.transferred(lost.charge_point_id, lost.epoch)

    refresher = Refresher(
        ownership=ownership,
        clock=clock,
        interval=settings.session_ttl_seconds / 3,
        sessions=records,
        superseded=superseded,
    )
    lease = NodeLease(
        client=redis,
        clock=clock,
        node_id=settings.node_id,
        ttl=settings.node_ttl_seconds,
        heartbeat=settings.node_heartbeat_seconds,
        vanished=refresher.run_now,
        connections=lambda: len(sessions),
    )
    sweeper = Sweeper(
        client=redis,
        clock=clock,
        node_id=settings.node_id,
        interval=settings.node_heartbeat_seconds,
        # The others need as long as we do to find a Redis that is back.
        patience=max(settings.node_heartbeat_seconds, min(settings.node_ttl_seconds, _SWEEP_PATIENCE)),
        born_ms=started_at_ms,
        lost=lost.tell,
    )
    cluster = Cluster(client=redis, ownership=ownership, local=sessions, records=records)
    node_bus = NodeBus(
        client=redis,
        clock=clock,
        random=random.random,
        node_id=settings.node_id,
        received=cluster.received,
        resubscribed=refresher.run_now,
    )

    async def settle() -> None:
        await ownership.settle()
        await transactions.settle()

    settling = Periodic(
        name="Making up for what Redis missed",
        clock=clock,
        interval=settings.node_heartbeat_seconds,
        action=settle,
    )

    def redis_changed(connected: bool) -> None:
        if connected:  # it may be another one, or an empty one
            lease.renew_now()

    redis.observe(redis_changed)

    # The door.
    record_log = RecordLog(cooldown)
    hashing = ThreadedHashing(reactor, threads=_HASHING_THREADS, max_waiting=_MAX_WAITING_HASHES)
    authenticator = policies.authenticator(settings, hashing, clock)
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
    )
    failures = Failures(
        store=FloodStore(redis, policies.ban_rules(settings)),
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

    return Node(
        admission=admission,
        holds=holds,
        writability=writability,
        presence=presence,
        sessions=sessions,
        hashing=hashing,
        ownership=ownership,
        lease=lease,
        node_bus=node_bus,
        sweeper=sweeper,
        cluster=cluster,
        keepalive=keepalive,
        refresher=refresher,
        settling=settling,
        watch=watch,
        watching=watching,
        identities=identities,
        transactions=transactions,
        proxies=proxies,
        refusals=refusals,
        factory=factory,
    )
