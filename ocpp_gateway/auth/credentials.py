"""What a charge point shows to be let in: bytes, from the header fields of its request.

Basic (RFC 7617): base64 of user, colon, password. The user is the identity; the password of an OCPP 1.6 charge point is
any 16 to 20 bytes (OCPP-J 1.6 section 6.2.2), so nothing here is ever decoded to text. Token: ``Authorization: Bearer``
(RFC 6750) or ``x-api-key``.

An OCPP 1.6 password is configured as hexadecimal digits (AuthorizationKey) and sent as the bytes they stand for
("Improved security for OCPP 1.6-J", A00.FR.205). Devices exist that send the digits themselves, and operators have
stored the hash of the digits. ``spellings`` lists what one password may have been hashed as.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.ocppj.versions import OcppVersion

MAX_BASIC_LENGTH: Final = 1024
"""Characters of base64. An identity and the longest password of OCPP 2.1 need some 170."""

MAX_TOKEN_LENGTH: Final = 4096
"""Bytes. Room for a signed token; the gateway takes it as a secret like any other."""

MAX_AUTHORIZATION_KEY: Final = 20
"""Bytes of an OCPP 1.6 AuthorizationKey, which has up to 40 digits."""

_SCHEME_AND_REST = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?: +(.*))?", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HEX_TEXT = re.compile(rb"(?:[0-9A-Fa-f]{2}){1,%d}" % MAX_AUTHORIZATION_KEY)


@frozen
class BasicCredential:
    """User name and password of a Basic credential, as bytes."""

    username: bytes
    password: bytes = field(repr=False)


@frozen
class Credentials:
    """What the header fields carry, not yet looked into; so that only the way that applies is judged."""

    authorization: tuple[str, ...] = field(default=(), repr=False)
    api_key: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_headers(cls, headers: Mapping[str, Sequence[str]]) -> Credentials:
        """Take them from header fields by lower-case name, with values decoded as ISO-8859-1."""
        return cls(tuple(headers.get("authorization", ())), tuple(headers.get("x-api-key", ())))

    @property
    def are_given(self) -> bool:
        """Whether there is any, of whatever worth."""
        return bool(self.authorization or self.api_key)

    def basic(self) -> BasicCredential:
        """The Basic credential.

        Raises AuthenticationFailed with ``basic_missing_header`` or, if it is given twice, too long, not base64 or
        without a colon, ``basic_invalid_format``. Missing padding is tolerated.
        """
        if not self.authorization:
            raise AuthenticationFailed("basic_missing_header")
        if len(self.authorization) > 1:
            raise AuthenticationFailed("basic_invalid_format")
        scheme, encoded = _scheme(self.authorization[0])
        if scheme != "basic":
            raise AuthenticationFailed("basic_missing_header")
        if not encoded or len(encoded) > MAX_BASIC_LENGTH or _BASE64.fullmatch(encoded) is None:
            raise AuthenticationFailed("basic_invalid_format")
        digits = encoded.rstrip("=")
        try:
            decoded = b64decode(digits + "=" * (-len(digits) % 4))
        except binascii.Error:
            raise AuthenticationFailed("basic_invalid_format") from None
        username, colon, password = decoded.partition(b":")
        if not colon:
            raise AuthenticationFailed("basic_invalid_format")
        return BasicCredential(username, password)

    def token(self) -> bytes:
        """The token.

        Raises AuthenticationFailed with ``token_missing`` or, if it is too long or given twice with different values,
        ``token_invalid``.
        """
        tokens = {value.strip(" \t") for value in self.api_key}
        for value in self.authorization:
            scheme, rest = _scheme(value)
            if scheme == "bearer":
                tokens.add(rest)
        tokens.discard("")
        if not tokens:
            raise AuthenticationFailed("token_missing")
        token = tokens.pop()
        if tokens or len(token) > MAX_TOKEN_LENGTH:
            raise AuthenticationFailed("token_invalid")
        try:
            return token.encode("latin-1")
        except UnicodeEncodeError:
            raise AuthenticationFailed("token_invalid") from None


def spellings(password: bytes, version: OcppVersion) -> tuple[bytes, ...]:
    """All that ``password``, as sent, may have been hashed as: itself first, then the other forms of a 1.6 key.

    At most four. They all stand for the same bytes, so a guesser gains nothing from any of them.
    """
    if version is not OcppVersion.V16:
        return (password,)
    forms = [password]
    if _HEX_TEXT.fullmatch(password):
        forms += [bytes.fromhex(password.decode("ascii")), password.lower(), password.upper()]
    elif len(password) <= MAX_AUTHORIZATION_KEY:
        digits = password.hex().encode("ascii")
        forms += [digits, digits.upper()]
    return tuple(dict.fromkeys(forms))


def _scheme(value: str) -> tuple[str, str]:
    match = _SCHEME_AND_REST.fullmatch(value.strip(" \t"))
    return (match[1].lower(), (match[2] or "").strip(" \t")) if match else ("", "")
