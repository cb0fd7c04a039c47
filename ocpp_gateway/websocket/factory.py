"""What all connections share: Autobahn's options and the doors to ``session``."""

from __future__ import annotations

from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory

from ocpp_gateway.clock import Clock
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.session.keepalive import KeepAlive
from ocpp_gateway.session.lifecycle import Course
from ocpp_gateway.session.opening import Admitted, Opening, Request
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.refusals import Refusals
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.session import Session
from ocpp_gateway.tls.peers import PeerCertificates
from ocpp_gateway.websocket.lean import with_options
from ocpp_gateway.websocket.protocol import OcppProtocol


class ConnectionCounters(Protocol):
    """What is counted here."""

    def count_handshake(self, reason: str) -> None:
        """A handshake was ``accepted``."""
        ...

    def count_tls(self, version: str, cipher: str) -> None:
        """A TLS handshake was done, with OpenSSL's names for what was agreed upon."""
        ...


class OcppFactory(WebSocketServerFactory):
    """Builds an OcppProtocol for each connection of one port. ``is_tls``: they speak TLS with us."""

    protocol: Any
    noisy = False

    def __init__(
        self,
        *,
        reactor: Any,
        opening: Opening,
        sessions: Sessions,
        refusals: Refusals,
        guard: Guard,
        keepalive: KeepAlive,
        certificates: PeerCertificates,
        counters: ConnectionCounters,
        is_tls: bool,
        handshake_timeout: float,
        max_message_bytes: int,
        write_timeout: float,
        max_write_buffer_bytes: int,
        compression: bool,
        clock: Clock,
    ) -> None:
        # No Server header: attackers read it, charge points do not.
        super().__init__(server="", reactor=reactor)
        self.opening = opening
        self.sessions = sessions
        self.refusals = refusals
        self.guard = guard
        self.keepalive = keepalive
        self.certificates = certificates
        self.clock = clock
        self.compression = compression
        self.write_timeout = write_timeout
        self.max_write_buffer_bytes = max_write_buffer_bytes
        self.counters = counters
        self.is_tls = is_tls
        self.handshake_timeout = handshake_timeout
        self.setProtocolOptions(
            webStatus=False,
            versions=[13],
            # A close frame with its code, not a reset, for what breaks the protocol.
            failByDrop=False,
            openHandshakeTimeout=0,  # the protocol has its own timer, which is exact
            # Modems are slow; and Autobahn's batched timers truncate to whole seconds.
            closeHandshakeTimeout=5,
            maxFramePayloadSize=max_message_bytes,
            maxMessagePayloadSize=max_message_bytes,
        )
        self.protocol = with_options(OcppProtocol, self)

    def opened(self, address: str | None) -> None:
        """A handshake of ``address`` was answered with 101."""
        self.counters.count_handshake("accepted")
        if address is not None:
            self.guard.opened(address)

    def refused(self, reason: str, address: str, target: str = "", request: Request | None = None) -> None:
        """A handshake was refused for ``reason``, a row of ``handshake.reasons``."""
        self.refusals.refused(reason, address, target, request)

    def abandoned(self, admitted: Admitted) -> None:
        """There was no 101 after the verdict, the peer had left: the session never begins."""
        if admitted.session is not None:
            identity, _, _ = admitted.session
            self.opening.claims.release_later(identity.charge_point_id, identity.epoch)

    def gone(self, address: str | None, course: Course) -> None:
        """A connection that counted for ``address``, if for any, has ended; ``course`` says how far it had come."""
        if address is not None:
            self.guard.gone(address, was_open=course.has_been_open)

    def closed(self, session: Session, reason: CloseReason, code: int | None) -> None:
        """An open connection ended."""
        self.sessions.closed(session, reason, code)
