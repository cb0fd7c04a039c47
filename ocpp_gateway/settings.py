"""What an operator can set, from the environment: one field, one variable of the same name in upper case.

``parse`` reports every problem at once, each line beginning with the variable's name. The field's help text is also
what ``twistd ocpp-gateway --list-settings`` and the table in README.md say.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

from ocpp_gateway.errors import ConfigError

EMBEDDED = "embedded://"
"""The URL that selects the built-in Redis or Kafka: for development, nothing is kept."""

_Value = TypeVar("_Value")
_MAX_SCRYPT_BYTES = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9._-]{1,120}")


def _setting(default: _Value, convert: Callable[[str], _Value], help_text: str, *, secret: bool = False) -> _Value:
    value: _Value = attrs.field(default=default, metadata={"convert": convert, "help": help_text, "secret": secret})
    return value


def _text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be printable text")
    return value


def _optional_text(value: str) -> str:
    return _text(value) if value else ""


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 120 of the characters A-Z a-z 0-9 . _ -")
    return value


def _flag(value: str) -> bool:
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return convert


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def convert(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", value) or not least <= float(value) <= most:
            raise ValueError(f"must be seconds from {least:g} to {most:g}")
        return float(value)

    return convert


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return value.lower()

    return convert


def _identity_pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None


def _addresses(value: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    for part in parts:
        try:
            ipaddress.ip_address(part)
        except ValueError:
            raise ValueError(f"{part!r} is not an IP address") from None
    return parts


def _networks(value: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    for part in parts:
        try:
            ipaddress.ip_network(part, strict=False)
        except ValueError:
            raise ValueError(f"{part!r} is not a network such as 10.0.0.0/24") from None
    return parts


def _existing_file(value: str) -> str:
    if value and not Path(value).is_file():
        raise ValueError("names no file")
    return value


def _default_node_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "node"
    return f"{host}-{secrets.token_hex(4)}"


@frozen(kw_only=True)
class Settings:
    """Everything that can be set; durations are seconds, sizes are bytes."""

    service_name: str = _setting("ocpp-gateway", _name, "Name in events, logs and Kafka client ids.")
    node_id: str = _setting(
        "", _name, "Name of this node, unique in the cluster (default: host name and a random part)."
    )
    port: int = _setting(3001, _whole(0, 65535), "HTTP port: /health, /ready, /metrics, and OCPP for the bench.")
    http_host: str = _setting("127.0.0.1", _text, "Address that the HTTP port listens on.")
    websocket_ocpp_port: int = _setting(8080, _whole(0, 65535), "OCPP port: the one to expose to charge points.")
    websocket_ocpp_host: str = _setting(
        "", _optional_text, "Address that the OCPP port listens on (default: every IPv4 address; :: for IPv6 too)."
    )
    health_metrics_auth_token: str = _setting(
        "",
        _optional_text,
        "Bearer token that guards all of the HTTP port but /health and the OCPP endpoint.",
        secret=True,
    )
    log_level: str = _setting("info", _one_of("debug", "info", "warn", "error"), "Least level that is logged.")
    log_format: str = _setting("json", _one_of("json", "text"), "json: one object a line; text: for people.")
    start_timeout: float = _setting(30.0, _seconds(1, 3600), "How long a start waits for Redis and Kafka.")
    drain_seconds: float = _setting(10.0, _seconds(0, 3600), "How long a stop waits for CALLs and records in flight.")

    redis_url: str = _setting(
        "redis://localhost:6379",
        _text,
        "redis://, rediss:// or unix://, with user, password and database.",
        secret=True,
    )
    redis_prefix: str = _setting("", _optional_text, "Put with a colon before every Redis key.")
    redis_timeout: float = _setting(2.0, _seconds(0.1, 60), "How long one Redis call may take.")
    redis_pool_size: int = _setting(4, _whole(1, 64), "Connections to Redis.")
    node_ttl_seconds: int = _setting(30, _whole(2, 86400), "How long a silent node counts as alive.")
    node_heartbeat_seconds: float = _setting(10.0, _seconds(0.5, 3600), "How often a node renews its lease.")
    session_ttl_seconds: int = _setting(300, _whole(10, 604800), "How long a session record outlives its last renewal.")

    kafka_brokers: str = _setting("localhost:9092", _text, "host:port of Kafka brokers, comma-separated.")
    kafka_client_id: str = _setting("", _optional_text, "Kafka client id (default: SERVICE_NAME and NODE_ID).")
    kafka_config_file: str = _setting("", _existing_file, "Properties file with any further librdkafka settings.")
    kafka_max_pending: int = _setting(50_000, _whole(100, 10_000_000), "Records that may wait for Kafka.")

    ocpp_identity_prefix: str = _setting("chargers", _text, "Redis key prefix of identity records.")
    ocpp_charge_point_id_pattern: re.Pattern[str] = _setting(
        re.compile(r"CP-[A-Za-z0-9*\-_=+|@.]{1,45}"),
        _identity_pattern,
        "What a whole charge point identity looks like.",
    )
    ocpp_auth_mode: str = _setting(
        "basic", _one_of("basic", "token", "mtls"), "Credential of records that name none in auth.type."
    )
    ocpp_auth_hash_algorithm: str = _setting("sha256", _one_of("sha256", "scrypt"), "Hash of records that name none.")
    ocpp_auth_scrypt_n: int = _setting(16384, _whole(2, 1 << 20), "scrypt cost N (a power of two).")
    ocpp_auth_scrypt_r: int = _setting(8, _whole(1, 32), "scrypt block size r.")
    ocpp_auth_scrypt_p: int = _setting(1, _whole(1, 16), "scrypt parallelism p.")
    ocpp_auth_scrypt_keylen: int = _setting(32, _whole(16, 64), "scrypt key length.")
    ocpp_allowed_ips: tuple[str, ...] = _setting((), _addresses, "Only these addresses may connect (empty: all).")
    ocpp_allowed_cidrs: tuple[str, ...] = _setting((), _networks, "Only these networks may connect (empty: all).")
    ocpp_subprotocol_mismatch: str = _setting(
        "refuse", _one_of("refuse", "close"), "No common subprotocol: answer 400, or upgrade and close (OCPP-J text)."
    )
    ocpp_handshake_timeout: float = _setting(20.0, _seconds(1, 300), "From TCP accept to the end of the handshake.")
    ocpp_readmission_rate: float = _setting(
        100.0, _seconds(0.1, 100_000), "Handshakes a second let in again after an outage of Kafka."
    )
    flood_log_cooldown: float = _setting(
        300.0, _seconds(0, 86400), "One line per address and kind of scan in this time."
    )

    ocpp_max_payload_bytes: int = _setting(262_144, _whole(1024, 16_777_216), "Longest WebSocket message.")
    ocpp_max_nesting: int = _setting(32, _whole(4, 200), "Deepest JSON.")
    ocpp_max_bad_frames: int = _setting(10, _whole(1, 10_000), "Frames that are not OCPP-J before a close with 1002.")
    ocpp_max_waiting_calls: int = _setting(16, _whole(1, 1000), "CALLs of a charge point that may wait for their turn.")
    ocpp_response_cache_ttl_seconds: float = _setting(
        60.0, _seconds(0, 3600), "How long a retransmitted CALL gets the answer it got before."
    )
    ocpp_publish_timeout: float = _setting(8.0, _seconds(0.5, 60), "How long a CALL is held for Kafka's confirmation.")
    ocpp_heartbeat_interval: int = _setting(300, _whole(1, 86400), "Heartbeat interval given at BootNotification.")
    ocpp_id_token_policy: str = _setting(
        "accept", _one_of("accept", "registry"), "Id tokens: accept all, or look them up in Redis."
    )
    ocpp_transaction_ttl_seconds: int = _setting(
        604_800, _whole(3600, 31_536_000), "How long a StartTransaction's retries get the same transactionId."
    )
    ocpp_dev_state_file: str = _setting("", _optional_text, "Where an embedded Redis or Kafka leaves its address.")


_TLS = "OCPP_TLS_ENABLED"
"""Read only to refuse what this release cannot do."""

LATER = ("COMMAND_AUDIT_TTL_SECONDS", "COMMAND_IDEMPOTENCY_TTL_SECONDS", "KAFKA_GROUP_ID")
"""Variables of the contract without an OCPP_ in front that this release reads nothing from."""


def variable(field_name: str) -> str:
    """The environment variable of a field."""
    return field_name.upper()


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings in ``environ``, with the default where a value is wrong, and every problem found.

    An empty value counts as not given.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for field in attrs.fields(Settings):
        given = environ.get(variable(field.name), "")
        if given == "":
            continue
        try:
            values[field.name] = field.metadata["convert"](given)
        except ValueError as error:
            shown = "" if field.metadata["secret"] else f" (it is {given!r})"
            problems.append(f"{variable(field.name)} {error}{shown}")
    if environ.get(_TLS, "").lower() not in ("", "false", "0", "no", "off"):
        problems.append(f"{_TLS} cannot be true: this release has no TLS yet; terminate it in front of us")
    values.setdefault("node_id", _default_node_id())
    settings = Settings(**values)
    return settings, problems + _contradictions(settings)


def parse(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``. Raises ConfigError with every problem."""
    settings, problems = read(environ)
    if problems:
        raise ConfigError(problems)
    return settings


