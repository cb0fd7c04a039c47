"""What an operator can set, from the environment: one field, one variable of the same name in upper case.

They are read from it in ``environment``. Fields that end in ``s`` for one value per action have a variable for each:
OCPP_CSMS_TIMEOUT_AUTHORIZE. The field's help text is also what ``twistd ocpp-gateway --list-settings`` and
the table in README.md say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from attrs import frozen

from ocpp_gateway.conversions import (
    PLAIN,
    addresses,
    client_auth,
    existing_file,
    existing_files,
    flag,
    identity_pattern,
    name,
    names,
    networks,
    one_of,
    optional_text,
    ports,
    seconds,
    text,
    tls_version,
    whole,
)

EMBEDDED = "embedded://"
"""The URL that selects the built-in Redis or Kafka: for development, nothing is kept."""

OCPP_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:"
    "AES128-GCM-SHA256:AES256-GCM-SHA384"
)
"""The four suites that OCPP demands (2.0.1 part 2 A00.FR.318, A00.FR.421), and their equals beside them."""

_Value = TypeVar("_Value")


def _setting(
    default: _Value, convert: Callable[[str], Any], help_text: str, *, secret: bool = False, per_action: bool = False
) -> _Value:
    metadata = {"convert": convert, "help": help_text, "secret": secret, "per_action": per_action}
    value: _Value = attrs.field(default=default, repr=not secret, metadata=metadata)
    return value


@frozen(kw_only=True)
class Settings:
    """Everything that can be set; durations are seconds, sizes are bytes."""

    service_name: str = _setting("ocpp-gateway", name, "Name in events, logs and Kafka client ids.")
    node_id: str = _setting(
        "", name, "Name of this node, unique in the cluster (default: host name and a random part)."
    )
    port: int = _setting(3001, whole(0, 65535), "HTTP port: /health, /ready, /metrics, and OCPP for the bench.")
    http_host: str = _setting("127.0.0.1", text, "Address that the HTTP port listens on.")
    websocket_ocpp_port: int = _setting(8080, whole(0, 65535), "OCPP port: the one to expose to charge points.")
    websocket_ocpp_host: str = _setting(
        "", optional_text, "Address that the OCPP port listens on (default: every IPv4 address; :: for IPv6 too)."
    )
    websocket_ocpp_extra_ports: tuple[tuple[int, str], ...] = _setting(
        (),
        ports,
        "More OCPP ports, comma-separated: 9080=plain is without TLS, 9443=off (or optional, required) with TLS and "
        "its own OCPP_TLS_CLIENT_AUTH.",
    )
    health_metrics_auth_token: str = _setting(
        "",
        optional_text,
        "Bearer token that guards all of the HTTP port but /health and the OCPP endpoint.",
        secret=True,
    )
    log_level: str = _setting("info", one_of("debug", "info", "warn", "error"), "Least level that is logged.")
    log_format: str = _setting("json", one_of("json", "text"), "json: one object a line; text: for people.")
    start_timeout: float = _setting(30.0, seconds(1, 3600), "How long a start waits for Redis and Kafka.")
    drain_seconds: float = _setting(
        10.0,
        seconds(0, 3600),
        "Over how long a stop spreads the closing of connections, and waits for CALLs in flight.",
    )

    redis_url: str = _setting(
        "redis://localhost:6379",
        text,
        "redis://, rediss:// or unix://, with user, password and database.",
        secret=True,
    )
    redis_prefix: str = _setting("", optional_text, "Put with a colon before every Redis key.")
    redis_timeout: float = _setting(2.0, seconds(0.1, 60), "How long one Redis call may take.")
    redis_pool_size: int = _setting(4, whole(1, 64), "Connections to Redis.")
    node_ttl_seconds: int = _setting(30, whole(2, 86400), "How long a silent node counts as alive.")
    node_heartbeat_seconds: float = _setting(10.0, seconds(0.5, 3600), "How often a node renews its lease.")
    session_ttl_seconds: int = _setting(300, whole(10, 604800), "How long a session record outlives its last renewal.")

    kafka_brokers: str = _setting("localhost:9092", text, "host:port of Kafka brokers, comma-separated.")
    kafka_client_id: str = _setting("", optional_text, "Kafka client id (default: SERVICE_NAME and NODE_ID).")
    kafka_config_file: str = _setting("", existing_file, "Properties file with any further librdkafka settings.")
    kafka_group_id: str = _setting("ocpp-gateway", name, "Consumer group of the commands, the same on every node.")
    kafka_max_pending: int = _setting(50_000, whole(100, 10_000_000), "Records that may wait for Kafka.")

    ocpp_commands_enabled: bool = _setting(True, flag, "Read commands from cpms.command.requests.")
    ocpp_command_timeout: float = _setting(
        15.0, seconds(1, 3600), "How long a command may take to be sent, and then to be answered, if it does not say."
    )
    ocpp_max_commands_in_flight: int = _setting(
        1_000, whole(1, 100_000), "Commands that a node has taken on and not ended; then it stops reading."
    )
    ocpp_max_waiting_commands: int = _setting(
        50, whole(1, 10_000), "Commands of a connected charge point that may wait for their turn."
    )
    ocpp_max_parked_commands: int = _setting(
        50, whole(0, 10_000), "Commands that may wait in Redis for a charge point that is offline."
    )
    command_audit_ttl_seconds: int = _setting(
        604_800, whole(60, 31_536_000), "How long the audit record of a command is kept in Redis."
    )
    command_idempotency_ttl_seconds: int = _setting(
        # A record that is done may come again as long as an earlier one of its partition is not: with the longest
        # timeouts for two hours, behind commands that wait for a slow charge point for longer.
        86_400,
        whole(10_800, 31_536_000),
        "How long a commandId that comes again is recognised.",
    )

    ocpp_csms_actions: tuple[str, ...] = _setting(
        (), names, "Actions of charge points that the CSMS answers over Kafka, comma-separated, Authorize for example."
    )
    ocpp_csms_reply_topic: str = _setting("ocpp.csms.replies", name, "Kafka topic of the CSMS's answers.")
    ocpp_csms_timeout: float = _setting(10.0, seconds(0.1, 300), "How long the CSMS has for an answer.")
    ocpp_csms_timeouts: tuple[tuple[str, float], ...] = _setting(
        (), seconds(0.1, 300), "The same for one action: OCPP_CSMS_TIMEOUT_AUTHORIZE=1.5.", per_action=True
    )
    ocpp_csms_fallbacks: tuple[tuple[str, str], ...] = _setting(
        (),
        one_of("gateway", "error", "close"),
        "What happens without it: gateway (it answers), error (CALLERROR InternalError) or close (1013), for example "
        "OCPP_CSMS_FALLBACK_AUTHORIZE=gateway (default: error for Authorize, else gateway).",
        per_action=True,
    )

    ocpp_identity_prefix: str = _setting("chargers", text, "Redis key prefix of identity records.")
    ocpp_charge_point_id_pattern: re.Pattern[str] = _setting(
        re.compile(r"CP-[A-Za-z0-9*\-_=+|@.]{1,45}"),
        identity_pattern,
        "What a whole charge point identity looks like.",
    )
    ocpp_auth_mode: str = _setting(
        "basic", one_of("basic", "token", "mtls"), "Credential of records that name none in auth.type."
    )
    ocpp_auth_hash_algorithm: str = _setting("sha256", one_of("sha256", "scrypt"), "Hash of records that name none.")
    ocpp_auth_scrypt_n: int = _setting(16384, whole(2, 1 << 20), "scrypt cost N (a power of two).")
    ocpp_auth_scrypt_r: int = _setting(8, whole(1, 32), "scrypt block size r.")
    ocpp_auth_scrypt_p: int = _setting(1, whole(1, 16), "scrypt parallelism p.")
    ocpp_auth_scrypt_keylen: int = _setting(32, whole(16, 64), "scrypt key length.")
    ocpp_allowed_ips: tuple[str, ...] = _setting((), addresses, "Only these addresses may connect (empty: all).")
    ocpp_allowed_cidrs: tuple[str, ...] = _setting((), networks, "Only these networks may connect (empty: all).")
    ocpp_revoked_prefix: str = _setting("revoked-certs", text, "Redis key prefix of revoked client certificates.")
    ocpp_require_cert_binding: bool = _setting(
        False, flag, "Refuse client certificates that the identity record does not bind, even if they name it."
    )
    ocpp_allowed_organizations: str = _setting(
        "",
        optional_text,
        "Organisations (O) that client certificates may name, separated by ;, for one tenant as tenantId=Organisation "
        "(default: any).",
    )
    ocpp_recheck_seconds: float = _setting(
        2.0, seconds(0.5, 60), "How often the identity records of connected charge points are looked at again."
    )
    ocpp_trusted_proxies: tuple[str, ...] = _setting(
        (), networks, "Proxies, addresses or networks, whose X-Forwarded-For, X-Forwarded-Proto or PROXY header counts."
    )
    ocpp_proxy_protocol: bool = _setting(
        False, flag, "Connections to the OCPP ports begin with a PROXY protocol header (version 1 or 2)."
    )
    ocpp_subprotocol_mismatch: str = _setting(
        "refuse", one_of("refuse", "close"), "No common subprotocol: answer 400, or upgrade and close (OCPP-J text)."
    )
    ocpp_handshake_timeout: float = _setting(20.0, seconds(1, 300), "From TCP accept to the end of the handshake.")
    ocpp_readmission_rate: float = _setting(
        100.0, seconds(0.1, 100_000), "Handshakes a second let in again after an outage of Kafka."
    )
    flood_log_cooldown: float = _setting(
        300.0, seconds(0, 86400), "One line per address and reason of a refusal in this time."
    )

    ocpp_max_connections: int = _setting(
        0, whole(0, 10_000_000), "Connections of this node at once (0: what the limit of open files leaves room for)."
    )
    ocpp_connections_per_address: int = _setting(
        10_000, whole(0, 10_000_000), "Connections of one address at once (0: any number)."
    )
    ocpp_opening_per_address: int = _setting(
        500, whole(0, 10_000_000), "Connections of one address at once whose handshake is not done (0: any number)."
    )
    ocpp_connect_rate_per_address: float = _setting(
        50.0, seconds(0, 1_000_000), "Connection attempts a second of one address, 20 seconds' worth at once (0: any)."
    )
    ocpp_connect_rate_per_charge_point: float = _setting(
        0.5, seconds(0, 1_000_000), "The same of one charge point identity at one address, 20 at once (0: any)."
    )
    ocpp_reconnects_per_minute: float = _setting(
        6.0, seconds(0, 1_000_000), "Successful connections a minute of one charge point, 10 at once (0: any)."
    )
    ocpp_handshake_rate: float = _setting(
        500.0, seconds(0, 1_000_000), "Handshakes a second that this node begins to check (0: any)."
    )
    ocpp_ban_failures: int = _setting(
        10, whole(0, 1_000_000), "Failed authentications of an identity at one address until a ban (0: no bans)."
    )
    ocpp_ban_address_failures: int = _setting(
        200,
        whole(0, 1_000_000),
        "Failed authentications at one address until a ban of whom it has not let in (0: none).",
    )
    ocpp_ban_window_seconds: int = _setting(600, whole(1, 86400), "Time in which these failures are counted.")
    ocpp_ban_seconds: float = _setting(60.0, seconds(1, 86400), "The first ban; each further one is twice as long.")
    ocpp_ban_max_seconds: float = _setting(3600.0, seconds(1, 2_592_000), "The longest ban.")

    ocpp_security_events_topic: str = _setting("ocpp.security.events", name, "Kafka topic of security events.")

    ocpp_tls_enabled: bool = _setting(False, flag, "TLS on the OCPP port; the HTTP port then has no OCPP endpoint.")
    ocpp_tls_cert_path: tuple[str, ...] = _setting(
        (), existing_files, "Server certificates, each a PEM file with its chain, comma-separated: RSA and ECDSA."
    )
    ocpp_tls_key_path: tuple[str, ...] = _setting(
        (), existing_files, "Their private keys, PEM files in any order, comma-separated."
    )
    ocpp_tls_key_password: str = _setting("", optional_text, "Password of encrypted private keys.", secret=True)
    ocpp_tls_client_auth: str = _setting(
        "off", client_auth, "Client certificates: off, optional or required (true and false mean required and off)."
    )
    ocpp_tls_ca_path: str = _setting("", existing_file, "Authorities that client certificates come from, a PEM file.")
    ocpp_tls_crl_path: tuple[str, ...] = _setting(
        (), existing_files, "Their certificate revocation lists, PEM or DER files, comma-separated."
    )
    ocpp_tls_min_version: str = _setting("1.2", tls_version, "Lowest version of TLS: 1.2 or 1.3.")
    ocpp_tls_ciphers: str = _setting(OCPP_CIPHERS, text, "Cipher suites of TLS 1.2, as an OpenSSL cipher list.")
    ocpp_tls_forward_secrecy_only: bool = _setting(
        False, flag, "Without the two cipher suites of OCPP that have no forward secrecy (static RSA)."
    )
    ocpp_tls_reload_seconds: float = _setting(
        10.0, seconds(0, 86400), "How often the TLS files are looked at for changes (0: only on SIGHUP)."
    )

    ocpp_max_payload_bytes: int = _setting(262_144, whole(1024, 16_777_216), "Longest WebSocket message.")
    ocpp_rate_limit_window_seconds: float = _setting(60.0, seconds(0.1, 3600), "Time in which messages are counted.")
    ocpp_rate_limit_per_cp: int = _setting(
        1200, whole(0, 10_000_000), "Messages of a charge point in that time; then it is read more slowly (0: any)."
    )
    ocpp_rate_limit_global: int = _setting(
        0, whole(0, 1_000_000_000), "Messages of all charge points of this node in that time (0: any)."
    )
    ocpp_rate_limit_patience: float = _setting(
        60.0, seconds(0, 86400), "A charge point that keeps flooding so long is closed with 1008 (0: never)."
    )
    ocpp_compression: bool = _setting(True, flag, "Accept permessage-deflate where a charge point offers it.")
    ocpp_ping_interval: float = _setting(
        60.0,
        seconds(0, 86400),
        "A silent charge point gets a WebSocket ping after so long, or up to a quarter sooner (0: never).",
    )
    ocpp_ping_timeout: float = _setting(20.0, seconds(0.1, 3600), "How long it may take to answer one.")
    ocpp_write_timeout: float = _setting(
        30.0, seconds(0.5, 3600), "How long a charge point may leave what is sent to it unread."
    )
    ocpp_max_write_buffer_bytes: int = _setting(
        1_048_576, whole(65_536, 1 << 30), "Bytes that may wait to be read by one charge point."
    )
    ocpp_max_nesting: int = _setting(32, whole(4, 200), "Deepest JSON.")
    ocpp_max_bad_frames: int = _setting(10, whole(1, 10_000), "Frames that are not OCPP-J before a close with 1002.")
    ocpp_max_waiting_calls: int = _setting(16, whole(1, 1000), "CALLs of a charge point that may wait for their turn.")
    ocpp_response_cache_ttl_seconds: float = _setting(
        60.0, seconds(0, 3600), "How long a retransmitted CALL gets the answer it got before."
    )
    ocpp_publish_timeout: float = _setting(8.0, seconds(0.5, 60), "How long a CALL is held for Kafka's confirmation.")
    ocpp_heartbeat_interval: int = _setting(300, whole(1, 86400), "Heartbeat interval given at BootNotification.")
    ocpp_id_token_policy: str = _setting(
        "accept", one_of("accept", "registry"), "Id tokens: accept all, or look them up in Redis."
    )
    ocpp_transaction_ttl_seconds: int = _setting(
        604_800, whole(3600, 31_536_000), "How long a StartTransaction's retries get the same transactionId."
    )
    ocpp_dev_state_file: str = _setting("", optional_text, "Where an embedded Redis or Kafka leaves its address.")


def client_auths(settings: Settings) -> frozenset[str]:
    """What the TLS ports do about client certificates; empty where no port has TLS."""
    kinds = {kind for _, kind in settings.websocket_ocpp_extra_ports if kind != PLAIN}
    if settings.ocpp_tls_enabled:
        kinds.add(settings.ocpp_tls_client_auth)
    return frozenset(kinds)
