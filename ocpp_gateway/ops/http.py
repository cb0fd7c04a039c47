"""The HTTP port: /health, /ready, /metrics, /sessions, /nodes, and the OCPP endpoint for the bench.

``/health`` says that the process is alive, ``/ready`` whether it can serve. A token, where one is set, guards all but
``/health`` and the OCPP endpoint, which has credentials of its own; what is for operators is not there without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NOT_FOUND, OK, SERVICE_UNAVAILABLE, HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from ocpp_gateway.ops.answers import Guard, answer
from ocpp_gateway.ops.operators import LiveSessions, Nodes, OperatorPorts

log = Logger()


Problems = Callable[[], Awaitable[list[str]]]
"""Names of what keeps the gateway from serving; empty when it can."""


class Health(Resource):
    """The process is alive."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer 200, whatever else is wrong: restarting the process would not mend it."""
        return answer(request, OK, b'{"status":"ok"}')


class Ready(Resource):
    """The gateway can serve charge points, or why not."""

    isLeaf = True

    def __init__(self, guard: Guard, problems: Problems) -> None:
        super().__init__()
        self._guard = guard
        self._problems = problems

    def render_GET(self, request: Request) -> bytes | int:
        """Answer 200 or 503 with the reasons."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return refusal
        checking = Deferred.fromCoroutine(self._check(request))
        request.notifyFinish().addErrback(lambda _: checking.cancel())
        checking.addErrback(self._failed)
        return NOT_DONE_YET

    async def _check(self, request: Request) -> None:
        problems = await self._problems()
        body = orjson.dumps({"status": "unavailable", "reasons": problems} if problems else {"status": "ready"})
        request.write(answer(request, SERVICE_UNAVAILABLE if problems else OK, body))
        request.finish()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("Readiness could not be told", failure=failure, event="http.failed")


class Exposition(Resource):
    """Prometheus' text format."""

    isLeaf = True

    def __init__(self, guard: Guard, exposition: Callable[[], bytes]) -> None:
        super().__init__()
        self._guard = guard
        self._exposition = exposition

    def render_GET(self, request: Request) -> bytes:
        """Answer with every metric."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return refusal
        return answer(request, OK, self._exposition(), b"text/plain; version=0.0.4; charset=utf-8")


class NotHere(Resource):
    """Every other path. Scanners come here; they are told nothing."""

    isLeaf = True

    def __init__(self, unknown_path: Callable[[str, str, Sequence[str]], None]) -> None:
        super().__init__()
        self._unknown_path = unknown_path

    def render(self, request: Request) -> bytes:
        """Answer 404 and count the scan."""
        forwarded_for = request.requestHeaders.getRawHeaders("x-forwarded-for", [])
        self._unknown_path(request.uri.decode("latin-1"), request.getClientAddress().host, forwarded_for)
        return answer(request, NOT_FOUND, b'{"error":"not_found"}')


class Root(Resource):
    """The paths of the HTTP port."""

    def __init__(self, fallback: NotHere) -> None:
        super().__init__()
        self._fallback = fallback

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Anything that is not a path of ours."""
        return self._fallback


class _BodilessRequest(Request):
    """A request of which no body is kept or parsed: nothing here takes one."""

    _has_body = False

    def gotLength(self, length: int | None) -> None:
        """Twisted's: the header fields are there. ``length`` of the body, None: it comes in chunks."""
        super().gotLength(0)
        if length != 0:
            self._has_body = True
            self.requestHeaders.removeHeader(b"expect")  # Twisted would say that it may go on
            self.channel.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted's: a piece of the body."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Twisted's: the request is complete."""
        if not self._has_body:
            super().requestReceived(command, path, version)


class _PunctualChannel(HTTPChannel):
    """A connection on which the whole header block has to come in the time that Twisted gives from byte to byte."""

    def resetTimeout(self) -> None:
        """Twisted's: bytes have come. They win no time."""


class _QuietSite(Site):
    """A Site without access log: its lines would be written by peers."""

    protocol: Any = _PunctualChannel
    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Twisted's: one request was answered."""


def site(
    *,
    token: str,
    problems: Problems,
    exposition: Callable[[], bytes],
    unknown_path: Callable[[str, str, Sequence[str]], None],
    ocpp: IResource | None,
    timeout: float,
    operators: OperatorPorts,
) -> Site:
    """The HTTP port's factory. ``ocpp`` is the OCPP endpoint, where it is to be on this port too.

    ``timeout``: seconds from the connection, or from the last answer on it, to a complete request.
    """
    guard = Guard(token.encode())
    not_here = NotHere(unknown_path)
    root = Root(not_here)
    root.putChild(b"health", Health())
    root.putChild(b"ready", Ready(guard, problems))
    root.putChild(b"metrics", Exposition(guard, exposition))
    root.putChild(b"sessions", LiveSessions(guard, operators, not_here))
    root.putChild(b"nodes", Nodes(guard, operators, not_here))
    if ocpp is not None:
        root.putChild(b"ocpp", ocpp)
    return _QuietSite(root, _BodilessRequest, parsePOSTFormSubmission=False, timeout=timeout)
