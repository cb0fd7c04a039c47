"""The baseline: the plainest Autobahn + Twisted WebSocket server, with all options at their defaults.

Sends every message back as it came. Prints its port, and runs until it is terminated.
"""

from __future__ import annotations

import sys

from autobahn.twisted.websocket import ConnectionRequest, WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import USES_NVX
from twisted.internet import reactor


class Echo(WebSocketServerProtocol):
    def onConnect(self, request: ConnectionRequest) -> str | None:
        return request.protocols[0] if request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def main() -> None:
    if not USES_NVX:
        print("Autobahn's native speed-ups are off: this is no fair baseline", file=sys.stderr)
    factory = WebSocketServerFactory(protocols=["ocpp1.6"])
    factory.protocol = Echo
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(listening.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
