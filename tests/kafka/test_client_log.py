"""librdkafka's log lines on their way into ours."""

from __future__ import annotations

import logging

import pytest
from support.manual_clock import ManualClock

from ocpp_gateway.kafka.client_log import ClientLog


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def client_log(clock, quiet) -> ClientLog:
    return ClientLog(call_from_thread=lambda f, *a: f(*a), clock=clock, log=quiet.log, seconds=30.0)


def say(client_log: ClientLog, level: int, facility: str = "FAIL", text: str = "connection refused") -> None:
    client_log.log(level, "%s [%s] %s", facility, "rdkafka#producer-1", text)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (logging.CRITICAL, "warn"),
        (logging.ERROR, "warn"),
        (logging.WARNING, "warn"),
        (logging.INFO, "debug"),
        (logging.DEBUG, "debug"),
    ],
)
def test_nothing_is_above_warn(client_log, quiet, theirs, ours):
    say(client_log, theirs)
    [event] = quiet.events
    assert event["log_level"].name == ours
    assert (event["event"], event["kind"], event["text"]) == ("kafka.client_log", "FAIL", "connection refused")


def test_one_line_of_a_kind_in_the_time_given_with_the_number_kept_back(client_log, quiet, clock):
    for _ in range(100):
        say(client_log, logging.ERROR)
    say(client_log, logging.ERROR, "REQTMOUT")
    clock.advance(30.0)
    say(client_log, logging.ERROR)
    assert [(event["kind"], event["suppressed"]) for event in quiet.events] == [
        ("FAIL", 0),
        ("REQTMOUT", 0),
        ("FAIL", 99),
    ]


def test_debug_lines_that_somebody_asked_for_all_pass(client_log, quiet):
    for _ in range(10):
        say(client_log, logging.DEBUG)
    assert len(quiet.events) == 10


def test_a_flood_of_kinds_does_not_grow_the_memory(client_log, quiet):
    for number in range(1000):
        say(client_log, logging.ERROR, f"KIND{number}")
    assert len(client_log._silent_until) <= 256
    assert len(quiet.events) == 1000


def test_text_with_braces_and_percents_is_text(client_log, quiet):
    say(client_log, logging.ERROR, "FAIL", "{nope} %s")
    client_log.log(logging.ERROR, "100 %d{x}", 1)
    assert [event["text"] for event in quiet.events] == ["{nope} %s", "100 1{x}"]
    client_log.warn("kafka.client_error", "_RESOLVE", "{}")
    assert quiet.events[-1]["event"] == "kafka.client_error"
