"""Connections on which permessage-deflate was agreed upon, with another library at the client's end."""

from __future__ import annotations

import gc
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory
from hypothesis import given
from hypothesis import strategies as st
from support.raw_socket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ocpp_gateway.handshake.request import RequestHead
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.websocket.frames import text_frame
from ocpp_gateway.websocket.lean import LeanServerProtocol, with_options

MOST = 262_144
RSV1 = 4
CALL = b'[2,"a","Heartbeat",{}]'


class Transport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Server(LeanServerProtocol):
    """Takes every request and collects what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.refused: list[CloseReason] = []

    def processHandshake(self) -> None:
        head, self.data = RequestHead.parse(self.data), b""
        self.read_handshake(head, ["ocpp1.6"], compression=self.factory.compression)
        self.succeedHandshake("ocpp1.6")

    def onOpen(self) -> None:
        self.forget_handshake()
        self.transport.registerProducer(self, True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(payload)

    def unreadable_message(self, reason: CloseReason) -> None:
        self.refused.append(reason)
        self.sendCloseFrame(code=reason.code, reasonUtf8=reason.text.encode())


class Factory(WebSocketServerFactory):
    def __init__(self, compression: bool) -> None:
        super().__init__(server="")
        self.compression = compression
        self.setProtocolOptions(
            versions=[13],
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            maxFramePayloadSize=MOST,
            maxMessagePayloadSize=MOST,
        )
        self.protocol = with_options(Server, self)


class Connection:
    """Our protocol, and ``websockets`` as the charge point; what the one writes the other gets."""

    def __init__(self, factory: Factory, **offer: Any) -> None:
        self.server: Any = factory.buildProtocol(None)
        self.transport = Transport()
        self.server.makeConnection(self.transport)
        self.client = ClientProtocol(
            parse_uri("ws://localhost/"),
            extensions=[ClientPerMessageDeflateFactory(**offer)],
            subprotocols=[Subprotocol("ocpp1.6")],
        )
        self.client.send_request(self.client.connect())
        self.exchange()
        (self.response,) = self.client.events_received()
        assert self.client.handshake_exc is None

    def exchange(self, piece: int = 1 << 20) -> None:
        self.say(b"".join(self.client.data_to_send()), piece)

    def say(self, wire: bytes, piece: int = 1 << 20) -> None:
        """Bytes of the charge point's, perhaps past its library, as many at a time as ``piece``."""
        for place in range(0, len(wire), piece):
            self.server.dataReceived(wire[place : place + piece])
        self.hear(self.transport.value())
        self.transport.clear()

    def hear(self, wire: bytes) -> None:
        """Bytes of ours."""
        self.client.receive_data(wire)

    def close_code(self) -> int | None:
        """What the charge point was told; its answer ends the connection, if it has not ended."""
        self.exchange()
        assert self.transport.disconnecting
        return self.client.close_rcvd and self.client.close_rcvd.code


@pytest.fixture(scope="module")
def factory() -> Factory:
    return Factory(compression=True)


