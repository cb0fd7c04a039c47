"""What an operator sees and does on two nodes: the same, whichever is asked, over HTTP and with the command."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis as redis_py
from support.callers import until
from support.gateway import Gateway
from support.nodes import (
    KICKED,
    TRANSFERRED,
    ask,
    command,
    connected,
    end_of,
    hears_the_bus,
    is_served,
    json_lines,
    members,
    node,
    record,
    records,
    session_path,
    sessions_of,
    throw_off_the_bus,
)
from support.raw_socket import RawCharger
from support.stations import provision
from support.topic_tail import TopicTail

Pair = tuple[Gateway, Gateway]

AUDIT_EVENTS = "cpms.audit.events"


@pytest.fixture(scope="module")
def pair(redis_url: str, brokers: str) -> Iterator[Pair]:
    with (
        node(redis_url, brokers, "node-a", SESSION_TTL_SECONDS="10") as a,
        node(redis_url, brokers, "node-b", SESSION_TTL_SECONDS="10") as b,
    ):
        yield a, b


@pytest.fixture(scope="module")
def audit(brokers: str) -> Iterator[TopicTail]:
    with TopicTail(brokers, AUDIT_EVENTS) as tail:
        yield tail


def ended(tail: TopicTail, charge_point_id: str, epoch: int) -> dict[str, Any]:
    """The StationDisconnected of one session."""
    wanted = (charge_point_id, epoch, "StationDisconnected")
    return tail.wait_for(lambda event: (event["chargePointId"], event["epoch"], event["eventType"]) == wanted)


def states(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """The states of the two; a third node, without a token, may be there."""
    return {each["nodeId"]: each["state"] for each in nodes if each["nodeId"] in ("node-a", "node-b")}


def wait_until_gone(redis: redis_py.Redis, charge_point_id: str) -> None:
    until(lambda: record(redis, charge_point_id) is None, f"the end of the session of {charge_point_id}", seconds=5)


@contextmanager
def leaving(charger: RawCharger) -> Iterator[Future[tuple[int | None, str]]]:
    """A charge point that answers the close frame, whenever it comes: code and text of it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(end_of, charger)


# Who is connected, and where.


def test_sessions_and_nodes_are_the_same_for_all_who_look(
    pair: Pair, redis: redis_py.Redis, redis_url: str, charge_point_id: str
) -> None:
    a, b = pair
    names = [f"{charge_point_id}-{number}" for number in range(6)]
    for number, name in enumerate(names):
        provision(redis_url, name, tenantId=f"tenant-{number % 3}")
    with ExitStack() as points:
        chargers = [
            points.enter_context(connected((a, b)[number % 2], name, ("ocpp1.6", "ocpp2.0.1")[number % 2]))
            for number, name in enumerate(names)
        ]
        for charger in chargers:
            assert is_served(charger)

        on_a, on_b = sessions_of(a), sessions_of(b)
        assert on_a.keys() == set(names[::2])
        assert on_b.keys() == set(names[1::2])
        assert sessions_of(a, "?node=node-a") == on_a
        assert sessions_of(a, "?node=node-b") == {}
        assert sessions_of(b, "?tenant=tenant-1").keys() == {names[1]}
        assert sessions_of(a, "?tenant=tenant-1&node=node-a").keys() == {names[4]}
        assert sessions_of(a, "?tenant=nobody") == {}
        for name, each in (on_a | on_b).items():
            assert (each["epoch"], each["calls"], each["peer"]) == (1, 1, "127.0.0.1"), name
            assert each["bytesIn"] == len('[2,"1","Heartbeat",{}]')
            assert each["bytesOut"] > 0

        # Redis has the counts with the next renewal.
        until(
            lambda: {each.get("calls") for each in records(redis, charge_point_id).values()} == {1},
            "a renewal of the records",
            seconds=10,
        )
        listed = json_lines(command("sessions", "--json", redis_url=redis_url))
        assert {each["chargePointId"]: each["nodeId"] for each in listed} == {
            name: ("node-a", "node-b")[number % 2] for number, name in enumerate(names)
        }
        by_id = {each["chargePointId"]: each for each in listed}
        here = sessions_of(a) | sessions_of(b)
        for name in names:
            by_http = here[name]
            assert by_id[name].pop("state") == "live"
            for moving in ("lastSeenAt", "lastSeenAtMs"):
                assert by_id[name].pop(moving) <= by_http.pop(moving)
            assert by_id[name] == by_http
        only_b = json_lines(command("sessions", "--node", "node-b", "--json", redis_url=redis_url))
        assert [each["chargePointId"] for each in only_b] == names[1::2]
        only_one = json_lines(
            command("sessions", "--node", "node-b", "--tenant", "tenant-0", "--json", redis_url=redis_url)
        )
        assert [each["chargePointId"] for each in only_one] == [names[3]]
        table = command("sessions", redis_url=redis_url)
        assert table.returncode == 0
        assert all(name in table.stdout for name in names)
        assert "6 sessions" in table.stderr

        for gateway in pair:
            status, nodes = ask(gateway, "/nodes")
            assert status == 200
            assert states(nodes) == {"node-a": "alive", "node-b": "alive"}
        listed = json_lines(command("nodes", "--json", redis_url=redis_url))
        assert states(listed) == {"node-a": "alive", "node-b": "alive"}
        for charger in chargers:
            charger.hang_up()
    for name in names:
        wait_until_gone(redis, name)
    assert command("sessions", redis_url=redis_url).stderr.strip() == "Nobody is connected."
    assert sessions_of(a) == sessions_of(b) == {}
    assert members(redis, "node-a") | members(redis, "node-b") == set()


