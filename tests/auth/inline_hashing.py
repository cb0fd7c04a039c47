"""A HashRunner and HashMaker without threads that counts what it is asked."""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import Deferred, succeed

from ocpp_gateway.auth.hashing import HashDefaults, StoredHash


@define
class InlineHashing:
    asked: int = 0

    def matches(self, stored: StoredHash, secrets: tuple[bytes, ...]) -> Deferred[bool]:
        self.asked += 1
        return succeed(stored.matches(secrets))

    def make(self, hashes: HashDefaults, secret: bytes, salt: str) -> Deferred[str]:
        self.asked += 1
        return succeed(hashes.make(secret, salt))
