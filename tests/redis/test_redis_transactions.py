from __future__ import annotations

import os
import signal
from typing import Any

import attrs
import pytest
from redis_support import connected_client, reason_of, using
from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.adapters.answers import StartQuestion, TransactionIds
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.transactions import RedisTransactionIds

QUESTION = StartQuestion(1, "TAG-1", 1000, "2026-01-02T03:04:05Z")
TTL = Script("ttl", b"return redis.call('TTL', KEYS[1])")


async def started(client: RedisClient, **options: Any) -> RedisTransactionIds:
    transactions = RedisTransactionIds(client, ttl=3600, **options)
    await transactions.start()
    return transactions


async def test_it_is_what_the_adapters_ask_for(client: RedisClient) -> None:
    port: TransactionIds = RedisTransactionIds(client, ttl=1)
    assert port is not None


async def test_the_same_question_gets_the_same_id_from_every_node(client: RedisClient) -> None:
    nodes = await gatherResults([Deferred.fromCoroutine(started(client)) for _ in range(5)])
    first, repeated = await nodes[0].allocate("t", "CP-001", QUESTION)
    assert not repeated
    assert 1 <= first <= 2**31 - 1
    for node in nodes:
        assert await node.allocate("t", "CP-001", QUESTION) == (first, True)
        assert await node.is_known("CP-001", first)
    assert 0 < await client.run(TTL, [f"transaction-ids:{first}"], []) <= 3600


async def test_two_nodes_that_are_asked_at_once_give_one_id(client: RedisClient) -> None:
    one, other = await started(client), await started(client)
    asked = [Deferred.fromCoroutine(node.allocate("t", "CP-001", QUESTION)) for node in [one, other] * 10]
    answers = await gatherResults(asked)
    assert len({number for number, _ in answers}) == 1
    assert sorted(repeated for _, repeated in answers) == [False] + [True] * 19


@pytest.mark.parametrize(
    "change",
    [{"connector_id": 2}, {"id_tag": "TAG-2"}, {"meter_start": 1001}, {"timestamp": "2026-01-02T03:04:06Z"}, None],
)
async def test_another_question_gets_another_id(client: RedisClient, change: dict[str, Any] | None) -> None:
    transactions = await started(client)
    first, _ = await transactions.allocate("t", "CP-001", QUESTION)
    question = QUESTION if change is None else attrs.evolve(QUESTION, **change)
    charge_point = "CP-002" if change is None else "CP-001"
    second, repeated = await transactions.allocate("t", charge_point, question)
    assert second != first
    assert not repeated
    assert await transactions.is_known(charge_point, second)
    assert await transactions.is_known("CP-002", first) is False


async def test_bytes_stand_in_for_a_question_that_cannot_be_read(client: RedisClient) -> None:
    transactions = await started(client)
    first, _ = await transactions.allocate("t", "CP-001", b'{"idTag":1}')
    assert await transactions.allocate("t", "CP-001", b'{"idTag":1}') == (first, True)
    assert (await transactions.allocate("t", "CP-001", b'{"idTag":2}'))[0] != first


async def test_an_id_that_another_transaction_has_is_passed_over(client: RedisClient) -> None:
    transactions = await started(client)
    expected, _ = await transactions.allocate("t", "CP-001", QUESTION)
    owner = await client.get(f"transaction-ids:{expected}")
    assert owner is not None
    digest = owner.decode().split()[1]
    await client.delete(f"transaction-questions:CP-001:{digest}")
    await client.set(f"transaction-ids:{expected}", b"CP-999 0123")
    passed_over = {expected}
    for _ in range(12):  # more than one round of candidates
        number, repeated = await transactions.allocate("t", "CP-001", QUESTION)
        assert number not in passed_over
        assert not repeated
        assert await transactions.is_known("CP-001", number)
        assert await transactions.allocate("t", "CP-001", QUESTION) == (number, True)
        passed_over.add(number)
        await client.delete(f"transaction-questions:CP-001:{digest}")
        await client.set(f"transaction-ids:{number}", b"CP-999 0123")


