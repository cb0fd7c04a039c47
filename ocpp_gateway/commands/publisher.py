"""The events about commands on their way to Kafka: handed over until Kafka has them.

A record that failed may have arrived all the same: the client towards Kafka had to be renewed, or the confirmation was
lost. The final event of a command must not come twice, so before it is handed over again the topic is searched for it.
Other events may come twice then; they keep their eventId.

A final event that Kafka refuses, because it is larger than the topic allows, mostly, goes without what the charge
point said: that the command has ended matters more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.outcome import without_response
from ocpp_gateway.commands.states import Final as FinalEvent
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.routing.envelope import EventRecord, Headers

log = Logger()

EVENTS_TOPIC: Final = "ocpp.command.events"

_RETRY_SECONDS: Final = 2.0
_MAX_UNAWAITED: Final = 10_000
"""Events that nobody waits for and that wait themselves; of more the oldest go."""

_MAX_REFUSALS: Final = 3
"""So often a final event is handed over again: brokers refuse all of a batch that is too large for the topic."""

_CLOCK_SKEW_MS: Final = 60_000
_LOG_SECONDS: Final = 300.0

Search = Callable[[set[str], int], Awaitable[set[str]]]
"""Which of these eventIds are in the topic, in records since then (milliseconds since the epoch)?

Raises BusUnavailable.
"""


class CommandBusWriter(Protocol):
    """Kafka, as far as it is needed here."""

    def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Headers,
        delivered: Callable[[BusUnavailable | None], None],
    ) -> None:
        """Hand a record over; ``delivered`` is called once, in the reactor. Raises BusUnavailable."""
        ...


@define(eq=False)
class _Event:
    event_id: str
    key: bytes
    value: bytes
    headers: Headers
    told: Deferred[None] | None
    """Who waits for it; None: nobody."""

    since_ms: int
    is_final: bool = False
    is_doubtful: bool = False
    """It may be in the topic."""

    refusals: int = 0


@define(eq=False, kw_only=True)
class CommandEvents:
    """See the module's text. Final events are as many as there are commands under way, so they are not limited."""

    bus: CommandBusWriter
    topic: str
    search: Search
    clock: Clock
    _waiting: deque[_Event] = field(factory=deque, init=False)
    """For another try."""

    _unawaited: int = field(default=0, init=False)
    _retry: IDelayedCall | None = field(default=None, init=False)
    _logged_at: float | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)
    _tasks: Tasks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tasks = Tasks(self.clock)

    def tell(self, key: bytes, record: EventRecord) -> None:
        """Publish an event that is not final. Nobody waits for it."""
        self._publish(_Event(record.event_id, key, record.value, record.headers, None, self._now_ms()))

    async def publish(self, key: bytes, record: EventRecord) -> None:
        """Publish an event that is not final; returns when Kafka has it."""
        await self._told(_Event(record.event_id, key, record.value, record.headers, Deferred(), self._now_ms()))

    async def publish_final(self, final: FinalEvent, since_ms: int | None = None) -> None:
        """Publish a final event; returns when Kafka has it.

        ``since_ms``: from when on (milliseconds since the epoch) somebody else may have published it; None: nobody has.
        """
        first_ms = self._now_ms() if since_ms is None else since_ms
        event = _Event(final.event_id, final.key, final.value, final.headers, Deferred(), first_ms, True)
        event.is_doubtful = since_ms is not None
        await self._told(event)

    async def stop(self) -> None:
        """Give up what is not in Kafka."""
        self._is_stopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        await self._tasks.finish(0)
        waiting, self._waiting = self._waiting, deque()
        for event in waiting:
            if event.told is not None and not event.told.called:
                event.told.cancel()

    async def _told(self, event: _Event) -> None:
        told = event.told
        assert told is not None  # ours: only such events come here
        if event.is_doubtful:
            self._wait(event, seconds=0.0)
        else:
            self._publish(event)
        await told

    def _publish(self, event: _Event) -> None:
        try:
            self.bus.publish(
                self.topic, event.key, event.value, event.headers, lambda error: self._delivered(event, error)
            )
        except BusUnavailable as error:
            if error.permanent:
                self._refused(event, error)
            else:
                self._wait(event)

    def _delivered(self, event: _Event, error: BusUnavailable | None) -> None:
        if error is None:
            self._has(event)
        elif error.permanent:
            self._refused(event, error)
        else:
            event.is_doubtful = event.is_final
            self._wait(event)

    def _has(self, event: _Event) -> None:
        if event.told is not None and not event.told.called:
            event.told.callback(None)

    def _refused(self, event: _Event, error: BusUnavailable) -> None:
        """Kafka will not take it as it is; whoever waits must not do so for ever."""
        event.refusals += 1
        if event.is_final and event.refusals <= _MAX_REFUSALS:
            shorter = without_response(event.value, error.reason)
            if shorter != event.value:
                log.warn(
                    "The end of a command is told without the {size} bytes of its response: {problem}",
                    event="event.shortened",
                    reason=error.reason,
                    problem=str(error),
                    event_id=event.event_id,
                    size=len(event.value) - len(shorter),
                )
            event.value = shorter
            self._wait(event)
            return
        log.error(
            "An event about a command cannot be published: {problem}",
            event="event.lost",
            reason=error.reason,
            problem=str(error),
            event_id=event.event_id,
        )
        self._has(event)

    # Another try.

    def _wait(self, event: _Event, seconds: float = _RETRY_SECONDS) -> None:
        if self._is_stopped:
            if event.told is not None and not event.told.called:
                event.told.cancel()
            return
        self._waiting.append(event)
        if event.told is None:
            self._unawaited += 1
            if self._unawaited > _MAX_UNAWAITED:
                self._waiting.remove(next(each for each in self._waiting if each.told is None))
                self._unawaited -= 1
        if self._retry is None and not len(self._tasks):
            self._retry = self.clock.call_later(seconds, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._tasks.run(self._try_all())

    async def _try_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._unawaited = 0
        doubtful = {event.event_id: event for event in waiting if event.is_doubtful}
        there: set[str] | None = set()
        if doubtful:
            since_ms = min(event.since_ms for event in doubtful.values()) - _CLOCK_SKEW_MS
            try:
                there = await self.search(set(doubtful), since_ms)
            except BusUnavailable as error:
                self._log_search_failed(error, len(doubtful))
                there = None
            except CancelledError:
                raise
            except Exception:  # ours; what waits must not get lost with it
                log.failure("The topic cannot be searched", event="command.broken", reason="internal_error")
                there = None
        for event in waiting:
            if not event.is_doubtful:
                self._publish(event)
            elif there is None:
                self._wait(event)
            elif event.event_id in there:
                self._has(event)
            else:
                event.is_doubtful = False
                self._publish(event)
        if self._waiting and self._retry is None:
            self._retry = self.clock.call_later(_RETRY_SECONDS, self._try_again)

    def _log_search_failed(self, error: BusUnavailable, waiting: int) -> None:
        """Without brokers that passes; without the right to read the topic nothing goes on until somebody is told."""
        now = self.clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warn(
                "{waiting} final events wait, as {topic} cannot be searched for them: {problem}",
                event="command.search_failed",
                reason=error.reason,
                problem=str(error),
                topic=self.topic,
                waiting=waiting,
            )

    def _now_ms(self) -> int:
        return int(self.clock.now() * 1000)
