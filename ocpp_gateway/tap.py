"""``twistd ocpp-gateway``: command line and environment become Settings, Settings become the service."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService
from twisted.internet.base import ReactorBase
from twisted.python import usage

from ocpp_gateway.environment import read, variable
from ocpp_gateway.errors import ConfigError
from ocpp_gateway.ops.signals import ignore_hangup
from ocpp_gateway.settings import EMBEDDED, Settings

if TYPE_CHECKING:
    from ocpp_gateway.kafka.config import KafkaConfig


_RECORD_OVERHEAD = 8192
"""Bytes of a record beside a charge point's message, which may be twice its size when it has to be quoted as text."""


class Options(usage.Options):
    """Command line of the daemon. It wins over the environment, the environment over --env-file."""

    synopsis = "[options]"
    optFlags = (
        (
            "dev",
            None,
            "Development: embedded Redis and Kafka (nothing is kept), whatever the environment says of others; "
            "readable log. Only --set wins over it.",
        ),
        ("list-settings", None, "Print every environment variable with its default, and stop."),
    )
    optParameters = (
        ("env-file", None, None, "File of NAME=value lines, for secrets that no command line should show."),
    )
    longdesc = (
        "Everything is set by environment variables (--list-settings shows them), or by --set NAME=VALUE; "
        "an empty value counts as not given. "
        "Listens for OCPP on WEBSOCKET_OCPP_PORT (8080) and for HTTP on PORT (3001)."
    )

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, str] = {}
        self.environ: Mapping[str, str] = {}
        self.settings: Settings
        self.kafka: KafkaConfig

    def opt_set(self, assignment: str) -> None:
        """NAME=VALUE of one environment variable; may be given more than once."""
        name, equals, value = assignment.partition("=")
        if not equals:
            raise usage.UsageError(f"--set takes NAME=VALUE, not {assignment!r}")
        self.given[name] = value

    def opt_version(self) -> None:
        """Print the gateway's version and exit."""
        from importlib.metadata import version

        print("ocpp-gateway", version("ocpp-gateway"))  # noqa: T201
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Turn what was given into ``settings``; every problem in one UsageError."""
        if self["list-settings"]:
            print(settings_table())  # noqa: T201
            raise SystemExit(0)
        environ = self._environ()
        known = {variable(field.name) for field in attrs.fields(Settings)}
        problems = [f"--set {name}: there is no such setting" for name in self.given if not _settable(name, known)]
        self.settings, wrong = read(environ)
        problems += wrong
        problems += self._read_connections(self.settings, environ)
        problems += self._read_security(self.settings)
        problems += self._read_csms(self.settings)
        if problems:
            raise usage.UsageError("it cannot start with these settings:\n  " + "\n  ".join(problems))
        self.environ = environ

    def _environ(self) -> dict[str, str]:
        environ = {**_not_empty(self._env_file()), **_not_empty(os.environ)}
        if self["dev"]:
            ours = {name: value for name, value in environ.items() if not _is_of_another_kafka(name)}
            environ = {"LOG_FORMAT": "text", **ours, "REDIS_URL": EMBEDDED, "KAFKA_BROKERS": EMBEDDED}
        return environ | _not_empty(self.given)

    def _read_connections(self, settings: Settings, environ: Mapping[str, str]) -> list[str]:
        from ocpp_gateway.kafka.config import KafkaConfig
        from ocpp_gateway.redis.url import RedisUrl

        problems = []
        try:
            RedisUrl.parse(settings.redis_url)
        except ValueError as error:
            problems.append(f"REDIS_URL: {error}")
        client_id = settings.kafka_client_id or f"{settings.service_name}-{settings.node_id}"
        try:
            self.kafka = KafkaConfig.from_environ(environ, brokers=settings.kafka_brokers, client_id=client_id)
        except ConfigError as error:
            return problems + list(error.problems)
        needed = 2 * settings.ocpp_max_payload_bytes + _RECORD_OVERHEAD
        if needed > self.kafka.max_record_bytes:
            problems.append(
                f"OCPP_MAX_PAYLOAD_BYTES needs records of up to {needed} bytes: set message.max.bytes in "
                "KAFKA_CONFIG_FILE (and max.message.bytes of the topics)"
            )
        return problems

    def _read_security(self, settings: Settings) -> list[str]:
        from ocpp_gateway.auth.bindings import AllowedOrganizations
        from ocpp_gateway.tls.policy import TlsPolicy
        from ocpp_gateway.tls.policy import problems as policy_problems

        problems = [f"OCPP_TLS_CIPHERS: {problem}" for problem in policy_problems(TlsPolicy.of(settings))]
        try:
            AllowedOrganizations.parse(settings.ocpp_allowed_organizations)
        except ValueError as error:
            problems.append(f"OCPP_ALLOWED_ORGANIZATIONS: {error}")
        return problems

    def _read_csms(self, settings: Settings) -> list[str]:
        from ocpp_gateway.csms.policy import problems

        return problems(settings.ocpp_csms_actions, settings.ocpp_csms_timeouts, settings.ocpp_csms_fallbacks)

    def _env_file(self) -> dict[str, str]:
        path = self["env-file"]
        if path is None:
            return {}
        values = {}
        try:
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    text = line.strip()
                    if not text or text.startswith("#"):
                        continue
                    name, equals, value = text.partition("=")
                    if not equals:
                        raise usage.UsageError(f"--env-file {path}, line {number}: not NAME=value")
                    values[name.strip()] = value.strip()
        except (OSError, UnicodeDecodeError) as error:
            raise usage.UsageError(f"--env-file {path}: {error}") from None
        return values


def _not_empty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if value}


def _is_of_another_kafka(name: str) -> bool:
    return name == "KAFKA_CONFIG_FILE" or name.startswith(("KAFKA_SECURITY_", "KAFKA_SASL_", "KAFKA_SSL_"))


def _settable(name: str, known: set[str]) -> bool:
    return name in known or name.startswith("KAFKA_")


def settings_table() -> str:
    """Every variable with its default and meaning, for people."""
    rows = []
    for field in attrs.fields(Settings):
        default = getattr(field.default, "pattern", field.default)
        rows.append(f"{variable(field.name)}={_shown(default)}\n    {field.metadata['help']}")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def use_monotonic_timers() -> None:
    """Make the reactor's timers follow the monotonic clock.

    Twisted's follow the wall clock: a step of an hour forward would fire every timer at once and drop every charge
    point. This process is ours, so its reactor class is ours to set up, before any timer is started.
    """
    ReactorBase.seconds = staticmethod(time.monotonic)


def makeService(options: Options) -> IService:
    """Twisted's entry point: the gateway as one service."""
    use_monotonic_timers()
    ignore_hangup()  # until there are files to read again
    from twisted.internet import reactor

    from ocpp_gateway.service import assemble

    gateway = assemble(
        options.settings,
        kafka=options.kafka,
        environ=options.environ,
        log_stream=_log_stream(options.parent or {}),
        reactor=reactor,
    )
    atexit.register(gateway.exit_status.apply)
    return gateway


def _log_stream(twistd: Mapping[str, Any]) -> IO[str] | None:
    """Where twistd was told to log; None if it logs to syslog, which has a form of its own."""
    if twistd.get("syslog"):
        return None
    path = twistd.get("logfile")
    if path in (None, "-") and (twistd.get("nodaemon") or path == "-" or "nodaemon" not in twistd):
        return sys.stdout
    from twisted.python.logfile import LogFile

    stream: IO[str] = LogFile.fromFullPath(path or "twistd.log")
    return stream
