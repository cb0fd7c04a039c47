"""Nodes, charge points, Redis and Kafka in which everything may come at any moment, and any node may die at any await.

Each step towards Redis, Kafka, another node or a charge point is an event of its own that is due some time or other: a
random one is next. A process that is killed does nothing any more; what it had on its way to Kafka arrives or does not.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field
from command_nodes import ChargePointSession, CommandNode, MemoryBus
from command_parts import MemoryRedis, MemoryStore, Record, Topic, command, request_of
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Process
from ocpp_gateway.errors import BusQueueFull, BusUnavailable, StoreUnavailable

LEASE_SECONDS = 6.0
PARTITIONS = 2
_TICK = 0.25


class _WorldStore(MemoryStore):
    world: Any
    life: Any

    async def reach(self) -> None:
        await self.world.hop(self.life)
        if self.world.chance("redis"):
            raise StoreUnavailable("away")

    async def back(self) -> None:
        await self.world.hop(self.life)
        if self.world.chance("redis"):
            raise StoreUnavailable("the answer was lost")


class _WorldTopic:
    """Kafka as one process sees it."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life

    def publish(self, topic: str, key: bytes, value: bytes, headers: Any, delivered: Any) -> None:
        world = self.world
        if world.chance("kafka"):
            raise BusQueueFull("full")

        def arrive() -> None:
            is_lost = world.chance("kafka")
            if not is_lost:
                world.topic.append(value, headers)
            if self.life.is_alive:
                failed = is_lost or world.chance("kafka")
                world.later(lambda: self.life.is_alive and delivered(BusUnavailable("lost") if failed else None))

        self.life.producing.append(world.later(arrive))

    async def search(self, event_ids: set[str], since_ms: int) -> set[str]:
        await self.world.hop(self.life)
        if self.world.chance("kafka"):
            raise BusUnavailable("away")
        found = {event_id for event_id, _ in self.world.topic.records} & event_ids
        await self.world.hop(self.life)
        return found


@define(eq=False)
class Life:
    """One process."""

    process: Process
    clock: ManualClock
    is_alive: bool = True
    node: Any = None
    producing: list[Any] = field(factory=list)
    is_ticking: bool = False


@define(eq=False)
class _ChargePoint:
    name: str
    session: ChargePointSession | None = None
    life: Life | None = None
    received: list[str] = field(factory=list)
    """vendorIds of its CALLs: each command has its own."""


@define(eq=False)
class _Partition:
    number: int
    log: list[Record] = field(factory=list)
    committed: int = 0
    done: set[int] = field(factory=set)
    life: Life | None = None
    assignment: int = 0


