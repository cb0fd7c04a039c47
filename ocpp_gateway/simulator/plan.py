"""How simulated charge points spend their time. All durations are seconds."""

from __future__ import annotations

import random

from attrs import define, field, frozen

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.messages import MODEL, VENDOR

_LONGEST_SECONDS = 86_400


@frozen(kw_only=True)
class Plan:
    """What a charge point shall do. ``sessions`` None: charge again and again; 0: stay idle; both until stopped."""

    sessions: int | None = None
    readings: int = 6
    meter_interval: float = 10.0
    pause: float = 5.0
    call_timeout: float = 30.0
    attempts: int = 3
    retry_interval: float = 5.0
    id_token: str = ""


_FACTS_16 = {
    "ChargeProfileMaxStackLevel": "10",
    "GetConfigurationMaxKeys": "50",
    "LocalAuthListMaxLength": "1000",
    "NumberOfConnectors": "1",
    "SupportedFeatureProfiles": (
        "Core,FirmwareManagement,LocalAuthListManagement,RemoteTrigger,Reservation,SmartCharging"
    ),
}
_FACTS_2X = {
    "Model": ("ChargingStation", MODEL),
    "VendorName": ("ChargingStation", VENDOR),
    "ItemsPerMessageGetVariables": ("DeviceDataCtrlr", "50"),
    "ItemsPerMessageSetVariables": ("DeviceDataCtrlr", "50"),
    "ProfileStackLevel": ("SmartChargingCtrlr", "10"),
}
_COMPONENTS = {"HeartbeatInterval": "OCPPCommCtrlr", "TxUpdatedInterval": "SampledDataCtrlr"}


@define
class Settings:
    """What the CSMS can read, and change: the few configuration keys (1.6) or variables (2.x) that mean something."""

    version: OcppVersion
    meter_interval: float
    heartbeat_interval: float = 300.0

    def names(self) -> tuple[str, ...]:
        """The names in this version."""
        if self.version.is_2x:
            return ("HeartbeatInterval", "TxUpdatedInterval", *_FACTS_2X)
        return ("HeartbeatInterval", "MeterValueSampleInterval", *_FACTS_16)

    def component(self, name: str) -> str:
        """The component that a variable is of (2.x)."""
        return _FACTS_2X[name][0] if name in _FACTS_2X else _COMPONENTS.get(name, "")

    def is_read_only(self, name: str) -> bool:
        """Whether it is a fact that nobody changes."""
        return name in (_FACTS_2X if self.version.is_2x else _FACTS_16)

    def get(self, name: str) -> str | None:
        """The value as OCPP writes it; None for an unknown name."""
        if name not in self.names():
            return None
        if self.is_read_only(name):
            return _FACTS_2X[name][1] if self.version.is_2x else _FACTS_16[name]
        return f"{self.heartbeat_interval if name == 'HeartbeatInterval' else self.meter_interval:.0f}"

    def set(self, name: str, value: str) -> bool:
        """Change a value; False if it is not to be changed, or not to that."""
        if name not in self.names() or self.is_read_only(name):
            return False
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and 0 < int(value) <= _LONGEST_SECONDS):
            return False
        if name == "HeartbeatInterval":
            self.heartbeat_interval = float(value)
        else:
            self.meter_interval = float(value)
        return True


@define
class Backoff:
    """How long to wait before the next connection (OCPP 2.0.1 part 4 section 5.3): doubling, with a random part.

    ``following`` is at least what the gateway asked for with Retry-After.
    """

    chance: random.Random
    least: float = 1.0
    most: float = 60.0
    _next: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.least

    def reset(self) -> None:
        """A connection worked."""
        self._next = self.least

    def following(self, at_least: float | None = None) -> float:
        """The next wait."""
        wait = self._next * self.chance.uniform(0.5, 1.5)
        self._next = min(self.most, self._next * 2)
        if at_least is not None:
            wait = max(wait, min(at_least, self.most) + self.chance.uniform(0.0, 1.0))
        return wait
