from __future__ import annotations

import pytest

from ocpp_gateway.adapters.answers import IdTokens, TokenStatus
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.tokens import RedisIdTokens


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b"Accepted", TokenStatus("Accepted")),
        (b" Blocked\n", TokenStatus("Blocked")),
        (b'"ConcurrentTx"', TokenStatus("ConcurrentTx")),
        (b'{"status":"Accepted"}', TokenStatus("Accepted")),
        (
            b'{"status":"Accepted","expiryDate":"2027-01-01T00:00:00Z","parentIdTag":"FLEET"}',
            TokenStatus("Accepted", "2027-01-01T00:00:00Z", "FLEET"),
        ),
        (b'{"status":"Expired","groupIdToken":"G"}', TokenStatus("Expired", None, "G")),
        (
            b'{"status":"Accepted","cacheExpiryDateTime":"2027-01-01T00:00:00Z","groupIdToken":{"idToken":"G","type":"x"}}',
            TokenStatus("Accepted", "2027-01-01T00:00:00Z", "G"),
        ),
        (b'{"status":"Accepted","expiryDate":5,"parentIdTag":null,"other":1}', TokenStatus("Accepted")),
        # An entry that cannot be read was not meant to let anybody charge.
        (b"", TokenStatus("Invalid")),
        (b"{", TokenStatus("Invalid")),
        (b"{}", TokenStatus("Invalid")),
        (b'{"status":1}', TokenStatus("Invalid")),
        (b'""', TokenStatus("Invalid")),
        (b"\xff", TokenStatus("Invalid")),
    ],
)
async def test_what_an_entry_says(client: RedisClient, stored: bytes, expected: TokenStatus) -> None:
    tokens: IdTokens = RedisIdTokens(client)
    await client.set("id-tokens:tenant-abc:TAG-1", stored)
    assert await tokens.lookup("tenant-abc", "TAG-1") == expected


async def test_a_token_is_known_to_its_tenant_only(client: RedisClient) -> None:
    tokens = RedisIdTokens(client)
    await client.set("id-tokens:tenant-abc:TAG-1", b"Accepted")
    assert await tokens.lookup("tenant-xyz", "TAG-1") is None
    assert await tokens.lookup("tenant-abc", "TAG-2") is None


async def test_as_it_came_goes_before_upper_case(client: RedisClient) -> None:
    tokens = RedisIdTokens(client)
    await client.set("id-tokens:t:ABCD", b"Accepted")
    assert await tokens.lookup("t", "abCd") == TokenStatus("Accepted")
    await client.set("id-tokens:t:abCd", b"Blocked")
    assert await tokens.lookup("t", "abCd") == TokenStatus("Blocked")
    assert await tokens.lookup("t", "ABCD") == TokenStatus("Accepted")
