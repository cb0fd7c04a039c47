"""Whether an id token may charge: the policy, and how each version writes the verdict.

The registry holds one status per token in the words of any OCPP version; 1.6 knows five statuses, 2.x ten.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from attrs import define, frozen

from ocpp_gateway.adapters.answers import IdTokens, TokenStatus
from ocpp_gateway.errors import StoreUnavailable

_STATUSES_2X = (
    "Accepted",
    "Blocked",
    "ConcurrentTx",
    "Expired",
    "Invalid",
    "NoCredit",
    "NotAllowedTypeEVSE",
    "NotAtThisLocation",
    "NotAtThisTime",
    "Unknown",
)
_BY_LOWER_CASE = {status.lower(): status for status in _STATUSES_2X}

#: 1.6's word for what only 2.x can say (OCPP 1.6 section 7.2, AuthorizationStatus).
_STATUS_16 = {
    "NoCredit": "Blocked",
    "NotAllowedTypeEVSE": "Blocked",
    "NotAtThisLocation": "Blocked",
    "NotAtThisTime": "Blocked",
    "Unknown": "Invalid",
}

_MAX_GROUP_ID_16 = 20
_MAX_GROUP_ID_2X = 36


class IdTokenPolicy(StrEnum):
    """OCPP_ID_TOKEN_POLICY."""

    ACCEPT = "accept"  # whoever asks may charge
    REGISTRY = "registry"  # whoever is in the registry; unknown is Invalid


@frozen
class Verdict:
    """What is said about one token. The expiry date is looked at when the answer is written."""

    known: TokenStatus
    unverified: bool = False
    """Redis was away, and the token was let through for the transaction's sake."""

    def status(self, now: float) -> str:
        """The status in 2.x words."""
        status = _BY_LOWER_CASE.get(self.known.status.lower(), "Invalid")
        expiry = _moment(self.known.expires_at)
        return "Expired" if status == "Accepted" and expiry is not None and expiry.timestamp() <= now else status

    def id_tag_info(self, now: float) -> dict[str, Any]:
        """OCPP 1.6 IdTagInfo."""
        status = self.status(now)
        info: dict[str, Any] = {"status": _STATUS_16.get(status, status)}
        expiry = _moment(self.known.expires_at)
        if expiry is not None:
            info["expiryDate"] = _written(expiry)
        if self.known.group_id and len(self.known.group_id) <= _MAX_GROUP_ID_16:
            info["parentIdTag"] = self.known.group_id
        return info

    def id_token_info(self, now: float) -> dict[str, Any]:
        """OCPP 2.x IdTokenInfoType."""
        info: dict[str, Any] = {"status": self.status(now)}
        expiry = _moment(self.known.expires_at)
        if expiry is not None:
            info["cacheExpiryDateTime"] = _written(expiry)
        if self.known.group_id and len(self.known.group_id) <= _MAX_GROUP_ID_2X:
            info["groupIdToken"] = {"idToken": self.known.group_id, "type": "Central"}
        return info


ACCEPTED = Verdict(TokenStatus("Accepted"))
INVALID = Verdict(TokenStatus("Invalid"))
UNVERIFIED = Verdict(TokenStatus("Accepted"), unverified=True)


@define(eq=False)
class TokenVerdicts:
    """Verdicts under the chosen policy."""

    policy: IdTokenPolicy
    _tokens: IdTokens

    @property
    def accepts_all(self) -> bool:
        """Whether no verdict needs the registry."""
        return self.policy is IdTokenPolicy.ACCEPT

    async def verdict(self, tenant_id: str, id_token: str | None) -> Verdict:
        """May this token charge? None stands for one that could not be read. Raises StoreUnavailable."""
        if self.accepts_all:
            return ACCEPTED
        if id_token is None:
            return INVALID
        known = await self._tokens.lookup(tenant_id, id_token)
        return INVALID if known is None else Verdict(known)

    async def verdict_in_transaction(self, tenant_id: str, id_token: str | None) -> Verdict:
        """The same for a message that must be answered: without Redis the token passes, marked ``unverified``."""
        try:
            return await self.verdict(tenant_id, id_token)
        except StoreUnavailable:
            return UNVERIFIED


def _moment(rfc3339: str | None) -> datetime | None:
    """The registry's date in UTC (assumed where no zone is given), None if there is none that can be read."""
    if rfc3339 is None:
        return None
    try:
        moment = datetime.fromisoformat(rfc3339)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
