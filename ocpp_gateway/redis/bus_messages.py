"""What nodes tell each other over ``node-bus:{nodeId}``: JSON objects that name their ``type``.

====================== ================================================ =============================================
``session_superseded``   ``chargePointId, nodeId, epoch``                 another node has this charge point now, by a
                                                                          session of this epoch
``session_kick``         ``chargePointId, epoch, actor, reason``          an operator ends this session; epoch ``null``:
                                                                          whichever there is
``command_handover``     ``commandId, command, from, attempt``            you have its charge point: carry it out;
                                                                          ``command`` as ``Command.encode`` writes it
``command_taken``        ``commandId, nodeId, born, result``              what became of that: ``taken``, ``not_here``
``command_done``         ``commandId``                                    Kafka has the command's final event
``csms_answer``          ``correlationId, answer``                        a record came here that answers what you asked
                                                                          the CSMS; ``answer`` in Base64
====================== ================================================ =============================================

The first is published by the script ``claim_session``. Pub/sub forgets what nobody listens to, so nothing may rest on
a message alone: the refresh of the session records finds a session that was taken over, too, and whoever waits for a
command looks at its record.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson
from attrs import field, frozen

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import Process, Taking


@frozen(kw_only=True)
class SessionSuperseded:
    """Node ``node_id`` has this charge point now, by a session of ``epoch``: older ones are over."""

    charge_point_id: str
    node_id: str
    epoch: int


@frozen(kw_only=True)
class SessionKick:
    """The operator ``actor`` ends the session of this charge point, if it is of ``epoch``; None: of any."""

    charge_point_id: str
    epoch: int | None
    actor: str
    reason: str

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads."""
        return orjson.dumps(
            {
                "type": "session_kick",
                "chargePointId": self.charge_point_id,
                "epoch": self.epoch,
                "actor": self.actor,
                "reason": self.reason,
            }
        )


@frozen(kw_only=True)
class CommandHandover:
    """Node ``origin``, which consumed ``command``, asks to carry it out; ``attempt`` counts from 1."""

    command: Command
    origin: str
    attempt: int

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads."""
        return orjson.dumps(
            {
                "type": "command_handover",
                "commandId": self.command.command_id,
                "command": self.command.encode().decode(),
                "from": self.origin,
                "attempt": self.attempt,
            }
        )


@frozen(kw_only=True)
class CommandTaken:
    """What ``process`` does with a command that was handed over to it."""

    command_id: str
    process: Process
    result: Taking

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads."""
        return orjson.dumps(
            {
                "type": "command_taken",
                "commandId": self.command_id,
                "nodeId": self.process.node_id,
                "born": self.process.born,
                "result": self.result,
            }
        )


@frozen(kw_only=True)
class CommandDone:
    """Kafka has the final event of a command."""

    command_id: str

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads."""
        return orjson.dumps({"type": "command_done", "commandId": self.command_id})


@frozen(kw_only=True)
class CsmsAnswer:
    """The value of a record by which the CSMS answers what the node that hears this has asked."""

    correlation_id: str
    value: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads: the value came from outside, and need not be text."""
        answer = b64encode(self.value).decode()
        return orjson.dumps({"type": "csms_answer", "correlationId": self.correlation_id, "answer": answer})


BusMessage = SessionSuperseded | SessionKick | CommandHandover | CommandTaken | CommandDone | CsmsAnswer


def parse(raw: bytes) -> BusMessage | None:
    """Read a message; None if it is of a type that we do not know (a newer gateway's), or cannot be understood."""
    try:
        members = orjson.loads(raw)
        match members["type"]:
            case "session_superseded":
                return SessionSuperseded(
                    charge_point_id=_text(members["chargePointId"]),
                    node_id=_text(members["nodeId"]),
                    epoch=_whole(members["epoch"]),
                )
            case "session_kick":
                epoch = members["epoch"]
                return SessionKick(
                    charge_point_id=_text(members["chargePointId"]),
                    epoch=None if epoch is None else _whole(epoch),
                    actor=_text(members["actor"]),
                    reason=_text(members["reason"]),
                )
            case "command_handover":
                return _handover(members)
            case "command_taken":
                return CommandTaken(
                    command_id=_text(members["commandId"]),
                    process=Process(_text(members["nodeId"]), _text(members["born"])),
                    result=Taking(members["result"]),
                )
            case "command_done":
                return CommandDone(command_id=_text(members["commandId"]))
            case "csms_answer":
                value = b64decode(_text(members["answer"]), validate=True)
                return CsmsAnswer(correlation_id=_text(members["correlationId"]), value=value)
    except (ValueError, TypeError, KeyError):
        pass
    return None


def _handover(members: dict[str, Any]) -> CommandHandover | None:
    command = Command.decode(_text(members["command"]).encode())
    if command is None or command.command_id != members["commandId"]:
        return None
    return CommandHandover(command=command, origin=_text(members["from"]), attempt=_whole(members["attempt"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
