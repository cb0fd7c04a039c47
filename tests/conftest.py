"""What every test gets: a logged error, a Deferred that failed unseen or a leftover timer fails it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from twisted.internet import reactor
from twisted.logger import LogEvent, LogLevel, eventAsText, formatEvent, globalLogPublisher

# How long an example takes says something about the machine only.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collections below need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_goes_unseen() -> Iterator[None]:
    """Fail the test if anything was logged at error or above, or a timer is left in the reactor."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            seen.append(eventAsText(event) or formatEvent(event))

    timers_before = set(reactor.getDelayedCalls())
    globalLogPublisher.addObserver(observe)
    try:
        yield
        gc.collect()  # a Deferred that failed unseen logs when it is collected
    finally:
        globalLogPublisher.removeObserver(observe)
    left = [call for call in reactor.getDelayedCalls() if call not in timers_before and call.active()]
    for call in left:
        call.cancel()
    assert not seen, "logged as error:\n" + "\n".join(seen)
    assert not left, f"timers left behind: {left}"
