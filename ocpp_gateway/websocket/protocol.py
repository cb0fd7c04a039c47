"""One open WebSocket connection: Autobahn's protocol, with what it leaves open closed.

Autobahn frames; this class translates between it and ``session``. A peer that does not read is not read either, so that
what waits for it stays bounded, and is let go of when that takes too long.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from ocpp_gateway.session.reasons import CloseReason, from_close_codes
from ocpp_gateway.session.session import Session
from ocpp_gateway.websocket.frames import PING
from ocpp_gateway.websocket.handshaking import HandshakeProtocol

_log = Logger()


@implementer(IPushProducer)
class OcppProtocol(HandshakeProtocol):
    """A charge point's connection; until the 101, see HandshakeProtocol."""

    last_heard = 0.0
    """``clock.monotonic()`` when bytes last came, or when reading was taken up again (session.keepalive.Pulse)."""

    filed_under: int | None = None
    """The keep-alive's own."""

    _session: Session | None = None
    _session_paused = False
    _peer_slow: IDelayedCall | None = None
    """It runs while what we wrote is not being read."""

    _unread_bytes = 0
    _is_consuming = False

    def dataReceived(self, data: bytes) -> None:
        """Twisted's: bytes from the peer. What comes after we ended the connection is not even kept."""
        if self.state != self.STATE_CLOSED:
            self.last_heard = self.factory.clock.monotonic()
            self._dataReceived(data)

    def onOpen(self) -> None:
        """Autobahn's: the 101 is out."""
        admitted = self._admitted
        assert admitted is not None  # succeedHandshake comes only after _accept
        # What only the handshake needed is not kept for months.
        self._opening = self._origin = self._request = None
        self._stop_handshake_timer()
        self.life.opened()
        self.factory.opened(self._guarded)
        self.forget_handshake()
        if admitted.session is None:
            self._admitted = None
            self.life.close(CloseReason.SUBPROTOCOL_MISMATCH)
            return
        # On the HTTP port twisted.web's channel has registered itself, and hands its place over with the transport.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self._session = self.factory.sessions.open(*admitted.session, self)
        self._admitted = None
        self.factory.keepalive.add(self)

    def consumeData(self) -> None:
        """Autobahn's: take what has come, but nothing while it is not to be read: one read may be many messages."""
        if self.state == self.STATE_CONNECTING:
            self.processHandshake()
        elif not self._is_consuming:
            self._is_consuming = True
            try:
                while (  # is_read, written out: this is the path of every message
                    (not self._session_paused and self._peer_slow is None) or self.state == self.STATE_CLOSING
                ) and self.processData():
                    if self.state == self.STATE_CLOSED:
                        break
            finally:
                self._is_consuming = False

    def onPing(self, payload: bytes) -> None:
        """Autobahn's: a ping, which costs as much as a message."""
        super().onPing(payload)
        self.costs_a_message()

    def onPong(self, payload: bytes) -> None:
        """Autobahn's: a pong; the same."""
        self.costs_a_message()

    def costs_a_message(self) -> None:
        """See LeanServerProtocol."""
        if self._session is not None:
            self._session.paced()

    def unreadable_message(self, reason: CloseReason) -> None:
        """See LeanServerProtocol."""
        if self._session is not None:
            self._session.close(reason)

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
        self._stop_timers()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        session, self._session = self._session, None
        sent = self.localCloseCode if self.closedByMe else None
        why = from_close_codes(sent, self.remoteCloseCode, is_clean=wasClean)
        try:
            if session is not None:
                self.factory.keepalive.remove(self)
                self.factory.closed(session, why, sent if self.closedByMe else self.remoteCloseCode)
        except Exception:
            # Autobahn counts the connection out only behind this call.
            _log.failure("A session could not be ended", event="session.failed", reason="internal_error")
        self.factory.gone(self._guarded, self.course)
        self._guarded = None
        self.is_closed = None  # Autobahn's Deferred holds this connection as its result
        self.life.lost(why)

    def _stop_timers(self) -> None:
        self._stop_handshake_timer()
        for timer in (self._lingering, self._peer_slow):
            if timer is not None:
                timer.cancel()
        self._lingering = self._peer_slow = None

    # What a session asks for (session.ports.Connection).

    def send_text(self, data: bytes) -> None:
        """See session.ports.Connection."""
        if self.state == self.STATE_OPEN:
            # Autobahn's sendMessage asks after masks, fragments, chops and traffic statistics first: all off here.
            frame = self.framed(data)
            self.transport.write(frame)
            if self._peer_slow is not None:
                self._wrote_unread(len(frame))

    def close(self, reason: CloseReason) -> None:
        """See session.ports.Connection."""
        if self.state == self.STATE_OPEN:
            # sendClose allows only 1000 and private codes.
            self.sendCloseFrame(code=reason.code, reasonUtf8=reason.text.encode())
            self._session_paused = False
            self._read_or_not()  # the peer's close frame must be read

    def abort(self) -> None:
        """See session.ports.Connection."""
        self._end(abort=True)
        self.transport.abortConnection()  # also where a polite end is under way

    def pause_reading(self) -> None:
        """See session.ports.Connection."""
        self._session_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """See session.ports.Connection."""
        self._session_paused = False
        self._read_or_not()

    @property
    def has_more(self) -> bool:
        """See session.ports.Connection."""
        return bool(self.data)

    # What the keep-alive asks for (session.keepalive.Pulse).

    @property
    def is_read(self) -> bool:
        """See session.keepalive.Pulse."""
        return not self._session_paused and self._peer_slow is None

    def ping(self) -> None:
        """See session.keepalive.Pulse."""
        if self.state == self.STATE_OPEN:
            self.transport.write(PING)
            if self._peer_slow is not None:
                self._wrote_unread(len(PING))

    def stale(self) -> None:
        """See session.keepalive.Pulse."""
        self._let_go(CloseReason.STALE)

    # The transport's word on a peer that does not read (IPushProducer).

    def pauseProducing(self) -> None:
        """Twisted's: what we wrote is not being read."""
        if self._peer_slow is None:
            self._unread_bytes = 0
            self._peer_slow = self.factory.reactor.callLater(self.factory.write_timeout, self._too_slow)
            self._read_or_not()

    def resumeProducing(self) -> None:
        """Twisted's: it was read."""
        timer, self._peer_slow = self._peer_slow, None
        if timer is not None:
            timer.cancel()
        self._read_or_not()

    def stopProducing(self) -> None:
        """Twisted's: the transport is closing."""

    def _wrote_unread(self, size: int) -> None:
        self._unread_bytes += size
        if self._unread_bytes > self.factory.max_write_buffer_bytes:
            self._let_go(CloseReason.SLOW_CONSUMER)

    def _too_slow(self) -> None:
        self._peer_slow = None
        self._let_go(CloseReason.SLOW_CONSUMER)

    def _let_go(self, reason: CloseReason) -> None:
        if self._session is not None:  # all of these are registered for a session's connection only
            self._session.abort(reason)

    def _read_or_not(self) -> None:
        if not self.is_read:
            self.transport.pauseProducing()
        elif self.state in (self.STATE_OPEN, self.STATE_CLOSING):
            self.last_heard = self.factory.clock.monotonic()
            self.transport.resumeProducing()
            if self.data:
                self.consumeData()
