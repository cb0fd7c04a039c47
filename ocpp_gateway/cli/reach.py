"""Whether anybody listens at an address at all.

Clients of Redis and Kafka go on trying for as long as they are given, which is right for a gateway; a person wants to
hear at once that nothing runs there. Asked only after a client had a moment without success: servers with TLS log
connections that end before they begin.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocpp_gateway.redis.url import RedisUrl

Address = tuple[str, int] | str
"""Host and port, or the path of a socket."""

_SECONDS = 1.0
_BROKER = re.compile(r"(?:\w+://)?(?:\[([^\]]+)\]|([^:/\[\]]+))(?::(\d+))?")
_KAFKA_PORT = 9092


def refusal(addresses: Iterable[Address]) -> str | None:
    """Why there is no connection to be had, if each of ``addresses`` is refused or cannot be reached; else None.

    One that stays silent for a second is not refused: its client has more patience.
    """
    reasons = []
    for address in addresses:
        try:
            _connect(address).close()
        except TimeoutError:
            return None
        except OSError as error:
            reasons.append(error.strerror or str(error))
        else:
            return None
    return "; ".join(dict.fromkeys(reasons)) or None


def redis_address(url: RedisUrl) -> Address:
    """Where ``url`` points to."""
    return url.socket_path if url.scheme == "unix" else (url.host, url.port)


def kafka_addresses(brokers: str) -> list[Address]:
    """The brokers of a list as librdkafka takes it. What is no address is left out."""
    matches = [_BROKER.fullmatch(part.strip()) for part in brokers.split(",")]
    return [(match[1] or match[2], int(match[3] or _KAFKA_PORT)) for match in matches if match is not None]


def _connect(address: Address) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, _SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_SECONDS)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
