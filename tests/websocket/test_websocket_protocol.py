"""A connection from its first byte on, with real sessions behind it: what is taken of a read, and when."""

from __future__ import annotations

import gc
import json
import re
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from attrs import define, field
from routing.routing_parts import station
from session.session_parts import LIMITS, Fleet, session_identity, standing
from support.guards import NO_GUARD_LIMITS
from support.raw_socket import CLOSE, CONTINUATION, PING, PONG, TEXT, frame, handshake
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.path import parse_target
from ocpp_gateway.handshake.proxies import Origin
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.subprotocol import offered
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.session.keepalive import KeepAlive
from ocpp_gateway.session.lifecycle import Phase
from ocpp_gateway.session.opening import Admitted, Request
from ocpp_gateway.session.pacing import MessageLimits
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.websocket import handshaking
from ocpp_gateway.websocket.factory import OcppFactory

EIGHT = MessageLimits(rate=Rate(8.0, 4), patience=3.0)
FAREWELL = frame(struct.pack("!H", 1000), CLOSE)


class Transport(StringTransport):
    """What a TCP transport has besides."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer, self.streaming = producer, streaming

    def unregisterProducer(self) -> None:
        self.producer = None

    def abortConnection(self) -> None:
        self.aborted = True

    @property
    def is_read(self) -> bool:
        return self.producerState == "producing"


@define(eq=False)
class Door:
    """Lets everybody in, and knows who was given up."""

    rests_on: Any = field(factory=standing)
    asked: Deferred[None] = field(factory=Deferred)
    claims: Any = field(init=False)
    released: list[tuple[str, int]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.claims = self

    def origin(self, head: RequestHead, peer: str, *, is_secure: bool) -> Origin:
        return Origin(peer, is_secure)

    def read(self, head: RequestHead, origin: Origin, certificate: Any) -> Request:
        return Request(
            path=parse_target(head.target, re.compile("CP-.*")),
            offer=offered(head.values("sec-websocket-protocol")),
            credentials=Credentials.from_headers({}),
            origin=origin,
            certificate=certificate,
        )

    async def admit(self, request: Request) -> Admitted:
        await self.asked
        return Admitted(subprotocol="ocpp1.6", session=(session_identity(), station(), self.rests_on))

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        self.released.append((charge_point_id, epoch))


@define(eq=False)
class Counters:
    accepted: int = 0

    def count_handshake(self, reason: str) -> None:
        self.accepted += 1

    def count_tls(self, version: str, cipher: str) -> None:
        """Nobody speaks TLS here."""


@define(eq=False)
class World:
    schemas: Schemas
    messages: MessageLimits = LIMITS.messages
    door: Door = field(factory=Door)
    nobody: Any = None
    fleet: Fleet = field(init=False)
    guard: Guard = field(init=False)
    factory: OcppFactory = field(init=False)
    transport: Transport = field(init=False)
    protocol: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fleet = Fleet(self.schemas, self.nobody)
        clock = self.fleet.clock
        self.fleet.sessions.limits = attrs.evolve(LIMITS, messages=self.messages)
        self.guard = Guard(limits=NO_GUARD_LIMITS, is_proxy=lambda _: False, clock=clock)
        door: Any = self.door
        self.factory = OcppFactory(
            reactor=clock.timers,
            opening=door,
            sessions=self.fleet.sessions,
            refusals=self.nobody,
            guard=self.guard,
            keepalive=KeepAlive(clock=clock, interval=0, timeout=20, random=lambda: 0.5),
            certificates=self.nobody,
            counters=Counters(),
            is_tls=False,
            handshake_timeout=30.0,
            max_message_bytes=262_144,
            write_timeout=30.0,
            max_write_buffer_bytes=1_048_576,
            compression=True,
            clock=clock,
        )

    def connect(self) -> World:
        self.protocol = self.factory.buildProtocol(None)
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)
        self.hear(handshake("/ocpp/1.6/CP-001"))
        self.door.asked.callback(None)
        self.settle()
        self.fleet.bus.records.clear()
        return self

    def hear(self, wire: bytes) -> None:
        """One read."""
        self.protocol.dataReceived(wire)

    def settle(self) -> None:
        while self.fleet.bus.waiting:
            self.fleet.bus.settle()

    def end(self) -> None:
        self.transport.unregisterProducer()
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.settle()

    @property
    def session(self) -> Any:
        return self.protocol._session

    @property
    def published(self) -> list[str]:
        """The ids of the CALLs, in order."""
        return [record.event["messageId"] for record in self.fleet.bus.records if "messageId" in record.event]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(handshaking._log, "observer", seen.append)
    return seen


def call(number: int) -> bytes:
    return frame(json.dumps([2, str(number), "Heartbeat", {}]).encode())


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


# One read may be many messages.


def test_of_one_read_no_more_is_taken_than_may_wait_and_the_rest_later(schemas: Schemas) -> None:
    world = World(schemas).connect()
    world.hear(b"".join(map(call, range(60))) + FAREWELL)
    assert not world.transport.is_read
    assert world.session.messages_in == 1 + 16
    world.hear(call(1000))  # what TLS had read already; behind a close frame, so nobody's
    assert world.session.messages_in == 1 + 16
    world.settle()
    assert world.published == names(60)
    assert world.protocol.wasClean
    assert world.protocol.remoteCloseCode == 1000
    world.end()


def test_who_is_sent_away_meanwhile_is_heard_to_say_goodbye_and_nothing_else(schemas: Schemas) -> None:
    world = World(schemas).connect()
    session = world.session
    world.hear(b"".join(map(call, range(40))) + FAREWELL)
    assert not world.transport.is_read
    session.close(CloseReason.KICKED)
    assert world.transport.is_read
    assert (session.messages_in, session.close_reason) == (1 + 16, CloseReason.KICKED)
    assert world.protocol.wasClean
    assert world.transport.aborted
    world.end()
    assert world.published == names(1)


def test_of_one_read_that_is_too_fast_the_rest_is_taken_in_its_time(schemas: Schemas) -> None:
    world = World(schemas, EIGHT).connect()
    world.hear(b"".join(map(call, range(20))))
    assert not world.transport.is_read
    for taken in range(5, 21):
        world.settle()
        assert world.published == names(taken)
        world.fleet.clock.advance(0.125)
    assert world.transport.is_read
    assert world.session.close_reason is None
    world.end()


# What is no message costs as much.


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_pings_are_paced_like_messages_and_a_flood_of_them_is_one(schemas: Schemas, opcode: int) -> None:
    world = World(schemas, EIGHT).connect()
    session = world.session
    world.hear(call(1))
    world.hear(frame(b"", opcode) * 3)
    assert world.transport.is_read
    world.hear(frame(b"", opcode) * 1000)
    assert not world.transport.is_read
    assert len(world.protocol.data) == 999 * 6
    for _ in range(23):
        world.fleet.clock.advance(0.125)
        assert session.close_reason is None
    world.fleet.clock.advance(0.125)
    world.fleet.clock.advance(0.125)
    assert session.close_reason is CloseReason.MESSAGE_FLOOD
    world.hear(FAREWELL)
    assert world.protocol.wasClean
    world.end()


@pytest.mark.parametrize("wire", [frame(b"", PING), call(1)], ids=["ping", "call"])
def test_who_has_sent_more_than_is_read_does_not_wait_for_answers(schemas: Schemas, wire: bytes) -> None:
    world = World(schemas, EIGHT).connect()
    session = world.session
    world.hear(wire * 1000)
    for _ in range(24):
        assert session.close_reason is None
        world.settle()  # so that no CALL is under way
        world.fleet.clock.advance(0.125)
    assert session.close_reason is CloseReason.MESSAGE_FLOOD
    world.hear(FAREWELL)
    world.end()


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_who_pings_too_fast_for_a_moment_is_slowed(schemas: Schemas, opcode: int) -> None:
    world = World(schemas, EIGHT).connect()
    world.hear(frame(b"", opcode) * 24)
    assert world.protocol.data != b""
    for _ in range(24 - 4):
        assert not world.transport.is_read
        world.fleet.clock.advance(0.125)
    assert world.transport.is_read
    assert world.protocol.data == b""
    assert world.session.close_reason is None
    world.end()


def test_so_many_fragments_count_as_a_message(schemas: Schemas) -> None:
    world = World(schemas, EIGHT).connect()
    world.hear(frame(b"", TEXT, fin=False) + frame(b"", CONTINUATION, fin=False) * (64 * 5 - 2))
    assert world.transport.is_read
    world.hear(frame(b"", CONTINUATION, fin=False))
    assert not world.transport.is_read
    world.end()


def test_a_message_that_comes_whole_counts_once(schemas: Schemas) -> None:
    world = World(schemas, EIGHT).connect()
    world.hear(b"".join(map(call, range(4))))
    assert world.transport.is_read
    world.end()


# Its end.


def test_a_session_that_cannot_begin_ends_its_connection(schemas: Schemas, broken: list[LogEvent]) -> None:
    door = Door(rests_on=None)
    world = World(schemas, door=door).connect()
    assert world.transport.aborted
    assert world.protocol.state == world.protocol.STATE_CLOSED
    world.end()
    assert [event["event"] for event in broken] == ["handshake.failed"]
    assert door.released == [("CP-001", 1)]
    assert (world.guard.connections, world.guard.opening, world.guard.addresses) == (0, 0, 0)
    assert len(world.fleet.sessions) == 0
    assert world.protocol.course.phase is Phase.GONE
    assert world.fleet.clock.timers.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["lost", "kicked", "left"])
def test_a_connection_that_is_gone_is_nobodys(schemas: Schemas, how: str) -> None:
    world = World(schemas).connect()
    protocol, session = weakref.ref(world.protocol), weakref.ref(world.session)
    gc.collect()
    gc.disable()
    try:
        world.hear(call(1))
        world.settle()
        if how == "kicked":
            world.session.close(CloseReason.KICKED)
        if how != "lost":
            world.hear(FAREWELL)
        world.end()
        world.fleet.bus.records.clear()
        del world.protocol, world.transport
        assert (protocol(), session()) == (None, None)
    finally:
        gc.enable()
