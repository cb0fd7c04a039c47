"""The stored forms of passwords and tokens, and how a secret is compared with one.

Forms (contract section 2), all in hexadecimal digits of either case:

* ``sha256``: SHA-256 of the salt in UTF-8 followed by the secret's bytes
* ``scrypt``: scrypt (RFC 7914) of the secret's bytes with the salt in UTF-8

Which one it is, is said by a prefix (``scrypt$...``), else by the record's ``hashAlgorithm``, else by the gateway's
setting. The length of a stored scrypt hash gives the key length to derive: a key is the beginning of every longer one,
so hashes outlive a change of OCPP_AUTH_SCRYPT_KEYLEN. A change of N, R or P they do not outlive.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as randomness
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from ocpp_gateway.errors import GatewayError

_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64
_MAX_SCRYPT_MEMORY: Final = 1 << 30
_HEX: Final = re.compile(rf"(?:[0-9A-Fa-f]{{2}}){{{_MIN_KEY_BYTES},{_MAX_KEY_BYTES}}}")


class HashAlgorithm(StrEnum):
    """How a secret is stored."""

    SHA256 = "sha256"
    SCRYPT = "scrypt"

    @classmethod
    def from_name(cls, name: str) -> HashAlgorithm | None:
        """The algorithm that ``name`` means, in any case; ``SHA-256`` is ``sha256``."""
        name = name.strip().lower().replace("-", "")
        return next((algorithm for algorithm in cls if algorithm.value == name), None)


@frozen
class ScryptParameters:
    """Cost of scrypt: ``n`` a power of two, ``r`` and ``p`` 1 or more, ``key_length`` in bytes for new hashes.

    It takes about 128 * n * r bytes of memory. ValueError, in words for the operator, if that cannot work.
    """

    n: int = 16384
    r: int = 8
    p: int = 1
    key_length: int = 32

    def __attrs_post_init__(self) -> None:
        if self.n < 2 or self.n & (self.n - 1):
            raise ValueError("scrypt's N must be a power of two, 2 or more")
        if self.r < 1 or self.p < 1:
            raise ValueError("scrypt's R and P must be 1 or more")
        if not _MIN_KEY_BYTES <= self.key_length <= _MAX_KEY_BYTES:
            raise ValueError(f"scrypt's key length must be {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes")
        if self.memory > _MAX_SCRYPT_MEMORY:
            raise ValueError("scrypt with these N, R and P needs more than 1 GiB for each password")

    @property
    def memory(self) -> int:
        """Bytes that one derivation may use; a little more than it does."""
        return 128 * self.r * (self.n + self.p + 2) + 1024

    def derive(self, secret: bytes, salt: bytes, length: int) -> bytes:
        """The scrypt key of ``secret``. Takes tens of milliseconds."""
        return hashlib.scrypt(secret, salt=salt, n=self.n, r=self.r, p=self.p, maxmem=self.memory, dklen=length)


@frozen
class StoredHash:
    """A hash from an identity record, ready to compare with."""

    algorithm: HashAlgorithm
    digest: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    scrypt: ScryptParameters = ScryptParameters()

    @property
    def is_slow(self) -> bool:
        """Whether a comparison is too slow for the reactor."""
        return self.algorithm is HashAlgorithm.SCRYPT

    def matches(self, secrets: Iterable[bytes]) -> bool:
        """Whether one of ``secrets`` is what was hashed. Digests are compared in constant time."""
        return any(hmac.compare_digest(self._digest_of(secret), self.digest) for secret in secrets)

    def _digest_of(self, secret: bytes) -> bytes:
        if self.algorithm is HashAlgorithm.SCRYPT:
            return self.scrypt.derive(secret, self.salt, len(self.digest))
        return hashlib.sha256(self.salt + secret).digest()


@frozen
class HashDefaults:
    """What holds where a record does not say: the algorithm and scrypt's parameters."""

    algorithm: HashAlgorithm = HashAlgorithm.SHA256
    scrypt: ScryptParameters = ScryptParameters()

    def read(self, stored: str | None, salt: str | None, algorithm: str | None) -> StoredHash | None:
        """The record's hash ``stored``, or None if there is none that can be used.

        Of no use are an algorithm that we do not know and a value that is not the algorithm's hexadecimal digits.
        """
        if not stored:
            return None
        known, digits = self._parts(stored, algorithm)
        if known is None or _HEX.fullmatch(digits) is None:
            return None
        digest = bytes.fromhex(digits)
        if known is HashAlgorithm.SHA256 and len(digest) != hashlib.sha256().digest_size:
            return None
        return StoredHash(known, digest, (salt or "").encode("utf-8"), self.scrypt)

    def like(self, stored: str | None, algorithm: str | None) -> HashDefaults:
        """The same with the algorithm that a record's hash ``stored`` has, or would have; to replace it by another."""
        known, _ = self._parts(stored or "", algorithm)
        return HashDefaults(known or self.algorithm, self.scrypt)

    def make(self, secret: bytes, salt: str) -> str:
        """``secret`` in its stored form, with the algorithm as a prefix. With scrypt too slow for the reactor."""
        if self.algorithm is HashAlgorithm.SCRYPT:
            digest = self.scrypt.derive(secret, salt.encode("utf-8"), self.scrypt.key_length)
        else:
            digest = hashlib.sha256(salt.encode("utf-8") + secret).digest()
        return f"{self.algorithm.value}${digest.hex()}"

    def _parts(self, stored: str, algorithm: str | None) -> tuple[HashAlgorithm | None, str]:
        prefix, dollar, rest = stored.strip().partition("$")
        name = prefix if dollar else algorithm
        return HashAlgorithm.from_name(name) if name is not None else self.algorithm, rest if dollar else prefix


def new_salt() -> str:
    """A salt for one secret: 128 random bits as hexadecimal digits."""
    return randomness.token_hex(16)


class HashingBusy(GatewayError):
    """More slow comparisons wait than are allowed to."""

    reason = "hashing_busy"


class HashRunner(Protocol):
    """Runs comparisons that are too slow for the reactor."""

    def matches(self, stored: StoredHash, secrets: tuple[bytes, ...]) -> Deferred[bool]:
        """``stored.matches(secrets)``; fails with HashingBusy over the bound. Cancelling gives the place up."""
        ...


class HashMaker(Protocol):
    """Makes hashes that are too slow for the reactor."""

    def make(self, hashes: HashDefaults, secret: bytes, salt: str) -> Deferred[str]:
        """``hashes.make(secret, salt)``; fails and is cancelled as ``HashRunner.matches``."""
        ...
