"""Distinguished names in the spellings that people copy from tools, compared by what they say.

* RFC 4514, the most specific attribute first: ``CN=CP-001,O=Example``
* OpenSSL's: ``O = Example, CN = CP-001``, quoted where needed, and the old ``/O=Example/CN=CP-001``

Two names are the same if they have the same attributes with the same values, letter for letter, in the same order or in
exactly the reverse one: which end is the beginning is the difference between the first spelling and the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, TypeAlias

DistinguishedName: TypeAlias = tuple[frozenset[tuple[str, str]], ...]
"""Relative names in their order, each a set of attributes: the type's OID, and the value."""

_TYPES: Final = MappingProxyType(
    {
        name: oid
        for oid, names in (
            ("2.5.4.3", "cn commonname"),
            ("2.5.4.4", "sn surname"),
            ("2.5.4.5", "serialnumber"),
            ("2.5.4.6", "c countryname"),
            ("2.5.4.7", "l localityname"),
            ("2.5.4.8", "st s sp stateorprovincename"),
            ("2.5.4.9", "street streetaddress"),
            ("2.5.4.10", "o organizationname"),
            ("2.5.4.11", "ou organizationalunitname"),
            ("2.5.4.12", "t title"),
            ("2.5.4.13", "description"),
            ("2.5.4.15", "businesscategory"),
            ("2.5.4.17", "postalcode"),
            ("2.5.4.42", "gn givenname"),
            ("2.5.4.43", "initials"),
            ("2.5.4.44", "generationqualifier"),
            ("2.5.4.46", "dnq dnqualifier"),
            ("2.5.4.65", "pseudonym"),
            ("2.5.4.97", "organizationidentifier"),
            ("1.2.840.113549.1.9.1", "e email emailaddress"),
            ("0.9.2342.19200300.100.1.1", "uid userid"),
            ("0.9.2342.19200300.100.1.25", "dc domaincomponent"),
        )
        for name in names.split()
    }
)
"""OIDs of attribute types by their lower-case names, RFC 4514's and OpenSSL's."""

# All quantifiers are possessive: a name may come from a peer's certificate, and must not be tried in many ways.
_ATTRIBUTE = re.compile(
    r"""
    [ ]*+ ([A-Za-z0-9.-]++) [ ]*+ = [ ]*+
    (?: "((?:[^"\\]|\\.)*+)" [ ]*+ | ((?:[^,;+"\\]|\\.)*+) )
    ([,;+]|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_OID = re.compile(r"[0-9]++(?:\.[0-9]++)++")
_SLASH = re.compile(r"(?<!\\)/(?=[A-Za-z0-9.-]+=)")
_ESCAPED = re.compile(rb"\\(?:([0-9A-Fa-f]{2})|(.))", re.DOTALL)
# In the spelling with slashes a backslash is itself, but before these.
_ESCAPED_WITH_SLASHES = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([/+]))")


def parse_name(text: str) -> DistinguishedName | None:
    """The distinguished name that ``text`` spells, or None if it is none.

    None too for an attribute type that is neither an OID nor one that we know, and for values given as ``#`` and BER.
    """
    try:
        relative_names = tuple(_slashed(text) if text.startswith("/") else _separated(text))
    except ValueError:  # UnicodeError is one
        return None
    return relative_names or None


def is_same_name(one: DistinguishedName, other: DistinguishedName) -> bool:
    """Whether the two are equal, read in either direction."""
    return one in (other, other[::-1])


def _separated(text: str) -> Iterator[frozenset[tuple[str, str]]]:
    attributes: set[tuple[str, str]] = set()
    position, separator = 0, ","
    while separator:
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise ValueError("not a distinguished name")
        kind, quoted, plain, separator = match.groups()
        attributes.add((_type(kind), _unescaped(quoted if quoted is not None else _without_padding(plain))))
        position = match.end()
        if separator != "+":
            yield frozenset(attributes)
            attributes.clear()


def _slashed(text: str) -> Iterator[frozenset[tuple[str, str]]]:
    nothing, *attributes = _SLASH.split(text)
    if nothing:
        raise ValueError("not a distinguished name")
    for attribute in attributes:
        kind, _, value = attribute.partition("=")
        yield frozenset(((_type(kind), _unescaped(value, _ESCAPED_WITH_SLASHES)),))


def _type(name: str) -> str:
    lower = name.lower().removeprefix("oid.")
    oid = lower if _OID.fullmatch(lower) else _TYPES.get(lower)
    if oid is None:
        raise ValueError("an attribute type that we do not know")
    return oid


def _without_padding(value: str) -> str:
    """``value`` without the blanks at its end, except for an escaped one."""
    if value.startswith("#"):
        raise ValueError("a value in BER")
    stripped = value.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 else stripped


def _unescaped(value: str, escaped: re.Pattern[bytes] = _ESCAPED) -> str:
    if "\\" not in value:
        return value
    # Hex pairs are the bytes of UTF-8, so a letter may be several of them.
    return escaped.sub(
        lambda escape: bytes.fromhex(escape[1].decode("ascii")) if escape[1] else escape[2], value.encode("utf-8")
    ).decode("utf-8")
