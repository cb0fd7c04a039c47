"""Every failure this project raises on purpose.

::

    GatewayError
    ├─ ConfigError                settings that cannot work; lists every problem at once
    ├─ StartFailed                the daemon cannot serve: a dependency or a port is not to be had
    ├─ HandshakeRefused           an HTTP answer instead of an upgrade
    └─ DependencyError            somebody we rely on is not there
       ├─ StoreUnavailable        Redis
       └─ BusUnavailable          Kafka
          └─ BusQueueFull         Kafka, and our queue towards it is full

What a peer did wrong inside OCPP-J is ``ocppj.frames.FrameError``, a GatewayError too. ``reason`` is a stable
snake_case word: the same in code, logs, metrics and docs.
"""

from __future__ import annotations

from collections.abc import Sequence


class GatewayError(Exception):
    """Base of all. ``reason`` names the failure, stable over releases."""

    reason: str = "internal_error"


class ConfigError(GatewayError):
    """The settings cannot work. ``problems`` has a line for each, beginning with the setting's name."""

    reason = "config_invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartFailed(GatewayError):
    """The daemon cannot start to serve; the text says what to do about it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class HandshakeRefused(GatewayError):
    """The opening handshake ends with an HTTP answer (RFC 6455 section 4.2.2), before any upgrade.

    ``reason`` is a row of ``handshake.reasons``; it is also the reason phrase's source, so that no text of a peer or
    of an exception can reach the wire.
    """

    def __init__(self, status: int, reason: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)


class DependencyError(GatewayError):
    """A service that we rely on failed or did not answer in time."""

    reason = "dependency_unavailable"


class StoreUnavailable(DependencyError):
    """Redis did not answer in time, or answered with an error."""

    reason = "redis_unavailable"


class BusUnavailable(DependencyError):
    """Kafka did not confirm a record. ``permanent``: the same record would fail again, whatever becomes of Kafka."""

    reason = "kafka_unavailable"

    @property
    def permanent(self) -> bool:
        """Whether the record itself is at fault."""
        return False


class BusQueueFull(BusUnavailable):
    """Kafka did not take records for so long that our bounded queue is full."""

    reason = "kafka_queue_full"
