"""Sessions as the rest of the world sees them: the records in Redis, the events in Kafka, and who gives way to whom."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from support.gateway import Gateway
from support.raw_socket import CLOSE, PING, PeerClosed, RawCharger, RawSocket, frame, handshake, http_get, metric
from support.redis_gate import RedisGate
from support.stations import basic, provision


def credentials(charge_point_id: str) -> list[tuple[str, str]]:
    return list(basic(charge_point_id).items())


def connected(gateway: Gateway, charge_point_id: str, subprotocols: str = "ocpp1.6") -> RawCharger:
    return RawCharger(gateway.ocpp_port, charge_point_id, credentials(charge_point_id), subprotocols=subprotocols)


def record(redis: redis_py.Redis, charge_point_id: str) -> dict[str, Any] | None:
    raw = redis.get(f"sessions:{charge_point_id}")
    return None if raw is None else json.loads(raw)


def wait_until_gone(redis: redis_py.Redis, charge_point_id: str) -> None:
    for _ in range(20_000):  # each is a round trip: about two seconds
        if record(redis, charge_point_id) is None:
            return
    raise AssertionError(f"the session of {charge_point_id} is still there")


# The records.


@pytest.mark.parametrize(("subprotocol", "version"), [("ocpp1.6", "1.6J"), ("ocpp2.0.1", "2.0.1"), ("OCPP2.1", "2.1")])
def test_a_session_is_in_redis_as_long_as_it_lasts(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str, subprotocol: str, version: str
) -> None:
    with connected(gateway, charge_point_id, subprotocol) as charger:
        opened = gateway.wait_for("session.opened", charge_point_id=charge_point_id)
        found = record(redis, charge_point_id)
        assert found is not None
        assert list(found) == [
            "chargePointId", "ocppVersion", "nodeId", "stationId", "tenantId",
            "connectedAt", "connectedAtMs", "lastSeenAt", "lastSeenAtMs", "securityProfile",
            "connectionId", "peer", "epoch",
        ]  # fmt: skip
        assert found["chargePointId"] == charge_point_id
        assert found["ocppVersion"] == version == opened["ocpp_version"]
        assert found["nodeId"] == opened["node_id"]
        assert (found["stationId"], found["tenantId"]) == (f"station-{charge_point_id}", "tenant-1")
        assert found["securityProfile"] == opened["security_profile"] == 1
        assert (found["connectionId"], found["peer"]) == (opened["connection_id"], "127.0.0.1")
        assert found["epoch"] == opened["epoch"] == 1
        assert found["connectedAt"].endswith("Z")
        assert found["lastSeenAtMs"] >= found["connectedAtMs"] > 1_700_000_000_000
        ttl = redis.ttl(f"sessions:{charge_point_id}")
        assert isinstance(ttl, int)
        assert 0 < ttl <= 300
        charger.hang_up()
    wait_until_gone(redis, charge_point_id)


def test_a_node_has_a_lease_in_redis(gateway: Gateway, redis: redis_py.Redis) -> None:
    node_id = gateway.wait_for("gateway.started")["node_id"]

    lease = redis.get(f"nodes:{node_id}")

    assert isinstance(lease, bytes)
    members = json.loads(lease)
    assert set(members) == {"nodeId", "startedAt", "lastSeenAt", "connections"}
    assert members["nodeId"] == node_id
    ttl = redis.ttl(f"nodes:{node_id}")
    assert isinstance(ttl, int)
    assert 0 < ttl <= 30


def test_the_epoch_grows_from_session_to_session(gateway: Gateway, redis: redis_py.Redis, charge_point_id: str) -> None:
    for epoch in (1, 2, 3):
        with connected(gateway, charge_point_id) as charger:
            found = record(redis, charge_point_id)
            assert found is not None
            assert found["epoch"] == epoch
            charger.hang_up()
        wait_until_gone(redis, charge_point_id)


def test_a_session_of_another_node_is_taken_over_and_that_node_is_told(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str
) -> None:
    theirs = {
        "chargePointId": charge_point_id, "ocppVersion": "1.6J", "nodeId": "other", "stationId": "s", "tenantId": "t",
        "connectedAt": "2026-01-01T00:00:00.000Z", "connectedAtMs": 1, "lastSeenAt": "2026-01-01T00:00:00.000Z",
        "lastSeenAtMs": 1, "epoch": 7,
    }  # fmt: skip
    redis.set(f"sessions:{charge_point_id}", json.dumps(theirs))
    redis.set("nodes:other", "{}", ex=60)
    with redis.pubsub() as bus:
        bus.subscribe("node-bus:other")
        assert bus.get_message(timeout=5)["type"] == "subscribe"

        with connected(gateway, charge_point_id):
            found = record(redis, charge_point_id)
            assert found is not None
            assert (found["epoch"], found["nodeId"] != "other") == (8, True)
            told = bus.get_message(timeout=5)
            assert told is not None
            assert charge_point_id in told["data"].decode()
    taken = gateway.wait_for("session.taken_over", charge_point_id=charge_point_id)
    assert (taken["previous_node_id"], taken["epoch"]) == ("other", 8)


# The events.


def test_connecting_and_disconnecting_frame_the_events_between(
    gateway: Gateway, events: Any, charge_point_id: str
) -> None:
    with connected(gateway, charge_point_id) as charger:
        charger.call("1", "Heartbeat", {})
        charger.call("2", "Heartbeat", {})
        charger.hang_up()
    closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    gateway_events = wait_for_disconnected(events, charge_point_id)

    assert [event["eventType"] for event in gateway_events] == [
        "StationConnected", "StationHeartbeat", "StationHeartbeat", "StationDisconnected",
    ]  # fmt: skip
    first, *_, last = gateway_events
    assert {event["connectionId"] for event in gateway_events} == {closed["connection_id"]}
    assert {event["epoch"] for event in gateway_events} == {1}
    assert first["payload"] == {"peer": "127.0.0.1", "securityProfile": 1}
    payload = last["payload"]
    assert (payload["reason"], payload["closeCode"], payload["calls"]) == ("peer_closed", 1000, 2)
    assert payload["durationMs"] >= 0
    assert payload["bytesIn"] == 2 * len('[2,"1","Heartbeat",{}]')
    assert payload["bytesOut"] > 0
    assert (closed["close_reason"], closed["close_code"], closed["calls"]) == ("peer_closed", 1000, 2)


def wait_for_disconnected(events: Any, charge_point_id: str, count: int = 1) -> list[dict[str, Any]]:
    """What Kafka has of the charge point once ``count`` StationDisconnected are there."""
    for _ in range(50):
        found = events(charge_point_id, "ocpp.station.events")
        if sum(event["eventType"] == "StationDisconnected" for event in found) >= count:
            return found
    raise AssertionError(f"no {count} StationDisconnected of {charge_point_id}")


def leave_without_a_word(charger: RawCharger) -> None:
    charger.socket.close()


def leave_with_a_reset(charger: RawCharger) -> None:
    charger.socket.reset()


def leave_with_a_code_of_its_own(charger: RawCharger) -> None:
    charger.socket.send(frame(b"\x0f\xa0bye", CLOSE))
    assert charger.socket.frame().opcode == CLOSE


def leave_without_a_code(charger: RawCharger) -> None:
    charger.socket.send(frame(b"", CLOSE))
    assert charger.socket.frame().opcode == CLOSE


def break_the_protocol(charger: RawCharger) -> None:
    charger.socket.send(frame(b"x", 3))
    charger.closed()


ENDS = [
    (leave_without_a_word, "connection_lost", None),
    (leave_with_a_reset, "connection_lost", None),
    (leave_with_a_code_of_its_own, "peer_closed", 4000),
    (leave_without_a_code, "peer_closed", None),
    (break_the_protocol, "protocol_error", 1002),
]


def test_every_end_has_its_reason(
    gateway: Gateway, redis: redis_py.Redis, redis_url: str, events: Any, charge_point_id: str
) -> None:
    for number, (leave, reason, code) in enumerate(ENDS):
        identity = f"{charge_point_id}-{number}"
        provision(redis_url, identity)
        counted = metric(gateway.http_port, "ocpp_closes_total", reason=reason)
        with connected(gateway, identity) as charger:
            leave(charger)
            closed = gateway.wait_for("session.closed", charge_point_id=identity)
        assert (closed["close_reason"], closed["close_code"], closed["level"]) == (reason, code, "info")
        wait_until_gone(redis, identity)
        assert metric(gateway.http_port, "ocpp_closes_total", reason=reason) == counted + 1
    for number, (_, reason, code) in enumerate(ENDS):
        payload = wait_for_disconnected(events, f"{charge_point_id}-{number}")[-1]["payload"]
        assert (payload["reason"], payload.get("closeCode")) == (reason, code)


# Two connections of one charge point.


def test_the_newest_connection_wins(gateway: Gateway, redis: redis_py.Redis, events: Any, charge_point_id: str) -> None:
    with connected(gateway, charge_point_id) as old, connected(gateway, charge_point_id, "ocpp2.0.1") as new:
        closing = old.socket.frame()
        assert (closing.opcode, closing.close_code) == (CLOSE, 1008)
        assert closing.close_text == "Replaced by new connection"
        # The old one does not answer, and goes on as if nothing had happened: nobody listens.
        old.send([2, "late", "Heartbeat", {}])
        assert new.call("1", "Heartbeat", {})[0] == 3
        found = record(redis, charge_point_id)
        assert found is not None
        assert (found["epoch"], found["ocppVersion"]) == (2, "2.0.1")

        old.socket.reset()
        closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
        assert (closed["epoch"], closed["close_reason"], closed["close_code"]) == (1, "replaced", 1008)

        # Behind the old one's late end, the record is still the new one's, and so is the charge point.
        for number in range(3):
            assert new.call(f"after {number}", "Heartbeat", {})[0] == 3
            assert record(redis, charge_point_id) == found
        new.hang_up()
    wait_until_gone(redis, charge_point_id)
    published = wait_for_disconnected(events, charge_point_id, 2)
    assert [event["messageId"] for event in published if event["eventType"] == "StationHeartbeat"] == [
        "1", "after 0", "after 1", "after 2",
    ]  # fmt: skip
    ended = [event for event in published if event["eventType"] == "StationDisconnected"]
    assert {event["epoch"]: event["payload"]["reason"] for event in ended} == {1: "replaced", 2: "peer_closed"}


def test_what_the_old_connection_had_under_way_is_not_lost(gateway: Gateway, events: Any, charge_point_id: str) -> None:
    values = [{"timestamp": "2026-01-02T03:04:05Z", "sampledValue": [{"value": "1"}]}]
    with connected(gateway, charge_point_id) as old:
        old.send([2, "1", "MeterValues", {"connectorId": 1, "meterValue": values}])
        with connected(gateway, charge_point_id) as new:
            assert new.call("2", "Heartbeat", {})[0] == 3
            said = []
            with pytest.raises(PeerClosed):
                while True:
                    said.append(old.receive())
            assert said in ([], [[3, "1", {}]])  # answered or not, but published
            new.hang_up()
    wait_for_disconnected(events, charge_point_id, 2)
    assert [event["messageId"] for event in events(charge_point_id, "ocpp.session.events")] == ["1"]


def test_a_newcomer_with_a_wrong_password_changes_nothing(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str
) -> None:
    with connected(gateway, charge_point_id) as charger:
        before = record(redis, charge_point_id)
        with RawSocket(gateway.ocpp_port) as newcomer:
            headers = basic(charge_point_id, "not its password").items()
            newcomer.send(handshake(f"/ocpp/{charge_point_id}", headers=headers))
            assert newcomer.response().status == 401
        assert charger.call("1", "Heartbeat", {})[0] == 3
        assert record(redis, charge_point_id) == before


def test_of_many_connections_at_once_the_one_in_redis_stays(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str
) -> None:
    chargers: list[RawCharger] = []
    threads = [threading.Thread(target=lambda: chargers.append(connected(gateway, charge_point_id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stayed = []
    for charger in chargers:
        charger.send([2, "1", "Heartbeat", {}])
        try:
            assert charger.receive()[:2] == [3, "1"]
        except PeerClosed as gone:
            assert gone.args[0].close_code == 1008
        else:
            stayed.append(charger)
    # One that was answered before it lost may still be closed.
    found = record(redis, charge_point_id)
    assert found is not None
    assert found["epoch"] == len(chargers) == 8
    survivor = next(charger for charger in stayed if not was_closed(charger))
    for epoch in range(1, 8):
        closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id, epoch=epoch)
        assert closed["close_reason"] == "replaced"
    assert survivor.call("2", "Heartbeat", {})[0] == 3
    assert metric(gateway.http_port, "ocpp_connections") >= 1
    survivor.hang_up()
    wait_until_gone(redis, charge_point_id)
    for charger in chargers:
        charger.socket.close()


def was_closed(charger: RawCharger) -> bool:
    try:
        charger.send([2, "again", "Heartbeat", {}])
        return charger.receive()[1] != "again"
    except PeerClosed:
        return True


def test_a_newcomer_that_leaves_before_it_is_let_in_leaves_the_session_to_who_has_it(
    redis_url: str, brokers: str, redis: redis_py.Redis, charge_point_id: str
) -> None:
    with (
        RedisGate(redis_url) as gate,
        Gateway(gate.url, brokers, SESSION_TTL_SECONDS="10") as gateway,
        connected(gateway, charge_point_id) as charger,
    ):
        before = record(redis, charge_point_id)
        assert before is not None
        gate.hold(f"rate:reconnects:{charge_point_id}")  # in the newcomer's claim only
        newcomer = RawSocket(gateway.ocpp_port)
        newcomer.send(handshake(f"/ocpp/{charge_point_id}", headers=credentials(charge_point_id)))
        assert gate.held.wait(10), "no claim was on its way"
        newcomer.reset()
        wait_until(gateway, lambda: metric(gateway.http_port, "ocpp_sockets", state="opening") == 0)  # it has noticed
        gate.release()
        wait_until(gateway, lambda: redis.get(f"session-epochs:{charge_point_id}") == b"2")

        wait_until(gateway, lambda: (record(redis, charge_point_id) or {}).get("epoch") == 1)

        found = record(redis, charge_point_id)
        assert found is not None
        assert found["connectedAtMs"] == before["connectedAtMs"]
        assert charger.call("1", "Heartbeat", {})[0] == 3
        charger.hang_up()
        wait_until_gone(redis, charge_point_id)


def wait_until(gateway: Gateway, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up
        http_get(gateway.http_port, "/health")  # passes some time


# Peers that close and read nothing any more.


def stop_reading(gateway: Gateway, charger: RawCharger) -> None:
    """Have the gateway write, and read nothing, until it has bytes left that the kernel does not take."""
    pings = frame(b"x" * 125, PING) * 200
    written = 0
    for _ in range(2000):
        charger.socket.send(pings)
        http_get(gateway.http_port, "/health")  # what was sent before has been answered
        written += 200 * (2 + 125)
        if held_by_the_kernel(gateway.ocpp_port, charger.socket.local_port) < written:
            return
    raise AssertionError("the kernel takes everything")


def held_by_the_kernel(server: int, client: int) -> int:
    """Bytes from ``server`` to ``client`` that were written and not read."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        sent, received = (int(size, 16) for size in queues.split(":"))
        match int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16):
            case ports if ports == (server, client):
                total += sent
            case ports if ports == (client, server):
                total += received
    return total


