"""Why there is no connection, in words, and what to do about it.

With TLS 1.3 a server judges the client's certificate after the client took the handshake to be done (RFC 8446 section
4.4.2.4 and appendix E.1.2), so what it says against it comes while the client waits for its HTTP answer.
"""

from __future__ import annotations

import ssl

from attrs import frozen
from websockets.exceptions import InvalidHandshake, InvalidURI

_NAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


@frozen
class Cause:
    """What is wrong, and what to do; ``advice`` is empty where that is the general one."""

    text: str
    advice: str = ""


_GIVE_ONE = "Give one with --cert and --key; to try, 'ocpp-gateway pki issue' makes one."
_NEW_ONE = "Give a certificate that is in force; to try, 'ocpp-gateway pki issue' makes one."

_BY_REASON = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": Cause("the gateway wants a client certificate", _GIVE_ONE),
    "TLSV1_ALERT_UNKNOWN_CA": Cause(
        "the gateway does not know the authority of this client certificate",
        "That authority belongs into the gateway's OCPP_TLS_CA_PATH.",
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Cause("for the gateway this client certificate is out of date", _NEW_ONE),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": Cause("the gateway has this client certificate on a revocation list", _NEW_ONE),
    "SSLV3_ALERT_BAD_CERTIFICATE": Cause("the gateway takes this client certificate for broken", _NEW_ONE),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": Cause("the gateway takes no client certificate of this kind", _NEW_ONE),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Cause("the gateway does not take this client certificate", _NEW_ONE),
    "TLSV1_ALERT_PROTOCOL_VERSION": Cause(
        "the gateway speaks no TLS version that this charge point speaks", "Look at its OCPP_TLS_MIN_VERSION."
    ),
    "WRONG_VERSION_NUMBER": Cause("there is no TLS", "Is it a ws:// port?"),
    "HTTP_REQUEST": Cause("there is no TLS", "Is it a ws:// port?"),
}


def cause_of(error: Exception, lost_by: Exception | None, *, uses_tls: bool, shows_certificate: bool) -> Cause:
    """The cause of ``error``; ``lost_by`` is what the connection beneath ended with, if it did."""
    alert = error if isinstance(error, ssl.SSLError) else lost_by
    if isinstance(alert, ssl.SSLCertVerificationError):
        return _untrusted(alert)
    if isinstance(alert, ssl.SSLError):
        return _tls_failed(alert, shows_certificate=shows_certificate)
    if isinstance(error, ConnectionRefusedError):
        return Cause("connection refused")
    if isinstance(error, TimeoutError):
        return Cause("no answer in time")
    if isinstance(error, ConnectionResetError | EOFError) or isinstance(error.__cause__, EOFError):
        return Cause("the connection was closed during the handshake", _if_closed(uses_tls, shows_certificate))
    if isinstance(error, InvalidHandshake | InvalidURI):
        return Cause(f"no WebSocket handshake ({type(error).__name__})")
    return Cause(getattr(error, "strerror", None) or type(error).__name__)


def _untrusted(error: ssl.SSLCertVerificationError) -> Cause:
    if error.verify_code in _NAME_MISMATCH:
        return Cause(
            f"the gateway's certificate is for another name: {error.verify_message}",
            "Use a name in --url that it has, or give it this one; 'ocpp-gateway pki init --host NAME' does, to try.",
        )
    if error.verify_code in _OUT_OF_TIME:
        return Cause(f"the gateway's certificate is out of date: {error.verify_message}")
    return Cause(
        f"the gateway's certificate is not trusted: {error.verify_message}",
        "Say which authorities to trust: --ca FILE, such as the ca.pem of 'ocpp-gateway pki init'.",
    )


def _tls_failed(error: ssl.SSLError, *, shows_certificate: bool) -> Cause:
    reason = error.reason or ""
    known = _BY_REASON.get(reason)
    if known is not None:
        return known
    if reason.endswith("ALERT_HANDSHAKE_FAILURE"):
        if shows_certificate:
            return Cause("TLS failed: the gateway has no cipher suite in common with this charge point")
        # TLS 1.2 says no more than this when a certificate is missing (RFC 5246 section 7.4.6).
        return Cause("TLS failed: the gateway wants a client certificate, or other cipher suites", _GIVE_ONE)
    word = reason.replace("_", " ").lower()
    return Cause(f"TLS failed{f' ({word})' if word else ''}: is this a wss:// port?")


def _if_closed(uses_tls: bool, shows_certificate: bool) -> str:
    if not uses_tls:
        return "If that is a port with TLS, the URL begins with wss://."
    if shows_certificate:
        return "The gateway's log says why: event handshake.refused."
    return f"Perhaps the gateway wants a client certificate. {_GIVE_ONE}"
