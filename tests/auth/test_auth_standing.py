from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from inline_hashing import InlineHashing
from support.certificates import Authority
from support.manual_clock import ManualClock

from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.bindings import AllowedOrganizations, CertificateRules
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.hashing import HashDefaults
from ocpp_gateway.auth.next_secrets import with_next_secret, with_secret
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.standing import Standing, check_standing, credential_to_come, standing_of
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.ocppj.versions import OcppVersion

CERTIFICATE = ClientCertificate.of(Authority("Root").issue("CP-001", organization="Example").certificate)
FINGERPRINT = CERTIFICATE.fingerprint
BASIC = AuthOutcome(AuthMode.BASIC, 2)
TOKEN = AuthOutcome(AuthMode.TOKEN, 1)
MTLS = AuthOutcome(AuthMode.MTLS, 3)
STORED: dict[AuthMode, dict[str, Any]] = {
    AuthMode.BASIC: {"type": "basic", "secretHash": "ab" * 32, "secretSalt": "salt"},
    AuthMode.TOKEN: {"type": "token", "tokenHash": "ab" * 32, "secretSalt": "salt"},
    AuthMode.MTLS: {"type": "mtls", "certificates": [{"fingerprint": FINGERPRINT}]},
}


def raw(auth: dict[str, Any], **fields: object) -> bytes:
    return json.dumps({"stationId": "s", "tenantId": "t", "auth": auth} | fields).encode()


def parse(stored: bytes) -> IdentityRecord:
    return IdentityRecord.parse(stored, "CP-001")


def authenticator(
    allowed_addresses: AddressList = EVERY_ADDRESS, rules: CertificateRules | None = None
) -> Authenticator:
    clock = ManualClock()
    return Authenticator(
        default_mode=AuthMode.BASIC,
        allowed_addresses=allowed_addresses,
        hashes=HashDefaults(),
        hashing=InlineHashing(),
        verified=VerifiedCredentials(clock, ttl=1, max_entries=1),
        certificate_rules=rules or CertificateRules(),
        clock=clock,
    )


def standing(outcome: AuthOutcome, **auth: object) -> Standing:
    stored = raw(STORED[outcome.mode] | auth)
    return standing_of(
        parse(stored),
        stored,
        outcome,
        address="10.0.0.10",
        version=OcppVersion.V201,
        certificate=CERTIFICATE,
        store_id=b"life",
    )


def verdict(held: Standing, stored: bytes, judge: Authenticator | None = None) -> str:
    """The reason for which the session has to end, or ``stays``."""
    try:
        check_standing(held, parse(stored), judge or authenticator())
    except AuthenticationFailed as failure:
        return failure.reason
    return "stays"


def changed(outcome: AuthOutcome, auth: dict[str, Any] | None = None, **fields: object) -> str:
    return verdict(standing(outcome), raw(STORED[outcome.mode] | (auth or {}), **fields))


def test_a_standing_remembers_by_what_a_charge_point_was_let_in() -> None:
    held = standing(MTLS)
    assert held.record_digest == hash(raw(STORED[AuthMode.MTLS]))
    assert (held.mode, held.security_profile) == (AuthMode.MTLS, 3)
    assert (held.station_id, held.tenant_id, held.store_id) == ("s", "t", b"life")
    assert (held.address, held.version) == ("10.0.0.10", OcppVersion.V201)
    assert held.certificate is CERTIFICATE
    assert held.credential == b""


def test_a_certificate_shown_beside_a_password_is_not_what_the_session_rests_on() -> None:
    assert standing(BASIC).certificate is None
    assert changed(BASIC, {"revokedFingerprints": [FINGERPRINT]}) == "stays"


def test_a_standing_is_small_and_shows_no_hash() -> None:
    held = standing(BASIC)
    assert len(held.credential) == 16
    assert not hasattr(held, "__dict__")
    assert held.credential.hex() not in repr(held)
    assert repr(held.credential) not in repr(held)


@pytest.mark.parametrize("outcome", [BASIC, TOKEN, MTLS], ids=lambda outcome: outcome.mode.value)
def test_changes_that_end_nobody_s_session(outcome: AuthOutcome) -> None:
    for auth, fields in (
        ({}, {}),
        ({}, {"vendor": {"note": "moved to the roof"}, "status": "active"}),
        ({}, {"allowedProtocols": ["2.0.1"], "allowedIps": ["10.0.0.10"], "minSecurityProfile": 1}),
        ({"allowedTypes": ["basic", "token", "mtls"]}, {"allowExpiredCertificate": True}),
        ({"revokedFingerprints": ["0" * 64]}, {}),
    ):
        assert changed(outcome, auth, **fields) == "stays"


