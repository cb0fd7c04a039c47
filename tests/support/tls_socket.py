"""TLS by hand: Python's ``ssl`` and the program ``openssl``, neither of which is the gateway's own OpenSSL."""

from __future__ import annotations

import contextlib
import os
import select
import ssl
import subprocess
import time
from collections.abc import Iterable
from typing import Self

from support.raw_socket import RawSocket, Response, handshake


class TlsSocket(RawSocket):
    """A TLS connection to a port of this machine. Raises ``ssl.SSLError`` where the other side refuses the handshake.

    With TLS 1.3 a client learns only when it reads that its certificate was refused.
    """

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        address: str = "127.0.0.1",
        session: ssl.SSLSession | None = None,
    ) -> None:
        super().__init__(port, address=address)
        try:
            self._tls = context.wrap_socket(self._socket, server_hostname="127.0.0.1", session=session)
        except BaseException:
            self._socket.close()
            raise
        self._socket = self._tls

    @property
    def tls(self) -> ssl.SSLSocket:
        return self._tls

    def upgrade(
        self, charge_point_id: str, headers: Iterable[tuple[str, str]] = (), subprotocols: str = "ocpp1.6"
    ) -> Response:
        """The answer to an opening handshake."""
        self.send(handshake(f"/ocpp/{charge_point_id}", headers=headers, subprotocols=subprotocols))
        return self.response()


def refused_in_tls(port: int, context: ssl.SSLContext, *, address: str, session: ssl.SSLSession | None = None) -> str:
    """Connect, and give the alert with which the server ends the handshake: ``CERTIFICATE_REVOKED``, say.

    Nothing is sent behind the handshake: the server's socket would be reset, and the alert perhaps lost.
    """
    try:
        with TlsSocket(port, context, address=address, session=session) as connection:
            told = connection.rest()
    except ssl.SSLError as error:
        return (error.reason or "").upper().replace(" ", "_").rpartition("ALERT_")[2]
    raise AssertionError(f"not refused: {told!r}")


class OpensslClient:
    """``openssl s_client`` with ``arguments``, connected to a port of this machine."""

    def __init__(self, port: int, *arguments: str, address: str = "127.0.0.1") -> None:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-bind", address, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._said = ""

    def send(self, data: bytes) -> None:
        """One write; ``R`` and a line end make it ask for a renegotiation."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def says(self, text: str, *, seconds: float = 15) -> str:
        """All that it has written up to now, which has ``text`` in it in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while text not in self._said:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert data, f"no {text!r} in: {self._said}"
            self._said += data.decode("latin-1")
        return self._said

    def ended(self, *, seconds: float = 15) -> str:
        """All that it has written, once it has ended: by itself, or because there is no more to send."""
        rest, _ = self._process.communicate(timeout=seconds)
        self._said += rest.decode("latin-1")
        return self._said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(ValueError):  # its pipes are closed already
            self._process.communicate()
