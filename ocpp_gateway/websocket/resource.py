"""The OCPP endpoint on the HTTP port: Autobahn's way to take a connection over from twisted.web."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.resource import WebSocketResource
from twisted.web.server import NOT_DONE_YET

from ocpp_gateway.websocket.factory import OcppFactory


class OcppResource(WebSocketResource):
    """Hands a request and its connection over, unless more came with it: Autobahn would lose what it does not see."""

    def __init__(self, factory: OcppFactory) -> None:
        super().__init__(factory)
        self._ocpp_factory = factory

    def render(self, request: Any) -> Any:
        """Twisted's: answer ``request``."""
        channel = request.channel
        # Behind a request, twisted.web keeps what came in the same read in the one, what came later in the other.
        if channel._buffer or channel._dataBuffer:
            self._ocpp_factory.refused("second_request", request.getClientAddress().host)
            channel.transport.abortConnection()
            return NOT_DONE_YET
        return super().render(request)