@pytest.mark.parametrize("outcome", [BASIC, TOKEN, MTLS], ids=lambda outcome: outcome.mode.value)
def test_changes_that_end_anybody_s_session(outcome: AuthOutcome) -> None:
    assert changed(outcome, status="inactive") == "status_inactive"
    assert changed(outcome, allowedProtocols=["1.6"]) == "protocol_not_allowed"
    assert changed(outcome, allowedIps=["10.0.0.11"]) == "ip_not_allowed"
    assert changed(outcome, {"allowedTypes": ["magic"]}) == "auth_mode_not_allowed"
    assert changed(outcome, {"type": "magic"}) == "auth_mode_not_allowed"
    assert changed(outcome, stationId="other") == "identity_changed"
    assert changed(outcome, tenantId="other") == "identity_changed"


def test_an_expired_certificate_holds_while_the_record_allows_it() -> None:
    expired = evolve(MTLS, certificate_expired=True)
    assert changed(expired, allowExpiredCertificate=True, displayName="Hall 3") == "stays"
    assert changed(expired, allowExpiredCertificate=False) == "mtls_expired"
    assert changed(expired) == "mtls_expired"
    assert changed(MTLS, allowExpiredCertificate=False) == "stays"


def test_the_gateway_s_own_address_list_counts_too() -> None:
    judge = authenticator(allowed_addresses=AddressList.parse(["192.168.0.0/16"]))
    assert verdict(standing(BASIC), raw(STORED[AuthMode.BASIC]), judge) == "ip_not_allowed"


def test_a_charge_point_moved_to_certificates_cannot_stay_by_its_password() -> None:
    for outcome in (BASIC, TOKEN):
        assert changed(outcome, {"type": "mtls"}) == "auth_mode_not_allowed"
        assert changed(outcome, {"type": "mtls", "allowedTypes": [outcome.mode.value]}) == "auth_mode_not_allowed"
        assert changed(outcome, {"allowedTypes": ["mtls"]}) == "auth_mode_not_allowed"


def test_a_certificate_stays_where_it_is_allowed_beside_a_password() -> None:
    assert changed(MTLS, {"type": "basic", "allowedTypes": ["basic", "mtls"]}) == "stays"
    assert changed(MTLS, {"type": "basic"}) == "auth_mode_not_allowed"
    assert changed(MTLS, {"type": None}) == "auth_mode_not_allowed"
    assert changed(MTLS, {"type": "basic", "allowedTypes": ["basic"]}) == "auth_mode_not_allowed"


def test_a_raised_security_profile_ends_sessions_below_it() -> None:
    ends = {outcome: changed(outcome, minSecurityProfile=3) for outcome in (TOKEN, BASIC, MTLS)}
    assert ends == {TOKEN: "profile_downgrade", BASIC: "profile_downgrade", MTLS: "stays"}
    assert changed(BASIC, minSecurityProfile=2) == "stays"


@pytest.mark.parametrize(
    "auth",
    [
        {"secretHash": "cd" * 32},
        {"secretHash": None},
        {"secretSalt": "pepper"},
        {"secretSalt": None},
        {"hashAlgorithm": "scrypt"},
        {"username": "someone"},
    ],
    ids=str,
)
def test_another_password_or_user_name_ends_a_session_by_password(auth: dict[str, Any]) -> None:
    assert changed(BASIC, auth) == "credential_changed"


def test_a_password_session_does_not_rest_on_what_it_did_not_use() -> None:
    assert changed(BASIC, {"tokenHash": "cd" * 32}) == "stays"
    assert changed(BASIC, {"username": "CP-001"}) == "stays"
    assert changed(MTLS, {"secretHash": "cd" * 32, "username": "x"}) == "stays"


def test_another_token_ends_a_session_by_token() -> None:
    assert changed(TOKEN, {"tokenHash": "cd" * 32}) == "credential_changed"
    assert changed(TOKEN, {"secretSalt": "pepper"}) == "credential_changed"
    assert changed(TOKEN, {"secretHash": "cd" * 32, "username": "x"}) == "stays"
    by_secret = standing(TOKEN, tokenHash=None, secretHash="ab" * 32)
    moved = raw({"type": "token", "secretHash": "ab" * 32, "secretSalt": "salt", "tokenHash": "cd" * 32})
    assert verdict(by_secret, moved) == "credential_changed"


def test_members_of_a_credential_cannot_flow_into_each_other() -> None:
    one = standing(BASIC, secretHash="ab", secretSalt="cd', 'x")
    assert verdict(one, raw({"type": "basic", "secretHash": "ab", "secretSalt": "cd", "hashAlgorithm": "x"})) == (
        "credential_changed"
    )


def test_what_the_record_says_about_the_certificate() -> None:
    other = {"fingerprint": "0" * 64}
    assert changed(MTLS, {"revokedFingerprints": [FINGERPRINT]}) == "mtls_revoked"
    assert changed(MTLS, {"certificates": [{"subject": "CP-001", "status": "revoked"}]}) == "mtls_revoked"
    assert changed(MTLS, {"certificates": [other]}) == "mtls_binding_mismatch"
    assert changed(MTLS, {"certificates": [other, {"subject": "CP-001"}]}) == "stays"
    assert changed(MTLS, {"allowedOrganizations": ["Other"]}) == "mtls_organization_not_allowed"
    assert changed(MTLS, {"certificates": []}) == "stays"


