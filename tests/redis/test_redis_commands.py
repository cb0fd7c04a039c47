"""The states of commands on a real Redis: what each call changes, gives and keeps."""

from __future__ import annotations

import pytest
from command_support import (
    AUDIT,
    NOW_MS,
    SUMMARY,
    TTL,
    A,
    B,
    C,
    command,
    connect,
    do,
    final,
    finish,
    lease,
    state,
    store,
)
from redis_support import connected_client, reason_of, using
from support.manual_clock import ManualClock

from ocpp_gateway.commands.states import CommandState, CommandStore, Owner, Process, Stage, Verdict
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis

RECORD_KEY = "command-idempotency:c-1"


async def test_a_command_goes_its_way(client: RedisClient) -> None:
    ours: CommandStore = store(client)
    begun = await ours.begin(command())
    source = command().source
    assert begun.verdict is Verdict.NEW
    assert begun.state == CommandState(state=Stage.OPEN, source=source, charge_point_id="CP-001")
    assert begun.owner is None

    assert await ours.send(command(), A, 7, "m-1", AUDIT)
    sent = CommandState(state=Stage.SENT, source=source, charge_point_id="CP-001", sent_by=A, epoch=7, message_id="m-1")
    assert await ours.look(["c-1"]) == [sent]
    assert await client.get("command-audit:c-1") == AUDIT

    assert await ours.finish(
        command(), final(), B, message_id="m-1", is_retryable=False, summary=SUMMARY, audit=b"answered"
    )
    found = (await ours.look(["c-1"]))[0]
    assert found is not None
    assert (found.state, found.final, found.final_by, found.final_at_ms) == (Stage.FINAL, final(), B, NOW_MS)
    assert (found.sent_by, found.message_id, found.summary) == (A, "m-1", SUMMARY)
    assert await client.get("command-audit:c-1") == b"answered"

    await ours.published(command(), "event-1")
    found = (await ours.look(["c-1"]))[0]
    assert found is not None
    assert (found.state, found.final, found.summary, found.final_at_ms) == (Stage.DONE, None, SUMMARY, NOW_MS)
    assert (await ours.begin(command())).verdict is Verdict.RESUMED


async def test_who_has_the_charge_point_is_found_on_the_way(client: RedisClient) -> None:
    ours = store(client)
    assert await ours.owner("CP-001") is None
    epoch = await connect(client, A)
    owner = Owner("node-a", A.born, epoch, "1.6J")
    assert (await ours.begin(command())).owner == owner
    assert (await ours.begin(command())).owner == owner
    assert await ours.owner("CP-001") == owner
    assert owner.process == A
    await client.delete("nodes:node-a")
    assert (await ours.begin(command(2))).owner is None
    assert await ours.owner("CP-001") is None


@pytest.mark.parametrize(
    ("session", "lease_value", "owner"),
    [
        (b"", b"{}", None),
        (b"[]", b"{}", None),
        (b"null", b"{}", None),
        (b"\xff\xfe", b"{}", None),
        (b'{"nodeId":7}', b"{}", None),
        (b'{"nodeId":"node-z"}', b"{}", None),
        (b"[" * 5_000, b"{}", None),
        (b'{"nodeId":"node-a"}', b"no JSON", Owner("node-a", "", 0, "")),
        (b'{"nodeId":"node-a","epoch":"7","ocppVersion":2}', b'{"startedAt":3}', Owner("node-a", "", 0, "")),
        (
            b'{"nodeId":"node-a","epoch":1e999,"ocppVersion":"2.1"}',
            b'{"startedAt":"s"}',
            Owner("node-a", "s", 0, "2.1"),
        ),
        (b'{"nodeId":"node-a","epoch":-1}', b'{"startedAt":"s"}', Owner("node-a", "s", 0, "")),
        (b'{"nodeId":"node-a","epoch":NaN}', b'{"startedAt":"s"}', Owner("node-a", "s", 0, "")),
        (b'{"nodeId":"node-a","epoch":9007199254740991}', b"{}", Owner("node-a", "", 9_007_199_254_740_991, "")),
    ],
)
async def test_whatever_says_who_has_the_charge_point_is_read(
    client: RedisClient, session: bytes, lease_value: bytes, owner: Owner | None
) -> None:
    ours = store(client)
    await client.set("sessions:CP-001", session)
    await client.set("nodes:node-a", lease_value)
    assert await ours.owner("CP-001") == owner
    assert (await ours.begin(command())).owner == owner
    # Parking must agree: else a command would be neither sent nor parked.
    parking = "parked" if owner is None else "connected"
    assert await ours.park(command(), NOW_MS + 1000, 50) == parking


