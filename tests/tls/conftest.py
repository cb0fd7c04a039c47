"""Authorities and server certificates that all TLS tests share: RSA keys take their time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from reloaded import INTERVAL, Begin, Running, Threads
from support.certificates import Authority, Issued, days
from support.manual_clock import ManualClock
from tls_support import Files
from twisted.logger import LogEvent

from ocpp_gateway.tls import reloading
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.reloading import TlsContexts


@pytest.fixture(scope="session")
def root() -> Authority:
    return Authority("Example Root")


@pytest.fixture(scope="session")
def ec_server(root: Authority) -> Issued:
    return root.issue("gateway.example.com", sans=["gateway.example.com"], client=False)


@pytest.fixture(scope="session")
def rsa_server(root: Authority) -> Issued:
    return root.issue("gateway.example.com", key="rsa", sans=["gateway.example.com"], client=False)


@pytest.fixture
def files(tmp_path: Path, ec_server: Issued, rsa_server: Issued) -> Files:
    return Files(tmp_path, [ec_server, rsa_server])


@pytest.fixture
def begin(tmp_path: Path, ec_server: Issued, root: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """``begin(interval=...)``: contexts that are loaded and started; what they log is in ``logged``."""
    logged: list[LogEvent] = []
    monkeypatch.setattr(reloading.log, "observer", logged.append)
    started: list[Running] = []

    def start(*, interval: float = INTERVAL) -> Running:
        files = Files(tmp_path, [ec_server], [root])
        clock, threads, reloads = ManualClock(days(0).timestamp()), Threads(), []
        contexts = TlsContexts(
            paths=files.write(),
            policy=TlsPolicy(),
            clients=frozenset(ClientAuth),
            clock=clock,
            run_in_thread=threads.run,
            interval=interval,
            reloaded=lambda: reloads.append(None),
        )
        contexts.load()
        contexts.start()
        running = Running(files, logged, contexts, clock, threads, reloads)
        assert running.events() == ["tls.loaded"]
        started.append(running)
        return running

    yield start
    for running in started:
        running.contexts.stop()
        assert running.clock.timers.getDelayedCalls() == []
