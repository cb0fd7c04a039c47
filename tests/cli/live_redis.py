"""Sessions and nodes as gateways would leave them in Redis, written by a client that is not the project's."""

from __future__ import annotations

import json
import time
from typing import Any

import redis as redis_py
from attrs import define, field

from ocpp_gateway.redis.sessions import SessionRecord


def ms_ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1000)


def record(charge_point_id: str, node_id: str = "node-a", **members: Any) -> SessionRecord:
    """Connected an hour ago, heard a second ago, unless ``members`` says otherwise."""
    given: dict[str, Any] = {
        "ocpp_version": "1.6J",
        "station_id": f"S-{charge_point_id}",
        "tenant_id": "acme",
        "connected_at_ms": ms_ago(3600),
        "last_seen_at_ms": ms_ago(1),
        "security_profile": 2,
        "peer": "192.0.2.7",
        "epoch": 7,
        **members,
    }
    return SessionRecord(charge_point_id=charge_point_id, node_id=node_id, **given)


@define(eq=False)
class LiveRedis:
    """The Redis of ``place``, the environment of a command."""

    place: dict[str, str]
    client: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = redis_py.Redis.from_url(self.place["REDIS_URL"])

    def key(self, name: str) -> str:
        return f"{self.place['REDIS_PREFIX']}:{name}"

    def store(self, *sessions: SessionRecord) -> None:
        """Session records, each in its node's index as well."""
        for session in sessions:
            self.client.set(self.key(f"sessions:{session.charge_point_id}"), session.encode())
            self.client.sadd(self.key(f"node-sessions:{session.node_id}"), session.charge_point_id)
            self.client.sadd(self.key("known-nodes"), session.node_id)

    def lease(self, node_id: str, **members: Any) -> None:
        self.client.set(self.key(f"nodes:{node_id}"), json.dumps({"nodeId": node_id, **members}))
        self.client.sadd(self.key("known-nodes"), node_id)

    def close(self) -> None:
        self.client.close()
