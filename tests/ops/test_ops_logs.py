"""The log: whose words get into it, and in which form."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from twisted.logger import Logger, LogLevel

from ocpp_gateway.ops.logs import observer

SENT = "\x1b[2J\x1b]0;owned\x07 \x9b1m \u202e \u2028 \ud800 \r\n end \u00e4"
SHOWN = "\\x1b[2J\\x1b]0;owned\\x07 \\x9b1m \\u202e \\u2028 \\ud800 \\r\\n end \u00e4"


def written(form: str, level: str, namespace: str, text: str, *, at: LogLevel = LogLevel.info) -> str:
    stream = StringIO()
    log = Logger(namespace, observer=observer(stream, level=level, form=form, constant={}))
    log.emit(at, "said: {text}", event="peer.spoke", text=text)
    return stream.getvalue()


def test_a_peer_cannot_write_to_the_terminal() -> None:
    line = written("text", "info", "ocpp_gateway.session", SENT)
    assert line.endswith(f"said: {SHOWN}  [peer.spoke]\n")
    assert line.count("\n") == 1


def test_a_traceback_has_its_lines_and_nothing_else_that_a_terminal_obeys() -> None:
    stream = StringIO()
    log = Logger("ocpp_gateway", observer=observer(stream, level="info", form="text", constant={}))
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        log.failure("It went wrong", event="session.failed")
    text = stream.getvalue()
    assert "Traceback (most recent call last)" in text
    assert text.count("\n") > 3
    assert "\\x1b[2J" in text
    assert text.replace("\n", "").isprintable()


def test_json_has_what_was_sent() -> None:
    line = written("json", "info", "ocpp_gateway.session", "\x1b[2J\n")
    assert line.count("\n") == 1
    assert json.loads(line)["text"] == "\x1b[2J\n"


def test_json_has_lists_as_lists_and_anything_else_as_text() -> None:
    stream = StringIO()
    log = Logger("ocpp_gateway", observer=observer(stream, level="info", form="json", constant={}))
    log.info("Reading", event="kafka.partitions_assigned", partitions=[0, 2], by=("a", 1))
    line = json.loads(stream.getvalue())
    assert (line["partitions"], line["by"]) == ([0, 2], "('a', 1)")


@pytest.mark.parametrize(
    "library", ["autobahn", "twisted.web", "twisted.internet", "twisted.application", "txredisapi"]
)
def test_libraries_are_heard_only_when_something_broke(library: str) -> None:
    assert written("json", "debug", f"{library}.part", "x") == ""
    assert written("json", "debug", f"{library}.part", "x", at=LogLevel.warn) == ""
    assert written("json", "debug", f"{library}.part", "x", at=LogLevel.error) != ""
