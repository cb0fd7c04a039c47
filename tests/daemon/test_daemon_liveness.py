"""Who is still there, and who only seems to be: silent, vanished, slow and unfinished connections, from outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any, Self

import pytest
import redis as redis_py
from support.callers import Caller, until
from support.certificates import Pki
from support.gateway import Gateway
from support.nodes import connected, record
from support.raw_socket import (
    CONTINUATION,
    PING,
    PONG,
    PeerClosed,
    RawCharger,
    RawSocket,
    frame,
    handshake,
    metric,
)
from support.stations import SUBPROTOCOLS, basic, provision
from support.tls_socket import TlsSocket
from support.topic_tail import TopicTail

INTERVAL = 1.0
TWO_INTERVALS_MS = 2_500
"""With half a second for a machine that has other things to do."""

HANDSHAKE_SECONDS = 2.0
LINGER_SECONDS = 5.0
WRITE_TIMEOUT = 2.0

HEARTBEAT = b'[2,"1","Heartbeat",{}]'
LONG_FRAME_BEGINS = struct.pack("!BBQ4s", 0x81, 0xFF, 200_000, b"") + b" " * 500
"""Of 200,000 bytes, masked with zeros."""

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def pinging(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """It pings every second; who comes back is judged by the limits that an operator has by default."""
    with Gateway(
        redis_url,
        brokers,
        OCPP_PING_INTERVAL=str(INTERVAL),
        OCPP_PING_TIMEOUT="0.5",
        OCPP_HANDSHAKE_TIMEOUT=str(HANDSHAKE_SECONDS),
        OCPP_RECONNECTS_PER_MINUTE="6",
        OCPP_CONNECT_RATE_PER_CHARGE_POINT="0.5",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """It does not wait long for those who do not read."""
    with Gateway(
        redis_url,
        brokers,
        OCPP_WRITE_TIMEOUT=str(WRITE_TIMEOUT),
        OCPP_MAX_BAD_FRAMES="10000",
        OCPP_HANDSHAKE_TIMEOUT=str(HANDSHAKE_SECONDS),
    ) as running:
        yield running


@pytest.fixture
def identities(redis_url: str, charge_point_id: str) -> Callable[[], str]:
    """Gives more provisioned identities."""
    numbers = count(1)

    def another() -> str:
        identity = f"{charge_point_id}-{next(numbers)}"
        provision(redis_url, identity)
        return identity

    return another


class Line:
    """A TCP line to a port of this machine. ``hold`` lets nothing through for now; ``cut`` never, not even an end."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listening.getsockname()[1]}"
        self._is_cut = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def hold(self) -> None:
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        self._is_cut.set()
        self.release()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for thread in self._threads:
            thread.join(5)

    def end(self) -> None:
        """Both sides are told that it is over."""
        self.cut()
        for each in (self._listening, *(end for pair in self._pairs for end in pair)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
                for ends in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=ends, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                if self._is_cut.is_set():
                    return
                target.sendall(data)
            if not self._is_cut.is_set():
                target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def standing_still(gateway: Gateway) -> Iterator[None]:
    os.kill(gateway.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, gateway.pid, os.WSTOPPED)
    try:
        yield
    finally:
        os.kill(gateway.pid, signal.SIGCONT)


def hears_nothing(connection: RawSocket, seconds: float) -> bool:
    """Whether neither a byte nor an end comes in that time."""
    return not select.select([connection._socket], [], [], seconds)[0]


def left_alone(point: Caller, seconds: float) -> bool:
    """Whether no message and no end comes in that time; pings are answered by the library meanwhile."""
    try:
        point.hear(seconds=seconds)
    except TimeoutError:
        return True
    return False


def ended(gateway: Gateway, charge_point_id: str, reason: str, *, seconds: float = 15) -> dict[str, Any]:
    """The log's word on the end of a session, which ended for ``reason``."""
    line = gateway.wait_for("session.closed", charge_point_id=charge_point_id, seconds=seconds)
    assert line["close_reason"] == reason, line
    return line


def told_of(tail: TopicTail, charge_point_id: str, reason: str) -> None:
    event = tail.wait_for(
        lambda event: (event["chargePointId"], event["eventType"]) == (charge_point_id, "StationDisconnected")
    )
    assert event["payload"]["reason"] == reason


def released(redis: redis_py.Redis, charge_point_id: str) -> None:
    until(lambda: record(redis, charge_point_id) is None, f"the session of {charge_point_id} to be given back")


def sockets(gateway: Gateway, state: str) -> float:
    return metric(gateway.http_port, "ocpp_sockets", state=state)


def connected_to(port: int, charge_point_id: str, version: str = "1.6") -> RawCharger:
    headers = list(basic(charge_point_id).items())
    return RawCharger(port, charge_point_id, headers, subprotocols=SUBPROTOCOLS[version])


# Those who are silent, and those who are gone.


def test_one_that_answers_pings_stays_without_a_heartbeat(pinging: Gateway, charge_point_id: str) -> None:
    with Caller(pinging.url(""), charge_point_id) as point:
        assert left_alone(point, 4 * INTERVAL)
        assert "currentTime" in point.call("Heartbeat", {})


def test_pings_come_once_in_an_interval_of_silence(pinging: Gateway, charge_point_id: str) -> None:
    moments = [time.monotonic()]
    with connected(pinging, charge_point_id) as charger:
        for number in range(3):
            ping = charger.socket.frame()
            assert (ping.opcode, ping.payload) == (PING, b"")
            moments.append(time.monotonic())
            charger.socket.send(frame(b"x" * number, PONG))
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert min(gaps) > 0.6 * INTERVAL
        assert max(gaps) < 1.5 * INTERVAL
        charger.send(HEARTBEAT)
        assert charger.receive()[:2] == [3, "1"]


@pytest.mark.parametrize("port", ["ocpp", "http"])
def test_one_that_says_nothing_is_gone_within_two_intervals(
    pinging: Gateway, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str, port: str
) -> None:
    stale = metric(pinging.http_port, "ocpp_closes_total", reason="stale")
    with connected_to(pinging.ocpp_port if port == "ocpp" else pinging.http_port, charge_point_id) as charger:
        assert record(redis, charge_point_id) is not None
        line = ended(pinging, charge_point_id, "stale")
        assert charger.socket.rest()[:2] == b"\x89\x00", "it was asked"
    assert line["duration_ms"] / 1000 > INTERVAL
    assert line["duration_ms"] < TWO_INTERVALS_MS
    assert line["level"] == "info"
    told_of(tail, charge_point_id, "stale")
    released(redis, charge_point_id)
    assert metric(pinging.http_port, "ocpp_closes_total", reason="stale") == stale + 1


def test_a_network_that_vanishes_is_noticed_within_two_intervals(
    pinging: Gateway, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    with Line(pinging.ocpp_port) as line, Caller(line.url, charge_point_id) as point:
        assert left_alone(point, 2 * INTERVAL)
        assert "currentTime" in point.call("Heartbeat", {})
        line.cut()
        began = time.monotonic()
        ended(pinging, charge_point_id, "stale")
        assert time.monotonic() - began < TWO_INTERVALS_MS / 1000
        told_of(tail, charge_point_id, "stale")
        released(redis, charge_point_id)
        with Caller(pinging.url(""), charge_point_id) as back:
            assert "currentTime" in back.call("Heartbeat", {})
        line.end()


def test_who_comes_back_before_that_is_let_in_at_once(
    pinging: Gateway, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    with contextlib.ExitStack() as exits:
        lines = [exits.enter_context(Line(pinging.ocpp_port)) for _ in range(4)]
        for line in lines:  # a modem that loses its network again and again
            point = exits.enter_context(Caller(line.url, charge_point_id))
            assert "currentTime" in point.call("Heartbeat", {})
            line.cut()
        began = time.monotonic()
        back = exits.enter_context(Caller(pinging.url(""), charge_point_id))
        assert "currentTime" in back.call("Heartbeat", {})
        assert time.monotonic() - began < INTERVAL
        ends = [
            event["payload"]["reason"]
            for event in tail.of(charge_point_id, 5 + 5 + 4)
            if event["eventType"] == "StationDisconnected"
        ]
        assert ends == ["replaced"] * 4
        assert left_alone(back, 2 * INTERVAL)
        newest = record(redis, charge_point_id)
        assert newest is not None
        assert newest["epoch"] == 5, "the late ends of the others have not touched it"
        assert "currentTime" in back.call("Heartbeat", {})
        for line in lines:
            line.end()


def test_whatever_it_sends_counts_as_a_sign_of_life(
    pinging: Gateway, redis: redis_py.Redis, tail: TopicTail, identities: Callable[[], str]
) -> None:
    long_call = frame(HEARTBEAT)
    fragments = [frame(bytes([byte]), CONTINUATION, fin=False) for byte in HEARTBEAT[1:-1]]
    signs: dict[str, Iterator[bytes]] = {
        identities(): iter([frame(b"unasked for", PONG)] * 100),
        identities(): iter([frame(b"and you?", PING)] * 100),
        identities(): (long_call[place : place + 1] for place in range(len(long_call))),
        identities(): iter([frame(HEARTBEAT[:1], fin=False), *fragments, frame(HEARTBEAT[-1:], CONTINUATION)]),
    }
    with contextlib.ExitStack() as exits:
        chargers = {each: exits.enter_context(connected(pinging, each)) for each in signs}
        pause = threading.Event()
        for _ in range(16):
            for each, sent in signs.items():
                chargers[each].socket.send(next(sent))
            pause.wait(INTERVAL / 4)
        for each, sent in list(signs.items())[2:]:
            chargers[each].socket.send(b"".join(sent))
        for each in list(signs)[:2]:
            chargers[each].send(HEARTBEAT)
        for charger in chargers.values():
            assert charger.receive()[:2] == [3, "1"], "it was there all the time"
        for each in signs:
            assert ended(pinging, each, "stale")["duration_ms"] > 4 * INTERVAL * 1000
            told_of(tail, each, "stale")
            released(redis, each)


def test_a_frame_that_is_never_finished_ends_by_silence_and_costs_no_more_than_has_come(
    pinging: Gateway, identities: Callable[[], str]
) -> None:
    def resident() -> float:
        return metric(pinging.http_port, "process_resident_memory_bytes")

    waiting = [identities() for _ in range(150)]
    with contextlib.ExitStack() as exits:
        chargers = {each: exits.enter_context(connected(pinging, each)) for each in waiting}
        before = resident()
        for charger in chargers.values():
            charger.socket.send(LONG_FRAME_BEGINS)
        pause = threading.Event()
        for _ in range(5):
            pause.wait(INTERVAL / 2)
            for charger in chargers.values():
                charger.socket.send(b" ")
        assert chargers.keys().isdisjoint(line["charge_point_id"] for line in pinging.logged("session.closed"))
        assert resident() - before < 10 * MEGABYTE, "200 kB were announced 150 times"
        for each in waiting:
            ended(pinging, each, "stale")


def test_without_an_interval_nobody_is_asked(redis_url: str, brokers: str, identities: Callable[[], str]) -> None:
    with (
        Gateway(redis_url, brokers, OCPP_PING_INTERVAL="0", OCPP_PING_TIMEOUT="0.1") as gateway,
        connected(gateway, identities()) as silent,
        connected(gateway, identities()) as unfinished,
    ):
        unfinished.socket.send(frame(HEARTBEAT)[:9])
        assert hears_nothing(silent.socket, 2)
        assert hears_nothing(unfinished.socket, 0)
        silent.send(HEARTBEAT)
        assert silent.receive()[:2] == [3, "1"]


@pytest.fixture(scope="module")
def leisurely(redis_url: str, brokers: str) -> Iterator[Gateway]:
    """It asks between 1.5 and 2.1 seconds after the last sign, and waits 1.6 more."""
    with Gateway(redis_url, brokers, OCPP_PING_INTERVAL="2", OCPP_PING_TIMEOUT="1.6") as running:
        yield running


ALL_ASKED = 2.3


def test_a_gateway_that_stood_still_hears_first_what_came_meanwhile(
    leisurely: Gateway, identities: Callable[[], str]
) -> None:
    pause = threading.Event()
    with Line(leisurely.ocpp_port) as line, contextlib.ExitStack() as exits:
        points = [exits.enter_context(Caller(line.url, identities())) for _ in range(5)]
        for point in points:
            assert "currentTime" in point.call("Heartbeat", {})
        line.hold()
        pause.wait(ALL_ASKED)
        with standing_still(leisurely):
            line.release()  # they are asked now, and answer
            pause.wait(1.8)
        assert left_alone(points[0], 0.5)
        for point in points:
            assert "currentTime" in point.call("Heartbeat", {})


def test_a_machine_that_slept_asks_again_and_ends_only_those_who_are_gone(
    leisurely: Gateway, tail: TopicTail, identities: Callable[[], str]
) -> None:
    pause = threading.Event()
    gone = identities()
    with Line(leisurely.ocpp_port) as line, contextlib.ExitStack() as exits:
        points = [exits.enter_context(Caller(leisurely.url(""), identities())) for _ in range(10)]
        points += [exits.enter_context(Caller(line.url, identities())) for _ in range(5)]
        exits.enter_context(connected(leisurely, gone))
        for point in points:
            assert "currentTime" in point.call("Heartbeat", {})
        line.hold()
        pause.wait(ALL_ASKED)
        with standing_still(leisurely):
            pause.wait(3.5)
        line.release()
        ended(leisurely, gone, "stale")
        told_of(tail, gone, "stale")
        for point in points:
            assert "currentTime" in point.call("Heartbeat", {})


# Those who do not read.


class DeafSocket(RawSocket):
    """A connection of a machine that keeps little which is not read. Over a slow line the other's keeps less too."""

    def __init__(self, port: int, *, is_slow_line: bool) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if is_slow_line:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self._socket.settimeout(15)
        self._socket.connect(("127.0.0.1", port))
        self._data = b""


@contextlib.contextmanager
def deaf(
    port: int, charge_point_id: str, version: str, *, tls: ssl.SSLContext | None = None, is_slow_line: bool = True
) -> Iterator[RawSocket]:
    """A charge point on such a machine, connected."""
    with DeafSocket(port, is_slow_line=is_slow_line) as connection:
        if tls is not None:
            connection._socket = tls.wrap_socket(connection._socket, server_hostname="127.0.0.1")
        asked = handshake(
            f"/ocpp/{charge_point_id}", subprotocols=SUBPROTOCOLS[version], headers=basic(charge_point_id).items()
        )
        connection.send(asked)
        assert connection.response().status == 101
        yield connection


def some_calls(number: int) -> bytes:
    """CALLs with message ids as long as they may be. Most are refused: those are answered faster than Heartbeats."""
    actions = [b"NoSuchAction"] * 19 + [b"Heartbeat"]
    return b"".join(frame(b'[2,"%036d","%b",{}]' % (each, actions[each % 20])) for each in range(number))


CALLS = some_calls(500)
UNKNOWN = frame(b'[9,"%036d"]' % 0) * 500
"""Messages that 2.0.1 wants answered, each with a CALLERROR, and by which no connection ends."""


def fill(connection: RawSocket, data: bytes) -> None:
    """Send, and never read, until the other side has had enough."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # cut off already
        assert connection.sends_at_most(data, 30 * MEGABYTE), "it took everything"


def test_one_that_never_reads_is_let_go_of(
    hasty: Gateway, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    with deaf(hasty.ocpp_port, charge_point_id, "1.6") as connection:
        fill(connection, CALLS)
        began = time.monotonic()
        line = ended(hasty, charge_point_id, "slow_consumer")
        assert time.monotonic() - began < WRITE_TIMEOUT + 1
        assert line["duration_ms"] > WRITE_TIMEOUT * 1000
    told_of(tail, charge_point_id, "slow_consumer")
    released(redis, charge_point_id)


def test_the_system_does_not_keep_more_for_one_that_never_reads(hasty: Gateway, charge_point_id: str) -> None:
    with deaf(hasty.ocpp_port, charge_point_id, "2.0.1", is_slow_line=False) as connection:
        fill(connection, UNKNOWN)
        assert ended(hasty, charge_point_id, "slow_consumer")["bytes_out"] < MEGABYTE, "it was not read either, then"


def test_many_answers_at_once_are_not_kept_beyond_a_size(
    redis_url: str, brokers: str, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    limits = {
        "OCPP_WRITE_TIMEOUT": "600",
        "OCPP_MAX_WRITE_BUFFER_BYTES": "65536",
        "OCPP_MAX_WAITING_CALLS": "1000",  # whose answers are 90 kB
    }
    with (
        Gateway(redis_url, brokers, **limits) as gateway,
        deaf(gateway.ocpp_port, charge_point_id, "1.6") as connection,
    ):
        fill(connection, CALLS)
        ended(gateway, charge_point_id, "slow_consumer")
        told_of(tail, charge_point_id, "slow_consumer")
        released(redis, charge_point_id)


def test_one_that_reads_late_misses_nothing(hasty: Gateway, charge_point_id: str) -> None:
    number = 10_000
    counts = [-1.0, metric(hasty.http_port, "ocpp_calls_total")]
    begun = counts[-1]

    def is_no_longer_read() -> bool:
        counts.append(metric(hasty.http_port, "ocpp_calls_total"))
        return counts[-2] == counts[-1] > begun

    with deaf(hasty.ocpp_port, charge_point_id, "1.6") as connection:
        sending = threading.Thread(target=connection.send, args=(some_calls(number),), daemon=True)
        sending.start()
        until(is_no_longer_read, "an end of its patience", seconds=WRITE_TIMEOUT)
        assert counts[-1] < begun + number
        answers = [json.loads(connection.frame().payload) for _ in range(number)]
        sending.join(5)
    assert [answer[1] for answer in answers] == [f"{each:036d}" for each in range(number)]
    assert sum(answer[0] == 3 for answer in answers) == number / 20
    assert {answer[2] for answer in answers if answer[0] == 4} == {"NotImplemented"}


# Those who never finish what they begin.


@pytest.fixture(scope="module")
def over_tls(redis_url: str, brokers: str, pki: Pki) -> Iterator[Gateway]:
    with Gateway(
        redis_url,
        brokers,
        OCPP_HANDSHAKE_TIMEOUT=str(HANDSHAKE_SECONDS),
        OCPP_WRITE_TIMEOUT=str(WRITE_TIMEOUT),
        OCPP_PING_INTERVAL=str(INTERVAL),
        OCPP_PING_TIMEOUT="0.5",
        FLOOD_LOG_COOLDOWN="0",
        **pki.settings("off"),
    ) as running:
        yield running


def test_over_tls_too_one_that_never_reads_or_never_answers_is_let_go_of(
    over_tls: Gateway, redis: redis_py.Redis, tail: TopicTail, pki: Pki, identities: Callable[[], str]
) -> None:
    mute, slow = identities(), identities()
    with TlsSocket(over_tls.ocpp_port, pki.client()) as connection:
        assert connection.upgrade(mute, basic(mute).items()).status == 101
        assert ended(over_tls, mute, "stale")["duration_ms"] < TWO_INTERVALS_MS
    with deaf(over_tls.ocpp_port, slow, "2.0.1", tls=pki.client()) as connection:
        fill(connection, UNKNOWN)
        ended(over_tls, slow, "slow_consumer")
    for each, reason in ((mute, "stale"), (slow, "slow_consumer")):
        told_of(tail, each, reason)
        released(redis, each)


def client_hello(pki: Pki) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        pki.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


def dribble(connections: list[RawSocket], data: bytes, seconds: float) -> None:
    """Send ``data`` over each of them, a byte at a time, until all have been ended; that must be within ``seconds``."""
    left = list(connections)
    give_up = time.monotonic() + seconds
    pause = threading.Event()
    for place in range(len(data)):
        if not left:
            return
        assert time.monotonic() < give_up, f"{len(left)} of {len(connections)} are still connected"
        for connection in tuple(left):
            try:
                connection.send(data[place : place + 1])
            except PeerClosed:
                left.remove(connection)
        pause.wait(0.1)
    raise AssertionError("all was sent")


@pytest.mark.parametrize("kind", ["header", "tls"])
def test_a_byte_now_and_then_wins_no_time_and_keeps_nobody_else_waiting(
    pinging: Gateway, over_tls: Gateway, pki: Pki, address: str, charge_point_id: str, kind: str
) -> None:
    gateway = over_tls if kind == "tls" else pinging
    hello = client_hello(pki)
    head = handshake(f"/ocpp/{charge_point_id}", headers=[("X-A", "a" * 200)])
    refused = metric(gateway.http_port, "ocpp_handshakes_total", reason="handshake_timeout")
    with contextlib.ExitStack() as exits:
        slow = [exits.enter_context(RawSocket(gateway.ocpp_port, address=address)) for _ in range(100)]
        until(lambda: sockets(gateway, "opening") >= 100, "them to be accepted")
        began = time.monotonic()
        if kind == "tls":
            with TlsSocket(gateway.ocpp_port, pki.client()) as honest:
                assert honest.upgrade(charge_point_id, basic(charge_point_id).items()).status == 101
        else:
            with connected(gateway, charge_point_id) as charger:
                assert charger.call("1", "Heartbeat", {})[0] == 3
        assert time.monotonic() - began < 1
        dribble(slow, hello if kind == "tls" else head, HANDSHAKE_SECONDS + LINGER_SECONDS + 3)
        assert time.monotonic() - began > HANDSHAKE_SECONDS - 0.5
    line = gateway.wait_for("handshake.refused", peer=address)
    assert (line["reason"], line["status"], line["level"]) == ("handshake_timeout", 408, "warn")
    assert metric(gateway.http_port, "ocpp_handshakes_total", reason="handshake_timeout") == refused + 100
    until(lambda: sockets(gateway, "opening") == 0, "all of them to be forgotten")


def test_who_does_not_even_read_the_refusal_is_forgotten_too(pinging: Gateway, address: str) -> None:
    with contextlib.ExitStack() as exits:
        for _ in range(20):
            exits.enter_context(RawSocket(pinging.ocpp_port, address=address)).send(b"GET /ocpp")
        assert pinging.wait_for("handshake.refused", peer=address)["reason"] == "handshake_timeout"
        until(
            lambda: sockets(pinging, "opening") == 0,
            "all of them to be forgotten",
            seconds=HANDSHAKE_SECONDS + 1 + LINGER_SECONDS,
        )


HALVES = {
    "nothing": lambda _: b"",
    "half a header block": lambda whole: whole[: len(whole) // 2],
}


@pytest.mark.parametrize("half", HALVES)
def test_a_half_closed_line_is_closed_before_the_upgrade(hasty: Gateway, charge_point_id: str, half: str) -> None:
    opening = sockets(hasty, "opening")
    with RawSocket(hasty.ocpp_port) as connection:
        connection.send(HALVES[half](handshake(f"/ocpp/{charge_point_id}", headers=basic(charge_point_id).items())))
        connection.finish()
        began = time.monotonic()
        assert connection.rest() == b""
        assert time.monotonic() - began < HANDSHAKE_SECONDS / 2
    assert sockets(hasty, "opening") == opening


@pytest.mark.parametrize(
    "sent",
    [b"", frame(HEARTBEAT)[:9], frame(HEARTBEAT, announced=200_000)],
    ids=["nothing", "part of a frame", "part of a large frame"],
)
def test_a_half_closed_line_is_closed_after_the_upgrade(
    hasty: Gateway, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str, sent: bytes
) -> None:
    with connected(hasty, charge_point_id) as charger:
        charger.socket.send(sent)
        charger.socket.finish()
        ended(hasty, charge_point_id, "connection_lost", seconds=2)
        assert charger.socket.rest() == b""
    told_of(tail, charge_point_id, "connection_lost")
    released(redis, charge_point_id)
