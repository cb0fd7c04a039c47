"""The client certificate of a connection, read once for all the times that its charge point comes.

Reading one costs as much as the rest of what is checked about it, and a charge point shows the same one for years: what
was read is kept under its fingerprint. Only certificates that TLS has verified come here.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field
from OpenSSL import SSL

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed


@define(eq=False)
class PeerCertificates:
    """Keeps the ``max_entries`` certificates that were seen last, some 2 kB each."""

    max_entries: int
    _known: OrderedDict[bytes, ClientCertificate] = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._known)

    def of(self, connection: SSL.Connection) -> ClientCertificate | None:
        """What the peer has shown in the TLS handshake, in this one or in the one that it resumes; None: nothing.

        Raises AuthenticationFailed ``mtls_not_authorized`` if it cannot be read.
        """
        shown = connection.get_peer_certificate()
        if shown is None:
            return None
        fingerprint = shown.digest("sha256")
        certificate = self._known.get(fingerprint)
        if certificate is not None:
            self._known.move_to_end(fingerprint)
            return certificate
        try:
            readable = shown.to_cryptography()
        except Exception:  # OpenSSL is laxer about encodings than the parser that is to read it
            raise AuthenticationFailed("mtls_not_authorized") from None
        self._known[fingerprint] = certificate = ClientCertificate.of(readable)
        if len(self._known) > self.max_entries:
            self._known.popitem(last=False)
        return certificate
