"""``ocpp-gateway demo`` for real: a daemon, its Redis and Kafka, three charge points, their events; and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.cli_runner import run, run_here, started
from cli.redis_by_hand import count_keys, store, stored_bytes

from ocpp_gateway.redis.embedded import EmbeddedRedis

THEIRS = b'{"stationId":"S-1","tenantId":"acme","status":"disabled","auth":{"secretHash":"theirs"}}'


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PORT": "0",
        "WEBSOCKET_OCPP_PORT": "0",
        "OCPP_DEV_STATE_FILE": str(tmp_path / "dev.json"),
        "WEBSOCKET_OCPP_HOST": "127.0.0.1",
        "COLUMNS": "200",
    }


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def in_use() -> Iterator[str]:
    """A Redis with a charge point of somebody's, out of service."""
    with EmbeddedRedis() as server:
        for key in ("chargers:CP-001", "theirs:chargers:CP-001"):
            store(server.url, key, THEIRS)
        yield server.url


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_traffic_scrolls_by_until_it_is_stopped(environ: dict[str, str], in_use: str, number: signal.Signals) -> None:
    # Exported for the work of every day; the demo must not touch any of it.
    exported = {
        "REDIS_URL": in_use,
        "REDIS_PREFIX": "theirs",
        "KAFKA_BROKERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CONFIG_FILE": "/nowhere/kafka.properties",
        "OCPP_TLS_ENABLED": "true",
        "OCPP_TLS_CLIENT_AUTH": "required",
    }
    wanted = {"StationBooted CP-001", "StationBooted CP-002", "StationBooted CP-003", "MeterValuesReceived CP-001"}
    with started("demo", "--interval", "0.1", **environ, **exported) as process:
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            words = line.split()
            if len(words) > 3:
                wanted.discard(f"{words[3]} {words[1]}")
            if not wanted:
                break
        assert not wanted, "".join(lines) + process.stderr.read()
        state = json.loads(Path(environ["OCPP_DEV_STATE_FILE"]).read_text())
        listed = run("--dev", "charger", "list", "--json", **environ, REDIS_URL=in_use)
        records = [json.loads(line) for line in listed.stdout.splitlines()]
        assert [record["createdBy"] for record in records] == ["ocpp-gateway simulate"] * 3
        arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (process.pid, state["pid"]))
        assert b"password" not in arguments and b"redis://" not in arguments
        os.killpg(process.pid, number)  # as a terminal does it: to everybody in the foreground
        rest, errors = process.communicate(timeout=40)
    assert process.returncode == 0, rest + errors
    assert "Traceback" not in rest + errors
    assert "transactions finished" in rest
    assert "REDIS_PREFIX is not used" in "".join(lines)
    assert is_gone(state["pid"])
    assert not Path(environ["OCPP_DEV_STATE_FILE"]).exists()
    assert stored_bytes(in_use, "chargers:CP-001") == stored_bytes(in_use, "theirs:chargers:CP-001") == THEIRS
    assert count_keys(in_use) == 2


def test_a_busy_port_is_named_with_what_to_do(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_here("demo", **(environ | {"WEBSOCKET_OCPP_PORT": str(port)}))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "PORT=3101 WEBSOCKET_OCPP_PORT=8180 ocpp-gateway demo" in done.stderr


def test_settings_that_cannot_work_are_named(environ: dict[str, str]) -> None:
    done = run_here("demo", **environ, OCPP_AUTH_MODE="nonsense")
    assert done.returncode == 1
    assert "OCPP_AUTH_MODE" in done.stderr


def test_a_gateway_that_dies_is_noticed(environ: dict[str, str]) -> None:
    with started("demo", **environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "StationBooted" in line:
                break
        os.kill(json.loads(Path(environ["OCPP_DEV_STATE_FILE"]).read_text())["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "killed by signal 9" in errors
    assert "Traceback" not in errors
