"""A car at a connector: what its charging looks like to the meter."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from attrs import define, field, frozen

_VOLTAGE = 230.0
_FULL_PERCENT = 100.0
_TAPER_FROM_PERCENT = 80.0


def utc_timestamp() -> str:
    """Now, as RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@frozen
class Reading:
    """The meter at one moment. Energy is the register of the meter's whole life."""

    timestamp: str
    energy_wh: int
    power_w: float
    current_a: float
    voltage_v: float
    soc_percent: float


@define
class Meter:
    """A connector's meter: the energy register only ever rises, through all sessions.

    ``full_power_w`` is what the car takes; towards a full battery it takes less, as real ones do.
    """

    chance: random.Random
    energy_wh: float
    full_power_w: float = 11_000.0
    battery_wh: float = 60_000.0
    soc_percent: float = 20.0
    power_w: float = field(default=0.0, init=False)

    def plug_in(self) -> None:
        """Another car comes."""
        self.full_power_w = self.chance.choice((3_700.0, 7_400.0, 11_000.0, 22_000.0))
        self.battery_wh = self.chance.choice((40_000.0, 60_000.0, 77_000.0))
        self.soc_percent = self.chance.uniform(10.0, 60.0)
        self.power_w = 0.0

    def charge(self, seconds: float) -> None:
        """Let ``seconds`` of charging pass."""
        room = (_FULL_PERCENT - self.soc_percent) / (_FULL_PERCENT - _TAPER_FROM_PERCENT)
        self.power_w = self.full_power_w * max(0.05, min(1.0, room)) * self.chance.uniform(0.97, 1.0)
        energy = self.power_w * seconds / 3600.0
        self.energy_wh += energy
        self.soc_percent = min(_FULL_PERCENT, self.soc_percent + 100.0 * energy / self.battery_wh)

    def stop(self) -> None:
        """The current is cut off."""
        self.power_w = 0.0

    def read(self) -> Reading:
        """The meter now."""
        voltage = round(_VOLTAGE + self.chance.uniform(-3.0, 3.0), 1)
        phases = 1 if self.full_power_w < 5_000.0 else 3
        return Reading(
            timestamp=utc_timestamp(),
            energy_wh=int(self.energy_wh),
            power_w=round(self.power_w, 1),
            current_a=round(self.power_w / (phases * voltage), 1),
            voltage_v=voltage,
            soc_percent=round(self.soc_percent, 1),
        )
