"""librdkafka's mock cluster in a process of its own, so that it can be frozen and killed. Keeps nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

_CLUSTER = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: gone with the test run, whatever ends it
from ocpp_gateway.kafka.embedded import EmbeddedKafka
cluster = EmbeddedKafka.start(brokers=int(sys.argv[1]))
print(cluster.brokers, flush=True)
sys.stdin.read()
"""


class MockKafka:
    """``with MockKafka() as kafka: kafka.brokers``; ``freeze``, ``thaw`` and ``kill`` as they say."""

    def __init__(self, *, brokers: int = 1) -> None:
        self._count = brokers
        self._process: subprocess.Popen[str] | None = None
        self.brokers = ""

    def __enter__(self) -> MockKafka:
        command = [sys.executable, "-c", _CLUSTER, str(self._count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.brokers = self._process.stdout.readline().strip()
        assert self.brokers, "the mock cluster did not start"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # the signal alone leaves busy threads running for a moment

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
