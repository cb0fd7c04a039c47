"""Handshakes as load: charge points that connect, become a WebSocket, close it and leave, some at the same time.

One process, one epoll, and the TLS of Python's ssl module. A visit is TCP, TLS, the upgrade request and its 101, a
close frame each way, TLS's own goodbye, and the end of the connection. The charge points take turns, each with an
identity and a certificate of its own, so that no visit finds the one before it still there. Runs are bounded by time.
"""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Generator
from contextlib import suppress

from attrs import define, field, frozen
from calls import client_frame
from certificates import SERVER_NAME
from charge_points import Connection, LoadError, Target
from load import no_garbage_collection, quantile
from procfs import cpu_seconds

MOST_ERRORS = 20
"""A run with more is given up: it measures something else."""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_WAITS = (BlockingIOError, ssl.SSLWantReadError)
_LINE = b"handshake\n"

_Steps = Generator[int, None, None]
"""Part of a visit: yields the event that it waits for."""


@frozen(kw_only=True)
class HandshakeResult:
    """What a run measured. Latency is from connect() to the 101, or to the answered line."""

    handshakes: int
    seconds: float
    handshakes_per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_us_per_handshake: float
    generator_cpu_us_per_handshake: float
    generator_cpu_share: float
    """Of one core. Near 1.0 the generator, not the server, was the limit."""
    errors: dict[str, int]


@define(eq=False)
class _Visit:
    number: int
    socket: socket.socket
    deadline: float
    steps: _Steps | None = None
    awaited: int = _OUT


@define
class HandshakeLoad:
    """Visits of ``charge_points`` charge points to one server."""

    target: Target
    charge_points: int
    in_flight: int = 32
    timeout: float = 15.0
    """Seconds that a visit may take."""

    _errors: Counter[str] = field(init=False, factory=Counter)
    _first_error: str = field(init=False, default="")
    _latencies: array[float] = field(init=False, factory=lambda: array("f"))
    _next_number: int = field(init=False, default=1)
    _open: dict[int, _Visit] = field(init=False, factory=dict)
    _sessions: dict[int, ssl.SSLSession] = field(init=False, factory=dict)
    _epoll: select.epoll = field(init=False, factory=select.epoll)

    def prime(self) -> None:
        """One visit of every charge point, so that the next ones have sessions to resume."""
        with no_garbage_collection():
            end = time.perf_counter() + 60 + self.charge_points / 20
            self._run(end, self.charge_points)
        if len(self._sessions) < self.charge_points:
            raise LoadError(f"{len(self._sessions)} of {self.charge_points} charge points got a session to resume")

    def run(self, seconds: float, *, warm_up: float, server_pid: int) -> HandshakeResult:
        """Visits for ``warm_up`` + ``seconds``; only the latter are measured. Raises LoadError where there are none."""
        self._errors.clear()
        with no_garbage_collection():
            self._run(time.perf_counter() + warm_up)
            self._latencies = array("f")
            server, generator = cpu_seconds(server_pid), time.process_time()
            began = time.perf_counter()
            self._run(began + seconds)
            took = time.perf_counter() - began
            server, generator = cpu_seconds(server_pid) - server, time.process_time() - generator
            measured, self._latencies = self._latencies, array("f")
            self._leave(time.perf_counter() + self.timeout)
        if not measured:
            raise LoadError(f"no handshakes at all; {self._first_error or 'none came to its end in time'}")
        ordered = sorted(measured)
        return HandshakeResult(
            handshakes=len(measured),
            seconds=took,
            handshakes_per_second=len(measured) / took,
            p50_ms=quantile(ordered, 0.50) * 1e3,
            p99_ms=quantile(ordered, 0.99) * 1e3,
            server_cpu_us_per_handshake=server / len(measured) * 1e6,
            generator_cpu_us_per_handshake=generator / len(measured) * 1e6,
            generator_cpu_share=generator / took,
            errors=dict(self._errors),
        )

    def _run(self, end: float, most: int | None = None) -> None:
        """Visits until ``end`` (perf_counter); those under way then go on. With ``most``: so many, and to their end."""
        started = 0
        while time.perf_counter() < end and (most is None or started < most or self._open):
            while len(self._open) < self.in_flight and (most is None or started < most):
                self._begin()
                started += 1
            self._turn()

    def _leave(self, end: float) -> None:
        while self._open and time.perf_counter() < end:
            self._turn()

    def _begin(self) -> None:
        number = self._next_number
        self._next_number = number % self.charge_points + 1
        sock = socket.socket()
        sock.setblocking(False)
        visit = _Visit(number, sock, time.perf_counter() + self.timeout)
        visit.steps = self._steps(visit)
        code = sock.connect_ex((self.target.host, self.target.port))
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._failed(visit, OSError(code, os.strerror(code)))
            return
        self._open[sock.fileno()] = visit
        self._epoll.register(sock.fileno(), visit.awaited)

    def _turn(self) -> None:
        for descriptor, _ in self._epoll.poll(0.1):
            self._advance(descriptor, self._open[descriptor])
        now = time.perf_counter()
        # Visits begin in order, so the first is the oldest.
        oldest = next(iter(self._open.items()), None)
        if oldest is not None and oldest[1].deadline < now:
            self._end(*oldest)
            self._failed(oldest[1], TimeoutError("timed out"))

    def _advance(self, descriptor: int, visit: _Visit) -> None:
        assert visit.steps is not None
        try:
            awaited = next(visit.steps)
        except StopIteration:
            self._end(descriptor, visit)
        except (LoadError, OSError) as error:
            self._end(descriptor, visit)
            self._failed(visit, error)
        else:
            if awaited != visit.awaited:
                visit.awaited = awaited
                self._epoll.modify(descriptor, awaited)

    def _end(self, descriptor: int, visit: _Visit) -> None:
        del self._open[descriptor]
        self._epoll.unregister(descriptor)
        visit.socket.close()

    def _failed(self, visit: _Visit, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, LoadError):
            text = f"charge point {visit.number}: {text}"
        self._first_error = self._first_error or text
        self._errors[type(error).__name__] += 1
        if self._errors.total() > MOST_ERRORS:
            raise LoadError(f"more than {MOST_ERRORS} handshakes failed; the first: {self._first_error}")

    def _steps(self, visit: _Visit) -> _Steps:
        """One visit, from the moment that TCP is connected or has failed."""
        began = time.perf_counter()
        code = visit.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        visit.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.target.tls is not None:
            yield from self._tls(visit)
        if self.target.reverses_lines:
            yield from _line(visit)
        else:
            yield from self._upgrade(visit)
        self._latencies.append(time.perf_counter() - began)
        self._keep_session(visit)
        yield from _goodbye(visit, has_frames=not self.target.reverses_lines)

    def _tls(self, visit: _Visit) -> _Steps:
        assert self.target.tls is not None
        tls = self.target.tls.context(visit.number).wrap_socket(
            visit.socket,
            do_handshake_on_connect=False,
            server_hostname=SERVER_NAME,
            session=self._sessions.get(visit.number),
        )
        visit.socket = tls  # the same descriptor
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                yield _IN
            else:
                break
        if visit.number in self._sessions and not tls.session_reused:
            raise LoadError(f"charge point {visit.number}: its session was not resumed")

    def _keep_session(self, visit: _Visit) -> None:
        # TLS 1.3 sends sessions after the handshake (RFC 8446, 4.6.1); our servers do so before their first answer.
        if self.target.tls is not None and self.target.tls.resumes:
            assert isinstance(visit.socket, ssl.SSLSocket)
            session = visit.socket.session
            if session is None or not session.has_ticket:
                raise LoadError(f"charge point {visit.number} got no session to resume")
            self._sessions[visit.number] = session

    def _upgrade(self, visit: _Visit) -> _Steps:
        key = base64.b64encode(os.urandom(16))
        visit.socket.send(self.target.upgrade_request(visit.number, key))
        data = b""
        while b"\r\n\r\n" not in data:
            data += yield from _received(visit, "during the upgrade")
        head, _, rest = data.partition(b"\r\n\r\n")
        self.target.check_upgrade(visit.number, key, head)
        if rest:
            raise LoadError(f"charge point {visit.number}: {rest[:40]!r} came with the 101")


