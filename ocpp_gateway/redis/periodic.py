"""Something done every few seconds, that no failure stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.shield import shielded

log = Logger()


@define(eq=False, kw_only=True)
class Periodic:
    """Runs ``action`` at once and then again, ``interval`` seconds after each end, until stopped.

    Redis being away is logged when it begins and when it ends; any other failure is ours and is logged each time.
    """

    name: str
    clock: Clock
    interval: float
    action: Callable[[], Awaitable[None]]
    last_success: float | None = field(default=None, init=False)
    """When the action last ended well, in ``clock.monotonic()``; None: never."""

    _started: bool = field(default=False, init=False)
    _failing: bool = field(default=False, init=False)
    _again: bool = field(default=False, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _running: Deferred[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin, with a first run now."""
        self._started = True
        self.run_now()

    def run_now(self) -> None:
        """Do not wait for the next turn; if a run is under way, follow it with another one."""
        if not self._started:
            return
        if self._running is not None:
            self._again = True
            return
        if self._timer is not None:
            self._timer.cancel()
        self._run()

    def stop(self) -> None:
        """End; a run under way is cancelled."""
        self._end()
        if self._running is not None:
            self._running.cancel()

    async def finish(self) -> None:
        """End after the run under way."""
        self._end()
        if self._running is not None:
            await shielded(self._running)

    def _end(self) -> None:
        self._started = self._again = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._timer = None
        self._again = False
        running = Deferred.fromCoroutine(self._guarded())
        self._running = running
        running.addCallback(self._ended)

    async def _guarded(self) -> None:
        try:
            await self.action()
        except CancelledError:
            return
        except StoreUnavailable as error:
            if not self._failing:
                log.warn(
                    "{name} failed, it goes on trying: {problem}",
                    event="redis.periodic_failed",
                    name=self.name,
                    reason=error.reason,
                    problem=str(error),
                )
            self._failing = True
            return
        except Exception:
            log.failure("{name} failed", event="redis.periodic_broken", name=self.name)
            return
        self.last_success = self.clock.monotonic()
        if self._failing:
            self._failing = False
            log.info("{name} works again", event="redis.periodic_recovered", name=self.name)

    def _ended(self, _: None) -> None:
        self._running = None
        if self._started:
            self._timer = self.clock.call_later(0 if self._again else self.interval, self._run)