async def test_a_list_is_no_session_and_no_lease(client: RedisClient) -> None:
    ours = store(client)
    await do(client, "sessions:CP-001", "RPUSH", "x")
    await do(client, "nodes:node-a", "RPUSH", "x")
    assert await ours.owner("CP-001") is None
    assert await ours.is_alive([A]) == set()


async def test_processes_are_told_apart_by_their_birth(client: RedisClient) -> None:
    ours = store(client)
    await lease(client, A)
    await client.set("nodes:node-b", b"unreadable")
    restarted = Process("node-a", "later")
    assert await ours.is_alive([A, restarted, A, B, C]) == {A}
    assert await ours.is_alive(iter([Process("node-b", "")])) == {Process("node-b", "")}
    assert await ours.is_alive([]) == set()


# The same commandId again.


async def test_another_record_with_the_same_command_id_is_a_duplicate(client: RedisClient) -> None:
    ours = store(client)
    again = command(source="cpms.command.requests/1/9")
    await ours.begin(command())
    for stage in (Stage.OPEN, Stage.SENT, Stage.FINAL, Stage.DONE):
        begun = await ours.begin(again)
        assert (begun.verdict, begun.state.state) == (Verdict.DUPLICATE, stage)
        assert begun.state.source == command().source
        assert not await ours.send(again, B, 1, "m-2", AUDIT)
        assert not await finish(ours, again, final(2), B, message_id="m-1" if stage is Stage.SENT else None)
        assert await ours.park(again, NOW_MS, 50) == "not_open"
        if stage is Stage.OPEN:
            await ours.send(command(), A, 7, "m-1", AUDIT)
        elif stage is Stage.SENT:
            await finish(ours, command(), final(), message_id="m-1")
        elif stage is Stage.FINAL:
            await ours.published(command(), "event-1")
    assert (await state(ours)).source == command().source


async def test_what_was_retryable_is_begun_anew_when_it_is_done(client: RedisClient) -> None:
    ours = store(client)
    again, thrice = command(source="other/1"), command(source="other/2")
    await ours.begin(command())
    await ours.send(command(), A, 7, "m-1", AUDIT)
    await finish(ours, command(), final(), message_id="m-1", is_retryable=True)
    assert (await ours.begin(command(source="other/0"))).verdict is Verdict.DUPLICATE
    await ours.published(command(), "event-1")
    begun = await ours.begin(again)
    assert begun.verdict is Verdict.NEW
    # Nothing of the round before is left in it.
    assert begun.state == CommandState(state=Stage.OPEN, source="other/1", charge_point_id="CP-001")

    # The first record comes again: its final event is out, and it must not run a third time.
    begun = await ours.begin(command())
    assert (begun.verdict, begun.state.state) == (Verdict.RESUMED, Stage.DONE)
    # Whoever still has the first round in hand cannot interfere.
    assert not await ours.send(command(), A, 7, "m-9", AUDIT)
    assert not await finish(ours, command(), final(9))
    await ours.published(command(), "event-1")
    assert (await state(ours)).state is Stage.OPEN

    await finish(ours, again, final(2), is_retryable=True)
    await ours.published(command(), "event-1")
    assert (await state(ours)).state is Stage.FINAL
    await ours.published(again, "event-2")
    assert (await ours.begin(command())).verdict is Verdict.RESUMED
    assert (await ours.begin(thrice)).verdict is Verdict.NEW
    assert (await ours.begin(again)).verdict is Verdict.RESUMED
    assert (await ours.begin(command())).verdict is Verdict.RESUMED


