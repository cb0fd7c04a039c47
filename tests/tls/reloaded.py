"""TLS contexts that are replaced when a test says so, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives.serialization import Encoding
from support.certificates import Authority, Issued
from support.manual_clock import ManualClock
from tls_support import Files, client_context, shake
from twisted.internet.defer import Deferred, execute
from twisted.logger import LogEvent

from ocpp_gateway.tls.files import TlsPaths
from ocpp_gateway.tls.policy import ClientAuth
from ocpp_gateway.tls.reloading import TlsContexts

INTERVAL = 10.0


@define
class Threads:
    """Runs what belongs into a thread at once, or when a test says so."""

    is_held: bool = False
    held: list[tuple[Deferred[Any], Callable[[], Any]]] = field(factory=list)
    runs: int = 0

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.runs += 1
        if not self.is_held:
            return execute(work)
        waiting: Deferred[Any] = Deferred()
        self.held.append((waiting, work))
        return waiting

    def let_go(self) -> None:
        self.is_held = False
        while self.held:
            waiting, work = self.held.pop(0)
            execute(work).chainDeferred(waiting)


@define
class Running:
    files: Files
    logged: list[LogEvent]
    contexts: TlsContexts
    clock: ManualClock
    threads: Threads
    reloads: list[None]

    def serves(self, issued: Issued, trusted: Authority) -> bool:
        """Whether ``issued`` is what a new connection gets."""
        client = client_context(self.files.directory, trusted)
        shaken = shake(self.contexts.context(ClientAuth.OFF), client)
        assert shaken.is_done
        return shaken.client.getpeercert(binary_form=True) == issued.certificate.public_bytes(Encoding.DER)

    def events(self) -> list[str]:
        """What was logged since last asked."""
        events = [str(event["event"]) for event in self.logged]
        self.logged.clear()
        return events

    def look(self) -> None:
        self.clock.advance(INTERVAL)


Begin = Callable[..., Running]


def renewed(root: Authority) -> Issued:
    return root.issue("gateway.example.com", sans=["gateway.example.com"], client=False)


def with_list(running: Running, crl: bytes) -> TlsPaths:
    running.files.crls = [crl]
    return running.files.write()
