"""StationConnected and StationDisconnected: events that no CALL waits for.

They ride in the same queue as the events of the CALLs between them, so that Kafka has them in the same order. One
that fails for good (the client towards Kafka had to be renewed) is handed over again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import BusQueueFull, BusUnavailable
from ocpp_gateway.routing.envelope import Envelope, EventRecord
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.uplink import EventBus
from ocpp_gateway.routing.writability import Writability

log = Logger()

_RETRY_SECONDS = 2.0
_TRIES_PER_TURN = 500


@define(eq=False)
class _Announcement:
    presence: Presence
    key: bytes
    record: EventRecord
    started: float

    def expired(self) -> None:
        self.presence.writability.waited_in_vain(self.started)

    def delivered(self, error: BusUnavailable | None) -> None:
        self.presence.delivered(self, error)


@define(eq=False, kw_only=True)
class Presence:
    """Tells the back end who came and who went. At most ``max_waiting`` wait for another try."""

    bus: EventBus
    topic: str
    holds: Holds
    writability: Writability
    clock: Clock
    max_waiting: int = 100_000
    _waiting: deque[_Announcement] = field(factory=deque)
    _overflowed: int = 0
    _retry: IDelayedCall | None = None

    def announce(self, envelope: Envelope, event_type: str, payload: Mapping[str, Any]) -> None:
        """Publish ``payload`` as an event of the charge point, or of the connection, that ``envelope`` is of."""
        record = envelope.plain(event_type, payload, now=self.clock.now())
        self._publish(_Announcement(self, envelope.station_id.encode(), record, self.clock.monotonic()))

    def stop(self) -> None:
        """Give up what waits for another try."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._overflowed += len(self._waiting)
        self._waiting.clear()
        self._tell_of_losses()

    def delivered(self, announcement: _Announcement, error: BusUnavailable | None) -> None:
        """Kafka's word on an announcement."""
        self.holds.release(announcement)
        if error is None:
            self.writability.confirmed()
            self._tell_of_losses()
        else:
            self.writability.failed()
            self._wait(announcement)

    def _publish(self, announcement: _Announcement) -> None:
        record = announcement.record
        self.holds.add(announcement)
        try:
            self.bus.publish(self.topic, announcement.key, record.value, record.headers, announcement.delivered)
        except BusUnavailable as error:
            self.holds.release(announcement)
            if isinstance(error, BusQueueFull):
                self.writability.refused()
            else:
                self.writability.failed()
            self._wait(announcement)

    def _wait(self, announcement: _Announcement) -> None:
        self._waiting.append(announcement)
        if len(self._waiting) > self.max_waiting:
            self._waiting.popleft()
            self._overflowed += 1
        if self._retry is None:
            self._retry = self.clock.call_later(_RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        for _ in range(min(len(self._waiting), _TRIES_PER_TURN)):
            if self.bus.congested:
                break
            announcement = self._waiting.popleft()
            announcement.started = self.clock.monotonic()
            self._publish(announcement)
        if self._waiting and self._retry is None:
            self._retry = self.clock.call_later(_RETRY_SECONDS, self._try_again)

    def _tell_of_losses(self) -> None:
        count, self._overflowed = self._overflowed, 0
        if count:
            log.error(
                "{count} events about connections could not be published",
                event="event.lost",
                reason="kafka_unavailable",
                count=count,
            )
