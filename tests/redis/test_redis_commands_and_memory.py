"""The Redis in memory that the tests of ``commands`` use does what the real one does."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from command_support import AUDIT, NOW_MS, SUMMARY, A, B, command, connect, do, final, lease, store
from commands.command_parts import MemoryRedis, MemoryStore
from support.manual_clock import ManualClock

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Begun, CommandState, Owner
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.nodes import lease_key

_IDS = ("c-1", "c-2", "c-3")


def comparable(result: Any) -> Any:
    """Without what the one in memory does not care for."""
    if isinstance(result, Begun):
        return result.verdict, comparable(result.state), comparable(result.owner)
    if isinstance(result, Owner):
        return result.process, result.epoch
    if isinstance(result, CommandState):
        return (
            result.state,
            result.source,
            result.sent_by,
            result.message_id,
            result.final_by,
            result.final,
            result.final_at_ms,
            result.summary,
            result.is_parked,
        )
    if isinstance(result, list):
        return [comparable(each) for each in result]
    return result


@pytest.mark.parametrize("seed", range(30))
async def test_both_say_the_same_to_any_row_of_calls(client: RedisClient, seed: int) -> None:
    random = Random(seed)
    clock = ManualClock()
    memory = MemoryRedis()
    real, fake = store(client, clock), MemoryStore(memory, lambda: int(clock.now() * 1000))

    def any_command() -> Command:
        number = random.choice((1, 2, 3))
        source = f"cpms.command.requests/0/{random.choice((number, number, 9))}"
        return command(number, source=source, requested_at_ms=NOW_MS)

    for _ in range(80):
        what, process, dice = any_command(), random.choice((A, B)), random.random()
        message_id = random.choice((None, "m-1", "m-1", "m-2"))
        if dice < 0.2:
            calls = [each.begin(what) for each in (real, fake)]
        elif dice < 0.32:
            calls = [each.send(what, process, 7, message_id or "m-1", AUDIT) for each in (real, fake)]
        elif dice < 0.47:
            event, retryable = final(random.choice((1, 2))), random.random() < 0.5
            calls = [
                each.finish(
                    what,
                    event,
                    process,
                    message_id=message_id,
                    is_retryable=retryable,
                    summary=SUMMARY,
                    audit=None,
                )
                for each in (real, fake)
            ]
        elif dice < 0.57:
            event_id = random.choice(("event-1", "event-2"))
            calls = [each.published(what, event_id) for each in (real, fake)]
        elif dice < 0.65:
            calls = [each.adopt(what.command_id, A, process) for each in (real, fake)]
        elif dice < 0.77:
            calls = [each.park(what, NOW_MS + 9_000, 2) for each in (real, fake)]
        elif dice < 0.82:
            calls = [each.parked("CP-001") for each in (real, fake)]
        elif dice < 0.86:
            calls = [each.is_alive([A, B]) for each in (real, fake)]
        elif dice < 0.90:
            memory.sessions["CP-001"] = process.node_id, await connect(client, process)
            memory.leases[process.node_id] = process.born
            continue
        elif dice < 0.94:
            await do(client, lease_key(process.node_id), "DEL")
            memory.leases.pop(process.node_id, None)
            continue
        elif dice < 0.97:
            await lease(client, process)
            memory.leases[process.node_id] = process.born
            continue
        else:
            clock.advance(4.0)
            now_ms = int(clock.now() * 1000)
            calls = [each.due(now_ms, 10) for each in (real, fake)]
        of_real, of_fake = [comparable(await call) for call in calls]
        if dice >= 0.97:
            of_real, of_fake = (sorted(each.command_id for each in found) for found in (of_real, of_fake))
        assert of_real == of_fake
        assert comparable(await real.look(_IDS)) == comparable(await fake.look(_IDS))
