"""Charge points that say exactly what a test wants, and keep account of what they were answered."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import attrs
from attrs import define, field
from support.kafka_broker import KafkaBroker
from support.mock_kafka import MockKafka
from support.stations import PASSWORD, SUBPROTOCOLS, basic, now
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ocpp_gateway.redis.embedded import EmbeddedRedis


def until(condition: Callable[[], Any], what: str, *, seconds: float = 20.0) -> Any:
    """What ``condition`` gives as soon as it is true, for what cannot be waited for otherwise."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        threading.Event().wait(0.05)
    return found


@contextlib.contextmanager
def frozen(server: MockKafka | KafkaBroker | EmbeddedRedis) -> Iterator[None]:
    """``server`` stands still inside the block: all its threads, from the first line on."""
    assert server._process is not None
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)  # the signal alone leaves busy threads running for a moment
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ready(url: str) -> tuple[int, list[str]]:
    """What /ready says: the status, and the reasons if it is not ready."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, []
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.loads(refusal.read())["reasons"]


@attrs.frozen
class Refusal:
    """A handshake that was not answered with 101."""

    status: int
    retry_after: int | None
    text: str


@define(eq=False)
class Caller:
    """``with Caller(url, id, version) as point: point.call(...)``; a connection of one charge point."""

    url: str
    charge_point_id: str
    version: str = "1.6"
    password: str = PASSWORD
    _socket: ClientConnection | None = None
    _exits: contextlib.ExitStack = field(factory=contextlib.ExitStack)

    def open(self) -> Caller:
        self._socket = self._exits.enter_context(
            connect(
                f"{self.url}/ocpp/{self.version}/{self.charge_point_id}",
                subprotocols=[SUBPROTOCOLS[self.version]],  # type: ignore[list-item]
                additional_headers=basic(self.charge_point_id, self.password),
                open_timeout=15,
                close_timeout=1,
                ping_interval=None,
                max_queue=None,
            )
        )
        return self

    def refused(self) -> Refusal:
        """The answer to a handshake that must not succeed."""
        try:
            self.open()
        except InvalidStatus as refusal:
            response = refusal.response
            retry_after = response.headers.get("Retry-After")
            return Refusal(response.status_code, retry_after and int(retry_after), response.body.decode())
        self.close()
        raise AssertionError(f"{self.charge_point_id} was let in")

    def say(self, action: str, payload: Any) -> str:
        """Send a CALL; its message id."""
        message_id = str(uuid.uuid4())
        self.socket.send(json.dumps([2, message_id, action, payload]))
        return message_id

    def hear(self, *, seconds: float = 15.0) -> Any:
        """The next frame. Raises ConnectionClosed or TimeoutError."""
        return json.loads(self.socket.recv(seconds))

    def call(self, action: str, payload: Any, *, seconds: float = 15.0) -> Any:
        """Send a CALL and wait for its CALLRESULT; the payload."""
        message_id = self.say(action, payload)
        kind, answered_id, *rest = self.hear(seconds=seconds)
        assert (kind, answered_id) == (3, message_id), f"{action} was answered with {[kind, answered_id, *rest]}"
        return rest[0]

    def close_code(self, *, seconds: float = 15.0) -> int:
        """The code that the connection is closed with; no frame may come before."""
        try:
            frame = self.hear(seconds=seconds)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006
        raise AssertionError(f"heard {frame}")

    def close(self) -> None:
        self._exits.close()

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None
        return self._socket

    def __enter__(self) -> Caller:
        return self.open()

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


_starts = itertools.count(1)


def start_16() -> dict[str, Any]:
    """A StartTransaction that no other is equal to."""
    return {"connectorId": 1, "idTag": "TAG-1", "meterStart": next(_starts), "timestamp": now()}


def meter_16(transaction_id: int, energy: int) -> dict[str, Any]:
    sampled = [{"value": str(energy), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}]
    return {
        "connectorId": 1,
        "transactionId": transaction_id,
        "meterValue": [{"timestamp": now(), "sampledValue": sampled}],
    }


def stop_16(transaction_id: int, energy: int) -> dict[str, Any]:
    return {"transactionId": transaction_id, "meterStop": energy, "timestamp": now()}


def event_2x(kind: str, number: int, transaction_id: str) -> dict[str, Any]:
    reason = {"Started": "Authorized", "Updated": "MeterValuePeriodic", "Ended": "EVDeparted"}[kind]
    return {
        "eventType": kind,
        "timestamp": now(),
        "triggerReason": reason,
        "seqNo": number,
        "transactionInfo": {"transactionId": transaction_id},
    }


@attrs.frozen
class Answered:
    """A CALL and the CALLRESULT that it got."""

    charge_point_id: str
    message_id: str
    action: str
    payload: Any
    answer: Any


@define(eq=False)
class Ledger:
    """What all charge points of a stream were answered."""

    answered: list[Answered] = field(factory=list)
    errors: list[Any] = field(factory=list)
    """Frames that were no CALLRESULT."""

    _changed: threading.Condition = field(factory=threading.Condition)

    def enter(self, entry: Answered) -> None:
        with self._changed:
            self.answered.append(entry)
            self._changed.notify_all()

    def wait_for(self, count: int, *, seconds: float = 40.0) -> None:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.answered) >= count, seconds)
        assert enough, f"{len(self.answered)} of {count} CALLs were answered in {seconds} s"


class Streaming:
    """Charge points that charge for ever, each in a thread of its own, one CALL after the other.

    One whose connection ends comes back, and says again what was not answered, under a new message id. ``url`` may
    change meanwhile: the gateway has moved.
    """

    def __init__(self, url: str, points: list[tuple[str, str]]) -> None:
        self.url = url
        self.ledger = Ledger()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=point, daemon=True) for point in points]
        self.failures: list[BaseException] = []

    def __enter__(self) -> Streaming:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.stop()
        assert kind is not None or not self.failures, self.failures

    def stop(self) -> None:
        """Each has the answer to its last CALL, and leaves."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _live(self, charge_point_id: str, version: str) -> None:
        try:
            messages = _messages_16() if version == "1.6" else _messages_2x()
            self._charge(charge_point_id, version, messages)
        except BaseException as failure:
            self.failures.append(failure)

    def _charge(self, charge_point_id: str, version: str, messages: _Messages) -> None:
        said = next(messages)
        while not self._ended.is_set():
            try:
                with Caller(self.url, charge_point_id, version) as caller:
                    while not self._ended.is_set():
                        answer = self._ask(caller, *said)
                        said = messages.send(answer)
            except (ConnectionClosed, InvalidStatus, OSError, TimeoutError):
                self._ended.wait(0.2)  # a charge point does not come back at once

    def _ask(self, caller: Caller, action: str, payload: Any) -> Any:
        message_id = caller.say(action, payload)
        kind, answered_id, *rest = frame = caller.hear(seconds=30)
        if (kind, answered_id) != (3, message_id):
            self.ledger.errors.append(frame)
            raise AssertionError(f"{action} was answered with {frame}")
        self.ledger.enter(Answered(caller.charge_point_id, message_id, action, payload, rest[0]))
        return rest[0]


