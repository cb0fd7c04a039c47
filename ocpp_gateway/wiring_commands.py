"""The objects that carry commands out, how they begin, and how they end (see ``wiring``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ocpp_gateway.clock import Clock
from ocpp_gateway.commands.credentials import CredentialChanges
from ocpp_gateway.commands.dispatcher import Dispatcher
from ocpp_gateway.commands.door import REQUESTS_TOPIC, CommandDoor
from ocpp_gateway.commands.executor import Executor
from ocpp_gateway.commands.finals import Finals
from ocpp_gateway.commands.origins import Handovers
from ocpp_gateway.commands.parking import Parking
from ocpp_gateway.commands.patience import Patience
from ocpp_gateway.commands.publisher import EVENTS_TOPIC, CommandBusWriter, CommandEvents
from ocpp_gateway.commands.recovery import Recovery
from ocpp_gateway.commands.sessions import Registration
from ocpp_gateway.commands.states import Process
from ocpp_gateway.commands.tasks import Tasks
from ocpp_gateway.commands.unparking import Unparking
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.consumer import GroupConsumer
from ocpp_gateway.kafka.records import ReceivedRecord
from ocpp_gateway.kafka.search import find_events
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.bus_messages import BusMessage, CommandDone, CommandHandover, CommandTaken
from ocpp_gateway.redis.command_bus import RedisCommandBus
from ocpp_gateway.redis.commands import RedisCommands
from ocpp_gateway.redis.periodic import Periodic
from ocpp_gateway.redis.sessions import SessionRecord
from ocpp_gateway.routing.stamps import EventStamps
from ocpp_gateway.session.registry import Sessions
from ocpp_gateway.settings import Settings

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_POLL_SECONDS: Final = 1.0
_SEARCH_SECONDS: Final = 20.0
_SEARCH_GROUP_SUFFIX: Final = "-search"
_LEAVE_SECONDS: Final = 3.0
"""What leaving the consumer group may take while the sessions close."""

_LEAVE_LATE_SECONDS: Final = 2.0
"""What it may take after that: if it fails, other nodes read our partitions after the session timeout only."""

_WIND_UP_SECONDS: Final = 2.0
"""What commands under way have at a stop, before other nodes take them over."""

_LAST_WORDS_SECONDS: Final = 5.0
"""What the answers, and the final events, of those carried out here have after the sessions' end, each."""


@frozen(kw_only=True)
class Commands:
    """Everything of this node that has to do with commands. ``consumer`` is None where it reads none."""

    process: Process
    dispatcher: Dispatcher
    executor: Executor
    unparking: Unparking
    handovers: Handovers
    parking: Parking
    recovery: Recovery
    finals: Finals
    events: CommandEvents
    door: CommandDoor
    consumer: GroupConsumer | None
    sessions: Sessions
    polling: Periodic
    sweeping: Periodic
    patience: Patience

    def start(self) -> None:
        """Begin, when the node's lease is held and charge points may connect."""
        self.polling.start()
        self.sweeping.start()
        if self.consumer is not None:
            self.consumer.start()

    def redis_changed(self, connected: bool) -> None:
        """Without Redis no command can be begun."""
        self.patience.redis_changed(connected)
        if self.consumer is None:
            return
        if connected:
            self.consumer.release()
        else:
            self.consumer.hold()

    def recheck(self) -> None:
        """Others took this node for dead, or Redis lost its data: somebody may have parked what could be sent."""
        self.unparking.recheck(self.sessions)

    def restored(self, records: Iterable[SessionRecord]) -> None:
        """Redis had lost the records of these sessions of this node, so others did not find them."""
        found = (self.sessions.find(record.charge_point_id) for record in records)
        self.unparking.recheck(session for session in found if session is not None)

    def heard(self, message: BusMessage) -> None:
        """A word of another node; those about something else are passed over."""
        match message:
            case CommandHandover():
                self.handovers.heard(message.command, message.origin)
            case CommandTaken():
                self.dispatcher.heard_taken(message.command_id, message.process, message.result)
            case CommandDone():
                self.dispatcher.heard_done(message.command_id)

    async def stop_taking(self) -> None:
        """Begin nothing new, and leave what does not end soon to other nodes. Sessions go on."""
        if self.consumer is not None:
            self.consumer.hold()
        await self.dispatcher.stop(_WIND_UP_SECONDS)
        if self.consumer is not None:
            await self.consumer.close(_LEAVE_SECONDS)
        await self.polling.finish()
        await self.unparking.stop()

    async def stop(self) -> None:
        """Publish the final events of what ended with the sessions; before Kafka's end."""
        await self.executor.stop(_LAST_WORDS_SECONDS)
        if self.consumer is not None:
            await self.consumer.close(_LEAVE_LATE_SECONDS)
        await self.sweeping.finish()
        await self.recovery.stop()
        await self.parking.stop()
        await self.finals.stop(_LAST_WORDS_SECONDS)
        await self.handovers.stop()
        await self.events.stop()


