"""Identity records of simulated charge points: written before they connect, and never over anybody else's.

A simulation that is pointed at a Redis in use must not take a real charge point's password away, so its records carry
``"createdBy": "ocpp-gateway simulate"``, and a record without that stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocpp_gateway.cli import records
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.identity_changes import changed, hash_defaults, put

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.cli.endpoints import Places
    from ocpp_gateway.cli.passwords import Secret
    from ocpp_gateway.redis.identities import Identities

_REASON = "simulated charge point"


def provision_all(places: Places, secrets: dict[str, Secret]) -> None:
    """Write identity records for simulated charge points, or give those that a simulation wrote new passwords.

    Raises Failure, with nothing written, if a record is somebody else's. One that was disabled stays disabled. Each
    record is told to Kafka, as ``charger add`` does it.

    SHA-256 with a salt is enough for a password that is 116 random bits, and hundreds of them connect at once.
    """
    hashing = hash_defaults(places, "sha256")
    wishes = records.Wishes(created_by=records.SIMULATION)

    def objection(cp_id: str, record: records.Record) -> Failure | None:
        return None if records.is_simulated(record) else _foreign([cp_id])

    async def work(identities: Identities) -> list[Deed]:
        foreign = []
        for cp_id in secrets:
            raw = await identities.get(cp_id)
            if raw is not None and not records.is_simulated(records.decode(raw) or {}):
                foreign.append(cp_id)
        if foreign:
            raise _foreign(foreign)
        return [
            await put(identities, cp_id, wishes, secret, hashing, objection=objection, reason=_REASON)
            for cp_id, secret in secrets.items()
        ]

    changed(places, work)


def _foreign(ids: list[str]) -> Failure:
    others = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
    return Failure(
        f"{ids[0]}{others} has an identity record that no simulation wrote, so --provision leaves it alone.",
        "Simulate others: another --id, or with --count another --prefix. To connect as a charge point that is there, "
        "give its own password, --password or --password-file, instead of --provision.",
    )
