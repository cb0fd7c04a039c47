"""The ports that the daemon listens on, and the TLS that some of them speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.threads import deferToThreadPool

from ocpp_gateway.clock import Clock
from ocpp_gateway.conversions import PLAIN
from ocpp_gateway.errors import StartFailed
from ocpp_gateway.settings import Settings, client_auths
from ocpp_gateway.tls.files import TlsPaths
from ocpp_gateway.tls.material import TlsFilesBroken
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.reloading import TlsContexts
from ocpp_gateway.websocket.listener import listen, over_tls
from ocpp_gateway.websocket.proxied import ProxiedFactory
from ocpp_gateway.wiring import Node


@define(eq=False)
class Ports:
    """Opened once, closed once. ``tls`` is None where no port has TLS."""

    settings: Settings
    clock: Clock
    reactor: Any
    tls: TlsContexts | None = field(default=None, init=False)
    _listening: list[IListeningPort] = field(factory=list, init=False)

    def load_tls(self, authorities_changed: Callable[[], None]) -> None:
        """Read the TLS files, if any port needs them. Raises StartFailed with everything that is wrong with them.

        ``authorities_changed`` is called whenever another CA bundle or other revocation lists have come into force.
        """
        settings = self.settings
        kinds = client_auths(settings)
        if not kinds:
            return
        contexts = TlsContexts(
            paths=TlsPaths(
                certificates=settings.ocpp_tls_cert_path,
                keys=settings.ocpp_tls_key_path,
                ca=settings.ocpp_tls_ca_path or None,
                crls=settings.ocpp_tls_crl_path,
                key_password=settings.ocpp_tls_key_password,
            ),
            policy=TlsPolicy.of(settings),
            clients=frozenset(ClientAuth(kind) for kind in kinds),
            clock=self.clock,
            run_in_thread=lambda work: deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work),
            interval=settings.ocpp_tls_reload_seconds,
            reloaded=authorities_changed,
        )
        try:
            contexts.load()
        except TlsFilesBroken as error:
            raise StartFailed(error.reason, str(error)) from error
        contexts.start()
        self.tls = contexts

    async def open(self, node: Node, http: IProtocolFactory) -> tuple[int, int]:
        """Listen. Gives the numbers of the HTTP port and of the OCPP port. Raises StartFailed."""
        settings = self.settings
        kind = settings.ocpp_tls_client_auth if settings.ocpp_tls_enabled else PLAIN
        ocpp_port = await self._open_ocpp(node, settings.websocket_ocpp_port, kind, "WEBSOCKET_OCPP_PORT")
        for number, extra_kind in settings.websocket_ocpp_extra_ports:
            await self._open_ocpp(node, number, extra_kind, "WEBSOCKET_OCPP_EXTRA_PORTS")
        return await self._open(settings.http_host, settings.port, http, "HTTP_HOST", "PORT"), ocpp_port

    async def close(self) -> None:
        """No new connections; those that are there stay."""
        if self.tls is not None:
            self.tls.stop()
        listening, self._listening = self._listening, []
        for port in listening:
            await maybeDeferred(port.stopListening)

    def reload_tls(self) -> None:
        """Read the TLS files again now, changed or not."""
        if self.tls is not None:
            self.tls.reload_now()

    async def _open_ocpp(self, node: Node, number: int, kind: str, setting: str) -> int:
        ocpp = node.door.factory(kind != PLAIN)
        factory: IProtocolFactory = ocpp
        if kind != PLAIN:
            assert self.tls is not None  # load_tls has seen the same settings
            factory = over_tls(self.reactor, factory, self.tls.creator(ClientAuth(kind)))
        if self.settings.ocpp_proxy_protocol:
            factory = ProxiedFactory(factory, node.proxies, ocpp.refused)
        return await self._open(self.settings.websocket_ocpp_host, number, factory, "WEBSOCKET_OCPP_HOST", setting)

    async def _open(
        self, host: str, number: int, factory: IProtocolFactory, host_setting: str, port_setting: str
    ) -> int:
        listening = await listen(self.reactor, host, number, factory, host_setting, port_setting)
        self._listening.append(listening)
        address: Any = listening.getHost()
        return int(address.port)
