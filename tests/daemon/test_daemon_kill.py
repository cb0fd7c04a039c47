"""kill -9 and SIGTERM: nothing that was answered is missing, and nobody is left wondering."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from support.callers import Caller, Streaming, check_in_kafka, event_2x, frozen, start_16
from support.gateway import Gateway
from support.kafka_broker import KafkaBroker
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from support.stations import basic, provision

POINTS = 20
VERSIONS = ("1.6", "2.0.1", "2.1")
TOPICS = ("ocpp.station.events", "ocpp.session.events")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(MockKafka, id="mock"),
        pytest.param(KafkaBroker, id="broker", marks=[pytest.mark.kafka_broker, pytest.mark.timeout(300)]),
    ],
)
def kafka(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as running:
        yield running


def fleet(redis_url: str, prefix: str, count: int = POINTS) -> list[tuple[str, str]]:
    """``count`` provisioned charge points, their identities and versions."""
    points = [(f"CP-{prefix}-{number}", VERSIONS[number % 3]) for number in range(count)]
    for charge_point_id, _ in points:
        provision(redis_url, charge_point_id)
    return points


def events_of(kafka: Any, points: list[tuple[str, str]]) -> list[dict[str, Any]]:
    identities = {charge_point_id for charge_point_id, _ in points}
    events = [json.loads(record.value) for topic in TOPICS for record in read_topic(kafka.brokers, topic)]
    return [event for event in events if event["chargePointId"] in identities]


def test_nothing_answered_is_lost_by_a_kill_and_nothing_is_there_twice(redis_url: str, kafka: Any) -> None:
    points = fleet(redis_url, "kill")
    with Gateway(redis_url, kafka.brokers) as gateway, Streaming(gateway.url(""), points) as stream:
        stream.ledger.wait_for(400)
        gateway.kill()
        before = len(stream.ledger.answered)
        with Gateway(redis_url, kafka.brokers) as restarted:
            stream.url = restarted.url("")
            stream.ledger.wait_for(before + 400)
            # The first of each: what was confirmed in the very moment of the kill may not be marked in Redis yet.
            starts: dict[str, Any] = {}
            for entry in stream.ledger.answered[:before]:
                if entry.action == "StartTransaction":
                    starts.setdefault(entry.charge_point_id, entry)
            stream.stop()
            assert len(starts) == len([version for _, version in points if version == "1.6"])
            for charge_point_id, entry in starts.items():
                with Caller(restarted.url(""), charge_point_id) as caller:
                    again = caller.call("StartTransaction", entry.payload)
                assert again["transactionId"] == entry.answer["transactionId"]
    assert stream.ledger.errors == []
    events = events_of(kafka, points)
    check_in_kafka(events, stream.ledger.answered)
    # What was said again after the kill is marked, so that a reader who skips repeats counts each start once.
    for entry in starts.values():
        marks = [
            event["payload"]["idempotent"]
            for event in events
            if event["eventType"] == "SessionStarted" and event["payload"]["payload"] == entry.payload
        ]
        assert marks == [False, True]


def test_sigterm_answers_what_is_under_way_and_gives_everything_back(redis_url: str, kafka: Any) -> None:
    points = fleet(redis_url, "term", 3)
    with Gateway(redis_url, kafka.brokers, NODE_ID="node-term", DRAIN_SECONDS="8") as gateway:
        callers = [Caller(gateway.url(""), *point).open() for point in points]
        with redis_py.Redis.from_url(redis_url) as redis:
            assert redis.exists("nodes:node-term", *(f"sessions:{name}" for name, _ in points)) == 4
            for caller in callers:
                caller.call("Heartbeat", {})
            with frozen(kafka):
                said = [
                    caller.say("StartTransaction", start_16())
                    if caller.version == "1.6"
                    else caller.say("TransactionEvent", event_2x("Started", 0, caller.charge_point_id))
                    for caller in callers
                ]
                with pytest.raises(TimeoutError):
                    callers[0].hear(seconds=0.5)
                os.kill(gateway.pid, signal.SIGTERM)
                gateway.wait_for("gateway.stopping")
                with pytest.raises(TimeoutError):
                    callers[0].hear(seconds=0.5)
            for caller, message_id in zip(callers, said, strict=True):
                assert caller.hear()[:2] == [3, message_id]
                assert caller.close_code() == 1012
            assert gateway.ended(seconds=15) == 0
            assert redis.exists("nodes:node-term", *(f"sessions:{name}" for name, _ in points)) == 0
    events = events_of(kafka, points)
    assert {event["messageId"] for event in events if "messageId" in event} >= set(said)
    ends = {event["chargePointId"]: event["payload"] for event in events if event["eventType"] == "StationDisconnected"}
    assert {name: end["reason"] for name, end in ends.items()} == {name: "service_restart" for name, _ in points}
    assert {end["closeCode"] for end in ends.values()} == {1012}


def test_a_charge_point_that_does_not_close_is_told_of_too(redis_url: str, kafka: Any) -> None:
    """Its link is dead, so it never answers the close frame: the stop does not wait for it, nor forget it."""
    ((charge_point_id, _),) = points = fleet(redis_url, "mute", 1)
    with Gateway(redis_url, kafka.brokers, DRAIN_SECONDS="1") as gateway:
        with socket.create_connection(("127.0.0.1", gateway.ocpp_port), timeout=10) as mute:
            mute.sendall(
                f"GET /ocpp/1.6/{charge_point_id} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                "Sec-WebSocket-Protocol: ocpp1.6\r\n"
                f"Authorization: {basic(charge_point_id)['Authorization']}\r\n\r\n".encode()
            )
            assert mute.recv(4096).startswith(b"HTTP/1.1 101")
            gateway.wait_for("session.opened", charge_point_id=charge_point_id)
            assert gateway.stop() == 0
        with redis_py.Redis.from_url(redis_url) as redis:
            assert redis.exists(f"sessions:{charge_point_id}") == 0
    (end,) = [event for event in events_of(kafka, points) if event["eventType"] == "StationDisconnected"]
    assert end["payload"]["reason"] == "service_restart"


def test_sigterm_while_kafka_is_frozen_ends_in_time_and_answers_nothing(redis_url: str, kafka: Any) -> None:
    ((charge_point_id, _),) = fleet(redis_url, "frozen", 1)
    # What it held is lost to Kafka, and it says so; the charge point has it still.
    expected = frozenset({"gateway.undelivered", "event.lost"})
    with Gateway(redis_url, kafka.brokers, DRAIN_SECONDS="1", expected_errors=expected) as gateway:
        with Caller(gateway.url(""), charge_point_id) as caller:
            caller.call("Heartbeat", {})
            with frozen(kafka):
                caller.say("StartTransaction", start_16())
                os.kill(gateway.pid, signal.SIGTERM)
                assert caller.close_code() in (1012, 1013, 1006)
                assert gateway.ended(seconds=15) == 0
        assert "gateway.undelivered" in {event["event"] for event in gateway.events}
        with redis_py.Redis.from_url(redis_url) as redis:
            assert redis.exists(f"sessions:{charge_point_id}") == 0
