"""``examples/csms.py`` and the daemon, both as processes: who decides, and what happens when it is gone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.back_end import COMMAND_EVENTS, REQUESTS, BackEnd, make_topics, read_by_all
from support.callers import Caller, event_2x, meter_16, start_16, stop_16, until
from support.gateway import Gateway
from support.mock_kafka import MockKafka
from support.nodes import node
from support.simulating import simulated
from support.stations import provision
from websockets.exceptions import ConnectionClosed

from ocpp_gateway.redis.embedded import EmbeddedRedis

EXAMPLE = Path(__file__).parents[2] / "examples" / "csms.py"
REPLIES = "ocpp.csms.replies"
UNAVAILABLE = ["InternalError", "csms_unavailable", {}]
TIMEOUT = 1.5
SPARE = 3.0
"""Seconds that a busy machine may take longer."""

SETTINGS = {"OCPP_CSMS_ACTIONS": "Authorize,BootNotification,StartTransaction"}
IMPATIENT = {"OCPP_CSMS_TIMEOUT": str(TIMEOUT), "KAFKA_GROUP_ID": "impatient", "OCPP_CSMS_REPLY_TOPIC": "impatient"}


class Example:
    """The example while it runs. It may begin with what was asked before: nobody waits for those answers any more."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def says(self, beginning: str, *, times: int = 1) -> None:
        """Wait until so many lines begin so."""
        self._wait(lambda: len(self._beginning(beginning)) >= times, beginning)

    def answered(self, event: str) -> Any:
        """What it answers to the first event whose line begins so."""
        self._wait(lambda: len(self._lines) > self._beginning(event, or_end=True)[0] + 1, event)
        line = self._lines[self._beginning(event)[0] + 1]
        assert line.startswith("  answered "), line
        return json.loads(line.removeprefix("  answered "))

    def types(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _beginning(self, beginning: str, *, or_end: bool = False) -> list[int]:
        found = [number for number, line in enumerate(self._lines) if line.startswith(beginning)]
        return found or ([len(self._lines)] if or_end else [])

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 30), f"not said: {what}; {self._lines[-10:]}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with MockKafka() as kafka:
        make_topics(kafka.brokers, REPLIES, REQUESTS, COMMAND_EVENTS)
        yield kafka.brokers


@pytest.fixture(scope="module")
def back_end(brokers: str) -> Iterator[BackEnd]:
    """Who only looks on."""
    with BackEnd(brokers) as back_end:
        yield back_end


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    with node(redis_url, brokers, "asks", **SETTINGS) as running:
        read_by_all(REPLIES, running)
        read_by_all(REQUESTS, running)
        yield running


@contextlib.contextmanager
def running(brokers: str) -> Iterator[Example]:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), brokers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            example = Example(process)
            example.says("ready")
            yield example
        finally:
            process.kill()


@pytest.fixture
def example(brokers: str) -> Iterator[Example]:
    with running(brokers) as example:
        yield example


def enrolled(redis_url: str, charge_point_id: str) -> str:
    provision(redis_url, charge_point_id)
    return charge_point_id


def heard(point: Caller, action: str, payload: Any) -> Any:
    message_id = point.say(action, payload)
    kind, answered_id, *rest = point.hear()
    assert answered_id == message_id
    assert kind in (3, 4)
    return rest[0] if kind == 3 else rest


