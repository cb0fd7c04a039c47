"""Two nodes on one Redis: whoever a charge point came to last has it, and both know so."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from attrs import define, field
from support.callers import until
from support.gateway import Gateway
from support.nodes import (
    REPLACED,
    TRANSFERRED,
    connected,
    end_of,
    hears_the_bus,
    is_served,
    members,
    node,
    record,
    records,
    sessions_of,
    throw_off_the_bus,
)
from support.raw_socket import CLOSE
from support.stations import SUBPROTOCOLS, basic, provision
from support.topic_tail import TopicTail
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PROMPTLY = 2.0
"""Seconds: a message over the bus takes some milliseconds, a busy machine has them too."""

Pair = tuple[Gateway, Gateway]


@pytest.fixture(scope="module")
def pair(redis_url: str, brokers: str) -> Iterator[Pair]:
    """Nodes that look at their records every 100 s: in these tests only what they are told makes a difference."""
    with node(redis_url, brokers, "node-a") as a, node(redis_url, brokers, "node-b") as b:
        yield a, b


def told_by(tail: TopicTail, charge_point_id: str, ends: int) -> list[dict[str, Any]]:
    """All events of the charge point, as soon as ``ends`` of its sessions have ended."""
    number = 0

    def is_last(event: dict[str, Any]) -> bool:
        nonlocal number
        number += event["chargePointId"] == charge_point_id and event["eventType"] == "StationDisconnected"
        return number == ends

    tail.wait_for(is_last)
    return [event for event in tail.events if event["chargePointId"] == charge_point_id]


def kinds(events: list[dict[str, Any]], node_id: str) -> list[tuple[str, int, str | None]]:
    """What node ``node_id`` told: event type, epoch, and message id or reason."""
    return [
        (event["eventType"], event["epoch"], event.get("messageId") or event["payload"].get("reason"))
        for event in events
        if event["nodeId"] == node_id
    ]


def ends_of(events: list[dict[str, Any]]) -> dict[int, str]:
    """Why each session ended, by its epoch."""
    ends = [event for event in events if event["eventType"] == "StationDisconnected"]
    reasons = {event["epoch"]: event["payload"]["reason"] for event in ends}
    assert len(reasons) == len(ends), "the end of a session was told twice"
    return reasons


# A charge point that comes to another node.


@pytest.mark.parametrize(
    ("first", "second"), [("ocpp1.6", "ocpp1.6"), ("ocpp2.0.1", "ocpp2.0.1"), ("ocpp1.6", "ocpp2.1")]
)
def test_the_other_node_serves_at_once_and_the_first_lets_go(
    pair: Pair,
    redis: redis_py.Redis,
    tail: TopicTail,
    security_events: TopicTail,
    charge_point_id: str,
    first: str,
    second: str,
) -> None:
    a, b = pair
    with connected(a, charge_point_id, first) as old:
        assert is_served(old, "on a")
        with connected(b, charge_point_id, second) as new:
            since = time.monotonic()
            assert is_served(new, "on b")
            close = old.socket.frame()
            took = time.monotonic() - since
            assert (close.opcode, close.close_code, close.close_text) == (CLOSE, *TRANSFERRED)
            assert took < PROMPTLY

            # The old one does not answer the close frame, and goes on as if nothing had happened: nobody listens.
            old.send([2, "too late", "Heartbeat", {}], [2, "much too late", "Heartbeat", {}])
            assert old.socket.rest() == b""
            assert is_served(new, "on b again")
            found = record(redis, charge_point_id)
            assert found is not None
            assert (found["epoch"], found["nodeId"]) == (2, "node-b")
            assert charge_point_id in members(redis, "node-b") - members(redis, "node-a")
            assert charge_point_id in sessions_of(b)
            assert charge_point_id not in sessions_of(a)
            closed = a.wait_for("session.closed", charge_point_id=charge_point_id)
            assert (closed["epoch"], closed["close_reason"], closed["close_code"]) == (1, "transferred", 1012)
            taken = b.wait_for("session.taken_over", charge_point_id=charge_point_id)
            assert (taken["previous_node_id"], taken["epoch"]) == ("node-a", 2)
            new.hang_up()
    until(lambda: record(redis, charge_point_id) is None, "the end of the session")
    assert charge_point_id not in members(redis, "node-a") | members(redis, "node-b")

    events = told_by(tail, charge_point_id, 2)
    assert kinds(events, "node-a") == [
        ("StationConnected", 1, None),
        ("StationHeartbeat", 1, "on a"),
        ("StationDisconnected", 1, "transferred"),
    ]
    assert kinds(events, "node-b") == [
        ("StationConnected", 2, None),
        ("StationHeartbeat", 2, "on b"),
        ("StationHeartbeat", 2, "on b again"),
        ("StationDisconnected", 2, "peer_closed"),
    ]
    assert len({event["connectionId"] for event in events}) == 2
    taken_over = security_events.wait_for(lambda event: event.get("chargePointId") == charge_point_id)
    assert (taken_over["eventType"], taken_over["nodeId"]) == ("SessionTakenOver", "node-b")
    payload = taken_over["payload"]
    assert (payload["epoch"], payload["previousNodeId"], payload["peer"]) == (2, "node-a", "127.0.0.1")


def test_a_word_that_nobody_heard_is_made_up_for(
    pair: Pair, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    a, b = pair
    with connected(a, charge_point_id) as old:
        subscribed = len(a.logged("redis.bus_subscribed"))
        throw_off_the_bus(redis, "node-a", "node-b")
        with connected(b, charge_point_id) as new:
            assert not hears_the_bus(redis, "node-a"), "nobody heard it"
            since = time.monotonic()
            assert is_served(new)
            assert end_of(old) == TRANSFERRED
            assert time.monotonic() - since < PROMPTLY + 1  # it is back within 1.4 s
            assert len(a.logged("redis.bus_subscribed")) == subscribed + 1
            new.hang_up()
    events = told_by(tail, charge_point_id, 2)
    assert kinds(events, "node-a")[-1] == ("StationDisconnected", 1, "transferred")


def test_back_and_forth(pair: Pair, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str) -> None:
    there = connected(pair[0], charge_point_id)
    for epoch in range(2, 22):
        here = connected(pair[1 - epoch % 2], charge_point_id, ("ocpp1.6", "ocpp2.0.1")[epoch // 2 % 2])
        assert is_served(here, f"in {epoch}")
        if epoch % 5:
            assert end_of(there) == TRANSFERRED
        else:  # a line that is dead: it never answers
            close = there.socket.frame()
            assert (close.opcode, close.close_code) == (CLOSE, 1012)
        found = record(redis, charge_point_id)
        assert found is not None
        assert (found["epoch"], found["nodeId"]) == (epoch, ("node-b", "node-a")[epoch % 2])
        there.socket.close()
        there = here
    assert is_served(there, "at last")
    there.hang_up()
    until(lambda: record(redis, charge_point_id) is None, "the end of the session")
    assert charge_point_id not in members(redis, "node-a") | members(redis, "node-b")
    events = told_by(tail, charge_point_id, 21)
    assert ends_of(events) == {**dict.fromkeys(range(1, 21), "transferred"), 21: "peer_closed"}
    begins = [event["epoch"] for event in events if event["eventType"] == "StationConnected"]
    assert sorted(begins) == list(range(1, 22))


def test_a_line_that_does_not_answer_the_close_is_cut(pair: Pair, tail: TopicTail, charge_point_id: str) -> None:
    a, b = pair
    with connected(a, charge_point_id) as mute, connected(b, charge_point_id) as new:
        closed = a.wait_for("session.closed", charge_point_id=charge_point_id, seconds=10)
        assert (closed["close_reason"], closed["close_code"]) == ("transferred", 1012)
        assert is_served(new)
        close = mute.socket.frame()
        assert (close.opcode, close.close_code) == (CLOSE, 1012)
        assert mute.socket.rest() == b""
        new.hang_up()
    told_by(tail, charge_point_id, 2)


def test_on_one_and_the_same_node_it_is_replaced_and_nobody_else_is_told(
    pair: Pair, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str
) -> None:
    _, b = pair
    with redis.pubsub() as bus:
        bus.psubscribe("node-bus:*")
        assert bus.get_message(timeout=5)["type"] == "psubscribe"
        with connected(b, charge_point_id) as old, connected(b, charge_point_id) as new:
            assert is_served(new)
            assert end_of(old) == REPLACED
            new.hang_up()
        assert bus.get_message(timeout=0.3) is None
    events = told_by(tail, charge_point_id, 2)
    assert kinds(events, "node-a") == []
    assert ends_of(events) == {1: "replaced", 2: "peer_closed"}


# Many that connect to both at the same moment.


@define(eq=False)
class Double:
    """A charge point with a connection to each node, or several; ``living`` is what is left of them."""

    charge_point_id: str
    version: str
    connections: list[tuple[str, ClientConnection]] = field(factory=list)
    ends: list[tuple[int, str]] = field(factory=list)

    @property
    def living(self) -> list[tuple[str, ClientConnection]]:
        return [(node_id, each) for node_id, each in self.connections if each.close_code is None]

    async def open(self, node_id: str, port: int, tcp: socket.socket) -> None:
        connection = await connect(
            f"ws://127.0.0.1:{port}/ocpp/{self.version}/{self.charge_point_id}",
            sock=tcp,
            subprotocols=[SUBPROTOCOLS[self.version]],  # type: ignore[list-item]
            additional_headers=basic(self.charge_point_id),
            open_timeout=20,
            close_timeout=5,
            ping_interval=None,
        )
        self.connections.append((node_id, connection))

    async def call(self, connection: ClientConnection) -> None:
        """What the charge point says; its answer must be the next thing to come."""
        await connection.send(json.dumps([2, self.charge_point_id, "Heartbeat", {}]))
        answer = json.loads(await asyncio.wait_for(connection.recv(), 10))
        assert answer[:2] == [3, self.charge_point_id]

    async def ended(self, count: int) -> None:
        """Until ``count`` connections have ended."""
        pending = {asyncio.create_task(each.wait_closed()) for _, each in self.connections}
        done = 0
        while done < count:
            ready, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            done += len(ready)
        for task in pending:
            task.cancel()
        for _, each in self.connections:
            if each.close_code is not None:
                try:
                    await each.recv()
                except ConnectionClosed as closed:
                    assert closed.rcvd is not None
                    self.ends.append((closed.rcvd.code, closed.rcvd.reason))


@pytest.mark.parametrize(("count", "times"), [(300, 1), (40, 4)], ids=["300-on-both", "40-four-times-on-both"])
def test_of_connections_to_both_nodes_at_once_exactly_one_lives(
    pair: Pair, redis: redis_py.Redis, redis_url: str, tail: TopicTail, charge_point_id: str, count: int, times: int
) -> None:
    doubles = [Double(f"{charge_point_id}-{number}", ("1.6", "2.0.1")[number % 2]) for number in range(count)]
    for each in doubles:
        provision(redis_url, each.charge_point_id)
    asyncio.run(everybody_at_once(pair, redis, doubles, times))
    beginning = f"{charge_point_id}-"
    until(lambda: not records(redis, beginning), "the end of all sessions")
    left = members(redis, "node-a") | members(redis, "node-b")
    assert not [each for each in left if each.startswith(beginning)]
    until(lambda: not redis.exists("node-taken:node-a", "node-taken:node-b"), "the end of all that was taken over")

    last = 2 * times
    reasons: Counter[str] = Counter()
    for double in doubles:
        events = told_by(tail, double.charge_point_id, last)
        ends = ends_of(events)
        assert ends.keys() == set(range(1, last + 1))
        assert ends[last] == "peer_closed"
        reasons.update(ends.values())
        begins = sorted(event["epoch"] for event in events if event["eventType"] == "StationConnected")
        assert begins == list(range(1, last + 1)), double
        said = [event["epoch"] for event in events if event["eventType"] == "StationHeartbeat"]
        assert said == [last], f"{double.charge_point_id} was published with the epoch in Redis"
    assert reasons["peer_closed"] == count
    assert reasons["transferred"] + reasons["replaced"] == count * (last - 1)
    assert times > 1 or not reasons["replaced"]


async def everybody_at_once(pair: Pair, redis: redis_py.Redis, doubles: list[Double], times: int) -> None:
    """All connect; afterwards the sockets, both nodes and Redis agree on who is connected where."""
    opening = []
    nodes = list(zip(("node-a", "node-b"), pair, strict=True))
    for double in doubles:
        nodes.reverse()
        for _ in range(times):
            for node_id, gateway in nodes:
                tcp = socket.create_connection(("127.0.0.1", gateway.ocpp_port), timeout=10)
                tcp.setblocking(False)
                opening.append(double.open(node_id, gateway.ocpp_port, tcp))
    async with asyncio.timeout(30):
        await asyncio.gather(*opening)
    last = 2 * times
    settled = asyncio.gather(*(double.ended(last - 1) for double in doubles))
    try:
        await asyncio.wait_for(settled, 10)
    except TimeoutError:
        many = {double.charge_point_id: len(double.living) for double in doubles if len(double.living) > 1}
        raise AssertionError(f"{len(many)} of {len(doubles)} have more than one connection: {many}") from None
    assert [double.charge_point_id for double in doubles if len(double.living) != 1] == []
    allowed = {TRANSFERRED} if times == 1 else {TRANSFERRED, REPLACED}
    assert {end for double in doubles for end in double.ends} <= allowed

    async with asyncio.timeout(20):
        await asyncio.gather(*(double.call(double.living[0][1]) for double in doubles))

    sockets = {double.charge_point_id: (double.living[0][0], last) for double in doubles}
    beginning = doubles[0].charge_point_id.rpartition("-")[0] + "-"
    in_redis = {name: (each["nodeId"], each["epoch"]) for name, each in records(redis, beginning).items()}
    assert in_redis == sockets
    listed = [sessions_of(gateway) for gateway in pair]
    assert not listed[0].keys() & listed[1].keys()
    on_nodes = {name: (each["nodeId"], each["epoch"]) for one in listed for name, each in one.items()}
    assert {name: there for name, there in on_nodes.items() if name.startswith(beginning)} == sockets
    for node_id in ("node-a", "node-b"):
        here = {name for name, (where, _) in sockets.items() if where == node_id}
        assert {name for name in members(redis, node_id) if name.startswith(beginning)} == here
    await asyncio.gather(*(double.living[0][1].close() for double in doubles))
