"""A closed-loop OCPP-J load generator: every connection has exactly one CALL outstanding, as OCPP-J demands.

One process, one epoll, raw sockets. An answer is checked (its type and its message id) before the next CALL goes out;
the first answer of a connection is checked whole. Runs are bounded by time and by count, and what happens during the
warm-up is not measured.

    python benchmarks/load.py --port 8080 --identity CP-%05d --password-file FILE --connections 50 --seconds 5
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from attrs import frozen
from calls import NumberedFrames, client_frame
from charge_points import Connection, Fleet, LoadError, Target, raise_open_files
from procfs import cpu_seconds

MOST_MESSAGES = 5_000_000
"""Bound of any run: each measured message takes four bytes of our memory."""

_NOTHING = b"\0"
"""Expected by a connection whose CALL has been answered: no answer begins like this."""

_IN, _IN_OUT = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT


@frozen(kw_only=True)
class LoadResult:
    """What a run measured. Rates per second, times in the unit of their name."""

    connections: int
    messages: int
    seconds: float
    messages_per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_us_per_message: float | None
    generator_cpu_share: float
    """Of one core. Near 1.0 the generator, not the server, was the limit."""
    errors: dict[str, int]


def run(
    fleet: Fleet,
    seconds: float,
    *,
    warm_up: float = 1.0,
    server_pid: int | None = None,
    most_messages: int = MOST_MESSAGES,
) -> LoadResult:
    """MeterValues on all connections for ``warm_up`` + ``seconds``; only the latter are measured."""
    frames = NumberedFrames(f"bench-{os.urandom(4).hex()}-")
    for connection in fleet.connections:
        connection.frames = frames.pieces(connection.transaction_id)
        connection.socket.setblocking(False)
    loop = _ClosedLoop(fleet, frames.prefix)
    with no_garbage_collection(), loop:
        loop.start()
        loop.run_until(time.perf_counter() + warm_up, most_messages)
        loop.latencies = array("f")
        server, generator = _cpu(server_pid), time.process_time()
        began = time.perf_counter()
        loop.run_until(began + seconds, most_messages)
        took = time.perf_counter() - began
        server, generator = _cpu(server_pid) - server, time.process_time() - generator
        measured, loop.latencies = loop.latencies, array("f")
        loop.drain(time.perf_counter() + 10)
    if not measured:
        raise LoadError(f"no answers at all; errors: {dict(fleet.errors)}")
    ordered = sorted(measured)
    return LoadResult(
        connections=len(fleet.connections),
        messages=len(measured),
        seconds=took,
        messages_per_second=len(measured) / took,
        p50_ms=quantile(ordered, 0.50) * 1e3,
        p99_ms=quantile(ordered, 0.99) * 1e3,
        server_cpu_us_per_message=server / len(measured) * 1e6 if server_pid is not None else None,
        generator_cpu_share=generator / took,
        errors=dict(fleet.errors),
    )


class _ClosedLoop:
    """The measured part: an answer in, the next CALL out."""

    def __init__(self, fleet: Fleet, prefix: str) -> None:
        self._fleet = fleet
        message_type = 2 if fleet.target.echoes else 3
        self._expected = b'[%d,"' % message_type + prefix.encode()
        self._sent = 0
        self._open = {connection.socket.fileno(): connection for connection in fleet.connections}
        self.latencies = array("f")
        """Seconds from sending a CALL to having its answer."""

    def __enter__(self) -> None:
        self._epoll = select.epoll()
        for descriptor in self._open:
            self._epoll.register(descriptor, _IN)

    def __exit__(self, *_: object) -> None:
        self._epoll.close()

    def start(self) -> None:
        """One CALL on every connection."""
        for connection in list(self._open.values()):
            self._send(connection)

    def run_until(self, end: float, most_messages: int) -> None:
        """Go round until ``end`` (perf_counter), ``most_messages`` answers, or the last connection is lost."""
        clock, take = time.perf_counter, self._take
        while self._open and clock() < end and len(self.latencies) < most_messages:
            for descriptor, events in self._epoll.poll(0.1):
                if take(descriptor, events):
                    self._send(self._open[descriptor])

    def drain(self, end: float) -> None:
        """Wait for what is outstanding and send nothing more."""
        outstanding = len(self._open)
        while outstanding and time.perf_counter() < end:
            for descriptor, events in self._epoll.poll(0.1):
                if self._take(descriptor, events) or descriptor not in self._open:
                    outstanding -= 1
        if outstanding:
            self._fleet.errors["unanswered"] += outstanding

    def _send(self, connection: Connection) -> None:
        number = self._sent
        self._sent = number + 1
        connection.expected = b'%b%08d",' % (self._expected, number)
        assert connection.frames is not None
        frame = connection.frames.frame(number)
        connection.sent_at = time.perf_counter()
        self._write(connection, frame)

    def _write(self, connection: Connection, data: bytes) -> None:
        if connection.unsent:
            connection.unsent += data
            return
        sent = 0
        try:
            sent = connection.socket.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self._lose(connection, "connection_lost")
            return
        if sent < len(data):
            connection.unsent = data[sent:]
            self._epoll.modify(connection.socket.fileno(), _IN_OUT)

    def _take(self, descriptor: int, events: int) -> bool:
        """Read from a connection that is ready; True when its outstanding CALL has been answered."""
        connection = self._open[descriptor]
        if connection.unsent and events & select.EPOLLOUT:
            data, connection.unsent = connection.unsent, b""
            self._epoll.modify(descriptor, _IN)
            self._write(connection, data)
        if not events & ~select.EPOLLOUT or descriptor not in self._open:
            return False
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._lose(connection, "connection_lost")
            return False
        connection.buffer = connection.buffer + data if connection.buffer else data
        answered = False
        try:
            while (message := connection.next_message()) is not None:
                answered = self._check(connection, *message) or answered
        except LoadError:
            self._lose(connection, "bad_websocket_frame")
        return answered and descriptor in self._open

    def _check(self, connection: Connection, opcode: int, data: bytes) -> bool:
        quick = connection.answered and data.startswith(connection.expected)
        if opcode == 1 and (quick or self._is_answer(connection, data)):
            self.latencies.append(time.perf_counter() - connection.sent_at)
            connection.answered += 1
            connection.expected = _NOTHING
            return True
        if opcode == 9:
            self._write(connection, client_frame(data, os.urandom(4), opcode=10))
        elif opcode == 8:
            self._lose(connection, f"closed_{int.from_bytes(data[:2], 'big')}")
        else:
            self._fleet.errors["callerror" if data.startswith(b"[4,") else "wrong_answer"] += 1
            # The loop must go on: this is the answer that there is, if it is one to our CALL.
            return data.startswith(b"[4,")
        return False

    def _is_answer(self, connection: Connection, data: bytes) -> bool:
        """The whole look: at a connection's first answer, and for servers that write JSON with spaces."""
        if connection.expected == _NOTHING:
            return False
        try:
            frame = json.loads(data)
        except ValueError:
            return False
        expected = json.loads(connection.expected + b"null]")
        length = 4 if self._fleet.target.echoes else 3
        return (
            isinstance(frame, list) and len(frame) == length and frame[:2] == expected[:2] and type(frame[-1]) is dict
        )

    def _lose(self, connection: Connection, reason: str) -> None:
        self._fleet.errors[reason] += 1
        descriptor = connection.socket.fileno()
        if self._open.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            connection.socket.close()


