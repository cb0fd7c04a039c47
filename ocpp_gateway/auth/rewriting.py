"""Credentials that the gateway itself changes in identity records: members of ``auth``, and nothing else.

An operator who writes the record at the same moment wins: each write holds only if the record is still the one that was
read, and a change is thought over again with what the operator has written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocpp_gateway.auth.errors import IdentityRecordInvalid
from ocpp_gateway.auth.next_secrets import Auth, settled
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.clock import Clock, iso_millis
from ocpp_gateway.errors import StoreUnavailable

log = Logger()

ATTEMPTS: Final = 5
"""So often a record is read and written again when somebody else changed it in between."""


@frozen
class ReadRecord:
    """An identity record as it was at a moment. ``members``: its JSON, decoded."""

    raw: bytes = field(repr=False)
    record: IdentityRecord
    members: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, charge_point_id: str, raw: bytes | None) -> ReadRecord | None:
        """The record stored as ``raw``; None if there is none, or one that cannot be used."""
        if raw is None:
            return None
        try:
            record = IdentityRecord.parse(raw, charge_point_id)
            members = json.loads(raw)  # not by orjson: that would round long numbers in members that are none of ours
        except (IdentityRecordInvalid, RecursionError):
            return None
        return cls(raw, record, members)

    @property
    def auth(self) -> Auth:
        """The member ``auth``."""
        return self.members.get("auth") or {}


Change = Callable[[ReadRecord], dict[str, Any] | None]
"""From a record to another ``auth`` for it; None to leave it."""


class RecordStore(Protocol):
    """Where identity records are. Both may raise StoreUnavailable."""

    async def get(self, charge_point_id: str) -> bytes | None:
        """The record, None if there is none."""
        ...

    async def replace(self, charge_point_id: str, read: bytes, record: bytes) -> bool:
        """Write ``record`` if what is there is still ``read``; False if somebody else was quicker."""
        ...


@frozen
class RecordRewriter:
    """See the module's text."""

    records: RecordStore
    clock: Clock

    async def read(self, charge_point_id: str) -> ReadRecord | None:
        """The record, None without one that can be used. Raises StoreUnavailable."""
        return ReadRecord.of(charge_point_id, await self.records.get(charge_point_id))

    async def write(self, read: ReadRecord, auth: dict[str, Any]) -> bool:
        """Give the record another ``auth``; False if it is not as it was ``read`` any more. Raises StoreUnavailable."""
        members = {**read.members, "auth": auth, "updatedAt": iso_millis(self.clock.now())}
        written = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
        return await self.records.replace(read.record.charge_point_id, read.raw, written)

    async def rewrite(self, charge_point_id: str, change: Change) -> bool:
        """Write what ``change`` makes of the record; it is called again where somebody else was quicker.

        False: there is no record that can be used, or ``change`` has left it. Raises StoreUnavailable, also where the
        record changes faster than it can be written.
        """
        for _ in range(ATTEMPTS):
            read = await self.read(charge_point_id)
            auth = None if read is None else change(read)
            if read is None or auth is None:
                return False
            if await self.write(read, auth):
                return True
        raise contended()


def contended() -> StoreUnavailable:
    """Others write the record all the time."""
    return StoreUnavailable("the record changes faster than it can be written")


@frozen
class SecretSettling:
    """Lets one password stay where a charge point had several, once it has come with that one (``next_secrets``)."""

    rewriter: RecordRewriter

    def settle(self, charge_point_id: str, read: bytes, used: str | None) -> None:
        """The charge point was let in by the record ``read``, with the password stored as ``used``; None: the present.

        Never fails and takes no time: what cannot be written now is, when it comes the next time.
        """
        Deferred.fromCoroutine(self._settle(charge_point_id, read, used)).addErrback(
            lambda failure: log.failure(
                "{charge_point_id}'s passwords could not be settled",
                failure,
                event="credential.settling_failed",
                reason="internal_error",
                charge_point_id=charge_point_id,
            )
        )

    async def _settle(self, charge_point_id: str, read: bytes, used: str | None) -> None:
        # Not tried again with a newer record: that may have a password which the charge point is only being told.
        record = ReadRecord.of(charge_point_id, read)
        auth = None if record is None else settled(record.auth, used)
        if record is None or auth is None:
            return
        try:
            done = await self.rewriter.write(record, auth)
        except StoreUnavailable:
            return
        if done:
            log.info(
                "{charge_point_id} came with its {kept} password: no other lets it in any more",
                event="credential.settled",
                charge_point_id=charge_point_id,
                kept="present" if used is None else "new",
            )