async def test_a_question_whose_entry_is_gone_is_recognised_by_its_id(client: RedisClient) -> None:
    transactions = await started(client)
    number, _ = await transactions.allocate("t", "CP-001", QUESTION)
    owner = await client.get(f"transaction-ids:{number}")
    assert owner is not None
    await client.delete(f"transaction-questions:CP-001:{owner.decode().split()[1]}")
    assert await transactions.allocate("t", "CP-001", QUESTION) == (number, True)


async def test_ids_survive_a_loss_of_all_data(client: RedisClient) -> None:
    transactions = await started(client)
    before, _ = await transactions.allocate("t", "CP-001", QUESTION)
    keys = [key async for page in client.scan("*") for key in page]
    await client.delete(*keys)
    assert await transactions.allocate("t", "CP-001", QUESTION) == (before, False)
    # The secret is back for the others.
    assert await (await started(client)).allocate("t", "CP-001", QUESTION) == (before, True)


async def test_a_secret_that_another_node_put_back_first_is_adopted(client: RedisClient) -> None:
    one = await started(client)
    await client.delete("transaction-id-key")
    other = await started(client)
    theirs, _ = await other.allocate("t", "CP-001", QUESTION)
    assert await one.allocate("t", "CP-001", QUESTION) == (theirs, True)


async def test_a_secret_that_cannot_be_read_is_an_outage_not_a_crash(client: RedisClient) -> None:
    transactions = await started(client)
    offline_id, _ = await transactions.allocate("t", "CP-001", QUESTION)
    await client.set("transaction-id-key", b"not hexadecimal")
    assert await transactions.allocate("t", "CP-001", QUESTION) == (offline_id, False)
    assert transactions.owed == 1
    assert "hexadecimal" in str(await reason_of(started(client)))


