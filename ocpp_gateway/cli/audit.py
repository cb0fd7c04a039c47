"""What operators do leaves a trace: an event on ``cpms.audit.events`` for each identity, certificate, session or ban.

Best effort, after Redis has the change: the record is what counts, and a Kafka that is away must not keep an operator
from disabling a charge point. It is sent when the brokers are known (``--kafka-brokers``, KAFKA_BROKERS or ``--dev``);
when that fails the command says so and still succeeds.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.clock import SystemClock, iso_millis
from ocpp_gateway.errors import BusUnavailable, ConfigError

if TYPE_CHECKING:
    from ocpp_gateway.cli.endpoints import Places
    from ocpp_gateway.cli.records import Record

TOPIC = "cpms.audit.events"
_SECONDS = 3.0
_AT_ONCE_SECONDS = 1.0
"""A broker that runs has confirmed by then; after that, it is seen whether anything listens."""


_UPSERTED, _REMOVED = "ChargerIdentityUpserted", "ChargerIdentityRemoved"
_EVENT_TYPES = {
    "removed": _REMOVED,
    "certificate_revoked": "ChargerCertificateRevoked",
    "certificate_unrevoked": "ChargerCertificateUnrevoked",
    "session_kicked": "ChargerSessionKicked",
    "ban_lifted": "ChargerBanLifted",
}


@frozen(kw_only=True)
class Deed:
    """What was done to an identity.

    ``change`` is added, replaced, changed, enabled, disabled, removed or certificate_bound.

    Or to a certificate, certificate_revoked or certificate_unrevoked, with no charge point where it is for all; to a
    session, session_kicked; to bans, ban_lifted, with no charge point where it is for all at an address.
    """

    charge_point_id: str | None
    change: str
    record: Record
    reason: str = ""
    fingerprint: str | None = None
    serial_number: str | None = None
    expires_in: int | None = None
    """Seconds after which a revocation ends by itself."""

    facts: Mapping[str, Any] = field(factory=dict)
    """What else the event tells."""

    @property
    def event_type(self) -> str:
        """The event that it is told as."""
        return _EVENT_TYPES.get(self.change, _UPSERTED)


def event_of(deed: Deed, *, now: float, event_id: str, actor: str) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The event and its record headers (CloudEvents 1.0, Kafka binding). No hash and no salt is in it."""
    event_type = deed.event_type
    identity = _identity_members(deed) if event_type in (_UPSERTED, _REMOVED) else {}
    payload = {
        "chargePointId": deed.charge_point_id,
        **identity,
        **deed.facts,
        "fingerprint": deed.fingerprint,
        "serialNumber": deed.serial_number,
        "expiresInSeconds": deed.expires_in,
        "actorId": actor,
        "actorType": "operator",
        "reason": deed.reason or None,
    }
    event = {
        "eventId": event_id,
        "eventType": event_type,
        "source": "ocpp-gateway",
        "occurredAt": iso_millis(now),
        "stationId": deed.record.get("stationId"),
        "tenantId": deed.record.get("tenantId"),
        "chargePointId": deed.charge_point_id,
        "payload": {name: value for name, value in payload.items() if value is not None},
    }
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", b"ocpp-gateway"),
        ("ce_time", iso_millis(now).encode()),
        *(() if deed.charge_point_id is None else [("ce_subject", deed.charge_point_id.encode())]),
        ("content-type", b"application/json"),
    ]
    return {name: value for name, value in event.items() if value is not None}, headers


async def publish(places: Places, reactor: Any, deeds: list[Deed]) -> str | None:
    """Send the events of ``deeds``; what went wrong, or None. Does nothing where no Kafka was named."""
    try:
        brokers = places.kafka_if_given()
    except Failure as error:
        return str(error)
    if brokers is None or not deeds:
        return None
    from twisted.internet.defer import Deferred, TimeoutError

    from ocpp_gateway.cli.reach import kafka_addresses, refusal
    from ocpp_gateway.kafka.config import KafkaConfig
    from ocpp_gateway.kafka.producer import EventProducer

    clock = SystemClock(reactor)
    outcome: Deferred[BusUnavailable | None] = Deferred()
    waiting = len(deeds)

    def delivered(failure: BusUnavailable | None) -> None:
        nonlocal waiting
        waiting -= 1
        if not outcome.called and (failure is not None or not waiting):
            outcome.callback(failure)

    def look() -> None:
        refused = refusal(kafka_addresses(brokers))
        if refused is not None and not outcome.called:
            outcome.callback(BusUnavailable(f"no broker is to be had at {brokers}: {refused}"))

    try:
        config = KafkaConfig.from_environ(places.kafka_environ(), brokers=brokers, client_id="ocpp-gateway-cli")
        producer = EventProducer(config, reactor=reactor, clock=clock)
        producer.start()
    except ConfigError as error:
        return str(error)
    looking = reactor.callLater(_AT_ONCE_SECONDS, look)
    try:
        for deed in deeds:
            event, headers = event_of(deed, now=clock.now(), event_id=str(uuid.uuid4()), actor=actor())
            key = None if deed.charge_point_id is None else deed.charge_point_id.encode()
            producer.publish(TOPIC, key, json.dumps(event, separators=(",", ":")).encode(), headers, delivered)
        outcome.addTimeout(_SECONDS, reactor)
        failure = await outcome
    except BusUnavailable as error:
        return str(error)
    except TimeoutError:
        return f"Kafka at {brokers} did not confirm it in {_SECONDS:g} s"
    finally:
        if looking.active():
            looking.cancel()
        await producer.close(0.5)
    return None if failure is None else str(failure)


def _identity_members(deed: Deed) -> dict[str, Any]:
    auth = deed.record.get("auth")
    return {
        "change": deed.change,
        "status": deed.record.get("status", "active"),
        "allowedProtocols": deed.record.get("allowedProtocols"),
        "authType": auth.get("type") if isinstance(auth, dict) else None,
    }


def actor() -> str:
    """Who runs the command, as the host knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
