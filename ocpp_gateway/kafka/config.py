"""Settings of Kafka, as librdkafka's properties.

Three layers, the later one wins:

1. our defaults,
2. ``KAFKA_SECURITY_PROTOCOL``, ``KAFKA_SASL_*`` and ``KAFKA_SSL_*``: the name in lower case with dots is librdkafka's
   property (``KAFKA_SASL_USERNAME`` is ``sasl.username``),
3. the file named by ``KAFKA_CONFIG_FILE``: one ``property=value`` a line, ``#`` begins a comment line. Any property of
   librdkafka may stand there.

What the gateway promises rests on a few properties (``GUARANTEES``): those may be repeated with the same value, never
changed. Nobody may name brokers or a group twice, so these have one place each: ``KAFKA_BROKERS``, ``KAFKA_GROUP_ID``.

Properties: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen
from confluent_kafka import Consumer, KafkaException, Producer

from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.one_sided import CONSUMER_ONLY, PRODUCER_ONLY

EMBEDDED: Final = "embedded://"

Value = str | int | bool

GUARANTEES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    # property: (its canonical name, the spellings of the one value allowed)
    "enable.idempotence": ("enable.idempotence", ("true", "t", "1")),
    "acks": ("acks", ("all", "-1")),
    "request.required.acks": ("acks", ("all", "-1")),
    "partitioner": ("partitioner", ("murmur2_random",)),
    "enable.auto.commit": ("enable.auto.commit", ("true", "t", "1")),
    "auto.commit.enable": ("enable.auto.commit", ("true", "t", "1")),
    "enable.auto.offset.store": ("enable.auto.offset.store", ("false", "f", "0")),
    "auto.offset.reset": ("auto.offset.reset", ("earliest", "smallest", "beginning")),
    "isolation.level": ("isolation.level", ("read_committed",)),
    "group.protocol": ("group.protocol", ("classic",)),
    "partition.assignment.strategy": ("partition.assignment.strategy", ("cooperative-sticky",)),
}
"""What is written: durable, each once and in order, and on the partition where a Java producer would have put the key.
What is read: nothing skipped, and nothing counted as read before it is done with, whoever joins or leaves the group."""

_ELSEWHERE: Final = {
    "bootstrap.servers": "set KAFKA_BROKERS instead",
    "metadata.broker.list": "set KAFKA_BROKERS instead",
    "group.id": "set KAFKA_GROUP_ID instead",
    "group.instance.id": "nodes join and leave the group freely",
    "offset.store.method": "offsets are kept in Kafka",
    "transactional.id": "the gateway does not use transactions",
    "delivery.report.only.error": "the gateway waits for every report",
    "log.queue": "the gateway takes librdkafka's log",
    "default.topic.config": "set the topic's properties themselves",
    "logger": "no such property",
    "test.mock.num.brokers": f"it keeps nothing; for development set KAFKA_BROKERS={EMBEDDED}",
}

_DEFAULTS: Final[dict[str, Value]] = {
    # A broker that hangs is given up while the charge point still waits for its answer, not after a minute.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 10_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 2_000,
    # How long a topic created, or moved, behind our back goes unnoticed at most.
    "topic.metadata.refresh.interval.ms": 30_000,
    "log.connection.close": False,
}

_PRODUCER_DEFAULTS: Final[dict[str, Value]] = {
    "linger.ms": 1,
    "request.timeout.ms": 10_000,
    # For ever: how long a CALL waits is the session's decision, and a record that comes late is a record kept.
    "message.timeout.ms": 0,
    # Readers written with kafkajs know gzip only, so whoever wants lz4 or zstd asks for it.
    "compression.type": "none",
}

_CONSUMER_DEFAULTS: Final[dict[str, Value]] = {
    # How long the commands of a node that died wait for another one.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
    "auto.commit.interval.ms": 500,
    # Real brokers answer as soon as there is something; the mock cluster keeps a request for the whole time.
    "fetch.wait.max.ms": 100,
    # What is fetched ahead is thrown away at each pause, so not much of it.
    "queued.min.messages": 1_000,
    "queued.max.messages.kbytes": 8_192,
}

_MAX_RECORD_BYTES: Final = 1_000_000
"""librdkafka's own default."""

_SECRET = re.compile(r"password|passphrase|private|secret|\.pem|jaas|oauthbearer\.config|userinfo", re.IGNORECASE)
_BROKER = re.compile(r"(?:[A-Z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+)(?::(\d{1,5}))?")
_FROM_ENVIRONMENT = re.compile(r"KAFKA_(?:SECURITY_PROTOCOL|SASL_\w+|SSL_\w+)")


@frozen
class Property:
    """One property somebody set. ``origin`` is how they would look for it: the variable, or the line of the file."""

    name: str
    value: str = field(repr=False)
    origin: str

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return _SECRET.search(self.name) is not None


