"""Tables for the terminal. Everything in them came from somewhere else, so nothing in them is markup or an escape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ocpp_gateway.cli import records
from ocpp_gateway.cli.failure import printable

_STATUS_STYLES = {"active": "green", "disabled": "red"}


def list_table(found: Sequence[tuple[str, records.Record]]) -> Table:
    """Identity records, a line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("charge point", "station", "tenant", "status", "versions", "auth"):
        table.add_column(column, overflow="fold")
    for charge_point_id, record in found:
        status = records.status_of(record)
        table.add_row(
            cell(charge_point_id),
            cell(records.text_of(record, "stationId")),
            cell(records.text_of(record, "tenantId")),
            cell(status, _STATUS_STYLES.get(status, "yellow")),
            cell(records.list_of(record, "allowedProtocols") or "all"),
            cell(records.auth_type_of(record) or "default"),
        )
    return table


def record_table(record: records.Record, session: records.Record | None) -> Table:
    """One identity record, a member a line, with its session if it is connected."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in record.items():
        if isinstance(value, dict):
            for inner, inner_value in value.items():
                table.add_row(cell(f"{name}.{inner}"), cell(_text(inner_value)))
        else:
            table.add_row(cell(name), cell(_text(value)))
    if session is None:
        table.add_row(cell("connected"), cell("no"))
    else:
        since = f"since {records.text_of(session, 'connectedAt')}, OCPP {records.text_of(session, 'ocppVersion')}"
        table.add_row(cell("connected"), cell(f"{since}, on node {records.text_of(session, 'nodeId')}", "green"))
    return table


def cell(text: str, style: str = "") -> Text:
    """Text that is nothing but text."""
    return Text(printable(text), style=style)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value)
    return records.text_of({"value": value}, "value")
