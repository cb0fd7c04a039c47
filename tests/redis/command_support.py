"""What the tests of commands in Redis share: commands, processes, final events, and a Redis seen from several nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from support.manual_clock import ManualClock
from test_redis_sessions import RECORD

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandState, Final, Process
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.commands import RedisCommands
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.scripts import Script

NOW_MS = 1_767_323_045_678
A, B, C = Process("node-a", "2026-01-02T03:00:00.000Z"), Process("node-b", "b-1"), Process("node-c", "c-1")
AUDIT = b'{"commandId":"c-1"}'
SUMMARY = b'{"eventType":"CommandAccepted","payload":{}}'

TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")
DO = Script("do", b"return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))")


def store(client: RedisClient, clock: Any = None) -> RedisCommands:
    return RedisCommands(client=client, clock=clock or ManualClock(), idempotency_ttl=86_400, audit_ttl=604_800)


def command(number: int = 1, **changes: Any) -> Command:
    return attrs.evolve(
        Command(
            command_id=f"c-{number}",
            command_type="Reset",
            charge_point_id="CP-001",
            requested_at_ms=NOW_MS,
            timeout_seconds=15.0,
            payload={"type": "Soft"},
            source=f"cpms.command.requests/0/{number}",
        ),
        **changes,
    )


def final(number: int = 1, value: bytes = b'{"eventId":"e"}') -> Final:
    return Final(f"event-{number}", b"CP-001", value, [("ce_id", b"event-1"), ("any", b"\x00\xff\xc3\xa9")])


async def finish(
    commands: RedisCommands,
    what: Command,
    event: Final,
    process: Process = A,
    *,
    message_id: str | None = None,
    is_retryable: bool = False,
    audit: bytes | None = None,
) -> bool:
    return await commands.finish(
        what, event, process, message_id=message_id, is_retryable=is_retryable, summary=SUMMARY, audit=audit
    )


async def state(commands: RedisCommands, command_id: str = "c-1") -> CommandState:
    found = (await commands.look([command_id]))[0]
    assert found is not None
    return found


async def lease(client: RedisClient, process: Process) -> None:
    value = {"nodeId": process.node_id, "startedAt": process.born, "lastSeenAt": "2026-01-02T03:04:05.000Z"}
    await client.set(lease_key(process.node_id), json.dumps(value).encode())


async def connect(client: RedisClient, process: Process = A, charge_point_id: str = "CP-001") -> int:
    """A live session of the charge point, as a node claims it; its epoch."""
    await lease(client, process)
    record = attrs.evolve(RECORD, node_id=process.node_id, charge_point_id=charge_point_id, epoch=0)
    claim = await Ownership(client=client, node_id=process.node_id, session_ttl=60).claim(record)
    return claim.epoch


async def do(client: RedisClient, key: str, *words: bytes | str | int) -> Any:
    """A Redis command on ``key``: its name is the first of ``words``."""
    return await client.run(DO, [key], list(words))


def ids(commands: Sequence[Command]) -> list[str]:
    return [each.command_id for each in commands]
