"""Many charge points at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from attrs import define, field

from ocpp_gateway.simulator.charge_point import ChargePoint, Trouble
from ocpp_gateway.simulator.connection import Target
from ocpp_gateway.simulator.errors import Refused
from ocpp_gateway.simulator.plan import Plan
from ocpp_gateway.simulator.tally import Tally


@define(eq=False, kw_only=True)
class Fleet:
    """Charge points that share a plan and a tally.

    They connect ``per_second`` at a time, because hundreds at once are a test of the listen queue and of nothing else.
    ``grace`` is how many seconds they have to end their transactions when the fleet is stopped.
    """

    targets: Sequence[Target]
    plan: Plan
    on_trouble: Callable[[Trouble], None]
    tally: Tally = field(factory=Tally)
    per_second: float = 50.0
    grace: float = 10.0
    chance: random.Random = field(factory=random.Random)
    refused: list[Refused] = field(factory=list, init=False)
    """Those that the gateway will not have, each with its reason."""

    async def run(self, stop: asyncio.Event) -> None:
        """Run all until each has done its plan or was refused for good, or until ``stop``."""
        charge_points = [
            ChargePoint(
                target=target,
                plan=self.plan,
                tally=self.tally,
                chance=random.Random(self.chance.getrandbits(64)),
                on_trouble=self.on_trouble,
            )
            for target in self.targets
        ]
        everybody = asyncio.create_task(self._everybody(charge_points))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((everybody, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not everybody.done():
                for charge_point in charge_points:
                    charge_point.stop()
                await asyncio.wait((everybody,), timeout=self.grace)
            if everybody.done():
                everybody.result()
        finally:
            stopping.cancel()
            everybody.cancel()
            await asyncio.gather(everybody, stopping, return_exceptions=True)

    async def _everybody(self, charge_points: Sequence[ChargePoint]) -> None:
        async with asyncio.TaskGroup() as group:
            for number, charge_point in enumerate(charge_points):
                group.create_task(self._one(charge_point, number / self.per_second))

    async def _one(self, charge_point: ChargePoint, after: float) -> None:
        await asyncio.sleep(after)
        try:
            await charge_point.run()
        except Refused as refused:
            self.refused.append(refused)
            self.on_trouble(Trouble(refused.cp_id, str(refused), refused.advice))
