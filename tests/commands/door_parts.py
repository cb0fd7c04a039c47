"""What is behind the door, played: Kafka's side of the requests, and the states in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from attrs import define, evolve, field, frozen

from ocpp_gateway.commands.states import CommandState, Stage
from ocpp_gateway.errors import BusUnavailable, StoreUnavailable
from ocpp_gateway.routing.envelope import Headers


@frozen
class Request:
    """A record on its way to Kafka."""

    topic: str
    key: bytes
    record: dict[str, Any]
    headers: Headers
    delivered: Callable[[BusUnavailable | None], None]


@define(eq=False)
class PlayedBack:
    """Kafka takes what comes and confirms it, and Redis says what the test puts into it."""

    known: dict[str, CommandState] = field(factory=dict)
    requests: list[Request] = field(factory=list)
    confirms: bool = True
    refuses: BusUnavailable | None = None
    is_redis_away: bool = False
    looks: int = 0

    # commands.door.CommandStates

    async def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        self.looks += 1
        if self.is_redis_away:
            raise StoreUnavailable("Redis at redis://secret")
        return [self.known.get(command_id) for command_id in command_ids]

    # commands.publisher.CommandBusWriter

    def publish(
        self, topic: str, key: bytes, value: bytes, headers: Headers, delivered: Callable[[BusUnavailable | None], None]
    ) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append(Request(topic, key, orjson.loads(value), headers, delivered))
        if self.confirms:
            delivered(None)

    # What the gateway would do.

    def is_at(self, command_id: str, stage: Stage, source: str = "requests:0:1", **members: Any) -> None:
        members = {"charge_point_id": "CP-1", **members}
        self.known[command_id] = CommandState(state=stage, source=source, **members)

    def ends(
        self,
        command_id: str,
        event_type: str = "CommandAccepted",
        *,
        stage: Stage = Stage.DONE,
        source: str = "requests:0:1",
        **payload: Any,
    ) -> None:
        summary = orjson.dumps({"eventType": event_type, "payload": {"commandType": "Reset", **payload}})
        self.is_at(command_id, stage, source, summary=summary)

    def moves(self, command_id: str, **members: Any) -> None:
        self.known[command_id] = evolve(self.known[command_id], **members)
