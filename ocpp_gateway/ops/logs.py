"""The log: one JSON object a line with flat fields, or readable lines for people.

A log event's first argument is a constant sentence; ``event`` is its stable name; every other field is flat. What
libraries log about peers in their own words, with header blocks in it, stays out below error level: the gateway says
the same itself, in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
)
from twisted.python.failure import Failure

from ocpp_gateway.clock import iso_millis

_NOT_FIELDS = frozenset(("message", "time", "system", "format", "isError", "failure", "why", "key"))
_QUIET_LIBRARIES = ("autobahn", "txaio", "twisted.application", "twisted.internet", "twisted.web", "txredisapi")


def observer(stream: IO[str], *, level: str, form: str, constant: Mapping[str, str]) -> ILogObserver:
    """An observer that writes to ``stream`` what is at ``level`` or above, as ``json`` or ``text``.

    ``constant`` fields go into every JSON line.
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    for library in _QUIET_LIBRARIES:
        predicate.setLogLevelForNamespace(library, LogLevel.error)

    def format_json(event: LogEvent) -> str:
        return json_line(event, constant)

    writer = FileLogObserver(stream, format_json if form == "json" else text_line)
    filtered: ILogObserver = FilteringLogObserver(writer, [predicate])
    return filtered


def json_line(event: LogEvent, constant: Mapping[str, str]) -> str:
    """``event`` as one line of JSON."""
    level = event.get("log_level", LogLevel.info)
    line: dict[str, Any] = {
        "time": iso_millis(event.get("log_time", 0.0)),
        "level": level.name,
        "event": event.get("event", event.get("log_namespace", "log")),
        "message": formatEvent(event) or "",
        **constant,
    }
    for name, value in event.items():
        if name.startswith("log_") or name in _NOT_FIELDS or name == "event":
            continue
        line[name] = value if isinstance(value, str | int | float | bool | list | None) else str(value)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE).decode()


def text_line(event: LogEvent) -> str:
    """``event`` as people read it."""
    level = event.get("log_level", LogLevel.info)
    time = iso_millis(event.get("log_time", 0.0))[11:23]
    name = event.get("event", event.get("log_namespace", ""))
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    lines = text.split("\n") if "log_failure" in event else [text]
    text = "\n".join(map(_printable, lines))
    return f"{time} {level.name:<5} {text}  [{name}]\n"


def _printable(text: str) -> str:
    # Peers choose parts of it, and a terminal obeys control characters.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
