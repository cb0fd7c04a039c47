"""What provisioning told Kafka."""

from __future__ import annotations

import json
from typing import Any

from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.tail import EventTail


def audit_events(brokers: str, count: int) -> list[dict[str, Any]]:
    """The first ``count`` events on the audit topic, or as many as come in some seconds, and what came with them."""
    tail = EventTail(KafkaConfig(brokers=brokers, client_id="test"), ["cpms.audit.events"], True)
    seen: list[dict[str, Any]] = []
    try:
        tail.open(10.0)
        for _ in range(40):
            seen += [json.loads(record.value) for record in tail.read(0.25)]
            if len(seen) >= count:
                break
    finally:
        tail.close()
    return seen
