"""Is a request a WebSocket opening handshake (RFC 6455 section 4.2.1)?

The request is judged here, once. A WebSocket library parses bytes by rules of its own, answers with text that quotes
the peer and writes whole header blocks to its debug log; so it is not given what the peer sent, only the key and the
subprotocols (``websocket.lean``).
"""

from __future__ import annotations

import re
from typing import Final

from ocpp_gateway.handshake.reasons import refused
from ocpp_gateway.handshake.request import RequestHead

WEBSOCKET_VERSION: Final = "13"

# uri-host [":" port] of RFC 9110 section 7.2, no stricter than needed to be sure that it is one value.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+;=-]{0,255})(?::[0-9]{0,5})?")
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


def require_upgrade(head: RequestHead) -> None:
    """Raise HandshakeRefused unless ``head`` asks for WebSocket version 13 with everything that takes.

    Reasons: ``method_not_allowed``, ``http_version_not_supported``, ``host_invalid``, ``unexpected_body``,
    ``upgrade_required``, ``websocket_version_not_supported``, ``websocket_key_invalid``.
    """
    if head.version != "1.1":
        raise refused("http_version_not_supported")
    if head.method != "GET":
        raise refused("method_not_allowed", (("Allow", "GET"),))
    host = head.values("host")
    if len(host) != 1 or _HOST.fullmatch(host[0]) is None:
        raise refused("host_invalid")
    if head.values("transfer-encoding") or any(length != "0" for length in head.values("content-length")):
        raise refused("unexpected_body")
    if not _names(head, "upgrade", "websocket") or not _names(head, "connection", "upgrade"):
        raise refused("upgrade_required", (("Upgrade", "websocket"), ("Connection", "Upgrade")))
    if tuple(head.values("sec-websocket-version")) != (WEBSOCKET_VERSION,):
        raise refused("websocket_version_not_supported", (("Sec-WebSocket-Version", WEBSOCKET_VERSION),))
    key = head.values("sec-websocket-key")
    if len(key) != 1 or _KEY.fullmatch(key[0]) is None:
        raise refused("websocket_key_invalid")


def _names(head: RequestHead, field: str, token: str) -> bool:
    return any(element.lower() == token for element in head.elements(field))
