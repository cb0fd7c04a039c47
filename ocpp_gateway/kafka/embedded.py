"""A Kafka for machines without one: librdkafka's own mock cluster, in this process.

It speaks the real protocol on loopback, to other processes too, so everything but durability is as with a real cluster:
idempotent producers, groups, headers. It creates every topic that is asked for, with 4 partitions, keeps the last
5 MiB of each partition in memory, and is gone with the process: for development and tests only.
"""

from __future__ import annotations

from confluent_kafka import KafkaException, Producer

from ocpp_gateway.errors import StartFailed


class EmbeddedKafka:
    """A mock cluster that lives from ``start`` to ``stop``, or as long as the process."""

    def __init__(self, holder: Producer, brokers: str) -> None:
        self._holder: Producer | None = holder
        self.brokers = brokers
        """``host:port,...`` of the brokers, for ``KafkaConfig.brokers``."""

    @classmethod
    def start(cls, *, brokers: int = 1, timeout: float = 10.0) -> EmbeddedKafka:
        """Start ``brokers`` brokers on free loopback ports; takes some milliseconds."""
        # Nobody polls the holder, so it must not collect log lines: only "emergency" (0) is let through.
        holder = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, "log_level": 0})
        try:
            known = holder.list_topics(timeout=timeout).brokers.values()
        except KafkaException as error:
            raise StartFailed("kafka_embedded_failed", f"the embedded Kafka did not start: {error}") from error
        addresses = sorted(f"{broker.host}:{broker.port}" for broker in known)
        return cls(holder, ",".join(addresses))

    def stop(self) -> None:
        """Take the cluster down and forget its records; again is harmless."""
        self._holder = None  # the last reference: librdkafka ends its threads and closes the ports
