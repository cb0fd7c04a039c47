"""Many nodes at the same command: over connections of their own, in any order, with answers that get lost."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from command_support import (
    AUDIT,
    NOW_MS,
    C,
    command,
    connect,
    final,
    finish,
    state,
    store,
)
from redis_support import FlakyProxyFactory, connected_client, listening, reason_of, using
from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.commands.states import Final, Parking, Process, Stage, Verdict
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.commands import RedisCommands
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.ownership import Ownership

PROCESSES = [Process(f"node-{name}", f"{name}-1") for name in "abcdef"]


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    return await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)


@pytest.mark.parametrize("round_number", range(5))
async def test_of_many_who_try_one_succeeds(client: RedisClient, round_number: int) -> None:
    ours = store(client)
    verdicts = await together(*(ours.begin(command()) for _ in PROCESSES))
    assert sorted(begun.verdict for begun in verdicts) == [Verdict.NEW] + [Verdict.RESUMED] * 5
    others = await together(*(ours.begin(command(2, source=f"s-{place}")) for place in range(6)))
    assert sorted(begun.verdict for begun in others) == [Verdict.DUPLICATE] * 5 + [Verdict.NEW]

    sends = await together(*(ours.send(command(), process, 7, f"m-{process.node_id}", AUDIT) for process in PROCESSES))
    assert sends.count(True) == 1
    sender = PROCESSES[sends.index(True)]
    assert (await state(ours)).sent_by == sender

    ends = await together(
        *(
            finish(ours, command(), final(place), process, message_id=f"m-{sender.node_id}")
            for place, process in enumerate(PROCESSES)
        )
    )
    assert ends.count(True) == 1
    dead = PROCESSES[ends.index(True)]
    assert (await state(ours)).final == final(ends.index(True))

    adopters = [process for process in PROCESSES if process != dead]
    adopted = await together(*(ours.adopt("c-1", dead, process) for process in adopters))
    assert [one for one in adopted if one is not None] == [final(ends.index(True))]


@pytest.mark.parametrize("sends_first", [True, False])
async def test_a_command_is_sent_or_given_up_but_not_both(client: RedisClient, sends_first: bool) -> None:
    ours = store(client)
    for number in range(20):
        each = command(number)
        await ours.begin(each)
        calls = [ours.send(each, PROCESSES[0], 7, "m-1", AUDIT), finish(ours, each, final(), PROCESSES[1])]
        was_sent, was_finished = (await together(*(calls if sends_first else calls[::-1])))[:: 1 if sends_first else -1]
        assert was_sent is not was_finished
        assert (await state(ours, each.command_id)).state is (Stage.SENT if was_sent else Stage.FINAL)


@pytest.mark.parametrize("parks_first", [True, False])
async def test_a_command_is_parked_before_a_claim_or_sees_it(client: RedisClient, parks_first: bool) -> None:
    """Whoever claims looks for what is parked later: so one of both sees the other."""
    ours = store(client)
    for number in range(20):
        charge_point_id = f"CP-{number:03d}"
        each = command(number, charge_point_id=charge_point_id)
        await ours.begin(each)
        calls: list[Coroutine[Any, Any, Any]] = [
            ours.park(each, NOW_MS + 1000, 50),
            connect(client, PROCESSES[0], charge_point_id),
        ]
        results = await together(*(calls if parks_first else calls[::-1]))
        parking = results[0 if parks_first else 1]
        seen = await ours.parked(charge_point_id)
        assert (parking, seen) in [(Parking.PARKED, [each]), (Parking.CONNECTED, [])]


async def test_two_who_park_park_it_once(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert set(await together(*(ours.park(command(), NOW_MS + 1000, 1) for _ in range(6)))) == {Parking.PARKED}
    assert await ours.parked("CP-001") == [command()]


async def test_the_last_place_is_given_once(client: RedisClient) -> None:
    ours = store(client)
    results = await together(*(ours.park(command(number), NOW_MS + 1000, 3) for number in range(9)))
    assert sorted(results) == [Parking.FULL] * 6 + [Parking.PARKED] * 3
    assert len(await ours.parked("CP-001")) == 3


async def test_what_is_due_is_given_to_one_sweep_of_many(client: RedisClient) -> None:
    ours = store(client)
    for number in range(30):
        await ours.park(command(number), NOW_MS, 50)
    found = await together(*(ours.due(NOW_MS, 8) for _ in range(6)))
    names = [each.command_id for commands in found for each in commands]
    assert sorted(names) == sorted(f"c-{number}" for number in range(30))


async def test_a_command_that_is_unparked_twice_is_sent_once(client: RedisClient) -> None:
    """The charge point connects to another node before the first has sent what waited."""
    ours = store(client)
    await ours.park(command(), NOW_MS + 1000, 50)
    first, second = await ours.parked("CP-001"), await ours.parked("CP-001")
    assert first == second == [command()]
    sends = await together(
        ours.send(first[0], PROCESSES[0], 1, "m-1", AUDIT), ours.send(second[0], PROCESSES[1], 2, "m-2", AUDIT)
    )
    assert sorted(sends) == [False, True]


async def test_a_claim_is_given_back_while_a_command_is_parked(client: RedisClient) -> None:
    ours = store(client)
    epoch = await connect(client, C)
    node = Ownership(client=client, node_id="node-c", session_ttl=60)
    parking, _ = await together(ours.park(command(), NOW_MS + 1000, 50), node.release("CP-001", epoch))
    # It is parked, or whoever tried is told to look again, and finds the charge point offline.
    assert parking in (Parking.PARKED, Parking.CONNECTED)
    assert await ours.park(command(), NOW_MS + 1000, 50) is Parking.PARKED


# Answers that get lost.


async def test_a_call_whose_answer_got_lost_is_made_again(redis_server: EmbeddedRedis) -> None:
    prefix = f"test-{uuid4().hex}"
    proxy = FlakyProxyFactory(redis_server.port)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(proxy))
        url = f"redis://:{redis_server.password}@127.0.0.1:{port}"
        near = await stack.enter_async_context(using(await connected_client(redis_server.url, prefix=prefix)))
        far = await stack.enter_async_context(using(await connected_client(url, prefix=prefix, pool_size=1)))
        ours, theirs = store(near), store(far)

        async def lost(call: Coroutine[Any, Any, Any], same: Coroutine[Any, Any, Any]) -> None:
            """``call`` does not reach Redis; what it would have done is done by ``same``, without its answer."""
            proxy.cuts = 1
            await reason_of(call)
            proxy.cuts = 0
            await same
            await far.when_connected(10)

        a = PROCESSES[0]
        await lost(theirs.begin(command()), ours.begin(command()))
        assert (await theirs.begin(command())).verdict is Verdict.RESUMED
        await lost(theirs.send(command(), a, 7, "m-1", AUDIT), ours.send(command(), a, 7, "m-1", AUDIT))
        assert await theirs.send(command(), a, 7, "m-1", AUDIT)
        await lost(
            finish(theirs, command(), final(), a, message_id="m-1"),
            finish(ours, command(), final(), a, message_id="m-1"),
        )
        assert await finish(theirs, command(), final(), a, message_id="m-1")
        await lost(theirs.adopt("c-1", a, C), ours.adopt("c-1", a, C))
        assert await theirs.adopt("c-1", a, C) == final()
        await lost(theirs.published(command(), "event-1"), ours.published(command(), "event-1"))
        await theirs.published(command(), "event-1")
        assert (await state(ours)).state is Stage.DONE


# Any order at all.


class Node:
    """A process that does anything at any time, and writes down what it was allowed to."""

    def __init__(self, ours: RedisCommands, process: Process, dice: random.Random) -> None:
        self.ours, self.process, self.dice = ours, process, dice
        self.sent: list[str] = []
        self.finished: list[Final] = []

    async def act(self, step: int) -> None:
        what, process = command(), self.process
        found = (await self.ours.look(["c-1"]))[0]
        message_id = None if found is None else found.message_id
        match self.dice.randrange(7):
            case 0:
                await self.ours.begin(what)
            case 1:
                message_id = f"{process.node_id}/{step}"
                for _ in range(self.dice.randrange(1, 3)):
                    is_sent = await self.ours.send(what, process, 1, message_id, AUDIT)
                if is_sent:
                    self.sent.append(message_id)
            case 2 | 3:
                event = final(hash((process.node_id, step)))
                if await finish(self.ours, what, event, process, message_id=message_id):
                    self.finished.append(event)
            case 4:
                await self.ours.park(what, NOW_MS + step, 5)
            case 5:
                if found is not None and found.final_by is not None:
                    await self.ours.adopt("c-1", found.final_by, process)
            case _:
                await self.ours.due(NOW_MS + step * 1000, 3)


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_many_nodes_do_a_command_is_sent_once_at_most_and_has_one_final_event(
    client: RedisClient, seed: int
) -> None:
    dice = random.Random(seed)
    nodes = [Node(store(client), process, dice) for process in PROCESSES]
    for step in range(12):
        await together(*(node.act(step) for node in nodes))
    sent = [message_id for node in nodes for message_id in node.sent]
    finished = [event for node in nodes for event in node.finished]
    assert len(sent) <= 1
    assert len(finished) == 1
    found = await state(store(client))
    assert (found.state, found.final) == (Stage.FINAL, finished[0])
    assert found.message_id == (sent[0] if sent else None)
    await store(client).published(command(), finished[0].event_id)
    assert (await state(store(client))).state is Stage.DONE
    assert await store(client).parked("CP-001") == []