class World:
    def __init__(self, seed: int, nodes: str = "abc", charge_points: int = 3) -> None:
        self.random, self.nodes = Random(seed), nodes
        self.redis, self.topic = MemoryRedis(), Topic()
        self.due: list[Any] = []
        self.now = 0.0
        self.faults = {"redis": 0.0, "kafka": 0.0, "bus": 0.0}
        self.lives: dict[str, Life] = {}
        self.dead: list[Life] = []
        self.births = self.epochs = self.assignments = 0
        self.expiries: list[tuple[float, str, str]] = []
        self.points = {f"CP-{number}": _ChargePoint(f"CP-{number}") for number in range(charge_points)}
        self.partitions = [_Partition(number) for number in range(PARTITIONS)]
        self.commands: list[Command] = []
        self.are_obedient = False
        """Whether charge points accept everything."""

        for name in nodes:
            self.start(name)
        self.rebalance()

    # What is on its way.

    def later(self, what: Callable[[], Any]) -> Callable[[], Any]:
        self.due.append(what)
        return what

    async def hop(self, life: Life) -> None:
        arrived: Deferred[None] = Deferred()
        self.later(lambda: life.is_alive and arrived.callback(None))
        await arrived

    def chance(self, what: str) -> bool:
        return self.random.random() < self.faults[what]

    def step(self) -> bool:
        if not self.due:
            return False
        place = self.random.randrange(len(self.due))
        self.due[place], self.due[-1] = self.due[-1], self.due[place]
        self.due.pop()()
        return True

    def pass_time(self, seconds: float, steps: int = 10**9) -> None:
        """``steps``: of what is due per tick at most."""
        for _ in range(round(seconds / _TICK)):
            self.now += _TICK
            for life in list(self.lives.values()):
                life.clock.advance(_TICK)
                if not life.is_ticking and self.now % 1.0 < _TICK / 2:
                    life.is_ticking = True
                    Deferred.fromCoroutine(life.node.each_second()).addBoth(_tick_ended, life)
            for at, name, born in [each for each in self.expiries if each[0] <= self.now]:
                if self.redis.leases.get(name) == born:
                    del self.redis.leases[name]
                self.expiries.remove((at, name, born))
            for _ in range(steps):
                if not self.step():
                    break

    # Nodes.

    def start(self, name: str) -> None:
        self.births += 1
        clock = ManualClock()
        clock.advance(self.now)
        life = Life(Process(name, str(self.births)), clock)
        store = _WorldStore(self.redis, lambda: int(clock.now() * 1000))
        store.world, store.life = self, life
        bus = MemoryBus(name, self._carry)
        life.node = CommandNode(
            life.process, clock, store, _WorldTopic(self, life), bus, lambda record: self._finished(life, record)
        )
        self.lives[name] = life
        self.redis.leases[name] = life.process.born

    def kill(self, name: str) -> None:
        """As by kill -9."""
        life = self.lives.pop(name)
        life.is_alive = False
        self.dead.append(life)
        for producing in life.producing:
            if producing in self.due:
                self.due.remove(producing)
                if self.random.random() < 0.5:
                    producing()
        self.expiries.append((self.now + LEASE_SECONDS, name, life.process.born))
        self._leave(life)

    def stop(self, name: str) -> None:
        """As by SIGTERM: the group is left, the sessions end, then it goes as far as it comes in three seconds."""
        life = self.lives[name]
        for partition in self.partitions:
            if partition.life is life:
                partition.life = None
        ended = Deferred.fromCoroutine(life.node.stop(1.0))
        for point in self.points.values():
            if point.life is life:
                self.disconnect(point.name)
        for _ in range(40):
            if ended.called:
                break
            self.pass_time(_TICK)
        assert ended.called
        life.is_alive = False
        del self.lives[name]
        self.redis.leases.pop(name, None)
        self._leave(life)

    def bury(self) -> None:
        """What the dead were about to do is taken from them in good order, not by the collector of garbage."""
        for life in self.dead:
            for session in life.node.sessions.values():
                session.close()
            assert Deferred.fromCoroutine(life.node.stop()).called

    def _leave(self, life: Life) -> None:
        for point in self.points.values():
            if point.life is life:
                point.life = point.session = None
        for partition in self.partitions:
            if partition.life is life:
                partition.life = None

    def _carry(self, node_id: str, message: Callable[[Any], object]) -> int:
        if self.chance("bus"):
            return 0

        def hear() -> None:
            life = self.lives.get(node_id)
            if life is not None:
                message(life.node)

        self.later(hear)
        return 1

    # Kafka.

    def rebalance(self, *, is_lazy: bool = False) -> None:
        """Each partition goes to any node that lives; ``is_lazy``: only those that nobody has."""
        for partition in [each for each in self.partitions if not is_lazy or each.life is None]:
            life = self.random.choice(list(self.lives.values())) if self.lives else None
            if partition.life is life:
                continue
            if partition.life is not None:
                partition.life.node.dispatcher.revoked([partition.number])
            self.assignments += 1
            partition.life, partition.assignment = life, self.assignments
            partition.done.clear()
            for record in partition.log[partition.committed :]:
                self._deliver(partition, record)

    def request(self, **changes: Any) -> Command:
        number = len(self.commands)
        wanted = command(
            number,
            command_id=f"c-{number}",
            charge_point_id=self.random.choice(list(self.points)),
            command_type="DataTransfer",
            payload={"vendorId": f"c-{number}"},
            requested_at_ms=self.now_ms,
            **changes,
        )
        self.commands.append(wanted)
        self.send_record(wanted)
        return wanted

    @property
    def now_ms(self) -> int:
        return int((1_767_323_045.678 + self.now) * 1000)

    def send_record(self, wanted: Command) -> None:
        """The back end's: a command, as it comes to the topic."""
        partition = self.partitions[int(wanted.charge_point_id[-1]) % PARTITIONS]
        record = Record(partition.number, len(partition.log), request_of(wanted), wanted.requested_at_ms)
        partition.log.append(record)
        self._deliver(partition, record)

    def _deliver(self, partition: _Partition, record: Record) -> None:
        life = partition.life
        if life is not None:
            copy = Record(record.partition, record.offset, record.value, record.timestamp_ms, partition.assignment)
            life.node.dispatcher.received([copy])

    def _finished(self, life: Life, record: Record) -> None:
        partition = self.partitions[record.partition]
        if partition.life is not life or partition.assignment != record.assignment:
            return
        partition.done.add(record.offset)
        while partition.committed in partition.done:
            partition.committed += 1

    # Charge points.

    def connect(self, name: str) -> None:
        if not self.lives:
            return
        point = self.points[name]
        before, node = point.session, point.life
        if before is None or node is None or self.random.random() < 0.5:
            self.disconnect(name)
        else:  # the charge point has gone, and nobody has told the node yet
            self.later(lambda: self._closed(node, before))
        life = self.random.choice(list(self.lives.values()))
        self.epochs += 1
        self.redis.sessions[name] = life.process.node_id, self.epochs
        session = ChargePointSession(
            name,
            life.process.node_id,
            self.epochs,
            life.clock,
            lambda frame: self._asked(point, session, frame),
        )
        point.life, point.session = life, session
        life.node.sessions[name] = session
        life.node.unparking.opened(session)
        self.later(lambda: life.is_alive and session.is_open and life.node.unparking.settled(session))

    def disconnect(self, name: str) -> None:
        point = self.points[name]
        session, life = point.session, point.life
        point.session = point.life = None
        if session is None or life is None:
            return
        self._closed(life, session)
        epoch = session.identity.epoch

        def released() -> None:
            if self.redis.sessions.get(name, ("", 0))[1] == epoch:
                del self.redis.sessions[name]

        self.later(released)

    def _closed(self, life: Life, session: ChargePointSession) -> None:
        if life.is_alive and session.is_open:
            if life.node.sessions.get(session.charge_point_id) is session:
                del life.node.sessions[session.charge_point_id]
            session.close()

    def _asked(self, point: _ChargePoint, session: ChargePointSession, frame: list[Any]) -> None:
        point.received.append(frame[3]["vendorId"])
        message_id, what = frame[1], 0.0 if self.are_obedient else self.random.random()

        def reply() -> None:
            if point.session is session and session.sent[-1][1] == message_id:
                if what < 0.6:
                    session.answer({"status": "Accepted"})
                elif what < 0.7:
                    session.answer(error="InternalError")
                elif what < 0.8:
                    session.answer({"status": 7})

        if what < 0.8:
            self.later(reply)
        elif what < 0.9:
            self.later(lambda: point.session is session and self.disconnect(point.name))

    # What happens.

    def live(self, events: int, shares: dict[Callable[[Any], object], float]) -> None:
        """So many events, each of any kind, as often as the kind's share says; then peace, until all has ended."""
        trouble = self.random.choice([0.0, 0.05, 0.2])
        for what in self.faults:
            self.faults[what] = trouble * self.random.random()
        for name in self.points:
            self.connect(name)
        kinds, weights = list(shares), list(shares.values())
        for _ in range(events):
            self.random.choices(kinds, weights)[0](self)
        self.come_to_rest()

    def come_to_rest(self) -> None:
        self.faults = dict.fromkeys(self.faults, 0.0)
        for name in self.nodes:
            if name not in self.lives:
                self.start(name)
        self.pass_time(1.0)
        self.rebalance(is_lazy=True)  # what is forgotten must not be delivered again just now
        self.pass_time(150.0)
        self.check()
        self.bury()

    def any_request(self) -> None:
        self.request(
            timeout_seconds=self.random.choice([3.0, 15.0, 40.0]),
            deliver_within_seconds=self.random.choice([0.0, 0.0, 20.0, 60.0]),
        )

    def any_connect(self) -> None:
        self.connect(self.random.choice(list(self.points)))

    def any_disconnect(self) -> None:
        self.disconnect(self.random.choice(list(self.points)))

    def any_kill(self) -> None:
        """Or a start, where nobody lives: all would be still for long."""
        self.kill(self.random.choice(list(self.lives))) if self.lives else self.any_start()

    def any_stop(self) -> None:
        """Or a start, where nobody lives: all would be still for long."""
        self.stop(self.random.choice(list(self.lives))) if self.lives else self.any_start()

    def any_start(self) -> None:
        name = self.random.choice(self.nodes)
        if name not in self.lives:
            self.start(name)

    def any_steps(self) -> None:
        for _ in range(self.random.randrange(40)):
            self.step()

    def any_time(self) -> None:
        self.pass_time(self.random.choice([_TICK, 1.0, 4.0]), self.random.choice([3, 10**9]))

    # What must hold.

    def check(self) -> None:
        asked = [command_id for point in self.points.values() for command_id in point.received]
        assert len(asked) == len(set(asked)), "a CALL was sent twice"
        self.check_no_event_comes_twice()
        for wanted in self.commands:
            finals = self.topic.finals(wanted.command_id)
            assert len(finals) == 1, (wanted, finals, self.redis.rows.get(wanted.command_id))
            event_type = finals[0]["eventType"]
            if event_type == "CommandFailed":
                assert wanted.command_id not in asked, "it was sent, whatever the event says"
            elif event_type != "CommandTimeout":
                assert wanted.command_id in asked
        assert "CommandDuplicate" not in self.topic.types()
        self.check_nothing_is_left()

    def check_no_event_comes_twice(self) -> None:
        arrived = [event_id for event_id, event in self.topic.records if event["eventType"] not in _MAY_REPEAT]
        assert len(arrived) == len(set(arrived)), "an event came twice"

    def check_nothing_is_left(self) -> None:
        for partition in self.partitions:
            assert partition.committed == len(partition.log)
        for life in self.lives.values():
            node = life.node
            left = len(node.dispatcher), len(node.executor), len(node.finals), len(node.unparking)
            assert left == (0, 0, 0, 0), left
        assert not self.redis.deadlines
        assert not any(self.redis.parked.values())


