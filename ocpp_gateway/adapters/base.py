"""What the adapters of all versions have in common: tables of answers, and the answers that do not differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from attrs import define, field

from ocpp_gateway.adapters.answers import Answer, Caller, CallRefused, Topic
from ocpp_gateway.adapters.events import event_type_of, topic_of
from ocpp_gateway.adapters.repeats import Repeats
from ocpp_gateway.adapters.tokens import TokenVerdicts
from ocpp_gateway.clock import iso_seconds
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, Send

Decide = Callable[[Caller, Call | Send], Answer | None]
"""Gives the answer if nobody has to be asked for it."""

Ask = Callable[[Caller, Call | Send], Awaitable[Answer]]
"""Gives the answer after asking."""


def fixed_body(payload: Mapping[str, Any]) -> Callable[[float], bytes]:
    """A body that is always the same."""
    written = orjson.dumps(payload)
    return lambda now: written


def fixed(payload: Mapping[str, Any]) -> Answer:
    """An answer that is always the same and needs nothing in the event."""
    return Answer(fixed_body(payload))


EMPTY_BODY = fixed_body({})


def boot_accepted(heartbeat_interval: int) -> Answer:
    """BootNotification is Accepted: who is not active never gets past the handshake. ``heartbeat_interval``: seconds.

    OCPP 1.6 section 4.2; 2.0.1 and 2.1 part 2, B01.
    """

    def body(now: float) -> bytes:
        return orjson.dumps({"status": "Accepted", "currentTime": iso_seconds(now), "interval": heartbeat_interval})

    return Answer(body, is_timeless=False)


def heartbeat() -> Answer:
    """The clock (OCPP 1.6 section 4.6; 2.0.1 and 2.1 part 2, G02)."""
    return Answer(lambda now: orjson.dumps({"currentTime": iso_seconds(now)}), is_timeless=False)


@define(eq=False, kw_only=True)
class VersionAdapter:
    """Looks answers up; the versions fill the tables."""

    verdicts: TokenVerdicts
    repeats: Repeats
    heartbeat_interval: int
    """Seconds."""

    _fixed: dict[str, Answer] = field(factory=dict, init=False)
    _decide: dict[str, Decide] = field(factory=dict, init=False)
    _ask: dict[str, Ask] = field(factory=dict, init=False)

    def event_type(self, action: str) -> str:
        """See Adapter."""
        return event_type_of(action)

    def topic(self, action: str) -> Topic:
        """See Adapter."""
        return topic_of(action)

    def immediate(self, caller: Caller, call: Call | Send) -> Answer | None:
        """See Adapter."""
        action = call.action
        answer = self._fixed.get(action)
        if answer is not None:
            return answer
        decide = self._decide.get(action)
        return None if decide is None else decide(caller, call)

    async def answer(self, caller: Caller, call: Call | Send) -> Answer:
        """See Adapter."""
        answer = self.immediate(caller, call)
        if answer is not None:
            return answer
        ask = self._ask.get(call.action)
        if ask is None:
            raise CallRefused(ErrorCode.NOT_SUPPORTED, "not_answerable")
        return await ask(caller, call)

    def _fixed_or_refused(self, action: str) -> Answer:
        """The answer to a CALL whose payload says nothing."""
        answer = self._fixed.get(action)
        if answer is None:
            raise CallRefused(ErrorCode.INTERNAL_ERROR, "not_answerable")
        return answer
