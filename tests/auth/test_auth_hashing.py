from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, ScryptParameters, new_salt

CHEAP = ScryptParameters(n=2, r=1, p=1)
SHA256 = HashDefaults(HashAlgorithm.SHA256, CHEAP)
SCRYPT = HashDefaults(HashAlgorithm.SCRYPT, CHEAP)
SHA256_DIGITS = hashlib.sha256(b"saltsecret").hexdigest()
SCRYPT_DIGITS = hashlib.scrypt(b"secret", salt=b"salt", n=2, r=1, p=1, dklen=32).hex()


def matches(defaults: HashDefaults, stored: str, algorithm: str | None = None, salt: str | None = "salt") -> bool:
    read = defaults.read(stored, salt, algorithm)
    assert read is not None
    assert not read.matches([b"Secret", b""])
    return read.matches([b"secret"])


@pytest.mark.parametrize(
    ("defaults", "stored", "algorithm"),
    [
        (SHA256, SHA256_DIGITS, None),
        (SHA256, SHA256_DIGITS.upper(), None),
        (SHA256, f" {SHA256_DIGITS}\n", None),
        (SCRYPT, SCRYPT_DIGITS, None),
        (SCRYPT, SHA256_DIGITS, "sha256"),
        (SCRYPT, SHA256_DIGITS, "SHA-256"),
        (SHA256, SCRYPT_DIGITS, "scrypt"),
        (SHA256, f"scrypt${SCRYPT_DIGITS}", None),
        (SHA256, f"scrypt${SCRYPT_DIGITS}", "sha256"),
        (SCRYPT, f"sha256${SHA256_DIGITS.upper()}", "scrypt"),
        (SCRYPT, f"SHA256${SHA256_DIGITS}", "bcrypt"),
    ],
)
def test_prefix_goes_before_the_record_and_the_record_before_the_setting(
    defaults: HashDefaults, stored: str, algorithm: str | None
) -> None:
    assert matches(defaults, stored, algorithm)


def test_known_answers() -> None:
    # RFC 7914 section 12, second vector, and FIPS 180-2's "abc".
    rfc = ScryptParameters(n=1024, r=8, p=16, key_length=64)
    assert (
        HashDefaults(HashAlgorithm.SCRYPT, rfc).make(b"password", "NaCl").startswith("scrypt$fdbabe1c9d3472007856e719")
    )
    assert SHA256.make(b"bc", "a") == "sha256$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_contract_s_defaults() -> None:
    expected = hashlib.scrypt(b"x", salt=b"s", n=16384, r=8, p=1, dklen=32, maxmem=1 << 26).hex()
    assert HashDefaults(HashAlgorithm.SCRYPT).make(b"x", "s") == f"scrypt${expected}"


@pytest.mark.parametrize("defaults", [SHA256, SCRYPT])
def test_the_salt_is_optional_and_utf8(defaults: HashDefaults) -> None:
    assert matches(defaults, defaults.make(b"secret", ""), salt=None)
    assert matches(defaults, defaults.make(b"secret", "Säure"), salt="Säure")


def test_the_stored_length_gives_the_key_length() -> None:
    for length in (16, 32, 64):
        made = HashDefaults(HashAlgorithm.SCRYPT, ScryptParameters(2, 1, 1, length)).make(b"secret", "salt")
        assert matches(SHA256, made)


@pytest.mark.parametrize(
    ("stored", "algorithm"),
    [
        (None, None),
        ("", None),
        ("$", None),
        ("sha256$", None),
        ("secret", None),
        (SHA256_DIGITS[:-2], None),
        (SHA256_DIGITS + "00", None),
        (SHA256_DIGITS[:-1] + "g", None),
        (SHA256_DIGITS[:32] + " " + SHA256_DIGITS[32:], None),
        ("00", "scrypt"),
        ("00" * 15, "scrypt"),
        ("00" * 65, "scrypt"),
        (SHA256_DIGITS, "bcrypt"),
        (f"md5${SHA256_DIGITS}", "sha256"),
        (f"scrypt$16384$8$1${SCRYPT_DIGITS}", None),
        ("$2b$12$" + "a" * 53, None),
    ],
)
def test_hashes_of_no_use(stored: str | None, algorithm: str | None) -> None:
    assert SHA256.read(stored, "salt", algorithm) is None


