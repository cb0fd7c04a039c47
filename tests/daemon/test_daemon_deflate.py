"""permessage-deflate, with the whole daemon: what is agreed upon, and what becomes of messages badly compressed."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from support.gateway import Gateway
from support.raw_socket import CLOSE, CONTINUATION, PING, RawCharger, frame
from support.stations import SUBPROTOCOLS, basic, provision

from ocpp_gateway.session.reasons import CloseReason

OFFER = "permessage-deflate; client_max_window_bits"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=12"
RSV1 = 4
READINGS = {
    "connectorId": 1,
    "meterValue": [
        {"timestamp": f"2026-01-02T03:{minute:02}:05Z", "sampledValue": [{"value": str(minute * 17)}] * 9}
        for minute in range(60)
    ],
}


def connected(gateway: Gateway, charge_point_id: str, version: str = "1.6", offer: str = OFFER) -> RawCharger:
    headers = [*basic(charge_point_id).items(), ("Sec-WebSocket-Extensions", offer)]
    return RawCharger(gateway.ocpp_port, charge_point_id, headers, subprotocols=SUBPROTOCOLS[version])


def deflated(message: Any) -> bytes:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressed(message: Any) -> bytes:
    return frame(deflated(message), reserved=RSV1)


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_compressed_calls_are_answered(gateway: Gateway, charge_point_id: str, version: str) -> None:
    with connected(gateway, charge_point_id, version) as charger:
        assert charger.upgrade.header("Sec-WebSocket-Extensions") == AGREED
        half = deflated([2, "2", "Heartbeat", {}])
        charger.socket.send(
            compressed([2, "1", "Heartbeat", {}])
            + frame(half[:5], fin=False, reserved=RSV1)
            + frame(b"still there?", PING)
            + frame(half[5:], CONTINUATION)
            + frame(b'[2,"3","Heartbeat",{}]')
        )
        answers = [charger.receive() for _ in range(3)]
        charger.hang_up()
    assert [answer[:2] for answer in answers] == [[3, "1"], [3, "2"], [3, "3"]]


def test_what_was_compressed_is_published_as_any_other(gateway: Gateway, events: Any, charge_point_id: str) -> None:
    with connected(gateway, charge_point_id) as charger:
        charger.socket.send(compressed([2, "1", "MeterValues", READINGS]))
        assert charger.receive() == [3, "1", {}]
    (event,) = events(charge_point_id, "ocpp.session.events")
    assert event["payload"]["payload"] == READINGS


def test_a_long_answer_is_compressed(gateway: Gateway, charge_point_id: str) -> None:
    with connected(gateway, charge_point_id) as charger:
        charger.send([2, "1" * 250, "Heartbeat", {"no such": "member"}])
        charger.socket.send(frame(b"\x03\xe8", CLOSE))
        wire = charger.socket.rest()
    assert wire[0] == 0xC1, wire
    answer = json.loads(zlib.decompress(wire[2 : 2 + wire[1]] + b"\x00\x00\xff\xff\x03\x00", -15))
    assert answer[:3] == [4, "1" * 250, "FormationViolation"]


BREACHES = {
    "no deflate": (frame(b'[2,"1","Heartbeat",{}]', reserved=RSV1), CloseReason.PROTOCOL_ERROR),
    "cut off": (frame(deflated(READINGS)[:-9], reserved=RSV1), CloseReason.PROTOCOL_ERROR),
    "bomb": (compressed(b" " * 200_000), CloseReason.COMPRESSION_RATIO),
    "great bomb": (compressed(b" " * 50_000_000), CloseReason.MESSAGE_TOO_BIG),
    "no utf-8": (compressed(b"\xff"), CloseReason.INVALID_UTF8),
    "ping with RSV1": (frame(b"", PING, reserved=RSV1), CloseReason.PROTOCOL_ERROR),
    "continued with RSV1": (
        frame(b"\x00", fin=False, reserved=RSV1) + frame(b"", CONTINUATION, reserved=RSV1),
        CloseReason.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_what_cannot_be_read_ends_in_a_close_with_a_name(gateway: Gateway, charge_point_id: str, case: str) -> None:
    wire, reason = BREACHES[case]
    with connected(gateway, charge_point_id) as charger:
        charger.socket.send(wire)
        closing = charger.closed()
    assert (closing.close_code, closing.close_text) == (reason.code, reason.text)
    line = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    assert (line["close_reason"], line["close_code"]) == (reason.label, reason.code)


def test_it_can_be_switched_off(redis_url: str, brokers: str) -> None:
    provision(redis_url, "CP-flat")
    with Gateway(redis_url, brokers, OCPP_COMPRESSION="false") as gateway, connected(gateway, "CP-flat") as charger:
        assert charger.upgrade.header("Sec-WebSocket-Extensions") is None
        assert charger.call("1", "Heartbeat", {})[0] == 3
        charger.socket.send(compressed([2, "2", "Heartbeat", {}]))
        assert charger.closed().close_code == CloseReason.PROTOCOL_ERROR.code
