"""Who may speak: the rules of synchronicity of OCPP-J (1.6, 2.0.1 and 2.1, section 4.1.1).

Each side has at most one CALL without an answer on a connection; CALLs in opposite directions may cross. A CALL ends
with the CALLRESULT or CALLERROR of its own id, or by timeout. Answers and SEND are not CALLs and may go at any time.

The gateway keeps to the rule: here is its side. A charge point that does not is not refused: its CALLs wait their turn
(``session.session``).
"""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.frames import MessageId


class SecondCallInFlight(GatewayError):
    """We tried to send a CALL while another has no answer: a mistake of ours, not of the peer's."""

    reason = "second_call_in_flight"


@define
class Dialogue:
    """Our CALL of one connection that has no answer yet."""

    _in_flight: MessageId | None = field(default=None, init=False)

    @property
    def in_flight(self) -> MessageId | None:
        """The id of our CALL that has no answer yet."""
        return self._in_flight

    def call_sent(self, message_id: MessageId) -> None:
        """Our CALL goes out. Raises SecondCallInFlight while another has no answer."""
        if self._in_flight is not None:
            raise SecondCallInFlight
        self._in_flight = message_id

    def end(self, message_id: MessageId) -> bool:
        """Our CALL has its answer, or will have none; False if it is not in flight (any more).

        An answer for which this says False comes too late, or to nothing that we asked: it must be dropped, never be
        taken for the answer to a later CALL. A number is not the text that looks the same.
        """
        if self._in_flight is None or self._in_flight != message_id:
            return False
        self._in_flight = None
        return True
