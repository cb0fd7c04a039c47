"""A member alone, turned by the test: what is finished at the very moment a partition is given up."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer
from support.group_reader import quick_group
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, Logger

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.kafka.client_log import ClientLog
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.member import GroupMember
from ocpp_gateway.kafka.offsets import Offsets
from ocpp_gateway.kafka.records import ReceivedRecord


class Turned:
    """Finishes each record before the turn that brought it is over, or none."""

    def __init__(
        self, config: KafkaConfig, group_id: str, topic: str, *, max_in_flight: int = 100, finishes: bool = True
    ) -> None:
        self._finishes = finishes
        self.values: list[int] = []
        self.partitions: set[int] = set()
        self.logged: list[str] = []
        self._offsets = Offsets()
        clock = SystemClock(reactor)
        self.member = GroupMember(
            config.consumer_properties(group_id),
            topic,
            offsets=self._offsets,
            max_in_flight=max_in_flight,
            clock=clock,
            client_log=ClientLog(call_from_thread=reactor.callFromThread, clock=clock, log=Logger(observer=self._log)),
            received=self._received,
            assigned=self.partitions.update,
            revoked=self.partitions.difference_update,
            topic_seen=lambda count: None,
        )

    def _log(self, event: LogEvent) -> None:
        self.logged.append(event["event"])

    def _received(self, records: list[ReceivedRecord]) -> None:
        for record in records:
            self.values.append(int(record.value or b""))
            if self._finishes:
                self._offsets.finished(record.partition, record.offset, record.assignment)


@pytest.fixture
def config(brokers, tmp_path) -> KafkaConfig:
    return KafkaConfig.from_environ(quick_group(tmp_path), brokers=brokers, client_id="test")


async def test_what_was_finished_before_a_partition_went_comes_to_nobody_again(config, topic):
    def stream_through_a_rebalance(topic: str, first: Turned, second: Turned) -> tuple[list[int], int]:
        producer = Producer({"bootstrap.servers": config.brokers})
        written = 0

        def write() -> None:
            nonlocal written
            for _ in range(10):
                producer.produce(topic, b"%d" % written, b"CP-%d" % written)
                written += 1
            assert producer.flush(20.0) == 0

        write()
        first.member.join()
        while len(first.values) < written:
            first.member.turn(hold=False)
        second.member.join()
        while len(second.partitions) < 2:
            write()
            first.member.turn(hold=False)
            second.member.turn(hold=False)
        while len(set(first.values + second.values)) < written:
            first.member.turn(hold=False)
            second.member.turn(hold=False)
        first.member.leave(10.0)
        while len(second.partitions) < 4:
            second.member.turn(hold=False)
        write()
        while len(set(first.values + second.values)) < written:
            second.member.turn(hold=False)
        second.member.leave(10.0)
        producer.close()
        assert first.partitions == second.partitions == set()
        return sorted(first.values + second.values), written

    # On a busy machine the group begins to settle again while it settles, and may refuse the commit, which is said.
    for attempt in range(4):
        fresh, group_id = f"{topic}.{attempt}", f"test-{uuid.uuid4()}"
        members = [Turned(config, group_id, fresh) for _ in range(2)]
        received, written = await deferToThread(stream_through_a_rebalance, fresh, *members)
        assert set(received) == set(range(written))
        if not any("kafka.commit_failed" in member.logged for member in members):
            break
    assert received == list(range(written))


async def test_after_a_moment_on_hold_reading_goes_on_whatever_is_unfinished(config, topic):
    """It was not full, so nothing has to be finished first: that may take as long as silent charge points are given."""

    def hold() -> list[int]:
        reader = Turned(config, f"test-{uuid.uuid4()}", topic, max_in_flight=10, finishes=False)
        producer = Producer({"bootstrap.servers": config.brokers})

        def write(*numbers: int) -> None:
            for number in numbers:
                producer.produce(topic, b"%d" % number, b"CP-001")
            assert producer.flush(20.0) == 0

        write(*range(7))
        reader.member.join()
        while len(reader.values) < 7:
            reader.member.turn(hold=False)
        reader.member.turn(hold=True)
        write(7)
        turns = 0
        while len(reader.values) < 8 and turns < 100:
            reader.member.turn(hold=False)
            turns += 1
        reader.member.leave(10.0)
        producer.close()
        return reader.values

    assert await deferToThread(hold) == list(range(8))
