from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.auth.errors import IdentityRecordInvalid
from ocpp_gateway.auth.next_secrets import (
    MAX_NEXT_SECRETS,
    NO_NEXT_SECRETS,
    NextSecrets,
    next_secrets_of,
    settled,
    with_next_secret,
    with_reboot_awaited,
    with_secret,
    without_next_secret,
)
from ocpp_gateway.auth.record import IdentityRecord

PRESENT = {"type": "basic", "secretHash": "present", "secretSalt": "salt", "vendor": {"note": 1}}
TOLD = with_next_secret(PRESENT, "next", "pepper")


def told(*hashes: str, auth: dict[str, Any] = PRESENT) -> dict[str, Any]:
    for stored in hashes:
        auth = with_next_secret(auth, stored, "pepper")
    return auth


def secrets_in(auth: dict[str, Any]) -> NextSecrets:
    raw = json.dumps({"stationId": "s", "tenantId": "t", "auth": auth})
    return IdentityRecord.parse(raw, "CP-001").auth.next_secrets


def test_nearly_no_record_has_one() -> None:
    assert secrets_in(PRESENT) is NO_NEXT_SECRETS
    assert next_secrets_of({}) is NO_NEXT_SECRETS


def test_one_to_come_stands_beside_the_present_one() -> None:
    assert {name: TOLD[name] for name in PRESENT} == PRESENT
    assert (TOLD["nextSecretHash"], TOLD["nextSecretSalt"]) == ("next", "pepper")
    assert TOLD["nextSecretContext"].keys() == {"replaces"}
    assert secrets_in(TOLD) == NextSecrets(("next",), "pepper")


def test_a_record_made_by_hand_needs_no_context() -> None:
    assert secrets_in(PRESENT | {"nextSecretHash": "next"}) == NextSecrets(("next",), None)


@pytest.mark.parametrize("given", [None, ""])
def test_one_that_says_nothing_is_none(given: str | None) -> None:
    assert secrets_in(TOLD | {"nextSecretHash": given}) == NO_NEXT_SECRETS


@pytest.mark.parametrize(
    "member",
    [
        {"nextSecretHash": 1},
        {"nextSecretSalt": 1},
        {"nextSecretContext": []},
        {"nextSecretContext": {"replaces": 1}},
        {"nextSecretContext": {"earlierHashes": "x"}},
        {"nextSecretContext": {"needsReboot": 1}},
    ],
    ids=str,
)
def test_a_record_with_a_member_of_the_wrong_type_is_refused(member: dict[str, Any]) -> None:
    with pytest.raises(IdentityRecordInvalid) as caught:
        secrets_in(TOLD | member)
    assert caught.value.problem.startswith("auth.nextSecret")
    assert "pepper" not in caught.value.problem


def test_hashes_and_salts_are_not_shown() -> None:
    shown = repr(secrets_in(told("aaaa", "bbbb")))
    assert not any(secret in shown for secret in ("aaaa", "bbbb", "pepper"))


@pytest.mark.parametrize(
    "change", [{"secretHash": "another"}, {"secretSalt": "another"}, {"secretHash": None}], ids=str
)
def test_it_does_not_count_beside_another_password_than_it_was_written_beside(change: dict[str, Any]) -> None:
    replaced = TOLD | change
    assert secrets_in(replaced) == NO_NEXT_SECRETS
    assert settled(replaced, "next") is None
    assert settled(replaced, None) is None
    assert without_next_secret(replaced, "next") is None
    again = with_next_secret(replaced, "newer", "salt-2")
    assert secrets_in(again) == NextSecrets(("newer",), "salt-2")


def test_the_trace_of_a_hash_is_no_hash() -> None:
    assert "present" not in json.dumps(TOLD["nextSecretContext"])


def test_taken() -> None:
    assert with_secret(TOLD, "next", "pepper") == PRESENT | {"secretHash": "next", "secretSalt": "pepper"}


def test_taken_without_a_salt() -> None:
    auth = with_next_secret(PRESENT, "next", "")
    assert with_secret(auth, "next", None) == {
        "type": "basic",
        "secretHash": "next",
        "vendor": {"note": 1},
    }


def test_refused() -> None:
    assert without_next_secret(TOLD, "next") == PRESENT
    assert without_next_secret(PRESENT, "next") is None


def test_the_same_one_told_again_is_one() -> None:
    assert secrets_in(told("next", "next")).hashes == ("next",)
    assert secrets_in(told("a", "b", "a")).hashes == ("a", "b")


