"""How far each command is (``commands.states``), in Redis, where all nodes see it.

Each change is one script that compares and sets, and that gives the same answer when it is run again by the same
caller: an answer can get lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import orjson
from attrs import define, field

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Begun, CommandState, Final, Owner, Parking, Process, Verdict
from ocpp_gateway.redis.command_records import (
    PARKED_DEADLINES,
    arguments_of,
    audit_key,
    command_script,
    encoded_headers,
    fields_of,
    final_of,
    owner_of,
    parked_key,
    record_key,
    state_of,
)
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.parked import LOOK_AGAIN_MS, ParkedCommands
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import record_key as session_key

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_BATCH = 50
"""Records that are read in one trip: each may have a final event or a parked command in it."""


@define(eq=False, kw_only=True)
class RedisCommands:
    """See ``CommandStore``. Every method may raise StoreUnavailable.

    ``idempotency_ttl``: seconds a commandId is recognised after its command; ``audit_ttl``: seconds of an audit record.
    """

    client: RedisClient
    clock: Clock
    idempotency_ttl: int
    audit_ttl: int
    _parked: ParkedCommands = field(init=False)
    _begin: Script = field(factory=lambda: command_script("begin_command"), init=False)
    _owner: Script = field(factory=lambda: command_script("find_owner"), init=False)
    _send: Script = field(factory=lambda: command_script("send_command"), init=False)
    _finish: Script = field(factory=lambda: command_script("finish_command"), init=False)
    _adopt: Script = field(factory=lambda: command_script("adopt_command"), init=False)
    _published: Script = field(factory=lambda: command_script("published_command"), init=False)
    _look: Script = field(factory=lambda: command_script("look_commands"), init=False)

    def __attrs_post_init__(self) -> None:
        self._parked = ParkedCommands(self.client, self._read)

    async def begin(self, command: Command) -> Begun:
        """Take on ``command``. A done one whose final event was retryable is begun anew by another record.

        A record that was told to be a duplicate stays one.
        """
        keys = [record_key(command.command_id), session_key(command.charge_point_id)]
        arguments = [*self._arguments(command), self.client.key(lease_key(""))]
        verdict, fields, owner = await self.client.run(self._begin, keys, arguments)
        return Begun(Verdict(verdict.decode()), state_of(fields_of(fields)), owner_of(owner))

    async def owner(self, charge_point_id: str) -> Owner | None:
        """Who has the charge point now; None: it is offline."""
        lease_prefix = self.client.key(lease_key(""))
        return owner_of(await self.client.run(self._owner, [session_key(charge_point_id)], [lease_prefix]))

    async def is_alive(self, processes: Iterable[Process]) -> set[Process]:
        """Those of ``processes`` whose lease is there."""
        wanted = list(set(processes))
        if not wanted:
            return set()
        leases = await self.client.mget([lease_key(process.node_id) for process in wanted])
        return {process for process, lease in zip(wanted, leases, strict=True) if _born(lease) == process.born}

    async def send(self, command: Command, process: Process, epoch: int, message_id: str, audit: bytes) -> bool:
        """open -> sent: ``process`` is about to write the CALL. False: somebody else has sent or finished it."""
        arguments = [*self._moving(command), process.node_id, process.born, epoch, message_id, audit, self.audit_ttl]
        return bool(await self.client.run(self._send, self._keys(command), arguments))

    async def finish(
        self,
        command: Command,
        final: Final,
        process: Process,
        *,
        message_id: str | None,
        is_retryable: bool,
        summary: bytes,
        audit: bytes | None,
    ) -> bool:
        """open or sent -> final: ``process`` is to publish ``final``. False: somebody else has sent or finished it."""
        event: list[bytes | str | int] = [final.event_id, final.key, final.value, encoded_headers(final.headers)]
        arguments = [
            *self._moving(command),
            process.node_id,
            process.born,
            message_id or "",
            *event,
            summary,
            int(is_retryable),
            self._now_ms(),
            self.audit_ttl,
        ]
        if audit is not None:
            arguments.append(audit)
        return bool(await self.client.run(self._finish, self._keys(command), arguments))

    async def adopt(self, command_id: str, dead: Process, process: Process) -> Final | None:
        """``process`` is to publish the final event in place of ``dead``. None: it is not."""
        found = await self.client.run(
            self._adopt,
            [record_key(command_id), lease_key(dead.node_id)],
            [dead.node_id, dead.born, process.node_id, process.born],
        )
        return None if found is None else final_of(*found)

    async def published(self, command: Command, event_id: str) -> None:
        """final -> done: Kafka has the event ``event_id``."""
        keys = [record_key(command.command_id), parked_key(command.charge_point_id), PARKED_DEADLINES]
        await self.client.run(self._published, keys, [*self._arguments(command), command.command_id, event_id])

    async def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """The states, in their order; None: there is no record."""
        return [None if fields is None else state_of(fields) for fields in await self._read(command_ids)]

    async def park(self, command: Command, expires_at_ms: int, limit: int) -> Parking:
        """Let it wait until ``expires_at_ms``, unless ``limit`` others do or the charge point is connected."""
        return await self._parked.park(command, expires_at_ms, limit)

    async def parked(self, charge_point_id: str) -> list[Command]:
        """What waits for the charge point and was not sent, in order."""
        return await self._parked.parked(charge_point_id)

    async def due(self, now_ms: int, limit: int) -> list[Command]:
        """At most ``limit`` parked commands that somebody has to look after, and nobody else does for some seconds."""
        return await self._parked.due(now_ms, limit)

    async def _read(self, command_ids: Sequence[str]) -> list[dict[bytes, bytes] | None]:
        found: list[dict[bytes, bytes] | None] = []
        for start in range(0, len(command_ids), _BATCH):
            keys = [record_key(command_id) for command_id in command_ids[start : start + _BATCH]]
            records = await self.client.run(self._look, keys, [])
            found += [None if record is None else fields_of(record) for record in records]
        return found

    def _keys(self, command: Command) -> list[str]:
        return [record_key(command.command_id), audit_key(command.command_id), PARKED_DEADLINES]

    def _arguments(self, command: Command) -> list[bytes | str | int]:
        return arguments_of(command, self._now_ms(), self.idempotency_ttl)

    def _moving(self, command: Command) -> list[bytes | str | int]:
        return [*self._arguments(command), command.command_id, self._now_ms() + LOOK_AGAIN_MS]

    def _now_ms(self) -> int:
        return int(self.clock.now() * 1000)


def _born(lease: bytes | None) -> str | None:
    """The ``startedAt`` of a lease, empty if that cannot be read, as in the scripts; None: there is no lease."""
    if lease is None:
        return None
    try:
        born = orjson.loads(lease)["startedAt"]
    except (ValueError, TypeError, KeyError):
        return ""
    return born if isinstance(born, str) else ""
