"""Commands that wait in a real Redis for charge points that are offline."""

from __future__ import annotations

import pytest
from command_support import (
    AUDIT,
    NOW_MS,
    TTL,
    A,
    B,
    command,
    connect,
    do,
    final,
    finish,
    ids,
    state,
    store,
)
from support.manual_clock import ManualClock

from ocpp_gateway.commands.states import Parking, Stage, Verdict
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.commands import RedisCommands
from ocpp_gateway.redis.ownership import Ownership

LATER = NOW_MS + 600_000


async def park(ours: RedisCommands, *numbers: int, until_ms: int = LATER) -> None:
    for number in numbers:
        await ours.begin(command(number))
        assert await ours.park(command(number), until_ms, 50) is Parking.PARKED


async def test_what_waits_is_given_in_order_until_it_is_sent(client: RedisClient) -> None:
    ours = store(client)
    assert await ours.parked("CP-001") == []
    await park(ours, 3, 1, 2)
    assert await ours.parked("CP-001") == [command(3), command(1), command(2)]
    assert await ours.parked("CP-002") == []
    assert (await state(ours)).is_parked
    await ours.send(command(3), A, 7, "m-1", AUDIT)
    assert ids(await ours.parked("CP-001")) == ["c-1", "c-2"]
    assert (await state(ours, "c-3")).is_parked
    await finish(ours, command(2), final())
    assert ids(await ours.parked("CP-001")) == ["c-1"]


async def test_a_command_comes_back_as_it_was(client: RedisClient) -> None:
    ours = store(client)
    full = command(
        payload={"name": "Ünïcode \n", "deep": [[{"a": None}]]},
        station_id="station-1",
        connector_id=2,
        requested_by={"userId": "u"},
        deliver_within_seconds=600.0,
    )
    await ours.begin(full)
    await ours.park(full, LATER, 50)
    assert await ours.parked("CP-001") == [full]


async def test_what_is_parked_again_is_there_once(client: RedisClient) -> None:
    ours = store(client)
    await park(ours, 1)
    for _ in range(2):
        assert await ours.park(command(), LATER + 5, 1) is Parking.PARKED
    assert ids(await ours.parked("CP-001")) == ["c-1"]
    begun = await ours.begin(command())
    assert (begun.verdict, begun.state.is_parked) == (Verdict.RESUMED, True)
    # Its record was deleted by hand: it is begun and parked once more.
    await client.delete("command-idempotency:c-1")
    await park(ours, 1)
    assert await do(client, "parked-commands:CP-001", "LRANGE", 0, -1) == [b"c-1"]


async def test_only_so_many_wait_for_one_charge_point(client: RedisClient) -> None:
    ours = store(client)
    for number in (1, 2):
        assert await ours.park(command(number), LATER, 2) is Parking.PARKED
    assert await ours.park(command(3), LATER, 2) is Parking.FULL
    assert await ours.park(command(1), LATER, 2) is Parking.PARKED
    assert await ours.park(command(4, charge_point_id="CP-002"), LATER, 2) is Parking.PARKED
    assert await ours.park(command(5, charge_point_id="CP-003"), LATER, 0) is Parking.FULL
    assert await ours.look(["c-3", "c-5"]) == [None, None]
    await finish(ours, command(1), final())
    assert await ours.park(command(3), LATER, 2) is Parking.FULL
    await ours.published(command(1), "event-1")
    assert await ours.park(command(3), LATER, 2) is Parking.PARKED
    assert ids(await ours.parked("CP-001")) == ["c-2", "c-3"]


