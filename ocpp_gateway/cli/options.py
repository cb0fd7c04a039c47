"""Options that several commands have."""

from __future__ import annotations

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
json_lines_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line instead of a table."
)
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the audit event.")
