"""What a session asks of others."""

from __future__ import annotations

from typing import Protocol

from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session.lifecycle import Course, Lifecycle
from ocpp_gateway.session.reasons import CloseReason


class Connection(Protocol):
    """The WebSocket, as a session needs it."""

    @property
    def life(self) -> Lifecycle:
        """Where what happens to the connection is told."""
        ...

    @property
    def course(self) -> Course:
        """How far it has come."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether the peer has sent more than was taken so far."""
        ...

    @property
    def last_heard(self) -> float:
        """``clock.monotonic()`` when bytes last came."""
        ...

    def send_text(self, data: bytes) -> None:
        """Send one text message; dropped when the connection is not open any more."""
        ...

    def close(self, reason: CloseReason) -> None:
        """Start the closing handshake; ``Session.closed`` follows."""
        ...

    def abort(self) -> None:
        """End the connection without waiting for the peer; ``Session.closed`` follows."""
        ...

    def pause_reading(self) -> None:
        """Leave what the peer sends in its socket."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...


class SessionCounters(Protocol):
    """What a session counts."""

    def count_quirk(self, version: OcppVersion, quirk: Quirk) -> None:
        """A tolerated deviation."""
        ...

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        """A CALL ended as ``outcome``."""
        ...

    def count_bad_frame(self, version: OcppVersion, reason: str) -> None:
        """A message that was no frame, or a frame that nobody waited for."""
        ...
