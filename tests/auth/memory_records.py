"""Identity records in a dict, with an operator who may write them at the worst moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import define, field

from ocpp_gateway.errors import StoreUnavailable


@define(eq=False)
class MemoryRecords:
    """A RecordStore. ``before_write`` is called once, just before the next write."""

    records: dict[str, bytes] = field(factory=dict, repr=False)
    before_write: Callable[[], object] | None = None
    away: bool = False
    is_silent: bool = False
    """The next write is carried out, and no answer comes."""

    writes: int = 0

    async def get(self, charge_point_id: str) -> bytes | None:
        if self.away:
            raise StoreUnavailable
        return self.records.get(charge_point_id)

    async def replace(self, charge_point_id: str, read: bytes, record: bytes) -> bool:
        if self.before_write is not None:
            interloper, self.before_write = self.before_write, None
            interloper()
        if self.away:
            raise StoreUnavailable
        if self.records.get(charge_point_id) != read:
            return False
        self.writes += 1
        self.records[charge_point_id] = record
        if self.is_silent:
            self.is_silent = False
            raise StoreUnavailable
        return True

    def put(self, auth: dict[str, Any], **members: Any) -> None:
        record = {"stationId": "station-1", "tenantId": "tenant-a", "auth": auth, **members}
        self.records["CP-001"] = json.dumps(record).encode()

    @property
    def raw(self) -> bytes:
        return self.records["CP-001"]

    @property
    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.raw)
        return members

    @property
    def auth(self) -> dict[str, Any]:
        auth: dict[str, Any] = self.members["auth"]
        return auth
