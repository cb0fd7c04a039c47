"""Names for what ends a TLS handshake, beyond those that the handshakes in test_tls_contexts end with."""

from __future__ import annotations

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost

from ocpp_gateway.tls.failures import refusal_reason


def error(*texts: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", text) for text in texts])


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionDone(),
        ConnectionLost(),
        SSL.SysCallError(-1, "Unexpected EOF"),
        SSL.SysCallError(104, "ECONNRESET"),
        SSL.ZeroReturnError(),
        SSL.WantReadError(),
        SSL.Error(),
        SSL.Error([]),
        error("unexpected eof while reading"),
        ValueError("not of TLS"),
    ],
)
def test_a_peer_that_went_away_is_no_refusal(failure: Exception) -> None:
    assert refusal_reason(None, failure) is None


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("provider signature failure", "EVP lib", "certificate verify failed"), "mtls_not_authorized"),
        (("bad signature",), "mtls_not_authorized"),
        (("peer did not return a certificate",), "mtls_missing_cert"),
        (("http request",), "tls_required"),
        (("unsupported protocol",), "tls_version_not_supported"),
        (("no shared cipher",), "tls_cipher_not_supported"),
        (("ssl/tls alert bad certificate",), "tls_refused_by_peer"),
        (("tlsv1 alert unknown ca",), "tls_refused_by_peer"),
        (("wrong version number",), "tls_failed"),
        (("decryption failed or bad record mac",), "tls_failed"),
        (("something new",), "tls_failed"),
    ],
)
def test_what_openssl_says_has_a_name(texts: tuple[str, ...], reason: str) -> None:
    assert refusal_reason(None, error(*texts)) == reason


def test_what_the_connection_remembers_is_asked_only_about_certificates() -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)
    connection.set_app_data(object())  # Twisted's own
    assert refusal_reason(connection, error("certificate verify failed")) == "mtls_not_authorized"
    connection.set_app_data("mtls_revoked")
    assert refusal_reason(connection, error("certificate verify failed")) == "mtls_revoked"
    assert refusal_reason(connection, error("no shared cipher")) == "tls_cipher_not_supported"
