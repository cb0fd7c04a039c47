"""From environment variables to ``Settings``, or to every problem with them at once.

A setting's variable is its name in upper case. Each problem begins with the variable's name.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping
from typing import Any

import attrs

from ocpp_gateway.errors import ConfigError
from ocpp_gateway.settings import Settings, client_auths

_MAX_SCRYPT_BYTES = 1 << 30

_TRUST_PROXY = "OCPP_TRUST_PROXY"
"""Of the contract, where it trusted everybody; read only to ask for OCPP_TRUSTED_PROXIES instead."""

ACTION = "<ACTION>"
"""Stands in ``variable`` for the action's name, in capitals and with or without underscores between its words."""


def variable(field_name: str) -> str:
    """The environment variable of a field, or the pattern of those that it has."""
    if attrs.fields_dict(Settings)[field_name].metadata["per_action"]:
        return f"{field_name.upper().removesuffix('S')}_{ACTION}"
    return field_name.upper()


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings in ``environ``, with the default where a value is wrong, and every problem found.

    An empty value counts as not given.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for field in attrs.fields(Settings):
        found = {}
        for name, given in _given(environ, field):
            try:
                found[name] = field.metadata["convert"](given)
            except ValueError as error:
                shown = "" if field.metadata["secret"] else f" (it is {given!r})"
                problems.append(f"{name} {error}{shown}")
        if field.metadata["per_action"]:
            values[field.name] = tuple((_action(field, name), value) for name, value in found.items())
        elif found:
            values[field.name] = found[variable(field.name)]
    if environ.get(_TRUST_PROXY, "").lower() not in ("", "false", "0", "no", "off") and not values.get(
        "ocpp_trusted_proxies"
    ):
        problems.append(f"{_TRUST_PROXY} alone trusts nobody: say in OCPP_TRUSTED_PROXIES which proxies tell the truth")
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
    known = {_TRUST_PROXY, *(name for field in attrs.fields(Settings) for name, _ in _given(environ, field))}
    return sorted(name for name, value in environ.items() if value and name.startswith("OCPP_") and name not in known)


def _given(environ: Mapping[str, str], field: attrs.Attribute[Any]) -> list[tuple[str, str]]:
    """The variables of a field that are there, with their values. An empty one counts as not given."""
    pattern = variable(field.name)
    if not field.metadata["per_action"]:
        return [(pattern, environ[pattern])] if environ.get(pattern) else []
    beginning = pattern.removesuffix(ACTION)
    return sorted(
        (name, value) for name, value in environ.items() if value and name.startswith(beginning) and name != beginning
    )


def _action(field: attrs.Attribute[Any], name: str) -> str:
    return name.removeprefix(variable(field.name).removesuffix(ACTION)).replace("_", "")


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
    if settings.ocpp_ping_interval and settings.ocpp_ping_timeout > 0.8 * settings.ocpp_ping_interval:
        problems.append("OCPP_PING_TIMEOUT must be at most four fifths of OCPP_PING_INTERVAL")
    if settings.ocpp_ban_seconds > settings.ocpp_ban_max_seconds:
        problems.append("OCPP_BAN_MAX_SECONDS must be at least OCPP_BAN_SECONDS")
    return problems + _tls_contradictions(settings)


def _tls_contradictions(settings: Settings) -> list[str]:
    problems = []
    extra = dict(settings.websocket_ocpp_extra_ports)
    if {settings.port, settings.websocket_ocpp_port} & extra.keys():
        problems.append("WEBSOCKET_OCPP_EXTRA_PORTS must differ from PORT and WEBSOCKET_OCPP_PORT")
    if settings.ocpp_tls_client_auth != "off" and not settings.ocpp_tls_enabled:
        problems.append(
            "OCPP_TLS_CLIENT_AUTH needs OCPP_TLS_ENABLED=true: without TLS there are no client certificates"
        )
    kinds = client_auths(settings)
    if kinds:
        for field_name in ("ocpp_tls_cert_path", "ocpp_tls_key_path"):
            if not getattr(settings, field_name):
                problems.append(f"{variable(field_name)} is needed for TLS ('ocpp-gateway pki init' makes one to try)")
    if kinds - {"off"} and not settings.ocpp_tls_ca_path:
        problems.append("OCPP_TLS_CA_PATH is needed to check client certificates")
    if settings.ocpp_tls_crl_path and not settings.ocpp_tls_ca_path:
        problems.append("OCPP_TLS_CRL_PATH needs OCPP_TLS_CA_PATH, the authorities that the lists are of")
    if settings.ocpp_auth_mode == "mtls" and not kinds - {"off"}:
        problems.append("OCPP_AUTH_MODE mtls needs OCPP_TLS_ENABLED=true and OCPP_TLS_CLIENT_AUTH=required or optional")
    if settings.ocpp_proxy_protocol and not settings.ocpp_trusted_proxies:
        problems.append("OCPP_PROXY_PROTOCOL needs OCPP_TRUSTED_PROXIES: anybody could claim any address")
    return problems


def _default_node_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "node"
    return f"{host}-{secrets.token_hex(4)}"
