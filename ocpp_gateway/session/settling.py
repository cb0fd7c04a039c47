"""When a charge point that has come may be asked things that waited for it: once it has had its first answer.

Right after its connection it has things of its own to say, BootNotification first, and may accept no CALL before that
is answered (OCPP 1.6 section 4.2, 2.0.1 part 2 B01). One that has nothing to say is asked some seconds later.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.session.session import Session

log = Logger()

_LONGEST_SECONDS: Final = 10.0
_SETTLED_PER_TURN: Final = 100
"""After a restart a whole fleet comes within seconds; then the rest of the gateway has its turn."""


@define(eq=False)
class Settling:
    """Calls ``settled`` once for each session that begins, unless it ends before.

    One timer does for all: they have the same time, so the first that came is the first to be due.
    """

    clock: Clock
    settled: Callable[[Session], None]
    _until: dict[Session, float] = field(factory=dict, init=False)
    """Monotonic, in the order in which they came."""

    _timer: IDelayedCall | None = field(default=None, init=False)

    def begin(self, session: Session) -> None:
        """A session has begun."""
        self._until[session] = self.clock.monotonic() + _LONGEST_SECONDS
        session.first_answered = self._settle
        self._plan()

    def forget(self, session: Session) -> None:
        """It is over."""
        session.first_answered = None
        self._until.pop(session, None)
        if not self._until and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle(self, session: Session) -> None:
        self.forget(session)
        if not session.takes_calls:
            return
        try:
            self.settled(session)
        except Exception:  # it comes on the way of an answer, which has nothing to do with it
            log.failure(
                "What waited for {charge_point_id} could not be sent",
                event="session.failed",
                reason="internal_error",
                charge_point_id=session.identity.charge_point_id,
            )

    def _plan(self) -> None:
        if self._timer is None and self._until:
            seconds = next(iter(self._until.values())) - self.clock.monotonic()
            self._timer = self.clock.call_later(max(0.0, seconds), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self.clock.monotonic()
        for session, until in tuple(islice(self._until.items(), _SETTLED_PER_TURN)):
            if until > now:
                break
            if session in self._until:  # what was done for another may have ended it
                self._settle(session)
        self._plan()
