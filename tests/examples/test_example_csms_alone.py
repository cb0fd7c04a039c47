"""``examples/csms.py`` against the protocol of Kafka; the gateway is played by the test, the example is a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from support.mock_kafka import MockKafka

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps

EXAMPLE = Path(__file__).parents[2] / "examples" / "csms.py"
PARTITION = 2


class Example:
    """The running example, and Kafka from the other side."""

    def __init__(self, brokers: str, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._producer = Producer({"bootstrap.servers": brokers})
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test", "allow.auto.create.topics": True})
        self._number = 0

    def says(self, beginning: str) -> str:
        """The next line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line
        raise AssertionError(f"it ended without saying {beginning}")

    def types(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def ask(self, action: str, payload: dict[str, Any], version: OcppVersion = OcppVersion.V16) -> dict[str, Any]:
        """Publish a CALL as the gateway does, and read the answer where it is waited for."""
        self._number += 1
        correlation_id = f"node-1.{self._number}"
        record = envelope(version).event(
            action,
            now=1_767_323_045.0,
            action=action,
            raw_payload=json.dumps(payload).encode(),
            extras={},
            reply_to={"topic": "ocpp.csms.replies", "partition": PARTITION, "correlationId": correlation_id},
        )
        topic = "ocpp.session.events" if action == "StartTransaction" else "ocpp.station.events"
        self._producer.produce(topic, record.value, key=b"CP-1", headers=record.headers)
        self._producer.flush(10)
        message = self.read("ocpp.csms.replies", {PARTITION: self._number - 1})
        assert message.headers() == [("kafka_correlationId", correlation_id.encode())]
        answer: dict[str, Any] = json.loads(message.value())["payload"]
        return answer

    def read(self, topic: str, places: dict[int, int]) -> Any:
        """The first record of these partitions from these offsets on."""
        self._consumer.list_topics(topic, timeout=10)  # asking for it makes it
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in places.items()])
        message = self._consumer.poll(20)
        assert message is not None and message.error() is None, message and message.error()
        return message

    def close(self) -> None:
        self._consumer.close()


def envelope(version: OcppVersion) -> Envelope:
    return Envelope(
        charge_point_id="CP-1",
        station_id="S-1",
        tenant_id="acme",
        ocpp_version=version.label,
        connection_id="c-1",
        epoch=1,
        node_id="node-1",
        stamps=EventStamps(),
    )


@pytest.fixture
def example() -> Iterator[Example]:
    with MockKafka() as kafka:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), kafka.brokers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        end = Timer(60.0, process.kill)
        end.start()
        running = Example(kafka.brokers, process)
        try:
            with process:
                try:
                    running.says("ready")
                    yield running
                finally:
                    process.kill()
        finally:
            end.cancel()
            running.close()


def test_it_decides_and_commands(example: Example) -> None:
    boot = example.ask("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
    assert (boot["status"], boot["interval"]) == ("Accepted", 300)
    assert example.ask("Authorize", {"idTag": "TAG-1"}) == {"idTagInfo": {"status": "Accepted"}}
    assert example.ask("Authorize", {"idTag": "BLOCKED-1"}) == {"idTagInfo": {"status": "Blocked"}}
    token = {"idToken": {"idToken": "BLOCKED-1", "type": "ISO14443"}}
    assert example.ask("Authorize", token, OcppVersion.V201) == {"idTokenInfo": {"status": "Blocked"}}

    start = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 0, "timestamp": "2026-01-02T03:04:05Z"}
    first = example.ask("StartTransaction", start)
    again = example.ask("StartTransaction", start)
    other = example.ask("StartTransaction", {**start, "timestamp": "2026-01-02T04:04:05Z"})
    assert first["transactionId"] == again["transactionId"] != other["transactionId"]
    assert first["idTagInfo"] == {"status": "Accepted"}

    example.types("what?")
    example.types("start CP-1 TAG-1")
    message = example.read("cpms.command.requests", dict.fromkeys(range(4), 0))
    request = json.loads(message.value())
    assert message.key() == b"CP-1"
    assert request.pop("requestedAt") and request.pop("commandId")
    assert request == {
        "commandType": "RemoteStart",
        "chargePointId": "CP-1",
        "payload": {"connectorId": 1, "idTag": "TAG-1"},
        "timeoutSec": 15,
    }
