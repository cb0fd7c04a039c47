"""The baseline: the plainest Autobahn + Twisted WebSocket server, with all options at their defaults.

Sends every message back as it came. With a certificate it is served over TLS by Twisted's CertificateOptions, these too
at their defaults but for what is asked for. Prints its port, and runs until it is terminated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import USES_NVX
from autobahn.websocket.types import ConnectionRequest
from twisted.internet import reactor, ssl


class Echo(WebSocketServerProtocol):
    def onConnect(self, request: ConnectionRequest) -> str | None:
        return request.protocols[0] if request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--certificate", type=Path, help="PEM file; serve over TLS")
    parser.add_argument("--key", type=Path, help="PEM file")
    parser.add_argument("--authority", type=Path, help="PEM file; demand client certificates")
    parser.add_argument("--tickets", action="store_true", help="let clients resume sessions")


def tls_options(certificate: Path, key: Path, authority: Path | None, tickets: bool) -> ssl.CertificateOptions:
    """Twisted's TLS; with an ``authority`` every client must have a certificate of it."""
    server = ssl.PrivateCertificate.loadPEM(key.read_bytes() + certificate.read_bytes())
    trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.read_bytes())]) if authority else None
    options = ssl.CertificateOptions(
        privateKey=server.privateKey.original,
        certificate=server.original,
        trustRoot=trust,
        enableSessions=tickets,
        enableSessionTickets=tickets,
    )
    if tickets:
        # OpenSSL resumes no session with a client certificate that was not made in a named context.
        options.getContext().set_session_id(b"benchmark echo")
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description="A plain Autobahn + Twisted echo.")
    add_tls_options(parser)
    given = parser.parse_args()
    if not USES_NVX:
        print("Autobahn's native speed-ups are off: this is no fair baseline", file=sys.stderr)
    factory = WebSocketServerFactory(protocols=["ocpp1.6"])
    factory.protocol = Echo
    if given.certificate is None:
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        options = tls_options(given.certificate, given.key, given.authority, given.tickets)
        listening = reactor.listenSSL(0, factory, options, interface="127.0.0.1")
    print(listening.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
