"""The registry of id tokens: ``id-tokens:{tenantId}:{idToken}``, written by the operator's back end.

The value is a status of any OCPP version, bare (``Accepted``) or in JSON with more::

    {"status": "Accepted", "expiryDate": "2027-01-01T00:00:00Z", "parentIdTag": "FLEET-7"}

The group may be given as ``groupIdToken`` too, as text or as 2.x writes it (``{"idToken": …}``). Id tokens are
compared without regard to case (OCPP 1.6 section 7.28, 2.0.1 part 2 section 3.14): a token is looked up as it came,
then in upper case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from attrs import define
from twisted.logger import Logger

from ocpp_gateway.adapters.answers import TokenStatus

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()


@define(eq=False)
class RedisIdTokens:
    """See ``adapters.answers.IdTokens``."""

    client: RedisClient

    async def lookup(self, tenant_id: str, id_token: str) -> TokenStatus | None:
        """What the registry says of a token, None if it does not know it. Raises StoreUnavailable."""
        spellings = dict.fromkeys((id_token, id_token.upper()))
        values = await self.client.mget([f"id-tokens:{tenant_id}:{spelling}" for spelling in spellings])
        for value in values:
            if value is not None:
                return _status(value)
        return None


def _status(value: bytes) -> TokenStatus:
    """Read a registry entry; one that cannot be read says Invalid, since it was meant to say something."""
    text = value.strip()
    try:
        entry = orjson.loads(text) if text[:1] in (b"{", b'"') else text.decode()
    except ValueError:
        entry = None
    if isinstance(entry, str) and entry:
        return TokenStatus(entry)
    if not isinstance(entry, dict) or not isinstance(entry.get("status"), str):
        log.warn("An entry of the id token registry cannot be read", event="redis.id_token_unreadable")
        return TokenStatus("Invalid")
    return TokenStatus(
        status=entry["status"],
        expires_at=_first_text(entry, "expiryDate", "cacheExpiryDateTime"),
        group_id=_first_text(entry, "parentIdTag", "groupIdToken"),
    )


def _first_text(entry: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = entry.get(name)
        if isinstance(value, dict):
            value = value.get("idToken")
        if isinstance(value, str) and value:
            return value
    return None
