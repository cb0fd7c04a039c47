"""The HTTP port for operators: who is connected to this node, ending a session wherever it is, and all nodes.

::

    GET    /sessions[?node=ID][&tenant=ID]   200, a JSON array of this node's sessions
    DELETE /sessions/{chargePointId}         202, it is being closed; 404, it is not connected
    GET    /nodes                            200, a JSON array
    POST   /chargers/{chargePointId}/commands: see ``commands``

All of it needs the token: 403 where none is set, 401 to who does not show it, 503 while Redis is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import orjson
from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from twisted.web.http import ACCEPTED, INTERNAL_SERVER_ERROR, NOT_ALLOWED, NOT_FOUND, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ops.answers import Guard, answer, begin

log = Logger()

_BATCH = 200
"""Sessions that are written in one turn of the reactor."""

_FILTERS = ((b"node", "nodeId"), (b"tenant", "tenantId"))

_Body = bytes | int
"""What a resource renders: the body, or NOT_DONE_YET."""


class Kick(Protocol):
    """Ends the session of a charge point, on whichever node it is."""

    def __call__(self, charge_point_id: str, /) -> Awaitable[bool]:
        """Whether it has one. Raises StoreUnavailable."""
        ...


@frozen(kw_only=True)
class OperatorPorts:
    """What operators see and do.

    ``sessions``: this node's, with the members of the session record; a generator may make them one by one.
    ``nodes``: all that are known. Raises StoreUnavailable.
    """

    sessions: Callable[[], Iterable[Mapping[str, Any]]]
    kick: Kick
    nodes: Callable[[], Awaitable[list[dict[str, Any]]]]


class Guarded(Resource):
    """A path that answers nobody without the token, whatever they ask."""

    allowed = b"GET, HEAD"

    def __init__(self, guard: Guard, ports: OperatorPorts, elsewhere: IResource) -> None:
        super().__init__()
        self._guard = guard
        self._ports = ports
        self._elsewhere = elsewhere

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Nothing is below it."""
        return self._elsewhere

    def render(self, request: Request) -> _Body:
        """Answer, or refuse."""
        refusal = self._guard.strict_refusal(request)
        if refusal is not None:
            return refusal
        if request.method.decode("latin-1") not in self.allowed.decode().split(", "):
            request.setHeader(b"allow", self.allowed)
            return answer(request, NOT_ALLOWED, b'{"error":"method_not_allowed"}')
        return self.respond(request)

    def respond(self, request: Request) -> _Body:
        """Answer who may ask."""
        raise NotImplementedError  # each path's own


class LiveSessions(Guarded):
    """``/sessions``."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        """``/sessions/{chargePointId}``."""
        try:
            charge_point_id = path.decode()
        except UnicodeDecodeError:
            charge_point_id = ""
        if not charge_point_id:
            return self._elsewhere
        return _LiveSession(self._guard, self._ports, self._elsewhere, charge_point_id)

    def respond(self, request: Request) -> _Body:
        """Write the sessions, as fast as the other side reads them."""
        begin(request, OK)
        writing = _Array(request, iter(self._ports.sessions()), _wanted(request))
        request.notifyFinish().addErrback(lambda _: writing.stopProducing())
        request.registerProducer(writing, False)
        return NOT_DONE_YET


class _LiveSession(Guarded):
    """``/sessions/{chargePointId}``."""

    allowed = b"DELETE"

    def __init__(self, guard: Guard, ports: OperatorPorts, elsewhere: IResource, charge_point_id: str) -> None:
        super().__init__(guard, ports, elsewhere)
        self._charge_point_id = charge_point_id

    def respond(self, request: Request) -> _Body:
        """Close it."""
        return answer_later(request, self._kick(request))

    async def _kick(self, request: Request) -> bytes:
        charge_point_id = self._charge_point_id
        if not await self._ports.kick(charge_point_id):
            return answer(request, NOT_FOUND, b'{"error":"not_connected"}')
        log.info(
            "{charge_point_id} is closed for an operator",
            event="session.kick_asked",
            charge_point_id=charge_point_id,
            peer=request.getClientAddress().host,
        )
        return answer(request, ACCEPTED, orjson.dumps({"status": "closing", "chargePointId": charge_point_id}))


class Nodes(Guarded):
    """``/nodes``."""

    def respond(self, request: Request) -> _Body:
        """Answer with all that are known."""
        return answer_later(request, self._list(request))

    async def _list(self, request: Request) -> bytes:
        return answer(request, OK, orjson.dumps(await self._ports.nodes()))


@implementer(IPullProducer)
@define(eq=False)
class _Array:
    """A JSON array that is written in batches: a list of all sessions would hold up every charge point."""

    request: Request
    items: Iterator[Mapping[str, Any]]
    wanted: Callable[[Mapping[str, Any]], bool]
    _begins: bytes = field(default=b"[", init=False)

    def resumeProducing(self) -> None:
        """Twisted's: there is room for more."""
        try:
            looked_at = list(islice(self.items, _BATCH))
            batch = [each for each in looked_at if self.wanted(each)]
            text = b",".join(map(orjson.dumps, batch))
        except Exception:
            body = _failed(self.request)
            if self._begins == b"[":
                self._finish(body)
            else:  # a part of the array is out: that it ends too early is all that can still be said
                self.request.unregisterProducer()
                self.request.loseConnection()
            return
        if batch:
            self.request.write(self._begins + text)
            self._begins = b","
        elif not looked_at:
            self._finish(b"[]" if self._begins == b"[" else b"]")

    def stopProducing(self) -> None:
        """Twisted's: nobody reads it any more."""
        self.items = iter(())

    def _finish(self, rest: bytes) -> None:
        self.request.write(rest)
        self.request.unregisterProducer()
        self.request.finish()


def _wanted(request: Request) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the query asks for a session. A filter that is given empty is none."""
    asked = {
        member: values[0].decode("utf-8", "replace")
        for name, member in _FILTERS
        if (values := (request.args or {}).get(name)) and values[0]
    }
    return lambda each: all(each.get(member) == value for member, value in asked.items())


def answer_later(request: Request, work: Awaitable[bytes]) -> int:
    """Answer with what ``work`` gives; it is cancelled when nobody waits for that any more."""
    answering = Deferred.fromCoroutine(_answer_with(request, work))
    request.notifyFinish().addErrback(lambda _: answering.cancel())
    return NOT_DONE_YET


async def _answer_with(request: Request, work: Awaitable[bytes]) -> None:
    try:
        body = await work
    except CancelledError:  # nobody waits for it any more
        return
    except StoreUnavailable as error:
        body = answer(request, SERVICE_UNAVAILABLE, orjson.dumps({"error": error.reason}))
    except Exception:
        body = _failed(request)
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _failed(request: Request) -> bytes:
    log.failure("An operator could not be answered", event="http.failed")
    return answer(request, INTERNAL_SERVER_ERROR, b'{"error":"internal_error"}')
