"""A gateway's port behind proxies: connections from addresses of this machine, some of which it trusts."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define
from support.certificates import Pki
from support.gateway import Gateway
from support.raw_socket import CLOSE, RawSocket, frame, handshake, metric
from support.stations import basic, provision
from support.topic_tail import TopicTail

TRUSTED = "127.9.0.0/16"
PROXIES = (f"127.9.{middle}.{low}" for middle in range(1, 250) for low in range(1, 250))
"""Addresses that are trusted: each test takes some of its own."""

CLIENTS = (f"203.0.{middle}.{low}" for middle in range(113, 250) for low in range(1, 250))
"""Addresses that proxies speak of."""

_numbers = itertools.count(1)

Headers = Iterable[tuple[str, str]]


@define(eq=False)
class Door:
    """A port of a gateway that trusts PROXIES."""

    gateway: Gateway
    port: int
    redis_url: str
    station_events: TopicTail
    pki: Pki | None = None

    def enroll(self, **members: Any) -> str:
        charge_point_id = f"CP-proxied-{os.getpid()}-{next(_numbers)}"
        provision(self.redis_url, charge_point_id, **members)
        return charge_point_id

    @contextlib.contextmanager
    def connection(self, *pieces: bytes, address: str, tls: ssl.SSLContext | None = None) -> Iterator[RawSocket]:
        """From ``address``, with ``pieces`` sent before everything else, each read before the next one comes."""
        with RawSocket(self.port, address=address) as connection:
            for number, piece in enumerate(pieces):
                if number:
                    metric(self.gateway.http_port, "ocpp_build_info")  # a turn of the gateway's
                connection.send(piece)
            if tls is not None:
                connection._socket = tls.wrap_socket(connection._socket, server_hostname="127.0.0.1")
            yield connection

    def status(
        self,
        charge_point_id: str,
        *pieces: bytes,
        address: str,
        tls: ssl.SSLContext | None = None,
        headers: Headers = (),
        password: bool = True,
    ) -> int:
        """The status that a handshake is answered with; who is let in leaves again."""
        credentials = basic(charge_point_id).items() if password else ()
        with self.connection(*pieces, address=address, tls=tls) as connection:
            connection.send(handshake(f"/ocpp/{charge_point_id}", headers=[*credentials, *headers]))
            status = connection.response().status
            if status == 101:
                connection.send(frame(b"\x03\xe8", CLOSE))
                connection.rest()
            return status

    def connected(self, charge_point_id: str) -> tuple[str, int]:
        """From where, and with which security profile, a charge point was let in: the same in log and events."""
        line = self.gateway.wait_for("session.opened", charge_point_id=charge_point_id)
        event = self.station_events.wait_for(lambda event: event["chargePointId"] == charge_point_id)
        assert event["eventType"] == "StationConnected"
        told = event["payload"]["peer"], event["payload"]["securityProfile"]
        assert told == (line["peer"], line["security_profile"])
        return line["peer"], line["security_profile"]

    def refused(self, peer: str) -> str:
        """Why a handshake from there was refused."""
        return str(self.gateway.wait_for("handshake.refused", peer=peer)["reason"])

    def count(self, reason: str) -> float:
        return metric(self.gateway.http_port, "ocpp_handshakes_total", result="refused", reason=reason)
