"""Secrets that a charge point's payload carries do not reach Kafka, logs or metrics.

They come where configuration is reported: NotifyReport and NotifyEvent of a badly behaved firmware, DataTransfer of
any, GetConfiguration's answer. Messages of the charging itself have no place for them and are not looked at. A message
without a suspicious word costs a few searches; only one that has it is read, and written again if something was found.

Hidden are (1) members with a telling name, (2) the values in and below an object that names such a variable, in the
shapes of 1.6 (``{"key": ..., "value": ...}``) and 2.x (``{"variable": {"name": ...}, "variableAttribute": [...]}``),
(3) the same in JSON, ``name=value``, header lines or XML within a string, as vendors put into DataTransfer, (4)
passwords in URLs. What identifies a driver (idTag, idToken) is no secret: back ends bill by it.

Where text leaves open how far a secret goes, too much is hidden rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

HIDDEN = "***"

_NEVER_LOOKED_AT = frozenset(
    [
        "Authorize",
        "Heartbeat",
        "MeterValues",
        "NotifyPeriodicEventStream",
        "StartTransaction",
        "StatusNotification",
        "StopTransaction",
        "TransactionEvent",
    ]
)

#: A payload without any of these, in lower case, holds nothing to hide. An escape might spell one.
_SUSPICIOUS = ("pass", "key", "secret", "token", "authorization", "credential", "pin", "psk", "pwd", "@", "\\u")
_SUSPICIOUS_BYTES = tuple(word.encode() for word in _SUSPICIOUS)
_SUSPICIOUS_TEXT = re.compile("|".join(re.escape(word) for word in _SUSPICIOUS))
#: Nor does text without one of these.
_ASSIGNING = re.compile(r"[:=@<]|\\u")

# The patterns below are for text in lower case. What one went through in vain it does not go through again from a later
# start (or only so many characters), so that no text takes more than linear time.

#: Telling wherever they stand in a name.
_PART = (
    r"pass[ ._-]?(?:word|wd|phrase|code)|secret|credential|sim[ ._-]?pin"
    r"|auth(?:orization|entication)?[ ._-]?(?:key|token)"
    r"|(?:api|access)[ ._-]?(?:key|token)|(?:bearer|refresh|session|security)[ ._-]?token"
    r"|(?:private|shared|encryption|vpn|wpa[23]?|wep|wifi|wlan)[ ._-]?key"
)
#: Telling if the name ends with them.
_ENDING = (
    r"psk|pwd|(?:wifi|wlan|wpa|ftp|vpn|apn|user|admin)[ ._-]?pass"
    r"|token(?<![a-z0-9]token)(?<!id[ ._-]token)|authorization(?<![a-z0-9]authorization)(?P<header>)"
)
_TELLING_NAME = re.compile(rf"{_PART}|(?:{_ENDING})\Z")
_NAMING_MEMBERS = ("key", "name", "variable", "variableName", "configurationKey")
_DRIVERS = frozenset({"idtag", "parentidtag", "idtoken", "groupidtoken", "additionalidtoken"})

_SIGN = r"(?:\\*+[\"'])?+\s*+[:=]>?\s*+"
_TELLING = rf"(?:(?:{_PART})[\w.-]{{0,31}}+|(?:{_ENDING}))"
_ASSIGNED = re.compile(_TELLING + _SIGN)
#: The same, and the members with the value of what another member names.
_ASSIGNED_OR_VALUE = re.compile(rf"(?:{_TELLING}|values?|data(?<![a-z0-9]data)){_SIGN}")
_NAMED = re.compile(rf"(?:key|name|variable){_SIGN}(?:\\*+[\"'])?+((?:[\w.-]{{1,63}} ?){{1,3}})")
_ELEMENT = re.compile(rf"<([\w:.-]{{0,31}}?{_TELLING})(?=(?:[\s/][^<>]*)?>)>?")

_OPENING_QUOTE = re.compile(r"(\\*+)([\"'])")
_HEADER = re.compile(r"[^\r\n]*+")
#: Words, up to the end of the line or to one that is assigned something itself.
_WORDS = re.compile(r"\S++(?:[^\S\r\n]++(?![\\\"'{\[(,;]*+[a-z][\w.-]*+(?:\\*+[\"'])?+[^\S\r\n]*+[:=])\S++)*+")
_BRACKET_OR_QUOTE = re.compile(r"[{}\[\]]|(?<!\\)\\*+\"")

#: The password may hold "/" and "@" that should have been escaped, but "host:8080/..." has none.
_URL_PASSWORD = re.compile(r"(:(?:\\*+/){2}[^/\s:\"]*+:)(?!\d{1,5}[/?#\\])([^\s\"]++)")
_ESCAPED_ASCII = re.compile(r"(?<!\\)(\\++)u00(2[2-9a-f]|[3-7][0-9a-f])", re.IGNORECASE)
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

#: Quotes of JSON in a string in a string, and so on: deeper ones double their backslashes each time.
_MOST_QUOTE_LEVELS = 6


def _closing(quote: str, level: int) -> re.Pattern[str]:
    """A quote that ends a string ``level`` strings deep, or one around it: those within have more backslashes.

    After n levels, a quote has 2^n - 1 backslashes; a backslash of the content before it adds multiples of 2^(n+1).
    """
    period = 2 ** (level + 1)
    return re.compile(rf"(?<!\\)(?:\\{{{period}}})*+\\{{0,{period - 2}}}{quote}")


_CLOSING = {(quote, level): _closing(quote, level) for quote in "\"'" for level in range(_MOST_QUOTE_LEVELS)}

#: Deeper than any OCPP message; what lies below is hidden whole.
_MAX_DEPTH = 32
#: More than any honest message has to look at; from there on suspicious text is hidden whole, which takes no time.
_MAX_FINDS = 4000

_Locate = Callable[[str, "re.Match[str]"], tuple[int, int]]


def redact(action: str, raw_payload: bytes) -> bytes:
    """``raw_payload``, a JSON object, with its secrets hidden; the very same bytes if there are none."""
    if action in _NEVER_LOOKED_AT:
        return raw_payload
    lower_case = raw_payload.lower()
    if not any(word in lower_case for word in _SUSPICIOUS_BYTES):
        return raw_payload
    payload = orjson.loads(raw_payload)
    redaction = _Redaction()
    redaction.redact_object(payload, 0)
    return orjson.dumps(payload) if redaction.changed else raw_payload


def redact_text(text: str) -> str:
    """The text of a frame that could not be read, with what may be a secret hidden."""
    return _Redaction(in_frame=True).text(text)


class _Redaction:
    """One payload or text on its way. JSON is changed where it is."""

    def __init__(self, *, in_frame: bool = False) -> None:
        self.changed = False
        #: Whether a bare quote may be the end of a string that all the text is in.
        self._in_frame = in_frame
        self._bare_quote = -1
        self._finds = 0
        self._telling_names: dict[str, bool] = {}

    def redact_object(self, item: dict[str, Any], depth: int, names_a_secret: bool = False) -> None:
        names_a_secret = names_a_secret or self._names_a_secret(item)
        for name, member in item.items():
            if self._is_telling(name) or (names_a_secret and _is_value(name)) or _is_secret_beside(name, item):
                item[name] = self._hidden(member, depth + 1)
            elif type(member) is not str or name.lower() not in _DRIVERS:
                item[name] = self._redacted(member, depth + 1, names_a_secret)

    def _redacted(self, value: Any, depth: int, names_a_secret: bool) -> Any:
        kind = type(value)
        if kind is str:
            return self._string(value, depth)
        if kind is not dict and kind is not list:
            return value
        if depth > _MAX_DEPTH:
            return self._hidden(value, depth)
        if kind is dict:
            self.redact_object(value, depth, names_a_secret)
        else:
            value[:] = [self._redacted(item, depth + 1, names_a_secret) for item in value]
        return value

    def _hidden(self, value: Any, depth: int) -> Any:
        """Hide a secret. Yes, no and nothing are none, and drivers are told from what is hidden around them."""
        if value is None or type(value) is bool or value == HIDDEN:
            return value
        if type(value) is dict and depth <= _MAX_DEPTH:
            for name, member in value.items():
                if name.lower() not in _DRIVERS:
                    value[name] = self._hidden(member, depth + 1)
            return value
        self.changed = True
        return HIDDEN

    def _string(self, text: str, depth: int) -> str:
        if not (_ASSIGNING.search(text) and _SUSPICIOUS_TEXT.search(text.lower())):
            return text
        self._finds += 1
        if self._finds > _MAX_FINDS:
            return str(self._hidden(text, depth))
        redacted = self._inner_json(text, depth) if text.lstrip()[:1] in ("{", "[", '"') else self.text(text)
        self.changed = self.changed or redacted != text
        return redacted

    def _inner_json(self, text: str, depth: int) -> str:
        try:
            inner = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self.text(text)
        changed_before, self.changed = self.changed, False
        inner = self._redacted(inner, depth + 2, False)
        changed, self.changed = self.changed, self.changed or changed_before
        return orjson.dumps(inner).decode() if changed else text

    def text(self, text: str) -> str:
        """Text that is no JSON as a whole."""
        plain = _ESCAPED_ASCII.sub(_unescaped, text) if "\\u00" in text else text
        redacted = _URL_PASSWORD.sub(_hide_url_password, plain) if "@" in plain else plain
        if "<" in redacted:
            redacted = self._without(redacted, _ELEMENT, _content)
        named = _NAMED.finditer(redacted.translate(_ASCII_LOWER))
        names_a_secret = any(self._is_telling(name[1].strip()) for name in named)
        redacted = self._without(redacted, _ASSIGNED_OR_VALUE if names_a_secret else _ASSIGNED, self._value)
        return text if redacted == plain else redacted

    def _without(self, text: str, telling: re.Pattern[str], locate: _Locate) -> str:
        lower_case = text.translate(_ASCII_LOWER)
        parts: list[str] = []
        at = 0
        while found := telling.search(lower_case, at):
            start, end = locate(lower_case, found)
            self._finds += 1
            if self._finds > _MAX_FINDS:
                return "".join([*parts, text[at:start], HIDDEN])
            parts += text[at:start], HIDDEN if end > start else ""
            at = end
        return "".join([*parts, text[at:]])

    def _value(self, text: str, assigned: re.Match[str]) -> tuple[int, int]:
        """Where what is assigned begins and ends, without its quotes."""
        start = end = assigned.end()
        if opening := _OPENING_QUOTE.match(text, start):
            return opening.end(), _end_of_quoted(text, opening)
        if text[start : start + 1] in ("{", "["):
            end = _end_of_brackets(text, start)
            if assigned[0].rstrip(" \t\r\n:=>")[-1:] in ("'", '"'):
                return start, end
        words = _WORDS if assigned["header"] is None else _HEADER
        rest = words.match(text, end, self._next_bare_quote(text, end) if self._in_frame else len(text))
        return start, rest.end() if rest else end

    def _next_bare_quote(self, text: str, at: int) -> int:
        if self._bare_quote < at:  # else the one found before is still the next: it is not searched for twice
            found = _CLOSING['"', 0].search(text, at)
            self._bare_quote = found.end() - 1 if found else len(text)
        return self._bare_quote

    def _names_a_secret(self, item: dict[str, Any]) -> bool:
        for member in _NAMING_MEMBERS:
            if member in item:
                named = item[member]
                if type(named) is dict:
                    named = named.get("name")
                if type(named) is str and self._is_telling(named):
                    return True
        return False

    def _is_telling(self, name: str) -> bool:
        if name not in self._telling_names:
            self._telling_names[name] = _TELLING_NAME.search(name.lower()) is not None
        return self._telling_names[name]


def _is_value(name: str) -> bool:
    return name == "data" or name.lower().endswith(("value", "values"))


def _is_secret_beside(name: str, item: dict[str, Any]) -> bool:
    """Two names that tell only in company: the shared secret of a VPNType (2.x), and a login."""
    return (name == "key" and item.keys() >= {"server", "user"}) or (
        name == "pass" and not item.keys().isdisjoint(("user", "username", "login"))
    )


def _content(text: str, element: re.Match[str]) -> tuple[int, int]:
    """Where an XML element's content begins and ends; a slash may be escaped, as JSON permits."""
    end = text.find(f"/{element[1]}>", element.end())
    content = text[element.end() :] if end < 0 else text[element.end() : end].rstrip("\\").removesuffix("<")
    return element.end(), element.end() + len(content)


