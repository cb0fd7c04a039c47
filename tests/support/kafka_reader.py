"""What is in a topic right now, read as any other consumer would."""

from __future__ import annotations

import uuid

from attrs import frozen
from confluent_kafka import Consumer, TopicPartition


@frozen
class Record:
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def read_topic(brokers: str, topic: str, *, seconds: float = 15.0) -> list[Record]:
    """Every record of ``topic`` up to its present end, by partition and offset; blocks."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"test-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 2,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=seconds).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        records: list[Record] = []
        at_end: set[int] = set()
        while len(at_end) < len(partitions):
            message = consumer.poll(seconds)
            assert message is not None, f"reading {topic} took too long"
            error = message.error()
            partition = message.partition()
            assert partition is not None
            if error is not None:
                assert error.name() == "_PARTITION_EOF", error
                at_end.add(partition)
                continue
            headers = tuple((name, bytes(value)) for name, value in message.headers() or [])
            offset, key, value = message.offset(), message.key(), message.value()
            assert offset is not None
            assert isinstance(value, bytes)
            records.append(Record(partition, offset, key if key is None else bytes(key), value, headers))
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()
