"""Recognising what a charge point says a second time.

Retries of transaction messages carry new message ids, and real firmware uses ids again for other messages, so that
only the content counts (OCPP 1.6 section 3.7.1, 2.0.1 part 2 E13). Repeats are published again, marked
``idempotent``. Frequent messages are remembered on this node only: no Redis round trip for each of them. Those that
start or end a transaction are remembered for all nodes.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256

import orjson
from attrs import define, field

from ocpp_gateway.adapters.answers import Caller, TransactionIds
from ocpp_gateway.adapters.recent import Recent
from ocpp_gateway.errors import StoreUnavailable


def bytes_digest(caller: Caller, content: bytes) -> bytes:
    """16 bytes that stand for ``content`` said by ``caller``."""
    return sha256(caller.question_prefix + content).digest()[:16]


def fields_digest(caller: Caller, *fields: str | int | None) -> bytes:
    """16 bytes that stand for ``fields`` said by ``caller``."""
    return bytes_digest(caller, orjson.dumps(fields))


@define(eq=False)
class Repeats:
    """What was said before and is in Kafka: ``max_entries`` messages here, and without that bound in Redis."""

    _transactions: TransactionIds
    max_entries: int = 100_000
    _recent: Recent[bytes, bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._recent = Recent(self.max_entries)

    def seen_here(self, digest: bytes) -> bool:
        """Whether this node published it lately."""
        return digest in self._recent

    def remember_here(self, digest: bytes) -> partial[None]:
        """An ``Answer.confirmed`` for this node's memory."""
        return partial(self._recent.put, digest, True)

    async def seen_anywhere(self, caller: Caller, digest: bytes) -> bool:
        """Whether any node published it; while Redis is away, whether this one did."""
        if digest in self._recent:
            return True
        try:
            return await self._transactions.seen(caller.charge_point_id, digest)
        except StoreUnavailable:
            return False

    def remember_everywhere(self, caller: Caller, digest: bytes) -> partial[None]:
        """An ``Answer.confirmed`` for the memory of all nodes."""
        return partial(self._remember, caller, digest)

    def _remember(self, caller: Caller, digest: bytes) -> None:
        self._recent.put(digest, True)
        self._transactions.remember(caller.charge_point_id, digest)
