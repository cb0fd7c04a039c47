"""Which OCPP version is spoken: the subprotocol decides, in the order of the charge point's preference.

Versions have to be named in ``Sec-WebSocket-Protocol`` (OCPP-J 1.6 section 3.1.2, OCPP-J 2.1 section 3.1.2). Field
devices write that list in their own ways: in capitals, with commas too many, with blanks or semicolons for commas, in
quotes or brackets, every token twice. All of that is understood and counted as a quirk. The token is echoed as it was
written, because a client compares it with what it sent (RFC 6455 section 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Final

from attrs import frozen

from ocpp_gateway.handshake.reasons import refused
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion

MAX_TOKENS: Final = 20
"""Tokens beyond these are not looked at: there are three versions to choose from."""

_PROPER_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_SEPARATORS = re.compile(r"[,;\s]+")
_WRAPPING: Final = "\"'[](){}<>"


@frozen
class Offer:
    """The subprotocols a charge point offers, as written and in its order of preference, each once."""

    tokens: tuple[str, ...]
    quirks: tuple[Quirk, ...] = ()


def offered(header_values: Sequence[str]) -> Offer:
    """Read the values of the ``Sec-WebSocket-Protocol`` header fields; several count as one list. Never raises."""
    text = ",".join(header_values)
    proper = [part.strip(" \t") for part in text.split(",")]
    tokens: dict[str, None] = {}
    for part in _SEPARATORS.split(text):
        token = part.strip(_WRAPPING)
        if _PROPER_TOKEN.fullmatch(token) and len(tokens) < MAX_TOKENS:
            tokens[token] = None
    quirks = (Quirk.MANGLED_SUBPROTOCOLS,) if header_values and proper != list(tokens) else ()
    return Offer(tuple(tokens), quirks)


def choose(offer: Offer, enabled: Container[OcppVersion]) -> tuple[str, OcppVersion] | None:
    """The first token of ``offer`` that names a version in ``enabled``, as written, and that version."""
    for token in offer.tokens:
        version = OcppVersion.from_subprotocol(token)
        if version is not None and version in enabled:
            return token, version
    return None


def negotiate(offer: Offer, served: Container[OcppVersion], allowed: Container[OcppVersion]) -> tuple[str, OcppVersion]:
    """The token and the version to speak, of those that the gateway serves and this charge point is allowed.

    Raises HandshakeRefused with ``subprotocol_missing`` (400), ``no_common_subprotocol`` (400) or
    ``protocol_not_allowed`` (403). What becomes of a 400 is the operator's to say: OCPP-J asks for an upgrade that is
    closed at once, its certification for no upgrade.
    """
    if not offer.tokens:
        raise refused("subprotocol_missing")
    if choose(offer, served) is None:
        raise refused("no_common_subprotocol")
    chosen = choose(offer, frozenset(version for version in OcppVersion if version in served and version in allowed))
    if chosen is None:
        raise refused("protocol_not_allowed")
    return chosen


def token_quirks(token: str, version: OcppVersion) -> tuple[Quirk, ...]:
    """What is odd about how the chosen ``token`` names ``version``."""
    quirks = []
    if token != token.lower():
        quirks.append(Quirk.CASED_SUBPROTOCOL)
    if token.lower() != version.subprotocol:
        quirks.append(Quirk.MISSPELLED_SUBPROTOCOL)
    return tuple(quirks)
