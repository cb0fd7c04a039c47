"""``ocpp-gateway demo`` for real: a daemon, its Redis and Kafka, three charge points, their events; and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from cli.cli_runner import COMMAND, environment, run


def free_ports() -> tuple[int, int]:
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    http_port, ocpp_port = free_ports()
    return {
        "PORT": str(http_port),
        "WEBSOCKET_OCPP_PORT": str(ocpp_port),
        "OCPP_DEV_STATE_FILE": str(tmp_path / "dev.json"),
        "WEBSOCKET_OCPP_HOST": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_traffic_scrolls_by_until_it_is_stopped(environ: dict[str, str], number: signal.Signals) -> None:
    command = [*COMMAND, "demo", "--interval", "0.1"]
    wanted = {"StationBooted CP-001", "StationBooted CP-002", "StationBooted CP-003", "MeterValuesReceived CP-001"}
    with subprocess.Popen(
        command,
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            words = line.split()
            if len(words) > 3:
                wanted.discard(f"{words[3]} {words[1]}")
            if not wanted:
                break
        assert not wanted, "".join(lines)
        state = json.loads(Path(environ["OCPP_DEV_STATE_FILE"]).read_text())
        listed = run("--dev", "charger", "list", "--json", **environ)
        assert len(listed.stdout.splitlines()) == 3
        arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (process.pid, state["pid"]))
        assert b"password" not in arguments and b"redis://" not in arguments
        os.killpg(process.pid, number)  # as a terminal does it: to everybody in the foreground
        rest, _ = process.communicate(timeout=40)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert "transactions finished" in rest
    assert is_gone(state["pid"])
    assert not Path(environ["OCPP_DEV_STATE_FILE"]).exists()


def test_a_busy_port_is_named_with_what_to_do(environ: dict[str, str]) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", int(environ["WEBSOCKET_OCPP_PORT"])))
        other.listen()
        done = run("demo", **environ)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{environ['WEBSOCKET_OCPP_PORT']}" in done.stderr
    assert "PORT=3101 WEBSOCKET_OCPP_PORT=8180 ocpp-gateway demo" in done.stderr


def test_settings_that_cannot_work_are_named(environ: dict[str, str]) -> None:
    done = run("demo", **environ, OCPP_AUTH_MODE="nonsense")
    assert done.returncode == 1
    assert "OCPP_AUTH_MODE" in done.stderr


def test_a_gateway_that_dies_is_noticed(environ: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "demo"],
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "StationBooted" in line:
                break
        os.kill(json.loads(Path(environ["OCPP_DEV_STATE_FILE"]).read_text())["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "killed by signal 9" in errors
    assert "Traceback" not in errors