def wire_commands(
    settings: Settings,
    *,
    kafka: KafkaConfig,
    redis: RedisClient,
    bus: CommandBusWriter,
    sessions: Sessions,
    secrets: CredentialChanges,
    registration: Registration,
    started_at: str,
    patience_seconds: float,
    schemas: Schemas,
    stamps: EventStamps,
    metrics: Metrics,
    random_id: Callable[[], int],
    clock: Clock,
    reactor: Any,
) -> Commands:
    """Every object that carries commands out, and who knows whom. ``started_at``: as the node's lease tells it.

    ``patience_seconds``: for how long after Redis was away missing leases say nothing.
    """
    process = Process(settings.node_id, started_at)
    store = RedisCommands(
        client=redis,
        clock=clock,
        idempotency_ttl=settings.command_idempotency_ttl_seconds,
        audit_ttl=settings.command_audit_ttl_seconds,
    )
    node_bus = RedisCommandBus(client=redis, node_id=settings.node_id)
    search = partial(_search, kafka, f"{settings.kafka_group_id}{_SEARCH_GROUP_SUFFIX}", reactor)
    events = CommandEvents(bus=bus, topic=EVENTS_TOPIC, search=search, clock=clock)
    finals = Finals(store=store, events=events, counters=metrics, stamps=stamps, clock=clock, process=process)
    patience = Patience(clock, patience_seconds)
    recovery = Recovery(store=store, finals=finals, clock=clock, patience=patience)
    executor = Executor(
        store=store,
        sessions=sessions,
        finals=finals,
        events=events,
        schemas=schemas,
        stamps=stamps,
        clock=clock,
        new_start_id=random_id,
        registration=registration,
        secrets=secrets,
    )
    unparking = Unparking(store=store, executor=executor, clock=clock)
    parking = Parking(
        store=store,
        finals=finals,
        recovery=recovery,
        clock=clock,
        limit=settings.ocpp_max_parked_commands,
        tasks=Tasks(clock),
    )
    dispatcher = Dispatcher(
        store=store,
        bus=node_bus,
        taker=unparking,
        parking=parking,
        finals=finals,
        recovery=recovery,
        clock=clock,
        patience=patience,
        finished=lambda record: _finished(commands, record),
        default_timeout=settings.ocpp_command_timeout,
    )
    consumer = (
        GroupConsumer(
            kafka,
            settings.kafka_group_id,
            REQUESTS_TOPIC,
            reactor=reactor,
            clock=clock,
            received=dispatcher.received,
            revoked=dispatcher.revoked,
            max_in_flight=settings.ocpp_max_commands_in_flight,
        )
        if settings.ocpp_commands_enabled
        else None
    )
    metrics.commands_in_flight = lambda: {"dispatching": len(dispatcher), "executing": len(executor)}
    commands = Commands(
        process=process,
        dispatcher=dispatcher,
        executor=executor,
        unparking=unparking,
        handovers=Handovers(taker=unparking, bus=node_bus, clock=clock, process=process),
        parking=parking,
        recovery=recovery,
        finals=finals,
        events=events,
        door=CommandDoor(states=store, bus=bus, clock=clock, default_timeout=settings.ocpp_command_timeout),
        consumer=consumer,
        sessions=sessions,
        polling=Periodic(
            name="The look at commands under way", clock=clock, interval=_POLL_SECONDS, action=dispatcher.poll
        ),
        sweeping=Periodic(
            name="The look for parked commands whose time is over",
            clock=clock,
            interval=_POLL_SECONDS,
            action=parking.sweep,
        ),
        patience=patience,
    )
    return commands


def _finished(commands: Commands, record: ReceivedRecord) -> None:
    if commands.consumer is not None:
        commands.consumer.finished(record)


async def _search(kafka: KafkaConfig, group_id: str, reactor: Any, event_ids: set[str], since_ms: int) -> set[str]:
    return await find_events(
        kafka, EVENTS_TOPIC, event_ids, since_ms, group_id=group_id, reactor=reactor, timeout=_SEARCH_SECONDS
    )
