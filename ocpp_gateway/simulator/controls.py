"""What the CSMS can make a simulated charge point do."""

from __future__ import annotations

from typing import Protocol

from ocpp_gateway.simulator.frames import Payload


class Controls(Protocol):
    """A charge point's levers. Those that do something are pulled after the answer has been sent."""

    def reset(self, *, when_idle: bool) -> None:
        """Reboot; ``when_idle``: not before the transaction has ended by itself."""
        ...

    def trigger(self, action: str) -> None:
        """Send this message now: BootNotification, Heartbeat, MeterValues, StatusNotification or TransactionEvent."""
        ...

    def say(self, action: str, payload: Payload) -> None:
        """Send this message after those that wait already."""
        ...

    def remote_start(self, id_token: str, remote_start_id: int | None) -> None:
        """Begin to charge for this token."""
        ...

    def remote_stop(self) -> None:
        """End the transaction."""
        ...

    def set_available(self, available: bool) -> None:
        """Take the connector into service or out of it."""
        ...

    def is_idle(self) -> bool:
        """No transaction is going on."""
        ...

    def is_in_service(self) -> bool:
        """The connector was not taken out of service."""
        ...

    def transaction_id(self) -> int | str | None:
        """The id of the transaction that is going on."""
        ...

    def has_unsent(self) -> bool:
        """Transaction messages are waiting to be sent."""
        ...

    def get(self, name: str) -> str | None:
        """A configuration value."""
        ...

    def names(self) -> tuple[str, ...]:
        """The names of all configuration values."""
        ...

    def component(self, name: str) -> str:
        """The component that a configuration value is of (2.x)."""
        ...

    def is_read_only(self, name: str) -> bool:
        """Whether nobody may change a configuration value."""
        ...

    def set(self, name: str, value: str) -> bool:
        """Change a configuration value; False if that is not possible."""
        ...

    def set_password(self, secret: bytes) -> None:
        """The password of the next connection."""
        ...
