"""``ocpp-gateway sessions`` and ``ocpp-gateway session``: who is connected, on all nodes, and ending a session."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from ocpp_gateway.cli.audited import audited
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.options import json_lines_option, reason_option, utf8
from ocpp_gateway.cli.reactor import run_in_reactor
from ocpp_gateway.cli.store import with_redis

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.redis.client import RedisClient
    from ocpp_gateway.redis.identities import Identities
    from ocpp_gateway.redis.overview import SeenSession, SeenSessions
    from ocpp_gateway.redis.sessions import SessionRecord

LIVE, NODE_GONE, SILENT = "live", "node_gone", "silent"
"""What a session record is worth: something, nothing, or probably nothing."""

_SETTINGS = ("SESSION_TTL_SECONDS", "OCPP_PING_INTERVAL", "OCPP_PING_TIMEOUT")
_MINUTE_MS = 60_000


@frozen
class Row:
    """A session record with what follows from it at ``now_ms``."""

    record: SessionRecord
    state: str
    now_ms: int

    @classmethod
    def of(cls, seen: SeenSession, now_ms: int, silent_after: float | None) -> Row:
        """``silent_after``: seconds, None for never."""
        record = seen.record
        is_silent = silent_after is not None and now_ms - record.last_seen_at_ms > silent_after * 1000
        return cls(record, NODE_GONE if not seen.node_is_alive else SILENT if is_silent else LIVE, now_ms)

    @property
    def is_stale(self) -> bool:
        """Nobody is behind it any more, as far as can be seen."""
        return self.state != LIVE

    @property
    def bytes_in_per_minute(self) -> float | None:
        """From the charge point, on average; None while its node has not written any number yet."""
        return self._per_minute(self.record.bytes_in)

    @property
    def bytes_out_per_minute(self) -> float | None:
        """To the charge point."""
        return self._per_minute(self.record.bytes_out)

    def members(self) -> dict[str, Any]:
        """As JSON: those of the record, and ``state``."""
        members: dict[str, Any] = json.loads(self.record.encode())
        return {**members, "state": self.state}

    def _per_minute(self, count: int) -> float | None:
        if not (self.record.bytes_in or self.record.bytes_out):
            return None
        until_ms = self.record.last_seen_at_ms if self.is_stale else self.now_ms
        return count * _MINUTE_MS / max(_MINUTE_MS, until_ms - self.record.connected_at_ms)


@click.command(short_help="Who is connected, on all nodes.")
@click.option("--node", metavar="ID", help="Only on this node.")
@click.option("--tenant", metavar="ID", help="Only of this tenant.")
@click.option("--stale", is_flag=True, help="Only those behind which nobody seems to be: node gone, or silent.")
@json_lines_option
@click.pass_obj
def sessions(places: Places, *, node: str | None, tenant: str | None, stale: bool, as_json: bool) -> None:
    """Show who is connected, on all nodes.

    The numbers are those that the nodes wrote into Redis last, which they do three times in SESSION_TTL_SECONDS; calls
    are messages of the charge point, bytes per minute are the average since it connected.

    A session is stale when its node has gone, or when its charge point was silent for longer than pings allow: with
    SESSION_TTL_SECONDS, OCPP_PING_INTERVAL and OCPP_PING_TIMEOUT in the environment as for the gateway.
    """
    silent_after = _silent_after(places)

    async def work(reactor: Any) -> SeenSessions:
        async def read(client: RedisClient, identities: Identities) -> SeenSessions:
            from ocpp_gateway.redis.overview import session_list

            return await session_list(client)

        return await with_redis(places, reactor, read)

    seen = run_in_reactor(work)
    now_ms = int(time.time() * 1000)
    every = [Row.of(each, now_ms, silent_after) for each in seen.sessions]
    rows = [
        row
        for row in every
        if (node is None or row.record.node_id == node)
        and (tenant is None or row.record.tenant_id == tenant)
        and (not stale or row.is_stale)
    ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.members()))
    elif rows:
        from ocpp_gateway.cli.live_tables import sessions_table

        sessions_table(rows, now_ms).show()
    if not as_json:
        click.echo(_summary(rows, len(every)), err=True)
    if seen.unreadable:
        names = ", ".join(seen.unreadable[:5]) + (", ..." if len(seen.unreadable) > 5 else "")
        count = len(seen.unreadable)
        click.echo(f"Warning: no session record{'' if count == 1 else 's'}: {printable(names)}", err=True)


@click.group(short_help="End the session of a charge point: kick.")
def session() -> None:
    """The session of one charge point: kick ends it. 'charger show' shows it, 'sessions' lists all."""


@session.command()
@click.argument("charge_point_id", callback=utf8)
@reason_option
@click.pass_obj
def kick(places: Places, charge_point_id: str, reason: str) -> None:
    """End the session of a charge point, on whichever node it is (close code 1012).

    The charge point may connect again at once: 'charger disable' is what keeps it out. When Kafka is named
    (--kafka-brokers, KAFKA_BROKERS or --dev), it is also an event on the topic cpms.audit.events.
    """

    async def work(reactor: Any) -> tuple[SessionRecord, list[Deed]]:
        async def end(client: RedisClient, identities: Identities) -> SessionRecord:
            from ocpp_gateway.cli.kicking import end_session

            return await end_session(client, reactor, charge_point_id, reason)

        from ocpp_gateway.cli.audit import Deed

        ended = await with_redis(places, reactor, end)
        deed = Deed(
            charge_point_id=charge_point_id,
            change="session_kicked",
            record={"tenantId": ended.tenant_id, "stationId": ended.station_id},
            reason=reason,
            facts={"nodeId": ended.node_id, "epoch": ended.epoch},
        )
        return ended, [deed]

    ended = audited(places, work)
    click.echo(f"{printable(charge_point_id)} kicked from node {printable(ended.node_id)}")
    click.echo("It may connect again at once; 'charger disable' keeps it out.", err=True)


def _silent_after(places: Places) -> float | None:
    """Seconds without a sign of life in a record that mean something; None: none do, since nobody pings."""
    from ocpp_gateway.environment import parse
    from ocpp_gateway.errors import ConfigError

    try:
        settings = parse({name: value for name, value in places.environ.items() if name in _SETTINGS})
    except ConfigError as error:
        raise Failure(str(error)) from None
    if not settings.ocpp_ping_interval:
        return None
    renewal = settings.session_ttl_seconds / 3
    return max(2 * renewal, renewal + settings.ocpp_ping_interval + settings.ocpp_ping_timeout)


def _summary(rows: list[Row], total: int) -> str:
    if not rows:
        return "Nobody is connected." if not total else f"None of {total} session{'' if total == 1 else 's'} matches."
    counts = Counter(row.state for row in rows)
    parts = [f"{len(rows)} session{'' if len(rows) == 1 else 's'}"]
    parts += [f"{counts[state]} {word}" for state, word in ((NODE_GONE, "of a node that is gone"), (SILENT, SILENT))]
    return ", ".join(part for part in parts if not part.startswith("0 "))
