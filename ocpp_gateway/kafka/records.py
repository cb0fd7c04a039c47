"""A record as a member of a group receives it."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final

from attrs import field, frozen
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

ReceivedHeaders = tuple[tuple[str, bytes | None], ...]

_READ_HEADERS: Final[Callable[[Message], Any]] = methodcaller("headers")


@frozen(kw_only=True)
class ReceivedRecord:
    """A record of a partition that is, or was, ours. ``timestamp_ms`` is milliseconds since the epoch.

    ``assignment`` numbers the time for which the partition is ours (``offsets``): the same record received again after
    a rebalance is equal but for that.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = field(repr=False)
    """A command's may have a new password in it."""

    headers: ReceivedHeaders = field(repr=False)
    timestamp_ms: int
    assignment: int = field(default=0, eq=False, repr=False)

    @property
    def source(self) -> str:
        """Names this record among all of the cluster, however often it is received."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def received_record(message: Message, *, partition: int, offset: int, assignment: int, now_ms: int) -> ReceivedRecord:
    """``message`` as a value; one without a time was written ``now_ms``, as far as anybody can tell."""
    kind, timestamp_ms = message.timestamp()
    return ReceivedRecord(
        topic=str(message.topic()),
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
        timestamp_ms=now_ms if kind == TIMESTAMP_NOT_AVAILABLE or timestamp_ms < 0 else timestamp_ms,
        assignment=assignment,
    )


def headers_of(message: Message) -> ReceivedHeaders:
    """The headers; none if the name of one is not UTF-8, which confluent_kafka cannot read.

    It then returns a broken list and leaves the error pending, to be raised wherever Python looks next. A call through
    ``methodcaller`` looks at once, which a plain one does only until the interpreter has learned to save that.
    """
    try:
        headers = _READ_HEADERS(message) or []
    except Exception:  # SystemError from a UnicodeDecodeError; whoever writes records must not stop us with one
        return ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return tuple((name, value.encode() if isinstance(value, str) else value) for name, value in pairs)
