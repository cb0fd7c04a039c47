"""A node ends without a word: others serve its charge points at once, and tell the end of each session, once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis as redis_py
from support.callers import until
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.nodes import (
    TRANSFERRED,
    command,
    connected,
    counted,
    end_of,
    is_served,
    json_lines,
    members,
    node,
    record,
    records,
    sessions_of,
)
from support.raw_socket import RawCharger
from support.stations import provision

SHORT = {"NODE_TTL_SECONDS": "2", "NODE_HEARTBEAT_SECONDS": "0.5"}
SWEPT_SECONDS = 2 + 2 * 0.5 + 3
"""Lease, patience, a round; and time for a busy machine."""

SUBPROTOCOLS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


@contextlib.contextmanager
def cluster(redis_url: str, brokers: str, *node_ids: str) -> Iterator[list[Gateway]]:
    with ExitStack() as nodes:
        yield [nodes.enter_context(node(redis_url, brokers, node_id, **SHORT)) for node_id in node_ids]


def fleet(redis_url: str, name: str, count: int) -> list[str]:
    identities = [f"{name}-{number}" for number in range(count)]
    for identity in identities:
        provision(redis_url, identity)
    return identities


@contextlib.contextmanager
def all_connected(gateway: Gateway, identities: list[str]) -> Iterator[list[RawCharger]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(connected(gateway, identity, SUBPROTOCOLS[number % 3]))
            for number, identity in enumerate(identities)
        ]


def come_back(gateway: Gateway, identity: str) -> RawCharger:
    """Connected, and the first CALL answered, within a second."""
    since = time.monotonic()
    charger = connected(gateway, identity)
    assert is_served(charger, "back")
    assert time.monotonic() - since < 1
    return charger


def wait_until_swept(redis: redis_py.Redis, node_id: str) -> None:
    """Nothing of the node is left in Redis."""
    until(
        lambda: not redis.sismember("known-nodes", node_id) and not redis.exists(f"node-taken:{node_id}"),
        f"the sweep after {node_id}",
        seconds=SWEPT_SECONDS,
    )
    assert not redis.exists(f"nodes:{node_id}", f"node-sessions:{node_id}")
    left = [each for each in records(redis, "").values() if each["nodeId"] == node_id]
    assert left == []


def wait_for_rounds(redis: redis_py.Redis, *node_ids: str) -> None:
    """Each node has had the time for two more sweeps."""
    for _ in range(3):
        before = {node_id: redis.get(f"nodes:{node_id}") for node_id in node_ids}
        for node_id, lease in before.items():
            until(lambda: redis.get(f"nodes:{node_id}") != lease, f"a renewal of {node_id}")  # noqa: B023


def ends_in_kafka(brokers: str, identities: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Every StationDisconnected of each charge point."""
    ends: dict[str, list[dict[str, Any]]] = {identity: [] for identity in identities}
    for each in read_topic(brokers, "ocpp.station.events"):
        event = json.loads(each.value)
        if event["eventType"] == "StationDisconnected" and event["chargePointId"] in ends:
            ends[event["chargePointId"]].append(event)
    return ends


def check_lost(
    ends: dict[str, list[dict[str, Any]]], node_id: str, swept_by: set[str], before: dict[str, dict[str, Any]]
) -> None:
    """The session that each had on ``node_id`` was told lost exactly once; ``before``: the session records it had."""
    told = {
        identity: [event for event in events if event["epoch"] == before[identity]["epoch"]]
        for identity, events in ends.items()
    }
    wrong = {
        identity: [event["payload"]["reason"] for event in events]
        for identity, events in told.items()
        if [event["payload"]["reason"] for event in events] != ["node_lost"]
    }
    assert not wrong, f"{len(wrong)} of {len(told)} sessions of {node_id} were not told lost exactly once: {wrong}"
    for identity, (event,) in told.items():
        was, payload = before[identity], event["payload"]
        assert (event["nodeId"], event["connectionId"]) == (node_id, was["connectionId"])
        assert (event["stationId"], event["tenantId"], event["ocppVersion"]) == (
            was["stationId"],
            was["tenantId"],
            was["ocppVersion"],
        )
        assert payload["sweptBy"] in swept_by
        assert payload["lastSeenAt"] == was["lastSeenAt"]
        assert payload["durationMs"] == was["lastSeenAtMs"] - was["connectedAtMs"]
        assert "closeCode" not in payload


