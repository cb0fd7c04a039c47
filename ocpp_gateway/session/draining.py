"""The end of every session of a node that stops: spread out, so that its charge points do not all come back at once.

::

    0 ─────────────── spread ──────────────── insist ───────────────── end
      asked one by one,      those with a CALL       the rest closed,       what is left
      in random order,       under way get           answered or not        is cut off
      at random moments      their answer

A session that is asked takes no further CALL, answers the one under way, and closes with 1012 (Service restart). Until
then it is served like any other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.clock import Clock
from ocpp_gateway.session.reasons import CloseReason

log = Logger()

_REASON: Final = CloseReason.SERVICE_RESTART
_GRACE_SHARE: Final = 0.25
_GRACE_SECONDS: Final = 4.0
"""The end of the time is left to last answers and to closing handshakes: that share of it, at most so long."""

_LEAST_RATE: Final = 5.0
"""Sessions a second: so few trouble nobody, and a node with a handful need not take all of its time."""

_HURRIED_SECONDS: Final = 2.0
_ABORT_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.1
_ASKED_PER_TURN: Final = 100


class DrainedSession(Protocol):
    """A session, as it is ended here."""

    def close_when_answered(self, reason: CloseReason) -> None:
        """End for ``reason`` as soon as the CALL under way has its answer."""
        ...

    def close(self, reason: CloseReason) -> None:
        """End for ``reason`` now."""
        ...


class DrainedSessions(Protocol):
    """The sessions of this node. None is added any more."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[DrainedSession]: ...

    def abort_all(self, reason: CloseReason) -> None:
        """End every connection without a word."""
        ...

    def when_empty(self) -> Deferred[None]:
        """Fires when no connection is left, also none that is still closing."""
        ...


def moments(count: int, seconds: float, random: Callable[[], float]) -> list[float]:
    """When each of ``count`` things is to happen, in order: each at random within its own slot of ``seconds``."""
    slot = min(seconds / count, 1 / _LEAST_RATE) if count else 0.0
    return [(number + random()) * slot for number in range(count)]


@define(eq=False, kw_only=True)
class Drain:
    """See the module's text; good for one ``run``, which takes ``seconds`` and one more at most."""

    clock: Clock
    seconds: float
    random: Callable[[], float] = random.random
    is_hurried: bool = field(default=False, init=False)
    _sessions: DrainedSessions = field(init=False)
    _to_ask: list[tuple[float, DrainedSession]] = field(factory=list, init=False)
    """With the moment of each, the next one last."""

    _insist_at: float = field(default=0.0, init=False)
    _end_at: float = field(default=0.0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _over: Deferred[None] | None = field(default=None, init=False)

    async def run(self, sessions: DrainedSessions) -> None:
        """End ``sessions``; returns when no connection is left, or none that could be ended."""
        self._sessions = sessions
        over: Deferred[None] = Deferred()
        self._over = over
        now = self.clock.monotonic()
        seconds = max(_SHORTEST_SECONDS, self.seconds)
        grace = min(_GRACE_SECONDS, seconds * _GRACE_SHARE)
        self._insist_at, self._end_at = now + seconds - grace / 2, now + seconds
        in_random_order = sorted(sessions, key=lambda _: self.random())
        due = moments(len(in_random_order), seconds - grace, self.random)
        self._to_ask = [(now + moment, session) for moment, session in zip(due, in_random_order, strict=True)][::-1]
        if self.is_hurried:
            self._bring_forward()
        empty = sessions.when_empty()
        empty.addCallbacks(self._end, _trap_cancelled)
        if self._over is not None:
            self._turn()
        await over
        empty.cancel()

    def hurry(self) -> None:
        """Ask all sessions now and be done in two seconds; before ``run``: as soon as that begins."""
        if self.is_hurried:
            return
        self.is_hurried = True
        if self._over is not None and self.clock.monotonic() < self._end_at:
            self._bring_forward()
            if self._timer is not None:
                self._timer.reset(0)

    def _bring_forward(self) -> None:
        now = self.clock.monotonic()
        self._to_ask = [(now, session) for _, session in self._to_ask]
        self._insist_at = min(self._insist_at, now + _HURRIED_SECONDS / 2)
        self._end_at = min(self._end_at, now + _HURRIED_SECONDS)

    def _turn(self) -> None:
        """Whatever is due. A session may end within the call that asks it to, and with the last one it is all over."""
        self._timer = None
        now = self.clock.monotonic()
        if now >= self._end_at:
            self._abort()
            return
        if now >= self._insist_at:
            next_at = self._end_at
            self._to_ask.clear()
            for session in self._sessions:
                _guarded(session.close)
        else:
            next_at = min(self._ask(now), self._insist_at)
        self._turn_later(next_at - now, self._turn)

    def _ask(self, now: float) -> float:
        """Ask those whose moment has come; when there is something to do again."""
        for _ in range(_ASKED_PER_TURN):
            if not self._to_ask:
                return self._insist_at
            due, session = self._to_ask[-1]
            if due > now:
                return due
            self._to_ask.pop()
            _guarded(session.close_when_answered)
        return now  # other work of the reactor's comes between

    def _abort(self) -> None:
        log.warn("{count} connections did not end in time", event="gateway.drain_timeout", count=len(self._sessions))
        self._sessions.abort_all(_REASON)
        # Their ends are told of a turn of the reactor later, and go to Kafka and Redis like those of the others.
        self._turn_later(_ABORT_SECONDS, self._leave)

    def _leave(self) -> None:
        self._timer = None
        log.warn("{count} connections are left behind", event="gateway.connections_left", count=len(self._sessions))
        self._end(None)

    def _turn_later(self, seconds: float, turn: Callable[[], None]) -> None:
        if self._over is not None:
            self._timer = self.clock.call_later(max(0.0, seconds), turn)

    def _end(self, _: None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._to_ask.clear()
        over, self._over = self._over, None
        if over is not None:
            over.callback(None)


def _guarded(close: Callable[[CloseReason], None]) -> None:
    try:
        close(_REASON)
    except Exception:  # one that cannot be ended must not keep the others
        log.failure("A session could not be ended", event="session.failed", reason="internal_error")


def _trap_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
