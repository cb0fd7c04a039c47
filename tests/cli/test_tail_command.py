"""Reading events along, without taking them from anybody."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from cli.cli_runner import run_here, started
from confluent_kafka import Producer

from ocpp_gateway.cli.events import EventPrinter
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.kafka.tail import EventTail

TOPIC = "ocpp.station.events"


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    kafka = EmbeddedKafka.start()
    try:
        yield kafka.brokers
    finally:
        kafka.stop()


def event(cp_id: str, number: int) -> bytes:
    return json.dumps(
        {"eventType": "StationHeartbeat", "chargePointId": cp_id, "occurredAt": f"2026-01-01T00:00:00.{number:03d}Z"}
    ).encode()


def publish(brokers: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": brokers})
    for value in values:
        producer.produce(topic, value, key=value[-9:])
    assert producer.flush(10.0) == 0


def read(tail: EventTail, count: int) -> list[bytes]:
    values: list[bytes] = []
    for _ in range(60):
        values += [record.value for record in tail.read(0.25)]
        if len(values) >= count:
            break
    return sorted(values)


@pytest.fixture
def tailing(brokers: str) -> Iterator[list[EventTail]]:
    tails: list[EventTail] = []
    yield tails
    for tail in tails:
        tail.close()


def opened(tails: list[EventTail], brokers: str, topic: str, *, from_beginning: bool) -> EventTail:
    tail = EventTail(KafkaConfig(brokers=brokers, client_id="test"), [topic], from_beginning)
    tails.append(tail)
    tail.open(10.0)
    return tail


def test_from_the_beginning_and_from_now(brokers: str, tailing: list[EventTail]) -> None:
    topic = "ocpp.session.events"
    early = [event("CP-1", number) for number in range(20)]
    publish(brokers, topic, *early)
    from_now = opened(tailing, brokers, topic, from_beginning=False)
    late = [event("CP-1", number) for number in range(20, 30)]
    publish(brokers, topic, *late)
    assert read(from_now, 10) == late
    assert read(opened(tailing, brokers, topic, from_beginning=True), 30) == early + late


def test_two_readers_both_get_everything(brokers: str, tailing: list[EventTail]) -> None:
    values = [event("CP-1", number) for number in range(10)]
    publish(brokers, "both", *values)
    first, second = (opened(tailing, brokers, "both", from_beginning=True) for _ in range(2))
    assert read(first, 10) == read(second, 10) == values


def test_a_topic_that_comes_later_is_read_from_its_beginning(brokers: str, tailing: list[EventTail]) -> None:
    tail = opened(tailing, brokers, "not.there.yet", from_beginning=False)
    values = [event("CP-1", number) for number in range(5)]
    publish(brokers, "not.there.yet", *values)
    assert read(tail, 5) == values


def test_no_broker_is_said_soon() -> None:
    tail = EventTail(KafkaConfig(brokers="127.0.0.1:1", client_id="test"), [TOPIC])
    with pytest.raises(BusUnavailable):
        tail.open(0.5)
    tail.close()


def test_lines_are_in_the_order_of_time_and_filtered(brokers: str, tailing: list[EventTail]) -> None:
    publish(brokers, "order", *[event(f"CP-{number % 2}", number) for number in range(50)], b"no event")
    tail = opened(tailing, brokers, "order", from_beginning=True)
    lines: list[str] = []
    printer = EventPrinter(
        tail, write=lambda text, style: lines.append(text), notice=lines.append, charge_points=("CP-1",), most=25
    )
    for _ in range(60):
        if not printer.step():
            break
    assert len(lines) == 25
    assert all("CP-1" in line for line in lines)


def test_the_command_prints_json_and_stops_after_its_number(brokers: str) -> None:
    publish(brokers, TOPIC, *[event("CP-7", number) for number in range(3)])
    done = run_here(
        "tail", "--json", "--from-beginning", "--topic", "station", "--max-events", "3", KAFKA_BROKERS=brokers
    )
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["chargePointId"] for line in done.stdout.splitlines()} == {"CP-7"}
    plain = run_here("tail", "--from-beginning", "--topic", TOPIC, "--max-events", "1", KAFKA_BROKERS=brokers)
    assert "StationHeartbeat" in plain.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly_when_it_is_stopped(brokers: str, number: signal.Signals) -> None:
    publish(brokers, "stop.me", event("CP-8", 1))
    with started("tail", "--from-beginning", "--topic", "stop.me", KAFKA_BROKERS=brokers) as process:
        assert process.stdout is not None
        assert "CP-8" in process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_no_kafka_at_all_is_said_with_what_to_do() -> None:
    done = run_here("tail", KAFKA_BROKERS="127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1: Connection refused" in done.stderr and "--dev tail" in done.stderr


def test_what_is_missing_is_said() -> None:
    done = run_here("tail")
    assert done.returncode == 1 and "KAFKA_BROKERS" in done.stderr
    embedded = run_here("tail", KAFKA_BROKERS="embedded://")
    assert embedded.returncode == 1 and "--dev" in embedded.stderr
    nowhere = run_here("--dev", "tail", OCPP_DEV_STATE_FILE="/nowhere/dev.json")
    assert nowhere.returncode == 1 and "/nowhere/dev.json" in nowhere.stderr