@pytest.fixture(autouse=True)
def no_errors() -> Iterator[None]:
    errors = []

    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            errors.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    assert errors == []


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressed(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    return frame(payload, opcode, fin=fin, reserved=RSV1)


READINGS = json.dumps([{"value": str(n), "measurand": "Voltage", "unit": "V"} for n in range(2000)]).encode()


@pytest.mark.parametrize("text", [b"", b"[]", CALL, READINGS], ids=len)
@pytest.mark.parametrize("offer", [{}, {"client_max_window_bits": 9, "server_max_window_bits": 9}], ids=str)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_messages_both_ways(factory: Factory, text: bytes, offer: dict[str, Any], piece: int) -> None:
    connection = Connection(factory, **offer)
    for _ in range(3):
        connection.client.send_text(text)
        connection.exchange(piece)
        connection.hear(connection.server.framed(text))
    assert connection.server.messages == [text] * 3
    heard = [event for event in connection.client.events_received() if isinstance(event, Frame)]
    assert [(event.opcode, event.data) for event in heard] == [(Opcode.TEXT, text)] * 3
    connection.client.send_close(1000)
    connection.exchange()
    assert connection.server.wasClean


def test_what_is_long_is_sent_short(factory: Factory) -> None:
    connection = Connection(factory)
    assert len(connection.server.framed(READINGS)) < len(READINGS) / 5
    assert connection.server.framed(CALL)[2:] == CALL


texts = st.text(max_size=300) | st.sampled_from(["0" * 5000, READINGS.decode()[:5000]])


@given(
    messages=st.lists(st.tuples(texts, st.booleans(), st.lists(st.integers(0, 5000), max_size=4)), max_size=6),
    piece=st.integers(1, 5000),
)
def test_fragmented_and_mixed_with_others_messages_are_what_they_were(
    factory: Factory, messages: list[tuple[str, bool, list[int]]], piece: int
) -> None:
    connection = Connection(factory)
    wire = []
    for text, is_compressed, cuts in messages:
        payload = deflated(text.encode()) if is_compressed else text.encode()
        places = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        parts = [payload[begin:end] for begin, end in pairwise(places)]
        for number, part in enumerate(parts):
            reserved = RSV1 if is_compressed and number == 0 else 0
            opcode = CONTINUATION if number else TEXT
            wire.append(frame(part, opcode, fin=number == len(parts) - 1, reserved=reserved))
            wire.append(frame(b"between", PING))
    connection.say(b"".join(wire), piece)
    assert connection.server.messages == [text.encode() for text, _, _ in messages]


def test_nothing_is_agreed_upon_where_the_operator_does_not_want_it() -> None:
    connection = Connection(Factory(compression=False))
    assert "Sec-WebSocket-Extensions" not in connection.response.headers
    connection.client.send_text(READINGS)
    connection.exchange()
    assert connection.server.messages == [READINGS]
    assert connection.server.framed(READINGS) == text_frame(READINGS)
    connection.say(compressed(deflated(CALL)))
    assert connection.close_code() == 1002


# What is not taken. Behind each comes a message as it should be, which is not taken either.

PROTOCOL_ERROR, TOO_BIG, RATIO = CloseReason.PROTOCOL_ERROR, CloseReason.MESSAGE_TOO_BIG, CloseReason.COMPRESSION_RATIO
INVALID_UTF8 = CloseReason.INVALID_UTF8
DIGITS = Random(7).randbytes(100_000).hex().encode()
BOMB = deflated(b" " * 200_000)
NOT_TAKEN = {
    "no deflate": (compressed(CALL), PROTOCOL_ERROR),
    "cut off": (compressed(deflated(READINGS)[:-50]), PROTOCOL_ERROR),
    "cut off in fragments": (compressed(deflated(READINGS)[:50], fin=False) + frame(b"", CONTINUATION), PROTOCOL_ERROR),
    "bomb": (compressed(BOMB), RATIO),
    "bomb in fragments": (compressed(BOMB[:9], fin=False) + frame(BOMB[9:], CONTINUATION), RATIO),
    "binary bomb": (compressed(BOMB, BINARY), RATIO),
    "great bomb": (compressed(deflated(b" " * 50_000_000)), TOO_BIG),
    "too big": (compressed(deflated(DIGITS + READINGS)), TOO_BIG),
    "no utf-8": (compressed(deflated(b'["\xff"]')), INVALID_UTF8),
    "half a character": (compressed(deflated(b"\xc3")), INVALID_UTF8),
    "a surrogate": (compressed(deflated(b'["\xed\xa0\x80"]')), INVALID_UTF8),
}
AUTOBAHN_REFUSES = {
    "too big as it comes": (compressed(DIGITS, fin=False) + frame(DIGITS, CONTINUATION), 1009),
    "continued with RSV1": (compressed(b"\x00", fin=False) + compressed(b"\x00", CONTINUATION), 1002),
    "uncompressed, continued with RSV1": (frame(b"[", fin=False) + compressed(b"]", CONTINUATION), 1002),
    "continuation of nothing": (compressed(b"\x00", CONTINUATION), 1002),
    "ping with RSV1": (compressed(b"ping", PING), 1002),
    "pong with RSV1": (compressed(b"pong", PONG), 1002),
    "RSV2": (frame(CALL, reserved=2), 1002),
    "RSV1 and RSV3": (frame(deflated(CALL), reserved=5), 1002),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_what_cannot_be_read_ends_the_connection_for_a_reason(factory: Factory, case: str, piece: int) -> None:
    wire, reason = NOT_TAKEN[case]
    connection = Connection(factory)
    connection.say(wire + compressed(deflated(CALL)) + frame(CALL), piece)
    assert connection.close_code() == reason.code
    assert connection.server.refused == [reason]
    assert connection.server.wasClean


@pytest.mark.parametrize("case", AUTOBAHN_REFUSES)
@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_a_breach_of_the_protocol_ends_the_connection(factory: Factory, case: str, piece: int) -> None:
    wire, code = AUTOBAHN_REFUSES[case]
    connection = Connection(factory)
    connection.say(wire + compressed(deflated(CALL)) + frame(CALL), piece)
    assert connection.close_code() == code
    assert (connection.server.messages, connection.server.refused) == ([], [])


def test_a_close_frame_with_rsv1_ends_it_too(factory: Factory) -> None:
    connection = Connection(factory)
    connection.say(compressed(b"\x03\xe8", CLOSE))
    assert connection.transport.disconnecting
    assert connection.client.close_rcvd is not None
    assert connection.client.close_rcvd.code == 1002


def test_a_message_that_we_did_not_wait_for_is_not_read(factory: Factory) -> None:
    connection = Connection(factory)
    payload = deflated(READINGS)
    connection.say(compressed(payload[:50], fin=False))
    connection.server.sendCloseFrame(code=1012)
    connection.say(frame(payload[50:], CONTINUATION) + compressed(BOMB))
    assert connection.close_code() == 1012
    assert (connection.server.messages, connection.server.refused) == ([], [])


def test_a_connection_on_which_it_was_agreed_upon_costs_no_more_memory() -> None:
    def cost(factory: Factory) -> float:
        connections = []
        before = 0
        for count in range(150):
            if count == 50:  # what is only there once is there by now
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
            connection = Connection(factory)
            for text in (CALL, READINGS):
                connection.client.send_text(text)
                connection.exchange()
                connection.hear(connection.server.framed(text))
            assert connection.server.messages == [CALL, READINGS]
            connection.server.messages.clear()
            connection.transport.clear()
            connections.append((connection.server, connection.transport))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / 100

    tracemalloc.start()
    try:
        without, with_it = cost(Factory(compression=False)), cost(Factory(compression=True))
    finally:
        tracemalloc.stop()
    assert with_it - without < 1024