_MAY_REPEAT = ("CommandDispatched", "CommandQueued", "CommandDuplicate")


def _tick_ended(result: Any, life: Life) -> None:
    life.is_ticking = False
    if result is not None:
        result.raiseException()


def run_in_order(seed: int) -> World:
    """The charge points stay and accept everything; messages between nodes get lost, and partitions change hands."""
    world = World(seed)
    pick = world.random
    world.are_obedient = True
    world.faults["bus"] = pick.choice([0.0, 0.3])
    for name in world.points:
        world.connect(name)
    for _ in range(60):
        dice = pick.random()
        if dice < 0.6:
            world.request(timeout_seconds=300.0)
        elif dice < 0.65:
            world.rebalance()
        else:
            for _ in range(pick.randrange(40)):
                world.step()
    world.faults["bus"] = 0.0
    world.pass_time(60.0)
    world.check()
    return world


TROUBLES = {
    World.any_request: 0.35,
    World.any_connect: 0.1,
    World.any_disconnect: 0.05,
    World.any_kill: 0.06,
    World.any_stop: 0.02,
    World.any_start: 0.08,
    World.rebalance: 0.06,
    World.any_steps: 0.18,
    World.any_time: 0.1,
}


def run(seed: int, events: int = 60) -> World:
    """A random life of a cluster, then peace, until all has ended."""
    world = World(seed)
    world.live(events, TROUBLES)
    return world
