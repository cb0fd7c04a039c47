"""Which offsets may be committed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ocpp_gateway.kafka.offsets import Offsets

PARTITIONS = st.integers(0, 2)


def received(offsets: Offsets, partition: int, *numbers: int) -> int:
    [assignment] = {offsets.received(partition, number) for number in numbers}
    assert assignment is not None
    return assignment


def test_only_what_lies_below_the_first_unfinished_record_is_committable():
    offsets = Offsets()
    offsets.assigned([0])
    assert offsets.committable() == {}
    assignment = received(offsets, 0, 5, 6, 7)
    assert offsets.committable() == {}  # it begins there anyway
    offsets.finished(0, 6, assignment)
    assert offsets.committable() == {}
    offsets.finished(0, 5, assignment)
    assert offsets.committable() == {0: 7}
    offsets.finished(0, 7, assignment)
    assert offsets.committable() == {0: 8}
    assert offsets.unfinished == 0


def test_what_is_committed_is_not_committed_again():
    offsets = Offsets()
    offsets.assigned([0, 1])
    assignment = received(offsets, 0, 5)
    offsets.finished(0, 5, assignment)
    offsets.committed(0, 6)
    offsets.committed(7, 6)
    assert offsets.committable() == {}
    offsets.finished(1, 0, received(offsets, 1, 0))
    assert offsets.committable() == {1: 1}


def test_a_partition_that_is_not_ours_has_no_records():
    offsets = Offsets()
    offsets.assigned([0])
    offsets.revoked([0, 1])
    assert offsets.received(0, 5) is None
    assert offsets.committable() == {}


def test_a_record_of_an_earlier_assignment_does_not_finish_the_same_one_of_this():
    offsets = Offsets()
    offsets.assigned([0])
    before = received(offsets, 0, 5, 6)
    offsets.revoked([0])
    assert offsets.unfinished == 0
    offsets.assigned([0])
    now = received(offsets, 0, 5)
    assert now != before
    offsets.finished(0, 5, before)
    assert (offsets.committable(), offsets.unfinished) == ({}, 1)
    offsets.finished(0, 5, now)
    assert offsets.committable() == {0: 6}


def test_a_topic_created_anew_begins_from_its_beginning():
    offsets = Offsets()
    offsets.assigned([0])
    before = received(offsets, 0, 1_000)
    offsets.committed(0, 1_000)
    now = received(offsets, 0, 0)
    offsets.finished(0, 1_000, before)
    assert (offsets.committable(), offsets.unfinished) == ({}, 1)
    offsets.finished(0, 0, now)
    assert offsets.committable() == {0: 1}


class AnyOrder(RuleBasedStateMachine):
    """Against a plain list of everything that was received."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = Offsets()
        self.ours: dict[int, int] = {}  # partition -> its last offset received
        self.received: list[tuple[int, int, int]] = []
        self.finished: set[tuple[int, int, int]] = set()
        self.current: set[tuple[int, int, int]] = set()
        self.committed: dict[int, int] = {}

    @rule(partition=PARTITIONS)
    def assigned(self, partition: int) -> None:
        self.forget(partition)
        self.ours[partition] = -1
        self.offsets.assigned([partition])

    @rule(partition=PARTITIONS)
    def revoked(self, partition: int) -> None:
        self.forget(partition)
        self.offsets.revoked([partition])

    def forget(self, partition: int) -> None:
        self.ours.pop(partition, None)
        self.committed.pop(partition, None)
        self.current = {record for record in self.current if record[0] != partition}

    @rule(partition=PARTITIONS, gap=st.integers(1, 3))
    def one_comes(self, partition: int, gap: int) -> None:
        last = self.ours.get(partition)
        assignment = self.offsets.received(partition, 0 if last is None else last + gap)
        assert (assignment is None) == (last is None)
        if last is not None and assignment is not None:
            if last < 0:
                self.committed[partition] = last + gap
            self.ours[partition] = last + gap
            self.received.append((partition, last + gap, assignment))
            self.current.add(self.received[-1])

    @rule(data=st.data())
    def one_is_finished(self, data: st.DataObject) -> None:
        if self.received:
            record = data.draw(st.sampled_from(self.received))
            self.finished.add(record)
            self.offsets.finished(*record)

    @rule(partition=PARTITIONS)
    def a_commit_succeeds(self, partition: int) -> None:
        offset = self.offsets.committable().get(partition)
        if offset is not None:
            self.committed[partition] = offset
            self.offsets.committed(partition, offset)

    @invariant()
    def nothing_unfinished_is_skipped_and_everything_finished_is_kept(self) -> None:
        open_ones = self.current - self.finished
        assert self.offsets.unfinished == len(open_ones)
        expected = {}
        for partition, last in self.ours.items():
            if last >= 0:
                offset = min((number for where, number, _ in open_ones if where == partition), default=last + 1)
                if self.committed.get(partition) != offset:
                    expected[partition] = offset
        assert self.offsets.committable() == expected


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
