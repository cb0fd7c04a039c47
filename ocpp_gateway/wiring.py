"""The object graph of a running gateway, built in one place once Redis and Kafka are there."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ocpp_gateway import policies
from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.sessions import EveryoneAccepted
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.bus import NodeBus
from ocpp_gateway.redis.bus_messages import BusMessage
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.cluster import Cluster
from ocpp_gateway.redis.flooding import FloodStore
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.lost import LostSessions
from ocpp_gateway.redis.nodes import NodeLease
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Superseded
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.pool import ConnectionPool
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
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.session import Session
from ocpp_gateway.settings import Settings
from ocpp_gateway.wiring_commands import Commands, wire_commands
from ocpp_gateway.wiring_csms import CsmsSide, wire_csms
from ocpp_gateway.wiring_door import Door, wire_door

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_COOLDOWN_ENTRIES = 10_000
_SWEEP_PATIENCE = 10.0
_REDIS_BACK_SECONDS = ConnectionPool.maxDelay + 1.0
"""Until every node has found a Redis that is back."""

_READMISSION_BURST_SECONDS = 1.0
_HIGHEST_ID = 2**31 - 1
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
    ownership: Ownership
    lease: NodeLease
    node_bus: NodeBus
    sweeper: Sweeper
    cluster: Cluster
    refresher: Refresher
    settling: Periodic
    identities: Identities
    transactions: RedisTransactionIds
    proxies: TrustedProxies
    commands: Commands
    csms: CsmsSide | None
    door: Door


def wire(
    settings: Settings,
    *,
    redis: RedisClient,
    bus: EventBus,
    kafka: KafkaConfig,
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
    csms = wire_csms(
        settings,
        kafka=kafka,
        redis=redis,
        schemas=schemas,
        metrics=metrics,
        cooldown=cooldown,
        new_id=lambda: str(uuid.uuid4()),
        clock=clock,
        reactor=reactor,
    )
    registrations = None if csms is None else csms.registrations
    uplink = Uplink(
        schemas=schemas,
        bus=bus,
        topics=topics,
        holds=holds,
        writability=writability,
        counters=metrics,
        clock=clock,
        csms=None if csms is None else csms.asking,
        gate=registrations,
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
        restored=lambda records: commands.restored(records),  # noqa: PLW0108 - they are made further down
    )
    lost = LostSessions(presence=presence, stamps=stamps, count=metrics.session_lost, node_id=settings.node_id)
    claims = Claims(ownership, settings.node_id, security, cooldown, lost.tell, started_at_ms)
    transactions = RedisTransactionIds(redis, settings.ocpp_transaction_ttl_seconds)

    # Sessions.
    def opened(session: Session) -> None:
        commands.unparking.opened(session)
        if registrations is not None:
            registrations.opened(session.station)

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
            max_waiting_commands=settings.ocpp_max_waiting_commands,
        ),
        counters=metrics,
        clock=clock,
        opened=opened,
        first_answered=lambda session: commands.unparking.settled(session),  # noqa: PLW0108 - it is made further down
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

    def vanished() -> None:
        refresher.run_now()
        commands.recheck()

    lease = NodeLease(
        client=redis,
        clock=clock,
        node_id=settings.node_id,
        ttl=settings.node_ttl_seconds,
        heartbeat=settings.node_heartbeat_seconds,
        vanished=vanished,
        connections=lambda: len(sessions),
    )
    # The others need as long as we do to find a Redis that is back.
    patience = max(settings.node_heartbeat_seconds, min(settings.node_ttl_seconds, _SWEEP_PATIENCE))
    sweeper = Sweeper(
        client=redis,
        clock=clock,
        node_id=settings.node_id,
        interval=settings.node_heartbeat_seconds,
        patience=patience,
        born_ms=started_at_ms,
        lost=lost.tell,
    )

    def heard(message: BusMessage) -> None:
        commands.heard(message)
        if csms is not None:
            csms.heard(message)

    cluster = Cluster(client=redis, ownership=ownership, local=sessions, records=records, others=heard)
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
        if csms is not None:
            await csms.settle()

    settling = Periodic(
        name="Making up for what Redis missed",
        clock=clock,
        interval=settings.node_heartbeat_seconds,
        action=settle,
    )

    def redis_changed(connected: bool) -> None:
        commands.redis_changed(connected)
        if connected:  # it may be another one, or an empty one
            lease.renew_now()

    redis.observe(redis_changed)

    door = wire_door(
        settings,
        proxies=proxies,
        admission=admission,
        guard=guard,
        cooldown=cooldown,
        identities=identities,
        claims=claims,
        bans=FloodStore(redis, policies.ban_rules(settings)),
        adapters=policies.adapters(settings, redis, transactions, clock),
        sessions=sessions,
        security=security,
        stamps=stamps,
        started_at_ms=started_at_ms,
        metrics=metrics,
        clock=clock,
        reactor=reactor,
    )
    commands = wire_commands(
        settings,
        kafka=kafka,
        redis=redis,
        bus=bus,
        sessions=sessions,
        secrets=door.secrets,
        registration=registrations or EveryoneAccepted(),
        started_at=lease.started_at,
        patience_seconds=max(patience, _REDIS_BACK_SECONDS),
        schemas=schemas,
        stamps=stamps,
        metrics=metrics,
        random_id=lambda: 1 + secrets.randbelow(_HIGHEST_ID),
        clock=clock,
        reactor=reactor,
    )

    return Node(
        admission=admission,
        holds=holds,
        writability=writability,
        presence=presence,
        sessions=sessions,
        ownership=ownership,
        lease=lease,
        node_bus=node_bus,
        sweeper=sweeper,
        cluster=cluster,
        refresher=refresher,
        settling=settling,
        identities=identities,
        transactions=transactions,
        proxies=proxies,
        commands=commands,
        csms=csms,
        door=door,
    )
