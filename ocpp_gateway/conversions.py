"""From the text of an environment variable to a value; ValueError says what it must be, without naming the variable."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

CLIENT_AUTH = ("off", "optional", "required")
"""What a TLS port does about client certificates."""

PLAIN = "plain"
"""A port without TLS."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,120}")


def text(value: str) -> str:
    """Printable text, not empty."""
    if not value or not value.isprintable():
        raise ValueError("must be printable text")
    return value


def optional_text(value: str) -> str:
    """Printable text, or none."""
    return text(value) if value else ""


def name(value: str) -> str:
    """A name as Kafka and Redis keys take it."""
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 120 of the characters A-Z a-z 0-9 . _ -")
    return value


def names(value: str) -> tuple[str, ...]:
    """Names, comma-separated."""
    return tuple(name(part.strip()) for part in value.split(",") if part.strip())


def flag(value: str) -> bool:
    """Yes or no."""
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between two."""

    def convert(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return convert


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A number of seconds between two, to the millisecond."""

    def convert(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", value) or not least <= float(value) <= most:
            raise ValueError(f"must be seconds from {least:g} to {most:g}")
        return float(value)

    return convert


def one_of(*choices: str) -> Callable[[str], str]:
    """One of some words, in any case."""

    def convert(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return value.lower()

    return convert


def identity_pattern(value: str) -> re.Pattern[str]:
    """A regular expression."""
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None


def addresses(value: str) -> tuple[str, ...]:
    """Comma-separated IP addresses."""
    parts = _parts(value)
    for part in parts:
        try:
            ipaddress.ip_address(part)
        except ValueError:
            raise ValueError(f"{part!r} is not an IP address") from None
    return parts


def networks(value: str) -> tuple[str, ...]:
    """Comma-separated networks; an address is a network of one."""
    parts = _parts(value)
    for part in parts:
        try:
            ipaddress.ip_network(part, strict=False)
        except ValueError:
            raise ValueError(f"{part!r} is not a network such as 10.0.0.0/24") from None
    return parts


def existing_file(value: str) -> str:
    """The path of a file that is there, or none."""
    if value and not Path(value).is_file():
        raise ValueError("names no file")
    return value


def existing_files(value: str) -> tuple[str, ...]:
    """Comma-separated paths of files that are there."""
    parts = _parts(value)
    for part in parts:
        if not Path(part).is_file():
            raise ValueError(f"{part!r} names no file")
    return parts


def tls_version(value: str) -> str:
    """A version of TLS that is still safe, also in the spelling of OpenSSL and Node.js: TLSv1.2."""
    version = value.lower().removeprefix("tls").removeprefix("v")
    if version not in ("1.2", "1.3"):
        raise ValueError("must be 1.2 or 1.3")
    return version


def client_auth(value: str) -> str:
    """Whether a client certificate is asked for; also true and false."""
    word = value.lower()
    word = {"true": "required", "false": "off"}.get(word, word)
    return one_of(*CLIENT_AUTH)(word)


def ports(value: str) -> tuple[tuple[int, str], ...]:
    """Comma-separated ``PORT=plain`` or ``PORT=`` and one of CLIENT_AUTH, in lower case."""
    found = {}
    for part in _parts(value):
        number, _, kind = part.partition("=")
        kind = kind.lower()
        if not re.fullmatch(r"[0-9]{1,5}", number) or not 0 < int(number) < 65536 or kind not in (PLAIN, *CLIENT_AUTH):
            raise ValueError(f"must be PORT=plain, PORT=off, PORT=optional or PORT=required, not {part!r}")
        if int(number) in found:
            raise ValueError(f"names port {number} twice")
        found[int(number)] = kind
    return tuple(found.items())


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())
