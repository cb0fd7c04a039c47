"""Tables of what is going on: sessions, nodes and bans, with times as they look from now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ocpp_gateway.cli.records import text_of
from ocpp_gateway.cli.tables import cell
from ocpp_gateway.redis.overview import ALIVE

if TYPE_CHECKING:
    from ocpp_gateway.cli.sessions import Row
    from ocpp_gateway.redis.flooding import Ban

_NONE = "-"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_MOST_TO_READ = 500
"""Lines that somebody may look at one by one; to lay out more of them for a terminal takes seconds."""


@frozen
class Column:
    """``is_number``: flush right. ``may_fold``: over several lines on a narrow terminal, before others have to."""

    name: str
    is_number: bool = False
    may_fold: bool = False


@frozen
class Listing:
    """A table, a line for each row."""

    columns: Sequence[Column]
    rows: list[list[Text]]

    def show(self) -> None:
        """Print it. Where it goes into a pipe or a file, or is long, a row is a line, whatever its width."""
        console = Console(highlight=False, markup=False)
        if not console.is_terminal or len(self.rows) > _MOST_TO_READ:
            self._print_lines()
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in self.columns:
            table.add_column(
                column.name,
                justify="right" if column.is_number else "left",
                no_wrap=not column.may_fold,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def _print_lines(self) -> None:
        texts = ([each.plain.replace("\n", " ") for each in row] for row in self.rows)
        lines = [[column.name for column in self.columns], *texts]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                " " * (width - cell_len(text)) + text if column.is_number else text + " " * (width - cell_len(text))
                for text, width, column in zip(line, widths, self.columns, strict=True)
            ]
            click.echo("  ".join(padded).rstrip())


def sessions_table(rows: Iterable[Row], now_ms: int) -> Listing:
    """Sessions."""
    columns = [
        *(Column("charge point"), Column("OCPP"), Column("node", may_fold=True), Column("address", may_fold=True)),
        *(Column("profile"), Column("since"), Column("last seen", may_fold=True)),
        *(Column(name, is_number=True) for name in ("calls", "in/min", "out/min")),
    ]
    return Listing(columns, [_session(row, now_ms) for row in rows])


def nodes_table(nodes: Sequence[dict[str, Any]], now_ms: int) -> Listing:
    """Nodes; their addresses where one is known."""
    columns = [
        *(Column("node", may_fold=True), Column("state"), Column("since"), Column("last seen")),
        *(Column("sessions", is_number=True), Column("address", may_fold=True)),
    ]
    cells = [_node(node, now_ms) for node in nodes]
    if not any(node.get("advertiseUrl") for node in nodes):
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    return Listing(columns, cells)


def bans_table(bans: Iterable[Ban], now_ms: int) -> Listing:
    """Bans."""
    columns = [
        *(Column("address"), Column("charge point", may_fold=True), Column("reason", may_fold=True)),
        *(Column(name, is_number=True) for name in ("failures", "since", "ends in")),
    ]
    return Listing(columns, [_ban(ban, now_ms) for ban in bans])


def duration(milliseconds: float) -> str:
    """A time in one or two units, such as 42s, 5m or 3d4h. What seems to be in the future is now: clocks differ."""
    left = max(0, int(milliseconds / 1000))
    for number, (seconds, unit) in enumerate(_UNITS):
        if left >= seconds:
            text = f"{left // seconds}{unit}"
            below = _UNITS[number + 1] if unit in "dh" else None
            rest = (left % seconds) // below[0] if below is not None else 0
            return f"{text}{rest}{below[1]}" if below is not None and rest else text
    return "0s"


def _session(row: Row, now_ms: int) -> list[Text]:
    record = row.record
    seen = f"{duration(now_ms - record.last_seen_at_ms)} ago"
    return [
        cell(record.charge_point_id),
        cell(record.ocpp_version),
        cell(record.node_id),
        cell(record.peer or _NONE),
        cell(str(record.security_profile or _NONE)),
        cell(f"{duration(now_ms - record.connected_at_ms)} ago"),
        cell(f"{seen}, {row.state.replace('_', ' ')}", "red") if row.is_stale else cell(seen),
        cell(str(record.calls)),
        cell(_size(row.bytes_in_per_minute)),
        cell(_size(row.bytes_out_per_minute)),
    ]


def _node(node: dict[str, Any], now_ms: int) -> list[Text]:
    is_alive = node["state"] == ALIVE
    return [
        cell(text_of(node, "nodeId")),
        cell(text_of(node, "state"), "green" if is_alive else "red"),
        cell(_ago(node.get("startedAt"), now_ms)),
        cell(_ago(node.get("lastSeenAt"), now_ms)),
        cell(text_of(node, "connections", _NONE) if is_alive else f"{text_of(node, 'sessionsLeft')} left"),
        cell(text_of(node, "advertiseUrl", _NONE)),
    ]


def _ban(ban: Ban, now_ms: int) -> list[Text]:
    whom = ban.charge_point_id
    return [
        cell(ban.address),
        cell("all not let in before", "dim") if whom is None else cell(whom),
        cell(ban.reason),
        cell(str(ban.count)),
        cell(f"{duration(now_ms - ban.banned_at_ms)} ago"),
        cell(duration(ban.until_ms - now_ms)),
    ]


def _ago(stamp: object, now_ms: int) -> str:
    try:
        return f"{duration(now_ms - datetime.fromisoformat(str(stamp)).timestamp() * 1000)} ago"
    except (ValueError, OverflowError):
        return _NONE


def _size(count: float | None) -> str:
    if count is None:
        return _NONE
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
