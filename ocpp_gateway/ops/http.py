"""The HTTP port: /health, /ready, /metrics, /sessions, /nodes, commands, and the OCPP endpoint for the bench.

``/health`` says that the process is alive, ``/ready`` whether it can serve. A token, where one is set, guards all but
``/health`` and the OCPP endpoint, which has credentials of its own; what is for operators is not there without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NOT_FOUND, OK, SERVICE_UNAVAILABLE, HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from ocpp_gateway.ops.answers import Guard, answer
from ocpp_gateway.ops.commands import MAX_BODY, Chargers, Door
from ocpp_gateway.ops.operators import LiveSessions, Nodes, OperatorPorts

log = Logger()

_WITH_BODY: Final = b"/chargers/"
"""What the paths begin with that take a body."""

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


class _BoundedRequest(Request):
    """A request without a body, but for who asks for a command: theirs is small, and its length is announced.

    What comes without the token is read to its end, so that it can be answered, but not kept. Nothing is parsed.
    """

    _keeps_body = False
    _has_body = False
    _is_refused = False

    def __init__(self, guard: Guard, channel: HTTPChannel, queued: object = None) -> None:
        super().__init__(channel, queued)
        self._guard = guard

    def gotLength(self, length: int | None) -> None:
        """Twisted's: the header fields are there. ``length`` of the body, None: it comes in chunks."""
        self._has_body = length != 0
        self._keeps_body = self._has_body and length is not None and length <= MAX_BODY and self._guard.is_shown(self)
        super().gotLength(length if self._keeps_body else 0)
        if length is None or length > MAX_BODY:
            self.requestHeaders.removeHeader(b"expect")  # Twisted would say that it may go on
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Twisted's: a piece of the body."""
        if self._keeps_body:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Twisted's: the request is complete."""
        if self._has_body and not path.startswith(_WITH_BODY):
            self._refuse()
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        if not self._is_refused:
            self._is_refused = True
            self.channel.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.loseConnection()


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
    door: Door | None = None,
) -> Site:
    """The HTTP port's factory. ``ocpp`` is the OCPP endpoint, where it is to be on this port too.

    ``door``: where commands are requested; None: there are none here.
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
    root.putChild(b"chargers", Chargers(guard, operators, not_here, door))
    if ocpp is not None:
        root.putChild(b"ocpp", ocpp)
    return _QuietSite(root, partial(_BoundedRequest, guard), parsePOSTFormSubmission=False, timeout=timeout)
