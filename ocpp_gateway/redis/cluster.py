"""What operators see and do: this node's sessions, all nodes, and the end of a session wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.bus import kick
from ocpp_gateway.redis.bus_messages import BusMessage, SessionKick, SessionSuperseded
from ocpp_gateway.redis.overview import node_list
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.sessions import SessionRecord

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_ACTOR = "http"


class LocalSessions(Protocol):
    """The sessions of this node."""

    def kick(self, charge_point_id: str, epoch: int | None = None) -> bool:
        """End a session, if it is of ``epoch``; whether there was one."""
        ...

    def transferred(self, charge_point_id: str, epoch: int) -> None:
        """Another node has taken over the session of ``epoch``, or of one before it."""
        ...


@define(eq=False, kw_only=True)
class Cluster:
    """``records``: makes the records of this node's sessions as they are now."""

    client: RedisClient
    ownership: Ownership
    local: LocalSessions
    records: Callable[[], Iterable[SessionRecord]]
    others: Callable[[BusMessage], None]
    """Told what is not about sessions."""

    def sessions(self) -> Iterator[Mapping[str, Any]]:
        """This node's, with the members of the session record."""
        return (record.members() for record in self.records())

    async def kick(self, charge_point_id: str) -> bool:
        """End the session of a charge point, be it on another node; whether it has one. Raises StoreUnavailable."""
        # Redis knows best: a session of ours may be past already, and wait for the end of its connection.
        try:
            record = await self.ownership.current(charge_point_id)
        except StoreUnavailable:
            if self.local.kick(charge_point_id):
                return True
            raise
        if record is None or record.node_id == self.ownership.node_id:
            return self.local.kick(charge_point_id)
        self.local.transferred(charge_point_id, record.epoch - 1)  # if we have one, nobody has told us yet
        heard = await kick(
            self.client, record.node_id, charge_point_id, epoch=record.epoch, actor=_ACTOR, reason="kicked"
        )
        if not heard:
            raise StoreUnavailable(f"node {record.node_id}, which has it, does not hear the node bus")
        return True

    async def nodes(self) -> list[dict[str, Any]]:
        """Every node that is known, as its lease describes it. Raises StoreUnavailable."""
        return await node_list(self.client)

    def received(self, message: BusMessage) -> None:
        """A word of another node, or of an operator."""
        match message:
            case SessionSuperseded():
                self.local.transferred(message.charge_point_id, message.epoch - 1)
            case SessionKick():
                self.local.kick(message.charge_point_id, message.epoch)
            case _:
                self.others(message)
