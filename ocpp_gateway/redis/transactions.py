"""1.6 transaction ids and the memory of transaction messages, shared by all nodes.

An id is the first of a few candidates that no other transaction has: each candidate is 31 bits of an HMAC-SHA256 over
the question (charge point, connectorId, idTag, meterStart, timestamp) and its number. So the same question gets the
same id, even while Redis is away or after it lost its data, an id says nothing about another charge point's, and two
nodes need not talk to each other. The HMAC's secret is made by the first node and shared in Redis
(``transaction-id-key``); a node that finds it gone puts its copy back.

An id that the CSMS gives in place of ours is kept beside, as its charge point's own: a CSMS may count for each charge
point from 1, so the same id may be adopted for several. The first one adopted for a question stays.

=============================================== ============================================================
``transaction-questions:{id}:{digest}``          the id that a question got
``transaction-ids:{transactionId}``              ``{chargePointId}`` and the question's digest, a space between
``transaction-adopted:{id}:{transactionId}``     the digest of the question for which the CSMS gave that id
``transaction-messages:{id}:{digest}``           a message that is in Kafka
=============================================== ============================================================

All but the secret expire after ``ttl`` seconds. Digests are of 128 bits.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

import orjson
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import StartQuestion
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.scripts import Script

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_SECRET_KEY = "transaction-id-key"  # noqa: S105 - the name of a key
_CANDIDATES = 8
_ROUNDS = 8


@frozen
class _Question:
    """A StartTransaction's question under one secret."""

    charge_point_id: str
    content: bytes
    secret: bytes = field(repr=False)

    def digest(self) -> str:
        return self._hmac("question")[:16].hex()

    def candidate(self, number: int) -> int:
        """1 to 2**31 - 1."""
        return (int.from_bytes(self._hmac(f"candidate {number}")[:4], "big") >> 1) or 1

    def _hmac(self, purpose: str) -> bytes:
        return hmac.digest(self.secret, purpose.encode() + b"\n" + self.content, "sha256")