# Ending a session.


@pytest.mark.parametrize("asked", [0, 1], ids=["its-node", "the-other-node"])
def test_a_kick_over_http_ends_it_wherever_it_is(
    pair: Pair, redis: redis_py.Redis, tail: TopicTail, charge_point_id: str, asked: int
) -> None:
    with connected(pair[0], charge_point_id) as charger:
        since = time.monotonic()
        assert ask(pair[asked], session_path(charge_point_id), method="DELETE") == (
            202,
            {"status": "closing", "chargePointId": charge_point_id},
        )
        assert end_of(charger) == KICKED
        assert time.monotonic() - since < 2
    wait_until_gone(redis, charge_point_id)
    line = pair[asked].wait_for("session.kick_asked", charge_point_id=charge_point_id)
    assert (line["level"], line["peer"]) == ("info", "127.0.0.1")
    closed = pair[0].wait_for("session.closed", charge_point_id=charge_point_id)
    assert (closed["close_reason"], closed["close_code"]) == ("kicked", 1012)
    payload = ended(tail, charge_point_id, 1)["payload"]
    assert (payload["reason"], payload["closeCode"]) == ("kicked", 1012)
    assert ask(pair[asked], session_path(charge_point_id), method="DELETE") == (404, {"error": "not_connected"})

    # It may come back at once, to whichever node.
    with connected(pair[1], charge_point_id) as charger:
        assert is_served(charger)
        assert (record(redis, charge_point_id) or {})["epoch"] == 2
        charger.hang_up()
    wait_until_gone(redis, charge_point_id)


def test_a_kick_ends_the_session_that_there_is_and_not_one_that_is_past(
    pair: Pair, redis: redis_py.Redis, charge_point_id: str
) -> None:
    """The node that is asked had the charge point until now, and waits for the end of its connection."""
    a, b = pair
    with connected(a, charge_point_id) as old, connected(b, charge_point_id) as new:
        close = old.socket.frame()
        assert (close.close_code, close.close_text) == TRANSFERRED
        assert is_served(new)
        status, _ = ask(a, session_path(charge_point_id), method="DELETE")
        assert status == 202
        assert end_of(new) == KICKED, "told that it is being closed, the operator counts on it"
    wait_until_gone(redis, charge_point_id)


def test_a_kick_ends_the_session_that_there_is_also_where_its_beginning_was_not_heard(
    pair: Pair, redis: redis_py.Redis, charge_point_id: str
) -> None:
    """The node that is asked still takes the charge point for its own."""
    a, b = pair
    with connected(a, charge_point_id):
        throw_off_the_bus(redis, "node-a", "node-b")
        with connected(b, charge_point_id) as new:
            assert ask(a, session_path(charge_point_id), method="DELETE")[0] == 202
            assert not hears_the_bus(redis, "node-a"), "nobody had told it"
            assert end_of(new) == KICKED
    wait_until_gone(redis, charge_point_id)
    until(lambda: hears_the_bus(redis, "node-a"), "the bus")


@pytest.mark.parametrize("charge_point_id_of", ["{}", "{}*@|+=._-"])
def test_the_command_kicks_on_any_node_and_tells_of_it(
    pair: Pair,
    redis: redis_py.Redis,
    redis_url: str,
    brokers: str,
    tail: TopicTail,
    audit: TopicTail,
    charge_point_id: str,
    charge_point_id_of: str,
) -> None:
    name = charge_point_id_of.format(charge_point_id)
    provision(redis_url, name)
    bystander = f"{charge_point_id}-bystander"
    provision(redis_url, bystander)
    with connected(pair[0], bystander) as other:
        for epoch, (number, node_id) in enumerate(((1, "node-b"), (0, "node-a")), start=1):
            with connected(pair[number], name) as charger, leaving(charger) as end:
                done = command(
                    "session", "kick", name, "--reason", f"why {epoch}", redis_url=redis_url, brokers=brokers
                )
                assert done.returncode == 0, done.stderr
                assert done.stdout == f"{name} kicked from node {node_id}\n"
                assert "Warning" not in done.stderr
                assert record(redis, name) is None, "it waits until the session is gone"
                assert end.result(5) == KICKED
            assert ended(tail, name, epoch)["payload"]["reason"] == "kicked"
            told = audit.wait_for(
                lambda event: event.get("chargePointId") == name and event["payload"].get("epoch") == epoch  # noqa: B023
            )
            assert told["eventType"] == "ChargerSessionKicked"
            assert (told["stationId"], told["tenantId"]) == (f"station-{name}", "tenant-1")
            assert told["payload"] == {
                "chargePointId": name,
                "nodeId": node_id,
                "epoch": epoch,
                "actorId": getpass.getuser(),
                "actorType": "operator",
                "reason": f"why {epoch}",
            }
        assert is_served(other), "nobody else is touched"
        other.hang_up()
    wait_until_gone(redis, bystander)


