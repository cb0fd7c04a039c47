"""Memory of credentials that were right a moment ago.

When a site's power or network comes back, its charge points all reconnect within seconds, and a scrypt hash for each of
them would keep the gateway from serving anybody. A credential found right is therefore remembered for a while: not
itself but an HMAC of it, under a key that lives and dies with this process. The HMAC covers the stored hash with all
that belongs to it, so a changed record is a new question; wrong credentials are never remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict

from attrs import define, field

from ocpp_gateway.auth.hashing import StoredHash
from ocpp_gateway.clock import Clock


@define(eq=False)
class VerifiedCredentials:
    """Remembers at most ``max_entries`` verified secrets, each for ``ttl`` seconds. A ``ttl`` of 0 remembers none."""

    clock: Clock
    ttl: float = field(kw_only=True)
    max_entries: int = field(kw_only=True)
    _key: bytes = field(init=False, repr=False, factory=lambda: os.urandom(32))
    # What was verified last is at the end. It is moved there only by a new verification: use does not prolong.
    _expiry: OrderedDict[bytes, float] = field(init=False, repr=False, factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._expiry)

    def knows(self, charge_point_id: str, stored: StoredHash, secrets: tuple[bytes, ...]) -> bool:
        """Whether these very ``secrets`` were found to match ``stored`` less than ``ttl`` seconds ago."""
        entry = self._entry(charge_point_id, stored, secrets)
        expiry = self._expiry.get(entry)
        if expiry is None:
            return False
        if expiry <= self.clock.monotonic():
            del self._expiry[entry]
            return False
        return True

    def remember(self, charge_point_id: str, stored: StoredHash, secrets: tuple[bytes, ...]) -> None:
        """``secrets`` have just been found to match ``stored``."""
        entry = self._entry(charge_point_id, stored, secrets)
        self._expiry[entry] = self.clock.monotonic() + self.ttl
        self._expiry.move_to_end(entry)
        while len(self._expiry) > self.max_entries:
            self._expiry.popitem(last=False)

    def _entry(self, charge_point_id: str, stored: StoredHash, secrets: tuple[bytes, ...]) -> bytes:
        scrypt = stored.scrypt
        parts = (
            charge_point_id.encode("utf-8"),
            f"{stored.algorithm.value} {scrypt.n} {scrypt.r} {scrypt.p}".encode("ascii"),
            stored.digest,
            stored.salt,
            *secrets,
        )
        # Each part with its length, so that no two different lists of parts are the same message.
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.new(self._key, message, hashlib.sha256).digest()
