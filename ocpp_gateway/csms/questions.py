"""Questions to the CSMS that wait for their answers, each with its own time.

A correlationId is ``{nodeId}.{uuid}``: whichever node reads an answer knows from it who asked. It is random, so that an
answer to another question is not taken for one to this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from ocpp_gateway.clock import Clock

Answered = Callable[[bytes | None], object]
"""Takes the value of the record that answers; None: the time is over."""


@frozen
class _Waiting:
    answered: Answered
    timer: IDelayedCall


@define(eq=False)
class ReplyPartitions:
    """Where answers are to go: one partition of ours after the other, so that most need not be passed on.

    ``ours``: what this node reads now. ``count``: how many the topic has, as far as is known; before that is known,
    partition 0, which every topic has.
    """

    ours: Callable[[], Collection[int]]
    count: Callable[[], int]
    _turn: int = field(default=0, init=False)

    def next(self) -> int:
        """The partition for one more answer."""
        among = sorted(self.ours()) or range(max(1, self.count()))
        self._turn += 1
        return among[self._turn % len(among)]


@define(eq=False, kw_only=True)
class Questions:
    """What this node has asked. Of more than ``max_waiting`` none is asked."""

    node_id: str
    topic: str
    partitions: ReplyPartitions
    new_id: Callable[[], str]
    """Gives random texts, each once."""

    clock: Clock
    max_waiting: int = 10_000
    _waiting: dict[str, _Waiting] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, timeout: float, answered: Answered) -> dict[str, Any] | None:
        """The ``replyTo`` of a new question; ``answered`` is called once, within ``timeout`` seconds, or never.

        None, and it never is: too many wait.
        """
        if len(self._waiting) >= self.max_waiting:
            return None
        correlation_id = f"{self.node_id}.{self.new_id()}"
        timer = self.clock.call_later(timeout, self._expired, correlation_id)
        self._waiting[correlation_id] = _Waiting(answered, timer)
        return {"topic": self.topic, "partition": self.partitions.next(), "correlationId": correlation_id}

    def answer(self, correlation_id: str, value: bytes) -> bool:
        """An answer came. False: nobody waits for it, for one because it is late."""
        waiting = self._waiting.pop(correlation_id, None)
        if waiting is None:
            return False
        waiting.timer.cancel()
        waiting.answered(value)
        return True

    def withdraw(self, correlation_id: str) -> None:
        """Nobody waits for the answer any more."""
        waiting = self._waiting.pop(correlation_id, None)
        if waiting is not None:
            waiting.timer.cancel()

    def stop(self) -> None:
        """Forget all, without telling."""
        for correlation_id in tuple(self._waiting):
            self.withdraw(correlation_id)

    def _expired(self, correlation_id: str) -> None:
        self._waiting.pop(correlation_id).answered(None)


def asker_of(correlation_id: str) -> str | None:
    """The node that asked; None for a correlationId that is none of ours. Node ids may have dots in them."""
    return correlation_id.rpartition(".")[0] or None
