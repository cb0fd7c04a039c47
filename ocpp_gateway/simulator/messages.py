"""What a charge point has to say, whatever its version; ``messages_v16`` and ``messages_v2x`` say it."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

from attrs import define, frozen

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.meter import Reading

VENDOR = "ocpp-gateway"
MODEL = "Simulated AC"
CONNECTOR = 1
"""The one connector of a simulated charge point."""

EVSE = 1
"""Its one EVSE (2.x)."""

LONGEST_SERIAL_NUMBER = 25
"""Characters that a BootNotification takes, of every version."""


class ConnectorStatus(Enum):
    """States of a connector, in 1.6 words; 2.x has fewer."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    FINISHING = "Finishing"
    UNAVAILABLE = "Unavailable"


class BootReason(Enum):
    """Why it boots, in 2.x words."""

    POWER_UP = "PowerUp"
    REMOTE_RESET = "RemoteReset"
    TRIGGERED = "Triggered"


class StopReason(Enum):
    """Why a transaction ends, in words that all versions know."""

    LOCAL = "Local"
    REMOTE = "Remote"
    EV_DISCONNECTED = "EVDisconnected"
    DEAUTHORIZED = "DeAuthorized"
    RESET = "Reset"


@frozen
class Message:
    """A CALL to be made."""

    action: str
    payload: Payload


@define
class Transaction:
    """A charging transaction. ``id`` is the charge point's own (2.x), or the gateway's once it answered (1.6)."""

    id_token: str
    id: int | str | None = None
    next_seq_no: int = 0
    remote_start_id: int | None = None
    stopped_by: StopReason | None = None

    def seq_no(self) -> int:
        """The next number of the transaction's events (2.x), from 0 without gaps."""
        number = self.next_seq_no
        self.next_seq_no += 1
        return number


class Messages(Protocol):
    """The messages of one version."""

    @property
    def version(self) -> OcppVersion:
        """The version that they are of."""
        ...

    def boot(self, serial_number: str, reason: BootReason) -> Message:
        """BootNotification."""
        ...

    def heartbeat(self) -> Message:
        """Heartbeat."""
        ...

    def status(self, status: ConnectorStatus, timestamp: str) -> Message:
        """StatusNotification of the connector."""
        ...

    def authorize(self, id_token: str) -> Message:
        """Authorize."""
        ...

    def begin(self, id_token: str) -> Transaction:
        """A new transaction, with an id if the version's charge points choose it themselves."""
        ...

    def started(self, transaction: Transaction, reading: Reading) -> tuple[Message, ...]:
        """The transaction has started."""
        ...

    def metered(self, transaction: Transaction | None, reading: Reading, *, is_asked_for: bool = False) -> Message:
        """A periodic reading, or one that was asked for; without a transaction it always was."""
        ...

    def stopped(self, transaction: Transaction, reading: Reading, reason: StopReason) -> Message:
        """The transaction has ended."""
        ...

    def token_status(self, answer: Payload) -> str:
        """What an answer to Authorize or to a transaction message says about the id token; Accepted if nothing."""
        ...


def member(payload: Payload, *path: str) -> Any:
    """What ``payload`` holds at ``path``, or None where it ends: the other side's JSON is not to be trusted."""
    value: Any = payload
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def messages_of(version: OcppVersion) -> Messages:
    """The messages of ``version``."""
    if version is OcppVersion.V16:
        from ocpp_gateway.simulator.messages_v16 import MessagesV16

        return MessagesV16()
    from ocpp_gateway.simulator.messages_v2x import MessagesV2x

    return MessagesV2x(version)
