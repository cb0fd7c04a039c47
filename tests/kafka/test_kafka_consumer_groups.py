"""Several members in one group: partitions change hands, and no record gets lost with them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.group_reader import GroupReader, quick_group
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

_READER = """
import sys
from twisted.internet import reactor
from ocpp_gateway.clock import SystemClock
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.consumer import GroupConsumer

brokers, group, topic, path = sys.argv[1:]

def received(records):
    for record in records:
        if record.value.startswith(b"finish"):
            consumer.finished(record)
        print(record.value.decode(), flush=True)

consumer = GroupConsumer(
    KafkaConfig.from_environ({"KAFKA_CONFIG_FILE": path}, brokers=brokers, client_id="other"),
    group, topic, reactor=reactor, clock=SystemClock(reactor), received=received,
)
consumer.start()
reactor.run()
"""


@pytest.fixture
def group() -> str:
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def quick(tmp_path):
    return quick_group(tmp_path)


async def test_members_share_the_partitions_and_take_over_those_of_one_that_leaves(
    brokers, topic, group, quick, producing, publish
):
    async def write(*numbers: int) -> None:
        keys = {number: b"CP-%03d" % number for number in numbers}
        outcomes = [publish(producer, topic, b"%d" % number, key=key) for number, key in keys.items()]
        assert await gatherResults(outcomes) == [None] * len(outcomes)

    async with producing(brokers) as producer, GroupReader(brokers, group, topic, quick, finish=True) as first:
        await write(*range(40))
        await first.when_received(40)
        async with GroupReader(brokers, group, topic, quick, finish=True) as second:
            await second.when(lambda: len(second.consumer.partitions) == 2)
            assert first.consumer.partitions | second.consumer.partitions == {0, 1, 2, 3}
            assert first.consumer.partitions & second.consumer.partitions == set()
            # Cooperative: those that stayed were never taken away.
            assert {partition for some in first.revoked for partition in some} == second.consumer.partitions
            await write(*range(40, 80))
            await second.when(lambda: len(first.records) + len(second.records) >= 80)
            assert second.records
        # What the first finished came to nobody again, nor did what the second finished, who has left.
        await first.when(lambda: first.consumer.partitions == {0, 1, 2, 3})
        await write(*range(80, 120))
        await first.when(lambda: len(first.records) + len(second.records) >= 120)
    assert sorted(int(value or b"") for value in first.values + second.values) == list(range(120))


async def test_what_a_member_leaves_unfinished_comes_to_the_next(brokers, topic, group, quick, producing, publish):
    values = [b"%d" % number for number in range(20)]
    async with producing(brokers) as producer:
        assert await gatherResults([publish(producer, topic, value) for value in values]) == [None] * 20
    async with GroupReader(brokers, group, topic, quick) as first:
        await first.when_received(20)
        async with GroupReader(brokers, group, topic, quick) as second:
            await second.when(lambda: len(second.consumer.partitions) == 2)
            first.finish(*values)
            assert await first.consumer.close(10.0) is True
            # Finished while ours, or revoked before that: then they are the second's.
            await second.when(lambda: len(second.consumer.partitions) == 4)
            async with producing(brokers) as producer:
                assert await publish(producer, topic, b"last") is None
            await second.when(lambda: b"last" in second.values)
            [partition] = {record.partition for record in first.records}
            revoked = {number for some in first.revoked for number in some}
            assert second.values == ([*values, b"last"] if partition in revoked else [b"last"])


async def test_one_leaves_in_time_while_the_group_settles_and_takes_no_commits(
    brokers, topic, group, tmp_path, producing, publish
):
    """On the mock cluster the group settles for as long as the session timeout, nearly."""
    slow = quick_group(tmp_path, session_ms=9_000)
    async with producing(brokers) as producer, GroupReader(brokers, group, topic, slow) as first:
        assert await publish(producer, topic, b"begin") is None
        await first.when_received(1)
        async with GroupReader(brokers, group, topic, slow):
            for number in range(20):  # meanwhile it is told that somebody joins
                assert await publish(producer, topic, b"%d" % number) is None
                await first.when_received(number + 2)
            first.finish(*first.values)
            assert await first.consumer.close(5.0) is True


@contextmanager
def other_process(brokers: str, group: str, topic: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _READER, brokers, group, topic, environ["KAFKA_CONFIG_FILE"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


async def test_what_a_killed_member_had_not_finished_comes_again(brokers, topic, group, quick, producing, publish):
    async with producing(brokers) as producer:
        assert await publish(producer, topic, b"finish-1") is None
        with other_process(brokers, group, topic, quick) as killed:
            assert killed.stdout is not None
            assert await deferToThread(killed.stdout.readline) == "finish-1\n"
            assert await publish(producer, topic, b"keep") is None
            assert await publish(producer, topic, b"finish-2") is None
            lines = [await deferToThread(killed.stdout.readline) for _ in range(2)]
            assert lines == ["keep\n", "finish-2\n"]
            killed.kill()
        async with GroupReader(brokers, group, topic, quick) as second:
            await second.when(lambda: b"finish-2" in second.values)
            # Whether the first was committed in time is the killed one's luck.
            assert second.values in ([b"keep", b"finish-2"], [b"finish-1", b"keep", b"finish-2"])
