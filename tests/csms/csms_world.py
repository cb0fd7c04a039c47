"""An uplink whose CALLs are answered by a CSMS: all of it real, over memory, and a test plays Kafka and the CSMS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import orjson
from adapters.adapter_ports import CALLER, MemoryStore
from attrs import define, evolve, field
from routing.memory_bus import MemoryBus, Published
from routing.routing_parts import station
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred

from ocpp_gateway.adapters.answers import Caller, Topic
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.csms.asking import Asking
from ocpp_gateway.csms.boot import ACTION, BootState, Registrations
from ocpp_gateway.csms.policy import CsmsPolicy
from ocpp_gateway.csms.questions import Questions, ReplyPartitions
from ocpp_gateway.csms.replies import Replies
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import Call, Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import Station, UnreadableCall
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.routing.writability import Writability

HOLD = 8.0
TIMEOUT = 10.0
LOG_COOLDOWN = 60.0
V16, V201, V21 = OcppVersion.V16, OcppVersion.V201, OcppVersion.V21

BOOT_16 = {"chargePointVendor": "V", "chargePointModel": "M"}
START = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 0, "timestamp": "2026-01-02T03:04:05Z"}


def boot_answer(status: str, interval: int = 60) -> dict[str, Any]:
    return {"status": status, "currentTime": "2026-01-02T03:04:05Z", "interval": interval}


@define(eq=False)
class MemoryBootStates:
    """BootStates; ``away`` makes it behave as Redis does, ``slow`` makes each read wait for a test."""

    kept: dict[str, BootState] = field(factory=dict)
    away: bool = False
    slow: list[Deferred[None]] | None = None
    reads: int = 0
    writes: list[tuple[str, BootState | None]] = field(factory=list)

    async def get(self, charge_point_id: str) -> BootState | None:
        self.reads += 1
        if self.slow is not None:
            waiting: Deferred[None] = Deferred()
            self.slow.append(waiting)
            await waiting
        if self.away:
            raise StoreUnavailable
        return self.kept.get(charge_point_id)

    async def keep(self, charge_point_id: str, epoch: int, state: BootState) -> None:
        self.writes.append((charge_point_id, state))
        if not self.away:
            self.kept[charge_point_id] = state

    async def forget(self, charge_point_id: str, epoch: int) -> None:
        self.writes.append((charge_point_id, None))
        if not self.away:
            self.kept.pop(charge_point_id, None)


@define(eq=False)
class Said:
    """What became of one CALL."""

    frames: list[Any] = field(factory=list)
    again: list[bool] = field(factory=list)
    reasons: list[str] = field(factory=list)

    def finish(self, frame: bytes | None, again: bool) -> None:
        self.frames.append(None if frame is None else json.loads(frame))
        self.again.append(again)

    def give_up(self, reason: str) -> None:
        self.reasons.append(reason)

    @property
    def nothing_yet(self) -> bool:
        return not self.frames and not self.reasons


class NoBus:
    async def csms_answer(self, node_id: str, correlation_id: str, value: bytes) -> int:
        raise AssertionError("there is one node only")


@define(eq=False)
class World:
    schemas: Schemas
    actions: Sequence[str] = ("Authorize", "StartTransaction", "BootNotification", "DataTransfer")
    fallbacks: Mapping[str, str] = field(factory=dict)
    max_waiting: int = 100
    bus: MemoryBus = field(factory=MemoryBus)
    store: MemoryStore = field(factory=MemoryStore)
    boot_states: MemoryBootStates = field(factory=MemoryBootStates)
    clock: ManualClock = field(factory=ManualClock)
    calls: list[tuple[str, str]] = field(factory=list)
    questions_ended: list[tuple[str, str]] = field(factory=list)
    records: list[str] = field(factory=list)
    changes: list[str] = field(factory=list)
    holds: Holds = field(init=False)
    questions: Questions = field(init=False)
    registrations: Registrations = field(init=False)
    replies: Replies = field(init=False)
    uplink: Uplink = field(init=False)

    def __attrs_post_init__(self) -> None:
        numbers = count(1)
        self.holds = Holds(HOLD, self.clock)
        self.questions = Questions(
            node_id="node-1",
            topic="replies",
            partitions=ReplyPartitions(lambda: (3,), lambda: 4),
            new_id=lambda: f"id{next(numbers)}",
            clock=self.clock,
            max_waiting=self.max_waiting,
        )
        self.registrations = Registrations(self.boot_states, self.clock)
        registrations = self.registrations if ACTION in self.actions else None
        self.replies = Replies(node_id="node-1", questions=self.questions, bus=NoBus(), counters=self)
        asking = Asking(
            policy=CsmsPolicy.of(self.actions, TIMEOUT, (), self.fallbacks.items()),
            questions=self.questions,
            schemas=self.schemas,
            registrations=registrations,
            counters=self,
            cooldown=LogCooldown(self.clock, seconds=LOG_COOLDOWN, max_entries=100),
        )
        self.uplink = Uplink(
            schemas=self.schemas,
            bus=self.bus,
            topics={topic: topic.value for topic in Topic},
            holds=self.holds,
            writability=Writability(
                self.clock,
                lambda: self.changes.append("lost"),
                lambda: self.changes.append("regained"),
                when_room=self.bus.when_room,
            ),
            counters=self,
            clock=self.clock,
            csms=asking if self.actions else None,
            gate=registrations,
        )

    def station(
        self,
        version: OcppVersion = V16,
        *,
        policy: IdTokenPolicy = IdTokenPolicy.ACCEPT,
        connection: str = "c-1",
        epoch: int | None = None,
    ) -> Station:
        made = station(version, self.store, policy)
        envelope = made.envelope
        epoch = envelope.epoch if epoch is None else epoch
        return evolve(made, envelope=evolve(envelope, connection_id=connection, epoch=epoch))

    def other_station(self) -> Station:
        return station(V16, self.store, caller=Caller("CP-002", "station-2", CALLER.tenant_id))

    def take(
        self,
        call: Call | Send | UnreadableCall,
        of: Station,
        said: Said | None = None,
        is_ours: Any = lambda: True,
    ) -> Said:
        said = said or Said()
        self.uplink.take(of, call, said.finish, said.give_up, is_ours)
        return said

    def say(
        self,
        action: str,
        payload: Mapping[str, Any],
        of: Station | None = None,
        id: str = "m-1",
        is_ours: Any = lambda: True,
    ) -> Said:
        of = of or self.station()
        call = decode(json.dumps([2, id, action, payload]).encode(), of.version)
        assert isinstance(call, Call)
        return self.take(call, of, is_ours=is_ours)

    def confirm(self) -> None:
        self.bus.settle()

    @property
    def last(self) -> Published:
        return self.bus.records[-1]

    def csms(self, payload: Any = None, *, error: Any = None, to: Published | None = None) -> None:
        """The CSMS answers the event ``to``, the last one unless given."""
        event = (to or self.last).event
        self.csms_record(orjson.dumps({"payload": payload, "error": error}), event["replyTo"]["correlationId"])

    def csms_record(self, value: bytes, correlation_id: str | None = None) -> None:
        correlation_id = correlation_id or self.last.event["replyTo"]["correlationId"]
        self.replies.received(_Record(value, (("kafka_correlationId", correlation_id.encode()),)))

    def boot(self, status: str, of: Station | None = None, **members: Any) -> Said:
        """BootNotification, answered by the CSMS."""
        of = of or self.station()
        if of.version is V16:
            said = self.say("BootNotification", BOOT_16, of)
        else:
            payload = {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}}
            said = self.say("BootNotification", payload, of)
        self.confirm()
        self.csms(boot_answer(status, **members))
        return said

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome in self.calls]

    @property
    def is_idle(self) -> bool:
        """Nothing of what came before is left."""
        return len(self.holds) == len(self.questions) == 0

    # UplinkCounters, CsmsCounters, ReplyCounters.

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        self.calls.append((action, outcome))

    def observe_publish(self, seconds: float) -> None:
        assert seconds >= 0

    def count_csms_answer(self, action: str, outcome: str) -> None:
        self.questions_ended.append((action, outcome))

    def count_csms_record(self, outcome: str) -> None:
        self.records.append(outcome)


@define
class _Record:
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
