"""What a charge point has asked and what waits for its turn, as it did not wait for its answers; bounded."""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

from ocpp_gateway.ocppj.frames import Call, Send
from ocpp_gateway.routing.exchange import UnreadableCall

_MAX_BYTES: Final = 65_536
"""Bytes of CALLs that may wait: parsed, they are some 25 times that in memory."""


@define(eq=False, weakref_slot=False)
class Inbox:
    """CALLs and SENDs in the order in which they came, each with the hash of its bytes."""

    max_calls: int
    _arrived: deque[tuple[Call | Send | UnreadableCall, int, int]] = field(factory=deque, init=False)
    _bytes: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._arrived)

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may; what has been read already is taken all the same."""
        return len(self._arrived) >= self.max_calls or self._bytes >= _MAX_BYTES

    def put(self, call: Call | Send | UnreadableCall, content: int, size: int) -> None:
        """A CALL of ``size`` bytes."""
        self._arrived.append((call, content, size))
        self._bytes += size

    def take(self) -> tuple[Call | Send | UnreadableCall, int]:
        """The next one, and the hash of its bytes."""
        call, content, size = self._arrived.popleft()
        self._bytes -= size
        return call, content
