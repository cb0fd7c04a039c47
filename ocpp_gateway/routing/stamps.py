"""Ids and times of events, cheap enough for every message."""

from __future__ import annotations

import os

from attrs import define, field

from ocpp_gateway.clock import iso_seconds

_BATCH = 128

#: RFC 9562 section 4.1: the variant's two bits are 10, the other two stay random.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@define(eq=False)
class EventStamps:
    """One for the whole node. Random bytes are drawn for many ids at once, the time is written once a millisecond."""

    _ids: list[str] = field(factory=list, init=False)
    _second: int = field(default=-1, init=False)
    _second_text: str = field(default="", init=False)
    _millisecond: int = field(default=-1, init=False)
    _text: str = field(default="", init=False)

    def event_id(self) -> str:
        """A new random UUID (version 4), for an event or a connection."""
        ids = self._ids
        if not ids:
            digits = os.urandom(16 * _BATCH).hex()
            ids.extend(_uuid4(digits[start : start + 32]) for start in range(0, len(digits), 32))
        return ids.pop()

    def occurred_at(self, now: float) -> str:
        """``now`` (seconds since the epoch) as RFC 3339 with milliseconds; the same as ``clock.iso_millis``."""
        millisecond = int(now * 1000)
        if millisecond != self._millisecond:
            second, fraction = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._second_text = iso_seconds(second)[:-1]
            self._millisecond = millisecond
            self._text = f"{self._second_text}.{fraction:03d}Z"
        return self._text


def _uuid4(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
