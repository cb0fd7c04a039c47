from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from redis_support import wait_for_exit

from ocpp_gateway.errors import StartFailed
from ocpp_gateway.redis.embedded import EmbeddedRedis, redis_server_binary
from ocpp_gateway.redis.url import RedisUrl


def test_it_runs_until_stopped_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = EmbeddedRedis()
    assert not server.is_running
    server.start()
    pid, port = server.pid, server.port
    assert server.is_running
    assert RedisUrl.parse(server.url).password == server.password
    server.stop()
    assert not server.is_running
    assert wait_for_exit(pid, 5)
    assert list(tmp_path.iterdir()) == []
    server.start()
    assert server.port == port
    server.stop()
    server.stop()


def test_the_password_is_on_no_command_line() -> None:
    with EmbeddedRedis() as server:
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert b"redis-server" in command
    assert server.password.encode() not in command
    assert server.password not in repr(server)


def test_it_is_not_in_our_process_group_so_that_ctrl_c_is_for_us() -> None:
    with EmbeddedRedis() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_it_ends_with_us_even_if_we_are_killed() -> None:
    code = (
        "from ocpp_gateway.redis.embedded import EmbeddedRedis\n"
        "import sys\n"
        "server = EmbeddedRedis(); server.start(); print(server.pid, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdin is not None
    try:
        pid = int(owner.stdout.readline())
        assert not wait_for_exit(pid, 0)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    assert wait_for_exit(pid, 10)


def test_a_start_that_fails_says_why() -> None:
    server = EmbeddedRedis(extra_configuration=["maxmemory-policy nonsense"])
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert failed.value.reason == "redis_server_failed"
    assert "maxmemory-policy" in str(failed.value)
    assert not server.is_running


def test_a_port_that_is_taken_is_a_failed_start(redis_server: EmbeddedRedis) -> None:
    server = EmbeddedRedis(port=redis_server.port)
    with pytest.raises(StartFailed, match="in use"):
        server.start()


def test_a_binary_that_cannot_run_is_a_failed_start(tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("not a program")
    with pytest.raises(StartFailed) as failed:
        EmbeddedRedis(binary=str(broken)).start()
    assert failed.value.reason == "redis_server_failed"


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    carried = redis_server_binary()
    (tmp_path / "redis-server").symlink_to(carried)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server_binary() == str(tmp_path / "redis-server")
