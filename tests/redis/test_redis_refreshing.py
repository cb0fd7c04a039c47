from __future__ import annotations

from collections.abc import Iterable

from redis_support import connected_client, connection_change, until, using
from support.manual_clock import ManualClock
from test_redis_ownership import node, record, stored

from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.embedded import EmbeddedRedis
from ocpp_gateway.redis.nodes import NodeLease
from ocpp_gateway.redis.ownership_results import Superseded
from ocpp_gateway.redis.refreshing import Refresher
from ocpp_gateway.redis.sessions import SessionRecord


async def test_each_round_refreshes_the_sessions_there_are_and_tells_the_superseded(client: RedisClient) -> None:
    ours, clock = node(client, "node-a"), ManualClock()
    sessions = [(await ours.claim(record(number=number))).record for number in (1, 2)]
    superseded: list[Superseded] = []
    refresher = Refresher(
        ownership=ours,
        clock=clock,
        interval=100,
        sessions=lambda: (session for session in tuple(sessions)),
        superseded=superseded.append,
    )
    refresher.start()
    await until(lambda: refresher.last_refreshed == 0)
    assert superseded == []
    await client.delete("sessions:CP-001")
    await node(client, "node-b").claim(record("node-b", number=2))
    clock.advance(100)
    await until(lambda: refresher.last_refreshed == 100)
    assert [lost.charge_point_id for lost in superseded] == ["CP-002"]
    assert await stored(client, 1) is not None
    refresher.stop()
    assert clock.timers.getDelayedCalls() == []


async def test_a_redis_that_comes_back_empty_has_lease_and_sessions_again(own_server: EmbeddedRedis) -> None:
    async with using(await connected_client(own_server.url)) as client:
        ours, clock = node(client, "node-a"), ManualClock()
        claim = await ours.claim(record())

        def sessions() -> Iterable[SessionRecord]:
            yield claim.record

        refresher = Refresher(
            ownership=ours, clock=clock, interval=100, sessions=sessions, superseded=lambda lost: None
        )
        lease = NodeLease(
            client=client, clock=clock, node_id="node-a", ttl=30, heartbeat=10, vanished=refresher.run_now
        )
        client.observe(lambda connected: lease.renew_now() if connected else None)
        refresher.start()
        lease.start()
        await until(lambda: refresher.last_refreshed == 0)
        await until(lambda: lease.last_renewed is not None)
        back = connection_change(client, True)
        own_server.stop()
        own_server.start()
        clock.advance(1)
        await back
        await until(lambda: refresher.last_refreshed == 1)
        assert await ours.current("CP-001") == claim.record
        refresher.stop()
        await lease.stop()
