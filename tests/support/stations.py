"""Charge points that we did not write: the ``ocpp`` package over ``websockets``, for all three versions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import ocpp.v16
import ocpp.v16.call
import ocpp.v21
import ocpp.v21.call
import ocpp.v201
import ocpp.v201.call
import redis as redis_py
from websockets.asyncio.client import ClientConnection, connect

PASSWORD = "a password of 20 char"
TOKEN = "t0ken-of-a-charge-point"

SUBPROTOCOLS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}


def provision(redis_url: str, charge_point_id: str, **members: Any) -> None:
    """Write an identity record as an operator's back end would."""
    import json

    record = {
        "chargePointId": charge_point_id,
        "stationId": f"station-{charge_point_id}",
        "tenantId": "tenant-1",
        "status": "active",
        "auth": auth_rules("basic"),
        **members,
    }
    with redis_py.Redis.from_url(redis_url) as client:
        client.set(f"chargers:{charge_point_id}", json.dumps(record))


def basic(charge_point_id: str, password: str | bytes = PASSWORD) -> dict[str, str]:
    """The Authorization header."""
    secret = password.encode() if isinstance(password, str) else password
    return {"Authorization": "Basic " + b64encode(charge_point_id.encode() + b":" + secret).decode()}


def auth_rules(kind: str, text: str = PASSWORD) -> dict[str, Any]:
    """``auth`` of an identity record: ``basic``, ``token`` or, with a hash that must not count, ``mtls``."""
    return {
        "type": kind,
        "hashAlgorithm": "sha256",
        "secretSalt": "saltsalt",
        "secretHash": hashlib.sha256(b"saltsalt" + text.encode()).hexdigest(),
    }


@contextlib.asynccontextmanager
async def websocket(
    url: str, charge_point_id: str, subprotocol: str = "ocpp1.6", **options: Any
) -> AsyncIterator[ClientConnection]:
    """An upgraded connection."""
    headers = options.pop("headers", basic(charge_point_id))
    async with connect(url, subprotocols=[subprotocol], additional_headers=headers, **options) as connection:
        yield connection


@contextlib.asynccontextmanager
async def station(url: str, charge_point_id: str, version: str, **options: Any) -> AsyncIterator[Any]:
    """A connected charge point of the ``ocpp`` package; ``options`` as of ``websocket``."""
    library = {"1.6": ocpp.v16, "2.0.1": ocpp.v201, "2.1": ocpp.v21}[version]
    async with websocket(url, charge_point_id, SUBPROTOCOLS[version], **options) as connection:
        charge_point = library.ChargePoint(charge_point_id, connection)
        listening = asyncio.create_task(charge_point.start())
        try:
            yield charge_point
        finally:
            listening.cancel()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def charge_16(point: Any) -> list[Any]:
    """Boot, authorise, start, meter, stop; the answers."""
    call = ocpp.v16.call
    answers = [
        await point.call(call.BootNotification(charge_point_model="M", charge_point_vendor="V")),
        await point.call(call.StatusNotification(connector_id=1, error_code="NoError", status="Available")),
        await point.call(call.Heartbeat()),
        await point.call(call.Authorize(id_tag="TAG-1")),
        await point.call(call.StartTransaction(connector_id=1, id_tag="TAG-1", meter_start=100, timestamp=now())),
    ]
    transaction_id = answers[-1].transaction_id
    for energy in (150, 200):
        sampled = [{"value": str(energy), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}]
        answers.append(
            await point.call(
                call.MeterValues(
                    connector_id=1,
                    transaction_id=transaction_id,
                    meter_value=[{"timestamp": now(), "sampledValue": sampled}],
                )
            )
        )
    answers.append(
        await point.call(call.StopTransaction(meter_stop=250, timestamp=now(), transaction_id=transaction_id))
    )
    return answers


async def charge_2x(point: Any, library: Any) -> list[Any]:
    """The same in 2.0.1 and 2.1."""
    call = library.call
    token = {"idToken": "TAG-1", "type": "ISO14443"}

    def event(kind: str, number: int, reason: str, **more: Any) -> Any:
        return call.TransactionEvent(
            event_type=kind,
            timestamp=now(),
            trigger_reason=reason,
            seq_no=number,
            transaction_info={"transactionId": f"tx-{point.id}"},
            **more,
        )

    return [
        await point.call(call.BootNotification(charging_station={"model": "M", "vendorName": "V"}, reason="PowerUp")),
        await point.call(
            call.StatusNotification(timestamp=now(), connector_status="Available", evse_id=1, connector_id=1)
        ),
        await point.call(call.Heartbeat()),
        await point.call(call.Authorize(id_token=token)),
        await point.call(event("Started", 0, "Authorized", id_token=token, evse={"id": 1, "connectorId": 1})),
        await point.call(
            event(
                "Updated",
                1,
                "MeterValuePeriodic",
                meter_value=[{"timestamp": now(), "sampledValue": [{"value": 150.0}]}],
            )
        ),
        await point.call(event("Ended", 2, "EVDeparted")),
    ]


async def charge(point: Any, version: str) -> list[Any]:
    """A whole charging session in ``version``."""
    if version == "1.6":
        return await charge_16(point)
    return await charge_2x(point, {"2.0.1": ocpp.v201, "2.1": ocpp.v21}[version])
