"""The life of a connection, from TCP accept to its end, as one state machine.

::

    connecting ──check──> checking ──opened──> open ──drain──> draining
        │                    │                  │                 │ answered, close
        └──────refuse────────┴──> refused       └──close──> closing <┘

``lost`` leads from each of them to ``gone``. The first reason to close stays. What comes too late, or twice, changes
nothing: a peer may leave, and an operator may kick, at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol

from attrs import define
from automat import TypeMachineBuilder

from ocpp_gateway.session.reasons import CloseReason


class Phase(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"  # TCP, TLS, the header block
    CHECKING = "checking"  # the request is complete, the verdict is not
    REFUSED = "refused"  # answered, or cut off; not gone yet
    OPEN = "open"
    DRAINING = "draining"  # the CALL under way is answered, nothing else is read
    CLOSING = "closing"  # our close frame is out
    GONE = "gone"


class Line(Protocol):
    """The WebSocket, as the machine moves it."""

    def close(self, reason: CloseReason) -> None:
        """Start the closing handshake."""
        ...

    def pause_reading(self) -> None:
        """Leave what the peer sends in its socket."""
        ...


@define(eq=False)
class Course:
    """How far a life has come. ``reason``: why it ends, known from the moment on in which that is sure."""

    line: Line | None
    """None when it is gone: nothing is to keep a dead connection in memory."""

    phase: Phase = Phase.CONNECTING
    reason: CloseReason | None = None
    drains_for: CloseReason | None = None
    has_been_open: bool = False


class Lifecycle(Protocol):
    """What can happen to a connection."""

    def check(self) -> None:
        """The request is complete."""

    def refuse(self) -> None:
        """There will be no WebSocket."""

    def opened(self) -> None:
        """The 101 is out."""

    def drain(self, reason: CloseReason) -> None:
        """Close for ``reason`` as soon as the CALL under way is answered."""

    def answered(self) -> None:
        """The CALL under way has its answer, or will never have one."""

    def close(self, reason: CloseReason) -> None:
        """Close for ``reason``."""

    def lost(self, reason: CloseReason) -> None:
        """The connection is gone: for ``reason``, unless there was one before."""


def _built() -> Callable[[Course], Lifecycle]:
    builder = TypeMachineBuilder(Lifecycle, Course)
    states: dict[Phase, Any] = {phase: builder.state(phase.value) for phase in Phase}

    def goes(event: Any, *, to: Phase, at: tuple[Phase, ...], act: Callable[..., None]) -> None:
        for phase in at:
            states[phase].upon(event).to(states[to])(act)

    def check(_: Lifecycle, course: Course) -> None:
        course.phase = Phase.CHECKING

    def refuse(_: Lifecycle, course: Course) -> None:
        course.phase = Phase.REFUSED

    def opened(_: Lifecycle, course: Course) -> None:
        course.phase, course.has_been_open = Phase.OPEN, True

    def drain(_: Lifecycle, course: Course, reason: CloseReason) -> None:
        course.phase, course.drains_for = Phase.DRAINING, reason
        if course.line is not None:
            course.line.pause_reading()

    def answered(life: Lifecycle, course: Course) -> None:
        assert course.drains_for is not None  # it is draining
        close(life, course, course.drains_for)

    def close(_: Lifecycle, course: Course, reason: CloseReason) -> None:
        course.phase, course.reason = Phase.CLOSING, reason
        if course.line is not None:
            course.line.close(reason)

    def lost(_: Lifecycle, course: Course, reason: CloseReason) -> None:
        course.phase, course.reason, course.line = Phase.GONE, course.reason or reason, None

    def nothing(_: Lifecycle, course: Course, *args: Any) -> None: ...

    connecting, checking, refused, is_open, draining, closing, gone = Phase
    goes(Lifecycle.check, to=checking, at=(connecting,), act=check)
    goes(Lifecycle.refuse, to=refused, at=(connecting, checking), act=refuse)
    goes(Lifecycle.opened, to=is_open, at=(checking,), act=opened)
    goes(Lifecycle.drain, to=draining, at=(is_open,), act=drain)
    goes(Lifecycle.answered, to=closing, at=(draining,), act=answered)
    goes(Lifecycle.close, to=closing, at=(is_open, draining), act=close)
    goes(Lifecycle.lost, to=gone, at=(connecting, checking, refused, is_open, draining, closing), act=lost)
    for event, at in (
        (Lifecycle.refuse, (refused, gone)),
        (Lifecycle.answered, (is_open, closing, gone)),
        (Lifecycle.drain, (draining, closing, gone)),
        (Lifecycle.close, (closing, gone)),
        (Lifecycle.lost, (gone,)),
    ):
        for phase in at:
            goes(event, to=phase, at=(phase,), act=nothing)
    return builder.build()


_LIFE: Final = _built()


def begin(line: Line) -> tuple[Lifecycle, Course]:
    """The life of a new connection."""
    course = Course(line)
    return _LIFE(course), course
