"""Which offsets may be committed: those below which every record is finished.

Kafka keeps one number per partition and group: where the next reader begins. Records end out of order, so the number to
commit is the lowest one that has not ended yet, or the one behind the last record when all have:

====================  =====================================  ============
received              finished                               committable
====================  =====================================  ============
5, 6, 7               none                                   (5: no news)
5, 6, 7               6                                      (5: no news)
5, 6, 7               5, 6                                   7
5, 6, 7               5, 6, 7                                8
====================  =====================================  ============

What is known about a partition is forgotten when it goes to another member of the group: if it comes back, its records
come again from what was committed. Each time is an *assignment* with a number, so that a record from an earlier one,
finished late, is not taken for the same offset that is under way once more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from attrs import define, field


@define(eq=False)
class _Place:
    """One partition while it is ours. ``next`` is the offset behind the last record received."""

    assignment: int
    unfinished: dict[int, None] = field(factory=dict)  # as a set that keeps the order
    next: int | None = None
    committed: int | None = None

    def committable(self) -> int | None:
        return next(iter(self.unfinished), self.next)


class Offsets:
    """Of the partitions of one topic that are ours. Used by the reactor and by the consumer's thread at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[int, _Place] = {}
        self._assignments = 0
        self._unfinished = 0

    @property
    def unfinished(self) -> int:
        """Records received and not finished, of partitions that are ours."""
        return self._unfinished

    def assigned(self, partitions: Iterable[int]) -> None:
        """These partitions are ours from now on; nothing of them was received yet."""
        with self._lock:
            for partition in partitions:
                self._begin(partition)

    def revoked(self, partitions: Iterable[int]) -> None:
        """These are not ours any more: forget them."""
        with self._lock:
            for partition in partitions:
                self._forget(partition)

    def received(self, partition: int, offset: int) -> int | None:
        """A record came: the number of the assignment it belongs to, or None if the partition is not ours.

        Offsets of a partition only rise. One that does not tells that the partition begins anew, as it does when
        somebody deletes the topic and creates it again: what came before is forgotten.
        """
        with self._lock:
            place = self._places.get(partition)
            if place is None:
                return None
            if place.next is not None and offset < place.next:
                self._forget(partition)
                place = self._begin(partition)
            if place.next is None:
                place.committed = offset  # or there was no commit, which comes to the same
            place.unfinished[offset] = None
            place.next = offset + 1
            self._unfinished += 1
            return place.assignment

    def finished(self, partition: int, offset: int, assignment: int) -> None:
        """The record is done with. Told twice, or about an assignment that is over, it changes nothing."""
        with self._lock:
            place = self._places.get(partition)
            if place is not None and place.assignment == assignment and offset in place.unfinished:
                del place.unfinished[offset]
                self._unfinished -= 1

    def committable(self) -> dict[int, int]:
        """The offset to commit for each partition where it is another than the one committed."""
        with self._lock:
            offsets = {partition: place.committable() for partition, place in self._places.items()}
            return {
                partition: offset
                for partition, offset in offsets.items()
                if offset is not None and offset != self._places[partition].committed
            }

    def committed(self, partition: int, offset: int) -> None:
        """Kafka has this offset."""
        with self._lock:
            place = self._places.get(partition)
            if place is not None:
                place.committed = offset

    def _begin(self, partition: int) -> _Place:
        self._forget(partition)
        self._assignments += 1
        place = self._places[partition] = _Place(self._assignments)
        return place

    def _forget(self, partition: int) -> None:
        place = self._places.pop(partition, None)
        if place is not None:
            self._unfinished -= len(place.unfinished)
