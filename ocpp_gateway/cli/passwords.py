"""Secrets on their way in and out: generated, asked for, or read; never from the command line.

Whatever stands on a command line can be read by everybody on the machine, and stays in the shell's history.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import field, frozen

from ocpp_gateway.cli.failure import Failure

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
"""Letters and digits, without those that are taken for each other when somebody types them in at a charge point."""

_PASSWORD_CHARACTERS = 20
"""The most that OCPP 1.6 takes, more than the 16 that 2.x asks for; 116 bits with this alphabet."""

_LONGEST_BYTES = 4096
_SHORT = 16
"""OCPP 2.0.1 (A00.FR.205) and the security white paper for 1.6 want at least so many characters."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@frozen
class Secret:
    """A password or token as bytes, as sent on the wire. ``shown`` is its text if it was made up here, else None."""

    value: bytes = field(repr=False)
    shown: str | None = field(default=None, repr=False)


def new_password() -> Secret:
    """A password that a person can copy by hand."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_CHARACTERS))
    return Secret(text.encode(), text)


def new_authorization_key() -> Secret:
    """A 1.6 AuthorizationKey: configured as 40 hexadecimal digits, sent as the 20 bytes that they stand for."""
    key = secrets.token_bytes(_PASSWORD_CHARACTERS)
    return Secret(key, key.hex())


def new_token() -> Secret:
    """A bearer token of 256 bits."""
    text = secrets.token_urlsafe(32)
    return Secret(text.encode(), text)


def secret_options(function: _Function) -> _Function:
    """Decorator: ``--password`` (asks), ``--password-file`` and ``--hex-key``, as parameters of those names."""
    for option in (
        click.option(
            "--hex-key",
            is_flag=True,
            help="The password is a 1.6 AuthorizationKey in hexadecimal digits; its bytes are what is sent.",
        ),
        click.option(
            "--password-file",
            type=click.Path(dir_okay=False, allow_dash=True),
            help="Read the password or token from this file, '-' for standard input. A newline at its end is dropped.",
        ),
        click.option("--password", "ask", is_flag=True, help="Ask for the password or token on the terminal."),
    ):
        function = option(function)
    return function


def given_secret(
    *, ask: bool, password_file: str | None, hex_key: bool, confirm: bool = False, variable: str | None = None
) -> Secret | None:
    """The secret that the person gave, None if none. ``variable`` is the content of an environment variable."""
    if ask and password_file is not None:
        raise click.UsageError("--password and --password-file are two ways to say the same: give one.")
    if ask:
        typed = str(click.prompt("Password or token", hide_input=True, confirmation_prompt=confirm))
        return _checked(typed.encode(), hex_key)
    if password_file is not None:
        return _checked(_read(password_file), hex_key)
    return _checked(variable.encode(), hex_key) if variable else None


def is_short(secret: Secret) -> bool:
    """OCPP asks for a longer one."""
    return len(secret.value) < _SHORT


def _read(path: str) -> bytes:
    try:
        if path == "-":
            content = sys.stdin.buffer.read(_LONGEST_BYTES + 2)
        else:
            with Path(path).open("rb") as file:
                content = file.read(_LONGEST_BYTES + 2)
    except OSError as error:
        raise Failure(f"Cannot read --password-file {path}: {error.strerror}") from None
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _checked(value: bytes, hex_key: bool) -> Secret:
    if not value:
        raise Failure("The password is empty.")
    if len(value) > _LONGEST_BYTES:
        raise Failure(f"The password is longer than {_LONGEST_BYTES} bytes.")
    if not hex_key:
        return Secret(value)
    try:
        return Secret(bytes.fromhex(value.decode("ascii")))
    except ValueError:
        raise Failure("With --hex-key the password must be hexadecimal digits, two for each byte.") from None
