"""One CALL on its way from its arrival to its answer, and who has a say in it besides Kafka.

Most have none: then the fields about them stay None, and nothing here costs anything. Where the CSMS answers, the CALL
waits for two: Kafka's confirmation and the CSMS's reply, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Adapter, Answer, Caller
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, MessageId, Payload, Quirk, Send
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope

if TYPE_CHECKING:
    from ocpp_gateway.routing.uplink import Uplink

Finish = Callable[[bytes | None, bool], None]
"""Takes the frame to send to the charge point, or None where there is nothing to say; and whether a retransmission of
the CALL may get the same frame again."""

GiveUp = Callable[[str], None]
"""Called instead of Finish, with the reason, when there is no answer and the connection must go: the event was not
confirmed, or the CSMS did not answer."""


@frozen
class Station:
    """The charge point behind a connection, as far as its CALLs need it."""

    version: OcppVersion
    caller: Caller
    adapter: Adapter
    envelope: Envelope
    key: bytes
    """Kafka key of its events: stationId, else its identity."""


@frozen
class UnreadableCall:
    """A transaction-related CALL that is not a frame as it should be: of some only the action could be read."""

    message_id: MessageId | None
    """None: not even that could be read, and the version has no way to answer all the same (1.6)."""

    action: str
    text: str
    """The whole frame as received."""

    defect: str
    payload: Payload | None = None
    """None: it cannot be trusted, so ``text`` is published."""

    raw_payload: bytes = b"{}"
    quirks: tuple[Quirk, ...] = ()


@frozen
class Refusal:
    """A CALLERROR in place of an answer. ``details`` is a JSON object."""

    code: ErrorCode
    description: str
    details: bytes = b"{}"


Reply = Answer | Refusal | None
"""What is said to a CALL in the end. None: nothing, the connection is closed."""


class Question(Protocol):
    """What the CSMS is asked about one CALL. In the end it calls ``Uplink.exchange_replied``, once, or never."""

    def open(self) -> Mapping[str, Any] | None:
        """The event goes to Kafka now, with this as its ``replyTo`` (None: without); the time for an answer runs."""
        ...

    def published(self) -> None:
        """Kafka has the event: the reply may be said, now or when it comes."""
        ...

    def withdraw(self) -> None:
        """No reply is wanted any more. Nothing if it is not open."""
        ...


class Csms(Protocol):
    """The back end that answers in place of the gateway (``csms``)."""

    def answers(self, action: str) -> bool:
        """Whether it is asked about CALLs of ``action``."""
        ...

    def question(self, exchange: Exchange, own: Answer | Refusal) -> Question:
        """A question that is not open yet. ``own``: what the gateway would say."""
        ...


class Gate(Protocol):
    """What a charge point may say before its registration is accepted."""

    def is_open(self, station: Station) -> bool:
        """Whether it is known that it may say everything."""
        ...

    async def status(self, station: Station) -> str | None:
        """What its BootNotification was answered with, if that was not Accepted. Never raises."""
        ...

    def was_asked(self, station: Station, action: str) -> bool:
        """Whether a command asked for CALLs of ``action``: then they may come all the same."""
        ...


class UplinkCounters(Protocol):
    """What the uplink counts."""

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        """A CALL ended as ``outcome``."""
        ...

    def observe_publish(self, seconds: float) -> None:
        """An event took ``seconds`` from hand-over to Kafka's confirmation."""
        ...


NOTHING_DECIDED = Answer(body=lambda _now: b"{}")


@define(eq=False)
class Exchange:
    """One CALL on its way from arrival to answer. ``started``: monotonic seconds."""

    uplink: Uplink
    station: Station
    call: Call | Send | UnreadableCall
    finish: Finish
    give_up: GiveUp
    started: float
    is_ours: Callable[[], bool]
    answer: Answer = NOTHING_DECIDED
    """The gateway's own, as far as it is decided."""

    outcome: str = "answered"
    published: bool = False
    room: Deferred[None] | None = None
    question: Question | None = None
    """Where the CSMS is asked."""

    registration: str | None = None
    """Where the charge point is not accepted: its status, which the event says too."""

    def expired(self) -> None:
        """See Held."""
        self.uplink.exchange_expired(self)

    def delivered(self, error: BusUnavailable | None) -> None:
        """Kafka's word on the event."""
        self.uplink.exchange_delivered(self, error)
