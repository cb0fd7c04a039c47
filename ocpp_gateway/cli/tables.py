"""Tables for the terminal. Everything in them came from somewhere else, so nothing in them is markup or an escape.

A fingerprint is there to be copied, or searched for in a pipe, so it stands in a line that nothing breaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ocpp_gateway.cli import records
from ocpp_gateway.cli.bindings import ATTRIBUTES
from ocpp_gateway.cli.failure import printable

if TYPE_CHECKING:
    from ocpp_gateway.cli.certificate_files import Described

_STATUS_STYLES = {"active": "green", "disabled": "red", "revoked": "red"}
_KINDS = {"certificate": "certificate", "crl": "revocation list"}
_WINDOW = ("validFrom", "validTo")
_SOON_DAYS = 30

View = list[Table | Text]
"""What ``display`` shows, from top to bottom."""


def display(view: View) -> None:
    """Print it. Tables are as wide as the terminal allows; lines of text may be wider."""
    if view:
        Console(highlight=False, markup=False).print(Group(*view), crop=False)


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


def record_view(record: records.Record, last_profile: int | None, session: records.Record | None) -> View:
    """One identity record, a member a line, with the security profile that the charge point connected with last.

    And with its session, if it is connected. Bindings and fingerprints follow, as they need lines of their own.
    """
    lines: list[Text] = []
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _members(record):
        if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            for number, entry in enumerate(value, 1):
                lines += [_line((f"{name} {number}", "bold")), *_entry(entry)]
        elif value and name.casefold().endswith(("fingerprint", "fingerprints")):
            lines.append(_line((name, "bold")))
            lines += [_line(f"  {_text(entry)}") for entry in (value if isinstance(value, list) else [value])]
        else:
            table.add_row(cell(name), cell(_text(value)))
    table.add_row(cell("last security profile"), cell("none yet" if last_profile is None else str(last_profile)))
    if session is None:
        table.add_row(cell("connected"), cell("no"))
    else:
        since = f"since {records.text_of(session, 'connectedAt')}, OCPP {records.text_of(session, 'ocppVersion')}"
        table.add_row(cell("connected"), cell(f"{since}, on node {records.text_of(session, 'nodeId')}", "green"))
    return [table, *lines]


def certificate_view(described: Described, now: float) -> View:
    """One certificate or revocation list, a member a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(cell(_KINDS[described.kind]), cell(str(described.file)))
    lines = []
    for name, value in described.members.items():
        if name == "revoked":
            table.add_row(cell(name), cell(f"{len(value)} certificates: {', '.join(value)}" if value else "none"))
        elif name == "fingerprint":
            lines.append(_line((name.ljust(_widest(described)), "bold"), f"  {value}"))
        elif name in ("notAfter", "nextUpdate"):
            table.add_row(cell(name), _ending(records.text_of(described.members, name, "never"), described, now))
        elif value not in (None, [], False):
            table.add_row(cell(name), cell("yes" if value is True else _text(value)))
    return [table, *lines]


def bindings_view(rows: Sequence[tuple[str, records.Record, str]]) -> View:
    """Certificates bound to charge points: whose, what each is good for now, what is asked of it, and when."""
    lines: View = []
    for charge_point_id, binding, state in rows:
        lines.append(_line((charge_point_id, "bold"), "  ", (state, _STATUS_STYLES.get(state, "yellow"))))
        asked = [f"{name} {records.text_of(binding, name)}" for name in (*ATTRIBUTES, *_WINDOW) if binding.get(name)]
        lines += [_line(f"  {each}") for each in asked or ["(nothing)"]]
    return lines


def cell(text: str, style: str = "") -> Text:
    """Text that is nothing but text."""
    return Text(printable(text), style=style)


def _line(*parts: str | tuple[str, str]) -> Text:
    """A line that is not broken, however long it is."""
    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(
        *((printable(text).replace("\n", " "), style) for text, style in styled), no_wrap=True, overflow="ignore"
    )


def _members(record: records.Record) -> Iterator[tuple[str, Any]]:
    """Its members, and those of the objects among them by their paths."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield name, value


def _entry(entry: Any) -> list[Text]:
    if not isinstance(entry, dict):
        return [_line(f"  {_text(entry)}")]
    return [_line(f"  {name} {records.text_of(entry, name)}") for name in entry]


def _widest(described: Described) -> int:
    """Width of the first column, so that lines beside the table are in line with it."""
    return max(len(name) for name, value in described.members.items() if value not in (None, [], False))


def _ending(text: str, described: Described, now: float) -> Text:
    days = described.days_left(now)
    if days is None:
        return cell(text)
    if days < 0:
        return cell(f"{text} {'EXPIRED' if described.kind == 'certificate' else 'OVERDUE'}", "bold red")
    return cell(f"{text} ({days} day{'' if days == 1 else 's'} left)", "yellow" if days < _SOON_DAYS else "")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value)
    return records.text_of({"value": value}, "value")
