"""Who may speak: the rules of synchronicity of OCPP-J (1.6, 2.0.1 and 2.1, section 4.1.1).

Each side has at most one CALL without an answer on a connection; CALLs in opposite directions may cross. A CALL ends
with the CALLRESULT or CALLERROR of its own id, or by timeout. Answers and SEND are not CALLs and may go at any time.

The gateway keeps to the rule. A charge point that does not is not refused: its CALLs wait their turn, and the session
bounds how many.
"""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.frames import CallError, CallResult, MessageId


class SecondCallInFlight(GatewayError):
    """We tried to send a CALL while another has no answer: a mistake of ours, not of the peer's."""

    reason = "second_call_in_flight"


@define
class Dialogue:
    """The CALLs of one connection that have no answer yet, in both directions."""

    _in_flight: MessageId | None = field(default=None, init=False)
    # A tuple: empty nearly always, and then it costs an idle connection nothing.
    _unanswered: tuple[MessageId, ...] = field(default=(), init=False)

    # Towards the charge point

    @property
    def in_flight(self) -> MessageId | None:
        """The id of our CALL that has no answer yet."""
        return self._in_flight

    def may_call(self) -> bool:
        """Whether we may send a CALL now."""
        return self._in_flight is None

    def call_sent(self, message_id: MessageId) -> None:
        """Our CALL goes out. Raises SecondCallInFlight if we may not call."""
        if self._in_flight is not None:
            raise SecondCallInFlight
        self._in_flight = message_id

    def answer_received(self, frame: CallResult | CallError) -> bool:
        """Whether ``frame`` answers our CALL in flight, which it ends.

        False for an answer that comes too late or to nothing we asked: it must be dropped, never be taken for the
        answer to a later CALL.
        """
        return self.expire(frame.message_id)

    def expire(self, message_id: MessageId) -> bool:
        """End our CALL without an answer; False if it is not in flight (any more)."""
        if self._in_flight is None or self._in_flight != message_id:
            return False
        self._in_flight = None
        return True

    # From the charge point

    @property
    def unanswered(self) -> int:
        """How many CALLs of the charge point have no answer yet."""
        return len(self._unanswered)

    def call_received(self, message_id: MessageId) -> bool:
        """A CALL came in; False if the charge point should have waited, or repeats itself, as one is unanswered."""
        is_alone = not self._unanswered
        self._unanswered = (*self._unanswered, message_id)
        return is_alone

    def call_answered(self, message_id: MessageId) -> bool:
        """An answer goes out; False if no CALL of this id is unanswered: then it must not be sent."""
        if message_id not in self._unanswered:
            return False
        at = self._unanswered.index(message_id)
        self._unanswered = self._unanswered[:at] + self._unanswered[at + 1 :]
        return True
