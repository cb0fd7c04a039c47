"""Identity records for the gateway's Redis, written straight into it."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from typing import Any

from certificates import ClientIdentity
from charge_points import LoadError
from security import IDENTITY


def basic_auth(password: str) -> dict[str, Any]:
    """The record's ``auth`` for Basic credentials, with a salt of its own."""
    salt = secrets.token_hex(8)
    return {
        "type": "basic",
        "hashAlgorithm": "sha256",
        "secretSalt": salt,
        "secretHash": hashlib.sha256((salt + password).encode()).hexdigest(),
    }


def mtls_auth(certificate: ClientIdentity) -> dict[str, Any]:
    """The record's ``auth`` for one certificate, bound by its fingerprint."""
    return {"type": "mtls", "certificates": [{"fingerprint": certificate.fingerprint}]}


def provision(redis_port: int, auths: list[dict[str, Any]]) -> None:
    """Write the records of the charge points 1, 2, 3, ... with these ``auths``. Raises LoadError."""
    commands = []
    for number, auth in enumerate(auths, start=1):
        identity = IDENTITY % number
        record = {
            "chargePointId": identity,
            "stationId": f"station-{number:05d}",
            "tenantId": "benchmark",
            "status": "active",
            "allowedProtocols": ["1.6J", "2.0.1"],
            "auth": auth,
        }
        commands.append(_resp("SET", f"chargers:{identity}", json.dumps(record)))
    with socket.create_connection(("127.0.0.1", redis_port), 10) as connection:
        replies = b""
        for begin in range(0, len(commands), 500):
            chunk = commands[begin : begin + 500]
            connection.sendall(b"".join(chunk))
            replies += _exactly(connection, len(chunk) * len(b"+OK\r\n"))
    if replies != b"+OK\r\n" * len(commands):
        raise LoadError(f"Redis refused the identity records: {replies[:200]!r}")


def _resp(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            break
        data += more
    return data
