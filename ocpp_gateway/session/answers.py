"""The last answers of a connection, for CALLs that come a second time.

Charge points wait for each answer before they ask again: more than the last few is never asked for twice.
"""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.ocppj.frames import MessageId

_MOST = 4


@define(eq=False)
class RecentAnswers:
    """Answers by message id and content, each for ``ttl`` seconds. Moments are of the monotonic clock."""

    ttl: float
    # Content, answer, moment; the oldest first.
    _answers: dict[MessageId, tuple[int, bytes, float]] = field(factory=dict)

    def get(self, message_id: MessageId, content: int, now: float) -> bytes | None:
        """The answer that the same message got; None for other content under the same id."""
        answered = self._answers.get(message_id)
        if answered is None:
            return None
        said, frame, at = answered
        return frame if said == content and now - at <= self.ttl else None

    def put(self, message_id: MessageId, content: int, frame: bytes, now: float) -> None:
        """The message of this id and hash was answered by ``frame``."""
        answers = self._answers
        if message_id in answers:
            del answers[message_id]  # the newest is the last
        answers[message_id] = (content, frame, now)
        if len(answers) > _MOST:
            del answers[next(iter(answers))]