def stop_all(leaving: ExitStack, *gateways: Gateway) -> None:
    """What they had to tell is in Kafka then. Charge points leave first, which is sooner than being sent away."""
    leaving.close()
    for gateway in gateways:
        assert gateway.stop() == 0


# Those that come back.


@pytest.mark.parametrize("when", ["at once", "when the lease is gone"])
def test_who_comes_back_is_served_within_a_second_and_its_old_session_is_told_lost(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str, when: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "abc"]
    identities = fleet(redis_url, charge_point_id, 24)
    with cluster(redis_url, brokers, *names) as (a, b, c), ExitStack() as points:
        points.enter_context(all_connected(a, identities))
        before = records(redis, f"{charge_point_id}-")
        assert {each["nodeId"] for each in before.values()} == {names[0]}
        assert len(before) == len(identities)
        a.kill()
        if when == "at once":
            assert redis.exists(f"nodes:{names[0]}")
        else:
            until(lambda: not redis.exists(f"nodes:{names[0]}"), "the end of the lease", seconds=4)
        found = 0
        for number, identity in enumerate(identities):
            there = record(redis, identity)
            found += there is not None and there["nodeId"] == names[0]
            points.enter_context(come_back((b, c)[number % 2], identity))
        assert found > 0, "the sweep had not begun"
        if when == "at once":
            assert found == len(identities)
        wait_until_swept(redis, names[0])
        wait_for_rounds(redis, *names[1:])

        after = records(redis, f"{charge_point_id}-")
        assert {name: (each["nodeId"], each["epoch"]) for name, each in after.items()} == {
            identity: (names[1 + number % 2], 2) for number, identity in enumerate(identities)
        }
        assert sessions_of(b).keys() | sessions_of(c).keys() == set(identities)
        stop_all(points, b, c)
    check_lost(ends_in_kafka(brokers, identities), names[0], set(names[1:]), before)


# Those that do not.


def test_of_two_sweepers_exactly_one_tells_of_each(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "abc"]
    identities = fleet(redis_url, charge_point_id, 400)
    bystander = f"{charge_point_id}-bystander"
    provision(redis_url, bystander)
    with cluster(redis_url, brokers, *names) as (a, b, c), ExitStack() as points:
        points.enter_context(all_connected(a, identities))
        charger = points.enter_context(connected(b, bystander))
        before = records(redis, f"{charge_point_id}-")
        assert len(before) == 401
        a.kill()
        slowest = 0.0

        def is_swept() -> bool:
            nonlocal slowest
            since = time.monotonic()
            assert is_served(charger, str(since))
            slowest = max(slowest, time.monotonic() - since)
            return not redis.sismember("known-nodes", names[0])

        until(is_swept, "the sweep", seconds=SWEPT_SECONDS)
        assert slowest < 5, "who is connected does not wait for the sweep"
        wait_until_swept(redis, names[0])
        wait_for_rounds(redis, *names[1:])
        assert records(redis, f"{charge_point_id}-").keys() == {bystander}
        assert members(redis, names[1]) == {bystander}
        lost = [[line["charge_point_id"] for line in gateway.logged("session.lost")] for gateway in (b, c)]
        assert sorted(lost[0] + lost[1]) == sorted(identities)
        for gateway, mine in zip((b, c), lost, strict=True):
            assert counted(gateway, "ocpp_closes_total", reason="node_lost") == len(mine)
        stop_all(points, b, c)
    check_lost(ends_in_kafka(brokers, identities), names[0], set(names[1:]), before)


def test_both_nodes_die_and_the_next_one_tells_of_all_and_serves_who_comes_late(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "abc"]
    identities = fleet(redis_url, charge_point_id, 10)
    with cluster(redis_url, brokers, *names[:2]) as (a, b), ExitStack() as points:
        points.enter_context(all_connected(a, identities[:5]))
        points.enter_context(all_connected(b, identities[5:]))
        before = records(redis, f"{charge_point_id}-")
        a.kill()
        b.kill()
        with cluster(redis_url, brokers, names[2]) as (c,):
            for name in names[:2]:
                wait_until_swept(redis, name)
            for identity in identities:
                points.enter_context(come_back(c, identity))
                assert (record(redis, identity) or {})["epoch"] == 2
            stop_all(points, c)
    ends = ends_in_kafka(brokers, identities)
    check_lost({name: ends[name] for name in identities[:5]}, names[0], {names[2]}, before)
    check_lost({name: ends[name] for name in identities[5:]}, names[1], {names[2]}, before)


# The same node again.


