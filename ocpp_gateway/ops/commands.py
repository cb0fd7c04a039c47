"""The HTTP port's door for commands: ask for one, and be told what became of it.

::

    POST /chargers/{chargePointId}/commands
         {"commandType": "Reset", "payload": {"type": "Soft"}, "timeoutSec": 15,
          "deliverWithinSec": 0, "connectorId": 1, "commandId": "..."}       only commandType is needed

    200  {"commandId", "chargePointId", "eventType", "payload"}, the final event; "repeated": true if it was there
    202  {"commandId", "chargePointId", "status": "queued" or "pending"}: it goes on without us
    400  {"error": "body_invalid" or a reason of CommandFailed, "message"}
    409  {"error": "duplicate_command_id"}: another command has this commandId
    413  the body is too large, or its length is not announced
    503  {"error": "redis_unavailable", "kafka_unavailable", "too_many_waiting", "commands_disabled" ..., "commandId"?}

A command that was asked for is carried out whether or not somebody waits. The same request with the same commandId may
be made again after any of these: it is not carried out twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson
from twisted.logger import Logger
from twisted.web.http import ACCEPTED, BAD_REQUEST, CONFLICT, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from ocpp_gateway.commands.door import LONGEST_WAIT_SECONDS, DoorFull, DuplicateCommand, Order, Reply, Standing
from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.errors import DependencyError
from ocpp_gateway.ops.answers import Guard, answer
from ocpp_gateway.ops.operators import Guarded, OperatorPorts, answer_later

log = Logger()

MAX_BODY: Final = 65_536
"""Bytes: what a record of a command may have, too."""

_MEMBERS: Final = frozenset(
    {"commandId", "commandType", "payload", "timeoutSec", "deliverWithinSec", "connectorId", "stationId"}
)
_REQUESTED_BY: Final = {"role": "operator"}
"""All that the token says about them."""


class Door(Protocol):
    """Where commands are requested: ``commands.door.CommandDoor``."""

    def order(self, members: Mapping[str, Any]) -> Order:
        """The command with these members. Raises CommandInvalid."""
        ...

    async def submit(self, order: Order, *, seconds: float) -> Reply:
        """Request it and wait. Raises DependencyError, DuplicateCommand or DoorFull."""
        ...


class Chargers(Guarded):
    """``/chargers``: nothing by itself. ``door`` None: there are no commands here."""

    def __init__(self, guard: Guard, ports: OperatorPorts, elsewhere: IResource, door: Door | None) -> None:
        super().__init__(guard, ports, elsewhere)
        self._door = door

    def getChild(self, path: bytes, request: Request) -> IResource:
        """``/chargers/{chargePointId}``: nothing by itself, but for what is below it."""
        try:
            charge_point_id = path.decode()
        except UnicodeDecodeError:
            charge_point_id = ""
        if not charge_point_id or request.postpath != [b"commands"]:
            return self._elsewhere
        charger = Resource()
        commands = _Commands(self._guard, self._ports, self._elsewhere, charge_point_id, self._door)
        charger.putChild(b"commands", commands)
        return charger

    def render(self, request: Request) -> bytes | int:
        """``/chargers`` itself."""
        rendered: bytes = self._elsewhere.render(request)
        return rendered


class _Commands(Guarded):
    allowed = b"POST"

    def __init__(
        self, guard: Guard, ports: OperatorPorts, elsewhere: IResource, charge_point_id: str, door: Door | None
    ) -> None:
        super().__init__(guard, ports, elsewhere)
        self._charge_point_id = charge_point_id
        self._door = door

    def respond(self, request: Request) -> bytes | int:
        """Ask for the command that the body describes."""
        if self._door is None:
            return _refused(request, SERVICE_UNAVAILABLE, "commands_disabled")
        try:
            order = self._door.order(self._members(request))
        except _BodyInvalid as problem:
            return _refused(request, BAD_REQUEST, "body_invalid", message=str(problem))
        except CommandInvalid as defect:
            return _refused(request, BAD_REQUEST, defect.reason, message=defect.text)
        return answer_later(request, self._submit(request, self._door, order))

    def _members(self, request: Request) -> dict[str, Any]:
        try:
            members = orjson.loads(b"" if request.content is None else request.content.read())
        except orjson.JSONDecodeError:
            raise _BodyInvalid("not JSON") from None
        if not isinstance(members, dict):
            raise _BodyInvalid("not an object")
        if not members.keys() <= _MEMBERS:
            raise _BodyInvalid(f"a member is none of {', '.join(sorted(_MEMBERS))}")
        return {**members, "chargePointId": self._charge_point_id, "requestedBy": _REQUESTED_BY}

    async def _submit(self, request: Request, door: Door, order: Order) -> bytes:
        command = order.command
        log.info(
            "{charge_point_id}: {command_type} is requested over HTTP",
            event="command.asked",
            charge_point_id=command.charge_point_id,
            command_type=command.command_type,
            command_id=command.command_id,
            peer=request.getClientAddress().host,
        )
        try:
            reply = await door.submit(order, seconds=min(order.longest_wait, LONGEST_WAIT_SECONDS))
        except DuplicateCommand as error:
            return _refused(request, CONFLICT, error.reason, commandId=command.command_id)
        except (DependencyError, DoorFull) as error:
            return _refused(request, SERVICE_UNAVAILABLE, error.reason, commandId=command.command_id)
        return answer(request, OK if reply.standing is Standing.FINAL else ACCEPTED, orjson.dumps(reply.members()))


class _BodyInvalid(Exception):
    """The body of a request is no command; the text says why, and repeats nothing of it."""


def _refused(request: Request, status: int, reason: str, **facts: str) -> bytes:
    return answer(request, status, orjson.dumps({"error": reason, **facts}))
