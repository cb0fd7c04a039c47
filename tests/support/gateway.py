"""The daemon as a user starts it: ``twistd -n ocpp-gateway`` in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
TWISTD = Path(sys.executable).with_name("twistd")


NO_LIMITS = {
    "OCPP_CONNECT_RATE_PER_ADDRESS": "0",
    "OCPP_CONNECT_RATE_PER_CHARGE_POINT": "0",
    "OCPP_RECONNECTS_PER_MINUTE": "0",
    "OCPP_HANDSHAKE_RATE": "0",
    "OCPP_BAN_FAILURES": "0",
    "OCPP_BAN_ADDRESS_FAILURES": "0",
    "OCPP_RATE_LIMIT_PER_CP": "0",
}
"""Tests come from one address, hundreds of times a minute. Those of the limits have settings of their own."""


class GatewayEnded(Exception):
    """The daemon ended while something was expected of it."""


# PR_SET_PDEATHSIG = 1: the daemon is gone with the test run, whatever ends that.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Gateway:
    """``with Gateway(redis_url, brokers) as gateway``: running and ready inside, stopped behind it.

    ``events`` are the log's lines, parsed. A line at error level fails the test at the end, unless its event is in
    ``expected_errors``.
    """

    def __init__(
        self, redis_url: str, brokers: str, *, expected_errors: frozenset[str] = frozenset(), **settings: str
    ) -> None:
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OCPP_", "REDIS_"))},
            "PYTHONPATH": str(PROJECT),
            "REDIS_URL": redis_url,
            "KAFKA_BROKERS": brokers,
            "PORT": "0",
            "WEBSOCKET_OCPP_PORT": "0",
            "DRAIN_SECONDS": "3",
            **NO_LIMITS,
            **settings,
        }
        self._expected_errors = expected_errors
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.events: list[dict[str, Any]] = []
        self.http_port = 0
        self.ocpp_port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.ocpp_port}{path}"

    def http_url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def start(self) -> Gateway:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _END_WITH_PARENT, str(TWISTD), "-n", "--pidfile=", "ocpp-gateway"],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        started = self.wait_for("gateway.started", seconds=30)
        self.http_port, self.ocpp_port = started["http_port"], started["ocpp_port"]
        return self

    def wait_for(self, name: str, *, seconds: float = 20, **fields: object) -> dict[str, Any]:
        """The next log line with ``event`` ``name`` and ``fields``; what was read before counts too."""
        seen = 0
        deadline = time.monotonic() + seconds
        while True:
            for event in self.events[seen:]:
                if event.get("event") == name and all(event.get(key) == value for key, value in fields.items()):
                    return event
            seen = len(self.events)
            self._take(deadline, f"{name} {fields or ''}")

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Every log line so far with ``event`` ``name``."""
        with suppress(GatewayEnded):
            while not self._lines.empty():
                self._take(time.monotonic() + 1, name)
        return [event for event in self.events if event.get("event") == name]

    def stop(self, *, seconds: float = 20) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.ended(seconds=seconds)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.ended(seconds=10)

    def ended(self, *, seconds: float) -> int:
        assert self._process is not None
        status = self._process.wait(seconds)
        while (line := self._lines.get(timeout=5)) is not None:
            self._parse(line)
        self._lines.put(None)
        return status

    def __enter__(self) -> Gateway:
        try:
            return self.start()
        except BaseException:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            raise

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            status = self.stop()
            assert status == 0 or kind is not None, f"exit status {status}"
        errors = [
            event
            for event in self.events
            if event.get("level") in ("error", "critical", None) and event.get("event") not in self._expected_errors
        ]
        assert not errors or kind is not None, f"logged as error: {errors}"

    def _take(self, deadline: float, what: str) -> None:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"no {what} in the log; its end: {self.events[-8:]}") from None
        if line is None:
            self._lines.put(None)
            raise GatewayEnded(f"ended before {what}; the log's end: {self.events[-8:]}")
        self._parse(line)

    def _parse(self, line: str) -> None:
        try:
            self.events.append(json.loads(line))
        except ValueError:
            self.events.append({"event": "not_json", "text": line})

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line)
        self._lines.put(None)
