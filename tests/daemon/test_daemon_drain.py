"""How the daemon stops: who is told what, in which time, and what systemd hears of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.gateway import PROJECT, TWISTD, Gateway
from support.kafka_reader import read_topic
from support.mock_kafka import MockKafka
from support.notify_socket import NotifySocket
from support.raw_socket import CLOSE, PeerClosed, RawCharger, RawSocket, Response, handshake, http_get
from support.stations import basic, provision


@pytest.fixture
def fragile() -> Iterator[MockKafka]:
    """A Kafka that this test may freeze."""
    with MockKafka() as kafka:
        yield kafka


def credentials(charge_point_id: str) -> list[tuple[str, str]]:
    return list(basic(charge_point_id).items())


@contextmanager
def fleet(gateway: Gateway, redis_url: str, name: str, count: int) -> Iterator[list[RawCharger]]:
    """``count`` provisioned charge points, all connected."""
    with ExitStack() as stack:
        chargers = []
        for number in range(count):
            identity = f"{name}-{number}"
            provision(redis_url, identity)
            chargers.append(stack.enter_context(RawCharger(gateway.ocpp_port, identity, credentials(identity))))
        yield chargers


class Talking(threading.Thread):
    """A charge point that makes one CALL after the other until it is closed."""

    def __init__(self, charger: RawCharger) -> None:
        super().__init__(daemon=True)
        self.charger = charger
        self.answered: list[str] = []
        self.close: tuple[int | None, str] | None = None
        self.closed_at = 0.0
        self.start()

    def run(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                self.charger.send([2, str(number), "Heartbeat", {}])
                answer = self.charger.receive()
            except PeerClosed as closed:
                frame = closed.args[0]
                self.close = (frame.close_code, frame.close_text) if hasattr(frame, "opcode") else None
                self.closed_at = time.monotonic()
                return
            assert answer[:2] == [3, str(number)]
            self.answered.append(answer[1])
            threading.Event().wait(0.02)


def ready(probe: HTTPConnection) -> tuple[int, dict[str, Any]]:
    """One question over a connection that stays."""
    probe.request("GET", "/ready")
    answer = probe.getresponse()
    return answer.status, json.loads(answer.read())


def try_to_connect(port: int, charge_point_id: str) -> Response:
    with RawSocket(port) as connection:
        connection.send(handshake(f"/ocpp/{charge_point_id}", headers=credentials(charge_point_id)))
        return connection.response()


def test_while_sessions_end_one_by_one_everybody_else_is_sent_away(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    with (
        Gateway(redis_url, brokers, NODE_ID="node-that-drains", DRAIN_SECONDS="6") as gateway,
        fleet(gateway, redis_url, charge_point_id, 30) as chargers,
        closing(HTTPConnection("127.0.0.1", gateway.http_port, timeout=10)) as probe,
    ):
        assert ready(probe) == (200, {"status": "ready"})
        kept = probe.sock
        talking = [Talking(charger) for charger in chargers]

        begun = time.monotonic()
        os.kill(gateway.pid, signal.SIGTERM)
        gateway.wait_for("gateway.stopping")

        assert ready(probe) == (503, {"status": "unavailable", "reasons": ["draining"]})
        assert probe.sock is kept
        assert http_get(gateway.http_port, "/ready").status == 503
        assert http_get(gateway.http_port, "/health").status == 200
        for port in (gateway.ocpp_port, gateway.http_port):
            refused = try_to_connect(port, chargers[0].charge_point_id)
            assert refused.status == 503
            assert int(refused.header("Retry-After") or 0) > 0
        assert gateway.wait_for("handshake.refused")["reason"] == "draining"

        assert gateway.ended(seconds=20) == 0
        took = time.monotonic() - begun
    for thread in talking:
        thread.join()
    assert {thread.close for thread in talking} == {(1012, "Service restart")}
    moments = sorted(thread.closed_at - begun for thread in talking)
    assert moments[0] < 1.5
    assert 3 < moments[-1] < 6
    assert max(later - earlier for earlier, later in pairwise(moments)) < 1.5
    assert took < 9
    assert gateway.logged("gateway.drain_timeout") == []
    assert not redis.keys(f"sessions:{charge_point_id}-*")
    assert not redis.exists("nodes:node-that-drains")
    published: dict[str, list[str]] = {}
    for event in station_events(brokers):
        if event["chargePointId"].startswith(f"{charge_point_id}-") and event["eventType"] == "StationHeartbeat":
            published.setdefault(event["chargePointId"], []).append(event["messageId"])
    for thread in talking:
        assert thread.answered, "it was served while others were closed"
        assert published[thread.charger.charge_point_id] == thread.answered, "answered and published are the same"


def test_the_call_under_way_gets_its_answer_first(redis_url: str, fragile: MockKafka, charge_point_id: str) -> None:
    with Gateway(redis_url, fragile.brokers, DRAIN_SECONDS="8") as gateway:
        with RawCharger(gateway.ocpp_port, charge_point_id, credentials(charge_point_id)) as charger:
            charger.call("1", "Heartbeat", {})
            with fragile.frozen():
                charger.send([2, "2", "Heartbeat", {}], [2, "3", "Heartbeat", {}])
                sent_home(gateway, charger)
            assert charger.receive()[:2] == [3, "2"]
            assert charger.closed().close_code == 1012
        assert gateway.ended(seconds=20) == 0
    messages = [event["messageId"] for event in station_events(fragile.brokers) if "messageId" in event]
    assert messages == ["1", "2"], "the one that waited is made again elsewhere"


def sent_home(gateway: Gateway, charger: RawCharger) -> None:
    """SIGTERM, and ``charger`` has been asked to go: it alone is there, so that is within a moment."""
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.wait_for("gateway.stopping")
    asked = time.monotonic() + 0.5
    while time.monotonic() < asked:
        assert http_get(gateway.http_port, "/health").status == 200


def test_a_second_signal_hurries(redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str) -> None:
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
        name = f"{charge_point_id}-{first}"
        with (
            Gateway(redis_url, brokers, NODE_ID="node-in-a-hurry", DRAIN_SECONDS="600") as gateway,
            fleet(gateway, redis_url, name, 100) as chargers,
        ):
            talking = [Talking(charger) for charger in chargers]
            os.kill(gateway.pid, first)
            gateway.wait_for("gateway.stopping")
            begun = time.monotonic()
            os.kill(gateway.pid, second)
            gateway.wait_for("gateway.hurried")
            os.kill(gateway.pid, second)
            assert gateway.ended(seconds=20) == 0
            assert time.monotonic() - begun < 8
            for thread in talking:
                thread.join()
        assert {thread.close for thread in talking} == {(1012, "Service restart")}
        assert len(gateway.logged("gateway.hurried")) == 1
        assert gateway.logged("gateway.sessions_left") == []
        assert not redis.keys(f"sessions:{name}-*")
        assert not redis.exists("nodes:node-in-a-hurry")


def test_a_hurry_waits_neither_for_kafka_nor_for_who_does_not_close(
    redis: redis_py.Redis, redis_url: str, fragile: MockKafka, charge_point_id: str
) -> None:
    mute = f"{charge_point_id}-mute"
    provision(redis_url, mute)
    with (
        Gateway(
            redis_url,
            fragile.brokers,
            DRAIN_SECONDS="60",
            expected_errors=frozenset({"gateway.undelivered", "event.lost"}),
        ) as gateway,
        RawCharger(gateway.ocpp_port, charge_point_id, credentials(charge_point_id)) as charger,
        RawCharger(gateway.ocpp_port, mute, credentials(mute)),
    ):
        charger.call("1", "Heartbeat", {})
        with fragile.frozen():
            charger.send([2, "2", "Heartbeat", {}])
            sent_home(gateway, charger)
            begun = time.monotonic()
            os.kill(gateway.pid, signal.SIGTERM)
            close = charger.socket.frame()
            assert (close.opcode, close.close_code) == (CLOSE, 1012)
            assert time.monotonic() - begun < 2
            assert gateway.ended(seconds=20) == 0
            assert 5 < time.monotonic() - begun < 15
    assert gateway.logged("gateway.undelivered")
    assert not redis.exists(f"sessions:{charge_point_id}", f"sessions:{mute}")


def test_systemd_is_told(redis_url: str, brokers: str, tmp_path: Path, charge_point_id: str) -> None:
    path = tmp_path / "notify"
    told = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
    with NotifySocket(str(path)) as systemd, Gateway(redis_url, brokers, DRAIN_SECONDS="4", **told) as gateway:
        starting = systemd.told()
        assert int(starting["EXTEND_TIMEOUT_USEC"]) >= 60_000_000
        ready = systemd.told()
        assert ready["READY"] == "1"
        assert str(gateway.ocpp_port) in ready["STATUS"]
        began = time.monotonic()
        for _ in range(5):
            assert systemd.told() == {"WATCHDOG": "1"}
        assert 1.1 < time.monotonic() - began < 5
        with RawCharger(gateway.ocpp_port, charge_point_id, credentials(charge_point_id)):
            os.kill(gateway.pid, signal.SIGTERM)
            stopping = systemd.wait_for("STOPPING")
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 4_000_000
            assert stopping["STATUS"] == "Closing 1 connections in 4 s"
            assert systemd.told() == {"WATCHDOG": "1"}, "the stop is watched too"
            assert "Kafka" in systemd.wait_for("STOPPING")["STATUS"]
            assert gateway.ended(seconds=20) == 0


def test_a_stop_while_it_starts_ends_it_cleanly_too(redis_url: str, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with NotifySocket(path) as systemd, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings = {"REDIS_URL": redis_url, "KAFKA_BROKERS": f"127.0.0.1:{nobody.getsockname()[1]}"}
        environ = {**os.environ, **settings, "PYTHONPATH": str(PROJECT), "PORT": "0", "WEBSOCKET_OCPP_PORT": "0"}
        with subprocess.Popen(
            [str(TWISTD), "-n", "--pidfile=", "ocpp-gateway"],
            env={**environ, "NOTIFY_SOCKET": path, "START_TIMEOUT": "60"},
            stdout=subprocess.PIPE,
            text=True,
        ) as starting:
            assert int(systemd.told()["EXTEND_TIMEOUT_USEC"]) >= 120_000_000
            for _ in range(3):
                starting.send_signal(signal.SIGTERM)
            output, _ = starting.communicate(timeout=20)
        assert starting.returncode == 0
        assert "gateway.stopped" in output
        assert "gateway.start_failed" not in output
        assert "Kafka" in systemd.told()["STATUS"]
        assert systemd.is_silent()


def station_events(brokers: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in read_topic(brokers, "ocpp.station.events")]
