"""Registration: what the CSMS answered to BootNotification, and what a charge point may say until it is Accepted.

OCPP 1.6 section 4.2 and OCPP-J errata 3.10; 2.0.1 and 2.1 part 2, B01 to B03.

Only who was answered Pending or Rejected is held back. A charge point does not boot again because its connection was
lost, so the answer is kept where all nodes see it, until another one takes its place. Whatever is not known, because
Redis is away or lost it, counts as Accepted: a SecurityError to one that was accepted would cost its data, and it
would not know why.

On each connection the first CALL asks Redis. Accepted holds from then on, as only this node can answer another
BootNotification of that connection; anything else is looked up again after a few seconds, since a node that could not
reach Redis may have accepted it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import orjson
from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Answer
from ocpp_gateway.adapters.recent import Recent
from ocpp_gateway.clock import Clock, iso_seconds
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.routing.exchange import Station

ACTION = "BootNotification"

_LOOK_AGAIN_SECONDS = 5.0
_LONGEST_INTERVAL = 2**31 - 1

#: What CALLs a command asks for, besides those that a trigger names.
_ASKED_FOR: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CustomerInformation": ("NotifyCustomerInformation",),
        "GetBaseReport": ("NotifyReport",),
        "GetChargingProfiles": ("ReportChargingProfiles",),
        "GetDiagnostics": ("DiagnosticsStatusNotification",),
        "GetDisplayMessages": ("NotifyDisplayMessages",),
        "GetLog": ("LogStatusNotification",),
        "GetMonitoringReport": ("NotifyMonitoringReport",),
        "GetReport": ("NotifyReport",),
        "PublishFirmware": ("PublishFirmwareStatusNotification",),
        "SetVariableMonitoring": ("NotifyEvent",),
        "SignedUpdateFirmware": ("SignedFirmwareStatusNotification",),
        "UpdateFirmware": ("FirmwareStatusNotification",),
    }
)

_TRIGGERS = frozenset({"ExtendedTriggerMessage", "TriggerMessage"})

#: Where ``requestedMessage`` is not the name of the action that comes.
_TRIGGERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # 1.6's ExtendedTriggerMessage means the signed one ("Improved security for OCPP 1.6-J" section 5.4).
        "FirmwareStatusNotification": ("FirmwareStatusNotification", "SignedFirmwareStatusNotification"),
        "SignChargePointCertificate": ("SignCertificate",),
        "SignChargingStationCertificate": ("SignCertificate",),
        "SignCombinedCertificate": ("SignCertificate",),
        "SignV2G20Certificate": ("SignCertificate",),
        "SignV2GCertificate": ("SignCertificate",),
    }
)


def asked_for(action: str, payload: Payload) -> tuple[str, ...]:
    """The CALLs that a charge point sends because it was asked for ``action``; ``payload`` satisfies its schema."""
    if action not in _TRIGGERS:
        return _ASKED_FOR.get(action, ())
    message = payload.get("requestedMessage")
    return _TRIGGERED.get(message, (message,)) if type(message) is str else ()


@frozen
class BootState:
    """An answer to BootNotification that is not Accepted."""

    status: str
    """Pending or Rejected."""

    interval: int
    """Seconds until the next BootNotification, as the CSMS said."""

    @classmethod
    def of(cls, payload: Payload) -> BootState | None:
        """What ``payload``, a valid CALLRESULT's, says; None: Accepted."""
        # 2.x: any number without a fraction, 1e300 too, which could not be written as JSON again.
        interval = min(max(int(payload["interval"]), 0), _LONGEST_INTERVAL)
        return None if payload["status"] == "Accepted" else cls(payload["status"], interval)


class BootStates(Protocol):
    """Where the answers are kept (Redis). What is written while it is away is made up for."""

    async def get(self, charge_point_id: str) -> BootState | None:
        """The last answer; None: Accepted, or none. Raises StoreUnavailable."""
        ...

    async def keep(self, charge_point_id: str, epoch: int, state: BootState) -> None:
        """The session of ``epoch`` was answered ``state``; nothing if there is a newer session. Never raises."""
        ...

    async def forget(self, charge_point_id: str, epoch: int) -> None:
        """The session of ``epoch`` is accepted; nothing if a newer one was answered otherwise. Never raises."""
        ...


@frozen
class _Seen:
    """What is known of a charge point on one connection, up to a moment (monotonic seconds)."""

    connection_id: str
    epoch: int
    state: BootState | None
    until: float


