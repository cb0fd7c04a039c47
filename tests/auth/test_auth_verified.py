from __future__ import annotations

from attrs import evolve
from support.manual_clock import ManualClock

from ocpp_gateway.auth.hashing import HashAlgorithm, ScryptParameters, StoredHash
from ocpp_gateway.auth.verified import VerifiedCredentials

STORED = StoredHash(HashAlgorithm.SCRYPT, b"d" * 32, b"salt")
SECRETS = (b"secret",)


def memory(clock: ManualClock | None = None, ttl: float = 60, max_entries: int = 10) -> VerifiedCredentials:
    return VerifiedCredentials(clock or ManualClock(), ttl=ttl, max_entries=max_entries)


def test_what_was_verified_is_known_for_a_while() -> None:
    clock = ManualClock()
    verified = memory(clock)
    assert not verified.knows("CP-001", STORED, SECRETS)
    verified.remember("CP-001", STORED, SECRETS)
    clock.advance(59)
    assert verified.knows("CP-001", STORED, SECRETS)
    clock.advance(1)
    assert not verified.knows("CP-001", STORED, SECRETS)
    assert len(verified) == 0


def test_use_does_not_prolong() -> None:
    clock = ManualClock()
    verified = memory(clock)
    verified.remember("CP-001", STORED, SECRETS)
    for _ in range(59):
        clock.advance(1)
        assert verified.knows("CP-001", STORED, SECRETS)
    clock.advance(1)
    assert not verified.knows("CP-001", STORED, SECRETS)


def test_anything_different_is_a_new_question() -> None:
    verified = memory()
    verified.remember("CP-001", STORED, SECRETS)
    assert not verified.knows("CP-002", STORED, SECRETS)
    assert not verified.knows("CP-001", STORED, (b"Secret",))
    assert not verified.knows("CP-001", STORED, (b"secret", b"other"))
    assert not verified.knows("CP-001", STORED, (b"sec", b"ret"))
    for changed in (
        evolve(STORED, digest=b"e" * 32),
        evolve(STORED, salt=b"salT"),
        evolve(STORED, digest=b"d" * 32 + b"s", salt=b"alt"),
        evolve(STORED, algorithm=HashAlgorithm.SHA256),
        evolve(STORED, scrypt=ScryptParameters(n=2)),
    ):
        assert not verified.knows("CP-001", changed, SECRETS)
    assert verified.knows("CP-001", STORED, SECRETS)


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    verified = memory(max_entries=3)
    for number in range(4):
        verified.remember(f"CP-{number}", STORED, SECRETS)
    verified.remember("CP-1", STORED, SECRETS)
    verified.remember("CP-4", STORED, SECRETS)
    assert len(verified) == 3
    assert [verified.knows(f"CP-{number}", STORED, SECRETS) for number in range(5)] == [False, True, False, True, True]


def test_it_can_be_switched_off() -> None:
    verified = memory(ttl=0)
    verified.remember("CP-001", STORED, SECRETS)
    assert not verified.knows("CP-001", STORED, SECRETS)


def test_secrets_are_not_kept() -> None:
    verified = memory()
    verified.remember("CP-001", STORED, (b"hunter2",))
    assert all(b"hunter2" not in entry for entry in verified._expiry)
    assert "hunter2" not in repr(verified)