def _cpu(pid: int | None) -> float:
    return cpu_seconds(pid) if pid is not None else 0.0


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pauses of our own would count as the server's latency; the loop makes no cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> int:
    """Load one server that is running already."""
    parser = argparse.ArgumentParser(description="Closed-loop OCPP-J 1.6 load: MeterValues, one CALL per connection.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/ocpp/1.6/%s", help="%%s is the identity")
    parser.add_argument("--identity", default="CP-B%05d", help="%%05d is the number of the charge point")
    parser.add_argument("--password-file", type=Path, help="first line: the password of all charge points")
    parser.add_argument("--echo", action="store_true", help="the server is an echo, not a CSMS")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=MOST_MESSAGES, help="stop after so many measured messages")
    parser.add_argument("--pid", type=int, help="server process whose CPU time to read")
    given = parser.parse_args()
    raise_open_files(given.connections + 100)
    password = given.password_file.read_text().splitlines()[0] if given.password_file else None
    fleet = Fleet(
        Target(
            host=given.host,
            port=given.port,
            path=given.path.replace("%s", given.identity),
            user=given.identity,
            password=password,
            echoes=given.echo,
        )
    )
    try:
        fleet.open(given.connections)
        fleet.begin_sessions()
        result = run(fleet, given.seconds, warm_up=given.warm_up, server_pid=given.pid, most_messages=given.count)
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        fleet.close()
    for name, value in attrs.asdict(result).items():
        print(f"{name}: {value}")
    return 1 if result.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
