"""librdkafka's mock cluster in a process of its own, so that a broker's work is not counted as the gateway's.

Speaks Kafka's wire protocol on loopback and keeps at most 5 MiB per partition in memory. Prints its bootstrap
addresses, and runs until it is terminated.
"""

from __future__ import annotations

import signal

from confluent_kafka import Producer


def main() -> None:
    cluster = Producer({"bootstrap.servers": "set.by.the.mock:9092", "test.mock.num.brokers": 1, "log_level": 3})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
