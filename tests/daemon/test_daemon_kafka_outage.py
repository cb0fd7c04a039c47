"""Kafka frozen, killed and back: charge points are sent away unanswered, let in again, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from support.callers import Caller, Streaming, check_in_kafka, event_2x, frozen, ready, start_16, until
from support.gateway import Gateway
from support.kafka_broker import KafkaBroker
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from support.stations import provision

TOPICS = ("ocpp.station.events", "ocpp.session.events")
LOST = frozenset({"kafka.lost"})
WITHIN = 10.0
"""So long may a charge point be left without an answer, and a new one be let in to be sent away again."""

BROKER = pytest.param(KafkaBroker, id="broker", marks=[pytest.mark.kafka_broker, pytest.mark.timeout(300)])


@pytest.fixture(scope="module", params=[pytest.param(MockKafka, id="mock"), BROKER])
def kafka(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as running:
        yield running


@pytest.fixture(scope="module", params=[BROKER])
def broker(request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    """A Kafka that keeps its data when it is killed."""
    with request.param() as running:
        yield running


def provisioned(redis_url: str, *identities: str) -> tuple[str, ...]:
    for charge_point_id in identities:
        provision(redis_url, charge_point_id)
    return identities


def events_of(kafka: Any, *identities: str) -> list[dict[str, Any]]:
    events = [json.loads(record.value) for topic in TOPICS for record in read_topic(kafka.brokers, topic)]
    return [event for event in events if event["chargePointId"] in identities]


def metric(gateway: Gateway, name: str) -> float:
    with urllib.request.urlopen(gateway.http_url("/metrics"), timeout=10) as answer:
        (line,) = [line for line in answer.read().decode().splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    taken = time.monotonic() - began
    assert taken <= seconds, f"it took {taken:.1f} s"


def test_frozen_charge_points_are_sent_away_unanswered_and_come_back_by_themselves(redis_url: str, kafka: Any) -> None:
    v16, v2x, idle, late = names = provisioned(redis_url, "CP-fr-16", "CP-fr-2x", "CP-fr-idle", "CP-fr-late")
    with Gateway(redis_url, kafka.brokers, expected_errors=LOST) as gateway, contextlib.ExitStack() as connections:
        url = gateway.url("")
        open_16, open_2x, open_idle = (
            connections.enter_context(Caller(url, name, version))
            for name, version in ((v16, "1.6"), (v2x, "2.0.1"), (idle, "2.1"))
        )
        for caller in (open_16, open_2x, open_idle):
            caller.call("Heartbeat", {})
        assert ready(gateway.http_url("/ready")) == (200, [])
        with frozen(kafka):
            with within(WITHIN + 1):
                start = start_16()
                said = [
                    open_16.say("StartTransaction", start),
                    open_2x.say("TransactionEvent", event_2x("Started", 0, "tx-frozen")),
                ]
                # Neither CALLERROR nor CALLRESULT: the next that is heard is the end.
                assert [caller.close_code() for caller in (open_16, open_2x, open_idle)] == [1013] * 3
            gateway.wait_for("kafka.lost", seconds=1)
            for name in (v16, late):
                refusal = Caller(url, name).refused()
                assert refusal.status == 503
                assert refusal.retry_after is not None and 1 <= refusal.retry_after <= 60
                assert "Traceback" not in refusal.text and "librdkafka" not in refusal.text
            status, reasons = ready(gateway.http_url("/ready"))
            assert (status, reasons) == (503, ["kafka_unavailable"])
        gateway.wait_for("kafka.regained", seconds=30)
        assert ready(gateway.http_url("/ready")) == (200, [])
        with Caller(url, v16) as again, Caller(url, late) as newcomer:
            answer = again.call("StartTransaction", start)
            newcomer.call("Heartbeat", {})
        gateway.wait_for("session.closed", charge_point_id=late)
    events = events_of(kafka, *names)
    # What was published before is there, although nobody waited for it any more.
    assert {event["messageId"] for event in events if "messageId" in event} >= set(said)
    starts = [event for event in events if event["eventType"] == "SessionStarted"]
    assert {event["payload"]["transactionId"] for event in starts} == {answer["transactionId"]}
    assert starts[-1]["payload"]["idempotent"] is True
    ends = [event for event in events if event["eventType"] == "StationDisconnected"]
    assert {event["payload"]["reason"] for event in ends} >= {"kafka_unavailable"}


def test_frozen_while_nobody_speaks_the_first_newcomer_finds_out(redis_url: str, kafka: Any) -> None:
    first, second = provisioned(redis_url, "CP-still-1", "CP-still-2")
    with Gateway(redis_url, kafka.brokers, expected_errors=LOST) as gateway:
        with frozen(kafka), within(WITHIN + 1):
            with Caller(gateway.url(""), first) as newcomer:
                assert newcomer.close_code() == 1013
            assert Caller(gateway.url(""), second).refused().status == 503
        gateway.wait_for("kafka.regained", seconds=30)
        with Caller(gateway.url(""), second) as caller:
            caller.call("Heartbeat", {})


def test_a_short_freeze_is_waited_out(redis_url: str, kafka: Any) -> None:
    """As a leader change is: nobody is sent away, nobody notices but for the delay."""
    (name,) = provisioned(redis_url, "CP-short")
    with Gateway(redis_url, kafka.brokers) as gateway, Caller(gateway.url(""), name) as caller:
        caller.call("Heartbeat", {})
        with frozen(kafka):
            message_id = caller.say("StartTransaction", start_16())
            with pytest.raises(TimeoutError):
                caller.hear(seconds=2)
        assert caller.hear()[:2] == [3, message_id]
        caller.call("Heartbeat", {})


def test_a_congested_gateway_lets_charge_points_wait_and_loses_nothing(redis_url: str, kafka: Any) -> None:
    """More CALLs than may wait for Kafka: the rest waits in the gateway, and behind it in the sockets."""
    names = provisioned(redis_url, *(f"CP-full-{number}" for number in range(110)))
    with (
        Gateway(redis_url, kafka.brokers, KAFKA_MAX_PENDING="100", OCPP_MAX_WAITING_CALLS="2") as gateway,
        contextlib.ExitStack() as connections,
    ):
        callers = [connections.enter_context(Caller(gateway.url(""), name)) for name in names]
        for caller in callers:
            caller.call("Heartbeat", {})
        with frozen(kafka):
            said = {
                caller.charge_point_id: [caller.say("StartTransaction", start_16()) for _ in range(4)]
                for caller in callers
            }
            until(lambda: metric(gateway, "kafka_records_pending") == 80, "four fifths of the room to be taken")
            with pytest.raises(TimeoutError):
                callers[0].hear(seconds=1)
            assert metric(gateway, "kafka_records_pending") == 80
        for caller in callers:
            heard = [caller.hear()[:2] for _ in range(4)]
            assert heard == [[3, message_id] for message_id in said[caller.charge_point_id]]
    found: dict[str, list[str]] = {}
    for event in events_of(kafka, *names):
        if event["eventType"] == "SessionStarted":
            found.setdefault(event["chargePointId"], []).append(event["messageId"])
    # The mock cluster keeps what is sent again after a freeze as a second record; the order is what counts.
    assert {name: list(dict.fromkeys(order)) for name, order in found.items()} == said


def test_killed_and_restarted_during_a_stream_no_answered_call_is_missing(redis_url: str, broker: KafkaBroker) -> None:
    points = [(f"CP-broker-{number}", ("1.6", "2.0.1", "2.1")[number % 3]) for number in range(20)]
    provisioned(redis_url, *(name for name, _ in points))
    # A broker that is its own controller takes a while to start; whether the gateway gives up meanwhile is open.
    with Gateway(redis_url, broker.brokers, expected_errors=LOST) as gateway:
        with Streaming(gateway.url(""), points) as stream:
            stream.ledger.wait_for(400)
            broker.kill()
            broker.restart()
            stream.ledger.wait_for(len(stream.ledger.answered) + 400, seconds=60)
            broker.kill()
            # Longer than a CALL is held: everybody is sent away, and let in again.
            gateway.wait_for("kafka.lost", seconds=20)
            until(lambda: ready(gateway.http_url("/ready")) == (503, ["kafka_unavailable"]), "/ready to say so")
            broker.restart()
            gateway.wait_for("kafka.regained", seconds=60)
            stream.ledger.wait_for(len(stream.ledger.answered) + 400, seconds=60)
        assert ready(gateway.http_url("/ready")) == (200, [])
    assert stream.ledger.errors == []
    check_in_kafka(events_of(broker, *(name for name, _ in points)), stream.ledger.answered)
