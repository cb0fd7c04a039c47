"""The last answers of a connection, for CALLs that come a second time.

Charge points wait for each answer before they ask again: more than the last few is never asked for twice.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field, frozen

from ocpp_gateway.ocppj.frames import MessageId

_MOST = 4


@frozen
class _Answered:
    content: int
    frame: bytes
    at: float


@define(eq=False)
class RecentAnswers:
    """Answers by message id and content, each for ``ttl`` seconds. Moments are of the monotonic clock."""

    ttl: float
    _answers: OrderedDict[MessageId, _Answered] = field(factory=OrderedDict)

    def get(self, message_id: MessageId, content: int, now: float) -> bytes | None:
        """The answer that the same message got; None for other content under the same id."""
        answered = self._answers.get(message_id)
        if answered is None or answered.content != content or now - answered.at > self.ttl:
            return None
        return answered.frame

    def put(self, message_id: MessageId, content: int, frame: bytes, now: float) -> None:
        """The message of this id and hash was answered by ``frame``."""
        self._answers.pop(message_id, None)
        self._answers[message_id] = _Answered(content, frame, now)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)
