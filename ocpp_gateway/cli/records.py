"""Identity records as the command writes and shows them (docs/WIRE.md, ``chargers:{id}``). Pure: JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ocpp_gateway.clock import iso_millis

if TYPE_CHECKING:
    from ocpp_gateway.auth.hashing import HashDefaults
    from ocpp_gateway.cli.passwords import Secret
    from ocpp_gateway.ocppj.versions import OcppVersion

Record = dict[str, Any]

SIMULATION = "ocpp-gateway simulate"
"""``createdBy`` of the records that simulations write, and may write again."""

_UNSAID: tuple[Any, ...] = (None, "", [])
_HASHES = ("secretHash", "secretSalt", "tokenHash", "nextSecretHash", "nextSecretSalt", "nextSecretContext")
_HIDDEN = (*_HASHES, "secret", "token")


@frozen(kw_only=True)
class Wishes:
    """What ``charger add`` was told; None and empty: not said."""

    tenant_id: str | None = None
    station_id: str | None = None
    status: str | None = None
    versions: tuple[OcppVersion, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    allowed_cidrs: tuple[str, ...] = ()
    username: str | None = None
    auth_type: str = "basic"
    min_profile: int | None = None
    allow_downgrade: bool | None = None
    created_by: str | None = None


def written(
    charge_point_id: str, before: Record, wishes: Wishes, secret: Secret | None, hashing: HashDefaults, now: float
) -> Record:
    """The record with a new credential, or with none (``mtls``), in place of the old one.

    What ``wishes`` does not say stays as it was ``before``, unknown fields too.
    """
    from ocpp_gateway.auth.hashing import new_salt

    said = {
        "createdBy": wishes.created_by,
        "stationId": wishes.station_id,
        "tenantId": wishes.tenant_id,
        "status": wishes.status,
        "allowedProtocols": [version.label for version in wishes.versions],
        "allowedIps": list(wishes.allowed_ips),
        "allowedCidrs": list(wishes.allowed_cidrs),
        "minSecurityProfile": wishes.min_profile,
        "allowProfileDowngrade": wishes.allow_downgrade,
    }
    defaults = {"stationId": charge_point_id, "tenantId": "default", "status": "active"}
    record = {
        "chargePointId": charge_point_id,
        **defaults,
        **before,
        **{name: value for name, value in said.items() if value not in _UNSAID},
    }
    record["chargePointId"] = charge_point_id
    if wishes.created_by is None and is_simulated(before):
        del record["createdBy"]  # whoever gives it a credential by hand makes it theirs
    auth_before = before.get("auth")
    auth = {
        name: value
        for name, value in (auth_before.items() if isinstance(auth_before, dict) else ())
        if name not in (*_HIDDEN, "type", "hashAlgorithm")
    }
    auth["type"] = wishes.auth_type
    if auth.get("allowedTypes") and wishes.auth_type not in auth["allowedTypes"]:
        auth["allowedTypes"] = [*auth["allowedTypes"], wishes.auth_type]
    if wishes.username:
        auth["username"] = wishes.username
    if secret is not None:
        salt = new_salt()
        auth["hashAlgorithm"] = hashing.algorithm.value
        auth["tokenHash" if wishes.auth_type == "token" else "secretHash"] = hashing.make(secret.value, salt)
        auth["secretSalt"] = salt
    record["auth"] = auth
    record.setdefault("createdAt", iso_millis(now))
    record["updatedAt"] = iso_millis(now)
    return record


def with_status(record: Record, status: str, now: float) -> Record:
    """The same record with another status."""
    return {**record, "status": status, "updatedAt": iso_millis(now)}


def with_members(record: Record, members: Mapping[str, Any], now: float) -> Record | None:
    """The same record with other ``members``, None takes one out; None if they are so already. Absent is false."""
    other = {name: value for name, value in members.items() if not _is_so(record.get(name), value)}
    if not other:
        return None
    after = {name: value for name, value in {**record, **other}.items() if not (name in other and value is None)}
    return {**after, "updatedAt": iso_millis(now)}


def is_simulated(record: Mapping[str, Any]) -> bool:
    """A simulation wrote it, and nobody has made it theirs since."""
    return record.get("createdBy") == SIMULATION


def encode(record: Record) -> bytes:
    """The JSON that is stored."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def decode(raw: bytes) -> Record | None:
    """What is stored, None if it is no JSON object."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def shown(record: Record) -> Record:
    """The record for eyes: hashes, salts and (never accepted) plain secrets are only said to be there."""
    auth = record.get("auth")
    if not isinstance(auth, dict):
        return record
    return {**record, "auth": {name: "***" if name in _HIDDEN and value else value for name, value in auth.items()}}


def text_of(record: Mapping[str, Any], name: str, default: str = "") -> str:
    """A member as text, whatever somebody stored there."""
    value = record.get(name)
    return default if value is None else value if isinstance(value, str) else json.dumps(value)


def list_of(record: Mapping[str, Any], name: str) -> str:
    """A list of texts in one line; empty if there is none."""
    value = record.get(name)
    return ", ".join(str(entry) for entry in value) if isinstance(value, list) else ""


def status_of(record: Mapping[str, Any]) -> str:
    """The status; absent means active (contract)."""
    return text_of(record, "status", "active")


def auth_type_of(record: Mapping[str, Any]) -> str:
    """How it authenticates; empty if the gateway's OCPP_AUTH_MODE decides."""
    auth = record.get("auth")
    return text_of(auth, "type") if isinstance(auth, dict) else ""


def _is_so(stored: Any, wanted: Any) -> bool:
    # By type, too: true equals 1, and a record with the one in place of the other is refused as a whole.
    return (type(stored) is type(wanted) and stored == wanted) or (stored is None and wanted is False)
