"""Why a TLS handshake failed, as a label of ``handshake.reasons``: for logs, metrics and security events only.

The peer has been told by a TLS alert; there is no HTTP answer to a connection that never was one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from OpenSSL import SSL

_REASONS: Final = (
    # OpenSSL's texts, in the order in which they decide.
    (("certificate verify failed",), "mtls_not_authorized"),
    (("peer did not return a certificate",), "mtls_missing_cert"),
    # It shows a certificate and cannot prove that the private key is its own.
    (("bad signature",), "mtls_not_authorized"),
    (("http request", "https proxy request"), "tls_required"),
    (
        ("unsupported protocol", "version too low", "inappropriate fallback", "no protocols available"),
        "tls_version_not_supported",
    ),
    (
        ("no shared cipher", "no shared group", "no suitable key share", "no suitable signature algorithm"),
        "tls_cipher_not_supported",
    ),
    # The peer's word on us: most often that it does not trust our certificate.
    ((" alert ",), "tls_refused_by_peer"),
)


def refusal_reason(connection: SSL.Connection | None, failure: BaseException) -> str | None:
    """The reason why the handshake on ``connection`` ended with ``failure``; None if the peer just went away.

    ``failure`` is what Twisted gives ``connectionLost``: an ``SSL.Error`` only if the handshake was not over.
    """
    if not isinstance(failure, SSL.Error) or isinstance(
        failure, SSL.SysCallError | SSL.ZeroReturnError | SSL.WantReadError | SSL.WantWriteError
    ):
        return None
    told = list(_texts(failure))
    if not told:  # how OpenSSL 4 reports the end of a connection
        return None
    for texts, reason in _REASONS:
        if any(text in each for each in told for text in texts):
            remembered = (
                None if connection is None or texts[0] != "certificate verify failed" else connection.get_app_data()
            )
            return remembered if isinstance(remembered, str) else reason
    return None if any("unexpected eof" in each for each in told) else "tls_failed"


def _texts(failure: SSL.Error) -> Iterator[str]:
    for entry in failure.args[0] if failure.args and isinstance(failure.args[0], list | tuple) else ():
        if isinstance(entry, tuple) and entry and isinstance(entry[-1], str):
            yield entry[-1].lower()
