"""The record of a command as Redis has it: the hash ``command-idempotency:{commandId}`` (scripts/command_parts.lua).

Whatever is stored there, reading it gives a CommandState: what cannot be understood is left out of it.

A record lives until its command can neither be sent nor answered any more, and then for as long as a commandId that
comes again is to be recognised. It is kept longer than that while the command is parked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import orjson

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandState, Final, Owner, Process, Stage
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.routing.envelope import Headers

RECORD = "command-idempotency:"
"""What the key of a command's record begins with."""

PARKED_DEADLINES = "parked-deadlines"
"""The key of the sorted set of the parked commands, by when they have to be looked after."""


def record_key(command_id: str) -> str:
    """Where the record of a command is."""
    return f"{RECORD}{command_id}"


def audit_key(command_id: str) -> str:
    """Where the audit record of a command is."""
    return f"command-audit:{command_id}"


def parked_key(charge_point_id: str) -> str:
    """Where the ids of the commands are that wait for a charge point, in order."""
    return f"parked-commands:{charge_point_id}"


def command_script(name: str) -> Script:
    """The script ``name``, with the functions that the scripts about commands share before it."""
    return Script(name, Script.load("command_parts").text + Script.load(name).text)


def arguments_of(command: Command, now_ms: int, ttl: int) -> list[bytes | str | int]:
    """What scripts are told first: source, charge point id, how many seconds the record lives.

    ``ttl``: seconds a commandId is recognised when nothing can happen to its command any more.
    """
    waits = max(0, command.send_before_ms - now_ms) / 1000 + command.timeout_seconds
    return [command.source, command.charge_point_id, ttl + ceil(waits)]


def fields_of(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields of a record, of names and values in turn."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def state_of(fields: dict[bytes, bytes]) -> CommandState:
    """What they say."""
    stage = Stage(fields[b"state"].decode())
    is_final = stage is Stage.FINAL or stage is Stage.DONE
    message_id = fields.get(b"messageId")
    return CommandState(
        state=stage,
        source=_text(fields.get(b"source")),
        charge_point_id=_text(fields.get(b"chargePointId")),
        sent_by=_process(fields.get(b"sentBy"), fields.get(b"sentBorn")),
        epoch=_whole(fields.get(b"epoch")),
        message_id=None if message_id is None else _text(message_id),
        final_by=_process(fields.get(b"finalBy"), fields.get(b"finalBorn")) if is_final else None,
        final=_final(fields) if stage is Stage.FINAL else None,
        final_at_ms=_whole(fields.get(b"finalAtMs")),
        summary=fields.get(b"summary"),
        is_parked=b"parkedUntil" in fields,
    )


def command_of(fields: dict[bytes, bytes]) -> Command | None:
    """The command that is parked; None if there is none, or it cannot be read."""
    return Command.decode(fields.get(b"command", b""))


def final_of(event_id: bytes | None, key: bytes | None, value: bytes | None, headers: bytes | None) -> Final:
    """The final event of these fields."""
    return Final(_text(event_id), key or b"", value or b"", _decoded_headers(headers or b""))


def owner_of(reply: Sequence[bytes] | None) -> Owner | None:
    """Who has the charge point, as the scripts tell it."""
    if reply is None:
        return None
    node_id, born, epoch, version = reply
    return Owner(_text(node_id), _text(born), _whole(epoch), _text(version))


def encoded_headers(headers: Headers) -> bytes:
    """As they are stored: their values are any bytes, so each becomes a character."""
    return orjson.dumps([[name, value.decode("latin-1")] for name, value in headers])


def _decoded_headers(stored: bytes) -> Headers:
    try:
        return [(name, value.encode("latin-1")) for name, value in orjson.loads(stored)]
    except (ValueError, TypeError, AttributeError):
        return []


def _final(fields: dict[bytes, bytes]) -> Final:
    return final_of(*(fields.get(name) for name in (b"eventId", b"key", b"value", b"headers")))


def _process(node_id: bytes | None, born: bytes | None) -> Process | None:
    return None if node_id is None else Process(_text(node_id), _text(born))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _whole(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else 0
