"""What the gateway says to a charge point's CALL, and what it has to ask others for to say it.

An adapter knows one OCPP version. For each CALL it decides the answer and what the event needs besides the CALL itself
(a transaction id, for example), before the event is published. The answer's text is made later, when Kafka has
confirmed the event and the CALLRESULT goes out: the clock in it is then right.

::

    immediate(caller, call) ── Answer ─────────────┐
        └─ None ── await answer(caller, call) ─────┼──> event with Answer.extras ──> Kafka confirms
    minimal(...), if the CALL breaks its schema ───┘         Answer.confirmed(), Answer.body(now) is sent

The ports below are implemented over Redis.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from attrs import field, frozen

from ocpp_gateway.errors import GatewayError
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, Payload, Send
from ocpp_gateway.ocppj.versions import OcppVersion


class Topic(Enum):
    """The topic of a charge point's event. The value is its name in the wire contract."""

    STATION = "ocpp.station.events"
    SESSION = "ocpp.session.events"

    # Members are singletons; Enum's own hash is a Python function and would run for every message.
    __hash__ = object.__hash__


class CallRefused(GatewayError):
    """The CALL is answered with a CALLERROR of ``code``; never for a transaction-related one.

    ``reason``: ``id_tokens_unavailable`` (Redis is away and the policy needs it) or ``not_answerable`` (only a CSMS
    could answer, and no response of the schema could say so).
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.value}: {reason}")
        self.code = code
        self.reason = reason


@frozen
class Caller:
    """Who is asking."""

    charge_point_id: str
    station_id: str
    tenant_id: str

    question_prefix: bytes = field(init=False, repr=False, eq=False)
    """Keeps the questions of two charge points apart where their digests are remembered together."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "question_prefix", f"{self.charge_point_id}\n".encode())


def nothing_to_remember() -> None:
    """Stand as ``Answer.confirmed`` where a repeat of the CALL needs no recognising."""


@frozen
class Answer:
    """An answer, decided but not yet written."""

    body: Callable[[float], bytes]
    """Gives the CALLRESULT's payload; takes the wall clock (seconds since the epoch) of the moment it is sent."""

    extras: Mapping[str, Any] = {}
    """Members that the event carries beside ``action`` and ``payload``. Not to be changed."""

    confirmed: Callable[[], None] = nothing_to_remember
    """To be called once when Kafka has confirmed the event, however late; never raises, never waits.

    Only then is the CALL remembered: were it remembered earlier, a crash in between would leave a retry that is marked
    ``idempotent`` as the only copy, and readers may skip those.
    """

    is_timeless: bool = True
    """Whether a retransmission may get the same text again: not an answer with a clock in it."""

    overruled: Callable[[Payload], Awaitable[Payload]] | None = None
    """Where somebody else's word has to be remembered: takes the valid CALLRESULT payload that the CSMS wants in place
    of ``body``, gives the one to send. Never raises because of Redis.
    """


class Adapter(Protocol):
    """One OCPP version's answers. No method raises because of what a peer sent, except CallRefused where stated."""

    @property
    def version(self) -> OcppVersion:
        """The version it speaks."""
        ...

    def event_type(self, action: str) -> str:
        """The ``eventType`` under which a CALL or SEND of ``action`` is published."""
        ...

    def topic(self, action: str) -> Topic:
        """Where a CALL or SEND of ``action`` is published."""
        ...

    def connector_id(self, payload: Mapping[str, Any]) -> int | None:
        """The connector that ``payload`` speaks of, if it says so in a usable way."""
        ...

    def immediate(self, caller: Caller, call: Call | Send) -> Answer | None:
        """The answer to a CALL that satisfies its schema, if nobody has to be asked for it; else None."""
        ...

    async def answer(self, caller: Caller, call: Call | Send) -> Answer:
        """The answer to a CALL that satisfies its schema. Raises CallRefused."""
        ...

    async def minimal(self, caller: Caller, action: str, payload: Mapping[str, Any], raw: bytes) -> Answer:
        """The smallest valid answer to a transaction-related CALL that breaks its schema.

        Any value in ``payload`` may be of any type or missing. ``raw`` is the payload as received, or the whole frame
        if it could not be read. Raises CallRefused if ``action`` is not transaction-related and has no answer without
        a valid payload.
        """
        ...


@frozen
class StartQuestion:
    """What makes a 1.6 StartTransaction the same as an earlier one: a retry repeats all of it, with a new message id.

    Used where all four could be read; else the payload's bytes stand in for them.
    """

    connector_id: int
    id_tag: str
    meter_start: int
    timestamp: str


class TransactionIds(Protocol):
    """The memory of transactions that all nodes share."""

    async def allocate(self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes) -> tuple[int, bool]:
        """The 1.6 transaction id for ``question``: 1 to 2**31 - 1, unique across charge points.

        The flag tells whether the same charge point asked the same before; it then gets the same id. Answers without
        Redis too, so it does not raise StoreUnavailable.
        """
        ...

    async def adopt(
        self, tenant_id: str, charge_point_id: str, question: StartQuestion | bytes, transaction_id: int
    ) -> int:
        """The CSMS answers ``question`` with ``transaction_id``: ``allocate`` gives it from now on.

        Gives the id that is to be sent: the first that was adopted for ``question`` stays. ``transaction_id``: 1 or
        more. Works without Redis too, so it does not raise StoreUnavailable.
        """
        ...

    async def is_known(self, charge_point_id: str, transaction_id: int) -> bool:
        """Whether this charge point got this id from ``allocate`` or by ``adopt``. Raises StoreUnavailable."""
        ...

    async def seen(self, charge_point_id: str, digest: bytes) -> bool:
        """Whether ``remember`` was called with the same. Changes nothing. Raises StoreUnavailable."""
        ...

    def remember(self, charge_point_id: str, digest: bytes) -> None:
        """Make ``seen`` true from about now on. Returns at once, never raises; lost if Redis is away."""
        ...


@frozen
class TokenStatus:
    """What is known of an id token: a ``status`` of any OCPP version, and what comes with it."""

    status: str
    expires_at: str | None = None
    """RFC 3339."""

    group_id: str | None = None
    """1.6: parentIdTag; 2.x: groupIdToken."""


class IdTokens(Protocol):
    """The registry of id tokens."""

    async def lookup(self, tenant_id: str, id_token: str) -> TokenStatus | None:
        """What the registry says of a token, None if it does not know it. Raises StoreUnavailable."""
        ...
