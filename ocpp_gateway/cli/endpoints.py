"""Where things are: from options, from the environment, or from what a gateway with ``--dev`` leaves behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.ops.dev_state import DevState, default_path
from ocpp_gateway.settings import EMBEDDED, Settings

DEFAULT_REDIS_URL = "redis://localhost:6379"
_NEEDS_REDIS = re.compile(r"ocpp-gateway(?= (?:charger|cert|pki issue) )")


@frozen(kw_only=True)
class Places:
    """What the person said about places. Nothing is looked up before a command asks."""

    dev: bool
    redis_url: str | None = field(default=None, repr=False)
    kafka_brokers: str | None = None
    environ: Mapping[str, str] = field(factory=dict, repr=False)
    running: DevState | None = field(default=None, repr=False)
    """The gateway with ``--dev`` that is meant, where it is known already."""

    def advice(self, text: str) -> str:
        """``text`` with the commands in it as they have to be typed here."""
        return _NEEDS_REDIS.sub("ocpp-gateway --dev", text) if self.dev else text

    def redis(self) -> str:
        """The URL of Redis. Raises Failure."""
        if self.dev:
            return self.dev_state().redis_url
        return self._not_embedded(self.redis_url or DEFAULT_REDIS_URL, "Redis")

    def kafka(self) -> str:
        """The Kafka brokers. Raises Failure if nobody said which."""
        if self.dev:
            return self.dev_state().kafka_brokers
        if self.kafka_brokers is None:
            raise Failure(
                "Which Kafka?",
                "Give --kafka-brokers HOST:PORT or set KAFKA_BROKERS; with a gateway started by --dev: --dev",
            )
        return self._not_embedded(self.kafka_brokers, "Kafka")

    def kafka_if_given(self) -> str | None:
        """The Kafka brokers, None if nobody said which."""
        return self.kafka() if self.dev or self.kafka_brokers is not None else None

    def kafka_environ(self) -> dict[str, str]:
        """The environment, without what it says about another Kafka than the one of a gateway with ``--dev``."""
        return {name: value for name, value in self.environ.items() if not (self.dev and name.startswith("KAFKA_"))}

    def ocpp_port(self) -> int:
        """The port for charge points on this machine."""
        if self.dev:
            return self.dev_state().ocpp_port
        return self.port("websocket_ocpp_port")

    def port(self, name: str) -> int:
        """A port of the gateway's settings, from the environment or its default."""
        given = self.environ.get(name.upper()) or str(getattr(attrs.fields(Settings), name).default)
        if not (given.isascii() and given.isdigit() and 0 <= int(given) < 65536):
            raise Failure(f"{name.upper()} must be a port number (it is {given!r})")
        return int(given)

    def redis_prefix(self) -> str:
        """REDIS_PREFIX, as the gateway reads it."""
        return self.environ.get("REDIS_PREFIX", "")

    def identity_prefix(self) -> str:
        """OCPP_IDENTITY_PREFIX, as the gateway reads it."""
        return self.environ.get("OCPP_IDENTITY_PREFIX") or "chargers"

    def revoked_prefix(self) -> str:
        """OCPP_REVOKED_PREFIX, as the gateway reads it."""
        return self.environ.get("OCPP_REVOKED_PREFIX") or "revoked-certs"

    def has_tls(self) -> bool:
        """The port for charge points speaks TLS: OCPP_TLS_ENABLED, or what the gateway with ``--dev`` says."""
        if self.dev:
            return self.dev_state().tls
        return self.environ.get("OCPP_TLS_ENABLED", "").lower() in ("true", "1", "yes", "on")

    def identity_pattern(self) -> re.Pattern[str]:
        """OCPP_CHARGE_POINT_ID_PATTERN, as the gateway reads it."""
        given = self.environ.get("OCPP_CHARGE_POINT_ID_PATTERN", "")
        default: Any = attrs.fields(Settings).ocpp_charge_point_id_pattern.default  # compiled already
        try:
            return re.compile(given or default.pattern)
        except re.error as error:
            raise Failure(f"OCPP_CHARGE_POINT_ID_PATTERN is not a regular expression: {error}") from None

    def dev_state_file(self) -> Path:
        """Where a gateway with ``--dev`` says where its parts are."""
        given = self.environ.get("OCPP_DEV_STATE_FILE")
        return Path(given) if given else default_path()

    def dev_state(self) -> DevState:
        """The gateway that runs with ``--dev``. Raises Failure if none does."""
        state = self.running or DevState.read(self.dev_state_file())
        if state is None:
            raise Failure(
                f"No gateway runs with --dev on this machine (looked into {self.dev_state_file()}).",
                "Start one with 'ocpp-gateway demo' or 'twistd -n ocpp-gateway --dev'.",
            )
        return state

    @staticmethod
    def _not_embedded(place: str, name: str) -> str:
        if place == EMBEDDED:
            raise Failure(f"{EMBEDDED} is the {name} inside of a gateway.", "To use that of a running one, add --dev.")
        return place
