"""Why an opening handshake is refused: the one table that code, metrics, logs and documents share.

Statuses: 400 the request cannot be understood or offers no OCPP version of ours; 401 the credential is missing or
wrong; 403 this charge point may not connect (like this); 404 there is no such path or charge point; 429 too many
attempts; 503 the gateway cannot take anybody now. An outage of ours is never a 401: some charge points discard their
password after one. A charge point retries after each of them (OCPP-J 1.6 section 3.2, OCPP-J 2.0.1 section 5.3).

A peer is told the reason only where it says what is wrong with the request as such. All 401 look the same on the wire,
and so do all 403, 404 and 503: a guesser learns neither which half of a credential was right nor what we are built of.

A connection that ends within the TLS handshake (the ``tls_`` rows, and some ``mtls_`` ones) or before it (``proxy_``)
gets no HTTP answer at all, at most an alert of TLS; the status of its row is then what stands in log and events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ocpp_gateway.errors import HandshakeRefused

_TOLD = frozenset((400, 405, 426, 431, 505))


@frozen
class Refusal:
    """One row: the stable ``reason``, the HTTP ``status`` it is answered with, and what it means to an operator."""

    reason: str
    status: int
    meaning: str

    @property
    def wire_text(self) -> str:
        """What the peer is told, as HTTP reason phrase and body."""
        return self.reason if self.status in _TOLD else HTTPStatus(self.status).phrase


_ROWS = (
    # The request as such
    Refusal("malformed_request", 400, "request line or header fields break the grammar of HTTP/1.1"),
    Refusal("control_bytes", 400, "the header block contains control bytes, which split header fields in some parsers"),
    Refusal("folded_header", 400, "a header field is continued on a second line"),
    Refusal("repeated_header", 400, "a header field that decides something is given twice"),
    Refusal("too_many_headers", 400, "more header fields than any charge point sends"),
    Refusal("header_block_too_large", 431, "the header block is larger than the gateway reads"),
    Refusal("handshake_timeout", 408, "from TCP accept to a complete and checked request took too long"),
    Refusal("second_request", 400, "bytes followed the request before it was answered"),
    Refusal("unexpected_body", 400, "the request announces a body"),
    Refusal("method_not_allowed", 405, "the method is not GET"),
    Refusal("http_version_not_supported", 505, "the request is not HTTP/1.1"),
    Refusal("host_invalid", 400, "the Host header field is missing or malformed"),
    Refusal("upgrade_required", 426, "the request does not ask for an upgrade to WebSocket"),
    Refusal("websocket_version_not_supported", 426, "Sec-WebSocket-Version is not 13"),
    Refusal("websocket_key_invalid", 400, "Sec-WebSocket-Key is missing or not 16 bytes in base64"),
    # From a proxy
    Refusal("proxy_not_trusted", 403, "a connection from outside OCPP_TRUSTED_PROXIES, where a PROXY header is due"),
    Refusal("proxy_header_invalid", 403, "no PROXY protocol header, or a broken one, from a trusted proxy"),
    # Where it leads
    Refusal("unknown_path", 404, "the path is not /ocpp/{version}/{id} or /ocpp/{id}"),
    Refusal("unknown_version", 404, "the path names an OCPP version that does not exist here"),
    Refusal("identity_malformed", 404, "the identity in the path does not match OCPP_CHARGE_POINT_ID_PATTERN"),
    Refusal("suspicious_path", 404, "the path is one that vulnerability scanners ask for"),
    Refusal("subprotocol_missing", 400, "no subprotocol is offered"),
    Refusal("no_common_subprotocol", 400, "no OCPP version of the gateway is offered"),
    # Who may connect
    Refusal("identity_missing", 404, "there is no identity record for this charge point"),
    Refusal("identity_invalid", 403, "the identity record is broken, or is that of another charge point"),
    Refusal("status_inactive", 403, "the identity record's status is not active"),
    Refusal("protocol_not_allowed", 403, "the identity record allows none of the OCPP versions offered"),
    Refusal("ip_not_allowed", 403, "the address is on none of the lists that apply"),
    Refusal("auth_mode_not_allowed", 403, "the identity record's way to authenticate is unknown or not allowed"),
    # With which credential
    Refusal("basic_missing_header", 401, "no Authorization header field with the scheme Basic"),
    Refusal("basic_invalid_format", 401, "the Basic credential is not user:password in base64"),
    Refusal("basic_user_mismatch", 401, "the user name is not this charge point's"),
    Refusal("basic_hash_missing", 401, "the identity record has no usable secretHash"),
    Refusal("basic_invalid", 401, "the password is wrong"),
    Refusal("token_missing", 401, "neither Authorization: Bearer nor x-api-key"),
    Refusal("token_hash_missing", 401, "the identity record has no usable tokenHash or secretHash"),
    Refusal("token_invalid", 401, "the token is wrong"),
    # A TLS certificate cannot be asked for by a 401, which has to name a scheme (RFC 9110 section 15.5.2).
    Refusal("mtls_missing_cert", 403, "no client certificate"),
    Refusal("mtls_not_authorized", 403, "the client certificate was not verified, or a part of it cannot be read"),
    Refusal("mtls_expired", 403, "the client certificate is outside of its validity"),
    Refusal("mtls_revoked", 403, "the client certificate is revoked"),
    Refusal("mtls_binding_missing", 403, "the identity record names no client certificate"),
    Refusal("mtls_binding_mismatch", 403, "the client certificate is not the one that the identity record names"),
    Refusal("mtls_organization_not_allowed", 403, "the client certificate's organisation (O) is not one allowed here"),
    Refusal("mtls_crl_expired", 403, "the revocation list of the client certificate's issuer is past its nextUpdate"),
    Refusal("profile_downgrade", 403, "the security profile is lower than the record asks for or than the last one"),
    # Within TLS
    Refusal("tls_required", 403, "plain HTTP on a port for TLS"),
    Refusal("tls_version_not_supported", 403, "the peer offers no version of TLS that is allowed here"),
    Refusal("tls_cipher_not_supported", 403, "the peer offers no cipher suite that is allowed here"),
    Refusal("tls_refused_by_peer", 403, "the peer ended the TLS handshake: it does not trust our certificate, say"),
    Refusal("tls_failed", 403, "the TLS handshake failed in another way"),
    # Limits and our own state
    Refusal("rate_limited", 429, "too many attempts to connect from this address, or of this charge point at it"),
    Refusal(
        "banned", 429, "too many failed authentications; the address, or the charge point at it, is banned for now"
    ),
    Refusal("reconnect_limited", 429, "this charge point was let in too often in a short time"),
    Refusal("too_many_connections", 503, "the gateway, or one address, has as many connections as are allowed"),
    Refusal("overloaded", 503, "more handshakes than this node takes at once or in a second"),
    Refusal("hashing_busy", 503, "too many passwords wait to be checked"),
    Refusal("readmission_limited", 503, "charge points are let back in at a limited rate after an outage"),
    Refusal("starting", 503, "the gateway is not ready yet"),
    Refusal("draining", 503, "the gateway is about to stop"),
    Refusal("redis_unavailable", 503, "Redis does not answer"),
    Refusal("kafka_unavailable", 503, "Kafka does not confirm events"),
    Refusal("kafka_queue_full", 503, "Kafka is too slow; the queue of events is full"),
    Refusal("internal_error", 500, "an error of the gateway's own; its log has the details"),
)

REFUSALS: Final[Mapping[str, Refusal]] = MappingProxyType({row.reason: row for row in _ROWS})
"""Every refusal by its reason."""


def refused(reason: str, headers: Sequence[tuple[str, str]] = ()) -> HandshakeRefused:
    """The exception for ``reason``, with its status. ``KeyError`` for a reason that is not in the table: a bug."""
    return HandshakeRefused(REFUSALS[reason].status, reason, headers)


def wire_text(reason: str) -> str:
    """What a peer may read about ``reason``; for an unknown one, no more than that it was our error."""
    return REFUSALS.get(reason, REFUSALS["internal_error"]).wire_text