def test_neither_digest_nor_salt_is_in_the_repr() -> None:
    stored = SHA256.read(SHA256_DIGITS, "pepper", None)
    assert stored is not None
    assert "pepper" not in repr(stored)
    assert str(stored.digest) not in repr(stored)


def test_only_scrypt_is_too_slow_for_the_reactor() -> None:
    fast, slow = SHA256.read(SHA256_DIGITS, None, None), SCRYPT.read(SCRYPT_DIGITS, None, None)
    assert fast is not None
    assert slow is not None
    assert (fast.is_slow, slow.is_slow) == (False, True)


@pytest.mark.parametrize(
    "parameters",
    [
        (0, 8, 1, 32),
        (1, 8, 1, 32),
        (1000, 8, 1, 32),
        (-2, 8, 1, 32),
        (2, 0, 1, 32),
        (2, 1, 0, 32),
        (2, 1, 1, 15),
        (2, 1, 1, 65),
        (1 << 24, 8, 1, 32),
        (2, 1, 1 << 30, 32),
    ],
)
def test_parameters_that_cannot_work_are_refused_at_start(parameters: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="scrypt"):
        ScryptParameters(*parameters)


@pytest.mark.parametrize("parameters", [(2, 1, 1), (1024, 8, 16), (16384, 8, 1), (32768, 16, 2), (2, 64, 7)])
def test_the_memory_limit_is_enough(parameters: tuple[int, int, int]) -> None:
    assert len(ScryptParameters(*parameters).derive(b"x", b"s", 32)) == 32


def test_salts_differ() -> None:
    assert len({new_salt() for _ in range(100)}) == 100


@given(st.text() | st.from_regex(r"(sha256|scrypt|x)\$[0-9a-fA-F]{0,80}"), st.text(), st.none() | st.text(max_size=8))
def test_anything_stored_is_a_hash_or_none(stored: str, salt: str, algorithm: str | None) -> None:
    read = SHA256.read(stored, salt.encode("utf-8", "ignore").decode(), algorithm)
    assert read is None or 16 <= len(read.digest) <= 64


@given(st.binary(), st.text(st.characters(codec="utf-8")), st.sampled_from([SHA256, SCRYPT]))
def test_what_is_made_matches_and_nothing_else(secret: bytes, salt: str, defaults: HashDefaults) -> None:
    stored = HashDefaults().read(defaults.make(secret, salt), salt, None)
    assert stored is not None
    if stored.algorithm is HashAlgorithm.SCRYPT:
        stored = defaults.read(defaults.make(secret, salt), salt, None)
        assert stored is not None
    assert stored.matches([b"no", secret])
    assert not stored.matches([secret + b"\x01"])


@pytest.mark.parametrize(
    ("stored", "algorithm", "expected"),
    [
        (None, None, HashAlgorithm.SHA256),
        (SHA256_DIGITS, None, HashAlgorithm.SHA256),
        (SCRYPT_DIGITS, "scrypt", HashAlgorithm.SCRYPT),
        (f"scrypt${SCRYPT_DIGITS}", "sha256", HashAlgorithm.SCRYPT),
        (f"sha256${SHA256_DIGITS}", "scrypt", HashAlgorithm.SHA256),
        (None, "scrypt", HashAlgorithm.SCRYPT),
        ("bcrypt$x", "scrypt", HashAlgorithm.SHA256),
    ],
)
def test_a_hash_is_replaced_by_one_of_its_kind(
    stored: str | None, algorithm: str | None, expected: HashAlgorithm
) -> None:
    assert SHA256.like(stored, algorithm) == HashDefaults(expected, CHEAP)
