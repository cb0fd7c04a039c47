"""The adapters' ports in memory, and what tests need to ask an adapter something."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
from support.manual_clock import ManualClock

from ocpp_gateway.adapters.answers import Answer, Caller, StartQuestion, TokenStatus
from ocpp_gateway.adapters.known import KnownTransactions
from ocpp_gateway.adapters.repeats import Repeats
from ocpp_gateway.adapters.tokens import IdTokenPolicy, TokenVerdicts
from ocpp_gateway.adapters.v2x import Adapter2x
from ocpp_gateway.adapters.v16 import Adapter16
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.frames import Call
from ocpp_gateway.ocppj.versions import OcppVersion

T = TypeVar("T")

CALLER = Caller("CP-001", "station-1", "tenant-a")
OTHER = Caller("CP-002", "station-2", "tenant-a")
NOW = 1_767_323_045.678  # 2026-01-02T03:04:05.678Z


class MemoryStore:
    """TransactionIds and IdTokens; ``away`` makes it behave as Redis does when it is not there."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.questions: dict[tuple[str, StartQuestion | bytes], int] = {}
        self.adopted: dict[tuple[str, StartQuestion | bytes], int] = {}
        self.digests: set[tuple[str, bytes]] = set()
        self.tokens: dict[tuple[str, str], TokenStatus] = {}

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable

    async def allocate(self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes) -> tuple[int, bool]:
        key = charge_point_id, question
        repeated = key in self.questions
        return self.questions.setdefault(key, 1000 + len(self.questions)), repeated and not self.away

    async def adopt(
        self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes, transaction_id: int
    ) -> int:
        key = charge_point_id, question
        self.questions[key] = self.adopted.setdefault(key, transaction_id)
        return self.questions[key]

    async def is_known(self, charge_point_id: str, transaction_id: int) -> bool:
        self._ask()
        return any(known == transaction_id and owner == charge_point_id for (owner, _), known in self.questions.items())

    async def seen(self, charge_point_id: str, digest: bytes) -> bool:
        self._ask()
        return (charge_point_id, digest) in self.digests

    def remember(self, charge_point_id: str, digest: bytes) -> None:
        if not self.away:
            self.digests.add((charge_point_id, digest))

    async def lookup(self, tenant_id: str, id_token: str) -> TokenStatus | None:
        self._ask()
        return self.tokens.get((tenant_id, id_token))


def adapter_16(store: MemoryStore, policy: IdTokenPolicy = IdTokenPolicy.ACCEPT) -> Adapter16:
    """An adapter of a node of its own: what it remembers locally, no other adapter knows."""
    return Adapter16(
        verdicts=TokenVerdicts(policy, store),
        repeats=Repeats(store),
        transactions=KnownTransactions(store, ManualClock()),
        heartbeat_interval=300,
    )


def adapter_2x(
    store: MemoryStore,
    policy: IdTokenPolicy = IdTokenPolicy.ACCEPT,
    version: OcppVersion = OcppVersion.V201,
) -> Adapter2x:
    return Adapter2x(
        version=version, verdicts=TokenVerdicts(policy, store), repeats=Repeats(store), heartbeat_interval=300
    )


def adapter_of(
    version: OcppVersion, store: MemoryStore, policy: IdTokenPolicy = IdTokenPolicy.ACCEPT
) -> Adapter16 | Adapter2x:
    return adapter_2x(store, policy, version) if version.is_2x else adapter_16(store, policy)


def call_of(action: str, payload: dict[str, Any]) -> Call:
    return Call("id-1", action, payload, orjson.dumps(payload))


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What ``coroutine`` returns; the ports above never make it wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("the coroutine waits for something")


def body_of(answer: Answer, now: float = NOW) -> Any:
    return orjson.loads(answer.body(now))