def test_the_rules_for_all_certificates() -> None:
    stored = raw({"type": "mtls"})
    assert verdict(standing(MTLS), stored, authenticator(rules=CertificateRules(True))) == "mtls_binding_missing"
    theirs = CertificateRules(organizations=AllowedOrganizations.parse("t=Other"))
    assert verdict(standing(MTLS), stored, authenticator(rules=theirs)) == "mtls_organization_not_allowed"


def test_a_session_outlives_the_certificate_and_the_binding_that_opened_it() -> None:
    expired = evolve(CERTIFICATE, not_after=0.0)
    window = {"fingerprint": FINGERPRINT, "validTo": "2020-01-01T00:00:00Z"}
    held = evolve(standing(MTLS), certificate=expired)
    assert verdict(held, raw({"type": "mtls", "certificates": [window]})) == "stays"


def test_the_first_reason_in_the_order_of_the_checks_is_told() -> None:
    wrong: dict[str, Any] = {"tenantId": "other", "minSecurityProfile": 3, "allowedIps": ["10.9.9.9"]}
    auth = {"secretHash": "cd" * 32, "type": "token"}
    told = []
    for mended in ("allowedIps", None, "minSecurityProfile", None, "tenantId"):
        told.append(changed(BASIC, auth, **wrong))
        if mended is not None:
            del wrong[mended]
        elif "type" in auth:
            del auth["type"]
        else:
            auth = {}
    assert told == [
        "ip_not_allowed",
        "auth_mode_not_allowed",
        "profile_downgrade",
        "credential_changed",
        "identity_changed",
    ]


NEXT = "sha256$" + "cd" * 32
PASSWORDS = with_next_secret(STORED[AuthMode.BASIC], NEXT, "pepper")
TAKEN = STORED[AuthMode.BASIC] | {"secretHash": NEXT, "secretSalt": "pepper"}


def told(held: Standing, **auth: object) -> Standing:
    record = parse(raw(STORED[AuthMode.BASIC] | auth))
    return evolve(held, told=frozenset({credential_to_come(record, NEXT, "pepper")}))


def test_a_password_to_come_ends_nobody_s_session() -> None:
    for outcome in (BASIC, TOKEN, MTLS):
        assert verdict(standing(outcome), raw(with_next_secret(STORED[outcome.mode], NEXT, "pepper"))) == "stays"


def test_whoever_was_told_it_over_its_session_stays_when_it_counts() -> None:
    assert verdict(standing(BASIC), raw(TAKEN)) == "credential_changed"
    assert verdict(told(standing(BASIC)), raw(TAKEN)) == "stays"
    assert verdict(told(standing(BASIC)), raw(PASSWORDS)) == "stays"
    assert verdict(told(standing(BASIC)), raw(STORED[AuthMode.BASIC])) == "stays"


@pytest.mark.parametrize(
    "auth", [{"secretHash": "ef" * 32}, {"secretSalt": "other"}, {"username": "someone"}, {"secretHash": None}], ids=str
)
def test_another_password_by_somebody_else_ends_the_session_all_the_same(auth: dict[str, Any]) -> None:
    for stored in (PASSWORDS, TAKEN):
        assert verdict(told(standing(BASIC)), raw(stored | auth)) == "credential_changed"


def test_who_came_with_a_password_to_come_stays_before_and_after_it_counts() -> None:
    outcome = AuthOutcome(AuthMode.BASIC, 2, next_secret=NEXT)
    stored = raw(PASSWORDS)
    held = standing_of(
        parse(stored),
        stored,
        outcome,
        address="10.0.0.10",
        version=OcppVersion.V201,
        certificate=None,
        store_id=b"life",
    )
    assert verdict(held, raw(PASSWORDS)) == "stays"
    assert verdict(held, raw(TAKEN)) == "stays"
    assert verdict(held, raw(STORED[AuthMode.BASIC])) == "credential_changed"
    assert verdict(held, raw(PASSWORDS | {"secretHash": "ef" * 32})) == "credential_changed"


def test_a_token_stays_when_the_password_beside_it_changes() -> None:
    by_secret = {"type": "token", "secretHash": "ab" * 32, "secretSalt": "salt"}
    held = standing(TOKEN, tokenHash=None, secretHash="ab" * 32)
    changed_auth = with_secret(with_next_secret(by_secret, NEXT, "salt"), NEXT, "salt", keeps_token=True)
    assert changed_auth is not None
    assert verdict(held, raw(changed_auth)) == "stays"


def test_what_it_was_told_is_not_shown() -> None:
    held = told(standing(BASIC))
    assert not any(repr(each) in repr(held) for each in held.told)
