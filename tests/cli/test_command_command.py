"""``ocpp-gateway command`` against a real Redis and Kafka's protocol, with the gateway played by the test."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from cli.cli_runner import run, run_here
from cli.live_redis import LiveRedis
from confluent_kafka import Consumer, TopicPartition

TOPIC = "cpms.command.requests"
Act = Callable[["PlayedGateway", dict[str, Any]], None]


class PlayedGateway(Thread):
    """Reads what is requested, and puts into Redis what the test wants."""

    def __init__(self, live: LiveRedis, brokers: str, act: Act) -> None:
        super().__init__(daemon=True)
        self.live = live
        self.seen: list[tuple[bytes | None, dict[str, Any]]] = []
        self._act = act
        self._ended = Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "test",
                "enable.auto.commit": False,
                "allow.auto.create.topics": True,
            }
        )
        partitions = self._consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions  # asking for it makes it
        assert partitions
        self._consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in partitions])

    def run(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.05)
            value = None if message is None or message.error() is not None else message.value()
            if message is not None and value is not None:
                key = message.key()
                self.seen.append((None if key is None else bytes(key), json.loads(value)))
                self._act(self, self.seen[-1][1])

    def end(self) -> None:
        self._ended.set()
        self.join(10)
        self._consumer.close()

    def tell(self, command_id: str, **fields: str) -> None:
        self.live.client.hset(self.live.key(f"command-idempotency:{command_id}"), mapping=fields)


@contextmanager
def gateway(live: LiveRedis, brokers: str, act: Act) -> Iterator[PlayedGateway]:
    played = PlayedGateway(live, brokers, act)
    played.start()
    try:
        yield played
    finally:
        played.end()


def ends(event_type: str, **payload: Any) -> Act:
    def act(played: PlayedGateway, request: dict[str, Any]) -> None:
        summary = {"eventType": event_type, "payload": {"commandType": request["commandType"], **payload}}
        played.tell(
            request["commandId"],
            state="done",
            source="cpms.command.requests:0:0",
            chargePointId=request["chargePointId"],
            summary=json.dumps(summary),
        )

    return act


@pytest.fixture
def everything(place: dict[str, str], kafka: str) -> dict[str, str]:
    return {**place, "KAFKA_BROKERS": kafka}


def test_what_the_charge_point_accepted(live: LiveRedis, everything: dict[str, str], kafka: str) -> None:
    accepted = ends("CommandAccepted", accepted=True, response={"status": "Accepted", "x": "\x1b[31m"})
    with gateway(live, kafka, accepted) as played:
        done = run("command", "CP-1", "Reset", '{"type": "Soft"}', "--timeout", "7", "--connector", "2", **everything)
        as_json = run("command", "CP-1", "GetConfiguration", "--json", "--id", "mine", **everything)
        again = run("command", "CP-1", "GetConfiguration", "--id", "mine", **everything)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "Reset of CP-1: accepted"
    assert '"status": "Accepted"' in done.stdout and "\x1b" not in done.stdout
    assert as_json.returncode == 0
    (line,) = as_json.stdout.splitlines()
    told = json.loads(line)
    assert (told["commandId"], told["eventType"], told["payload"]["accepted"]) == ("mine", "CommandAccepted", True)
    assert (again.returncode, "told before" in again.stdout) == (0, True)
    (key, first), (_, second) = played.seen
    assert key == b"CP-1"
    assert first.pop("requestedAt").endswith("Z") and len(first.pop("commandId")) == 36
    assert first == {
        "chargePointId": "CP-1",
        "commandType": "Reset",
        "payload": {"type": "Soft"},
        "timeoutSec": 7.0,
        "connectorId": 2,
        "requestedBy": {"userId": getpass.getuser(), "role": "operator"},
    }
    assert (second["payload"], second["timeoutSec"], second["commandId"]) == ({}, 15.0, "mine")


@pytest.mark.parametrize(
    ("event_type", "payload", "words"),
    [
        ("CommandAccepted", {"accepted": False, "response": {"status": "Rejected"}}, "declined"),
        ("CommandFailed", {"error": "Charge point offline", "reason": "charge_point_offline"}, "offline"),
        ("CommandTimeout", {"error": "No response", "reason": "no_response", "outcome": "unknown"}, "not known"),
    ],
)
def test_what_was_not_accepted(
    live: LiveRedis, everything: dict[str, str], kafka: str, event_type: str, payload: dict[str, Any], words: str
) -> None:
    with gateway(live, kafka, ends(event_type, **payload)):
        done = run("command", "CP-1", "Reset", **everything)
    assert (done.returncode, words in done.stdout, done.stderr) == (1, True, "")


def test_a_queued_one_is_not_waited_for(live: LiveRedis, everything: dict[str, str], kafka: str) -> None:
    def queue(played: PlayedGateway, request: dict[str, Any]) -> None:
        fields = {"state": "open", "source": "x", "chargePointId": "CP-1", "parkedUntil": "1"}
        played.tell(request["commandId"], **fields)

    with gateway(live, kafka, queue) as played:
        done = run("command", "CP-1", "Reset", "--deliver-within", "3600", "--id", "mine", **everything)
    assert done.returncode == 3
    assert "queued" in done.stdout and "--id mine" in done.stderr
    assert played.seen[0][1]["deliverWithinSec"] == 3600


def test_a_password_can_come_from_standard_input(live: LiveRedis, everything: dict[str, str], kafka: str) -> None:
    typed = b'{"key": "AuthorizationKey", "value": "00ff"}'
    with gateway(live, kafka, ends("CommandAccepted", accepted=True)) as played:
        done = run("command", "CP-1", "ChangeConfiguration", "-", typed=typed, **everything)
    assert (done.returncode, "00ff" in done.stdout + done.stderr) == (0, False)
    assert played.seen[0][1]["payload"]["value"] == "00ff"


def test_nobody_takes_it_on(everything: dict[str, str]) -> None:
    done = run("command", "CP-1", "Reset", "--timeout", "1", **everything)
    assert done.returncode == 1
    assert "No gateway has taken it on yet" in done.stderr
    assert "Error: No gateway has taken the command on" in done.stderr and "OCPP_COMMANDS_ENABLED" in done.stderr


def test_an_id_of_another_charge_points_command(live: LiveRedis, everything: dict[str, str]) -> None:
    live.client.hset(
        live.key("command-idempotency:mine"), mapping={"state": "done", "source": "x", "chargePointId": "CP-2"}
    )
    done = run("command", "CP-1", "Reset", "--id", "mine", **everything)
    assert (done.returncode, "another charge point" in done.stderr) == (1, True)


def test_what_no_gateway_would_understand_is_not_requested(everything: dict[str, str]) -> None:
    done = run("command", "CP-1", "Reset", "--timeout", "0", **everything)
    assert (done.returncode, done.stderr) == (1, "Error: Invalid command: timeoutSec is not 1 to 3600.\n")


def test_no_broker_is_there(place: dict[str, str]) -> None:
    done = run("command", "CP-1", "Reset", "--timeout", "30", **place, KAFKA_BROKERS="127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr and "no broker is to be had there" in done.stderr


def test_no_redis_is_there(kafka: str) -> None:
    done = run("command", "CP-1", "Reset", REDIS_URL="redis://127.0.0.1:1", KAFKA_BROKERS=kafka)
    assert (done.returncode, "No Redis is to be had" in done.stderr) == (1, True)


@pytest.mark.parametrize("payload", ["{", "NaN", '{"a": 1}}'])
def test_a_payload_that_is_no_json_is_a_mistake_of_the_caller(payload: str) -> None:
    done = run_here("command", "CP-1", "Reset", payload)
    assert (done.returncode, "PAYLOAD" in done.stderr) == (2, True)


def test_which_kafka_has_to_be_said() -> None:
    done = run("command", "CP-1", "Reset")
    assert (done.returncode, "Which Kafka?" in done.stderr) == (1, True)
