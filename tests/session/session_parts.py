"""What the sessions' collaborators are in their tests: real ones, over memory."""

from __future__ import annotations

import json
from typing import Any

import attrs
from adapters.adapter_ports import CALLER
from attrs import define, field
from auth.inline_hashing import InlineHashing
from routing.memory_bus import MemoryBus
from routing.routing_parts import SecurityCounts, security_events, station
from support.manual_clock import ManualClock

from ocpp_gateway.adapters.answers import Caller, Topic
from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.bindings import CertificateRules
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.hashing import HashDefaults
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.standing import Standing, standing_of
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.holds import Holds
from ocpp_gateway.routing.presence import Presence
from ocpp_gateway.routing.uplink import Uplink
from ocpp_gateway.routing.writability import Writability
from ocpp_gateway.session.facts import SessionIdentity, SessionLimits
from ocpp_gateway.session.lifecycle import Course, Lifecycle, begin
from ocpp_gateway.session.pacing import MessageLimits
from ocpp_gateway.session.reasons import CloseReason
from ocpp_gateway.session.record_log import RecordLog
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.session.session import Session
from ocpp_gateway.session.watch import Watch, WatchedIdentities

LIMITS = SessionLimits(
    max_nesting=32,
    max_bad_frames=10,
    max_waiting_calls=16,
    messages=MessageLimits(rate=Rate.off(), patience=0),
    answer_ttl=60.0,
)
PEER = "192.0.2.1"
SECRET_HASH = "ab" * 32

CERTIFICATE = ClientCertificate(
    fingerprint="0A" * 32,
    subject="CN=CP-001,O=Example Charging",
    common_name="CP-001",
    organizations=("Example Charging",),
    alternative_names=(),
    serial_number="1F",
    issuer="CN=Root",
    not_before=1_700_000_000.0,
    not_after=1_800_000_000.0,
)


def certificate(common_name: str | None = "CP-001", **facts: Any) -> ClientCertificate:
    return attrs.evolve(CERTIFICATE, common_name=common_name, **facts)


def raw_record(caller: Caller = CALLER, **members: Any) -> bytes:
    """As stored, with a password; a member that is None is left out."""
    record = {
        "stationId": caller.station_id,
        "tenantId": caller.tenant_id,
        "auth": {"type": "basic", "secretHash": SECRET_HASH},
        **members,
    }
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


def standing(
    version: OcppVersion = OcppVersion.V16,
    certificate: ClientCertificate | None = None,
    raw: bytes | None = None,
    *,
    caller: Caller = CALLER,
    store_id: bytes | None = b"store-1",
) -> Standing:
    """Of a charge point let in by its certificate, else by its password over TLS."""
    stored = raw_record(caller) if raw is None else raw
    outcome = AuthOutcome(AuthMode.BASIC, 2) if certificate is None else AuthOutcome(AuthMode.MTLS, 3)
    return standing_of(
        IdentityRecord.parse(stored, caller.charge_point_id),
        stored,
        outcome,
        address=PEER,
        version=version,
        certificate=certificate,
        store_id=store_id,
    )


def session_identity(caller: Caller = CALLER, *, epoch: int = 1, security_profile: int = 1) -> SessionIdentity:
    return SessionIdentity(
        charge_point_id=caller.charge_point_id,
        connection_id="connection-1",
        epoch=epoch,
        peer=PEER,
        security_profile=security_profile,
        connected_at_ms=0,
        opened_at=0.0,
    )


