"""Autobahn's server protocol without what costs every connection and serves nobody here.

Autobahn copies 29 options to each connection and formats them for a debug line that is off; it reads the TLS peer's
certificate twice, as text; it logs a peer's failed TLS handshake as an error; and it would parse a request that has
been parsed and judged already. What is overridden here does the rest of those steps and not these. The options are
where they belong: on the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.upgrade import WEBSOCKET_VERSION
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.websocket.deflate import CannotInflate, Deflate, agree, inflate
from ocpp_gateway.websocket.frames import text_frame

_MAX_FRAGMENTS = 4096
"""Fragments that a message may come in: each costs memory and time of its own, even if it is empty."""

_FRAGMENTS_AT_ONCE = 64
"""Fragments by which they are counted."""

_MAX_PIECES = 4096
"""Pieces of one fragment, as the network delivered them, that are kept before they are joined."""


class _Compressed(list[bytes]):
    """The fragments of a compressed message."""


OPTIONS: tuple[str, ...] = tuple(WebSocketServerProtocol.CONFIG_ATTRS)
"""What Autobahn would copy from its factory to each connection."""


def with_options(protocol: type[LeanServerProtocol], factory: Any) -> type[LeanServerProtocol]:
    """``protocol`` with the options of ``factory``, Autobahn's, as attributes of the class."""
    options = {name: getattr(factory, name) for name in OPTIONS}
    return type(protocol.__name__, (protocol,), {name: _as_attribute(value) for name, value in options.items()})


class LeanServerProtocol(WebSocketServerProtocol):
    """See the module's text. Only for classes made by ``with_options``."""

    CONFIG_ATTRS = []  # noqa: RUF012  # as Autobahn declares it; nothing is left to copy
    # Autobahn's, none of which has a type.
    factory: Any
    transport: Any
    peer: Any
    websocket_protocols: Any
    http_response_data: Any
    _wskey: Any
    _perMessageCompress: Any  # a Deflate, or None
    _isMessageCompressed: Any
    maxMessagePayloadSize: Any

    # Twisted's calls.

    def connectionMade(self) -> None:
        """Twisted's: a connection was accepted."""
        self.peer = ""  # only for Autobahn's log lines, which are not to tell addresses
        with suppress(OSError):  # some systems refuse on a connection that is gone already
            self.transport.setTcpNoDelay(True)
        WebSocketProtocol._connectionMade(self)
        self.factory.countConnections += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's: the connection is gone. A peer's doing is nothing to log as an error."""
        # The reason would only be put into words there, and not every TLS error has the form that this takes.
        self._connectionLost("")

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Autobahn's: write ``data``. It is never chopped here, and its octets are counted elsewhere."""
        self.transport.write(data)

    # The opening handshake.

    def read_handshake(self, head: RequestHead, subprotocols: Sequence[str], *, compression: bool) -> None:
        """Take from ``head``, which has passed ``require_upgrade``, what ``succeedHandshake`` answers with.

        ``subprotocols`` are those that it may be given; ``compression``: permessage-deflate is, if offered.
        """
        self.websocket_version = int(WEBSOCKET_VERSION)
        self.websocket_protocols = subprotocols
        self.websocket_extensions: list[Any] = []  # Autobahn refuses a request for a malformed offer
        self._perMessageCompress = agree(head) if compression else None
        self._wskey = head.values("sec-websocket-key")[0]

    def succeedHandshake(self, res: str | None) -> None:
        """Autobahn's: answer with 101 and the subprotocol ``res``."""
        deflate: Deflate | None = self._perMessageCompress
        super().succeedHandshake((res, {} if deflate is None else {"Sec-WebSocket-Extensions": deflate.answer}))

    def forget_handshake(self) -> None:
        """The 101 is out: nothing of this is kept for months."""
        del self.websocket_protocols, self.websocket_extensions, self._wskey
        self.http_response_data = None

    def _onOpen(self) -> None:
        self.onOpen()

    def framed(self, data: bytes) -> bytes:
        """``data`` as a text message to be written; compressed where that was agreed upon and is worth it."""
        deflate: Deflate | None = self._perMessageCompress
        return text_frame(data) if deflate is None else deflate.text_frame(data)

    # Messages put together from fragments, and fragments from what the network delivers, at a bounded cost.

    def costs_a_message(self) -> None:
        """What has come, fragments or a ping, is no message and costs as much as one."""
        raise NotImplementedError  # as below

    def unreadable_message(self, reason: CloseReason) -> None:
        """The message that has come, or is coming, is not taken; the connection is to end for ``reason``."""
        raise NotImplementedError  # whoever knows what the connection is for ends it, in words of its own

    def onMessageBegin(self, isBinary: bool) -> None:
        """Autobahn's: a message begins. A compressed one is kept as it comes, and read when it is complete."""
        self.message_is_binary = isBinary
        self.message_data: list[bytes] = []
        self.message_data_total_length = 0
        if self._isMessageCompressed:
            self._isMessageCompressed = self.utf8validateIncomingCurrentMessage = False
            self.message_data = _Compressed()

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
            count = len(self.message_data)
            if not count % _FRAGMENTS_AT_ONCE:
                if count > _MAX_FRAGMENTS:
                    self.unreadable_message(CloseReason.TOO_MANY_FRAGMENTS)
                else:
                    self.costs_a_message()

    def onMessageEnd(self) -> None:
        """Autobahn's: one message is complete. Autobahn's own also fires a signal, by a Deferred for each message."""
        if not self.failedByMe:
            message = b"".join(self.message_data)
            if isinstance(self.message_data, _Compressed):
                self._take_compressed(message)
            else:
                self.onMessage(message, self.message_is_binary)
        self.message_data = []

    def _take_compressed(self, message: bytes) -> None:
        if self.state != self.STATE_OPEN:  # not all of it was kept
            return
        try:
            inflated = inflate(message, self.maxMessagePayloadSize)
        except CannotInflate as error:
            self.unreadable_message(error.reason)
            return
        # The validator was reset when the message began.
        if self.message_is_binary or self.utf8validator.validate(inflated)[:2] == (True, True):
            self.onMessage(inflated, self.message_is_binary)
        else:
            self.unreadable_message(CloseReason.INVALID_UTF8)


def _as_attribute(value: Any) -> Any:
    return staticmethod(value) if callable(value) else value
