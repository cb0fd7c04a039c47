"""What goes on for a command while nobody waits for it: it has an owner, and it does not give up when Redis is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import StoreUnavailable

log = Logger()

_Result = TypeVar("_Result")

_RETRY_SECONDS: Final = 1.0


@define(eq=False)
class Tasks:
    """Coroutines under way, on behalf of one owner."""

    clock: Clock
    _running: set[Deferred[None]] = field(factory=set, init=False)
    _is_over: bool = field(default=False, init=False)
    _idle: Bell = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._idle = Bell(self.clock)

    def __len__(self) -> int:
        return len(self._running)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it on its own. After the end of ``finish`` nothing is begun any more."""
        if self._is_over:
            coroutine.close()
            return
        running = Deferred.fromCoroutine(coroutine)
        self._running.add(running)
        running.addBoth(self._ended, running)

    async def until_redis(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """What ``ask`` gives, as soon as Redis answers. It is asked the same again, each second."""
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await Bell(self.clock).wait(_RETRY_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Wait for what is under way, for so long at most; cancel the rest."""
        end = self.clock.monotonic() + seconds
        while self._running and (left := end - self.clock.monotonic()) > 0:
            await self._idle.wait(left)
        self._is_over = True
        for running in tuple(self._running):
            running.cancel()

    def _ended(self, result: Failure | None, running: Deferred[None]) -> None:
        self._running.discard(running)
        if isinstance(result, Failure) and not result.check(CancelledError):
            log.failure("A command could not be handled", result, event="command.broken", reason="internal_error")
        if not self._running:
            self._idle.ring()


@define(eq=False)
class Bell:
    """Wakes the one who waits."""

    clock: Clock
    _waiter: Deferred[None] | None = field(default=None, init=False)

    async def wait(self, seconds: float | None = None) -> None:
        """Until it is rung, ``seconds`` at most."""
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        timer = None if seconds is None else self.clock.call_later(seconds, self._fire, waiter)
        try:
            await waiter
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def ring(self) -> None:
        """Wake who waits now; one who comes later is not woken by this."""
        if self._waiter is not None:
            self._fire(self._waiter)

    def _fire(self, waiter: Deferred[None]) -> None:
        if self._waiter is waiter:
            self._waiter = None
        if not waiter.called:
            waiter.callback(None)
