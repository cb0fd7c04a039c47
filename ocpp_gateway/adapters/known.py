"""Which 1.6 transaction ids are known to be a charge point's own."""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.adapters.answers import Caller, StartQuestion, TransactionIds
from ocpp_gateway.adapters.recent import Recent
from ocpp_gateway.clock import Clock
from ocpp_gateway.errors import StoreUnavailable

_NO_SECONDS = 60.0


@define(eq=False)
class KnownTransactions:
    """Redis's knowledge of transaction ids, with the last ``max_entries`` replies remembered on this node.

    A no is remembered as well, for a minute: a fleet that moves here in mid-transaction would else cost a round trip
    for each meter value. Not for longer, because ids that another node gave while Redis was away are registered later.
    """

    _transactions: TransactionIds
    _clock: Clock
    max_entries: int = 100_000
    # True, or when Redis said no, in monotonic seconds.
    _replies: Recent[tuple[str, int], bool | float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._replies = Recent(self.max_entries)

    async def allocate(self, caller: Caller, question: StartQuestion | bytes) -> tuple[int, bool]:
        """See TransactionIds."""
        transaction_id, repeated = await self._transactions.allocate(caller.tenant_id, caller.charge_point_id, question)
        self._replies.put((caller.charge_point_id, transaction_id), True)
        return transaction_id, repeated

    async def adopt(self, caller: Caller, question: StartQuestion | bytes, transaction_id: int) -> int:
        """See TransactionIds."""
        transaction_id = await self._transactions.adopt(
            caller.tenant_id, caller.charge_point_id, question, transaction_id
        )
        self._replies.put((caller.charge_point_id, transaction_id), True)
        return transaction_id

    def known_here(self, caller: Caller, transaction_id: int) -> bool | None:
        """Whether the id is the caller's; None if Redis has to be asked. Ids below 1 are nobody's."""
        if transaction_id < 1:
            return False
        reply = self._replies.get((caller.charge_point_id, transaction_id))
        if reply is None or reply is True:
            return reply
        return False if self._clock.monotonic() - reply < _NO_SECONDS else None

    async def known(self, caller: Caller, transaction_id: int) -> bool | None:
        """Whether the id is the caller's; None if nobody can say."""
        reply = self.known_here(caller, transaction_id)
        if reply is None:
            try:
                reply = await self._transactions.is_known(caller.charge_point_id, transaction_id)
            except StoreUnavailable:
                return None
            self._replies.put((caller.charge_point_id, transaction_id), reply or self._clock.monotonic())
        return reply
