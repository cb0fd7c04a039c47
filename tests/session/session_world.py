"""One session with all that is behind it, Kafka in memory."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from routing.memory_bus import MemoryBus
from routing.routing_parts import security_events, station
from session_parts import LIMITS, Counts, Line, session_identity, standing
from support.manual_clock import ManualClock
from twisted.internet.task import Clock as TwistedClock

from ocpp_gateway.adapters.answers import Topic
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session.session import Session


@define(eq=False)
class World:
    schemas: Schemas
    version: OcppVersion = OcppVersion.V16
    certificate: ClientCertificate | None = None
    bus: MemoryBus = field(factory=MemoryBus)
    security_bus: MemoryBus = field(factory=MemoryBus)
    clock: ManualClock = field(factory=ManualClock)
    line: Line = field(factory=Line)
    counts: Counts = field(factory=Counts)
    holds: Holds = field(init=False)
    session: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.holds = Holds(8.0, self.clock)
        uplink = Uplink(
            schemas=self.schemas,
            bus=self.bus,
            topics={topic: topic.value for topic in Topic},
            holds=self.holds,
            writability=Writability(self.clock, lambda: None, lambda: None),
            counters=self.counts,
            clock=self.clock,
        )
        self.session = Session(
            identity=session_identity(),
            station=station(self.version),
            standing=standing(self.version, self.certificate),
            connection=self.line,
            uplink=uplink,
            security=security_events(self.security_bus, self.clock),
            limits=LIMITS,
            counters=self.counts,
            clock=self.clock,
        )

    def say(self, action: str, payload: Any, message_id: str = "1") -> None:
        self.hear(json.dumps([2, message_id, action, payload]))

    def hear(self, text: str) -> None:
        self.session.received(text.encode())

    def done(self) -> None:
        while self.bus.waiting:
            self.bus.settle()
        self.holds.stop()
        assert self.timers == []

    @property
    def timers(self) -> list[Any]:
        timers: TwistedClock = self.clock.timers
        return timers.getDelayedCalls()