def _end_of_quoted(text: str, opening: re.Match[str]) -> int:
    """Where its closing quote begins; the end of the text if there is none."""
    backslashes = len(opening[1])
    level = (backslashes ^ (backslashes + 1)).bit_length() - 1
    if level >= _MOST_QUOTE_LEVELS:
        return len(text)
    closing = _CLOSING[opening[2], level].search(text, opening.end())
    return closing.end() - min(len(closing[0]), len(opening[0])) if closing else len(text)


def _end_of_brackets(text: str, start: int) -> int:
    depth = tokens = 0
    at = start
    while (found := _BRACKET_OR_QUOTE.search(text, at)) and tokens < _MAX_FINDS:
        tokens += 1
        at = found.end()
        if found[0].endswith('"'):
            opening = _OPENING_QUOTE.match(text, found.start())
            assert opening is not None
            at = _end_of_quoted(text, opening) + len(found[0])
        else:
            depth += 1 if found[0] in "{[" else -1
            if depth == 0:
                return at
    return len(text)


def _hide_url_password(found: re.Match[str]) -> str:
    password, at, host = found[2].rpartition("@")
    return f"{found[1]}{HIDDEN}@{host}" if at and password else found[0]


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[2], 16))
    return found[1] + character if character in "\"'\\" else character