def test_a_node_that_starts_again_under_its_name_clears_its_past(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "ab"]
    identities = fleet(redis_url, charge_point_id, 90)
    with cluster(redis_url, brokers, *names) as (a, b), ExitStack() as points:
        points.enter_context(all_connected(a, identities))
        before = records(redis, f"{charge_point_id}-")
        a.kill()
        assert redis.exists(f"nodes:{names[0]}")
        with cluster(redis_url, brokers, names[0]) as (again,):
            for identity in identities[:30]:
                points.enter_context(come_back(again, identity))
            until(lambda: members(redis, names[0]) == set(identities[:30]), "the end of its past", seconds=5)
            for identity in identities[30:60]:
                points.enter_context(come_back(b, identity))
            wait_for_rounds(redis, *names)
            after = records(redis, f"{charge_point_id}-")
            assert {name: (each["nodeId"], each["epoch"]) for name, each in after.items()} == {
                **dict.fromkeys(identities[:30], (names[0], 2)),
                **dict.fromkeys(identities[30:60], (names[1], 2)),
            }
            assert sessions_of(again).keys() == members(redis, names[0]) == set(identities[:30])
            assert b.logged("session.lost") == []
            stop_all(points, again, b)
    check_lost(ends_in_kafka(brokers, identities), names[0], {names[0]}, before)


# A node that was taken for dead.


def test_a_node_that_stood_still_has_its_sessions_back_but_for_those_that_went_elsewhere(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "ab"]
    identities = fleet(redis_url, charge_point_id, 6)
    with cluster(redis_url, brokers, *names) as (a, b), ExitStack() as points:
        chargers = points.enter_context(all_connected(a, identities))
        os.kill(a.pid, signal.SIGSTOP)
        try:
            wait_until_swept(redis, names[0])
            moved = [points.enter_context(come_back(b, identity)) for identity in identities[:3]]
        finally:
            os.kill(a.pid, signal.SIGCONT)
        for charger in chargers[:3]:
            assert end_of(charger) == TRANSFERRED
        for charger in (*chargers[3:], *moved):
            assert is_served(charger, "after all")
        expected = {**dict.fromkeys(identities[:3], (names[1], 2)), **dict.fromkeys(identities[3:], (names[0], 1))}
        until(
            lambda: (
                {name: (each["nodeId"], each["epoch"]) for name, each in records(redis, charge_point_id).items()}
                == expected
            ),
            "the records of sessions that went on",
            seconds=5,
        )
        assert members(redis, names[0]) == set(identities[3:])
        assert redis.sismember("known-nodes", names[0])
        a.wait_for("redis.lease_vanished")
        stop_all(points, a, b)
    ends = ends_in_kafka(brokers, identities)
    lost = {
        identity: [event["epoch"] for event in events if event["payload"]["reason"] == "node_lost"]
        for identity, events in ends.items()
    }
    assert lost == {identity: [1] for identity in identities}


# What the operator sees of it.


def test_the_operator_sees_what_became_of_the_node(
    redis: redis_py.Redis, redis_url: str, brokers: str, charge_point_id: str
) -> None:
    names = [f"{charge_point_id}-node-{letter}" for letter in "ab"]
    (identity,) = fleet(redis_url, charge_point_id, 1)

    def states() -> dict[str, Any]:
        listed = json_lines(command("nodes", "--json", redis_url=redis_url))
        return {each["nodeId"]: (each["state"], each.get("sessionsLeft")) for each in listed if each["nodeId"] in names}

    with cluster(redis_url, brokers, names[0]) as (a,), connected(a, identity):
        a.kill()
        kicked = command("session", "kick", identity, redis_url=redis_url)
        assert kicked.returncode == 1, "nobody is there who could"
        assert identity in kicked.stderr
        until(lambda: not redis.exists(f"nodes:{names[0]}"), "the end of the lease", seconds=4)
        assert states() == {names[0]: ("gone", 1)}
        stale = json_lines(command("sessions", "--stale", "--json", redis_url=redis_url))
        assert [(each["chargePointId"], each["state"]) for each in stale] == [(identity, "node_gone")]
        kicked = command("session", "kick", identity, redis_url=redis_url)
        assert kicked.returncode == 1
        assert f"Node {names[0]}" in kicked.stderr
        assert "is gone" in kicked.stderr
        with cluster(redis_url, brokers, names[1]):
            wait_until_swept(redis, names[0])
            assert states() == {names[1]: ("alive", None)}
            assert json_lines(command("sessions", "--json", redis_url=redis_url)) == []
