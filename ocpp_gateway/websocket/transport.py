"""Transports that write at once: TCP what the socket takes at once, TLS each frame as it is.

Twisted's TCP buffers every write and asks the reactor to tell when the socket is writable: two system calls and a turn
of the reactor for an answer of 60 bytes that an idle socket would have taken immediately. What does not fit goes the
usual way, behind what waits already.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.protocols.tls import TLSMemoryBIOProtocol


class PromptServer(Server):
    """The server's end of a connection; Twisted's Port takes it for its ``transport`` attribute."""

    def write(self, data: bytes) -> None:
        """Twisted's: send ``data``, in order."""
        if (
            self._tempDataBuffer
            or self.dataBuffer
            or self.disconnecting
            or not self.connected
            or self._writeDisconnected
        ):
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            sent = 0  # it would block; or it is broken, which the reactor notices and tells the protocol
        if sent < len(data):
            super().write(data[sent:])


class PromptTls(TLSMemoryBIOProtocol):
    """Our end of TLS; TLSMemoryBIOFactory takes it for its ``protocol`` attribute.

    Twisted's own holds small writes back until the reactor's next turn, to join them; ours are whole frames. And it
    declares every interface of the TCP transport anew for each connection, and lets OpenSSL begin before there is
    anything to begin with: some percent of a handshake's cost, and nobody here asks for those interfaces.
    """

    def makeConnection(self, transport: Any) -> None:
        """Twisted's: TCP is up, TLS may begin."""
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)
