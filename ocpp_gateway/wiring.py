"""The object graph of a running gateway, built in one place once Redis and Kafka are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ocpp_gateway.adapters.answers import Adapter, Topic
from ocpp_gateway.adapters.known import KnownTransactions
from ocpp_gateway.adapters.repeats import Repeats
from ocpp_gateway.adapters.tokens import IdTokenPolicy, TokenVerdicts
from ocpp_gateway.adapters.v2x import Adapter2x
from ocpp_gateway.adapters.v16 import Adapter16
from ocpp_gateway.auth.addresses import AddressList
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode
from ocpp_gateway.auth.bindings import AllowedOrganizations, CertificateRules
from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, ScryptParameters
from ocpp_gateway.auth.hashthreads import ThreadedHashing
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.clock import Clock
from ocpp_gateway.flood.admission import Admission
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.claims import Claims
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.redis.nodes import NodeLease
from ocpp_gateway.redis.ownership import Ownership, Superseded
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.refreshing import Refresher
from ocpp_gateway.redis.tokens import RedisIdTokens
from ocpp_gateway.redis.transactions import RedisTransactionIds
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.routing.uplink import EventBus, Uplink
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session.opening import Opening
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.record_log import RecordLog
from ocpp_gateway.session.refusals import Refusals
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.session import SessionLimits
from ocpp_gateway.session.watch import Watch
from ocpp_gateway.settings import Settings
from ocpp_gateway.tls.peers import PeerCertificates
from ocpp_gateway.websocket.factory import OcppFactory

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_HASHING_THREADS = 2
_MAX_WAITING_HASHES = 200
_VERIFIED_SECONDS = 3600.0
_VERIFIED_ENTRIES = 200_000
_COOLDOWN_ENTRIES = 10_000
_KNOWN_CERTIFICATES = 20_000
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
    identities = Identities(redis, settings.ocpp_identity_prefix, settings.ocpp_revoked_prefix)
    ownership = Ownership(
        client=redis,
        node_id=settings.node_id,
        session_ttl=settings.session_ttl_seconds,
        orphaned=lambda: refresher.run_now(),  # noqa: PLW0108 - it is made further down
    )
    claims = Claims(ownership, settings.node_id, security)
    transactions = RedisTransactionIds(redis, settings.ocpp_transaction_ttl_seconds)

    # Answers and sessions.
    adapters = _adapters(settings, redis, transactions, clock)
    sessions = Sessions(
        uplink=uplink,
        security=security,
        presence=presence,
        claims=claims,
        limits=SessionLimits(
            max_nesting=settings.ocpp_max_nesting,
            max_bad_frames=settings.ocpp_max_bad_frames,
            max_waiting_calls=settings.ocpp_max_waiting_calls,
            answer_ttl=settings.ocpp_response_cache_ttl_seconds,
        ),
        counters=metrics,
        clock=clock,
    )

    def superseded(lost: Superseded) -> None:
        sessions.transferred(lost.charge_point_id, lost.epoch)

    refresher = Refresher(
        ownership=ownership,
        clock=clock,
        interval=settings.session_ttl_seconds / 3,
        sessions=lambda: claims.records(iter(sessions)),
        superseded=superseded,
    )
    lease = NodeLease(
        client=redis,
        clock=clock,
        node_id=settings.node_id,
        ttl=settings.node_ttl_seconds,
        heartbeat=settings.node_heartbeat_seconds,
        vanished=refresher.run_now,
    )
    settling = Periodic(
        name="Registration of transactions that Redis missed",
        clock=clock,
        interval=settings.node_heartbeat_seconds,
        action=transactions.settle,
    )

    def redis_changed(connected: bool) -> None:
        if connected:  # it may be another one, or an empty one
            lease.renew_now()

    redis.observe(redis_changed)

    # The door.
    record_log = RecordLog(cooldown)
    hashing = ThreadedHashing(reactor, threads=_HASHING_THREADS, max_waiting=_MAX_WAITING_HASHES)
    authenticator = _authenticator(settings, hashing, clock)
    proxies = TrustedProxies.parse(settings.ocpp_trusted_proxies)
    opening = Opening(
        identity_pattern=settings.ocpp_charge_point_id_pattern,
        close_on_mismatch=settings.ocpp_subprotocol_mismatch == "close",
        proxies=proxies,
        admission=admission,
        identities=identities,
        authenticator=authenticator,
        claims=claims,
        adapters=adapters,
        stamps=stamps,
        node_id=settings.node_id,
        record_log=record_log,
        counters=metrics,
        clock=clock,
    )
    refusals = Refusals(cooldown=cooldown, counters=metrics, security=security)
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
            certificates=certificates,
            counters=metrics,
            is_tls=is_tls,
            handshake_timeout=settings.ocpp_handshake_timeout,
            max_message_bytes=settings.ocpp_max_payload_bytes,
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


def _adapters(
    settings: Settings, redis: RedisClient, transactions: RedisTransactionIds, clock: Clock
) -> dict[OcppVersion, Adapter]:
    verdicts = TokenVerdicts(IdTokenPolicy(settings.ocpp_id_token_policy), RedisIdTokens(redis))
    repeats = Repeats(transactions)
    interval = settings.ocpp_heartbeat_interval
    return {
        OcppVersion.V16: Adapter16(
            verdicts=verdicts,
            repeats=repeats,
            heartbeat_interval=interval,
            transactions=KnownTransactions(transactions, clock),
        ),
        **{
            version: Adapter2x(verdicts=verdicts, repeats=repeats, heartbeat_interval=interval, version=version)
            for version in (OcppVersion.V201, OcppVersion.V21)
        },
    }


def _authenticator(settings: Settings, hashing: ThreadedHashing, clock: Clock) -> Authenticator:
    scrypt = ScryptParameters(
        n=settings.ocpp_auth_scrypt_n,
        r=settings.ocpp_auth_scrypt_r,
        p=settings.ocpp_auth_scrypt_p,
        key_length=settings.ocpp_auth_scrypt_keylen,
    )
    return Authenticator(
        default_mode=AuthMode(settings.ocpp_auth_mode),
        allowed_addresses=AddressList.parse(settings.ocpp_allowed_ips, settings.ocpp_allowed_cidrs),
        hashes=HashDefaults(HashAlgorithm(settings.ocpp_auth_hash_algorithm), scrypt),
        hashing=hashing,
        verified=VerifiedCredentials(clock, ttl=_VERIFIED_SECONDS, max_entries=_VERIFIED_ENTRIES),
        certificate_rules=CertificateRules(
            require_binding=settings.ocpp_require_cert_binding,
            organizations=AllowedOrganizations.parse(settings.ocpp_allowed_organizations),
        ),
        clock=clock,
    )
