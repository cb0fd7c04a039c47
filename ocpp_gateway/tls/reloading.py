"""The TLS contexts in force, replaced when the files change and no connection noticing.

A connection keeps the context that it began with; the next one begins with the newest. Files are looked at every few
seconds rather than watched: that works on every file system, and through the symbolic links by which Kubernetes
replaces them. Reading, checking and building happen in a thread, taking over is one assignment in the reactor.

Files that cannot be used change nothing, and are told of. Certificate and key are hardly ever replaced in the same
instant, so what the regular look finds broken is looked at once more before it is called so; an operator who asks for
a reload gets the answer at once.

Contexts are also made anew when they are a day old, from what was read last: their session tickets are encrypted with
keys that would otherwise live as long as the daemon, and open everything recorded in that time (RFC 5077 section 5.5).
They are too when a CA or a CRL comes to its end, for sessions are resumed without a look at either. Whichever context
a full handshake has, revocation is judged by the newest CRLs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.clock import Clock, iso_seconds
from ocpp_gateway.tls.contexts import SESSION_SECONDS, build_context
from ocpp_gateway.tls.facts import TlsFacts
from ocpp_gateway.tls.files import Stamp, TlsPaths, read
from ocpp_gateway.tls.material import TlsFilesBroken, TlsMaterial
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.revoked import Revocations

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

log = Logger()

LIFETIME: Final = SESSION_SECONDS
"""Seconds after which contexts are made anew though nothing has changed."""

_RETRY_SECONDS: Final = 60.0

InThread = Callable[[Callable[[], Any]], Deferred[Any]]
"""Runs a function in a thread; the Deferred has what it returns or raises."""


@frozen(eq=False)
class _InForce:
    material: TlsMaterial
    revocations: Revocations
    contexts: Mapping[ClientAuth, SSL.Context]
    until: float
    """``clock.monotonic()`` when the contexts have to be made anew."""


@define(eq=False, kw_only=True)
class TlsContexts:
    """Contexts for every kind of port that ``clients`` names, of one material.

    ``interval``: seconds between two looks at the files, 0 for none. ``reloaded`` is called when another CA bundle or
    other CRLs have come into force: who is connected may have to go.
    """

    paths: TlsPaths
    policy: TlsPolicy
    clients: frozenset[ClientAuth]
    clock: Clock
    run_in_thread: InThread
    interval: float
    reloaded: Callable[[], None]
    _in_force: _InForce | None = field(default=None, init=False)
    _seen: Stamp = field(default=(), init=False)
    _suspect: Stamp | None = field(default=None, init=False)
    """The files' state that was found broken once, by a regular look."""

    _is_broken: bool = field(default=False, init=False)
    _started: bool = field(default=False, init=False)
    _asked: bool = field(default=False, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _running: Deferred[None] | None = field(default=None, init=False)

    def load(self) -> None:
        """The first reading, in the calling thread. Raises TlsFilesBroken with every problem."""
        self._seen = self.paths.stamp()
        self._take(self._build(read(self.paths, now=self.clock.now())), event="tls.loaded")

    def start(self) -> None:
        """Begin to look at the files; ``load`` comes before."""
        self._started = True
        self._schedule()

    def stop(self) -> None:
        """End; a reload under way is given up. What is in force stays."""
        self._started = self._asked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            self._running.cancel()

    def reload_now(self) -> None:
        """Read the files now, changed or not: an operator has asked. Behind a reload under way, if there is one."""
        if not self._started:
            return
        if self._running is not None:
            self._asked = True
            return
        if self._timer is not None:
            self._timer.cancel()
        self._run(asked=True)

    def creator(self, client_auth: ClientAuth) -> IOpenSSLServerConnectionCreator:
        """What gives each connection of a port the newest context; ``client_auth`` is among ``clients``."""
        return _Creator(self, client_auth)

    def context(self, client_auth: ClientAuth) -> SSL.Context:
        """The newest context. To be asked for anew for each connection."""
        assert self._in_force is not None  # nothing listens before load()
        return self._in_force.contexts[client_auth]

    def facts(self) -> TlsFacts:
        """What is in force now."""
        if self._in_force is None:
            return TlsFacts()
        return TlsFacts.of(self._in_force.material, is_broken=self._is_broken)

    def is_revoked(self, certificate: ClientCertificate) -> bool:
        """Whether a CRL in force lists ``certificate``."""
        return self._fault(certificate.issuer, int(certificate.serial_number, 16)) == "mtls_revoked"

    def _fault(self, issuer: str, serial_number: int) -> str | None:
        if self._in_force is None:
            return None
        return self._in_force.revocations.fault(issuer, serial_number, self.clock.now())

    def _fault_of(self, certificate: x509.Certificate) -> str | None:
        if self._in_force is None or not self._in_force.revocations:
            return None
        return self._fault(certificate.issuer.rfc4514_string(), certificate.serial_number)

    def _schedule(self) -> None:
        assert self._in_force is not None
        left = self._in_force.until - self.clock.monotonic()
        if left <= 0:  # to be renewed by now, and that has just failed
            left = _RETRY_SECONDS
        self._timer = self.clock.call_later(min(self.interval or left, left), self._run)

    def _run(self, *, asked: bool = False) -> None:
        self._timer = None
        self._asked = False
        running = Deferred.fromCoroutine(self._guarded(asked))
        self._running = running
        running.addCallback(self._ended)

    def _ended(self, _: None) -> None:
        self._running = None
        if not self._started:
            return
        if self._asked:
            self._run(asked=True)
        else:
            self._schedule()

    async def _guarded(self, asked: bool) -> None:
        try:
            await self._look(asked)
            await self._renew()
        except CancelledError:
            return
        except Exception:
            self._is_broken = True
            self._seen = ()  # so that the next look reads them again
            log.failure("TLS files could not be reloaded", event="tls.reload_failed", reason="internal_error")

    async def _look(self, asked: bool) -> None:
        if not asked and not self.interval:
            return
        stamp = await self.run_in_thread(self.paths.stamp)
        is_second_look = self._suspect == stamp
        if not asked and not is_second_look and self._seen == stamp:
            return
        self._seen, self._suspect = stamp, None
        try:
            fresh = await self.run_in_thread(self._read)
        except TlsFilesBroken as error:
            if asked or is_second_look:
                self._tell(error)
            else:
                self._suspect = stamp
            return
        if fresh is not None:
            self._take(fresh, event="tls.reloaded")
        elif self._is_broken:
            log.info("The TLS files are again what is in force", event="tls.restored")
        self._is_broken = False

    async def _renew(self) -> None:
        now = self._in_force
        if now is not None and self.clock.monotonic() >= now.until:
            self._in_force = await self.run_in_thread(partial(self._build, now.material))

    def _read(self) -> _InForce | None:
        """What the files say; None if that is in force. In a thread."""
        material = read(self.paths, now=self.clock.now())
        if self._in_force is not None and self._in_force.material.digest == material.digest:
            return None
        return self._build(material)

    def _build(self, material: TlsMaterial) -> _InForce:
        fault = self._fault_of if material.revocation_lists else None
        contexts = {each: build_context(material, self.policy, each, fault) for each in self.clients}
        revocations = Revocations.of(material.revocation_lists, material.authorities)
        lifetime = min(LIFETIME, material.next_end(self.clock.now()) - self.clock.now())
        return _InForce(material, revocations, contexts, self.clock.monotonic() + lifetime)

    def _take(self, fresh: _InForce, *, event: str) -> None:
        before, self._in_force = self._in_force, fresh
        facts = self.facts()
        log.info(
            "TLS certificates in force: {certificates}; {authorities} CAs, {revocation_lists} CRLs",
            event=event,
            certificates=", ".join(f"{each.name} until {iso_seconds(each.not_after)}" for each in facts.certificates),
            authorities=len(facts.authorities),
            revocation_lists=len(facts.revocation_lists),
        )
        told = () if before is None else before.material.warnings
        for warning in fresh.material.warnings:
            if warning not in told:
                log.warn("TLS files: {problem}", event="tls.warning", problem=warning)
        if before is not None and before.material.clients_digest != fresh.material.clients_digest:
            self.reloaded()

    def _tell(self, error: TlsFilesBroken) -> None:
        self._is_broken = True
        log.error(
            "The TLS files have changed and cannot be used; the certificates from before stay in force: {problems}",
            event="tls.reload_failed",
            reason=error.reason,
            problems="; ".join(error.problems),
        )


@implementer(IOpenSSLServerConnectionCreator)
@frozen(eq=False)
class _Creator:
    contexts: TlsContexts
    client_auth: ClientAuth

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted's: OpenSSL's side of a connection that was accepted."""
        return _Connection(self.contexts.context(self.client_auth), None)


class _Connection(SSL.Connection):
    """pyOpenSSL's, with an end in the middle of the handshake told as Twisted understands it."""

    def do_handshake(self) -> None:
        """pyOpenSSL's. A peer that says close_notify now raises an error without arguments: Twisted trips over it."""
        try:
            super().do_handshake()
        except SSL.ZeroReturnError:
            raise SSL.SysCallError(-1, "Unexpected EOF") from None
