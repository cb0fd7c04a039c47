"""The log of code that is expected to fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, globalLogPublisher


@contextmanager
def told() -> Iterator[list[LogEvent]]:
    """The log events meanwhile. It stands in for the observer of the test suite, which would fail the test for them."""
    events: list[LogEvent] = []
    observers, globalLogPublisher._observers = globalLogPublisher._observers, [events.append]
    try:
        yield events
    finally:
        globalLogPublisher._observers = observers


def failures(events: list[LogEvent]) -> list[str]:
    """The ``event`` of each that tells of an exception."""
    return [event["event"] for event in events if "log_failure" in event]
