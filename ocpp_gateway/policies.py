"""From settings to what decides: limits, credentials, answers."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

from ocpp_gateway.adapters.answers import Adapter
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
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.flood.guard import Guard, GuardLimits
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis.flooding import BanRules
from ocpp_gateway.redis.identities import ConnectRates
from ocpp_gateway.redis.tokens import RedisIdTokens
from ocpp_gateway.redis.transactions import RedisTransactionIds
from ocpp_gateway.session.pacing import MessageLimits, NodePace
from ocpp_gateway.settings import Settings

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_PER_ADDRESS_SECONDS: Final = 20.0
_PER_CHARGE_POINT_BURST: Final = 20
_RECONNECT_BURST: Final = 10
_MESSAGE_BURST_SHARE: Final = 0.25
"""Of the messages of a window, those that may come at once: what a charge point has queued while it was offline."""

_VERIFIED_SECONDS: Final = 3600.0
_VERIFIED_ENTRIES: Final = 200_000

_MAX_CHECKING: Final = 1000
"""Handshakes that wait for Redis or a hash at once."""

_OTHER_FILES: Final = 200
"""File descriptors that are no charge point's: libraries, Redis, Kafka, logs, listeners."""


def guard(settings: Settings, proxies: TrustedProxies, clock: Clock) -> Guard:
    """The limits of this node alone."""
    rates = connect_rates(settings)
    return Guard(
        limits=GuardLimits(
            connections=settings.ocpp_max_connections or _open_files(),
            connections_per_address=settings.ocpp_connections_per_address,
            opening_per_address=settings.ocpp_opening_per_address,
            connects_per_address=rates.per_address,
            connects_per_charge_point=rates.per_charge_point,
            handshakes=_rate(settings.ocpp_handshake_rate, settings.ocpp_handshake_rate),
            checking=_MAX_CHECKING,
        ),
        is_proxy=proxies.is_shared,
        clock=clock,
    )


def connect_rates(settings: Settings) -> ConnectRates:
    """Attempts to connect."""
    per_address = settings.ocpp_connect_rate_per_address
    return ConnectRates(
        per_address=_rate(per_address, per_address * _PER_ADDRESS_SECONDS),
        per_charge_point=_rate(settings.ocpp_connect_rate_per_charge_point, _PER_CHARGE_POINT_BURST),
    )


def reconnect_rate(settings: Settings) -> Rate:
    """Sessions of one charge point."""
    return _rate(settings.ocpp_reconnects_per_minute / 60, _RECONNECT_BURST)


def ban_rules(settings: Settings) -> BanRules:
    """What follows on failed authentications."""
    return BanRules(
        failures=settings.ocpp_ban_failures,
        address_failures=settings.ocpp_ban_address_failures,
        window_seconds=settings.ocpp_ban_window_seconds,
        first_seconds=settings.ocpp_ban_seconds,
        longest_seconds=settings.ocpp_ban_max_seconds,
    )


def message_limits(settings: Settings) -> MessageLimits:
    """What charge points may say in a time."""
    window = settings.ocpp_rate_limit_window_seconds
    of_all = settings.ocpp_rate_limit_global
    return MessageLimits(
        rate=_rate(settings.ocpp_rate_limit_per_cp / window, settings.ocpp_rate_limit_per_cp * _MESSAGE_BURST_SHARE),
        patience=settings.ocpp_rate_limit_patience,
        node=NodePace(_rate(of_all / window, of_all * _MESSAGE_BURST_SHARE)) if of_all else None,
    )


def _rate(per_second: float, burst: float) -> Rate:
    return Rate(per_second, max(1, round(burst))) if per_second > 0 else Rate.off()


def _open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else max(1, soft - _OTHER_FILES)


def adapters(
    settings: Settings, redis: RedisClient, transactions: RedisTransactionIds, clock: Clock
) -> dict[OcppVersion, Adapter]:
    """What charge points are answered, by version."""
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


def authenticator(settings: Settings, hashing: ThreadedHashing, clock: Clock) -> Authenticator:
    """Who may connect."""
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
