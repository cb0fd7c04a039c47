"""How the daemon starts, refuses to start, and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.gateway import PROJECT, TWISTD, Gateway
from support.raw_socket import RawSocket

from ocpp_gateway.ops.dev_state import DevState
from ocpp_gateway.tap import Options

ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OCPP_", "REDIS_"))},
    "PYTHONPATH": str(PROJECT),
}


def twistd(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TWISTD), "-n", "--pidfile=", "ocpp-gateway", *arguments],
        env={**ENVIRON, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_twistd_lists_the_plugin() -> None:
    shown = subprocess.run([str(TWISTD), "--help"], env=ENVIRON, capture_output=True, text=True, check=True).stdout
    assert "ocpp-gateway" in shown


def test_every_problem_of_the_settings_is_told_at_once() -> None:
    ended = twistd(
        "--set",
        "OCPP_NO_SUCH=1",
        PORT="x",
        WEBSOCKET_OCPP_PORT="99999",
        REDIS_URL="http://user:hunter2@nowhere",
        KAFKA_BROKERS="nonsense:port",
        NODE_TTL_SECONDS="5",
        OCPP_TLS_ENABLED="true",
        KAFKA_SASL_MECHANISM="NO-SUCH",
    )
    assert ended.returncode == 1
    told = ended.stdout + ended.stderr
    for name in (
        "OCPP_NO_SUCH",
        "PORT",
        "WEBSOCKET_OCPP_PORT",
        "REDIS_URL",
        "KAFKA_BROKERS",
        "NODE_TTL_SECONDS",
        "OCPP_TLS_CERT_PATH",
    ):
        assert f"\n  {name}" in told or f"\n  --set {name}" in told, told
    assert "hunter2" not in told
    assert "Traceback" not in told


def test_a_busy_port_is_a_failed_start(redis_url: str, brokers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = twistd(REDIS_URL=redis_url, KAFKA_BROKERS=brokers, PORT="0", WEBSOCKET_OCPP_PORT=str(port))
    assert ended.returncode == 1
    failed = _logged(ended.stdout, "gateway.start_failed")
    assert failed["reason"] == "port_unavailable"
    assert "WEBSOCKET_OCPP_PORT" in failed["problem"]


def test_an_address_of_another_machine_is_a_failed_start_that_names_the_setting(redis_url: str, brokers: str) -> None:
    for setting in ("HTTP_HOST", "WEBSOCKET_OCPP_HOST"):
        environ = {"PORT": "0", "WEBSOCKET_OCPP_PORT": "0", setting: "203.0.113.9"}
        ended = twistd(REDIS_URL=redis_url, KAFKA_BROKERS=brokers, **environ)
        assert ended.returncode == 1
        failed = _logged(ended.stdout, "gateway.start_failed")
        assert failed["reason"] == "port_unavailable"
        assert f"set {setting} to" in failed["problem"]
        assert "stop what uses" not in failed["problem"]


def test_redis_that_does_not_answer_is_a_failed_start(brokers: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"redis://:hunter2@127.0.0.1:{silent.getsockname()[1]}"
        ended = twistd(REDIS_URL=url, KAFKA_BROKERS=brokers, PORT="0", WEBSOCKET_OCPP_PORT="0", START_TIMEOUT="1")
    assert ended.returncode == 1
    failed = _logged(ended.stdout, "gateway.start_failed")
    assert failed["reason"] == "redis_unavailable"
    assert "REDIS_URL" in failed["problem"]
    assert "hunter2" not in ended.stdout + ended.stderr


def test_kafka_that_does_not_answer_is_a_failed_start(redis_url: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        brokers = f"127.0.0.1:{silent.getsockname()[1]}"
        ended = twistd(REDIS_URL=redis_url, KAFKA_BROKERS=brokers, PORT="0", WEBSOCKET_OCPP_PORT="0", START_TIMEOUT="3")
    assert ended.returncode == 1
    failed = _logged(ended.stdout, "gateway.start_failed")
    assert failed["reason"] == "kafka_unavailable"
    assert "KAFKA_BROKERS" in failed["problem"]


def test_both_signals_end_it_cleanly_and_the_lease_goes_with_it(
    redis: redis_py.Redis, redis_url: str, brokers: str
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        gateway = Gateway(redis_url, brokers, NODE_ID=f"node-{number}")
        with gateway:
            assert redis.exists(f"nodes:node-{number}")
            os.kill(gateway.pid, number)
            assert gateway.ended(seconds=20) == 0
        assert not redis.exists(f"nodes:node-{number}")


def test_the_log_is_flat_json(gateway: Gateway) -> None:
    started = gateway.wait_for("gateway.started")
    assert {"time", "level", "event", "message", "service", "node_id", "ocpp_port", "http_port"} <= set(started)
    for event in gateway.events:
        assert all(not isinstance(value, dict | list) for value in event.values()), event


def test_health_ready_metrics_and_the_token(redis_url: str, brokers: str) -> None:
    with Gateway(redis_url, brokers, HEALTH_METRICS_AUTH_TOKEN="sesame") as gateway:
        assert _get(gateway, "/health") == (200, b'{"status":"ok"}')
        assert _get(gateway, "/ready")[0] == 401
        assert _get(gateway, "/metrics", token="wrong")[0] == 401
        assert _get(gateway, "/ready", token="sesame") == (200, b'{"status":"ready"}')
        status, metrics = _get(gateway, "/metrics", token="sesame")
        assert status == 200
        for name in (b"ocpp_connections{", b"ocpp_publish_seconds_bucket{", b"kafka_writable 1.0"):
            assert name in metrics
        assert _get(gateway, "/no/such/path", token="sesame")[0] == 404


def test_a_file_of_settings(tmp_path: Path, redis_url: str, brokers: str) -> None:
    file = tmp_path / "gateway.env"
    file.write_text(f"# a comment\nREDIS_URL={redis_url}\nKAFKA_BROKERS={brokers}\nPORT=nonsense\n")
    ended = twistd("--env-file", str(file), WEBSOCKET_OCPP_PORT="0")
    assert ended.returncode == 1
    assert "\n  PORT" in ended.stdout + ended.stderr
    assert "KAFKA_BROKERS" not in (ended.stdout + ended.stderr).rpartition("cannot start")[2]


def test_an_empty_variable_is_none_wherever_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "gateway.env"
    file.write_text("REDIS_URL=redis://from-the-file:1\nPORT=1\nNODE_ID=\n")
    for name, value in {"REDIS_URL": "", "PORT": "2", "NODE_ID": "from-the-environment"}.items():
        monkeypatch.setenv(name, value)
    settings = options("--env-file", str(file), "--set", "PORT=").settings
    assert (settings.redis_url, settings.port, settings.node_id) == (
        "redis://from-the-file:1", 2, "from-the-environment",
    )  # fmt: skip


def test_for_development_no_other_redis_or_kafka_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "gateway.env"
    file.write_text("KAFKA_SASL_USERNAME=production\nREDIS_URL=redis://production:1\n")
    exported = {
        "REDIS_URL": "redis://production:1",
        "KAFKA_BROKERS": "production:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_PASSWORD": "hunter2",
        "KAFKA_CONFIG_FILE": str(file),
        "LOG_FORMAT": "",
    }
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    chosen = options("--dev", "--env-file", str(file))
    assert (chosen.settings.redis_url, chosen.settings.log_format) == ("embedded://", "text")
    assert chosen.kafka.is_embedded
    assert chosen.kafka.properties == ()
    said = options("--dev", "--set", "REDIS_URL=redis://mine:1", "--set", "LOG_FORMAT=json")
    assert (said.settings.redis_url, said.settings.log_format) == ("redis://mine:1", "json")
    assert said.kafka.is_embedded


def test_a_gateway_that_stops_leaves_the_state_file_of_another(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    with Gateway("embedded://", "embedded://", OCPP_DEV_STATE_FILE=str(path)) as first:
        with Gateway("embedded://", "embedded://", OCPP_DEV_STATE_FILE=str(path)) as second:
            assert first.stop() == 0
            state = DevState.read(path)
            assert state is not None
            assert (state.pid, state.ocpp_port) == (second.pid, second.ocpp_port)
        assert not path.exists()


MULTIPART = b"--b\r\nContent-Disposition: form-data; name*=utf-8''x\r\n\r\nv\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(MULTIPART), MULTIPART),
        (
            b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n",
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(MULTIPART), MULTIPART),
        ),
        (b"Content-Length: 1000000000000\r\n", b""),
        (b"Content-Length: 1000000000000\r\nExpect: 100-continue\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b""),
    ],
    ids=["form", "form in chunks", "endless", "endless and polite", "no chunk yet"],
)
@pytest.mark.parametrize("path", [b"/ready", b"/x", b"/ocpp/CP-1"])
def test_the_http_port_takes_no_body(gateway: Gateway, path: bytes, headers: bytes, body: bytes) -> None:
    with RawSocket(gateway.http_port) as connection:
        connection.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (path, headers, body))
        answer = connection.response()
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert connection.rest() == b""


def test_an_empty_body_is_none(gateway: Gateway) -> None:
    with RawSocket(gateway.http_port) as connection:
        for _ in range(2):
            connection.send(b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert connection.response().status == 200


def test_a_daemon_in_the_background_logs_into_its_file(tmp_path: Path, redis_url: str, brokers: str) -> None:
    log, pidfile = tmp_path / "gateway.log", tmp_path / "gateway.pid"
    environ = {**ENVIRON, "REDIS_URL": redis_url, "KAFKA_BROKERS": brokers, "PORT": "0", "WEBSOCKET_OCPP_PORT": "0"}
    subprocess.run(
        [str(TWISTD), f"--pidfile={pidfile}", f"--logfile={log}", "ocpp-gateway"],
        env=environ,
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    pid = int(pidfile.read_text())
    try:
        _until_logged(log, "gateway.started")
    finally:
        os.kill(pid, signal.SIGTERM)
    _until_logged(log, "gateway.stopped")


def test_timers_do_not_follow_a_step_of_the_wall_clock() -> None:
    # In a process of its own: the wall clock that Twisted sees is set forward an hour while a timer runs.
    script = """
import time
real, step = time.time, [0.0]
time.time = lambda: real() + step[0]
from ocpp_gateway.tap import use_monotonic_timers
use_monotonic_timers()
from twisted.internet import reactor
fired = []
reactor.callLater(3600, fired.append, "early")
def later():
    print("early" if fired else "in time")
    reactor.stop()
def jump():
    step[0] = 7200.0
    reactor.callLater(0.2, later)
reactor.callWhenRunning(jump)
reactor.run()
"""
    shown = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRON, capture_output=True, text=True, timeout=30, check=True
    )
    assert shown.stdout.strip() == "in time"


def options(*arguments: str) -> Options:
    parsed = Options()
    parsed.parseOptions(list(arguments))
    return parsed


def _logged(output: str, name: str) -> dict[str, Any]:
    for line in output.splitlines():
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no {name} in {output}")


def _until_logged(path: Path, name: str) -> None:
    with subprocess.Popen(
        ["tail", "-n", "+1", "-F", str(path)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    ) as tail:
        assert tail.stdout is not None
        for line in tail.stdout:
            if json.loads(line)["event"] == name:
                tail.kill()
                return


def _get(gateway: Gateway, path: str, *, token: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(gateway.http_url(path))
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
