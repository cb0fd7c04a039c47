"""The least that a TLS server on this Python can do: accept, handshake, one line back in reverse order, close.

One connection at a time, no Twisted and no WebSocket, but the OpenSSL of the echo and of the gateway (the one inside
``cryptography``), with the echo's context. What it costs is OpenSSL's own work and the system calls around it. Prints
its port, and runs until it is terminated.
"""

from __future__ import annotations

import argparse
import socket
import struct
from contextlib import suppress

from echo_server import add_tls_options, tls_options
from OpenSSL import SSL

_LONGEST_WAIT = struct.pack("ll", 5, 0)  # seconds, microseconds


def serve(context: SSL.Context, accepted: socket.socket) -> None:
    """One connection, from its handshake to its end."""
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LONGEST_WAIT)
    connection = SSL.Connection(context, accepted)
    connection.set_accept_state()
    # Whoever fails a handshake, or goes away, is counted by the generator.
    with suppress(SSL.Error, OSError):
        connection.do_handshake()
        line = connection.recv(1024)
        connection.send(line[-2::-1] + b"\n")
        connection.recv(1024)
    with suppress(SSL.Error, OSError):
        connection.shutdown()
    accepted.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A plain loop around OpenSSL.")
    add_tls_options(parser)
    given = parser.parse_args()
    context = tls_options(given.certificate, given.key, given.authority, given.tickets).getContext()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            serve(context, listening.accept()[0])


if __name__ == "__main__":
    main()
