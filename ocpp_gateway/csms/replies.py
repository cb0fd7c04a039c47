"""Records of the reply topic on their way to who asked: to a question of this node, or over the node bus to another.

The partitions that answers are sent to move between nodes when one comes or goes, so any node may read any answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.csms.answers import MAX_BYTES, correlation_of
from ocpp_gateway.csms.questions import Questions, asker_of
from ocpp_gateway.errors import StoreUnavailable

log = Logger()


class ReplyRecord(Protocol):
    """A record of the reply topic."""

    @property
    def value(self) -> bytes | None:
        """What the CSMS says."""
        ...

    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]:
        """The record's headers."""
        ...


class AnswerBus(Protocol):
    """What nodes tell each other of answers: hints, any of them may be lost."""

    async def csms_answer(self, node_id: str, correlation_id: str, value: bytes) -> int:
        """Pass a record's value on to ``node_id``, which asked; how many nodes heard it. Raises StoreUnavailable."""
        ...


class ReplyCounters(Protocol):
    """What is counted here."""

    def count_csms_record(self, outcome: str) -> None:
        """A record of the reply topic, or one that another node passed on.

        ``taken``, ``late`` (or never asked), ``unreadable``, ``passed_on``, or ``unreachable``: who asked does not
        listen, or too many are on their way already.
        """
        ...


@define(eq=False, kw_only=True)
class Replies:
    """Node ``node_id``'s part. At most ``max_passing_on`` records are on their way to other nodes at once."""

    node_id: str
    questions: Questions
    bus: AnswerBus
    counters: ReplyCounters
    max_passing_on: int = 1_000
    _passing_on: int = field(default=0, init=False)

    def received(self, record: ReplyRecord) -> None:
        """A record came, of a partition of ours. Never raises; it need not come again."""
        value = record.value or b""
        correlation_id = correlation_of(record.headers, value)
        asker = None if correlation_id is None else asker_of(correlation_id)
        if correlation_id is None or asker is None:
            self.counters.count_csms_record("unreadable")
        elif asker == self.node_id:
            self.passed_on(correlation_id, value)
        elif self._passing_on >= self.max_passing_on or len(value) > MAX_BYTES:
            self.counters.count_csms_record("unreachable")
        else:
            self._passing_on += 1
            Deferred.fromCoroutine(self._pass_on(asker, correlation_id, value)).addErrback(self._broke)

    def passed_on(self, correlation_id: str, value: bytes) -> None:
        """An answer to a question of this node, from wherever it was read."""
        taken = self.questions.answer(correlation_id, value)
        self.counters.count_csms_record("taken" if taken else "late")

    async def _pass_on(self, node_id: str, correlation_id: str, value: bytes) -> None:
        try:
            heard = await self.bus.csms_answer(node_id, correlation_id, value)
        except StoreUnavailable:
            heard = 0
        finally:
            self._passing_on -= 1
        self.counters.count_csms_record("passed_on" if heard else "unreachable")

    def _broke(self, failure: Failure) -> None:
        log.failure("An answer could not be passed on", failure=failure, event="csms.failed", reason="internal_error")
