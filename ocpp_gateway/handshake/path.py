"""Which charge point, and by its own account which OCPP version, a request target names.

The grammar is ``/ocpp/{version}/{identity}`` and ``/ocpp/{identity}``. The target is split at its slashes first, then
each segment is percent-decoded, once (RFC 3986 section 2.4): ``%2F`` cannot become a separator, nor ``%252F`` a slash.
The identity is the last segment (OCPP-J 1.6 and 2.0.1 section 3.1.1). The version in the path is compared with the
subprotocol and otherwise means nothing (OCPP-J 2.1 section 3.1.2).

Default pattern of an identity: ``CP-`` and up to 45 of the characters of OCPP 2.x's identifierString (part 2 section
2.1.4), 48 in all. One of them is not allowed although identifierString has it: the colon. It ends the user name in a
Basic credential, so an identity with one could never log in (OCPP-J 2.1 section 3.1.1 forbids it). No pattern of the
operator's can allow it either, nor slashes, control characters or the names of directories.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import frozen

from ocpp_gateway.handshake.reasons import refused
from ocpp_gateway.ocppj.frames import Quirk
from ocpp_gateway.ocppj.versions import OcppVersion

MAX_IDENTITY_LENGTH: Final = 255
"""Characters; whatever the operator's pattern says. OCPP 1.6 sets no limit, OCPP 2.x sets 48."""

_ABSOLUTE_FORM = re.compile(r"(?:https?|wss?)://[^/?#]*", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NEVER = re.compile(r"[:/\\]")


@frozen
class OcppPath:
    """What a target names. ``version`` is None where the path has none."""

    version: OcppVersion | None
    charge_point_id: str

    def quirks(self, spoken: OcppVersion) -> tuple[Quirk, ...]:
        """PATH_VERSION_MISMATCH if the path names another version than the one agreed upon."""
        return () if self.version in (None, spoken) else (Quirk.PATH_VERSION_MISMATCH,)


def parse_target(target: str, pattern: re.Pattern[str]) -> OcppPath:
    """The charge point that the request target ``target`` names; ``pattern`` has to match its whole identity.

    The query is ignored, and so is one slash at the end. Raises HandshakeRefused (404) with the reason
    ``unknown_path``, ``unknown_version`` or ``identity_malformed``.
    """
    path = _ABSOLUTE_FORM.sub("", target, count=1) if not target.startswith("/") else target
    first, *segments = path.partition("?")[0].split("/")
    if segments and segments[-1] == "":
        segments.pop()
    if first or len(segments) not in (2, 3) or segments[0] != "ocpp":
        raise refused("unknown_path")
    version = None
    if len(segments) == 3:
        version = OcppVersion.from_path(_decoded(segments[1]) or "")
        if version is None:
            raise refused("unknown_version")
    identity = _decoded(segments[-1])
    if identity is None or not _is_identity(identity, pattern):
        raise refused("identity_malformed")
    if version is None and OcppVersion.from_path(identity) is not None:
        raise refused("unknown_path")  # /ocpp/1.6/ has no identity, even where the pattern would take "1.6" for one
    return OcppPath(version, identity)


def _decoded(segment: str) -> str | None:
    """``segment`` percent-decoded once, or None if it is not UTF-8 in proper escapes."""
    if _BAD_ESCAPE.search(segment):
        return None
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeError:
        return None


def _is_identity(text: str, pattern: re.Pattern[str]) -> bool:
    return (
        len(text) <= MAX_IDENTITY_LENGTH
        and text.isprintable()
        and _NEVER.search(text) is None
        and text not in ("", ".", "..")
        and pattern.fullmatch(text) is not None
    )
