"""``ocpp-gateway sessions`` and ``session kick`` against a real Redis, with the gateway's node played by the test."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from cli.audit_events import audit_events
from cli.cli_runner import COMMAND, environment, run, run_here
from cli.live_redis import LiveRedis, ms_ago, record

from ocpp_gateway.cli.live_tables import duration
from ocpp_gateway.cli.sessions import Row
from ocpp_gateway.redis.bus_messages import BusMessage, SessionKick, parse
from ocpp_gateway.redis.overview import SeenSession


class PlayedNode(Thread):
    """A node: hears its bus, and does with each message what the test wants."""

    def __init__(self, live: LiveRedis, node_id: str, act: Callable[[SessionKick], None]) -> None:
        super().__init__(daemon=True)
        self.heard: list[BusMessage | None] = []
        self.failed: Exception | None = None
        self._act = act
        self._ended = Event()
        self._bus = live.client.pubsub()
        self._bus.subscribe(live.key(f"node-bus:{node_id}"))
        subscribed = self._bus.get_message(timeout=10)
        assert subscribed is not None and subscribed["type"] == "subscribe"

    def run(self) -> None:
        while not self._ended.is_set():
            told = self._bus.get_message(timeout=0.05)
            if told is not None and told["type"] == "message":
                message = parse(told["data"])
                self.heard.append(message)
                if isinstance(message, SessionKick):
                    self._act(message)

    def end(self) -> None:
        self._ended.set()
        self.join(10)
        self._bus.close()


@contextmanager
def node(live: LiveRedis, node_id: str, act: Callable[[SessionKick], None]) -> Iterator[PlayedNode]:
    played = PlayedNode(live, node_id, act)
    played.start()
    try:
        yield played
    finally:
        played.end()


def kick_of(played: PlayedNode) -> SessionKick:
    (message,) = played.heard
    assert isinstance(message, SessionKick)
    return message


@pytest.fixture
def fleet(live: LiveRedis) -> LiveRedis:
    """Two nodes that live and one that is gone, with a session each, and one that is silent."""
    live.lease("node-a")
    live.lease("node-b")
    live.store(
        record("CP-1", calls=12, bytes_in=60 * 1500, bytes_out=60 * 40),
        record("CP-2", "node-b", ocpp_version="2.0.1", tenant_id="other", security_profile=0, peer=""),
        record("CP-3", "node-c", last_seen_at_ms=ms_ago(90)),
        record("CP-4", "node-b", last_seen_at_ms=ms_ago(1200)),
    )
    return live


def test_nobody_is_connected(place: dict[str, str]) -> None:
    done = run("sessions", **place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Nobody is connected.\n")
    scripted = run("sessions", "--json", **place)
    assert (scripted.returncode, scripted.stdout, scripted.stderr) == (0, "", "")


def test_a_table_has_a_line_for_each(fleet: LiveRedis) -> None:
    done = run("sessions", **fleet.place)
    assert done.returncode == 0, done.stderr
    header, first, second, third, fourth = (" ".join(line.split()) for line in done.stdout.splitlines())
    assert header == "charge point OCPP node address profile since last seen calls in/min out/min"
    assert first.startswith("CP-1 1.6J node-a 192.0.2.7 2 1h ago ") and first.endswith("s ago 12 1.5 kB 40 B")
    assert second.startswith("CP-2 2.0.1 node-b - - 1h ago ") and second.endswith("s ago 0 - -")
    assert third == "CP-3 1.6J node-c 192.0.2.7 2 1h ago 1m ago, node gone 0 - -"
    assert fourth == "CP-4 1.6J node-b 192.0.2.7 2 1h ago 20m ago, silent 0 - -"
    assert done.stderr == "4 sessions, 1 of a node that is gone, 1 silent\n"


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), ["CP-1", "CP-2", "CP-3", "CP-4"]),
        (("--node", "node-b"), ["CP-2", "CP-4"]),
        (("--tenant", "acme", "--node", "node-a"), ["CP-1"]),
        (("--stale",), ["CP-3", "CP-4"]),
        (("--stale", "--tenant", "other"), []),
    ],
)
def test_a_script_gets_the_records_that_it_asks_for(fleet: LiveRedis, options: tuple[str, ...], ids: list[str]) -> None:
    done = run("sessions", "--json", *options, **fleet.place)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["chargePointId"] for row in rows] == ids
    states = {"CP-1": "live", "CP-2": "live", "CP-3": "node_gone", "CP-4": "silent"}
    for row in rows:
        stored = json.loads(fleet.client.get(fleet.key(f"sessions:{row['chargePointId']}")))
        assert row == {**stored, "state": states[row["chargePointId"]]}


def test_on_a_terminal_a_table_is_as_wide_as_it(fleet: LiveRedis) -> None:
    """Where there is no room, nodes and addresses are folded, not identities and numbers."""
    child, terminal = pty.openpty()
    try:
        subprocess.run(
            [*COMMAND, "sessions"],
            check=True,
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            timeout=40,
            env=environment(**fleet.place, COLUMNS="70", TERM="xterm"),
        )
        text = os.read(child, 65536).decode()
    finally:
        os.close(child)
        os.close(terminal)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
    assert max(map(len, lines)) <= 70
    assert [line.split()[0] for line in lines if line.startswith("CP-")] == ["CP-1", "CP-2", "CP-3", "CP-4"]
    assert "1.5 kB" in text and "\x1b[31m" in text and "192.0.2.7" not in text


def test_a_filter_that_matches_nobody_says_so(fleet: LiveRedis) -> None:
    done = run("sessions", "--node", "node-z", **fleet.place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "None of 4 sessions matches.\n")


def test_where_nobody_pings_a_silent_charge_point_is_none_to_worry_about(fleet: LiveRedis) -> None:
    stale = run("sessions", "--stale", "--json", **fleet.place, OCPP_PING_INTERVAL="0")
    assert [json.loads(line)["chargePointId"] for line in stale.stdout.splitlines()] == ["CP-3"]
    patient = run("sessions", "--stale", "--json", **fleet.place, SESSION_TTL_SECONDS="3600")
    assert [json.loads(line)["chargePointId"] for line in patient.stdout.splitlines()] == ["CP-3"]
    wrong = run_here("sessions", **fleet.place, OCPP_PING_INTERVAL="often")
    assert wrong.returncode == 1 and "OCPP_PING_INTERVAL" in wrong.stderr


def test_what_others_wrote_is_neither_obeyed_nor_passed_over(live: LiveRedis) -> None:
    live.lease("node-a")
    live.store(record("CP-1", peer="\x1b[2J[red]\nevil"))
    live.client.set(live.key("sessions:CP-9"), b"no record")
    done = run("sessions", **live.place)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout and "[red] evil" in done.stdout and done.stdout.count("\n") == 2
    assert done.stderr == "1 session\nWarning: no session record: CP-9\n"


@pytest.mark.parametrize(
    ("members", "alive", "rates"),
    [
        ({"bytes_in": 600, "bytes_out": 6000}, True, (10.0, 100.0)),  # over an hour
        ({"bytes_in": 600, "connected_at_ms": 9_990_000}, True, (600.0, 0.0)),  # over a minute at least
        ({}, True, (None, None)),
        ({"bytes_in": 600, "last_seen_at_ms": 7_000_000}, False, (60.0, 0.0)),  # as long as it lived
    ],
)
def test_rates_are_averages(members: dict[str, int], alive: bool, rates: tuple[float | None, float | None]) -> None:
    given = {"connected_at_ms": 6_400_000, "last_seen_at_ms": 9_999_000, **members}
    row = Row.of(SeenSession(record("CP-1", **given), alive), 10_000_000, None)
    assert (row.bytes_in_per_minute, row.bytes_out_per_minute) == rates


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (3700, "1h1m"),
        (100_000, "1d3h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds * 1000) == text


def test_a_session_is_ended_by_its_node(fleet: LiveRedis, kafka: str) -> None:
    def delete(message: SessionKick) -> None:
        fleet.client.delete(fleet.key(f"sessions:{message.charge_point_id}"))

    with node(fleet, "node-a", delete) as played, node(fleet, "node-b", delete) as other:
        done = run("session", "kick", "CP-1", "--reason", "stuck", **fleet.place, KAFKA_BROKERS=kafka)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "CP-1 kicked from node node-a\n"
    assert "charger disable" in done.stderr and "Warning" not in done.stderr
    told = kick_of(played)
    assert (told.charge_point_id, told.epoch, told.reason) == ("CP-1", 7, "stuck")
    assert told.actor and not other.heard
    (event,) = audit_events(kafka, 1)
    assert (event["eventType"], event["tenantId"], event["stationId"]) == ("ChargerSessionKicked", "acme", "S-CP-1")
    assert event["payload"] == {
        "chargePointId": "CP-1",
        "nodeId": "node-a",
        "epoch": 7,
        "actorId": told.actor,
        "actorType": "operator",
        "reason": "stuck",
    }


def test_one_that_has_come_back_already_was_ended(fleet: LiveRedis) -> None:
    def come_back(message: SessionKick) -> None:
        fleet.store(record("CP-1", "node-b", epoch=8, connected_at_ms=ms_ago(0)))

    with node(fleet, "node-a", come_back):
        done = run("session", "kick", "CP-1", **fleet.place)
    assert (done.returncode, done.stdout) == (0, "CP-1 kicked from node node-a\n")


def test_a_session_of_a_gateway_without_epochs_is_ended_whichever_it_is(fleet: LiveRedis) -> None:
    fleet.store(record("CP-1", epoch=0))
    with node(fleet, "node-a", lambda message: fleet.client.delete(fleet.key("sessions:CP-1"))) as played:
        assert run("session", "kick", "CP-1", **fleet.place).returncode == 0
    assert kick_of(played).epoch is None


def test_a_node_that_comes_back_on_its_bus_is_told_then(fleet: LiveRedis) -> None:
    done: list[Any] = []
    with fleet.client.monitor() as monitor:
        command = Thread(target=lambda: done.append(run("session", "kick", "CP-1", **fleet.place)))
        command.start()
        commands = monitor.listen()
        while not next(commands)["command"].startswith("PUBLISH"):
            pass
    with node(fleet, "node-a", lambda message: fleet.client.delete(fleet.key("sessions:CP-1"))) as played:
        command.join(40)
    assert done[0].returncode == 0, done[0].stderr
    assert kick_of(played).charge_point_id == "CP-1"


def test_a_node_that_does_not_answer_is_named(fleet: LiveRedis) -> None:
    begun = time.monotonic()
    done = run("session", "kick", "CP-1", **fleet.place)
    assert time.monotonic() - begun > 5
    assert done.returncode == 1 and done.stdout == ""
    assert "Node node-a does not answer, so CP-1 is still connected" in done.stderr and "'nodes'" in done.stderr


def test_a_session_that_does_not_end_is_no_success(fleet: LiveRedis) -> None:
    with node(fleet, "node-a", lambda message: None) as played:
        done = run("session", "kick", "CP-1", **fleet.place)
    assert done.returncode == 1 and done.stdout == ""
    assert "CP-1 is still connected after 8 s" in done.stderr and "log of that node" in done.stderr
    assert kick_of(played).epoch == 7


@pytest.mark.parametrize(
    ("charge_point_id", "problem", "what_to_do"),
    [
        ("CP-7", "CP-7 is not connected.", "'sessions' shows who is."),
        ("CP-3", "Node node-c, which CP-3 was connected to, is gone.", "can connect to any node"),
        ("CP-9", "cannot be read", "charger disable"),
    ],
)
def test_who_cannot_be_kicked(fleet: LiveRedis, charge_point_id: str, problem: str, what_to_do: str) -> None:
    fleet.client.set(fleet.key("sessions:CP-9"), b"{}")
    done = run("session", "kick", charge_point_id, **fleet.place)
    assert done.returncode == 1 and done.stdout == ""
    assert problem in done.stderr and what_to_do in done.stderr
