"""Where connections to Redis go, and over what: TCP, TLS, a socket on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from zope.interface import implementer

from ocpp_gateway.redis.url import RedisUrl


@frozen(kw_only=True)
class RedisServer:
    """A server, for all who connect to it.

    ``timeout`` is in seconds, for each reply and for each attempt to connect.
    """

    url: RedisUrl
    endpoint: IStreamClientEndpoint
    timeout: float
    reactor: Any

    @classmethod
    def at(cls, url: RedisUrl, *, reactor: Any, timeout: float) -> Self:
        """The server of ``url``. Raises ValueError if a TLS file of it cannot be used, OSError if it cannot be read."""
        return cls(url=url, endpoint=_endpoint(url, reactor, timeout), timeout=timeout, reactor=reactor)

    @property
    def place(self) -> str:
        """Its name for logs, without the credential."""
        return str(self.url)


@implementer(IStreamClientEndpoint)
@define
class Watched:
    """An endpoint whose failures are told to ``failed``: ClientService retries without saying why."""

    endpoint: IStreamClientEndpoint
    failed: Callable[[str], None]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint."""
        connecting: Deferred[IProtocol] = self.endpoint.connect(protocolFactory)

        def note(failure: Failure) -> Failure:
            self.failed(failure.getErrorMessage() or type(failure.value).__name__)
            return failure

        return connecting.addErrback(note)


def answer_code(answer: str) -> str:
    """The first word of an error that Redis answered (``WRONGPASS``, ``OOM`` …).

    The rest stays unsaid: some of Redis's errors repeat the command's arguments, and those can be a password.
    """
    code = answer.split(" ", 1)[0]
    return code if code.isascii() and code.isalpha() and code.isupper() and len(code) <= 20 else "ERR"


def _endpoint(url: RedisUrl, reactor: Any, timeout: float) -> IStreamClientEndpoint:
    if url.scheme == "unix":
        return UNIXClientEndpoint(reactor, url.socket_path, timeout=timeout)
    endpoint = HostnameEndpoint(reactor, url.host, url.port, timeout=timeout)
    if not url.is_tls:
        return endpoint
    return wrapClientTLS(_tls_options(url), endpoint)


def _tls_options(url: RedisUrl) -> Any:
    """Check the server's name and certificate, always; txredisapi's own TLS option would check nothing."""
    trust_root = None
    if url.ca_file is not None:
        trust_root = trustRootFromCertificates(_certificates(Path(url.ca_file)))
    certificate = None
    if url.certificate_file is not None and url.key_file is not None:
        pem = Path(url.certificate_file).read_bytes() + b"\n" + Path(url.key_file).read_bytes()
        certificate = PrivateCertificate.loadPEM(pem)
    return optionsForClientTLS(url.host, trustRoot=trust_root, clientCertificate=certificate)


def _certificates(file: Path) -> list[Certificate]:
    pem = file.read_bytes()
    end = b"-----END CERTIFICATE-----"
    found = [Certificate.loadPEM(part + end) for part in pem.split(end)[:-1]]
    if not found:
        raise ValueError("ssl_ca_certs has no certificate in PEM form")
    return found
