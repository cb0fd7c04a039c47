"""Nodes are killed in the middle of commands: each command has one end all the same, and no CALL goes out twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from attrs import define, field, frozen
from confluent_kafka import Producer
from support.answering_points import AT_ONCE, LATER, NEVER, REFUSED, AnsweringPoints
from support.back_end import COMMAND_EVENTS, FINAL, REQUESTS, partitions_read
from support.callers import until
from support.gateway import Gateway
from support.kafka_reader import read_topic
from support.nodes import node
from support.stations import provision
from support.topic_tail import TopicTail

POINTS = 50
COMMANDS = 500
KILLS = ("owner", "consumer", "both") * 3
NODES = 3

SESSION_MS = 6_000 if os.environ.get("KAFKA_BROKERS") else 3_500
"""A real broker takes no shorter one; the mock cluster waits for 1 s less at each rebalance."""

SHORT = {"NODE_TTL_SECONDS": "4", "NODE_HEARTBEAT_SECONDS": "1"}

ANSWERS = (AT_ONCE,) * 8 + (LATER,) * 8 + (REFUSED,) * 2 + (NEVER,) * 2
TIMES: tuple[dict[str, Any], ...] = ({"timeoutSec": 60}, {"timeoutSec": 10, "deliverWithinSec": 120})
NEVER_TIMES = {"timeoutSec": 1.5, "deliverWithinSec": 120}


@frozen
class Asked:
    """A command that is in its topic."""

    command_id: str
    charge_point_id: str
    partition: int


@define(eq=False)
class Backend:
    """Produces commands, as any other producer would."""

    brokers: str
    asked: dict[str, Asked] = field(factory=dict, init=False)
    partitions: int = field(default=0, init=False)
    _producer: Producer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.brokers, "linger.ms": 1, "log_level": 2})
        until(self._sees_topic, REQUESTS)  # which creates it

    def ask(self, charge_point_ids: list[str], answers: list[str]) -> list[Asked]:
        """One command for each, answered as it says."""
        burst: list[Asked] = []
        for charge_point_id, answer in zip(charge_point_ids, answers, strict=True):
            command_id = f"{uuid.uuid4()}-{answer}"
            times = NEVER_TIMES if answer == NEVER else TIMES[len(self.asked) % 2]
            request = {
                "commandId": command_id,
                "commandType": "DataTransfer",
                "chargePointId": charge_point_id,
                "payload": {"vendorId": "test", "data": command_id},
                **times,
            }

            def delivered(error: Any, message: Any, command_id: str = command_id, at: str = charge_point_id) -> None:
                assert error is None, error
                self.asked[command_id] = Asked(command_id, at, message.partition())
                burst.append(self.asked[command_id])

            self._producer.produce(REQUESTS, json.dumps(request), charge_point_id, on_delivery=delivered)
            self._producer.poll(0)
        assert self._producer.flush(15) == 0
        assert len(burst) == len(charge_point_ids)
        return burst

    def _sees_topic(self) -> bool:
        self.partitions = len(self._producer.list_topics(REQUESTS, timeout=10).topics[REQUESTS].partitions)
        return self.partitions > 0


@define(eq=False)
class Cluster:
    """Nodes that are killed, and started again, with the charge points that go to them."""

    start_node: Callable[[str], Gateway]
    points: AnsweringPoints
    partitions: int
    nodes: dict[str, Gateway] = field(factory=dict, init=False)
    """Those that live."""

    def start(self, node_id: str) -> None:
        gateway = self.nodes[node_id] = self.start_node(node_id)
        self.points.ports[node_id] = gateway.ocpp_port

    def kill(self, *node_ids: str) -> None:
        """All of them at once."""
        gone = [self.nodes[each] for each in node_ids]
        for gateway in gone:
            os.kill(gateway.pid, signal.SIGKILL)
        self._forget(*node_ids)
        for gateway in gone:
            gateway.ended(seconds=10)

    def stop(self, node_id: str) -> None:
        """SIGTERM, and wait for the end."""
        gateway = self.nodes[node_id]
        os.kill(gateway.pid, signal.SIGTERM)
        self._forget(node_id)
        assert gateway.ended(seconds=20) == 0

    def readers(self) -> dict[int, list[str]]:
        """Which nodes read each partition of the commands, as they say."""
        found: dict[int, list[str]] = defaultdict(list)
        for node_id, gateway in self.nodes.items():
            for partition in partitions_read(gateway, REQUESTS):
                found[partition].append(node_id)
        return found

    def is_settled(self) -> bool:
        """Everybody is connected, every partition is read, and every node reads."""
        readers = self.readers()
        return (
            self.points.all_connected()
            and len(readers) == self.partitions
            and all(len(each) == 1 for each in readers.values())
            and len({each for (each,) in readers.values()}) == min(len(self.nodes), self.partitions)
        )

    def settle(self) -> None:
        """Wait until it ``is_settled``."""
        try:
            until(self.is_settled, "a settled cluster", seconds=30)
        except AssertionError as error:
            connected = sum(self.points.node_of(each) is not None for each in self.points.identities)
            raise AssertionError(f"{error}: {connected} connected, {dict(self.readers())}") from None

    def _forget(self, *node_ids: str) -> None:
        for each in node_ids:
            del self.nodes[each], self.points.ports[each]


World = Callable[[random.Random, int], contextlib.AbstractContextManager[tuple[Cluster, Backend]]]


@pytest.fixture
def world(redis_url: str, brokers: str, charge_point_id: str, tmp_path: Path) -> World:
    """``with world(rng, points) as (cluster, backend)``: settled nodes, and connected charge points."""

    @contextlib.contextmanager
    def build(rng: random.Random, count: int) -> Iterator[tuple[Cluster, Backend]]:
        identities = [f"{charge_point_id}-{number}" for number in range(count)]
        for each in identities:
            provision(redis_url, each)
        group = tmp_path / "group.properties"
        group.write_text(f"session.timeout.ms={SESSION_MS}\nheartbeat.interval.ms=200\n")
        settings = {**SHORT, "KAFKA_CONFIG_FILE": str(group), "KAFKA_GROUP_ID": f"group-{uuid.uuid4()}"}
        backend = Backend(brokers)
        with contextlib.ExitStack() as stack:
            points = AnsweringPoints(identities, rng)
            cluster = Cluster(
                lambda node_id: stack.enter_context(node(redis_url, brokers, node_id, **settings)),
                points,
                backend.partitions,
            )
            for number in range(NODES):
                cluster.start(f"{charge_point_id}-node-{number}")
            stack.enter_context(points)
            cluster.settle()
            yield cluster, backend

    return build


def victims_of(kind: str, target: Asked, cluster: Cluster, readers: dict[int, list[str]]) -> set[str] | None:
    """The nodes to kill; None: ``target`` is no command for this ``kind`` of kill."""
    owner = cluster.points.node_of(target.charge_point_id)
    (reader,) = readers[target.partition]
    if owner is None or (owner == reader and kind != "both"):
        return None
    return {"owner": {owner}, "consumer": {reader}, "both": {owner, reader}}[kind]


def wait_for_ends(tail: TopicTail, command_ids: set[str], *, seconds: float) -> None:
    """Until each has a final event."""
    missing = set(command_ids)

    def was_last(event: dict[str, Any]) -> bool:
        if event["eventType"] in FINAL:
            missing.discard(event["correlationId"])
        return not missing

    try:
        tail.wait_for(was_last, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"{len(missing)} commands have no end in {seconds} s: {sorted(missing)[:5]}") from None


def check(backend: Backend, points: AnsweringPoints, brokers: str) -> Counter[tuple[str, str]]:
    """One end for each command, one CALL at most, and both agree. How often each kind of end came."""
    events: dict[str, list[dict[str, Any]]] = {each: [] for each in backend.asked}
    for record in read_topic(brokers, COMMAND_EVENTS):
        event = json.loads(record.value)
        if event.get("correlationId") in events:
            events[event["correlationId"]].append(event)
    calls = Counter(each.command_id for each in points.heard)
    ends = {name: [event for event in of if event["eventType"] in FINAL] for name, of in events.items()}

    def told(names: list[str]) -> str:
        first = names[0]
        heard = [each for each in points.heard if each.command_id == first]
        return f"{len(names)} of {len(ends)} commands; {first}: {events[first]}, {heard}"

    twice = [name for name, count in calls.items() if count > 1]
    assert not twice, f"sent more than once: {told(twice)}"
    wrong = [name for name, finals in ends.items() if len(finals) != 1]
    assert not wrong, f"not exactly one final event: {told(wrong)}"
    strange = [
        name
        for name, of in events.items()
        if {each["eventType"] for each in of} - FINAL - {"CommandDispatched", "CommandQueued"}
    ]
    assert not strange, f"another event: {told(strange)}"
    end_of = {name: finals[0] for name, finals in ends.items()}
    kind_of = {name: end["eventType"] for name, end in end_of.items()}
    failed = [name for name in calls if kind_of[name] == "CommandFailed"]
    assert not failed, f"failed, as if it had not been sent: {told(failed)}"
    answered = [name for name, kind in kind_of.items() if kind in ("CommandAccepted", "CommandRejected")]
    unheard = [name for name in answered if name not in points.answered]
    assert not unheard, f"ended with an answer that nobody gave: {told(unheard)}"
    others = [
        name
        for name in answered
        if (name.endswith(REFUSED)) != (kind_of[name] == "CommandRejected")
        or (kind_of[name] == "CommandAccepted" and end_of[name]["payload"]["response"]["data"] != name)
    ]
    assert not others, f"ended with the answer to something else: {told(others)}"
    for heard in points.heard:
        ids = {each["payload"]["messageId"] for each in events[heard.command_id] if "messageId" in each["payload"]}
        assert ids <= {heard.message_id}, f"told of another CALL: {told([heard.command_id])}"
    return Counter((end["eventType"], end["payload"].get("reason", "")) for end in end_of.values())


def check_done(redis: redis_py.Redis, backend: Backend) -> None:
    """Redis knows that nothing is left to do, and forgets it some day."""
    keys = {name: f"command-idempotency:{name}" for name in backend.asked}
    until(
        lambda: all(redis.hget(key, "state") == b"done" for key in keys.values()),
        "the end of all commands in Redis",
        seconds=10,
    )
    assert [name for name, key in keys.items() if redis.ttl(key) < 0] == []


@pytest.mark.timeout(180)
def test_each_command_has_one_end_and_no_call_goes_out_twice_whoever_is_killed(
    redis: redis_py.Redis, brokers: str, world: World
) -> None:
    seed = random.getrandbits(32)  # pytest-randomly tells how to get the same again
    rng = random.Random(seed)
    with world(rng, POINTS) as (cluster, backend), TopicTail(brokers, COMMAND_EVENTS) as tail:
        points, names = cluster.points, itertools.count(NODES)
        kinds = rng.sample(KILLS, len(KILLS))
        for number, kind in enumerate(kinds):
            burst_size = COMMANDS * (number + 1) // len(kinds) - COMMANDS * number // len(kinds)
            readers, before = cluster.readers(), len(points.heard)
            burst = backend.ask(
                rng.choices(points.identities, k=burst_size), [rng.choice(ANSWERS) for _ in range(burst_size)]
            )
            points.wait_for_calls(before + rng.randrange(burst_size * 2 // 3), seconds=2)
            under_way = [each for each in burst if each.command_id not in points.answered]
            rng.shuffle(under_way)
            victims = next(filter(None, (victims_of(kind, each, cluster, readers) for each in under_way)), None)
            assert victims is not None, f"no command under way for this kill of the {kind}; seed {seed}"
            cluster.kill(*victims)
            for node_id in sorted(victims):
                again = rng.choice(("at once", "later", "another"))
                if again == "later":
                    until(lambda: not redis.exists(f"nodes:{node_id}"), "the end of its lease")  # noqa: B023
                name = f"{node_id.rpartition('-')[0]}-{next(names)}" if again == "another" else node_id
                cluster.start(name)
            points.wander(*rng.sample(points.identities, POINTS // 4))
            cluster.settle()
        assert len(backend.asked) == COMMANDS
        wait_for_ends(tail, set(backend.asked), seconds=60)

        # It goes on as if nothing had been.
        last = backend.ask(points.identities, [AT_ONCE] * POINTS)
        wait_for_ends(tail, {each.command_id for each in last}, seconds=15)
        assert {each.command_id for each in last} <= points.answered
        check_done(redis, backend)
        for node_id in list(cluster.nodes):
            cluster.stop(node_id)
        counted = check(backend, points, brokers)
    assert counted["CommandAccepted", ""] > COMMANDS / 2
    assert counted["CommandTimeout", "node_lost"] > 0


@pytest.mark.parametrize("kind", ["owner", "consumer"])
def test_a_node_that_is_stopped_leaves_nothing_to_wait_for(
    redis: redis_py.Redis, brokers: str, world: World, kind: str
) -> None:
    """Its commands end soon: others need not find out first that it is gone."""
    rng = random.Random(random.getrandbits(32))
    with world(rng, 30) as (cluster, backend), TopicTail(brokers, COMMAND_EVENTS) as tail:
        points, readers = cluster.points, cluster.readers()
        burst = backend.ask(rng.choices(points.identities, k=60), rng.choices([AT_ONCE, LATER, LATER, REFUSED], k=60))
        assert points.wait_for_calls(rng.randrange(5, 30), seconds=15)
        under_way = [each for each in burst if each.command_id not in points.answered]
        (victim,) = next(filter(None, (victims_of(kind, each, cluster, readers) for each in under_way)))
        gateway = cluster.nodes[victim]
        cluster.stop(victim)
        wait_for_ends(tail, set(backend.asked), seconds=30)
        cluster.settle()
        assert gateway.logged("kafka.partitions_revoked"), "it did not leave the group"
        check_done(redis, backend)
        for node_id in list(cluster.nodes):
            cluster.stop(node_id)
        counted = check(backend, points, brokers)
    assert (counted["CommandTimeout", "node_lost"], counted["CommandTimeout", "no_response"]) == (0, 0), counted