async def test_a_command_id_that_is_tried_for_ever_stays_small(client: RedisClient) -> None:
    ours = store(client)
    for number in range(200):
        each = command(source=f"cpms.command.requests/0/{number:010d}")
        assert (await ours.begin(each)).verdict is Verdict.NEW
        await finish(ours, each, final(number), is_retryable=True)
        await ours.published(each, f"event-{number}")
    assert await do(client, RECORD_KEY, "HSTRLEN", "past") == 4096
    earlier = command(source="cpms.command.requests/0/0000000150")
    assert (await ours.begin(earlier)).verdict is Verdict.RESUMED
    part = command(source="cpms.command.requests/0/000000015")
    assert (await ours.begin(part)).verdict is Verdict.NEW


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.SENT, Stage.FINAL])
async def test_a_duplicate_stays_one_when_the_command_fails_later(client: RedisClient, stage: Stage) -> None:
    """Its record comes again if its offset was not committed yet: it must not be told two ends."""
    ours = store(client)
    duplicate, thrice = command(source="other/1"), command(source="other/11")
    await ours.begin(command())
    if stage is Stage.SENT:
        await ours.send(command(), A, 7, "m-1", AUDIT)
    elif stage is Stage.FINAL:
        await finish(ours, command(), final(), is_retryable=True)
    begun = await ours.begin(duplicate)
    assert (begun.verdict, begun.state.state) == (Verdict.DUPLICATE, stage)
    await finish(ours, command(), final(), message_id="m-1", is_retryable=True)
    await ours.published(command(), "event-1")
    begun = await ours.begin(duplicate)
    assert (begun.verdict, begun.state.state) == (Verdict.DUPLICATE, Stage.DONE)
    assert begun.state.source == command().source

    # Another one may begin it anew: what the duplicate was told outlives that round, too.
    assert (await ours.begin(thrice)).verdict is Verdict.NEW
    await finish(ours, thrice, final(2), is_retryable=True)
    await ours.published(thrice, "event-2")
    assert (await ours.begin(duplicate)).verdict is Verdict.DUPLICATE
    assert (await ours.begin(command())).verdict is Verdict.RESUMED
    assert (await ours.begin(command(source="other/111"))).verdict is Verdict.NEW


