"""What nodes tell each other of commands and of the CSMS's answers, over the node bus (``bus``, ``bus_messages``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Process, Taking
from ocpp_gateway.redis.bus_messages import CommandDone, CommandHandover, CommandTaken, CsmsAnswer
from ocpp_gateway.redis.ownership import node_channel

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient


@define(eq=False, kw_only=True)
class RedisCommandBus:
    """Says it as node ``node_id``. Each gives how many nodes heard it, and may raise StoreUnavailable."""

    client: RedisClient
    node_id: str

    async def hand_over(self, node_id: str, command: Command, attempt: int) -> int:
        """Ask ``node_id`` to carry ``command`` out, for the ``attempt``-th time."""
        return await self._tell(node_id, CommandHandover(command=command, origin=self.node_id, attempt=attempt))

    async def taken(self, node_id: str, command_id: str, process: Process, result: Taking) -> int:
        """Tell ``node_id``, which handed the command over, what ``process`` does with it."""
        return await self._tell(node_id, CommandTaken(command_id=command_id, process=process, result=result))

    async def done(self, node_id: str, command_id: str) -> int:
        """Tell ``node_id``, which handed the command over, that its final event is in Kafka."""
        return await self._tell(node_id, CommandDone(command_id=command_id))

    async def csms_answer(self, node_id: str, correlation_id: str, value: bytes) -> int:
        """Pass the record that the CSMS answered with on to ``node_id``, which asked."""
        return await self._tell(node_id, CsmsAnswer(correlation_id=correlation_id, value=value))

    async def _tell(self, node_id: str, message: CommandHandover | CommandTaken | CommandDone | CsmsAnswer) -> int:
        return await self.client.publish(node_channel(node_id), message.encode())
