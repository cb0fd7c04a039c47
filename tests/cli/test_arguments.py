"""Arguments that no terminal's encoding makes sense of, as a process gets them."""

from __future__ import annotations

import os

import pytest
from cli.cli_runner import run

NO_TEXT = os.fsdecode(b"CP-\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ban", "lift", NO_TEXT),
        ("ban", "lift", "192.0.2.1", "--charge-point", NO_TEXT),
        ("ban", "lift", "192.0.2.1", "--reason", NO_TEXT),
        ("command", NO_TEXT, "Reset"),
        ("command", "CP-1", "Reset", NO_TEXT),
        ("command", "CP-1", "Reset", "--id", NO_TEXT),
        ("session", "kick", NO_TEXT),
        ("session", "kick", "CP-1", "--reason", NO_TEXT),
    ],
    ids=lambda arguments: " ".join(arguments).encode("ascii", "replace").decode(),
)
def test_bytes_that_are_no_text_are_a_mistake_of_the_caller(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr
    assert done.stdout == ""