def without_effect(environ: Mapping[str, str]) -> list[str]:
    """Variables in ``environ`` that look like ours and that nothing reads: of other releases, or misspelt."""
    known = {_TLS, *(variable(field.name) for field in attrs.fields(Settings))}
    return sorted(
        name
        for name, value in environ.items()
        if value and (name in LATER or (name.startswith("OCPP_") and name not in known))
    )


def _scrypt_bytes(settings: Settings) -> int:
    # What auth.hashing reckons with.
    return 128 * settings.ocpp_auth_scrypt_r * (settings.ocpp_auth_scrypt_n + settings.ocpp_auth_scrypt_p + 2) + 1024


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.node_heartbeat_seconds * 2 > settings.node_ttl_seconds:
        problems.append("NODE_TTL_SECONDS must be at least twice NODE_HEARTBEAT_SECONDS, or a live node looks dead")
    if settings.port and settings.port == settings.websocket_ocpp_port:
        problems.append("PORT and WEBSOCKET_OCPP_PORT must differ")
    if settings.ocpp_auth_scrypt_n & (settings.ocpp_auth_scrypt_n - 1):
        problems.append("OCPP_AUTH_SCRYPT_N must be a power of two")
    elif _scrypt_bytes(settings) > _MAX_SCRYPT_BYTES:
        problems.append("OCPP_AUTH_SCRYPT_N with these R and P takes more than 1 GiB for each password: lower it")
    if settings.ocpp_auth_mode == "mtls":
        problems.append("OCPP_AUTH_MODE cannot be mtls: this release has no TLS yet; use basic or token")
    return problems