def test_it_decides_for_the_charge_point(redis_url: str, gateway: Gateway, example: Example, back_end: BackEnd) -> None:
    charge_point_id = enrolled(redis_url, "CP-decided")
    with Caller(gateway.url(""), charge_point_id) as point:
        boot = heard(point, "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
        assert (boot["status"], boot["interval"]) == ("Accepted", 300)
        assert heard(point, "Authorize", {"idTag": "TAG-1"}) == {"idTagInfo": {"status": "Accepted"}}
        assert heard(point, "Authorize", {"idTag": "BLOCKED-1"}) == {"idTagInfo": {"status": "Blocked"}}

        start = start_16()
        started = heard(point, "StartTransaction", start)
        assert started == example.answered(f"SessionStarted {charge_point_id}")
        assert heard(point, "StartTransaction", start) == started
        other = heard(point, "StartTransaction", start_16())
        assert other["transactionId"] != started["transactionId"]
        assert heard(point, "MeterValues", meter_16(started["transactionId"], 5)) == {}
        assert heard(point, "StopTransaction", stop_16(started["transactionId"], 9)) == {}
    metered = back_end.wait_for(
        lambda event: (event["chargePointId"], event["eventType"]) == (charge_point_id, "MeterValuesReceived")
    )
    assert metered["payload"]["orphaned"] is False
    with Caller(gateway.url(""), enrolled(redis_url, "CP-decided-2"), "2.0.1") as point:
        for token, status in (("TAG-1", "Accepted"), ("BLOCKED-1", "Blocked")):
            asked = {"idToken": {"idToken": token, "type": "ISO14443"}}
            assert heard(point, "Authorize", asked) == {"idTokenInfo": {"status": status}}


def test_it_starts_and_stops_by_command(redis_url: str, gateway: Gateway, example: Example, back_end: BackEnd) -> None:
    charge_point_id = enrolled(redis_url, "CP-by-command")

    def told(event_type: str, *, after: int = 0) -> dict[str, Any]:
        of = (charge_point_id, event_type)
        return back_end.wait_for(
            lambda event: (event.get("chargePointId"), event["eventType"]) == of and event.get("epoch", 0) > after,
            seconds=25,
        )

    with simulated(gateway, charge_point_id):
        told("StationBooted")
        example.types(f"start {charge_point_id} TAG-7")
        example.says(f"CommandAccepted {charge_point_id}")
        assert told("SessionStarted")["payload"]["payload"]["idTag"] == "TAG-7"
        number = example.answered(f"SessionStarted {charge_point_id}")["transactionId"]
        back_end.wait_for(  # it tells that when it has that answer
            lambda event: (
                event.get("chargePointId") == charge_point_id
                and event["payload"].get("payload", {}).get("status") == "Charging"
            )
        )
        example.types(f"stop {charge_point_id} {number}")
        example.says(f"CommandAccepted {charge_point_id}", times=2)
        stopped = told("SessionStopped")
        assert (stopped["payload"]["payload"]["transactionId"], stopped["payload"]["idempotent"]) == (number, False)
        example.types(f"reset {charge_point_id}")
        example.says(f"CommandAccepted {charge_point_id}", times=3)
        told("StationBooted", after=stopped["epoch"])
        back_end.wait_for(  # which reads that topic by itself, and may be behind the example
            lambda event: (
                (event.get("chargePointId"), event["eventType"]) == (charge_point_id, "CommandAccepted")
                and event["payload"]["commandType"] == "Reset"
            )
        )
        ends = [event for event in back_end.events if event["eventType"].startswith("Command")]
        kinds = [event["eventType"] for event in ends if event["chargePointId"] == charge_point_id]
        assert kinds == ["CommandDispatched", "CommandAccepted"] * 3


def test_a_blocked_card_does_not_charge(redis_url: str, gateway: Gateway, example: Example, back_end: BackEnd) -> None:
    charge_point_id = enrolled(redis_url, "CP-blocked")
    with simulated(gateway, charge_point_id, "--id-token=BLOCKED-1", "--pause=0.2"):
        example.says(f"Authorize {charge_point_id}", times=2)  # it tries again
        assert example.answered(f"Authorize {charge_point_id}") == {"idTagInfo": {"status": "Blocked"}}
    gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    back_end.wait_for(
        lambda event: (event["chargePointId"], event["eventType"]) == (charge_point_id, "StationDisconnected")
    )
    of_it = [event["eventType"] for event in back_end.events if event["chargePointId"] == charge_point_id]
    assert of_it.count("Authorize") >= 2
    assert "SessionStarted" not in of_it


@pytest.mark.parametrize("fallback", ["gateway", "error", "close", ""])
def test_without_it_the_fallback_counts_in_time(redis_url: str, brokers: str, back_end: BackEnd, fallback: str) -> None:
    """Nothing hangs past its deadline. Empty: what counts if nothing is set."""
    settings = {**SETTINGS, **IMPATIENT}
    if fallback:
        settings["OCPP_CSMS_FALLBACK_AUTHORIZE"] = fallback
        settings["OCPP_CSMS_FALLBACK_STARTTRANSACTION"] = "close" if fallback == "close" else "gateway"
    charge_point_id = enrolled(redis_url, f"CP-without-{fallback}")

    def seconds_of(action: str, payload: Any) -> tuple[float, Any]:
        began = time.monotonic()
        try:
            answer = heard(point, action, payload)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            answer = closed.rcvd.code
        return time.monotonic() - began, answer

    with node(redis_url, brokers, f"impatient-{fallback}", **settings) as gateway:
        with Caller(gateway.url(""), charge_point_id) as point:
            taken, answer = seconds_of("Authorize", {"idTag": "BLOCKED-1"})
            expected = {"gateway": {"idTagInfo": {"status": "Accepted"}}, "close": 1013}
            assert answer == expected.get(fallback, UNAVAILABLE)
            assert TIMEOUT <= taken < TIMEOUT + SPARE
            if fallback == "close":
                line = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
                assert line["close_reason"] == "csms_unavailable"
        with Caller(gateway.url(""), charge_point_id) as point:
            taken, answer = seconds_of("StartTransaction", start_16())
            if fallback == "close":
                assert answer == 1013
            else:
                own = answer["transactionId"]
                started = back_end.wait_for(
                    lambda event: event["chargePointId"] == charge_point_id and event["eventType"] == "SessionStarted"
                )
                assert started["payload"]["transactionId"] == own
            assert TIMEOUT <= taken < TIMEOUT + SPARE
        with Caller(gateway.url(""), charge_point_id) as point:
            taken, answer = seconds_of("Heartbeat", {})
            assert (list(answer), taken < SPARE) == (["currentTime"], True)


def test_it_takes_up_what_was_asked_when_it_comes_back(
    redis_url: str, gateway: Gateway, brokers: str, back_end: BackEnd
) -> None:
    """What it says late, to questions that nobody waits for any more, does no harm."""
    charge_point_id = enrolled(redis_url, "CP-back")
    with Caller(gateway.url(""), charge_point_id) as point:
        began = time.monotonic()
        assert heard(point, "Authorize", {"idTag": "TAG-1"}) == UNAVAILABLE  # after the default, 10 s
        assert 10 <= time.monotonic() - began < 10 + SPARE
        with running(brokers):
            assert heard(point, "Authorize", {"idTag": "BLOCKED-9"}) == {"idTagInfo": {"status": "Blocked"}}


def test_what_needs_no_csms_is_answered_by_the_gateway(redis_url: str, gateway: Gateway) -> None:
    with Caller(gateway.url(""), enrolled(redis_url, "CP-else"), "2.0.1") as point:
        assert heard(point, "TransactionEvent", event_2x("Started", 0, "tx-else")) == {}
        assert list(heard(point, "Heartbeat", {})) == ["currentTime"]
    until(lambda: gateway.logged("session.closed"), "the end")