async def test_without_redis_the_id_is_the_one_that_redis_will_have(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        transactions = await started(client)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            number, repeated = await transactions.allocate("t", "CP-001", QUESTION)
            assert not repeated
            assert await transactions.allocate("t", "CP-001", QUESTION) == (number, False)
            await reason_of(transactions.is_known("CP-001", number))
            await reason_of(transactions.seen("CP-001", b"digest"))
            transactions.remember("CP-001", b"digest")
            assert transactions.owed == 1
            await reason_of(transactions.settle())
            assert transactions.owed == 1
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        await transactions.settle()
        assert transactions.owed == 0
        assert await transactions.is_known("CP-001", number)
        assert await transactions.allocate("t", "CP-001", QUESTION) == (number, True)


async def test_ids_given_without_redis_wait_in_a_bounded_number(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        transactions = await started(client, max_owed=5)
        own_server.stop()
        ids = [(await transactions.allocate("t", "CP-001", str(n).encode()))[0] for n in range(20)]
        assert len(set(ids)) == 20
        assert transactions.owed == 5


async def test_an_id_is_the_charge_points_own(client: RedisClient) -> None:
    transactions = await started(client)
    number, _ = await transactions.allocate("t", "CP 001", QUESTION)
    assert await transactions.is_known("CP 001", number)
    assert not await transactions.is_known("CP", number)
    assert not await transactions.is_known("CP 00", number)
    assert not await transactions.is_known("CP 001", number ^ 1)
    assert not await transactions.is_known("CP 001", -1)


async def test_a_message_is_seen_once_it_is_remembered(client: RedisClient) -> None:
    transactions = await started(client)
    assert not await transactions.seen("CP-001", b"\x00digest")
    assert not await transactions.seen("CP-001", b"\x00digest")
    transactions.remember("CP-001", b"\x00digest")
    while not await transactions.seen("CP-001", b"\x00digest"):
        pass
    assert not await transactions.seen("CP-002", b"\x00digest")
    assert 0 < await client.run(TTL, ["transaction-messages:CP-001:00646967657374"], []) <= 3600


async def test_the_secret_is_in_no_repr(client: RedisClient) -> None:
    transactions = await started(client)
    secret = await client.get("transaction-id-key")
    assert secret is not None
    assert len(bytes.fromhex(secret.decode())) == 32
    assert secret.decode() not in repr(transactions)


async def test_an_id_of_the_csms_is_what_every_node_gives_from_then_on(client: RedisClient) -> None:
    one, other = await started(client), await started(client)
    ours, _ = await one.allocate("t", "CP-001", QUESTION)
    assert await one.adopt("t", "CP-001", QUESTION, 77) == 77
    assert await other.allocate("t", "CP-001", QUESTION) == (77, True)
    for number in (77, ours):
        assert await other.is_known("CP-001", number)
        assert not await other.is_known("CP-002", number)
    assert 0 < await client.run(TTL, ["transaction-adopted:CP-001:77"], []) <= 3600


async def test_the_first_id_that_was_adopted_stays(client: RedisClient) -> None:
    one, other = await started(client), await started(client)
    assert await one.adopt("t", "CP-001", QUESTION, 77) == 77
    assert await other.adopt("t", "CP-001", QUESTION, 78) == 77
    assert await other.allocate("t", "CP-001", QUESTION) == (77, True)
    assert not await other.is_known("CP-001", 78)


async def test_one_of_ours_that_the_csms_confirms_stays_too(client: RedisClient) -> None:
    transactions = await started(client)
    ours, _ = await transactions.allocate("t", "CP-001", QUESTION)
    assert await transactions.adopt("t", "CP-001", QUESTION, ours) == ours
    assert await transactions.adopt("t", "CP-001", QUESTION, 78) == ours


async def test_a_csms_may_count_for_each_charge_point(client: RedisClient) -> None:
    transactions = await started(client)
    for charge_point in ("CP-001", "CP-002"):
        assert await transactions.adopt("t", charge_point, QUESTION, 1) == 1
    again = attrs.evolve(QUESTION, meter_start=5)
    assert await transactions.adopt("t", "CP-001", again, 1) == 1
    for charge_point in ("CP-001", "CP-002"):
        assert await transactions.is_known(charge_point, 1)
        assert await transactions.allocate("t", charge_point, QUESTION) == (1, True)
    assert not await transactions.is_known("CP-003", 1)


async def test_an_id_that_was_adopted_is_none_of_ours(client: RedisClient) -> None:
    transactions = await started(client)
    expected, _ = await transactions.allocate("t", "CP-001", QUESTION)
    secret = await client.get("transaction-id-key")
    assert secret is not None
    keys = [key async for page in client.scan("*") for key in page]
    await client.delete(*keys)
    await client.set("transaction-id-key", secret)
    await transactions.adopt("t", "CP-002", QUESTION, expected)
    assert (await transactions.allocate("t", "CP-001", QUESTION))[0] != expected


async def test_an_id_is_adopted_under_the_secret_that_all_have(client: RedisClient) -> None:
    one = await started(client)
    await client.delete("transaction-id-key")
    other = await started(client)
    assert await one.adopt("t", "CP-001", QUESTION, 77) == 77
    assert await other.allocate("t", "CP-001", QUESTION) == (77, True)
    await client.delete("transaction-id-key")
    assert await one.adopt("t", "CP-001", QUESTION, 78) == 77


async def test_without_redis_an_adopted_id_is_remembered_until_it_is_back(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url, timeout=0.3)) as client:
        transactions = await started(client)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await transactions.allocate("t", "CP-001", QUESTION)
            assert await transactions.adopt("t", "CP-001", QUESTION, 77) == 77
            assert await transactions.adopt("t", "CP-001", QUESTION, 78) == 77
            assert await transactions.allocate("t", "CP-001", QUESTION) == (77, True)
            assert transactions.owed == 1
            await reason_of(transactions.settle())
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await client.when_connected(10)
        await transactions.settle()
        assert transactions.owed == 0
        assert await transactions.is_known("CP-001", 77)
        assert await (await started(client)).allocate("t", "CP-001", QUESTION) == (77, True)
