"""``ocpp-gateway nodes`` against a real Redis."""

from __future__ import annotations

import json

from cli.cli_runner import run
from cli.live_redis import LiveRedis, ms_ago, record

from ocpp_gateway.clock import iso_millis


def stamp(seconds_ago: float) -> str:
    return iso_millis(ms_ago(seconds_ago) / 1000)


def test_no_node_at_all(place: dict[str, str]) -> None:
    done = run("nodes", **place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No node uses this Redis now.\n")
    assert run("nodes", "--json", **place).stdout == ""


def test_those_that_live_and_those_that_left_sessions_behind(live: LiveRedis) -> None:
    started, seen = stamp(7300), stamp(4)
    live.lease("node-b", startedAt=started, lastSeenAt=seen, connections=12, advertiseUrl="ws://b:8080")
    live.lease("node-a", startedAt="long ago", state="gone")
    live.store(record("CP-1", "node-c"), record("CP-2", "node-c"))
    live.client.set(live.key("nodes:node-d"), b"[]")
    done = run("nodes", **live.place)
    assert done.returncode == 0, done.stderr
    header, first, second, third, fourth = (" ".join(line.split()) for line in done.stdout.splitlines())
    assert header == "node state since last seen sessions address"
    assert first == "node-a alive - - - -"
    assert second.startswith("node-b alive 2h1m ago ") and second.endswith("s ago 12 ws://b:8080")
    assert third == "node-c gone - - 2 left -"
    assert fourth == "node-d alive - - - -"
    assert done.stderr == "4 nodes, 1 gone\n"

    listed = run("nodes", "--json", **live.place)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [json.loads(line) for line in listed.stdout.splitlines()] == [
        {"nodeId": "node-a", "state": "alive", "startedAt": "long ago"},
        {
            "nodeId": "node-b",
            "state": "alive",
            "startedAt": started,
            "lastSeenAt": seen,
            "connections": 12,
            "advertiseUrl": "ws://b:8080",
        },
        {"nodeId": "node-c", "state": "gone", "sessionsLeft": 2},
        {"nodeId": "node-d", "state": "alive"},
    ]


def test_a_name_is_no_command_to_the_terminal(live: LiveRedis) -> None:
    live.lease("\x1b[2J[bold]node")
    done = run("nodes", **live.place)
    assert "\x1b" not in done.stdout and "[bold]node" in done.stdout
