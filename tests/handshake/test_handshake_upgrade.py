from __future__ import annotations

import pytest

from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.handshake.upgrade import require_upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = {
    "Host": "gateway.example:8080",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def head(changes: dict[str, str | None] | None = None, start: str = "GET /ocpp/1.6/CP-001 HTTP/1.1") -> RequestHead:
    lines = [f"{name}: {value}\r\n" for name, value in (GOOD | (changes or {})).items() if value is not None]
    return RequestHead.parse(f"{start}\r\n{''.join(lines)}\r\n".encode())


def refusal_of(request: RequestHead) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        require_upgrade(request)
    return caught.value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Upgrade": "h2c, WebSocket", "Connection": "keep-alive, upgrade"},
        {"Host": "[::1]:8080"},
        {"Host": "10.0.0.1"},
        {"Host": "gateway.example:"},
        {"Host": ""},
        {"Content-Length": "0"},
        {"Origin": "null"},
    ],
)
def test_opening_handshakes_of_charge_points(changes: dict[str, str | None]) -> None:
    require_upgrade(head(changes))  # does not raise


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Host": None}, 400, "host_invalid"),
        ({"Host": "a b"}, 400, "host_invalid"),
        ({"Host": "a:b"}, 400, "host_invalid"),
        ({"Host": "a, b"}, 400, "host_invalid"),
        ({"Upgrade": None}, 426, "upgrade_required"),
        ({"Upgrade": "h2c"}, 426, "upgrade_required"),
        ({"Connection": None}, 426, "upgrade_required"),
        ({"Connection": "keep-alive"}, 426, "upgrade_required"),
        ({"Sec-WebSocket-Version": None}, 426, "websocket_version_not_supported"),
        ({"Sec-WebSocket-Version": "8"}, 426, "websocket_version_not_supported"),
        ({"Sec-WebSocket-Key": None}, 400, "websocket_key_invalid"),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400, "websocket_key_invalid"),
        ({"Sec-WebSocket-Key": KEY + "A"}, 400, "websocket_key_invalid"),
        ({"Content-Length": "5"}, 400, "unexpected_body"),
        ({"Transfer-Encoding": "chunked"}, 400, "unexpected_body"),
    ],
)
def test_what_is_no_opening_handshake(changes: dict[str, str | None], status: int, reason: str) -> None:
    refusal = refusal_of(head(changes))
    assert (refusal.status, refusal.reason) == (status, reason)


def test_only_get_and_only_http_1_1() -> None:
    refusal = refusal_of(head(start="POST / HTTP/1.1"))
    assert (refusal.status, refusal.headers) == (405, (("Allow", "GET"),))
    assert refusal_of(head(start="GET / HTTP/1.0")).status == 505


def test_the_supported_websocket_version_is_named() -> None:
    assert refusal_of(head({"Sec-WebSocket-Version": "8"})).headers == (("Sec-WebSocket-Version", "13"),)