def test_of_several_the_newest_is_first_and_they_are_bounded() -> None:
    auth = told("a", "b", "c", "d", "e")
    assert secrets_in(auth).hashes == ("e", "d", "c", "b")
    assert len(secrets_in(auth).hashes) == MAX_NEXT_SECRETS
    auth["nextSecretContext"]["earlierHashes"] = [str(number) for number in range(50)]
    assert len(secrets_in(auth).hashes) == MAX_NEXT_SECRETS


def test_refusing_one_leaves_the_others() -> None:
    auth = without_next_secret(told("a", "b", "c"), "b")
    assert auth is not None
    assert secrets_in(auth) == NextSecrets(("c", "a"), "pepper")


def test_what_was_told_after_the_one_that_was_taken_is_still_to_come() -> None:
    auth = with_secret(told("a", "b", "c"), "b", "pepper")
    assert auth is not None
    assert auth["secretHash"] == "b"
    assert secrets_in(auth) == NextSecrets(("c",), "pepper")
    assert with_secret(auth, "c", "pepper") == PRESENT | {"secretHash": "c", "secretSalt": "pepper"}


def test_coming_with_one_settles_it() -> None:
    auth = told("a", "b", "c")
    assert settled(auth, None) == PRESENT
    for used in ("a", "b", "c"):
        assert settled(auth, used) == PRESENT | {"secretHash": used, "secretSalt": "pepper"}
    assert settled(auth, "present") is None
    assert settled(PRESENT, None) is None


def test_coming_with_the_present_one_says_nothing_before_a_reboot() -> None:
    auth = with_reboot_awaited(TOLD, "next")
    assert auth is not None
    assert settled(auth, None) is None
    assert settled(auth, "next") == PRESENT | {"secretHash": "next", "secretSalt": "pepper"}
    assert without_next_secret(auth, "next") == PRESENT
    assert with_reboot_awaited(PRESENT, "next") is None


def test_a_token_keeps_its_salt() -> None:
    with_token = PRESENT | {"tokenHash": "token"}
    same = with_secret(with_next_secret(with_token, "next", "salt"), "next", "salt")
    assert same == with_token | {"secretHash": "next"}
    assert with_secret(with_next_secret(with_token, "next", "pepper"), "next", "pepper") is None
    assert settled(with_next_secret(with_token, "next", "pepper"), "next") is None


def test_a_token_that_is_stored_as_the_secret_stays_a_token() -> None:
    auth = PRESENT | {"type": "token"}
    changed = with_secret(with_next_secret(auth, "next", "salt"), "next", "salt", keeps_token=True)
    assert changed == auth | {"secretHash": "next", "tokenHash": "present"}


@define
class ChargePoint:
    """One that is told passwords, and its record."""

    has: str = "present"
    at_reboot: str | None = None
    lost: int = 0
    count: int = 0
    auth: dict[str, Any] = field(factory=lambda: dict(PRESENT))

    def tell(self, answer: str) -> None:
        if self.at_reboot is not None or self.lost >= MAX_NEXT_SECRETS - 1:
            self.reconnect(reboot=True)
        self.count += 1
        stored = f"password-{self.count}"
        self.auth = with_next_secret(self.auth, stored, "pepper")
        if answer == "refused":
            self.auth = without_next_secret(self.auth, stored) or self.auth
        elif answer == "accepted":
            self.has, self.lost = stored, 0
            self.auth = with_secret(self.auth, stored, "pepper") or self.auth
        elif answer == "reboot":
            self.at_reboot = stored
            self.auth = with_reboot_awaited(self.auth, stored) or self.auth
        else:
            self.lost += 1
            self.has = stored if answer == "taken" else self.has

    def reconnect(self, *, reboot: bool = False) -> None:
        if reboot and self.at_reboot is not None:
            self.has, self.at_reboot = self.at_reboot, None
        present = self.auth["secretHash"]
        assert self.has == present or self.has in secrets_in(self.auth).hashes
        self.auth = settled(self.auth, None if self.has == present else self.has) or self.auth
        self.lost = 0
        if self.at_reboot is None:
            assert secrets_in(self.auth) == NO_NEXT_SECRETS
            assert self.auth["secretHash"] == self.has


@given(st.lists(st.sampled_from(["accepted", "refused", "reboot", "taken", "not taken", "reconnect", "restart"])))
def test_no_charge_point_is_ever_locked_out_and_none_keeps_two_passwords(story: list[str]) -> None:
    charge_point = ChargePoint()
    for event in story:
        if event in ("reconnect", "restart"):
            charge_point.reconnect(reboot=event == "restart")
        else:
            charge_point.tell(event)
    charge_point.reconnect(reboot=True)
    assert charge_point.auth.keys() == PRESENT.keys()