def _line(visit: _Visit) -> _Steps:
    visit.socket.send(_LINE)
    data = b""
    while not data.endswith(b"\n"):
        data += yield from _received(visit, "waiting for a line")
    if data != _LINE[-2::-1] + b"\n":
        raise LoadError(f"charge point {visit.number}: {data[:40]!r} came for a line")


def _goodbye(visit: _Visit, *, has_frames: bool) -> _Steps:
    """The close frames (RFC 6455, 5.5.1), the server's end of the connection, and TLS's close_notify."""
    if has_frames:
        visit.socket.send(client_frame(b"\x03\xe8", os.urandom(4), opcode=8))
        connection = Connection(visit.number, visit.socket)
        while (message := connection.next_message()) is None:
            connection.buffer += yield from _received(visit, "waiting for its close frame")
        if message[0] != 8:
            raise LoadError(f"charge point {visit.number}: opcode {message[0]} came for a close frame")
        while (yield from _data(visit)):
            pass
    if isinstance(visit.socket, ssl.SSLSocket):
        # The server may have gone already, or not answer: all is said.
        with suppress(OSError):
            visit.socket.unwrap()


def _received(visit: _Visit, when: str) -> Generator[int, None, bytes]:
    data = yield from _data(visit)
    if not data:
        raise LoadError(f"charge point {visit.number}, {when}: the server closed the connection")
    return data


def _data(visit: _Visit) -> Generator[int, None, bytes]:
    """What has come; empty: the server's end of the connection."""
    while True:
        try:
            return visit.socket.recv(16384)
        except _WAITS:
            yield _IN
