"""What a new connection is given, before anything is read from it."""

from __future__ import annotations

import socket
from typing import Any

import pytest_twisted
from support.guards import NO_GUARD_LIMITS
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.websocket.factory import OcppFactory
from ocpp_gateway.websocket.lean import OPTIONS
from ocpp_gateway.websocket.listener import listen


class _Factory(OcppFactory):
    """Hands out its one protocol when it is connected, and when it is gone."""

    def __init__(self) -> None:
        # Nothing is read, so nobody is asked whether it may come in.
        nobody: Any = None
        clock = SystemClock(reactor)  # type: ignore[arg-type]  # a module, to mypy
        super().__init__(
            reactor=reactor,
            opening=nobody,
            sessions=nobody,
            refusals=nobody,
            guard=Guard(limits=NO_GUARD_LIMITS, is_proxy=lambda _: False, clock=clock),
            keepalive=nobody,
            certificates=nobody,
            counters=nobody,
            is_tls=False,
            handshake_timeout=30.0,
            max_message_bytes=4321,
            write_timeout=30.0,
            max_write_buffer_bytes=1_048_576,
            compression=True,
            clock=clock,
        )
        self.connected: Deferred[Any] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        factory = self

        class Told(factory.protocol):
            def connectionMade(self) -> None:
                super().connectionMade()
                factory.connected.callback(self)

            def connectionLost(self, reason: Any) -> None:
                super().connectionLost(reason)
                factory.lost.callback(None)

        protocol = Told()
        protocol.factory = self
        return protocol


@pytest_twisted.ensureDeferred
async def test_small_writes_are_not_held_back_and_options_are_not_copied() -> None:
    factory = _Factory()
    port = await listen(reactor, "127.0.0.1", 0, factory, "HOST", "PORT")
    address: Any = port.getHost()
    try:
        with socket.create_connection(("127.0.0.1", address.port), timeout=5):
            protocol = await factory.connected
            assert protocol.transport.getTcpNoDelay()
            assert protocol.maxMessagePayloadSize == 4321
            assert not vars(protocol).keys() & set(OPTIONS)
        await factory.lost
    finally:
        await maybeDeferred(port.stopListening)
