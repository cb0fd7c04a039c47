"""Headers of the PROXY protocol, by hand from HAProxy's specification."""

from __future__ import annotations

import socket
import struct

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX = 0x11, 0x12, 0x21, 0x22, 0x31


def v1(source: str, destination: str = "192.0.2.1", ports: str = "50000 8080") -> bytes:
    """A line of version 1 for a TCP connection."""
    family = "TCP6" if ":" in source else "TCP4"
    if family == "TCP6" and ":" not in destination:
        destination = "2001:db8::1"
    return f"PROXY {family} {source} {destination} {ports}\r\n".encode()


def v2_raw(command: int, family: int, body: bytes, *, length: int | None = None) -> bytes:
    """A header of version 2 of any content; ``length`` is what it says of its body, if not the truth."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def v2(source: str, *, more: bytes = b"") -> bytes:
    """A header of version 2 for a TCP connection; ``more`` follows the addresses."""
    is_v6 = ":" in source
    family, destination = (socket.AF_INET6, "2001:db8::1") if is_v6 else (socket.AF_INET, "192.0.2.1")
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    return v2_raw(PROXY, TCP6 if is_v6 else TCP4, addresses + struct.pack("!HH", 50000, 8080) + more)


def v2_unix() -> bytes:
    """A header of version 2 for a UNIX socket."""
    return v2_raw(PROXY, UNIX, b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0"))


def tlv(kind: int, value: bytes) -> bytes:
    """What may follow the addresses in version 2."""
    return struct.pack("!BH", kind, len(value)) + value
