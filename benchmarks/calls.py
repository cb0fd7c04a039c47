"""The CALLs of the benchmarks, as a 1.6 charge point writes them, and their WebSocket frames.

The measured CALL is a MeterValues of about 645 bytes, as a charging session produces them. On one connection only the
message id and the meter's reading differ from CALL to CALL, so a frame is put together from pieces that were masked
beforehand: the generator must cost much less than the server it measures.
"""

from __future__ import annotations

import json
import os
from typing import Any

from attrs import define, field, frozen

DIGITS = 8
"""Digits of a CALL's number: enough for 100 million CALLs in one run."""

_NO_NUMBER = "0" * DIGITS

_ENERGY = "Energy.Active.Import.Register"
_PHASES = (("L1", "231.4", "15.8"), ("L2", "230.9", "15.7"))


def meter_values(transaction_id: int) -> dict[str, Any]:
    """Payload of a MeterValues.req (OCPP 1.6, 6.31) of a running transaction."""
    sampled: list[dict[str, str]] = [
        {"value": "1" + _NO_NUMBER, "context": "Sample.Periodic", "measurand": _ENERGY, "unit": "Wh"},
        {"value": "9871.0", "measurand": "Power.Active.Import", "unit": "W"},
    ]
    for phase, voltage, current in _PHASES:
        sampled.append({"value": voltage, "measurand": "Voltage", "phase": phase, "unit": "V"})
        sampled.append({"value": current, "measurand": "Current.Import", "phase": phase, "unit": "A"})
    sampled.append({"value": "57", "measurand": "SoC", "unit": "Percent"})
    return {
        "connectorId": 1,
        "transactionId": transaction_id,
        "meterValue": [{"timestamp": "2026-01-15T10:20:30Z", "sampledValue": sampled}],
    }


def boot_notification() -> dict[str, Any]:
    """Payload of a BootNotification.req (OCPP 1.6, 6.5)."""
    return {"chargePointVendor": "Benchmark", "chargePointModel": "Closed loop"}


def start_transaction() -> dict[str, Any]:
    """Payload of a StartTransaction.req (OCPP 1.6, 6.45)."""
    return {"connectorId": 1, "idTag": "BENCH-TAG", "meterStart": 0, "timestamp": "2026-01-15T10:00:00Z"}


def call(message_id: str, action: str, payload: dict[str, Any]) -> bytes:
    """One CALL, in JSON without spaces."""
    return json.dumps([2, message_id, action, payload], separators=(",", ":")).encode()


def call_result(message_id: str, payload: dict[str, Any]) -> bytes:
    """One CALLRESULT."""
    return json.dumps([3, message_id, payload], separators=(",", ":")).encode()


def masked(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """``data`` under the mask ``key``, when it begins ``offset`` bytes into the WebSocket payload (RFC 6455, 5.3)."""
    turned = key[offset % 4 :] + key[: offset % 4]
    stream = (turned * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def client_frame(data: bytes, key: bytes, opcode: int = 1) -> bytes:
    """A whole, final, masked WebSocket frame (RFC 6455, 5.2) around ``data``."""
    return _header(len(data), key, opcode) + masked(data, key)


def _header(length: int, key: bytes, opcode: int = 1) -> bytes:
    first = bytes([0x80 | opcode])
    if length < 126:
        return first + bytes([0x80 | length]) + key
    if length < 65536:
        return first + b"\xfe" + length.to_bytes(2, "big") + key
    return first + b"\xff" + length.to_bytes(8, "big") + key


@define
class NumberedFrames:
    """Frames of MeterValues that differ in one number of eight digits: it ends the message id and is in the reading.

    Content that was said before is recognised as a repetition, so every CALL has to say something new.

    One mask key serves for a whole run. RFC 6455 wants a fresh one per frame, to protect proxies in between; there
    are none here, and for the server it is the same work.
    """

    prefix: str
    """Of the message ids."""

    key: bytes = field(factory=lambda: os.urandom(4))
    _masked_digits: list[list[bytes]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Four digits are as long as the mask, so a group of four looks the same wherever it begins at the same turn.
        self._masked_digits = [
            [masked(b"%04d" % number, self.key, turn) for number in range(10_000)] for turn in range(4)
        ]

    def pieces(self, transaction_id: int) -> FramePieces:
        """The frames of one connection."""
        plain = call(self.prefix + _NO_NUMBER, "MeterValues", meter_values(transaction_id))
        frame = client_frame(plain, self.key)
        header = len(frame) - len(plain)
        first = len(f'[2,"{self.prefix}')
        second = plain.index(f'"value":"1{_NO_NUMBER}"'.encode()) + len('"value":"1')
        return FramePieces(
            head=frame[: header + first],
            middle=frame[header + first + DIGITS : header + second],
            tail=frame[header + second + DIGITS :],
            digits_of_id=self._masked_digits[first % 4],
            digits_of_reading=self._masked_digits[second % 4],
        )


@frozen
class FramePieces:
    """What a frame is put together from."""

    head: bytes
    middle: bytes
    tail: bytes
    digits_of_id: list[bytes]
    digits_of_reading: list[bytes]

    def frame(self, number: int) -> bytes:
        """The frame of CALL ``number``."""
        high, low = divmod(number, 10_000)
        of_id, of_reading = self.digits_of_id, self.digits_of_reading
        return b"".join((self.head, of_id[high], of_id[low], self.middle, of_reading[high], of_reading[low], self.tail))
