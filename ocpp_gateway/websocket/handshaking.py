"""A connection until it is a WebSocket: accepted, TLS, one request, the verdict.

The guards before the upgrade: addresses and the node have limits (``flood.guard``); the header block is bounded and has
no control bytes; one handshake per connection, and not a byte more while it is being checked; identity and path are
those of that one request, taken from its raw target; no text of an exception or of a peer reaches an answer; a
connection that ends while it is checked stays ended.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.proxies import Origin
from ocpp_gateway.handshake.reasons import refused, wire_text
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.session.lifecycle import Course, Lifecycle, begin
from ocpp_gateway.session.opening import Admitted, Request
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.tls.failures import refusal_reason
from ocpp_gateway.websocket.lean import LeanServerProtocol

if TYPE_CHECKING:
    from ocpp_gateway.websocket.factory import OcppFactory

_log = Logger()

MAX_HEADER_BYTES = 16_384
_LINGER_SECONDS = 5.0
"""How long a peer may take to read our last words."""


@implementer(IHandshakeListener)
class HandshakeProtocol(LeanServerProtocol):
    """A charge point's connection, from TCP accept to the verdict; ``protocol`` goes on from there."""

    factory: OcppFactory
    # TCP or TLS transports: all are producers and consumers, which ITransport does not say.
    transport: Any
    life: Lifecycle
    course: Course
    _encrypted = False
    _guarded: str | None = None
    """The address that the connection counts for."""

    _origin: Origin | None = None
    _opening: Deferred[Any] | None = None
    _request: Request | None = None
    _admitted: Admitted | None = None
    _handshake_timer: IDelayedCall | None = None
    _lingering: IDelayedCall | None = None

    # Before the upgrade.

    def connectionMade(self) -> None:
        """Twisted's: a connection was accepted. Autobahn's own timer may fire most of a second too early."""
        super().connectionMade()
        self.life, self.course = begin(self)
        address = self.address
        reason = self.factory.guard.connected(address)
        if reason is not None:
            if self.factory.is_tls:
                self._cut_off(reason)  # before it costs a TLS handshake
            else:
                self._refuse(refused(reason, (self.factory.opening.retry_after(),)))
            return
        self._guarded = address
        self._handshake_timer = self.factory.reactor.callLater(self.factory.handshake_timeout, self._handshake_over)

    def handshakeCompleted(self) -> None:
        """Twisted's: TLS is up, the client certificate verified if there is one."""
        self._encrypted = True
        tls = self.transport.getHandle()
        self.factory.counters.count_tls(tls.get_protocol_version_name(), tls.get_cipher_name())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's: the connection is gone, perhaps because TLS never came about."""
        if self.factory.is_tls and not self._encrypted and self.state == self.STATE_CONNECTING:
            error = reason.value
            why = None if error is None else refusal_reason(self.transport.getHandle(), error)
            if why is not None:
                self.factory.refused(why, self.address)
        super().connectionLost(reason)

    def _handshake_over(self) -> None:
        self._handshake_timer = None
        if self.state != self.STATE_CONNECTING:
            return
        if self.factory.is_tls and not self._encrypted:
            self._cut_off("handshake_timeout")  # there is nothing yet to answer over
        else:
            self._refuse(refused("handshake_timeout"))

    def _stop_handshake_timer(self) -> None:
        timer, self._handshake_timer = self._handshake_timer, None
        if timer is not None:
            timer.cancel()

    def processHandshake(self) -> None:
        """Autobahn's: the request may be complete. Autobahn would parse it next; that, too, is done here."""
        if self._request is not None:
            self._cut_off("second_request")
            return
        end = self.data.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(self.data) > MAX_HEADER_BYTES):
            self._refuse(refused("header_block_too_large"))
            return
        if end < 0:
            return
        head: RequestHead | None = None
        try:
            head = RequestHead.parse(self.data[: end + 4])
            self._origin = self.factory.opening.origin(head, self.address, is_secure=self._encrypted)
            self._count_as(self._origin.address)
            self._request = self.factory.opening.read(head, self._origin, self._client_certificate())
        except HandshakeRefused as refusal:
            self._refuse(refusal, head.target if head is not None else "")
            return
        if len(self.data) > end + 4:
            self._cut_off("second_request")
            return
        self.data = b""
        self.life.check()
        self.read_handshake(head, self._request.offer.tokens, compression=self.factory.compression)
        self._opening = Deferred.fromCoroutine(self.factory.opening.admit(self._request))
        self._opening.addCallbacks(self._accept, self._deny)
        self._opening.addErrback(self._broken)

    def _count_as(self, address: str) -> None:
        """The connection is that of ``address``, as a trusted proxy says. Raises HandshakeRefused."""
        if self._guarded is None or self._guarded == address:
            return
        reason = self.factory.guard.moved(self._guarded, address)
        self._guarded = address
        if reason is not None:
            raise refused(reason, (self.factory.opening.retry_after(),))

    def _client_certificate(self) -> ClientCertificate | None:
        if not self._encrypted:
            return None
        try:
            return self.factory.certificates.of(self.transport.getHandle())
        except AuthenticationFailed as failure:
            raise refused(failure.reason) from None

    def _accept(self, admitted: Admitted) -> None:
        if self.state != self.STATE_CONNECTING:  # the peer has left, or ran out of time, just now
            self.factory.abandoned(admitted)
            return
        self._admitted = admitted
        try:
            self.succeedHandshake(admitted.subprotocol)
        finally:
            if self._admitted is not None:  # not opened after all
                self.factory.abandoned(admitted)

    def _deny(self, failure: Failure) -> None:
        refusal = failure.value
        if not isinstance(refusal, HandshakeRefused):
            if not isinstance(refusal, CancelledError):
                _log.failure("A handshake could not be checked", failure=failure, event="handshake.failed")
            refusal = refused("internal_error")
        if self.state == self.STATE_CONNECTING:
            self._refuse(refusal)

    def _broken(self, failure: Failure) -> None:
        _log.failure("A handshake could not be answered", failure=failure, event="handshake.failed")
        if self.course.has_been_open:
            self._end(abort=True)
        else:
            self._cut_off("internal_error")

    def _refuse(self, refusal: HandshakeRefused, target: str = "") -> None:
        self.life.refuse()
        self.factory.refused(refusal.reason, self.address, target, self._request)
        body = wire_text(refusal.reason).encode("ascii")
        lines = [
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            *(f"{name}: {value}" for name, value in refusal.headers),
            "Content-Type: text/plain",
            f"Content-Length: {len(body)}",
            *(() if any(name == "Connection" for name, _ in refusal.headers) else ("Connection: close",)),
        ]
        self.sendData("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self._end(abort=False)

    def _cut_off(self, reason: str) -> None:
        self.life.refuse()
        self.factory.refused(reason, self.address, request=self._request)
        self._end(abort=True)

    def _end(self, *, abort: bool) -> None:
        self.wasClean = True  # of our own will; Autobahn would warn otherwise, in words of its own
        self.dropConnection(abort=abort)

    def _closeConnection(self, abort: bool = False) -> None:
        """Autobahn's: end the TCP connection. What waits to be read by the peer goes out first, unless ``abort``."""
        super()._closeConnection(abort)
        if not abort and self._lingering is None:
            # A peer that never reads it would keep the connection for ever.
            self._lingering = self.factory.reactor.callLater(_LINGER_SECONDS, self._linger_over)

    def _linger_over(self) -> None:
        self._lingering = None
        self.transport.abortConnection()

    # What the session's side of the connection does (``protocol``).

    def close(self, reason: CloseReason) -> None:
        """See session.lifecycle.Line."""
        raise NotImplementedError  # of an open connection, so OcppProtocol's

    def pause_reading(self) -> None:
        """See session.lifecycle.Line."""
        raise NotImplementedError  # the same

    @property
    def address(self) -> str:
        """The peer's IP address; behind a trusted proxy, as soon as the request is read, that of its client."""
        return str(getattr(self.transport.getPeer(), "host", "")) if self._origin is None else self._origin.address
