"""What a simulated 2.1 charge point answers beside what 2.0.1 has (OCPP 2.1 part 2).

It sells energy and charges by schedule. It has no battery of its own to swap, no control of distributed energy
resources, and no event streams; it says so.
"""

from __future__ import annotations

from attrs import define

from ocpp_gateway.simulator.answers import ACCEPTED, REJECTED, Handler, text, whole
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.controls import Controls
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.memory import Memory
from ocpp_gateway.simulator.messages import EVSE, member

_NOT_SUPPORTED = {"status": "NotSupported"}
_PLACES = (0, EVSE)


@define
class AnswersV21:
    """Answers that only 2.1 has."""

    controls: Controls
    memory: Memory

    def by_action(self) -> dict[str, Handler]:
        """One for each action."""
        return {
            "AFRRSignal": lambda _: Answer(ACCEPTED),
            "AdjustPeriodicEventStream": lambda _: Answer(REJECTED),
            "ChangeTransactionTariff": self._change_transaction_tariff,
            "ClearDERControl": lambda _: Answer(_NOT_SUPPORTED),
            "ClearTariffs": self._clear_tariffs,
            "GetDERControl": lambda _: Answer(_NOT_SUPPORTED),
            "GetPeriodicEventStream": lambda _: Answer({}),
            "GetTariffs": self._get_tariffs,
            "NotifyAllowedEnergyTransfer": lambda asked: Answer(ACCEPTED if self._is_ongoing(asked) else REJECTED),
            "NotifyWebPaymentStarted": lambda _: Answer({}),
            "RequestBatterySwap": lambda _: Answer(REJECTED),
            "SetDERControl": lambda _: Answer(_NOT_SUPPORTED),
            "SetDefaultTariff": self._set_default_tariff,
            "UpdateDynamicSchedule": self._update_dynamic_schedule,
            "UsePriorityCharging": self._use_priority_charging,
        }

    def _is_ongoing(self, asked: Payload) -> bool:
        return asked.get("transactionId") is not None and asked.get("transactionId") == self.controls.transaction_id()

    def _change_transaction_tariff(self, asked: Payload) -> Answer:
        return Answer(ACCEPTED if self._is_ongoing(asked) else {"status": "TxNotFound"})

    def _set_default_tariff(self, asked: Payload) -> Answer:
        tariff_id = text(member(asked, "tariff", "tariffId"))
        if tariff_id is None or asked.get("evseId") not in _PLACES or not self.memory.has_room(self.memory.tariffs):
            return Answer(REJECTED)
        if tariff_id in self.memory.tariffs:
            return Answer({"status": "DuplicateTariffId"})
        self.memory.tariffs.add(tariff_id)
        return Answer(ACCEPTED)

    def _get_tariffs(self, asked: Payload) -> Answer:
        if asked.get("evseId") not in _PLACES:
            return Answer(REJECTED)
        found = [
            {"tariffId": tariff_id, "tariffKind": "DefaultTariff", "evseIds": [EVSE]}
            for tariff_id in sorted(self.memory.tariffs)
        ]
        return Answer({"status": "Accepted", "tariffAssignments": found} if found else {"status": "NoTariff"})

    def _clear_tariffs(self, asked: Payload) -> Answer:
        named = asked.get("tariffIds")
        wanted = [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
        results = []
        for tariff_id in wanted or sorted(self.memory.tariffs):
            was_there = tariff_id in self.memory.tariffs
            self.memory.tariffs.discard(tariff_id)
            results.append({"tariffId": tariff_id, "status": "Accepted" if was_there else "NoTariff"})
        return Answer({"clearTariffsResult": results or [{"status": "NoTariff"}]})

    def _update_dynamic_schedule(self, asked: Payload) -> Answer:
        profile = self.memory.profiles.get(whole(asked.get("chargingProfileId")) or 0)
        is_dynamic = profile is not None and profile.payload.get("chargingProfileKind") == "Dynamic"
        return Answer(ACCEPTED if is_dynamic else REJECTED)

    def _use_priority_charging(self, asked: Payload) -> Answer:
        if not self._is_ongoing(asked):
            return Answer(REJECTED)
        has_profile = any(profile.purpose == "PriorityCharging" for profile in self.memory.profiles.values())
        return Answer(ACCEPTED if has_profile else {"status": "NoProfile"})