def test_the_command_waits_for_a_charge_point_that_does_not_answer(
    pair: Pair, redis: redis_py.Redis, redis_url: str, charge_point_id: str
) -> None:
    """A line that is dead is what operators kick most: the gateway cuts it after five seconds."""
    with connected(pair[1], charge_point_id) as mute:
        done = command("session", "kick", charge_point_id, redis_url=redis_url)
        assert done.returncode == 0, done.stderr
        assert record(redis, charge_point_id) is None
        assert mute.socket.frame().close_code == 1012
        assert mute.socket.rest() == b""


def test_kicked_over_and_over(pair: Pair, redis: redis_py.Redis, charge_point_id: str) -> None:
    for epoch in range(1, 11):
        with connected(pair[epoch % 2], charge_point_id) as charger:
            assert (record(redis, charge_point_id) or {})["epoch"] == epoch
            status, _ = ask(pair[epoch // 2 % 2], session_path(charge_point_id), method="DELETE")
            assert status == 202
            assert end_of(charger) == KICKED
        wait_until_gone(redis, charge_point_id)


# What does not work.


def test_who_is_not_connected_cannot_be_kicked(
    pair: Pair, redis: redis_py.Redis, redis_url: str, brokers: str, audit: TopicTail, charge_point_id: str
) -> None:
    for gateway in pair:
        for name in (charge_point_id, "nobody", "a%00b", "%ff"):
            status, answer = ask(gateway, f"/sessions/{name}", method="DELETE")
            assert status == 404, (name, answer)
    done = command("session", "kick", charge_point_id, redis_url=redis_url, brokers=brokers)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{charge_point_id} is not connected" in done.stderr
    # A record of a node that is gone is no session.
    dead = {
        "chargePointId": charge_point_id, "ocppVersion": "1.6J", "nodeId": "gone", "stationId": "s", "tenantId": "t",
        "connectedAt": "2026-01-01T00:00:00.000Z", "connectedAtMs": 1, "lastSeenAt": "2026-01-01T00:00:00.000Z",
        "lastSeenAtMs": 1, "epoch": 7,
    }  # fmt: skip
    redis.set(f"sessions:{charge_point_id}", json.dumps(dead), ex=60)
    for gateway in pair:
        assert ask(gateway, session_path(charge_point_id), method="DELETE") == (404, {"error": "not_connected"})
    done = command("session", "kick", charge_point_id, redis_url=redis_url, brokers=brokers)
    assert done.returncode == 1
    assert "Node gone" in done.stderr
    redis.delete(f"sessions:{charge_point_id}")
    # What was not done is not told.
    with connected(pair[0], charge_point_id) as charger, leaving(charger) as end:
        done = command("session", "kick", charge_point_id, redis_url=redis_url, brokers=brokers)
        assert done.returncode == 0, done.stderr
        assert end.result(5) == KICKED
    audit.wait_for(lambda event: event.get("chargePointId") == charge_point_id)
    assert [event["eventType"] for event in audit.events if event.get("chargePointId") == charge_point_id] == [
        "ChargerSessionKicked"
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sessions"), ("DELETE", "/sessions/{}"), ("GET", "/nodes"), ("GET", "/sessions?node=x")],
)
def test_without_the_token_nothing_is_told_or_done(
    pair: Pair, gateway: Gateway, charge_point_id: str, method: str, path: str
) -> None:
    a, _ = pair
    with connected(a, charge_point_id) as charger:
        for token in (None, "", "the-operators-toke", "the-operators-token2", "THE-OPERATORS-TOKEN"):
            assert ask(a, path.format(charge_point_id), method=method, token=token) == (401, {"error": "unauthorized"})
        for token in (None, "", "the-operators-token"):  # of a node that has no token, nobody knows one
            answer = ask(gateway, path.format(charge_point_id), method=method, token=token)
            assert answer == (403, {"error": "token_not_set"})
        assert is_served(charger)
        charger.hang_up()


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/sessions"), ("GET", "/sessions/CP"), ("POST", "/nodes")])
def test_other_methods_are_not_allowed(pair: Pair, method: str, path: str) -> None:
    assert ask(pair[0], path, method=method) == (405, {"error": "method_not_allowed"})


def test_a_session_that_moves_is_listed_once(pair: Pair, redis: redis_py.Redis, charge_point_id: str) -> None:
    with connected(pair[0], charge_point_id) as old, connected(pair[1], charge_point_id) as new:
        assert end_of(old) == TRANSFERRED
        assert is_served(new)
        assert [charge_point_id in sessions_of(gateway) for gateway in pair] == [False, True]
        new.hang_up()
    wait_until_gone(redis, charge_point_id)