def test_a_peer_that_closes_and_does_not_read_is_ended_all_the_same(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str
) -> None:
    with connected(gateway, charge_point_id) as charger:
        stop_reading(gateway, charger)
        charger.socket.send(frame(b"\x03\xe8", CLOSE))
        closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id, seconds=15)
        assert (closed["close_reason"], closed["close_code"]) == ("peer_closed", 1000)
        wait_until_gone(redis, charge_point_id)


def test_a_stop_does_not_wait_for_a_peer_that_closed_and_does_not_read(
    redis_url: str, brokers: str, redis: redis_py.Redis, events: Any, charge_point_id: str
) -> None:
    with (
        Gateway(redis_url, brokers, DRAIN_SECONDS="1") as gateway,
        connected(gateway, charge_point_id) as charger,
    ):
        stop_reading(gateway, charger)
        charger.socket.send(frame(b"\x03\xe8", CLOSE))
        http_get(gateway.http_port, "/health")
        assert gateway.stop() == 0
        assert gateway.logged("gateway.stop_failed") == []
    assert record(redis, charge_point_id) is None
    assert wait_for_disconnected(events, charge_point_id)


# The end of the daemon.


def test_a_stop_closes_every_session_and_takes_its_keys_along(
    redis_url: str, brokers: str, redis: redis_py.Redis, events: Any, charge_point_id: str
) -> None:
    mute = charge_point_id + "-mute"
    provision(redis_url, mute)
    with (
        Gateway(redis_url, brokers, NODE_ID="node-that-stops", DRAIN_SECONDS="1") as gateway,
        connected(gateway, charge_point_id) as charger,
        connected(gateway, mute),
    ):
        assert redis.exists("nodes:node-that-stops")
        stopping = threading.Thread(target=gateway.stop)
        stopping.start()
        closing = charger.closed()
        assert (closing.close_code, closing.close_text) == (1012, "Service restart")
        stopping.join()
    assert not redis.exists(f"sessions:{charge_point_id}", f"sessions:{mute}", "nodes:node-that-stops")
    for identity in (charge_point_id, mute):
        assert wait_for_disconnected(events, identity)[-1]["payload"]["reason"] == "service_restart"
