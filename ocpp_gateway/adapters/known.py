"""Which 1.6 transaction ids are known to be a charge point's own."""

from __future__ import annotations

from attrs import define, field

from ocpp_gateway.adapters.answers import Caller, StartQuestion, TransactionIds
from ocpp_gateway.adapters.recent import Recent
from ocpp_gateway.errors import StoreUnavailable


@define(eq=False)
class KnownTransactions:
    """Redis's knowledge of transaction ids, with the last ``max_entries`` replies remembered on this node.

    A no is remembered as well: a fleet that moves here in mid-transaction would else cost a round trip for each meter
    value. It cannot become outdated here, because an id that this node allocates is entered at once, and a charge
    point can only learn another node's allocation by a StartTransaction of its own.
    """

    _transactions: TransactionIds
    max_entries: int = 100_000
    _replies: Recent[tuple[str, int], bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._replies = Recent(self.max_entries)

    async def allocate(self, caller: Caller, question: StartQuestion | bytes) -> tuple[int, bool]:
        """See TransactionIds."""
        transaction_id, repeated = await self._transactions.allocate(caller.tenant_id, caller.charge_point_id, question)
        self._replies.put((caller.charge_point_id, transaction_id), True)
        return transaction_id, repeated

    def known_here(self, caller: Caller, transaction_id: int) -> bool | None:
        """Whether the id is the caller's; None if Redis has to be asked. Ids below 1 are never allocated."""
        return False if transaction_id < 1 else self._replies.get((caller.charge_point_id, transaction_id))

    async def known(self, caller: Caller, transaction_id: int) -> bool | None:
        """Whether the id is the caller's; None if nobody can say."""
        reply = self.known_here(caller, transaction_id)
        if reply is None:
            try:
                reply = await self._transactions.is_known(caller.charge_point_id, transaction_id)
            except StoreUnavailable:
                return None
            self._replies.put((caller.charge_point_id, transaction_id), reply)
        return reply
