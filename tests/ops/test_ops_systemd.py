"""What systemd is told, over a socket as it has it."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.manual_clock import ManualClock
from support.notify_socket import NotifySocket
from twisted.logger import LogEvent

from ocpp_gateway.ops import systemd as systemd_module
from ocpp_gateway.ops.systemd import Systemd


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(systemd_module.log, "observer", seen.append)
    return seen


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As NOTIFY_SOCKET has it."""
    return str(tmp_path / "notify") if request.param == "path" else f"@ocpp-gateway-{uuid.uuid4()}"


@pytest.fixture
def listening(address: str) -> Iterator[NotifySocket]:
    with NotifySocket("\0" + address[1:] if address.startswith("@") else address) as bound:
        yield bound


def test_a_start_and_a_stop_are_told(
    listening: NotifySocket, address: str, clock: ManualClock, logged: list[LogEvent]
) -> None:
    systemd = Systemd.from_environ({"NOTIFY_SOCKET": address}, clock)
    systemd.starting(90, "Waiting for Redis and Kafka")
    assert listening.told() == {"EXTEND_TIMEOUT_USEC": "90000000", "STATUS": "Waiting for Redis and Kafka"}
    systemd.ready("Open")
    assert listening.told() == {"READY": "1", "STATUS": "Open"}
    systemd.stopping(10.5, "Closing 3 connections")
    assert listening.told() == {
        "STOPPING": "1", "EXTEND_TIMEOUT_USEC": "10500000", "STATUS": "Closing 3 connections",
    }  # fmt: skip
    systemd.close()
    systemd.stopping(1, "no more")
    clock.advance(3600)
    assert listening.is_silent()
    assert logged == []


def test_signs_of_life_come_twice_in_the_time_of_the_watchdog(
    listening: NotifySocket, address: str, clock: ManualClock
) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    systemd = Systemd.from_environ(environ, clock)
    systemd.starting(90, "")
    clock.advance(60)
    assert "EXTEND_TIMEOUT_USEC" in listening.told()
    assert listening.is_silent(), "life before the start is done"
    systemd.ready("")
    assert listening.told()["READY"] == "1"
    for _ in range(3):
        assert listening.told() == {"WATCHDOG": "1"}
        clock.advance(14.9)
        assert listening.is_silent()
        clock.advance(0.1)
    systemd.stopping(10, "")
    assert listening.told() == {"WATCHDOG": "1"}
    assert "STOPPING" in listening.told()
    clock.advance(15)
    assert listening.told() == {"WATCHDOG": "1"}, "a stop is watched too"
    systemd.close()
    assert clock.timers.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("watchdog", "warnings"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 1),
        ({"WATCHDOG_USEC": "-1"}, 1),
    ],
)
def test_a_watchdog_that_is_not_ours_gets_no_sign(
    listening: NotifySocket,
    address: str,
    clock: ManualClock,
    logged: list[LogEvent],
    watchdog: dict[str, str],
    warnings: int,
) -> None:
    systemd = Systemd.from_environ({"NOTIFY_SOCKET": address, **watchdog}, clock)
    systemd.ready("")
    assert listening.told()["READY"] == "1"
    clock.advance(3600)
    assert listening.is_silent()
    assert len(logged) == warnings
    systemd.close()


@pytest.mark.parametrize(
    ("environ", "warnings"),
    [({}, 0), ({"NOTIFY_SOCKET": "vsock:2:1234"}, 1), ({"NOTIFY_SOCKET": "relative"}, 1)],
)
def test_where_there_is_nobody_to_tell_nothing_happens(
    clock: ManualClock, logged: list[LogEvent], environ: dict[str, str], warnings: int
) -> None:
    systemd = Systemd.from_environ({**environ, "WATCHDOG_USEC": "1000000"}, clock)
    systemd.starting(1, "")
    systemd.ready("")
    systemd.stopping(1, "")
    assert clock.timers.getDelayedCalls() == []
    assert len(logged) == warnings


def test_that_it_cannot_be_told_is_said_once_and_it_is_tried_again(
    tmp_path: Path, clock: ManualClock, logged: list[LogEvent]
) -> None:
    path = str(tmp_path / "notify")
    systemd = Systemd.from_environ({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}, clock)
    systemd.ready("")
    for _ in range(5):
        clock.advance(1)
    assert [event["event"] for event in logged] == ["gateway.systemd_deaf"]
    with NotifySocket(path) as listening:
        clock.advance(1)
        assert listening.told() == {"WATCHDOG": "1"}
    clock.advance(1)
    assert len(logged) == 2
    systemd.close()


def test_one_that_does_not_read_does_not_keep_us(tmp_path: Path, clock: ManualClock, logged: list[LogEvent]) -> None:
    path = str(tmp_path / "notify")
    with NotifySocket(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"STATUS=full", path)
        systemd = Systemd.from_environ({"NOTIFY_SOCKET": path}, clock)
        systemd.ready("")
        assert [event["event"] for event in logged] == ["gateway.systemd_deaf"]
        systemd.close()
