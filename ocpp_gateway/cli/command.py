"""``ocpp-gateway command``: have a charge point do something, and see what became of it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.options import utf8
from ocpp_gateway.cli.reactor import run_in_reactor

if TYPE_CHECKING:
    from ocpp_gateway.commands.door import Reply

_NOT_ACCEPTED = 1
_QUEUED = 3

_SAID = {
    "CommandAccepted": "accepted",
    "CommandRejected": "rejected",
    "CommandTimeout": "sent, but what became of it is not known",
    "CommandFailed": "failed",
    "CommandDuplicate": "not requested",
}


@click.command(short_help="Have a charge point do something, and wait for what becomes of it.")
@click.argument("charge_point_id", callback=utf8)
@click.argument("command_type", metavar="COMMAND", callback=utf8)
@click.argument("payload", metavar="[PAYLOAD]", default="{}", callback=utf8)
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="To be sent, and then again to be answered. [default: 15]"
)
@click.option(
    "--deliver-within", type=float, metavar="SECONDS", help="If the charge point is offline, wait so long for it."
)
@click.option("--connector", type=int, metavar="N", help="The connector, where PAYLOAD does not name it.")
@click.option("--id", "command_id", metavar="ID", callback=utf8, help="The command's id [default: a new one].")
@click.option("--json", "as_json", is_flag=True, help="Print what became of it as one JSON object.")
@click.pass_obj
def command(
    places: Places,
    *,
    charge_point_id: str,
    command_type: str,
    payload: str,
    timeout: float | None,
    deliver_within: float | None,
    connector: int | None,
    command_id: str | None,
    as_json: bool,
) -> None:
    """Have a charge point do something, and wait for what becomes of it.

    COMMAND is RemoteStart, RemoteStop, Reset, UnlockConnector, UpdateFirmware, TriggerMessage, ChangeConfiguration, or
    any action that a CSMS may send in the charge point's version of OCPP. PAYLOAD is its JSON; - reads it from the
    standard input, which keeps a password in it out of the list of processes.

    \b
      ocpp-gateway command CP-001 Reset '{"type": "Soft"}'
      ocpp-gateway command CP-001 RemoteStart '{"idTag": "TAG-1", "connectorId": 1}'
      ocpp-gateway command CP-001 GetConfiguration

    It goes through Kafka as the commands of a back end do, so Redis and Kafka have to be named (REDIS_URL and
    KAFKA_BROKERS, or --dev). The same --id again is not carried out again: what became of it is told once more.

    Exit code: 0 if the charge point accepted it, 3 if it waits for the charge point, else 1.
    """
    members = {
        "chargePointId": charge_point_id,
        "commandType": command_type,
        "payload": _payload(payload),
        "timeoutSec": timeout,
        "deliverWithinSec": deliver_within,
        "connectorId": connector,
        "commandId": command_id,
        "requestedBy": _operator(),
    }

    async def work(reactor: Any) -> Reply:
        from ocpp_gateway.cli.requesting import requested

        return await requested(places, reactor, members, _not_taken)

    reply = run_in_reactor(work)
    if as_json:
        click.echo(json.dumps(reply.members()))
    _tell(reply, command_type, as_json=as_json)


def _payload(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(sys.stdin.buffer.read() if text == "-" else text)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"is not JSON: {error}", param_hint="PAYLOAD") from None


def _operator() -> dict[str, str]:
    from ocpp_gateway.cli.audit import actor

    return {"userId": actor(), "role": "operator"}


def _not_taken() -> None:
    click.echo(
        "No gateway has taken it on yet; still waiting. Does one run with this Redis and Kafka, and with "
        "OCPP_COMMANDS_ENABLED?",
        err=True,
    )


def _tell(reply: Reply, command_type: str, *, as_json: bool) -> None:
    """Say it in words, unless JSON has said it, and end the command."""
    from ocpp_gateway.commands.door import Standing

    what = printable(f"{command_type} of {reply.charge_point_id}")
    if reply.standing is Standing.QUEUED:
        if not as_json:
            until = "" if reply.deliver_until is None else f" until {reply.deliver_until}"
            click.echo(f"{what}: queued; the charge point is offline, and is waited for{until}")
            click.echo(f"To see later what became of it: the same again with --id {reply.command_id}", err=True)
        raise SystemExit(_QUEUED)
    if not reply.is_taken:
        raise Failure(
            f"No gateway has taken the command on ({reply.command_id}).",
            "Does one run with this Redis and Kafka, and with OCPP_COMMANDS_ENABLED? 'nodes' shows which run.",
        )
    if reply.standing is Standing.PENDING:
        raise Failure(
            f"What becomes of it is not decided yet ({reply.command_id}).",
            f"To see later: the same again with --id {reply.command_id}",
        )
    if not as_json:
        click.echo(f"{what}: {_words(reply)}")
        response = reply.payload.get("response")
        if response:
            click.echo(printable(json.dumps(response, indent=2, ensure_ascii=False)))
    if not reply.is_accepted:
        raise SystemExit(_NOT_ACCEPTED)


def _words(reply: Reply) -> str:
    said = _SAID.get(reply.event_type or "", str(reply.event_type))
    if reply.event_type == "CommandAccepted" and not reply.is_accepted:
        said = "declined"
    error, reason = reply.payload.get("error"), reply.payload.get("reason")
    why = f": {error} ({reason})" if error and reason else ""
    return printable(said + why + (" (as it was told before)" if reply.is_repeated else ""))
