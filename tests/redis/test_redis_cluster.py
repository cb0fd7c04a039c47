"""An operator's word about a session, wherever it is."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from redis_support import Listener, reason_of
from test_redis_ownership import node, record

from ocpp_gateway.redis.bus_messages import BusMessage, CommandDone, SessionKick, SessionSuperseded
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.cluster import Cluster
from ocpp_gateway.redis.nodes import lease_key


@define(eq=False)
class Here:
    """The sessions of this node, by charge point, and what they were told."""

    epochs: dict[str, int] = field(factory=dict)
    told: list[tuple[str, str, int | None]] = field(factory=list)
    others: list[BusMessage] = field(factory=list)

    def kick(self, charge_point_id: str, epoch: int | None = None) -> bool:
        self.told.append(("kick", charge_point_id, epoch))
        return charge_point_id in self.epochs

    def transferred(self, charge_point_id: str, epoch: int) -> None:
        self.told.append(("transferred", charge_point_id, epoch))


def cluster(client: RedisClient, here: Here) -> Cluster:
    return Cluster(
        client=client,
        ownership=node(client, "node-b"),
        local=here,
        records=lambda: [record("node-b")],
        others=here.others.append,
    )


async def elsewhere(client: RedisClient) -> None:
    await client.set(lease_key("node-a"), b"{}")
    await node(client, "node-a").claim(record("node-a"))


async def test_one_of_ours_is_ended_here(client: RedisClient) -> None:
    assert await cluster(client, Here({"CP-001": 1})).kick("CP-001")


async def test_one_of_another_node_is_ended_there(client: RedisClient, bus_of_node_a: Listener) -> None:
    await elsewhere(client)
    assert await cluster(client, Here()).kick("CP-001")
    message: dict[str, Any] = json.loads(bus_of_node_a.read_message())
    assert (message["type"], message["chargePointId"], message["epoch"]) == ("session_kick", "CP-001", 1)


async def test_a_node_that_does_not_hear_is_not_nobody(client: RedisClient) -> None:
    await elsewhere(client)
    error = await reason_of(cluster(client, Here()).kick("CP-001"))
    assert "node-a" in str(error)


async def test_one_that_is_nowhere_is_not_there(client: RedisClient) -> None:
    assert not await cluster(client, Here()).kick("CP-001")


def test_what_is_heard_is_done(client: RedisClient) -> None:
    here = Here()
    ours = cluster(client, here)
    ours.received(SessionSuperseded(charge_point_id="CP-001", node_id="node-a", epoch=5))
    ours.received(SessionKick(charge_point_id="CP-002", epoch=None, actor="http", reason="kicked"))
    assert here.told == [("transferred", "CP-001", 4), ("kick", "CP-002", None)]
    assert [each["chargePointId"] for each in ours.sessions()] == ["CP-001"]


async def test_what_is_not_about_sessions_is_for_others(client: RedisClient) -> None:
    here = Here()
    cluster(client, here).received(CommandDone(command_id="c-1"))
    assert here.others == [CommandDone(command_id="c-1")]
    assert here.told == []
