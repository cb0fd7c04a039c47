"""Listening sockets: a port that cannot be had is a failed start, never a line in a log."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from ocpp_gateway.errors import StartFailed
from ocpp_gateway.websocket.transport import PromptServer

_BACKLOG = 1024
"""Twisted's 50 overflows when a fleet reconnects at once; the kernel caps it at net.core.somaxconn."""


async def listen(reactor: Any, host: str, port: int, factory: IProtocolFactory, setting: str) -> IListeningPort:
    """Listen on ``host`` (empty: every IPv4 address; ``::``: every address) and ``port``.

    Raises StartFailed, naming ``setting``, when the port is not to be had.
    """
    endpoint_class = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    try:
        listening: Any = await endpoint_class(reactor, port, backlog=_BACKLOG, interface=host).listen(factory)
    except CannotListenError as error:
        raise StartFailed(
            "port_unavailable",
            f"cannot listen on {host or '*'}:{port} ({error.socketError}): "
            f"stop what uses that port, or set {setting} to a free one",
        ) from error
    listening.transport = PromptServer  # nobody has been accepted yet
    port_taken: IListeningPort = listening
    return port_taken
