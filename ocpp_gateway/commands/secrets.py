"""The port for commands that change the password of a charge point: both sides have to change it, or neither.

::

    prepare ── both passwords work ── the CALL is sent ── CALLRESULT ─────────────> answered: as it says
                      │                                ├─ CALLERROR ──────────────> withdraw: only the old one
                      │                                └─ no answer, or no use ───> both, until one of them is used
                      └─ it is not sent after all ────────────────────────────────> withdraw
"""

from __future__ import annotations

from typing import Any, Protocol

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.frames import Payload


class ChangeUnclear(StoreUnavailable):
    """The new password may work already, or may not. ``change``: as ``prepare`` gives it."""

    def __init__(self, change: Any) -> None:
        super().__init__("the new password may have been written")
        self.change = change


class SecretChange(Protocol):
    """Changes passwords on our side. ``change`` is what ``prepare`` gave.

    All of it raises StoreUnavailable, and may be called again then.
    """

    async def prepare(self, caller: Caller, action: str, payload: Payload, unclear: Any | None = None) -> Any | None:
        """Let the password in this request work, too; None: there is none in it.

        Raises CommandInvalid, with nothing changed, if the charge point cannot have it; ChangeUnclear, whose ``change``
        is to be withdrawn, or given as ``unclear`` when it is tried again.
        """
        ...

    async def answered(self, change: Any, response: Payload) -> None:
        """The sound CALLRESULT with the payload ``response`` has come."""
        ...

    async def withdraw(self, change: Any) -> None:
        """The charge point does not have it: it works no longer."""
        ...
