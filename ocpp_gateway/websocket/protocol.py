"""One WebSocket connection: Autobahn's protocol, with what it leaves open closed.

Autobahn parses, upgrades and frames; this class translates between it and ``session``. The guards before the upgrade:
the header block is bounded and has no control bytes; one handshake per connection, and not a byte more while it is
being checked; identity and path are those of that one request, taken from its raw target; no text of an exception or
of a peer reaches an answer; a connection that ends while it is checked stays ended.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.reasons import refused, wire_text
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.upgrade import upgrade_block
from ocpp_gateway.session.opening import Admitted, Request
from ocpp_gateway.session.reasons import CloseReason, from_close_codes
from ocpp_gateway.session.session import Session
from ocpp_gateway.websocket.frames import text_frame

if TYPE_CHECKING:
    from ocpp_gateway.websocket.factory import OcppFactory

_log = Logger()

MAX_HEADER_BYTES = 16_384
_MAX_FRAGMENTS = 4096
"""Fragments that a message may come in: each costs memory and time of its own, even if it is empty."""

_MAX_PIECES = 4096
"""Pieces of one fragment, as the network delivered them, that are kept before they are joined."""

_LINGER_SECONDS = 5.0
"""How long a peer may take to read our last words."""


@implementer(IPushProducer)
class OcppProtocol(WebSocketServerProtocol):
    """A charge point's connection, from TCP accept to its end."""

    factory: OcppFactory
    # TCP or TLS transports: all are producers and consumers, which ITransport does not say.
    transport: Any
    # Written by the handshake, and dropped behind it.
    http_headers: Any
    http_request_data: Any
    http_response_data: Any
    _opening: Deferred[Any] | None = None
    _request: Request | None = None
    _refusal: HandshakeRefused | None = None
    _admitted: Admitted | None = None
    _session: Session | None = None
    _queue_full = False
    _peer_slow = False
    _handshake_timer: IDelayedCall | None = None
    _lingering: IDelayedCall | None = None

    # Before the upgrade.

    def connectionMade(self) -> None:
        """Twisted's: a connection was accepted. Autobahn's own timer may fire most of a second too early."""
        super().connectionMade()
        self._handshake_timer = self.factory.reactor.callLater(self.factory.handshake_timeout, self._handshake_over)

    def _handshake_over(self) -> None:
        self._handshake_timer = None
        if self.state == self.STATE_CONNECTING:
            self._refuse(refused("handshake_timeout"))

    def _stop_handshake_timer(self) -> None:
        timer, self._handshake_timer = self._handshake_timer, None
        if timer is not None:
            timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Twisted's: bytes from the peer. What comes after we ended the connection is not even kept."""
        if self.state != self.STATE_CLOSED:
            self._dataReceived(data)

    def processHandshake(self) -> None:
        """Autobahn's: the request may be complete. It is judged here; Autobahn sees a composed one (``upgrade``)."""
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
            self._request = self.factory.opening.read(head)
        except HandshakeRefused as refusal:
            self._refuse(refusal, head.target if head is not None else "")
            return
        if len(self.data) > end + 4:
            self._cut_off("second_request")
            return
        self.data = upgrade_block(head, self._request.offer.tokens)
        super().processHandshake()

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Autobahn's: the request is a WebSocket handshake. A Deferred of the subprotocol; the 101 follows."""
        ours = self._request
        assert ours is not None  # processHandshake has read it
        self._opening = Deferred.fromCoroutine(self.factory.opening.admit(ours, self.address))
        self._opening.addCallbacks(self._accept, self._deny)
        return self._opening

    def _accept(self, admitted: Admitted) -> str | None:
        self._admitted = admitted
        return admitted.subprotocol

    def _deny(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, HandshakeRefused):
            if not isinstance(error, CancelledError):
                _log.failure("A handshake could not be checked", failure=failure, event="handshake.failed")
            error = refused("internal_error")
        self._refusal = error
        raise ConnectionDeny(error.status, error.reason)

    def succeedHandshake(self, res: Any) -> None:
        """Autobahn's: send the 101, unless the peer left or ran out of time meanwhile."""
        try:
            if self.state == self.STATE_CONNECTING:
                super().succeedHandshake(res)
        finally:
            admitted, self._admitted = self._admitted, None
            if admitted is not None:  # not opened: the peer had left, or the library refused after all
                self.factory.abandoned(admitted)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Autobahn's: answer with an error. Its text may quote the peer; our own name for the reason goes out."""
        if self.state == self.STATE_CONNECTING:
            self._refuse(self._refusal or refused("handshake_rejected"))

    def _refuse(self, refusal: HandshakeRefused, target: str = "") -> None:
        self.factory.refused(refusal.reason, self.address, target, self._charge_point_id)
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
        self.factory.refused(reason, self.address, charge_point_id=self._charge_point_id)
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

    # On an open connection.

    def onOpen(self) -> None:
        """Autobahn's: the 101 is out."""
        admitted = self._admitted
        assert admitted is not None  # succeedHandshake comes only after _accept
        # What only the handshake needed is not kept for months.
        self._opening = self._request = self._admitted = None
        self._stop_handshake_timer()
        self.factory.accepted()
        self.http_headers = self.http_request_data = self.http_response_data = None
        if admitted.session is None:
            self.close(CloseReason.SUBPROTOCOL_MISMATCH)
            return
        # On the HTTP port twisted.web's channel has registered itself, and hands its place over with the transport.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self._session = self.factory.sessions.open(*admitted.session, self)

    def onMessageFrameData(self, payload: bytes) -> None:
        """Autobahn's: a piece of a fragment. A slow line may deliver bytes singly, and none may cost an object."""
        if not self.failedByMe:
            pieces = self.frame_data
            pieces.append(payload)
            if len(pieces) > _MAX_PIECES:
                pieces[:] = [b"".join(pieces)]

    def onMessageFrame(self, payload: Any) -> None:
        """Autobahn's: one fragment is complete, in pieces as it came. Nothing is collected for a message too late."""
        if self.state == self.STATE_OPEN:
            self.message_data.append(payload[0] if len(payload) == 1 else b"".join(payload))
            if len(self.message_data) > _MAX_FRAGMENTS and self._session is not None:
                self._session.close(CloseReason.TOO_MANY_FRAGMENTS)

    def onMessageEnd(self) -> None:
        """Autobahn's: one message is complete. Autobahn's own also fires a signal, by a Deferred for each message."""
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn's: one message. Whatever goes wrong in here ends this connection only."""
        session = self._session
        if session is None:
            return
        try:
            if isBinary:
                session.close(CloseReason.BINARY_MESSAGE)
            else:
                session.received(payload)
        except Exception:
            _log.failure(
                "A message of {charge_point_id} could not be handled",
                event="session.failed",
                reason="internal_error",
                charge_point_id=session.identity.charge_point_id,
                connection_id=session.identity.connection_id,
            )
            session.close(CloseReason.INTERNAL_ERROR)

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        """Autobahn's: the peer broke the protocol. Its text quotes numbers of the peer's; the table's text goes out."""
        super()._fail_connection(code, from_close_codes(code, None, is_clean=False).text)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Autobahn's: the connection is gone, upgraded or not."""
        self._stop_handshake_timer()
        lingering, self._lingering = self._lingering, None
        if lingering is not None:
            lingering.cancel()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        session, self._session = self._session, None
        if session is not None:
            sent = self.localCloseCode if self.closedByMe else None
            why = from_close_codes(sent, self.remoteCloseCode, is_clean=wasClean)
            try:
                self.factory.closed(session, why, sent if self.closedByMe else self.remoteCloseCode)
            except Exception:
                # Autobahn counts the connection out only behind this call.
                _log.failure("A session could not be ended", event="session.failed", reason="internal_error")

    # What a session asks for (session.session.Connection).

    def send_text(self, data: bytes) -> None:
        """See session.session.Connection."""
        if self.state == self.STATE_OPEN:
            # Autobahn's sendMessage asks after masks, fragments, chops and traffic statistics first: all off here.
            self.transport.write(text_frame(data))

    def close(self, reason: CloseReason) -> None:
        """See session.session.Connection."""
        if self.state == self.STATE_OPEN:
            self._queue_full = False
            self._read_or_not()  # the peer's close frame must be read
            # sendClose allows only 1000 and private codes.
            self.sendCloseFrame(code=reason.code, reasonUtf8=reason.text.encode())

    def abort(self) -> None:
        """See session.session.Connection."""
        self._end(abort=True)
        self.transport.abortConnection()  # also where a polite end is under way

    def pause_reading(self) -> None:
        """See session.session.Connection."""
        self._queue_full = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """See session.session.Connection."""
        self._queue_full = False
        self._read_or_not()

    # The transport's word on a peer that does not read (IPushProducer): then it is not listened to either, so that
    # what waits for it stays bounded.

    def pauseProducing(self) -> None:
        """Twisted's: what we wrote is not being read."""
        self._peer_slow = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        """Twisted's: it was read."""
        self._peer_slow = False
        self._read_or_not()

    def stopProducing(self) -> None:
        """Twisted's: the transport is closing."""

    def _read_or_not(self) -> None:
        if self._queue_full or self._peer_slow:
            self.transport.pauseProducing()
        elif self.state in (self.STATE_OPEN, self.STATE_CLOSING):
            self.transport.resumeProducing()

    @property
    def _charge_point_id(self) -> str | None:
        return None if self._request is None else self._request.path.charge_point_id

    @property
    def address(self) -> str:
        """The peer's IP address."""
        return str(getattr(self.transport.getPeer(), "host", ""))