@define(eq=False)
class Registrations:
    """The registration of the charge points connected here; see ``routing.exchange.Gate``."""

    states: BootStates
    clock: Clock
    max_entries: int = 200_000
    _seen: Recent[str, _Seen] = field(init=False)
    _asked: Recent[str, frozenset[str]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = Recent(self.max_entries)
        self._asked = Recent(self.max_entries)

    # The gate.

    def is_open(self, station: Station) -> bool:
        """See Gate."""
        seen = self._seen_of(station)
        return seen is not None and seen.state is None and self.clock.monotonic() < seen.until

    async def status(self, station: Station) -> str | None:
        """See Gate."""
        state = await self._look_up(station)
        return None if state is None else state.status

    def was_asked(self, station: Station, action: str) -> bool:
        """See Gate."""
        seen = self._seen_of(station)
        if seen is None or seen.state is None or seen.state.status != "Pending":
            return False
        return action in (self._asked.get(station.caller.charge_point_id) or ())

    # Commands (``commands.sessions.Registration``).

    def is_rejected(self, charge_point_id: str) -> bool:
        """Whether the CSMS must not ask it anything (B03.FR.03), as far as is known here."""
        seen = self._seen.get(charge_point_id)
        return seen is not None and seen.state is not None and seen.state.status == "Rejected"

    def asked(self, charge_point_id: str, action: str, payload: Payload) -> None:
        """This was sent to it. What it asks for may come as long as the registration is Pending (B02.FR.02, .09)."""
        names = asked_for(action, payload)
        if names:
            before = self._asked.get(charge_point_id) or frozenset()
            self._asked.put(charge_point_id, before.union(names))

    def opened(self, station: Station) -> None:
        """It has connected: look now, so that ``is_rejected`` knows it before its first CALL. Never raises."""
        if self._is_superseded(station):  # not by a newer session: Redis lost its data, and epochs begin anew
            self._know_until(station, None, float("-inf"))
        Deferred.fromCoroutine(self._look_up(station))

    # Answers to BootNotification.

    def own(self, station: Station, own: Answer) -> tuple[Answer, BootState | None]:
        """What the gateway says in place of the CSMS: its last word if that was not Accepted, else ``own``."""
        seen = self._seen_of(station)
        state = None if seen is None else seen.state
        if state is None:
            return own, None
        last = {"status": state.status, "interval": state.interval}
        return evolve(own, body=lambda now: orjson.dumps({**last, "currentTime": iso_seconds(now)})), state

    async def before(self, station: Station, state: BootState | None) -> None:
        """``state`` is decided on. Of one who is accepted it is forgotten first: once told, it may rely on that."""
        if state is None and not self.is_open(station):
            await self.states.forget(station.caller.charge_point_id, station.envelope.epoch)

    async def answered(self, station: Station, state: BootState | None) -> None:
        """``state`` goes out now. It holds at once; keeping it may take longer, and never raises."""
        charge_point_id = station.caller.charge_point_id
        if not self._is_superseded(station):
            self._know(station, state)
            if (state is None or state.status != "Pending") and self._asked.get(charge_point_id):
                self._asked.put(charge_point_id, frozenset())
        if state is not None:
            await self.states.keep(charge_point_id, station.envelope.epoch, state)

    def _seen_of(self, station: Station) -> _Seen | None:
        seen = self._seen.get(station.caller.charge_point_id)
        return seen if seen is not None and seen.connection_id == station.envelope.connection_id else None

    def _is_superseded(self, station: Station) -> bool:
        """It has a newer connection: what comes late of this one says nothing of that."""
        seen = self._seen.get(station.caller.charge_point_id)
        return seen is not None and seen.epoch > station.envelope.epoch

    def _know(self, station: Station, state: BootState | None, *, surely: bool = True) -> None:
        is_final = state is None and surely
        until = float("inf") if is_final else self.clock.monotonic() + _LOOK_AGAIN_SECONDS
        self._know_until(station, state, until)

    def _know_until(self, station: Station, state: BootState | None, until: float) -> None:
        envelope = station.envelope
        seen = _Seen(envelope.connection_id, envelope.epoch, state, until)
        self._seen.put(station.caller.charge_point_id, seen)

    async def _look_up(self, station: Station) -> BootState | None:
        seen = self._seen_of(station)
        if seen is not None and self.clock.monotonic() < seen.until:
            return seen.state
        try:
            state, surely = await self.states.get(station.caller.charge_point_id), True
        except StoreUnavailable:
            state, surely = None if seen is None else seen.state, False
        current = self._seen_of(station)
        if current is not None and current is not seen:
            return current.state  # there was an answer meanwhile
        if not self._is_superseded(station):
            self._know(station, state, surely=surely)
        return state
