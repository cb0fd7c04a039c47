"""Options that several commands have."""

from __future__ import annotations

import click


def utf8(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A callback of what goes into Redis: bytes that are no UTF-8 would end in a traceback."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.BadParameter("is not UTF-8") from None
    return value


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
json_lines_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line instead of a table."
)
reason_option = click.option("--reason", default="", metavar="TEXT", callback=utf8, help="Why, for the audit event.")
