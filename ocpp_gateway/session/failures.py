"""Failed authentications: counted for the whole cluster, until their address is banned, or the charge point at it.

Counted are wrong credentials and what only a scanner does. A credential that is missing is not: it is how some charge
points begin (white paper "Improved security for OCPP 1.6-J", figure 1), and nothing is guessed with it. A charge point
without a record, or with a certificate that it may not use, may be one that is about to be commissioned: it counts for
its address, but does not shut itself out.

Who guesses a charge point's password from outside shuts out nobody but himself: what is banned is the charge point at
his address, not the charge point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.routing.security import SecurityEvents

log = Logger()

_OF_CHARGE_POINT = frozenset(("basic_invalid", "basic_user_mismatch", "basic_invalid_format", "token_invalid"))
_OF_ADDRESS = frozenset(
    (
        "identity_missing",
        "mtls_binding_mismatch",
        "mtls_not_authorized",
        "mtls_revoked",
        "suspicious_path",
        "second_request",
        "control_bytes",
    )
)

_MAX_RUNNING = 1_000
"""Reports to Redis under way at once. More are not needed to ban anybody."""


class Banned(Protocol):
    """A ban that has begun."""

    @property
    def count(self) -> int:
        """How many failures it took."""
        ...

    @property
    def seconds(self) -> float:
        """How long it is."""
        ...

    @property
    def charge_point_id(self) -> str | None:
        """None: the whole address is banned, but for charge points that it has let in."""
        ...


class FailureStore(Protocol):
    """Where failures are counted for all nodes."""

    async def failed(self, address: str, charge_point_id: str | None, reason: str, *, is_shared: bool) -> Banned | None:
        """Count one; the ban that begins with it, if one does. Nothing counts for an address that ``is_shared``.

        Raises StoreUnavailable.
        """
        ...


class BanCounters(Protocol):
    """What is counted here."""

    def count_ban(self, scope: str) -> None:
        """A ban began, of an ``address`` or of a ``charge_point`` at one."""
        ...


@define(eq=False, kw_only=True)
class Failures:
    """See the module's text. ``is_shared``: whether an address stands for anybody, as a proxy's does."""

    store: FailureStore
    security: SecurityEvents
    counters: BanCounters
    is_shared: Callable[[str], bool]
    _running: int = field(default=0, init=False)

    def refused(self, reason: str, address: str, charge_point_id: str | None) -> None:
        """A handshake was refused for ``reason``; counted, in the background, if that is a failure."""
        if reason not in _OF_CHARGE_POINT and reason not in _OF_ADDRESS:
            return
        of_whom = charge_point_id if reason in _OF_CHARGE_POINT else None
        is_shared = self.is_shared(address)
        if self._running >= _MAX_RUNNING or (is_shared and of_whom is None):
            return
        self._running += 1
        counted = Deferred.fromCoroutine(self._count(address, of_whom, reason, is_shared))
        counted.addErrback(
            lambda failure: log.failure("A failure could not be counted", failure, event="flood.failed", reason=reason)
        )

    async def _count(self, address: str, charge_point_id: str | None, reason: str, is_shared: bool) -> None:
        try:
            ban = await self.store.failed(address, charge_point_id, reason, is_shared=is_shared)
        except StoreUnavailable:
            return  # nobody is let in either
        finally:
            self._running -= 1
        if ban is None:
            return
        scope = "address" if ban.charge_point_id is None else "charge_point"
        self.counters.count_ban(scope)
        facts = {"peer": address, "scope": scope, "reason": reason, "failures": ban.count, "seconds": ban.seconds}
        log.warn(
            "Banned for {seconds} seconds after {failures} failed authentications: {peer}",
            event="flood.banned",
            charge_point_id=ban.charge_point_id,
            **facts,
        )
        self.security.publish("FloodBanned", facts, charge_point_id=ban.charge_point_id, peer=address)
