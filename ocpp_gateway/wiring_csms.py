"""The objects that ask the CSMS for answers (see ``wiring``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ocpp_gateway.clock import Clock
from ocpp_gateway.csms.asking import Asking
from ocpp_gateway.csms.boot import ACTION as BOOT_NOTIFICATION
from ocpp_gateway.csms.boot import Registrations
from ocpp_gateway.csms.policy import CsmsPolicy
from ocpp_gateway.csms.questions import Questions, ReplyPartitions
from ocpp_gateway.csms.replies import Replies
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.consumer import GroupConsumer
from ocpp_gateway.kafka.records import ReceivedRecord
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ops.metrics import Metrics
from ocpp_gateway.redis.boot_states import RedisBootStates
from ocpp_gateway.redis.bus_messages import BusMessage, CsmsAnswer
from ocpp_gateway.redis.command_bus import RedisCommandBus
from ocpp_gateway.settings import Settings

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_GROUP_SUFFIX: Final = "-replies"
_LEAVE_SECONDS: Final = 3.0


@frozen(kw_only=True)
class CsmsSide:
    """What asks the CSMS, and reads its answers. It has ``registrations`` if it answers BootNotification."""

    asking: Asking
    questions: Questions
    replies: Replies
    consumer: GroupConsumer
    registrations: Registrations | None
    boot_states: RedisBootStates | None

    def start(self) -> None:
        """Begin to read answers."""
        self.consumer.start()

    def heard(self, message: BusMessage) -> None:
        """A word of another node; those about something else are passed over."""
        if isinstance(message, CsmsAnswer):
            self.replies.passed_on(message.correlation_id, message.value)

    async def settle(self) -> None:
        """Make up for what Redis missed. Raises StoreUnavailable."""
        if self.boot_states is not None:
            await self.boot_states.settle()

    async def stop(self) -> None:
        """End, when the sessions are closed."""
        await self.consumer.close(_LEAVE_SECONDS)
        self.questions.stop()


def wire_csms(
    settings: Settings,
    *,
    kafka: KafkaConfig,
    redis: RedisClient,
    schemas: Schemas,
    metrics: Metrics,
    cooldown: LogCooldown,
    new_id: Callable[[], str],
    clock: Clock,
    reactor: Any,
) -> CsmsSide | None:
    """Every object that asks the CSMS; None where it is not asked about anything."""
    policy = CsmsPolicy.of(
        settings.ocpp_csms_actions,
        settings.ocpp_csms_timeout,
        settings.ocpp_csms_timeouts,
        settings.ocpp_csms_fallbacks,
    )
    if not policy:
        return None
    boot_states = RedisBootStates(redis) if BOOT_NOTIFICATION in policy.rules else None
    registrations = None if boot_states is None else Registrations(boot_states, clock)

    def received(records: list[ReceivedRecord]) -> None:
        for record in records:
            replies.received(record)
            consumer.finished(record)

    consumer = GroupConsumer(
        kafka,
        f"{settings.kafka_group_id}{_GROUP_SUFFIX}",
        settings.ocpp_csms_reply_topic,
        reactor=reactor,
        clock=clock,
        received=received,
    )
    questions = Questions(
        node_id=settings.node_id,
        topic=settings.ocpp_csms_reply_topic,
        partitions=ReplyPartitions(lambda: consumer.partitions, consumer.topic_partitions),
        new_id=new_id,
        clock=clock,
    )
    replies = Replies(
        node_id=settings.node_id,
        questions=questions,
        bus=RedisCommandBus(client=redis, node_id=settings.node_id),
        counters=metrics,
    )
    return CsmsSide(
        asking=Asking(
            policy=policy,
            questions=questions,
            schemas=schemas,
            registrations=registrations,
            counters=metrics,
            cooldown=cooldown,
        ),
        questions=questions,
        replies=replies,
        consumer=consumer,
        registrations=registrations,
        boot_states=boot_states,
    )
