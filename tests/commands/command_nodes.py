"""A node with all its parts for commands, and charge points that are connected to it by a real outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from attrs import define
from command_parts import MemoryRedis, MemoryStore, Record, Tally, Topic
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.commands.dispatcher import Dispatcher
from ocpp_gateway.commands.executor import Executor
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.origins import Handovers
from ocpp_gateway.commands.parking import Parking
from ocpp_gateway.commands.patience import Patience
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.recovery import Recovery
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.sessions import EveryoneAccepted
from ocpp_gateway.commands.states import Process, Taking
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.commands.unparking import Unparking
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import CallError, CallResult
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.envelope import Envelope
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.outbox import Outbox

SCHEMAS = Schemas.load()
VERSION = OcppVersion.V16
STAMPS = EventStamps()


@define(frozen=True)
class Identity:
    epoch: int


@define(frozen=True)
class StationStandIn:
    caller: Caller
    envelope: Envelope


class ChargePointSession:
    """An ExecutingSession: what is sent goes to ``frame_sent``."""

    def __init__(
        self,
        charge_point_id: str,
        node_id: str,
        epoch: int,
        clock: ManualClock,
        frame_sent: Callable[[list[Any]], object],
        max_waiting: int = 50,
    ) -> None:
        self.charge_point_id = charge_point_id
        self.identity = Identity(epoch)
        self.version = VERSION
        envelope = Envelope(
            charge_point_id=charge_point_id,
            station_id="station-1",
            tenant_id="tenant-a",
            ocpp_version=VERSION.label,
            connection_id=f"conn-{epoch}",
            epoch=epoch,
            node_id=node_id,
            stamps=STAMPS,
        )
        self.station: Any = StationStandIn(Caller(charge_point_id, "station-1", "tenant-a"), envelope)
        self.is_open = True
        self.sent: list[list[Any]] = []
        self._frame_sent = frame_sent
        self.outbox = Outbox(
            max_waiting=max_waiting, clock=clock, send=self._send, reject=lambda *_: None, idled=lambda: None
        )

    def call(self, call: Any) -> bool:
        return self.is_open and self.outbox.submit(call)

    def _send(self, frame: bytes) -> None:
        self.sent.append(orjson.loads(frame))
        self._frame_sent(self.sent[-1])

    def close(self) -> None:
        self.is_open = False
        self.outbox.end()

    def answer(self, payload: dict[str, Any] | None = None, *, error: str | None = None) -> None:
        """Answer the last CALL."""
        message_id = self.sent[-1][1]
        array = [3, message_id, payload] if error is None else [4, message_id, error, "", {}]
        frame = decode(orjson.dumps(array), VERSION)
        assert isinstance(frame, CallResult | CallError)
        self.outbox.received(frame)


class MemoryBus:
    """The CommandBus of one node: ``deliver`` carries a message to a node by its id, and says how many heard it."""

    def __init__(self, node_id: str, deliver: Callable[[str, Callable[[Any], object]], int]) -> None:
        self.node_id = node_id
        self.deliver = deliver
        self.is_away = False
        self.said: list[tuple[str, str]] = []

    async def hand_over(self, node_id: str, command: Command, attempt: int) -> int:
        origin, copy = self.node_id, Command.decode(command.encode())
        assert copy == command
        return self._tell("hand_over", node_id, lambda node: node.handovers.heard(copy, origin))

    async def taken(self, node_id: str, command_id: str, process: Process, result: Taking) -> int:
        return self._tell(result.value, node_id, lambda node: node.dispatcher.heard_taken(command_id, process, result))

    async def done(self, node_id: str, command_id: str) -> int:
        return self._tell("done", node_id, lambda node: node.dispatcher.heard_done(command_id))

    def _tell(self, kind: str, node_id: str, message: Callable[[Any], object]) -> int:
        if self.is_away:
            raise StoreUnavailable("away")
        self.said.append((kind, node_id))
        return self.deliver(node_id, message)


class Registrations(EveryoneAccepted):
    def __init__(self) -> None:
        self.rejected: set[str] = set()
        self.questions: list[tuple[str, str]] = []

    def is_rejected(self, charge_point_id: str) -> bool:
        return charge_point_id in self.rejected

    def asked(self, charge_point_id: str, action: str, payload: dict[str, Any]) -> None:
        self.questions.append((charge_point_id, action))


class CommandNode:
    """One node. It is its own LiveSessions."""

    def __init__(
        self,
        process: Process,
        clock: ManualClock,
        store: MemoryStore,
        topic: Any,
        bus: MemoryBus,
        finished: Callable[[Record], object],
        secrets: Any = None,
        parking_limit: int = 3,
    ) -> None:
        self.process, self.clock, self.store, self.bus = process, clock, store, bus
        self.sessions: dict[str, ChargePointSession] = {}
        self.tally = Tally()
        self.registrations = Registrations()
        self.events = CommandEvents(bus=topic, topic="ocpp.command.events", search=topic.search, clock=clock)
        self.finals = Finals(
            store=store, events=self.events, counters=self.tally, stamps=STAMPS, clock=clock, process=process
        )
        self.patience = Patience(clock, 10.0)
        self.recovery = Recovery(store=store, finals=self.finals, clock=clock, patience=self.patience)
        self.executor = Executor(
            store=store,
            sessions=self,
            finals=self.finals,
            events=self.events,
            schemas=SCHEMAS,
            stamps=STAMPS,
            clock=clock,
            new_start_id=lambda: 7,
            registration=self.registrations,
            secrets=secrets,
        )
        self.unparking = Unparking(store=store, executor=self.executor, clock=clock)
        self.handovers = Handovers(taker=self.unparking, bus=bus, clock=clock, process=process)
        self.parking = Parking(
            store=store,
            finals=self.finals,
            recovery=self.recovery,
            clock=clock,
            limit=parking_limit,
            tasks=Tasks(clock),
        )
        self.dispatcher = Dispatcher(
            store=store,
            bus=bus,
            taker=self.unparking,
            parking=self.parking,
            finals=self.finals,
            recovery=self.recovery,
            clock=clock,
            patience=self.patience,
            finished=finished,
            default_timeout=15.0,
        )

    def find(self, charge_point_id: str) -> ChargePointSession | None:
        session = self.sessions.get(charge_point_id)
        return session if session is not None and session.is_open and session.outbox.takes_calls else None

    async def each_second(self) -> None:
        """What is wired as Periodic."""
        for action in (self.dispatcher.poll, self.parking.sweep):
            try:
                await action()
            except StoreUnavailable:
                continue

    async def stop(self, seconds: float = 0.0) -> None:
        """In the order of ``stopping``."""
        await self.dispatcher.stop(seconds)
        await self.unparking.stop()
        for session in list(self.sessions.values()):
            session.close()
        await self.executor.stop(seconds)
        await self.recovery.stop()
        await self.parking.stop()
        await self.finals.stop(seconds)
        await self.handovers.stop()
        await self.events.stop()


class Site:
    """Nodes that share a Redis and a topic; all is at once, but for time."""

    def __init__(self, names: str = "a", **options: Any) -> None:
        self.clock = ManualClock()
        self.redis = MemoryRedis()
        self.topic = Topic()
        self.finished: list[Record] = []
        self.nodes: dict[str, CommandNode] = {}
        self.deaf: set[str] = set()
        self.epoch = 0
        self.records = 0
        for name in names:
            self.add(name, **options)

    def add(self, name: str, born: str = "1", **options: Any) -> CommandNode:
        store = MemoryStore(self.redis, lambda: int(self.clock.now() * 1000))
        node = CommandNode(
            Process(name, born),
            self.clock,
            store,
            self.topic,
            MemoryBus(name, self._deliver),
            self.finished.append,
            **options,
        )
        self.redis.leases[name] = born
        self.nodes[name] = node
        return node

    def __getitem__(self, name: str) -> CommandNode:
        return self.nodes[name]

    def _deliver(self, node_id: str, message: Callable[[Any], object]) -> int:
        if node_id in self.deaf or node_id not in self.nodes:
            return 0
        message(self.nodes[node_id])
        return 1

    def connect(self, name: str, charge_point_id: str = "CP-001", max_waiting: int = 50) -> ChargePointSession:
        self.epoch += 1
        self.redis.sessions[charge_point_id] = name, self.epoch
        node = self.nodes[name]
        session = ChargePointSession(charge_point_id, name, self.epoch, self.clock, lambda frame: None, max_waiting)
        node.sessions[charge_point_id] = session
        node.unparking.opened(session)
        return session

    def disconnect(self, name: str, charge_point_id: str = "CP-001") -> None:
        self.redis.sessions.pop(charge_point_id, None)
        self.nodes[name].sessions.pop(charge_point_id).close()

    def record(self, value: bytes, partition: int = 0) -> Record:
        self.records += 1
        return Record(partition, self.records, value, int(self.clock.now() * 1000))

    def pass_time(self, seconds: float, *, step: float = 0.5) -> None:
        """Step by step, with what is done each second."""
        for _ in range(round(seconds / step)):
            second = self._second()
            self.clock.advance(step)
            if self._second() != second:
                for node in self.nodes.values():
                    Deferred.fromCoroutine(node.each_second()).addErrback(_raise)

    def _second(self) -> int:
        return int(self.clock.monotonic() + 1e-6)  # many small steps do not add up exactly


def _raise(failure: Any) -> None:
    failure.raiseException()
