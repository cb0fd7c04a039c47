"""Who is connected and which nodes there are, as Redis knows it: for operators to look at, not to decide by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from attrs import frozen

from ocpp_gateway.redis.nodes import KNOWN_NODES, lease_key
from ocpp_gateway.redis.sessions import SessionRecord, node_sessions_key, record_key

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_BATCH = 500

ALIVE, GONE = "alive", "gone"
"""States of a node: it has a lease, or only left sessions behind that are still to be cleared away."""


@frozen
class SeenSession:
    """A session record, and whether the lease of its node is there. Without that it does not count."""

    record: SessionRecord
    node_is_alive: bool


@frozen
class SeenSessions:
    """All session records, in the order of the identities; ``unreadable``: identities of those that are none."""

    sessions: list[SeenSession]
    unreadable: list[str]


async def session_list(client: RedisClient) -> SeenSessions:
    """Read every session record. Raises StoreUnavailable."""
    found: dict[str, SessionRecord | None] = {}
    async for page in client.scan("*", beginning=record_key("")):
        keys = [key for key in dict.fromkeys(page) if key.removeprefix(record_key("")) not in found]
        for key, raw in zip(keys, await client.mget(keys) if keys else [], strict=True):
            if raw is not None:
                found[key.removeprefix(record_key(""))] = SessionRecord.parse(raw)
    records = [record for _, record in sorted(found.items()) if record is not None]
    leases = await _leases(client, {record.node_id for record in records})
    return SeenSessions(
        sessions=[SeenSession(record, leases[record.node_id] is not None) for record in records],
        unreadable=sorted(name for name, record in found.items() if record is None),
    )


async def node_list(client: RedisClient) -> list[dict[str, Any]]:
    """Every node, in the order of their names: ``nodeId``, ``state``, and what its lease says.

    One that is gone has ``sessionsLeft`` instead. Raises StoreUnavailable.
    """
    names: set[str] = set()
    async for page in client.scan("*", beginning=lease_key("")):
        names.update(key.removeprefix(lease_key("")) for key in page)
    async for members in client.members(KNOWN_NODES):
        names.update(name.decode("utf-8", "replace") for name in members)
    nodes: list[dict[str, Any]] = []
    for name, lease in (await _leases(client, names)).items():
        if lease is not None:
            nodes.append({"nodeId": name, "state": ALIVE, **lease})
        else:
            left = {member async for page in client.members(node_sessions_key(name)) for member in page}
            nodes.append({"nodeId": name, "state": GONE, "sessionsLeft": len(left)})
    return nodes


async def _leases(client: RedisClient, nodes: Iterable[str]) -> dict[str, dict[str, Any] | None]:
    """What the leases of ``nodes`` say, by their names in order; None where there is none."""
    names = sorted(nodes)
    leases: dict[str, dict[str, Any] | None] = {}
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        for name, raw in zip(batch, await client.mget([lease_key(name) for name in batch]), strict=True):
            leases[name] = None if raw is None else _members(raw)
    return leases


def _members(raw: bytes) -> dict[str, Any]:
    """Of a lease, ours or an earlier gateway's; its name and state are not for it to say."""
    try:
        lease = orjson.loads(raw)
    except ValueError:
        return {}
    if not isinstance(lease, dict):
        return {}
    return {name: value for name, value in lease.items() if name not in ("nodeId", "state")}
