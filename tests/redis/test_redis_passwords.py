"""Passwords that change while charge points are connected, with the records in a real Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from adapters.adapter_ports import CALLER
from auth.inline_hashing import InlineHashing
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred, gatherResults

from ocpp_gateway.auth.authenticator import AuthMode
from ocpp_gateway.auth.hashing import HashDefaults
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.rewriting import RecordRewriter
from ocpp_gateway.commands.credentials import CredentialChanges
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.identities import Identities

OLD = {"type": "basic", "secretHash": "ab" * 32, "secretSalt": "salt"}


def changes_of(identities: Identities) -> CredentialChanges:
    return CredentialChanges(
        rewriter=RecordRewriter(identities, ManualClock()),
        hashes=HashDefaults(),
        hashing=InlineHashing(),
        default_mode=AuthMode.BASIC,
        find=lambda _: None,
    )


async def stored(client: RedisClient) -> tuple[bytes, dict[str, Any]]:
    raw = await Identities(client).get("CP-001")
    assert raw is not None
    auth: dict[str, Any] = json.loads(raw)["auth"]
    return raw, auth


async def put(client: RedisClient) -> None:
    record = {"stationId": "s", "tenantId": "t", "auth": OLD, "serial": 12345678901234567890}
    await Identities(client).put("CP-001", json.dumps(record).encode())


@pytest.mark.parametrize("status", ["Accepted", "Rejected", None])
async def test_a_change_from_its_beginning_to_its_answer(client: RedisClient, status: str | None) -> None:
    await put(client)
    changes = changes_of(Identities(client))
    change = await changes.prepare(CALLER, "ChangeConfiguration", {"key": "AuthorizationKey", "value": "0a" * 20})
    assert change is not None
    raw, auth = await stored(client)
    assert auth.items() >= OLD.items()
    assert IdentityRecord.parse(raw, "CP-001").auth.next_secrets.hashes == (change.stored,)
    if status is not None:
        await changes.answered(change, {"status": status})
    raw, auth = await stored(client)
    expected = {
        "Accepted": {"type": "basic", "secretHash": change.stored, "secretSalt": change.salt},
        "Rejected": OLD,
        None: auth,
    }
    assert auth == expected[status]
    assert b"12345678901234567890" in raw
    assert b"0a" * 20 not in raw


async def test_changes_at_the_same_moment_lose_nothing(client: RedisClient) -> None:
    await put(client)
    changes = changes_of(Identities(client))
    keys = [f"{number:040x}" for number in range(3)]
    prepared = await gatherResults(
        [
            Deferred.fromCoroutine(
                changes.prepare(CALLER, "ChangeConfiguration", {"key": "AuthorizationKey", "value": key})
            )
            for key in keys
        ]
    )
    raw, _ = await stored(client)
    told = IdentityRecord.parse(raw, "CP-001").auth.next_secrets
    assert set(told.hashes) == {change.stored for change in prepared}
    assert {change.salt for change in prepared} == {told.salt}
