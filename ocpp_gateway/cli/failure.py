"""How a command fails: one sentence on what is wrong, one on what to do, exit code 1, no traceback."""

from __future__ import annotations

from typing import IO, Any

import click


class Failure(click.ClickException):
    """Ends the command. ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to stderr."""
        click.secho("Error: ", nl=False, fg="red", bold=True, err=True, file=file)
        click.echo(self.message, err=True, file=file)
        if self.hint:
            click.echo(self.hint, err=True, file=file)


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: what charge points send may hold escape sequences."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