@frozen(kw_only=True)
class KafkaConfig:
    """Where the brokers are and how to talk to them. ``brokers`` is a list as librdkafka takes it, or ``embedded://``.

    ``attrs.evolve(config, brokers=...)`` puts the embedded broker's address in.
    """

    brokers: str
    client_id: str
    properties: tuple[Property, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, brokers: str, client_id: str) -> KafkaConfig:
        """Read the layers 2 and 3 from ``environ``; raise ConfigError with every problem found."""
        problems = [*_broker_problems(brokers)]
        properties: dict[str, Property] = {}
        for name in sorted(environ):
            if _FROM_ENVIRONMENT.fullmatch(name) and environ[name]:
                entry = Property(name.removeprefix("KAFKA_").lower().replace("_", "."), environ[name], name)
                properties[entry.name] = entry
        path = environ.get("KAFKA_CONFIG_FILE", "")
        if path:
            entries, unreadable = _read_file(path)
            problems += unreadable
            properties |= {entry.name: entry for entry in entries}
        allowed = []
        for entry in properties.values():
            refusal = _refusal(entry)
            if refusal is None:
                allowed.append(entry)
            else:
                problems.append(f"{entry.origin}: {entry.name}: {refusal}")
        config = cls(brokers=brokers, client_id=client_id, properties=tuple(allowed))
        problems += config.problems()
        if problems:
            raise ConfigError(problems)
        return config

    @property
    def is_embedded(self) -> bool:
        """Whether the brokers are the ones we bring ourselves, for development."""
        return self.brokers == EMBEDDED

    @property
    def max_record_bytes(self) -> int:
        """The largest record that the client takes (librdkafka: ``message.max.bytes``); topics have limits too."""
        return int(self.client_properties().get("message.max.bytes", _MAX_RECORD_BYTES))

    def client_properties(self) -> dict[str, Value]:
        """What every client of this cluster needs: brokers, name, security, and whatever else was set."""
        chosen: dict[str, Value] = {"bootstrap.servers": self.brokers, "client.id": self.client_id, **_DEFAULTS}
        return chosen | {entry.name: entry.value for entry in self.properties}

    def producer_properties(self, *, max_pending_messages: int, max_pending_bytes: int) -> dict[str, Value]:
        """The producer's properties, with room in librdkafka's queue for what EventProducer lets in.

        EventProducer's bounds are the ones that decide; librdkafka counts its own overhead too, so it gets some more.
        """
        room: dict[str, Value] = {
            "queue.buffering.max.messages": max_pending_messages + 1_000,
            "queue.buffering.max.kbytes": 2 * (max_pending_bytes // 1024) + 1_024,
        }
        promised: dict[str, Value] = {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random"}
        chosen = {**_PRODUCER_DEFAULTS, **room, **self.client_properties()}
        others = GUARANTEES.keys() | CONSUMER_ONLY
        return {name: value for name, value in chosen.items() if name not in others} | promised

    def consumer_properties(self, group_id: str) -> dict[str, Value]:
        """The properties of a member of ``group_id``. librdkafka commits, but nothing that we have not told it to."""
        promised: dict[str, Value] = {
            "group.id": group_id,
            "enable.auto.commit": True,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
        }
        chosen = {**_CONSUMER_DEFAULTS, **self.client_properties()}
        others = GUARANTEES.keys() | PRODUCER_ONLY
        return {name: value for name, value in chosen.items() if name not in others} | promised

    def problems(self) -> tuple[str, ...]:
        """What librdkafka has against the properties: unknown names, values out of range, files it cannot read.

        It names one problem at a time, so each property is tried alone when all together fail. Opens no connection.
        """
        complaint = _complaint(Producer, self.producer_properties(max_pending_messages=1, max_pending_bytes=1))
        complaint = complaint or _complaint(Consumer, self.consumer_properties("ocpp-gateway"))
        if complaint is None:
            return ()
        found = []
        for entry in self.properties:
            alone = _complaint(Producer, {entry.name: entry.value})
            # "Failed to create ..." is about properties that do not fit together, and alone it lacks the others.
            if alone is not None and not alone.startswith("Failed to create"):
                found.append(f"{entry.origin}: {self.without_secrets(alone)}")
        return tuple(found) or (self._blame(complaint),)

    def _blame(self, complaint: str) -> str:
        origins = [entry.origin for entry in self.properties if entry.name in complaint]
        return f"{', '.join(origins) or 'KAFKA_*'}: {self.without_secrets(complaint)}"

    def without_secrets(self, text: str) -> str:
        """``text`` with the values of passwords, keys and tokens blotted out."""
        for entry in self.properties:
            if entry.is_secret and entry.value:
                text = text.replace(entry.value, "***")
        return text


def _broker_problems(brokers: str) -> Iterable[str]:
    if brokers == EMBEDDED:
        return
    for part in brokers.split(","):
        match = _BROKER.fullmatch(part.strip())
        if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
            yield f"KAFKA_BROKERS: expected host:port[,host:port...] or {EMBEDDED}, not {part.strip()[:100]!r}"


def _refusal(entry: Property) -> str | None:
    """Why this property may not be set here, or None."""
    if entry.name in _ELSEWHERE:
        return _ELSEWHERE[entry.name]
    if entry.name in GUARANTEES:
        canonical, spellings = GUARANTEES[entry.name]
        if entry.value.lower() not in spellings:
            return f"the gateway's guarantees need {canonical}={spellings[0]}"
    if (
        "_" in entry.name and entry.name != "log_level"
    ):  # confluent_kafka's Python callbacks: error_cb, logger and the like
        return "no such property"
    return None


def _read_file(path: str) -> tuple[list[Property], list[str]]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return [], [f"KAFKA_CONFIG_FILE: cannot read {path}: {reason}"]
    entries, problems = [], []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, equals, value = text.partition("=")
        origin = f"KAFKA_CONFIG_FILE line {number}"
        if equals and name.strip():
            entries.append(Property(name.strip(), value.strip(), origin))
        else:
            problems.append(f"{origin}: expected property=value")
    return entries, problems


def _complaint(kind: type[Producer] | type[Consumer], properties: Mapping[str, Value]) -> str | None:
    """librdkafka's objection to these properties, or None."""
    quiet = logging.Logger("kafka")
    quiet.addHandler(logging.NullHandler())
    try:
        kind({name: value for name, value in properties.items() if name != "bootstrap.servers"}, logger=quiet).close()
    except KafkaException as error:
        return str(error.args[0].str()).strip()
    except (TypeError, ValueError) as error:
        return str(error)
    return None