_Messages = Any
"""A generator of (action, payload) that is sent each answer."""


def _messages_16() -> Iterator[tuple[str, Any]]:
    while True:
        started: Any = yield "StartTransaction", start_16()
        transaction_id = started["transactionId"]
        for energy in range(3):
            yield "MeterValues", meter_16(transaction_id, energy)
        yield "StopTransaction", stop_16(transaction_id, 10)


def _messages_2x() -> Iterator[tuple[str, Any]]:
    while True:
        transaction_id = str(uuid.uuid4())
        yield "TransactionEvent", event_2x("Started", 0, transaction_id)
        for number in range(1, 4):
            yield "TransactionEvent", event_2x("Updated", number, transaction_id)
        yield "TransactionEvent", event_2x("Ended", 4, transaction_id)


def check_in_kafka(records: list[dict[str, Any]], answered: list[Answered]) -> None:
    """Every answered CALL is in ``records`` with what it said, and none is there twice."""
    found: dict[tuple[str, str], list[Any]] = {}
    for event in records:
        if "messageId" in event:
            key = event["chargePointId"], event["messageId"]
            found.setdefault(key, []).append((event["payload"]["action"], event["payload"]["payload"]))
    lost = [one for one in answered if (one.charge_point_id, one.message_id) not in found]
    assert not lost, f"{len(lost)} of {len(answered)} answered CALLs are not in Kafka: {lost[:3]}"
    twice = {key: said for key, said in found.items() if len(said) > 1}
    assert not twice, f"more than once in Kafka: {list(twice.items())[:3]}"
    changed = [one for one in answered if found[one.charge_point_id, one.message_id] != [(one.action, one.payload)]]
    assert not changed, f"in Kafka with other content: {changed[:3]}"