async def test_a_command_id_with_duplicates_for_ever_stays_small(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    lives = await client.run(TTL, [RECORD_KEY], [])
    for number in range(200):
        each = command(source=f"cpms.command.requests/0/{number:010d}")
        for _ in range(2):
            assert (await ours.begin(each)).verdict is Verdict.DUPLICATE
    refused = await do(client, RECORD_KEY, "HGET", "refused")
    assert len(refused) == 4096
    assert len(set(refused.split(b"\n"))) == refused.count(b"\n") + 1, "one is there twice"
    assert 0 < await client.run(TTL, [RECORD_KEY], []) <= lives
    await finish(ours, command(), final(), is_retryable=True)
    await ours.published(command(), "event-1")
    earlier = command(source="cpms.command.requests/0/0000000150")
    assert (await ours.begin(earlier)).verdict is Verdict.DUPLICATE
    # The last one is cut off: what is left of it names nobody.
    part = refused.rpartition(b"\n")[2].decode()
    assert earlier.source.startswith(part) and part
    assert (await ours.begin(command(source=part))).verdict is Verdict.NEW


# Sending and finishing.


async def test_who_has_sent_it_is_told_so_again_and_nobody_else(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert await ours.send(command(), A, 7, "m-1", AUDIT)
    assert await ours.send(command(), A, 7, "m-1", AUDIT)
    assert not await ours.send(command(), A, 7, "m-2", AUDIT)
    assert not await ours.send(command(), Process("node-a", "later"), 7, "m-1", AUDIT)
    assert not await ours.send(command(), B, 8, "m-1", b"other")
    assert await client.get("command-audit:c-1") == AUDIT
    await finish(ours, command(), final(), message_id="m-1")
    assert not await ours.send(command(), A, 7, "m-1", AUDIT)


async def test_a_sent_command_is_finished_only_by_who_knows_its_call(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    await ours.send(command(), A, 7, "m-1", AUDIT)
    assert not await finish(ours, command(), final(2), B)
    assert not await finish(ours, command(), final(2), A)
    assert not await finish(ours, command(), final(2), A, message_id="m-2")
    assert await finish(ours, command(), final(3), B, message_id="m-1")
    assert not await finish(ours, command(), final(1), A, message_id="m-1")
    assert (await state(ours)).final == final(3)


async def test_an_open_command_may_be_finished_by_who_was_about_to_send_it(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert await finish(ours, command(), final(), message_id="m-1")
    assert not await ours.send(command(), A, 7, "m-1", AUDIT)
    assert await client.get("command-audit:c-1") is None


async def test_an_answer_that_got_lost_is_given_again(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert await finish(ours, command(), final())
    assert await finish(ours, command(), final())
    assert not await finish(ours, command(), final(2))
    assert not await finish(ours, command(), final(), B)
    await ours.published(command(), "event-1")
    assert not await finish(ours, command(), final())
    await ours.published(command(), "event-1")
    assert (await state(ours)).state is Stage.DONE


async def test_the_events_bytes_come_back_as_they_were(client: RedisClient) -> None:
    ours = store(client)
    event = final(value=bytes(range(256)) * 4096)
    await ours.begin(command())
    await finish(ours, command(), event)
    assert (await state(ours)).final == event
    await lease(client, B)
    assert await ours.adopt("c-1", A, B) == event
    await ours.published(command(), "event-1")
    assert await do(client, RECORD_KEY, "HMGET", "key", "value", "headers") == [None] * 3


# Adopting.


async def test_a_dead_processs_final_event_is_adopted(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert await ours.adopt("c-1", A, B) is None
    await finish(ours, command(), final(), A)
    assert await ours.adopt("c-1", C, B) is None
    assert await ours.adopt("c-1", Process("node-a", "later"), B) is None
    assert await ours.adopt("c-1", A, B) == final()
    assert await ours.adopt("c-1", A, C) is None
    assert await ours.adopt("c-1", A, B) == final()
    assert (await state(ours)).final_by == B
    assert not await finish(ours, command(), final(), A)
    await ours.published(command(), "event-1")
    assert await ours.adopt("c-1", A, B) is None
    assert await ours.adopt("c-2", A, B) is None


async def test_a_process_that_has_its_lease_again_is_left_alone(client: RedisClient) -> None:
    ours = store(client)
    await finish(ours, command(), final(), A)
    await lease(client, A)
    assert await ours.adopt("c-1", A, B) is None
    await lease(client, Process("node-a", "later"))
    assert await ours.adopt("c-1", A, B) == final()


# Redis without what it had, with what is not ours, and full.


async def test_what_redis_lost_counts_as_open_for_who_has_it_in_memory(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = store(client)

        async def empty() -> None:
            await client._call("FLUSHALL")
            assert await ours.look(["c-1"]) == [None]

        await ours.begin(command())
        await empty()
        assert await ours.send(command(), A, 7, "m-1", AUDIT)
        assert not await ours.send(command(), B, 8, "m-2", AUDIT)
        assert (await ours.begin(command())).verdict is Verdict.RESUMED
        await empty()
        assert await finish(ours, command(), final(), message_id="m-1")
        assert not await finish(ours, command(), final(2), B, message_id="m-1")
        assert (await ours.begin(command())).state.state is Stage.FINAL
        await empty()
        assert await ours.adopt("c-1", A, B) is None
        await ours.published(command(), "event-1")
        begun = await ours.begin(command())
        assert (begun.verdict, begun.state.state) == (Verdict.RESUMED, Stage.DONE)
        assert (await ours.begin(command(source="other"))).verdict is Verdict.DUPLICATE
        await empty()
        assert await ours.park(command(), NOW_MS + 1000, 50) == "parked"
        assert await ours.parked("CP-001") == [command()]


@pytest.mark.parametrize(
    "words",
    [
        ("SET", "1"),
        ("SET", "x" * 100_000),
        ("RPUSH", "open", "sent"),
        ("SADD", "open"),
        ("ZADD", "1", "open"),
        ("HSET", "state", "begun"),
        ("HSET", "source", "cpms.command.requests/0/1"),
        ("HSET", "state", "\udcff"),
    ],
)
async def test_what_is_no_record_of_ours_is_a_duplicate_and_stays(client: RedisClient, words: tuple[str, ...]) -> None:
    """The earlier gateway's records are plain strings."""
    ours = store(client)
    await do(client, RECORD_KEY, *(word.encode("utf-8", "surrogateescape") for word in words))
    before = await do(client, RECORD_KEY, "DUMP")
    done = CommandState(state=Stage.DONE)
    begun = await ours.begin(command())
    assert (begun.verdict, begun.state) == (Verdict.DUPLICATE, done)
    assert await ours.look(["c-1"]) == [done]
    assert not await ours.send(command(), A, 7, "m-1", AUDIT)
    assert not await finish(ours, command(), final())
    assert not await finish(ours, command(), final(), message_id="m-1")
    assert await ours.adopt("c-1", A, B) is None
    await ours.published(command(), "event-1")
    assert await ours.park(command(), NOW_MS, 50) == "not_open"
    assert await ours.look(["c-1"]) == [done]
    assert await do(client, RECORD_KEY, "DUMP") == before
    assert await client.get("command-audit:c-1") is None


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"[", b"null", b"[[1,2]]", b"[[]]", b"-1", b"9" * 30, b"x" * 1_000_000]
)
async def test_fields_that_say_anything_are_read(client: RedisClient, value: bytes) -> None:
    ours = store(client)
    names = (
        "source chargePointId past refused sentBy sentBorn epoch messageId finalBy finalBorn finalAtMs eventId key "
        "value headers retryable summary command parkedUntil"
    )
    fields = [word for name in names.split() for word in (name.encode(), value)]
    for stage in Stage:
        await do(client, RECORD_KEY, "HSET", "state", stage.encode(), *fields)
        found = await state(ours)
        text = value.decode("utf-8", "replace")
        assert (found.state, found.source, found.summary, found.is_parked) == (stage, text, value, True)
        assert (found.epoch, found.final_at_ms) == (0, 0)
        assert found.sent_by == Process(text, text)
        assert (found.final is not None) is (stage is Stage.FINAL)
        assert found.final is None or (found.final.value, found.final.headers) == (value, [])
        assert (await ours.begin(command())).verdict is Verdict.DUPLICATE


async def test_foreign_audit_records_and_deadlines_are_in_nobodys_way(client: RedisClient) -> None:
    ours = store(client)
    await do(client, "command-audit:c-1", "RPUSH", "x")
    await ours.park(command(), NOW_MS + 1000, 50)
    await client.set("parked-deadlines", b"x")
    await client.set("parked-commands:CP-001", b"x")
    assert await ours.send(command(), A, 7, "m-1", AUDIT)
    assert await client.get("command-audit:c-1") == AUDIT
    assert await finish(ours, command(), final(), message_id="m-1")
    await ours.published(command(), "event-1")
    assert (await state(ours)).state is Stage.DONE


async def test_a_redis_that_is_full_lets_what_is_final_be_done(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours = store(client)
        await ours.park(command(), NOW_MS + 1000, 50)
        await finish(ours, command(), final())
        await ours.begin(command(2))
        await client._call("CONFIG", "SET", "maxmemory", "1")
        await ours.published(command(), "event-1")
        assert (await state(ours)).state is Stage.DONE
        for call in (
            ours.begin(command(3)),
            ours.send(command(2), A, 7, "m-1", AUDIT),
            finish(ours, command(2), final()),
            ours.park(command(2), NOW_MS, 50),
        ):
            await reason_of(call)
        await client._call("CONFIG", "SET", "maxmemory", "0")
        # What was refused has left nothing.
        assert (await state(ours, "c-2")).state is Stage.OPEN
        assert [await client.get("command-audit:c-2"), await ours.look(["c-3"])] == [None, [None]]
        assert await ours.parked("CP-001") == []


async def test_without_redis_everything_says_so(redis_server: EmbeddedRedis) -> None:
    client = await connected_client(redis_server.url)
    await client.close()
    ours = store(client)
    for call in (
        ours.begin(command()),
        ours.owner("CP-001"),
        ours.is_alive([A]),
        ours.send(command(), A, 7, "m-1", AUDIT),
        finish(ours, command(), final()),
        ours.adopt("c-1", A, B),
        ours.published(command(), "event-1"),
        ours.look(["c-1"]),
        ours.park(command(), NOW_MS, 50),
        ours.parked("CP-001"),
        ours.due(NOW_MS, 10),
    ):
        await reason_of(call)


# How long it is all kept.


async def test_a_record_outlives_whatever_can_still_happen(client: RedisClient) -> None:
    ours = store(client)
    await ours.begin(command())
    assert 86_425 < await client.run(TTL, [RECORD_KEY], []) <= 86_430
    await ours.begin(command(2, deliver_within_seconds=1000.0))
    assert 87_405 < await client.run(TTL, ["command-idempotency:c-2"], []) <= 87_415


async def test_no_step_makes_a_records_life_shorter(client: RedisClient) -> None:
    clock = ManualClock()
    ours = store(client, clock)
    waiting = command(deliver_within_seconds=600_000.0)

    async def lives() -> int:
        seconds: int = await client.run(TTL, [RECORD_KEY], [])
        return seconds

    await ours.begin(waiting)
    assert await lives() > 686_000
    clock.advance(600_000)
    await ours.send(waiting, A, 7, "m-1", AUDIT)
    assert await lives() > 686_000
    await do(client, RECORD_KEY, "EXPIRE", 50)
    await finish(ours, waiting, final(), message_id="m-1", audit=AUDIT)
    assert await lives() > 86_400
    await do(client, RECORD_KEY, "EXPIRE", 50)
    await ours.published(waiting, "event-1")
    assert await lives() > 86_400
    assert 604_790 < await client.run(TTL, ["command-audit:c-1"], []) <= 604_800


async def test_a_record_that_was_lost_expires_too(client: RedisClient) -> None:
    ours = store(client)
    await ours.send(command(), A, 7, "m-1", AUDIT)
    await finish(ours, command(2), final())
    await ours.published(command(3), "event-3")
    for number in (1, 2, 3):
        assert await client.run(TTL, [f"command-idempotency:c-{number}"], []) > 86_400


async def test_many_are_looked_at_in_order(client: RedisClient) -> None:
    ours = store(client)
    for number in range(0, 130, 2):
        await ours.begin(command(number))
    found = await ours.look([f"c-{number}" for number in range(130)])
    assert [None if one is None else one.source for one in found] == [
        None if number % 2 else command(number).source for number in range(130)
    ]
    assert await ours.look([]) == []


async def test_everything_is_under_the_prefix(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, prefix="ocpp")) as client:
        ours = store(client)
        await connect(client)
        assert (await ours.begin(command())).owner is not None
        await ours.send(command(), A, 7, "m-1", AUDIT)
        await client.delete("sessions:CP-001")
        await ours.park(command(2), NOW_MS + 1000, 50)
        assert len(await ours.parked("CP-001")) == 1
        assert len(await ours.due(NOW_MS + 1000, 10)) == 1
        names = {name.decode() for name in await client._call("KEYS", "*")}
        assert all(name.startswith("ocpp:") for name in names)
        assert {"ocpp:command-idempotency:c-1", "ocpp:command-audit:c-1", "ocpp:parked-commands:CP-001"} <= names
