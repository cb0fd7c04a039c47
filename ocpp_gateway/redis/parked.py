"""Commands that wait for a charge point that is offline (docs/adr/0023).

``parked-commands:{id}`` is the list of their ids, in order; each is itself in its record, which does not expire while
it is parked. ``parked-deadlines`` is the sorted set of all their ids, by the moment when somebody has to look after
them: at first that is when their time is over. Once such a command is under way, it is a few seconds from now, again
and again, since no record in Kafka comes back if the process that has it dies.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.logger import Logger

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Parking, Stage
from ocpp_gateway.redis.command_records import (
    PARKED_DEADLINES,
    RECORD,
    command_of,
    command_script,
    parked_key,
    record_key,
)
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import record_key as session_key

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()

LOOK_AGAIN_MS = 5_000
"""When a parked command that is under way is looked after again."""

_MOST_PARKED = 10_000
"""Of one charge point: as many as ``OCPP_MAX_PARKED_COMMANDS`` can be."""

Records = Callable[[Sequence[str]], Coroutine[Any, Any, list[dict[bytes, bytes] | None]]]
"""Gives the records of these commands, in their order."""


@define(eq=False)
class ParkedCommands:
    """See ``CommandStore``. ``read`` gives the fields of records. Every method may raise StoreUnavailable."""

    client: RedisClient
    read: Records
    _park: Script = field(factory=lambda: command_script("park_command"), init=False)
    _parked: Script = field(factory=lambda: command_script("parked_commands"), init=False)
    _due: Script = field(factory=lambda: command_script("due_commands"), init=False)

    async def park(self, command: Command, expires_at_ms: int, limit: int) -> Parking:
        """Let it wait until ``expires_at_ms``, unless ``limit`` others do or the charge point is connected."""
        charge_point_id = command.charge_point_id
        result: bytes = await self.client.run(
            self._park,
            [
                record_key(command.command_id),
                parked_key(charge_point_id),
                PARKED_DEADLINES,
                session_key(charge_point_id),
            ],
            [
                command.source,
                charge_point_id,
                command.command_id,
                expires_at_ms,
                command.encode(),
                limit,
                self.client.key(lease_key("")),
            ],
        )
        return Parking(result.decode())

    async def parked(self, charge_point_id: str) -> list[Command]:
        """What waits for the charge point and was not sent, in order."""
        keys = [parked_key(charge_point_id)]
        ids = await self.client.run(self._parked, keys, [self.client.key(RECORD), _MOST_PARKED])
        return await self._commands(ids, is_open=True)

    async def due(self, now_ms: int, limit: int) -> list[Command]:
        """At most ``limit`` commands that somebody has to look after, and nobody else does for some seconds."""
        ids = await self.client.run(
            self._due, [PARKED_DEADLINES], [now_ms, now_ms + LOOK_AGAIN_MS, limit, self.client.key(RECORD)]
        )
        return await self._commands(ids, is_open=False)

    async def _commands(self, ids: Sequence[bytes], *, is_open: bool) -> list[Command]:
        """Those commands, without what was finished, or (``is_open``) sent, meanwhile."""
        commands: list[Command] = []
        for fields in await self.read([command_id.decode("utf-8", "replace") for command_id in ids]):
            if fields is None or b"parkedUntil" not in fields:
                continue
            command = command_of(fields)
            if command is None:
                log.debug("A parked command cannot be read", event="redis.parked_unreadable")
            elif not is_open or fields[b"state"] == Stage.OPEN.encode():
                commands.append(command)
        return commands
