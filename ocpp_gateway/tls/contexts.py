"""OpenSSL's side: a context made of material and policy, and how a client's certificate chain is judged.

What is decided in the handshake is what holds for every charge point of a CA: signatures, the CA's dates, revocation
by CRL. What an identity record decides - which certificate it is, whether an expired one may pass, what Redis says
about revocation - comes after it, on every connection.

Sessions are resumed, by tickets or, for TLS 1.2 clients without them, by session id: a fleet that reconnects costs no
signatures. A resumed handshake verifies no chain. It need not: the keys of tickets and the cache of sessions belong to
one context, and a context to one state of CA bundle and CRLs. Whatever changes them, and the end of any of them, makes
new contexts, which know none of the old sessions (``reloading``). The certificate itself is part of the session, so
what comes after the handshake sees it as if it had been shown. No context serves longer than ``reloading.LIFETIME``,
nor do its ticket keys.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from ocpp_gateway.tls.material import ServerCertificate, TlsFilesBroken, TlsMaterial
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy

SESSION_SECONDS: Final = 86_400
"""How long a session may be resumed; its context is replaced no later than that."""

_MAX_DEPTH: Final = 8
"""CAs between a client's certificate and the one that is trusted."""

_MAX_NAMES_BYTES: Final = 8192
"""Names of CAs that are told to a client. More would not fit into what small devices have for a handshake message, and
some 30 kB not into what Twisted sends of one; then none are told, which every client must understand."""

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

_Codes = SSL.X509VerificationCodes
_OF_DATES: Final = frozenset((_Codes.ERR_CERT_HAS_EXPIRED, _Codes.ERR_CERT_NOT_YET_VALID))

Fault = Callable[[x509.Certificate], str | None]
"""The reason for which a certificate of a client's chain is refused though it was rightly issued, or None."""


def build_context(
    material: TlsMaterial, policy: TlsPolicy, client_auth: ClientAuth, fault: Fault | None
) -> SSL.Context:
    """A server's context. ``fault``, if there is one, is asked about each certificate of each client's chain.

    Raises TlsFilesBroken if OpenSSL does not take one of our certificates, for a weak signature say. May be called in a
    thread.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[policy.min_version])
    context.set_cipher_list(policy.cipher_string.encode("ascii"))
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # some 34 kB less for each idle connection
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    # Without one OpenSSL resumes no session of a client that has shown a certificate.
    context.set_session_id(client_auth.value.encode("ascii"))
    context.set_timeout(SESSION_SECONDS)
    for server in material.servers:
        _use(context, server)
    if client_auth is not ClientAuth.OFF:
        _ask_for_certificates(context, material.authorities, client_auth, fault)
    return context


def _use(context: SSL.Context, server: ServerCertificate) -> None:
    # OpenSSL keeps a certificate, its chain and its key for each type of key; only a file gives each its own chain.
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in server.chain)
    try:
        with _readable(pem) as path:
            context.use_certificate_chain_file(path)
        context.use_privatekey(server.key)
        context.check_privatekey()
    except SSL.Error as error:
        told = ", ".join(entry[-1] for entry in error.args[0]) if error.args else "no reason given"
        raise TlsFilesBroken((f"{server.file}: OpenSSL does not take this certificate ({told})",)) from None


@contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """A file with ``data`` in it: in memory where the system can, as a container may have no place to write to."""
    with (
        open(os.memfd_create("tls-chain"), "wb") if hasattr(os, "memfd_create") else tempfile.NamedTemporaryFile()
    ) as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}" if hasattr(os, "memfd_create") else str(file.name)


def _ask_for_certificates(
    context: SSL.Context, authorities: Iterable[x509.Certificate], client_auth: ClientAuth, fault: Fault | None
) -> None:
    store = context.get_cert_store()
    assert store is not None  # a context has one from its beginning
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    if sum(len(authority.subject.public_bytes()) for authority in authorities) <= _MAX_NAMES_BYTES:
        for authority in authorities:
            context.add_client_ca(authority)  # told to clients, which may have several certificates
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an operator's bundle need not go up to a root
    context.set_verify_depth(_MAX_DEPTH)
    must = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if client_auth is ClientAuth.REQUIRED else 0
    context.set_verify(SSL.VERIFY_PEER | must, _Judge(fault).goes_on)


@frozen(eq=False)
class _Judge:
    """Judges clients' chains. It knows neither context nor connection, so that nothing keeps either alive."""

    fault: Fault | None

    def goes_on(self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, is_good: int) -> bool:
        """Whether to go on with a chain: OpenSSL asks for each thing wrong with a certificate, then for each good one.

        From the trusted CA down to the client's own, so that signatures are known to be right when ``fault`` is asked.
        The reason of a refusal is left on the connection for ``failures``.
        """
        reason = None if is_good else _of_openssl(error, depth)
        if reason is None and self.fault is not None:
            try:
                reason = self.fault(shown.to_cryptography())
            except Exception:  # pyOpenSSL would raise it in the next connection of this context
                reason = "mtls_not_authorized"
        if reason is not None:
            connection.set_app_data(reason)
        return reason is None


def _of_openssl(error: int, depth: int) -> str | None:
    if error not in _OF_DATES:
        return "mtls_not_authorized"
    # The dates of the client's own certificate are for the identity record (OCPP 2.0.1 part 2, A00.FR.429).
    return "mtls_expired" if depth else None
