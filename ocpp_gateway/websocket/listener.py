"""Listening sockets: a port that cannot be had is a failed start, never a line in a log."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from ocpp_gateway.errors import StartFailed
from ocpp_gateway.websocket.transport import PromptServer, PromptTls

_BACKLOG = 1024
"""Twisted's 50 overflows when a fleet reconnects at once; the kernel caps it at net.core.somaxconn."""

_SEND_BUFFER = 65_536
"""Bytes that the system may keep of what a peer has not read; Linux doubles it for its own bookkeeping."""

_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3))
"""Seconds of silence, seconds between two probes, probes without an answer: two minutes until a dead peer is known."""


def over_tls(reactor: Any, factory: IProtocolFactory, connections: IOpenSSLServerConnectionCreator) -> IProtocolFactory:
    """``factory``, over TLS."""
    wrapped = TLSMemoryBIOFactory(connections, False, factory, reactor)
    wrapped.protocol = PromptTls
    return wrapped


async def listen(
    reactor: Any, host: str, port: int, factory: IProtocolFactory, host_setting: str, port_setting: str
) -> IListeningPort:
    """Listen on ``host`` (empty: every IPv4 address; ``::``: every address) and ``port``.

    Raises StartFailed, naming the setting to change, when the port is not to be had.
    """
    endpoint_class = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    try:
        listening: Any = await endpoint_class(reactor, port, backlog=_BACKLOG, interface=host).listen(factory)
    except CannotListenError as error:
        raise StartFailed(
            "port_unavailable",
            f"cannot listen on {host or '*'}:{port} ({error.socketError}): "
            + _advice(getattr(error.socketError, "errno", None), host_setting, port_setting),
        ) from error
    listening.transport = PromptServer  # nobody has been accepted yet
    _probe_silent_peers(listening.socket)
    # Every accepted socket inherits it; Linux would let it grow to 4 MB for a peer that does not read.
    listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    port_taken: IListeningPort = listening
    return port_taken


def _probe_silent_peers(listening: socket.socket) -> None:
    """TCP keep-alive, which every accepted socket inherits at no cost (tcp(7)).

    For what has no WebSocket pings: connections before their upgrade, and all of them where pings are off.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):  # not every system lets them be set
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _advice(number: int | None, host_setting: str, port_setting: str) -> str:
    if number == errno.EADDRINUSE:
        return f"stop what uses that port, or set {port_setting} to a free one"
    if number == errno.EACCES:
        return f"set {port_setting} to one that this user may use, 1024 or above"
    return f"set {host_setting} to an address of this machine"
