"""A bounded memory of what was recent."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K")
V = TypeVar("V")


@define(eq=False)
class Recent(Generic[K, V]):
    """The last entries written, at least half of ``max_entries`` of them and never more than that.

    Two generations: when the young one is full it becomes the old one, and the old one is dropped whole. Cheaper than
    an exact order of use, and nothing is scanned. Reading an old entry makes it young again.
    """

    max_entries: int
    _young: dict[K, V] = field(factory=dict, init=False)
    _old: dict[K, V] = field(factory=dict, init=False)

    def get(self, key: K) -> V | None:
        """The value last put under ``key``, or None."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember ``value``, which must not be None."""
        young = self._young
        young[key] = value
        if len(young) * 2 >= self.max_entries:
            self._old = young
            self._young = {}

    def __contains__(self, key: K) -> bool:
        return key in self._young or key in self._old

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
