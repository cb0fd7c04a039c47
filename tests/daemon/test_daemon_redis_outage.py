"""Redis killed, frozen, and back with nothing in it: who is connected goes on, who is not hears 503, all heals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from attrs import define, field
from support.callers import Caller, event_2x, frozen, meter_16, ready, start_16, stop_16, until
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.stations import provision

from ocpp_gateway.redis.embedded import EmbeddedRedis

NODE = "node-1"
KNOWN, NEWCOMER, UNKNOWN = "CP-known", "CP-newcomer", "CP-unknown"


@define(eq=False)
class World:
    """A gateway, and a Redis that tests do things to; ``events`` is the conftest's."""

    server: EmbeddedRedis
    gateway: Gateway
    client: redis_py.Redis = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = redis_py.Redis.from_url(self.server.url)

    @property
    def url(self) -> str:
        return self.gateway.url("")

    def kill(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        self.gateway.wait_for("redis.trouble")

    def restart_empty(self) -> None:
        connected = len(self.gateway.logged("redis.connected"))
        self.server.start()
        self.client = redis_py.Redis.from_url(self.server.url)
        assert self.client.dbsize() == 0
        until(lambda: len(self.gateway.logged("redis.connected")) > connected, "the gateway to connect again")

    def session(self, charge_point_id: str) -> Any:
        raw: Any = self.client.get(f"sessions:{charge_point_id}")
        return raw and json.loads(raw)

    def ready(self) -> tuple[int, list[str]]:
        return ready(self.gateway.http_url("/ready"))

    def refuse_everybody_with_503(self) -> None:
        """Also who would be unknown, or has the wrong password: nobody can know that now."""
        for caller in (
            Caller(self.url, NEWCOMER),
            Caller(self.url, UNKNOWN, "2.0.1"),
            Caller(self.url, NEWCOMER, "2.1", password="the wrong password!"),
        ):
            refusal = caller.refused()
            assert refusal.status == 503
            assert refusal.retry_after is not None and 1 <= refusal.retry_after <= 60


@pytest.fixture
def world(brokers: str) -> Iterator[World]:
    with EmbeddedRedis(port=steady_ports()[0]) as server:
        for charge_point_id in (KNOWN, NEWCOMER):
            provision(server.url, charge_point_id)
        # Nothing of this is an error of ours: no line at error level is expected at all.
        with Gateway(server.url, brokers, NODE_ID=NODE, NODE_HEARTBEAT_SECONDS="1", NODE_TTL_SECONDS="4") as gateway:
            yield World(server, gateway)


def charging_goes_on(caller: Caller) -> dict[str, Any]:
    """Everything that a connected charge point says is answered. The StartTransaction's payload and answer."""
    caller.call("Heartbeat", {})
    if caller.version != "1.6":
        for number, kind in enumerate(("Started", "Updated", "Ended")):
            caller.call("TransactionEvent", event_2x(kind, number, "tx-outage"))
        return {}
    assert caller.call("Authorize", {"idTag": "TAG-1"})["idTagInfo"]["status"] == "Accepted"
    payload = start_16()
    started = caller.call("StartTransaction", payload)
    assert started["idTagInfo"]["status"] == "Accepted"
    caller.call("MeterValues", meter_16(started["transactionId"], 10))
    caller.call("MeterValues", meter_16(999_999, 10))  # one that would have to be looked up
    return {"payload": payload, "transactionId": started["transactionId"]}


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_killed_and_back_empty(world: World, version: str, events: Callable[..., list[dict[str, Any]]]) -> None:
    with Caller(world.url, KNOWN, version) as caller:
        charging_goes_on(caller)
        epoch = world.session(KNOWN)["epoch"]
        world.kill()
        start = charging_goes_on(caller)
        world.refuse_everybody_with_503()
        assert world.ready() == (503, ["redis_unavailable"])

        world.restart_empty()
        # What the gateway has to know by itself is written again, the rest is the operator's.
        session = until(lambda: world.session(KNOWN), "the session record")
        assert (session["nodeId"], session["epoch"]) == (NODE, epoch)
        assert world.client.exists(f"nodes:{NODE}") == 1
        assert world.ready() == (200, [])
        assert Caller(world.url, NEWCOMER).refused().status == 404  # nobody has provisioned it yet
        provision(world.server.url, NEWCOMER)
        with Caller(world.url, NEWCOMER) as newcomer:
            charging_goes_on(newcomer)
            assert world.session(NEWCOMER)["nodeId"] == NODE
        charging_goes_on(caller)
        if start:
            # What was started without Redis keeps its id, and can be stopped.
            again = caller.call("StartTransaction", start["payload"])
            assert again["transactionId"] == start["transactionId"]
            caller.call("StopTransaction", stop_16(start["transactionId"], 20))
    assert world.gateway.stop() == 0
    assert world.session(KNOWN) is None
    starts = [event for event in events(KNOWN) if event["payload"].get("transactionId") == start.get("transactionId")]
    assert not start or len(starts) >= 2
    assert world.client.exists(f"nodes:{NODE}") == 0


def test_frozen_and_thawed(world: World) -> None:
    with Caller(world.url, KNOWN) as caller:
        charging_goes_on(caller)
        with frozen(world.server):
            start = charging_goes_on(caller)
            world.refuse_everybody_with_503()
            assert world.ready() == (503, ["redis_unavailable"])
        until(lambda: world.ready() == (200, []), "/ready")
        with Caller(world.url, NEWCOMER, "2.1") as newcomer:
            charging_goes_on(newcomer)
        assert caller.call("StartTransaction", start["payload"])["transactionId"] == start["transactionId"]
        # It was longer than the lease: the others took the node for dead, and its sessions.
        session = until(lambda: world.session(KNOWN), "the session record")
        assert session["nodeId"] == NODE
        until(lambda: world.client.exists(f"nodes:{NODE}"), "the node's lease")


def test_a_session_that_ends_during_the_outage_is_given_back_after_it(world: World) -> None:
    with Caller(world.url, KNOWN):
        epoch = world.session(KNOWN)["epoch"]
        os.kill(world.server.pid, signal.SIGSTOP)
    try:
        world.gateway.wait_for("session.closed", charge_point_id=KNOWN)
        world.gateway.wait_for("redis.trouble")
    finally:
        os.kill(world.server.pid, signal.SIGCONT)
    until(lambda: world.session(KNOWN) is None, "the record to go")
    with Caller(world.url, KNOWN) as caller:
        caller.call("Heartbeat", {})
        assert world.session(KNOWN)["epoch"] > epoch


@pytest.mark.parametrize("how", ["restarted", "flushed"])
def test_an_old_connection_does_not_keep_its_charge_point_out_after_redis_lost_everything(
    brokers: str, how: str
) -> None:
    """The epochs begin anew then; the newest authenticated connection is the one that counts all the same.

    After a restart the gateway connects again and sees to its records at once; of a flush it hears later than the
    newcomer comes.
    """
    with EmbeddedRedis(port=steady_ports()[0]) as server:
        provision(server.url, KNOWN)
        with Gateway(server.url, brokers, NODE_ID=NODE, NODE_HEARTBEAT_SECONDS="10") as gateway:
            world = World(server, gateway)
            for _ in range(3):
                with Caller(world.url, KNOWN) as earlier:
                    earlier.call("Heartbeat", {})
            with Caller(world.url, KNOWN) as old:
                old.call("Heartbeat", {})
                assert world.session(KNOWN)["epoch"] == 4
                if how == "restarted":
                    world.kill()
                    world.restart_empty()
                else:
                    world.client.flushall()
                provision(server.url, KNOWN)
                with Caller(world.url, KNOWN) as new:  # its modem has a new address; the old socket hangs
                    new.call("Heartbeat", {})
                    assert old.close_code() == 1008
                    new.call("Heartbeat", {})
                    assert world.session(KNOWN)["epoch"] == 5


def test_an_id_given_without_redis_is_known_to_all_nodes_after_it(brokers: str) -> None:
    """Else the meter values of a transaction that outlives the node would look like nobody's."""
    with EmbeddedRedis(port=steady_ports()[0]) as server:
        provision(server.url, KNOWN)
        settings = {"NODE_HEARTBEAT_SECONDS": "1", "SESSION_TTL_SECONDS": "10"}
        with Gateway(server.url, brokers, **settings) as gateway:
            world = World(server, gateway)
            with Caller(world.url, KNOWN) as caller:
                world.kill()
                transaction_id = caller.call("StartTransaction", start_16())["transactionId"]
                world.restart_empty()
                until(lambda: world.client.exists(f"transaction-ids:{transaction_id}"), "the id to be registered")


def test_sigterm_while_redis_is_away_ends_in_time(world: World, events: Callable[..., list[dict[str, Any]]]) -> None:
    with Caller(world.url, KNOWN) as caller:
        caller.call("Heartbeat", {})
        connection_id = world.gateway.wait_for("session.opened", charge_point_id=KNOWN)["connection_id"]
        world.kill()
        os.kill(world.gateway.pid, signal.SIGTERM)
        assert caller.close_code() == 1012
        assert world.gateway.ended(seconds=15) == 0
    ends = [
        event["payload"]["reason"]
        for event in events(KNOWN)
        if event["eventType"] == "StationDisconnected" and event["connectionId"] == connection_id
    ]
    assert ends == ["service_restart"]
