"""What a simulated charge point answers to the CSMS: each action of its version.

It does what it says: a Reset reboots it, a remote start charges, a new password is used from the next connection on,
reports and progress follow. What needs more than a simulation has (a firmware, a display, a local list) is kept in
mind and told when it is asked for; what such a charge point has not (batteries, DER controls) it says it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from attrs import define, field

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.connection import Answer
from ocpp_gateway.simulator.controls import Controls
from ocpp_gateway.simulator.frames import Call, Payload
from ocpp_gateway.simulator.memory import Memory, certificate_hash

Handler = Callable[[Payload], Answer]

ACCEPTED = {"status": "Accepted"}
REJECTED = {"status": "Rejected"}

INSTALLING: Final = ("Downloading", "Downloaded", "Installing", "Installed")
"""What a firmware update goes through."""

LIMITS: Final = MappingProxyType({"A": 32.0, "W": 22_000.0})
"""What it can charge with, by the unit of a charging schedule."""


@define
class Answers:
    """Answers to the CALLs that the CSMS makes."""

    version: OcppVersion
    controls: Controls
    _by_action: dict[str, Handler] = field(init=False)

    def __attrs_post_init__(self) -> None:
        memory = Memory()
        if not self.version.is_2x:
            from ocpp_gateway.simulator.answers_v16 import AnswersV16

            self._by_action = AnswersV16(self.controls, memory).by_action()
            return
        from ocpp_gateway.simulator.answers_v2x import AnswersV2x
        from ocpp_gateway.simulator.answers_v2x_reports import ReportsV2x

        of_2x = AnswersV2x(self.controls, memory).by_action()
        self._by_action = of_2x | ReportsV2x(self.version, self.controls, memory).by_action()
        if self.version is OcppVersion.V21:
            from ocpp_gateway.simulator.answers_v21 import AnswersV21

            self._by_action |= AnswersV21(self.controls, memory).by_action()

    def actions(self) -> frozenset[str]:
        """Those that it knows."""
        return frozenset(self._by_action)

    def answer(self, call: Call) -> Answer:
        """The answer to ``call``; never raises, whatever the payload holds."""
        answer = self._by_action.get(call.action)
        if answer is None:
            return Answer(
                error_code="NotImplemented", description="The simulated charge point does not know this action"
            )
        return answer(call.payload)


def whole(value: object) -> int | None:
    """A whole number as OCPP has them, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31 else None


def text(value: object) -> str | None:
    """A text, None for anything else."""
    return value if isinstance(value, str) else None


def entries(value: object) -> list[Payload]:
    """The objects in a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def start(controls: Controls, id_token: str | None, remote_start_id: int | None, *, is_here: bool) -> Answer:
    """The answer to a remote start. ``is_here``: it is for our connector."""
    if id_token is None or not is_here or not controls.is_idle() or not controls.is_in_service():
        return Answer(REJECTED)
    return Answer(ACCEPTED, afterwards=lambda: controls.remote_start(id_token, remote_start_id))


def stop(controls: Controls, transaction_id: object) -> Answer:
    """The answer to a remote stop."""
    current = controls.transaction_id()
    if current is None or transaction_id != current:
        return Answer(REJECTED)
    return Answer(ACCEPTED, afterwards=controls.remote_stop)


def change_availability(controls: Controls, wanted: object, *, is_here: bool) -> Answer:
    """The answer to ChangeAvailability."""
    if wanted not in ("Operative", "Inoperative") or not is_here:
        return Answer(REJECTED)
    return Answer(
        ACCEPTED if controls.is_idle() else {"status": "Scheduled"},
        afterwards=lambda: controls.set_available(wanted == "Operative"),
    )


def reserve(controls: Controls, memory: Memory, reservation_id: int | None, *, is_here: bool) -> Answer:
    """The answer to ReserveNow."""
    if reservation_id is None or not is_here or not memory.has_room(memory.reservations):
        return Answer(REJECTED)
    if not controls.is_in_service():
        return Answer({"status": "Unavailable"})
    if not controls.is_idle():
        return Answer({"status": "Occupied"})
    memory.reservations.add(reservation_id)
    return Answer(ACCEPTED)


def cancel_reservation(memory: Memory, reservation_id: int | None) -> Answer:
    """The answer to CancelReservation."""
    if reservation_id not in memory.reservations:
        return Answer(REJECTED)
    memory.reservations.discard(reservation_id)
    return Answer(ACCEPTED)


def send_local_list(memory: Memory, version: int | None, update_type: object, tokens: dict[str, bool]) -> Answer:
    """The answer to SendLocalList. ``tokens``: those that are named, and whether they are to be in the list."""
    if version is None or version <= 0 or len(tokens) > 1000 or update_type not in ("Full", "Differential"):
        return Answer({"status": "Failed"})
    if update_type == "Differential" and version <= memory.list_version:
        return Answer({"status": "VersionMismatch"})
    kept = set() if update_type == "Full" else {each for each in memory.list_tokens if tokens.get(each, True)}
    memory.list_tokens = kept | {each for each, is_in in tokens.items() if is_in}
    memory.list_version = version
    return Answer(ACCEPTED)


def install_certificate(memory: Memory, asked: Payload) -> Answer:
    """The answer to InstallCertificate."""
    found, kind = certificate_hash(text(asked.get("certificate")) or ""), text(asked.get("certificateType"))
    if found is None or kind is None or not memory.has_room(memory.certificates):
        return Answer(REJECTED)
    if (kind, found) not in memory.certificates:
        memory.certificates.append((kind, found))
    return Answer(ACCEPTED)


def delete_certificate(memory: Memory, asked: Payload) -> Answer:
    """The answer to DeleteCertificate."""
    left = [each for each in memory.certificates if each[1] != asked.get("certificateHashData")]
    was_there = len(left) < len(memory.certificates)
    memory.certificates = left
    return Answer(ACCEPTED if was_there else {"status": "NotFound"})


def progress(controls: Controls, action: str, statuses: tuple[str, ...], **facts: object) -> Callable[[], None]:
    """Afterwards: one message for each of ``statuses``."""

    def tell() -> None:
        for status in statuses:
            controls.say(action, {"status": status, **facts})

    return tell
