"""What is needed of the sessions of this node, and of what is known about their charge points' registration."""

from __future__ import annotations

from typing import Any, Protocol

from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import Station


class Identified(Protocol):
    """Which session it is."""

    @property
    def epoch(self) -> int:
        """Orders the sessions of a charge point."""
        ...


class ExecutingSession(Protocol):
    """A live session."""

    @property
    def identity(self) -> Identified:
        """Which one it is."""
        ...

    @property
    def station(self) -> Station:
        """Whose it is."""
        ...

    @property
    def version(self) -> OcppVersion:
        """What the two sides speak."""
        ...

    def call(self, call: Any) -> bool:
        """Ask it: ``call`` is a CommandCall. False, and nothing is told about it: too many wait."""
        ...


class LiveSessions(Protocol):
    """Who is connected to this node."""

    def find(self, charge_point_id: str) -> ExecutingSession | None:
        """The session of a charge point, if it is connected here and may be asked something."""
        ...


class Registration(Protocol):
    """What charge points were answered to their BootNotification (OCPP 2.0.1 part 2, B01 to B03)."""

    def is_rejected(self, charge_point_id: str) -> bool:
        """Whether it was rejected: then it must not be asked anything."""
        ...

    def asked(self, charge_point_id: str, action: str, payload: Payload) -> None:
        """This was sent to it: what it asks for may come although the registration is pending."""
        ...


class EveryoneAccepted:
    """The registration where the gateway itself answers BootNotification: it accepts all."""

    def is_rejected(self, charge_point_id: str) -> bool:
        """See Registration."""
        return False

    def asked(self, charge_point_id: str, action: str, payload: Payload) -> None:
        """See Registration."""
