"""A TLS server that says in an alert what it has against a client, as OpenSSL does it when it owns the socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread


@contextmanager
def tls_listener(context: ssl.SSLContext | None) -> Iterator[int]:
    """Shakes hands with everybody who connects, then hangs up; without ``context``, hangs up. Gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = Thread(target=_serve, args=(listening, context))
        thread.start()
        try:
            yield port
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10.0)


def _serve(listening: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, connection.dup() as kept, suppress(OSError):
            kept.settimeout(5.0)
            try:
                if context is not None:
                    with context.wrap_socket(connection, server_side=True) as accepted:
                        accepted.recv(1)
            finally:
                # To close with something unread is a reset, and that would overtake the alert.
                kept.shutdown(socket.SHUT_WR)
                while kept.recv(4096):
                    pass
