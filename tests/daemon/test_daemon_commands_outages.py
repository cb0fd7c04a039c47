"""Redis or Kafka away in the middle of commands: each has its one end, and no CALL goes out twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from attrs import frozen
from support.callers import Caller, until
from support.callers import frozen as standing_still
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.mock_kafka import MockKafka
from support.redis_gate import RedisGate
from support.requester import Requester
from support.stations import provision

from ocpp_gateway.redis.command_records import command_script
from ocpp_gateway.redis.embedded import EmbeddedRedis

RESET = ("Reset", {"type": "Soft"})
LOST = frozenset({"kafka.lost"})


def transfer(number: int) -> dict[str, Any]:
    return {"vendorId": "test", "data": str(number)}


def answer(charger: Caller, message_id: str) -> None:
    charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))


def take(charger: Caller, *numbers: int) -> None:
    """Hear these DataTransfers, in this order and nothing in between, and answer each."""
    for number in numbers:
        kind, message_id, action, payload = charger.hear(seconds=30)
        assert (kind, action, payload) == (2, "DataTransfer", transfer(number))
        answer(charger, message_id)


# Answers of Redis are lost: what was asked for is done, but nobody knows.


@frozen
class Gated:
    gate: RedisGate
    gateway: Gateway
    requester: Requester
    provisioned: Callable[[str], None]


@pytest.fixture(scope="module")
def gated(redis_url: str, brokers: str) -> Iterator[Gated]:
    with RedisGate(redis_url) as gate, Gateway(gate.url, brokers) as gateway, Requester(brokers, gateway) as requester:
        yield Gated(gate, gateway, requester, lambda identity: provision(redis_url, identity))


@pytest.mark.parametrize("name", ["begin_command", "send_command", "finish_command", "published_command"])
def test_the_answers_to_a_script_are_lost(gated: Gated, charge_point_id: str, name: str) -> None:
    digest = command_script(name).digest  # it goes over the wire in each call
    requester, gate = gated.requester, gated.gate
    with Caller(gated.gateway.url(""), charge_point_id) as charger:
        known = requester.ask(charge_point_id, "DataTransfer", transfer(0))
        take(charger, 0)
        assert requester.outcome(known) == ("CommandAccepted", None)
        gate.hold(digest)
        asked = [requester.ask(charge_point_id, "DataTransfer", transfer(each), timeoutSec=60) for each in (1, 2, 3)]
        if name in ("finish_command", "published_command"):
            take(charger, 1)
        assert gate.held.wait(15)
        gate.held.clear()
        assert gate.held.wait(15), "it is not tried again"
        gate.release()
        take(charger, *((2, 3) if name in ("finish_command", "published_command") else (1, 2, 3)))
        assert [requester.outcome(each, seconds=30) for each in asked] == [("CommandAccepted", None)] * 3
        for each in asked:
            assert requester.types(each).count("CommandDispatched") == 1
        # The next to be heard is the answer: no CALL came again.
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


def test_the_answer_to_parking_is_lost(gated: Gated, redis: redis_py.Redis, charge_point_id: str) -> None:
    requester, gate = gated.requester, gated.gate
    other = f"{charge_point_id}-other"
    gated.provisioned(other)
    requester.wait(requester.ask(other, "DataTransfer", transfer(0), deliverWithinSec=60), "CommandQueued")
    with Caller(gated.gateway.url(""), other) as charger:  # so that its record has an end, too
        charger.call("Heartbeat", {})
        take(charger, 0)
        gate.hold(command_script("park_command").digest)
        asked = requester.ask(charge_point_id, "DataTransfer", transfer(1), deliverWithinSec=90)
        assert gate.held.wait(15)
        gate.held.clear()
        assert gate.held.wait(15), "it is not tried again"
        gate.release()
    requester.wait(asked, "CommandQueued")
    assert redis.lrange(f"parked-commands:{charge_point_id}", 0, -1) == [asked.encode()]
    with Caller(gated.gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        take(charger, 1)
        assert requester.outcome(asked) == ("CommandAccepted", None)


# Redis stands still, or is gone with all that it knew.


@frozen
class Fallible:
    server: EmbeddedRedis
    gateway: Gateway
    requester: Requester


@pytest.fixture
def fallible(brokers_of_its_own: str) -> Iterator[Fallible]:
    with EmbeddedRedis(port=steady_ports()[0]) as server, Requester(brokers_of_its_own) as requester:
        settings = {"NODE_HEARTBEAT_SECONDS": "1", "NODE_TTL_SECONDS": "30"}
        with Gateway(server.url, brokers_of_its_own, **settings) as gateway:
            yield Fallible(server, gateway, requester)


@pytest.fixture
def brokers_of_its_own() -> Iterator[str]:
    with MockKafka() as kafka:
        yield kafka.brokers


def test_redis_stands_still(fallible: Fallible, charge_point_id: str) -> None:
    requester = fallible.requester
    provision(fallible.server.url, charge_point_id)
    with Caller(fallible.gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        in_flight = requester.ask(charge_point_id, "DataTransfer", transfer(0), timeoutSec=60)
        _, message_id, _, _ = charger.hear()
        waiting = requester.ask(charge_point_id, "DataTransfer", transfer(1), timeoutSec=60)
        with standing_still(fallible.server):
            later = [requester.ask(charge_point_id, "DataTransfer", transfer(each), timeoutSec=60) for each in (2, 3)]
            answer(charger, message_id)
            expiring = requester.ask(charge_point_id, *RESET, timeoutSec=1)
            fallible.gateway.wait_for("redis.trouble")
            assert list(charger.call("Heartbeat", {})) == ["currentTime"]
            assert requester.types(in_flight)[1:] == []
        take(charger, 1, 2, 3)
        for each in (in_flight, waiting, *later):
            assert requester.outcome(each, seconds=30) == ("CommandAccepted", None)
        assert requester.outcome(expiring) == ("CommandFailed", "command_expired")
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


def test_redis_comes_back_empty(fallible: Fallible, charge_point_id: str) -> None:
    requester, gateway = fallible.requester, fallible.gateway
    provision(fallible.server.url, charge_point_id)
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        in_flight = requester.ask(charge_point_id, "DataTransfer", transfer(0), timeoutSec=60)
        _, message_id, _, _ = charger.hear()
        waiting = requester.ask(charge_point_id, "DataTransfer", transfer(1), timeoutSec=60)
        os.kill(fallible.server.pid, signal.SIGKILL)
        gateway.wait_for("redis.trouble")
        later = requester.ask(charge_point_id, "DataTransfer", transfer(2), timeoutSec=60)
        answer(charger, message_id)
        connected = len(gateway.logged("redis.connected"))
        fallible.server.start()
        until(lambda: len(gateway.logged("redis.connected")) > connected, "the gateway to connect again")
        provision(fallible.server.url, charge_point_id)
        take(charger, 1, 2)
        for each in (in_flight, waiting, later):
            assert requester.outcome(each, seconds=30) == ("CommandAccepted", None)
            assert requester.types(each).count("CommandDispatched") == 1
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


# Kafka.


def test_kafka_stands_still_for_a_moment(redis_url: str, redis: redis_py.Redis, charge_point_id: str) -> None:
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(MockKafka())
        gateway = stack.enter_context(Gateway(redis_url, kafka.brokers, NODE_ID="still"))
        requester = stack.enter_context(Requester(kafka.brokers))
        with Caller(gateway.url(""), charge_point_id) as charger:
            charger.call("Heartbeat", {})
            asked = [requester.ask(charge_point_id, "DataTransfer", transfer(each), timeoutSec=60) for each in range(4)]
            _, message_id, _, _ = charger.hear()
            requester.wait(asked[0], "CommandDispatched")
            with kafka.frozen():
                answer(charger, message_id)
                take(charger, 1)
                # Decided, and kept for Kafka.
                for each in asked[:2]:
                    key = f"command-idempotency:{each}"
                    until(lambda: redis.hget(key, "state") == b"final", "the end of it in Redis")  # noqa: B023
            take(charger, 2, 3)
            for each in asked:
                assert requester.outcome(each, seconds=40) == ("CommandAccepted", None)
                until(lambda: redis.hget(f"command-idempotency:{each}", "state") == b"done", "its end")  # noqa: B023


def test_kafka_stands_still_until_all_are_sent_away(redis_url: str, charge_point_id: str) -> None:
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(MockKafka())
        gateway = stack.enter_context(Gateway(redis_url, kafka.brokers, NODE_ID="away", expected_errors=LOST))
        with Requester(kafka.brokers) as requester:
            with Caller(gateway.url(""), charge_point_id) as charger:
                charger.call("Heartbeat", {})
                asked = [
                    requester.ask(charge_point_id, "DataTransfer", transfer(each), timeoutSec=60) for each in range(3)
                ]
                _, message_id, _, _ = charger.hear()
                requester.wait(asked[0], "CommandDispatched")
                with kafka.frozen():
                    answer(charger, message_id)
                    assert charger.hear()[3] == transfer(1)  # never answered
                    charger.say("Heartbeat", {})
                    assert charger.close_code(seconds=30) == 1013
                    gateway.wait_for("kafka.lost")
            gateway.wait_for("kafka.regained", seconds=40)
            assert requester.outcome(asked[0], seconds=40) == ("CommandAccepted", None)
            assert requester.outcome(asked[1], seconds=40) == ("CommandTimeout", "connection_lost")
            assert requester.outcome(asked[2], seconds=40) == ("CommandFailed", "connection_lost")
            with Caller(gateway.url(""), charge_point_id) as charger:
                charger.call("Heartbeat", {})
                following = requester.ask(charge_point_id, "DataTransfer", transfer(7), timeoutSec=60)
                take(charger, 7)
                assert requester.outcome(following, seconds=40) == ("CommandAccepted", None)


# The gateway itself is stopped in the proper way.


def test_a_stop_ends_what_is_under_way_and_leaves_the_rest_to_the_next(charge_point_id: str) -> None:
    with EmbeddedRedis() as server, MockKafka() as kafka, Requester(kafka.brokers) as requester:
        silent, busy = f"{charge_point_id}-silent", f"{charge_point_id}-busy"
        for each in (silent, busy):
            provision(server.url, each)
        with (
            Gateway(server.url, kafka.brokers, NODE_ID="first") as first,
            Caller(first.url(""), silent) as never,
            Caller(first.url(""), busy) as late,
        ):
            unanswered = requester.ask(silent, *RESET, timeoutSec=60)
            waiting = requester.ask(silent, "ClearCache", {}, timeoutSec=60)
            patient = requester.ask(silent, "DataTransfer", transfer(1), deliverWithinSec=120)
            answered = requester.ask(busy, *RESET, timeoutSec=60)
            assert never.hear()[2] == "Reset"
            message_id = late.hear()[1]
            os.kill(first.pid, signal.SIGTERM)
            answer(late, message_id)
            assert first.ended(seconds=25) == 0
        assert requester.outcome(answered) == ("CommandAccepted", None)
        assert requester.outcome(unanswered) == ("CommandTimeout", "connection_lost")
        meanwhile = requester.ask(silent, "DataTransfer", transfer(2), deliverWithinSec=120)
        with Gateway(server.url, kafka.brokers, NODE_ID="second") as second, Caller(second.url(""), silent) as charger:
            charger.call("Heartbeat", {})
            take(charger, 1, 2)
            assert requester.outcome(patient) == ("CommandAccepted", None)
            assert requester.outcome(meanwhile) == ("CommandAccepted", None)
            end, reason = requester.outcome(waiting)
            assert end == "CommandFailed"
            assert reason in ("connection_lost", "charge_point_offline")
            assert list(charger.call("Heartbeat", {})) == ["currentTime"]
