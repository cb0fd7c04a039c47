"""How fast charge points may talk: they are slowed, nothing of theirs is lost, and the others feel nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from typing import Any

import pytest
import redis as redis_py
from support.callers import Caller, until
from support.gateway import Gateway
from support.nodes import connected, record
from support.raw_socket import CLOSE, PING, PeerClosed, RawCharger, frame, metric
from support.stations import provision

LIMIT = {"OCPP_RATE_LIMIT_PER_CP": "100", "OCPP_RATE_LIMIT_WINDOW_SECONDS": "10"}
PER_SECOND = 10
BURST = 25
"""A quarter of what is allowed in the window."""

PATIENCE = 2.0

Events = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def strict(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """Ten messages a second of each charge point."""
    with Gateway(redis_url, brokers, **LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """The same, and whoever floods it is soon closed."""
    with Gateway(redis_url, brokers, OCPP_RATE_LIMIT_PATIENCE=str(PATIENCE), **LIMIT) as running:
        yield running


@pytest.fixture
def identities(redis_url: str, charge_point_id: str) -> Callable[[], str]:
    """Gives more provisioned identities."""
    numbers = count(1)

    def another() -> str:
        identity = f"{charge_point_id}-{next(numbers)}"
        provision(redis_url, identity)
        return identity

    return another


def metered(number: int) -> list[Any]:
    """A CALL whose content tells its place."""
    sampled = [{"timestamp": "2026-01-02T03:04:05Z", "sampledValue": [{"value": str(number)}]}]
    return [2, f"m-{number}", "MeterValues", {"connectorId": 1, "meterValue": sampled}]


def told(event: dict[str, Any]) -> int:
    """The place that such a CALL told."""
    return int(event["payload"]["payload"]["meterValue"][0]["sampledValue"][0]["value"])


def published(events: Events, charge_point_id: str) -> list[int]:
    return [told(event) for event in events(charge_point_id, "ocpp.session.events")]


def least_seconds(messages: int) -> float:
    """What so many take at the limit; with a second less for what the clocks and the burst may be off."""
    return (messages - BURST) / PER_SECOND - 1


class Flood(threading.Thread):
    """Sends CALLs, ``per_second`` of them, without waiting for an answer; as long as it can, if ``number`` is None."""

    def __init__(self, charger: RawCharger, per_second: float, number: int | None = None) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._charger = charger
        self._per_second = per_second
        self._number = number
        self._enough = threading.Event()
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        with contextlib.suppress(PeerClosed, OSError):
            while self.sent != self._number and not self._enough.is_set():
                self._charger.send(metered(self.sent))
                self.sent += 1
                self._enough.wait(max(0.0, began + self.sent / self._per_second - time.monotonic()))

    def stop(self) -> None:
        self._enough.set()
        self.join(10)


def answers_until_closed(charger: RawCharger) -> tuple[list[int], tuple[int | None, str]]:
    """The places of the CALLs that were answered until the close frame came, and what that says."""
    answered = []
    while (received := charger.socket.frame()).opcode != CLOSE:
        if received.opcode == PING:
            continue
        kind, message_id, _ = json.loads(received.payload)
        assert kind == 3
        answered.append(int(message_id.removeprefix("m-")))
    return answered, (received.close_code, received.close_text)


def heartbeats(point: Caller, number: int) -> float:
    """The median of the seconds that an answer takes."""
    took = []
    for _ in range(number):
        began = time.monotonic()
        point.call("Heartbeat", {})
        took.append(time.monotonic() - began)
    return median(took)


def test_one_that_talks_too_fast_is_slowed_and_loses_nothing(
    strict: Gateway, events: Events, identities: Callable[[], str]
) -> None:
    fast, bystander = identities(), identities()
    number = 150
    with connected(strict, fast) as charger, Caller(strict.url(""), bystander) as point:
        usual = heartbeats(point, 5)
        began = time.monotonic()
        flood = Flood(charger, 50, number)
        beats: list[float] = []
        watching = threading.Thread(target=lambda: beats.append(heartbeats(point, 15)), daemon=True)
        watching.start()
        answers = [charger.receive() for _ in range(number)]
        took = time.monotonic() - began
        flood.join(5)
        watching.join(10)
    assert answers == [[3, f"m-{place}", {}] for place in range(number)], "each once, in order, with a CALLRESULT"
    assert published(events, fast) == list(range(number))
    assert least_seconds(number) < took < least_seconds(number) + 8
    assert beats[0] < 10 * usual + 0.1, "the other one is served as always"


def test_one_that_waits_for_its_answers_is_slowed_and_never_closed(
    impatient: Gateway, events: Events, charge_point_id: str
) -> None:
    number = 110
    with connected(impatient, charge_point_id) as charger:
        began = time.monotonic()
        for place in range(number):
            charger.send(metered(place))
            assert charger.receive() == [3, f"m-{place}", {}]
        took = time.monotonic() - began
        assert took > 3 * PATIENCE
        charger.hang_up()
    assert least_seconds(number) < took < least_seconds(number) + 8
    line = impatient.wait_for("session.closed", charge_point_id=charge_point_id)
    assert line["close_reason"] == "peer_closed"
    assert published(events, charge_point_id) == list(range(number))


@pytest.mark.parametrize("per_second", [50, 100_000], ids=["steadily", "all at once"])
def test_one_that_keeps_flooding_is_closed_and_may_say_the_rest_again(
    impatient: Gateway, redis: redis_py.Redis, events: Events, charge_point_id: str, per_second: float
) -> None:
    floods = metric(impatient.http_port, "ocpp_closes_total", reason="message_flood")
    with connected(impatient, charge_point_id) as charger:
        began = time.monotonic()
        flood = Flood(charger, per_second, 200)
        answered, end = answers_until_closed(charger)
        took = time.monotonic() - began
        flood.stop()
    assert end == (1008, "Too many messages")
    assert PATIENCE < took < PATIENCE + 10
    assert answered == list(range(len(answered)))
    assert len(answered) > BURST
    line = impatient.wait_for("session.closed", charge_point_id=charge_point_id)
    assert (line["close_reason"], line["close_code"], line["level"]) == ("message_flood", 1008, "info")
    assert metric(impatient.http_port, "ocpp_closes_total", reason="message_flood") == floods + 1
    until(lambda: record(redis, charge_point_id) is None, "its session to be given back")

    rest = range(len(answered), flood.sent)
    again = rest[:40]  # of so many it is told whether it is let back in, and heard
    with connected(impatient, charge_point_id) as charger:
        for place in again:
            charger.send(metered(place))
            assert charger.receive() == [3, f"m-{place}", {}]
    came = published(events, charge_point_id)
    assert list(dict.fromkeys(came)) == list(range(again.stop)), "all of them, and in order"
    assert len(came) - again.stop <= 1, "only the one under way when it was closed may be there twice"


def test_all_together_are_slowed_too(
    redis_url: str, brokers: str, events: Events, identities: Callable[[], str]
) -> None:
    each = 20
    limit = {"OCPP_RATE_LIMIT_GLOBAL": "100", "OCPP_RATE_LIMIT_WINDOW_SECONDS": "10"}
    with Gateway(redis_url, brokers, **limit) as gateway, contextlib.ExitStack() as exits:
        chargers = [exits.enter_context(connected(gateway, identities())) for _ in range(5)]
        began = time.monotonic()
        for place in range(each):
            for charger in chargers:
                charger.send(metered(place))
        with Caller(gateway.url(""), identities()) as bystander:
            assert heartbeats(bystander, 1) < 1, "what comes first is answered at once, however many others wait"
        for charger in chargers:
            assert [charger.receive() for _ in range(each)] == [[3, f"m-{place}", {}] for place in range(each)]
        took = time.monotonic() - began
        for charger in chargers:
            charger.hang_up()
    number = each * len(chargers)
    assert least_seconds(number) < took < least_seconds(number) + 15
    assert {line["close_reason"] for line in gateway.logged("session.closed")} == {"peer_closed"}, "nobody is at fault"
    for charger in chargers:
        assert published(events, charger.charge_point_id) == list(range(each))


def test_a_stop_answers_what_is_under_way_and_leaves_the_rest_to_be_said_again(
    redis_url: str, brokers: str, redis: redis_py.Redis, events: Events, identities: Callable[[], str]
) -> None:
    number, before = 80, BURST + 3
    answered: dict[str, int] = {}
    with Gateway(redis_url, brokers, DRAIN_SECONDS="4", **LIMIT) as gateway, contextlib.ExitStack() as exits:
        chargers = [exits.enter_context(connected(gateway, identities())) for _ in range(5)]
        floods = [Flood(charger, 100_000, number) for charger in chargers]
        for flood, charger in zip(floods, chargers, strict=True):
            flood.join(5)
            assert [charger.receive()[1] for _ in range(before)] == [f"m-{place}" for place in range(before)]
        os.kill(gateway.pid, signal.SIGTERM)
        gateway.wait_for("gateway.stopping")
        for charger in chargers:
            places, end = answers_until_closed(charger)
            assert end == (1012, "Service restart")
            charger.socket.send(frame(b"\x03\xf4", CLOSE))
            assert places == list(range(before, before + len(places)))
            answered[charger.charge_point_id] = before + len(places)
        assert gateway.ended(seconds=15) == 0
    assert gateway.logged("gateway.drain_timeout") == []
    assert {line["close_reason"] for line in gateway.logged("session.closed")} == {"service_restart"}
    for charge_point_id, places in answered.items():
        assert places < number, "it was read slowly when the stop came"
        assert published(events, charge_point_id) == list(range(places)), "answered and published are the same"
        assert record(redis, charge_point_id) is None
