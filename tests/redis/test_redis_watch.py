"""Those who are connected to two nodes, when their records in a real Redis change."""

from __future__ import annotations

import pytest
from adapters.adapter_ports import CALLER, OTHER
from session.session_parts import CERTIFICATE, Fleet, raw_record, standing
from twisted.logger import LogEvent

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.identities import Identities
from ocpp_gateway.session import revoking
from ocpp_gateway.session.session import Session

BOUND = {"type": "mtls", "certificates": [{"fingerprint": CERTIFICATE.fingerprint}]}


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    seen: list[LogEvent] = []
    monkeypatch.setattr(revoking.log, "observer", seen.append)
    return seen


class Node:
    """A gateway's sessions, records and watch."""

    def __init__(self, client: RedisClient, schemas: Schemas) -> None:
        self.identities = Identities(client)
        self.fleet = Fleet(schemas, self.identities)

    async def connect(self, caller: Caller = CALLER, shown: ClientCertificate | None = None) -> Session:
        """As a handshake does: by the record that is there."""
        found = await self.identities.look_up(caller.charge_point_id)
        assert found.record is not None
        rests_on = standing(certificate=shown, raw=found.record, caller=caller, store_id=self.identities.store_id)
        return self.fleet.connect(rests_on, caller)

    async def look(self) -> list[tuple[str, str]]:
        await self.fleet.watch.round()
        return self.fleet.revoked()


async def two_nodes(client: RedisClient, schemas: Schemas) -> tuple[Node, Node]:
    nodes = Node(client, schemas), Node(client, schemas)
    for node in nodes:
        await node.identities.start()
    return nodes


async def test_each_node_ends_its_own_sessions(client: RedisClient, schemas: Schemas) -> None:
    ours, theirs = await two_nodes(client, schemas)
    await ours.identities.put("CP-001", raw_record(CALLER, auth=BOUND))
    await ours.identities.put("CP-002", raw_record(OTHER))
    await ours.connect(CALLER, CERTIFICATE)
    await theirs.connect(OTHER)
    assert await ours.look() == await theirs.look() == []

    await theirs.identities.revoke(CERTIFICATE.fingerprint)
    assert await theirs.look() == []
    assert await ours.look() == [("CP-001", "mtls_revoked")]
    await ours.identities.put("CP-002", raw_record(OTHER, status="blocked"))
    assert await theirs.look() == [("CP-002", "status_inactive")]
    assert await ours.look() == [("CP-001", "mtls_revoked")]


async def test_a_deleted_charge_point_is_disconnected(client: RedisClient, schemas: Schemas) -> None:
    ours, theirs = await two_nodes(client, schemas)
    await ours.identities.put("CP-001", raw_record())
    await ours.connect()
    await theirs.identities.delete("CP-001")
    assert await ours.look() == [("CP-001", "identity_missing")]


async def test_a_redis_that_lost_its_data_costs_no_connection(client: RedisClient, schemas: Schemas) -> None:
    ours, theirs = await two_nodes(client, schemas)
    for caller in (CALLER, OTHER):
        await ours.identities.put(caller.charge_point_id, raw_record(caller))
    one, two = await ours.connect(CALLER), await theirs.connect(OTHER)
    await client.delete("store-id", "chargers:CP-001", "chargers:CP-002")
    for _ in range(2):
        assert await ours.look() == await theirs.look() == []
    assert one.close_reason is None
    assert two.close_reason is None

    # Restored, and one of them deleted then: that one is gone for good.
    for caller in (CALLER, OTHER):
        await ours.identities.put(caller.charge_point_id, raw_record(caller))
    assert await ours.look() == await theirs.look() == []
    await ours.identities.delete("CP-002")
    assert await ours.look() == []
    assert await theirs.look() == [("CP-002", "identity_missing")]


async def test_one_that_connects_while_the_store_becomes_another_one_is_found_too(
    client: RedisClient, schemas: Schemas
) -> None:
    """Its handshake took the id of the store before, which no round had seen change."""
    ours, _ = await two_nodes(client, schemas)
    await client.delete("store-id")
    await ours.identities.put("CP-001", raw_record())
    await ours.connect()
    assert await ours.look() == []
    await ours.identities.delete("CP-001")
    assert await ours.look() == [("CP-001", "identity_missing")]
