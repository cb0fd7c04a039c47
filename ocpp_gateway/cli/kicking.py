"""Ending a session from outside of its node: ask the node over its bus, and see that the session record goes."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from ocpp_gateway.cli.audit import actor
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.clock import SystemClock
from ocpp_gateway.redis.bus import kick
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.nodes import lease_key
from ocpp_gateway.redis.sessions import SessionRecord, record_key

_SECONDS = 8.0
"""A charge point that does not answer the close frame is cut off after five."""

_LOOK_SECONDS = 0.1


async def end_session(client: RedisClient, reactor: Any, charge_point_id: str, reason: str) -> SessionRecord:
    """End the session that there is, and give its record. Raises Failure unless it is gone, or followed by another."""
    record = await _held(client, charge_point_id)
    clock = SystemClock(reactor)
    end = clock.monotonic() + _SECONDS
    heard = 0
    while clock.monotonic() < end:
        if not heard:  # a node that is just back on its bus hears it later
            heard = await kick(
                client, record.node_id, charge_point_id, epoch=record.epoch or None, actor=actor(), reason=reason
            )
        if not await _is_there(client, record):
            return record
        await deferLater(reactor, _LOOK_SECONDS)
    if not heard:
        raise Failure(
            f"Node {record.node_id} does not answer, so {charge_point_id} is still connected to it.",
            "Does it run, with a connection to this Redis? 'nodes' shows when it was last seen.",
        )
    raise Failure(
        f"Node {record.node_id} was told, but {charge_point_id} is still connected after {_SECONDS:g} s.",
        "Look into the log of that node, and try again.",
    )


async def _held(client: RedisClient, charge_point_id: str) -> SessionRecord:
    raw = await client.get(record_key(charge_point_id))
    if raw is None:
        raise Failure(f"{charge_point_id} is not connected.", "'sessions' shows who is.")
    record = SessionRecord.parse(raw)
    if record is None:
        raise Failure(
            f"What Redis has in place of the session record of {charge_point_id} cannot be read.",
            "So it is not known which node to ask. 'charger disable' ends the session on any.",
        )
    if await client.get(lease_key(record.node_id)) is None:
        raise Failure(
            f"Node {record.node_id}, which {charge_point_id} was connected to, is gone.",
            "There is nobody to be kicked: the charge point can connect to any node, and the others clear away what is "
            "left of its session.",
        )
    return record


async def _is_there(client: RedisClient, session: SessionRecord) -> bool:
    raw = await client.get(record_key(session.charge_point_id))
    found = None if raw is None else SessionRecord.parse(raw)
    return found is not None and (found.epoch, found.node_id, found.connected_at_ms) == (
        session.epoch,
        session.node_id,
        session.connected_at_ms,
    )