@define(eq=False)
class RedisTransactionIds:
    """See ``adapters.answers.TransactionIds``. ``max_owed`` ids given while Redis was away wait to be registered."""

    client: RedisClient
    ttl: int
    max_owed: int = 10_000
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False, init=False)
    # With the id that was adopted, or None for one of ours.
    _owed: dict[tuple[str, bytes], int | None] = field(factory=dict, init=False)
    _script: Script = field(factory=lambda: Script.load("allocate_transaction"), init=False)
    _adopt_script: Script = field(factory=lambda: Script.load("adopt_transaction"), init=False)

    @property
    def owed(self) -> int:
        """How many ids were given without Redis and are not registered yet."""
        return len(self._owed)

    async def start(self) -> None:
        """Agree on the secret with the other nodes. Raises StoreUnavailable.

        To be awaited before the first ``allocate``: an id given under a secret of one's own is not the one that a
        retry gets.
        """
        ours = self._secret.hex().encode()
        if not await self.client.set(_SECRET_KEY, ours, only_if_absent=True):
            theirs = await self.client.get(_SECRET_KEY)
            if theirs is not None:
                self._share(theirs)

    async def allocate(self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes) -> tuple[int, bool]:
        """The id for ``question`` and whether it was asked before. Never raises StoreUnavailable.

        Without Redis it is the first candidate, taken in the belief that nobody has it: one in 2**31 for each
        transaction that is remembered.
        """
        content = _content(tenant_id, charge_point_id, question)
        owed = self._owed.get((charge_point_id, content))
        try:
            if owed is None:
                return await self._registered(charge_point_id, content)
            return await self._adopted(charge_point_id, content, owed), True
        except StoreUnavailable:
            self._owe(charge_point_id, content, owed)
            if owed is not None:
                return owed, True
            return self._question(charge_point_id, content).candidate(0), False

    async def adopt(
        self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes, transaction_id: int
    ) -> int:
        """Have ``allocate`` give ``transaction_id``, 1 or more, for ``question``; the id that is to be sent.

        That is an earlier one, if one was adopted before. Never raises StoreUnavailable.
        """
        content = _content(tenant_id, charge_point_id, question)
        transaction_id = self._owed.get((charge_point_id, content)) or transaction_id
        try:
            return await self._adopted(charge_point_id, content, transaction_id)
        except StoreUnavailable:
            self._owe(charge_point_id, content, transaction_id)
            return transaction_id

    async def settle(self) -> None:
        """Register the ids that were given while Redis was away. Raises StoreUnavailable if it still is."""
        for (charge_point_id, content), adopted in tuple(self._owed.items()):
            if adopted is None:
                await self._registered(charge_point_id, content)
            else:
                await self._adopted(charge_point_id, content, adopted)
            if self._owed.get((charge_point_id, content)) == adopted:  # else more is owed by now
                self._owed.pop((charge_point_id, content), None)

    async def is_known(self, charge_point_id: str, transaction_id: int) -> bool:
        """Whether this charge point got this id from ``allocate`` or by ``adopt``. Raises StoreUnavailable."""
        keys = [_id_key(transaction_id), _adopted_key(charge_point_id, transaction_id)]
        owner, adopted = await self.client.mget(keys)
        return adopted is not None or (owner is not None and owner.rpartition(b" ")[0] == charge_point_id.encode())

    async def seen(self, charge_point_id: str, digest: bytes) -> bool:
        """Whether ``remember`` was called with the same. Raises StoreUnavailable."""
        return await self.client.get(_message_key(charge_point_id, digest)) is not None

    def remember(self, charge_point_id: str, digest: bytes) -> None:
        """Make ``seen`` true from about now on; lost if Redis is away."""
        Deferred.fromCoroutine(self._remember(charge_point_id, digest))

    async def _remember(self, charge_point_id: str, digest: bytes) -> None:
        try:
            await self.client.set(_message_key(charge_point_id, digest), b"1", expire=self.ttl)
        except StoreUnavailable:
            return

    async def _registered(self, charge_point_id: str, content: bytes) -> tuple[int, bool]:
        first = 0
        for _ in range(_ROUNDS):
            question = self._question(charge_point_id, content)
            numbers = [question.candidate(number) for number in range(first, first + _CANDIDATES)]
            digest = question.digest()
            reply = await self.client.run(
                self._script,
                [_SECRET_KEY, _question_key(charge_point_id, digest), *map(_id_key, numbers)],
                [self._secret.hex(), self.ttl, f"{charge_point_id} {digest}", *numbers],
            )
            match reply:
                case [b"id", number, repeated]:
                    return int(number), bool(repeated)
                case [b"secret", theirs]:
                    self._share(theirs)
                case _:
                    first += _CANDIDATES
        raise StoreUnavailable("no transaction id is free, or the secret for them changes without end")

    async def _adopted(self, charge_point_id: str, content: bytes, transaction_id: int) -> int:
        for _ in range(_ROUNDS):
            digest = self._question(charge_point_id, content).digest()
            reply = await self.client.run(
                self._adopt_script,
                [
                    _SECRET_KEY,
                    _question_key(charge_point_id, digest),
                    _id_key(transaction_id),
                    _adopted_key(charge_point_id, transaction_id),
                ],
                [
                    self._secret.hex(),
                    self.ttl,
                    charge_point_id,
                    digest,
                    transaction_id,
                    self.client.key(_adopted_key(charge_point_id, "")),
                ],
            )
            match reply:
                case [b"id", number]:
                    return int(number)
                case [_, theirs]:
                    self._share(theirs)
        raise StoreUnavailable("the secret for transaction ids changes without end")

    def _owe(self, charge_point_id: str, content: bytes, adopted: int | None) -> None:
        self._owed[(charge_point_id, content)] = adopted
        while len(self._owed) > self.max_owed:
            del self._owed[next(iter(self._owed))]

    def _question(self, charge_point_id: str, content: bytes) -> _Question:
        return _Question(charge_point_id, content, self._secret)

    def _share(self, secret: bytes) -> None:
        try:
            self._secret = bytes.fromhex(secret.decode("ascii"))
        except ValueError:
            raise StoreUnavailable(f"{_SECRET_KEY} is not hexadecimal") from None


def _content(tenant_id: str, charge_point_id: str, question: StartQuestion | bytes) -> bytes:
    """An unambiguous text of the question: each part's end can be told."""
    who = orjson.dumps([tenant_id, charge_point_id])
    if isinstance(question, bytes):
        return b"raw\n" + who + b"\n" + question
    parts = [question.connector_id, question.id_tag, question.meter_start, question.timestamp]
    return b"fields\n" + who + b"\n" + orjson.dumps(parts)


def _question_key(charge_point_id: str, digest: str) -> str:
    return f"transaction-questions:{charge_point_id}:{digest}"


def _id_key(transaction_id: int) -> str:
    return f"transaction-ids:{transaction_id}"


def _adopted_key(charge_point_id: str, transaction_id: int | str) -> str:
    return f"transaction-adopted:{charge_point_id}:{transaction_id}"


def _message_key(charge_point_id: str, digest: bytes) -> str:
    return f"transaction-messages:{charge_point_id}:{digest.hex()}"