@define(eq=False)
class Line:
    """The WebSocket: what was sent, whether it is read, how it was closed."""

    sent: list[Any] = field(factory=list)
    paused: int = 0
    closed: CloseReason | None = None
    aborted: bool = False
    last_heard: float = 0.0
    has_more: bool = False
    life: Lifecycle = field(init=False)
    course: Course = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.life, self.course = begin(self)
        self.life.check()
        self.life.opened()

    def send_text(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    def close(self, reason: CloseReason) -> None:
        self.closed = reason

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


@define(eq=False)
class Counts:
    calls: list[str] = field(factory=list)
    bad: list[str] = field(factory=list)
    quirks: list[Quirk] = field(factory=list)
    closes: list[str] = field(factory=list)

    def count_call(self, version: OcppVersion, action: str, outcome: str) -> None:
        self.calls.append(outcome)

    def observe_publish(self, seconds: float) -> None:
        """Not looked at here."""

    def count_bad_frame(self, version: OcppVersion, reason: str) -> None:
        self.bad.append(reason)

    def session_opened(self, version: OcppVersion) -> None:
        """Not looked at here."""

    def session_closed(self, version: OcppVersion, reason: str, seconds: float) -> None:
        self.closes.append(reason)

    def count_quirk(self, version: OcppVersion, quirk: Quirk) -> None:
        self.quirks.append(quirk)

    def count_security_event(self, event_type: str, outcome: str) -> None:
        """Not looked at here."""


@define(eq=False)
class OpenSessions:
    """Instead of Redis: the sessions (id, epoch) that are open."""

    told: list[tuple[str, int]] = field(factory=list)

    def opened_later(self, charge_point_id: str, epoch: int) -> None:
        self.told.append((charge_point_id, epoch))

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """Nothing was claimed."""


@define(eq=False)
class Fleet:
    """The charge points of one node, with Kafka in memory: who is connected, and what is said of them."""

    schemas: Schemas
    identities: WatchedIdentities
    allowed_addresses: AddressList = EVERY_ADDRESS
    bus: MemoryBus = field(factory=lambda: MemoryBus(room=10_000))
    security_bus: MemoryBus = field(factory=lambda: MemoryBus(room=10_000))
    clock: ManualClock = field(factory=ManualClock)
    counts: Counts = field(factory=Counts)
    open_sessions: OpenSessions = field(factory=OpenSessions)
    sessions: Sessions = field(init=False)
    watch: Watch = field(init=False)

    def __attrs_post_init__(self) -> None:
        holds = Holds(8.0, self.clock)
        writability = Writability(self.clock, lambda: None, lambda: None)
        security = security_events(self.security_bus, self.clock, SecurityCounts())
        self.sessions = Sessions(
            uplink=Uplink(
                schemas=self.schemas,
                bus=self.bus,
                topics={topic: topic.value for topic in Topic},
                holds=holds,
                writability=writability,
                counters=self.counts,
                clock=self.clock,
            ),
            security=security,
            presence=Presence(bus=self.bus, topic="stations", holds=holds, writability=writability, clock=self.clock),
            claims=self.open_sessions,
            limits=LIMITS,
            counters=self.counts,
            clock=self.clock,
        )
        self.watch = Watch(
            sessions=self.sessions,
            identities=self.identities,
            authenticator=Authenticator(
                default_mode=AuthMode.BASIC,
                allowed_addresses=self.allowed_addresses,
                hashes=HashDefaults(),
                hashing=InlineHashing(),
                verified=VerifiedCredentials(self.clock, ttl=1, max_entries=1),
                certificate_rules=CertificateRules(),
                clock=self.clock,
            ),
            security=security,
            record_log=RecordLog(LogCooldown(self.clock, seconds=300, max_entries=100)),
            clock=self.clock,
        )

    def connect(
        self,
        rests_on: Standing | None = None,
        caller: Caller = CALLER,
        *,
        certificate_expired: bool = False,
    ) -> Session:
        rests_on = standing(caller=caller) if rests_on is None else rests_on
        session = self.sessions.open(
            session_identity(caller, security_profile=rests_on.security_profile),
            station(rests_on.version, caller=caller, certificate_expired=certificate_expired),
            rests_on,
            Line(),
        )
        self.bus.settle()
        return session

    def revoked(self) -> list[tuple[str, str]]:
        """Whose sessions were ended, as security events tell it, with the reason."""
        events = [record.event for record in self.security_bus.records]
        assert {event["eventType"] for event in events} <= {"SessionRevoked"}
        return [(event["chargePointId"], event["payload"]["reason"]) for event in events]
