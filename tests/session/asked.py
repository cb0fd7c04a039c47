"""A CALL of ours that notes what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from ocpp_gateway.ocppj.frames import CallError, CallResult
from ocpp_gateway.ocppj.violations import Violation


@define(eq=False)
class Asked:
    """``may_go``: what clearing says, now or when it fires. ``then`` is called with each thing that is told."""

    message_id: str
    may_go: bool | Deferred[bool] = True
    timeout: float = 15.0
    violation: Violation | None = None
    then: Callable[[str], object] = lambda _: None
    action: str = "Reset"
    payload: bytes = b'{"type":"Soft"}'
    told: list[Any] = field(factory=list)
    clearings: int = 0

    async def cleared(self) -> bool:
        self.clearings += 1
        return self.may_go if isinstance(self.may_go, bool) else await self.may_go

    def sent(self) -> None:
        self._note("sent", "sent")

    def answered(self, result: CallResult) -> Violation | None:
        self._note("answered", ("answered", result.payload))
        return self.violation

    def refused(self, error: CallError) -> None:
        self._note("refused", ("refused", error.code))

    def unreadable(self, violation: Violation) -> None:
        self._note("unreadable", ("unreadable", violation.message))

    def timed_out(self) -> None:
        self._note("timed_out", "timed_out")

    def lost(self, was_sent: bool) -> None:
        self._note("lost", ("lost", was_sent))

    def _note(self, what: str, detail: Any) -> None:
        self.told.append(detail)
        self.then(what)
