"""A TCP transport that writes at once what the socket takes at once.

Twisted's buffers every write and asks the reactor to tell when the socket is writable: two system calls and a turn of
the reactor for an answer of 60 bytes that an idle socket would have taken immediately. What does not fit goes the usual
way, behind what waits already.
"""

from __future__ import annotations

from twisted.internet.tcp import Server


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