async def test_only_what_is_open_is_parked(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    await ours.send(command(), A, 7, "m-1", AUDIT)
    assert await ours.park(command(), LATER, 50) is Parking.NOT_OPEN
    await finish(ours, command(), final(), message_id="m-1")
    assert await ours.park(command(), LATER, 50) is Parking.NOT_OPEN
    await ours.published(command(), "event-1")
    assert await ours.park(command(), LATER, 50) is Parking.NOT_OPEN
    assert await ours.parked("CP-001") == []


async def test_nothing_is_parked_for_who_is_connected(client: RedisClient) -> None:
    ours = store(client)
    await park(ours, 1)
    epoch = await connect(client, A)
    await ours.begin(command(2))
    assert await ours.park(command(2), LATER, 50) is Parking.CONNECTED
    assert await ours.park(command(1), LATER, 50) is Parking.PARKED
    assert ids(await ours.parked("CP-001")) == ["c-1"]
    assert not (await state(ours, "c-2")).is_parked
    await Ownership(client=client, node_id="node-a", session_ttl=60).release("CP-001", epoch)
    assert await ours.park(command(2), LATER, 50) is Parking.PARKED


async def test_a_record_without_a_living_node_is_no_connection(client: RedisClient) -> None:
    ours = store(client)
    await connect(client, A)
    await client.delete("nodes:node-a")
    assert await ours.park(command(), LATER, 50) is Parking.PARKED


# Looking after them.


async def test_what_has_waited_long_enough_is_due_for_one_of_many(client: RedisClient) -> None:
    ours, theirs = store(client), store(client)
    await park(ours, 1)
    await park(ours, 2, until_ms=LATER + 1)
    assert await ours.due(LATER - 1, 10) == []
    assert await ours.due(LATER, 10) == [command(1)]
    assert await theirs.due(LATER, 10) == []
    assert await theirs.due(LATER + 4_999, 10) == [command(2)]
    # The first who found it has done nothing.
    assert await theirs.due(LATER + 5_000, 10) == [command(1)]
    await finish(ours, command(1), final())
    await ours.published(command(1), "event-1")
    await finish(ours, command(2), final(2))
    await ours.published(command(2), "event-2")
    assert await ours.due(LATER + 1_000_000, 10) == []
    assert await do(client, "parked-deadlines", "EXISTS") == 0
    assert await do(client, "parked-commands:CP-001", "EXISTS") == 0


async def test_what_is_due_comes_some_at_a_time_the_longest_first(client: RedisClient) -> None:
    ours = store(client)
    for number in (3, 1, 2):
        await park(ours, number, until_ms=LATER + number)
    assert ids(await ours.due(LATER + 10, 2)) == ["c-1", "c-2"]
    assert ids(await ours.due(LATER + 10, 2)) == ["c-3"]


async def test_what_is_under_way_is_looked_after_before_its_time_is_over(client: RedisClient) -> None:
    """No record in Kafka comes back for it, if the process that has it dies."""
    clock = ManualClock()
    ours = store(client, clock)
    await park(ours, 1, until_ms=LATER)
    await ours.send(command(), A, 7, "m-1", AUDIT)
    assert await ours.due(NOW_MS + 4_999, 10) == []
    assert await ours.due(NOW_MS + 5_000, 10) == [command()]
    clock.advance(8)
    await finish(ours, command(), final(), B, message_id="m-1")
    assert await ours.due(NOW_MS + 12_999, 10) == []
    assert await ours.due(NOW_MS + 13_001, 10) == [command()]
    found = await state(ours)
    assert (found.state, found.final_by, found.is_parked) == (Stage.FINAL, B, True)
    await ours.published(command(), "event-1")
    assert await ours.due(LATER * 2, 10) == []
    assert not (await state(ours)).is_parked


async def test_what_is_parked_is_kept_until_it_is_done(client: RedisClient) -> None:
    ours = store(client)
    await park(ours, 1)
    keys = ["command-idempotency:c-1", "parked-commands:CP-001", "parked-deadlines"]
    for step in (
        ours.send(command(), A, 7, "m-1", AUDIT),
        finish(ours, command(), final(), message_id="m-1"),
    ):
        assert [await client.run(TTL, [key], []) for key in keys] == [-1, -1, -1]
        await step
    assert [await client.run(TTL, [key], []) for key in keys] == [-1, -1, -1]
    await ours.published(command(), "event-1")
    assert await client.run(TTL, keys[:1], []) > 86_400
    assert await do(client, keys[0], "HMGET", "command", "parkedUntil") == [None, None]


# What others put there, or took away.


@pytest.mark.parametrize("words", [("SET", "x"), ("SADD", "c-9"), ("HSET", "c-9", "x"), ("XADD", "*", "a", "b")])
async def test_what_is_foreign_under_our_keys_is_replaced(client: RedisClient, words: tuple[str, ...]) -> None:
    ours = store(client)
    for key in ("parked-commands:CP-001", "parked-deadlines"):
        await do(client, key, *words)
    assert await ours.parked("CP-001") == []
    assert await ours.due(LATER, 10) == []
    await park(ours, 1)
    assert ids(await ours.parked("CP-001")) == ["c-1"]
    assert ids(await ours.due(LATER, 10)) == ["c-1"]


async def test_names_of_what_is_not_parked_are_taken_off_the_lists(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command(2))
    await client.set("command-idempotency:c-3", b"1")
    names = ["c-2", "c-3", "c-9", b"\xff", "x" * 100_000, ""]
    await do(client, "parked-commands:CP-001", "RPUSH", *names)
    for name in names:
        await do(client, "parked-deadlines", "ZADD", 0, name)
    await park(ours, 1)
    assert ids(await ours.parked("CP-001")) == ["c-1"]
    assert await do(client, "parked-commands:CP-001", "LRANGE", 0, -1) == [b"c-1"]
    assert await ours.due(NOW_MS, 4) == []
    assert await ours.due(NOW_MS, 4) == []
    assert await do(client, "parked-deadlines", "ZRANGE", 0, -1) == [b"c-1"]


async def test_a_parked_command_that_cannot_be_read_does_not_hide_the_others(client: RedisClient) -> None:
    ours = store(client)
    await park(ours, 1, 2, 3)
    await do(client, "command-idempotency:c-2", "HSET", "command", b"\xff{")
    assert ids(await ours.parked("CP-001")) == ["c-1", "c-3"]
    assert ids(await ours.due(LATER, 10)) == ["c-1", "c-3"]


async def test_many_large_ones_are_read(client: RedisClient) -> None:
    ours = store(client)
    large = [command(number, payload={"text": "x" * 60_000}) for number in range(120)]
    for each in large:
        assert await ours.park(each, LATER, 120) is Parking.PARKED
    assert await ours.park(command(999), LATER, 120) is Parking.FULL
    assert await ours.parked("CP-001") == large
    assert len(await ours.due(LATER, 70)) == 70
    assert len(await ours.due(LATER, 70)) == 50
