from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import attrs
import pytest
from attrs import define, field
from inline_hashing import InlineHashing
from support.manual_clock import ManualClock

from ocpp_gateway.auth.addresses import EVERY_ADDRESS, AddressList
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.bindings import AllowedOrganizations, CertificateRules
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, ScryptParameters
from ocpp_gateway.auth.next_secrets import with_next_secret, with_secret
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.handshake.reasons import refused
from ocpp_gateway.ocppj.versions import OcppVersion

SCRYPT = ScryptParameters(n=2, r=1, p=1)
SHA256_HASHES = HashDefaults(HashAlgorithm.SHA256, SCRYPT)
SCRYPT_HASHES = HashDefaults(HashAlgorithm.SCRYPT, SCRYPT)
PASSWORD = b"correct horse battery"
NO_CREDENTIALS = Credentials()


def basic(password: bytes = PASSWORD, user: bytes = b"CP-001") -> Credentials:
    return Credentials((f"Basic {b64encode(user + b':' + password).decode()}",))


def bearer(token: str) -> Credentials:
    return Credentials((f"Bearer {token}",))


def record(auth: dict[str, Any] | None = None, **fields: object) -> IdentityRecord:
    values = {"stationId": "s", "tenantId": "t", "auth": auth or {}} | fields
    return IdentityRecord.parse(json.dumps(values), "CP-001")


def with_password(password: bytes = PASSWORD, hashes: HashDefaults = SHA256_HASHES, **auth: object) -> IdentityRecord:
    return record({"secretHash": hashes.make(password, "salt"), "secretSalt": "salt"} | auth)


@define
class Door:
    """An Authenticator with what it needs, and short ways to ask it."""

    default_mode: AuthMode = AuthMode.BASIC
    allowed_addresses: AddressList = EVERY_ADDRESS
    certificate_rules: CertificateRules = field(factory=CertificateRules)
    hashing: InlineHashing = field(factory=InlineHashing)
    clock: ManualClock = field(factory=ManualClock)
    authenticator: Authenticator = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.authenticator = Authenticator(
            default_mode=self.default_mode,
            allowed_addresses=self.allowed_addresses,
            hashes=SHA256_HASHES,
            hashing=self.hashing,
            verified=VerifiedCredentials(self.clock, ttl=300, max_entries=100),
            certificate_rules=self.certificate_rules,
            clock=self.clock,
        )

    async def outcome(
        self,
        record: IdentityRecord,
        credentials: Credentials,
        version: OcppVersion = OcppVersion.V16,
        address: str = "10.0.0.10",
        is_secure: bool = False,
        certificate: ClientCertificate | None = None,
        is_revoked: bool = False,
    ) -> AuthOutcome:
        self.authenticator.check_status(record)
        self.authenticator.check_version(record, version)
        self.authenticator.check_address(record, address)
        outcome = await self.authenticator.check_credential(
            record,
            credentials,
            version=version,
            is_secure=is_secure or certificate is not None,
            certificate=certificate,
            is_revoked=is_revoked,
        )
        self.authenticator.check_profile(record, outcome.security_profile)
        return outcome

    async def reason(self, record: IdentityRecord, credentials: Credentials, **how: Any) -> str:
        with pytest.raises(AuthenticationFailed) as caught:
            await self.outcome(record, credentials, **how)
        assert refused(caught.value.reason, caught.value.headers).status in (401, 403)
        return caught.value.reason


async def test_the_right_password_opens() -> None:
    assert await Door().outcome(with_password(), basic()) == AuthOutcome(AuthMode.BASIC, 1)


async def test_over_tls_it_is_security_profile_2() -> None:
    assert await Door().outcome(with_password(), basic(), is_secure=True) == AuthOutcome(AuthMode.BASIC, 2)


async def test_everything_wrong_with_a_basic_credential_has_its_label() -> None:
    door = Door()
    assert await door.reason(with_password(), NO_CREDENTIALS) == "basic_missing_header"
    assert await door.reason(with_password(), bearer("x")) == "basic_missing_header"
    assert await door.reason(with_password(), Credentials(("Basic ???",))) == "basic_invalid_format"
    assert await door.reason(with_password(), basic(user=b"CP-002")) == "basic_user_mismatch"
    assert await door.reason(with_password(), basic(user=b"cp-001")) == "basic_user_mismatch"
    assert await door.reason(with_password(), basic(user=b"")) == "basic_user_mismatch"
    assert await door.reason(with_password(), basic(user=b"CP-001\xff")) == "basic_user_mismatch"
    assert await door.reason(record(), basic()) == "basic_hash_missing"
    assert await door.reason(record({"secret": PASSWORD.decode()}), basic()) == "basic_hash_missing"
    assert await door.reason(record({"secretHash": "not hex"}), basic()) == "basic_hash_missing"
    assert await door.reason(with_password(hashAlgorithm="md5"), basic(b"x")) == "basic_invalid"
    assert await door.reason(with_password(), basic(PASSWORD.upper())) == "basic_invalid"


async def test_an_algorithm_that_we_do_not_know_is_no_hash() -> None:
    digits = SHA256_HASHES.make(PASSWORD, "salt").removeprefix("sha256$")
    stored = record({"secretHash": digits, "secretSalt": "salt", "hashAlgorithm": "md5"})
    assert await Door().reason(stored, basic()) == "basic_hash_missing"


@pytest.mark.parametrize("hashes", [SHA256_HASHES, SCRYPT_HASHES])
async def test_an_empty_password_never_opens(hashes: HashDefaults) -> None:
    assert await Door().reason(with_password(b"", hashes), basic(b"")) == "basic_invalid"


async def test_the_user_name_of_the_record_is_the_one_that_counts() -> None:
    door = Door()
    stored = with_password(username="Zoë")
    assert (await door.outcome(stored, basic(user="Zoë".encode()))).mode is AuthMode.BASIC
    assert await door.reason(stored, basic()) == "basic_user_mismatch"


async def test_a_secret_user_name_cannot_be_told_from_a_wrong_password_by_its_time() -> None:
    door = Door()
    stored = with_password(hashes=SCRYPT_HASHES, username="someone")
    assert await door.reason(stored, basic(b"guess", user=b"someone")) == "basic_invalid"
    assert await door.reason(stored, basic(b"guess", user=b"nobody")) == "basic_user_mismatch"
    assert door.hashing.asked == 2


async def test_a_wrong_identity_is_not_worth_a_slow_hash() -> None:
    door = Door()
    assert await door.reason(with_password(hashes=SCRYPT_HASHES), basic(user=b"CP-002")) == "basic_user_mismatch"
    assert door.hashing.asked == 0


KEY = bytes.fromhex("FFA1B2C3D4E5F60718293A4B5C6D7E8F90010203")
LOWER, UPPER = KEY.hex().encode(), KEY.hex().upper().encode()


@pytest.mark.parametrize("hashed", [KEY, LOWER, UPPER], ids=["bytes", "lower", "upper"])
@pytest.mark.parametrize("sent", [KEY, LOWER, UPPER], ids=["bytes", "lower", "upper"])
async def test_a_1_6_authorization_key_opens_in_all_its_spellings(hashed: bytes, sent: bytes) -> None:
    assert (await Door().outcome(with_password(hashed), basic(sent))).mode is AuthMode.BASIC


async def test_a_2_x_password_opens_in_one_spelling_only() -> None:
    door = Door()
    assert (await door.outcome(with_password(LOWER), basic(LOWER), OcppVersion.V201)).mode is AuthMode.BASIC
    for sent in (UPPER, KEY):
        assert await door.reason(with_password(LOWER), basic(sent), version=OcppVersion.V201) == "basic_invalid"


async def test_what_opened_as_1_6_is_not_remembered_for_2_x() -> None:
    door = Door()
    stored = with_password(LOWER, SCRYPT_HASHES)
    await door.outcome(stored, basic(KEY), OcppVersion.V16)
    assert await door.reason(stored, basic(KEY), version=OcppVersion.V201) == "basic_invalid"


async def test_slow_hashes_are_asked_once_while_remembered() -> None:
    door = Door()
    stored = with_password(hashes=SCRYPT_HASHES)
    for _ in range(3):
        await door.outcome(stored, basic())
    assert door.hashing.asked == 1
    door.clock.advance(300)
    await door.outcome(stored, basic())
    assert door.hashing.asked == 2


async def test_a_wrong_password_is_never_remembered() -> None:
    door = Door()
    for _ in range(2):
        assert await door.reason(with_password(hashes=SCRYPT_HASHES), basic(b"wrong")) == "basic_invalid"
    assert door.hashing.asked == 2


async def test_a_changed_password_ends_the_memory_of_the_old_one() -> None:
    door = Door()
    await door.outcome(with_password(hashes=SCRYPT_HASHES), basic())
    assert await door.reason(with_password(b"new password", SCRYPT_HASHES), basic()) == "basic_invalid"
    await door.outcome(with_password(b"new password", SCRYPT_HASHES), basic(b"new password"))


async def test_fast_hashes_do_not_trouble_the_threads() -> None:
    door = Door()
    await door.outcome(with_password(), basic())
    assert door.hashing.asked == 0


def with_token(
    token: bytes, hashes: HashDefaults = SHA256_HASHES, name: str = "tokenHash", **auth: object
) -> IdentityRecord:
    return record({"type": "token", name: hashes.make(token, "salt"), "secretSalt": "salt"} | auth)


@pytest.mark.parametrize("hashes", [SHA256_HASHES, SCRYPT_HASHES])
@pytest.mark.parametrize("credentials", [bearer("abc"), Credentials((), ("abc",))])
async def test_the_right_token_opens(hashes: HashDefaults, credentials: Credentials) -> None:
    assert await Door().outcome(with_token(b"abc", hashes), credentials) == AuthOutcome(AuthMode.TOKEN, 1)


async def test_the_secret_s_hash_stands_in_for_a_missing_token_hash() -> None:
    assert (await Door().outcome(with_token(b"abc", name="secretHash"), bearer("abc"))).mode is AuthMode.TOKEN
    both = with_token(b"abc", secretHash=SHA256_HASHES.make(b"password", "salt"))
    assert await Door().reason(both, bearer("password")) == "token_invalid"


async def test_everything_wrong_with_a_token_has_its_label() -> None:
    door = Door()
    assert await door.reason(with_token(b"abc"), NO_CREDENTIALS) == "token_missing"
    assert await door.reason(with_token(b"abc"), basic()) == "token_missing"
    assert await door.reason(record({"type": "token"}), bearer("abc")) == "token_hash_missing"
    assert await door.reason(record({"type": "token", "tokenHash": "x"}), bearer("abc")) == "token_hash_missing"
    assert await door.reason(with_token(b"abc"), bearer("abC")) == "token_invalid"
    # A token is not a 1.6 key: it has one spelling.
    assert await door.reason(with_token(LOWER), bearer(UPPER.decode())) == "token_invalid"


async def test_the_mode_is_the_record_s_or_else_the_default() -> None:
    token = record({"tokenHash": SHA256_HASHES.make(b"abc", "")})
    assert (await Door(default_mode=AuthMode.TOKEN).outcome(token, bearer("abc"))).mode is AuthMode.TOKEN
    assert (
        await Door(default_mode=AuthMode.TOKEN).outcome(with_password(type="Basic"), basic())
    ).mode is AuthMode.BASIC


async def test_modes_that_are_unknown_or_not_allowed() -> None:
    door = Door()
    assert await door.reason(with_password(type="none"), basic()) == "auth_mode_not_allowed"
    assert await door.reason(with_password(type="Basic "), NO_CREDENTIALS) == "basic_missing_header"
    assert await door.reason(with_password(type=" "), basic()) == "auth_mode_not_allowed"
    assert await door.reason(with_password(allowedTypes=["token"]), basic()) == "auth_mode_not_allowed"
    assert await door.reason(with_password(allowedTypes=["nothing"]), basic()) == "auth_mode_not_allowed"
    assert (await door.outcome(with_password(allowedTypes=["Basic"]), basic())).mode is AuthMode.BASIC
    assert (await door.outcome(with_password(allowedTypes=[]), basic())).mode is AuthMode.BASIC


async def test_a_charge_point_for_certificates_does_not_get_in_with_a_password() -> None:
    stored = with_password(type="mtls", certificates=[{"subject": "CP-001"}])
    assert await Door().reason(stored, basic()) == "mtls_missing_cert"
    assert (
        await Door(default_mode=AuthMode.MTLS).reason(with_password(), basic(), is_secure=True) == "mtls_missing_cert"
    )


CERTIFICATE = ClientCertificate(
    fingerprint="AB" * 32,
    subject="CN=CP-001,O=Example Charging",
    common_name="CP-001",
    organizations=("Example Charging",),
    alternative_names=(),
    serial_number="A1B",
    issuer="CN=Root",
    not_before=ManualClock().now() - 1000,
    not_after=ManualClock().now() + 1000,
)
EXPIRED = attrs.evolve(CERTIFICATE, not_after=ManualClock().now() - 1)
NOT_YET = attrs.evolve(CERTIFICATE, not_before=ManualClock().now() + 1)


def with_certificates(*bindings: dict[str, Any], **fields: object) -> IdentityRecord:
    return record({"type": "mtls", "certificates": bindings}, **fields)


async def test_the_charge_point_s_own_certificate_opens_with_security_profile_3() -> None:
    door = Door()
    bound = with_certificates({"fingerprint": CERTIFICATE.fingerprint, "serialNumber": "0A:1B"})
    for stored in (bound, with_certificates()):
        assert await door.outcome(stored, NO_CREDENTIALS, certificate=CERTIFICATE) == AuthOutcome(AuthMode.MTLS, 3)
    # What else is sent makes no difference where the record says mtls.
    assert await door.outcome(bound, basic(), certificate=CERTIFICATE) == AuthOutcome(AuthMode.MTLS, 3)


async def test_everything_wrong_with_a_certificate_has_its_label() -> None:
    door, stored = Door(), with_certificates()
    strict = Door(certificate_rules=CertificateRules(require_binding=True))
    ours = Door(certificate_rules=CertificateRules(organizations=AllowedOrganizations.parse("t=Other")))
    another = record({"type": "mtls", "certificates": [{"subject": "CP-002"}]})
    revoked = record({"type": "mtls", "revokedFingerprints": [CERTIFICATE.fingerprint]})
    for expected, at, identity, how in (
        ("mtls_missing_cert", door, stored, {"certificate": None, "is_secure": True}),
        ("mtls_missing_cert", door, stored, {"certificate": None}),
        ("mtls_expired", door, stored, {"certificate": EXPIRED}),
        ("mtls_expired", door, stored, {"certificate": NOT_YET}),
        ("mtls_revoked", door, stored, {"is_revoked": True}),
        ("mtls_revoked", door, revoked, {}),
        ("mtls_binding_missing", strict, stored, {}),
        ("mtls_binding_mismatch", door, another, {}),
        ("mtls_organization_not_allowed", ours, stored, {}),
    ):
        shown = {"certificate": CERTIFICATE} | how
        assert await at.reason(identity, NO_CREDENTIALS, **shown) == expected


async def test_both_ends_of_the_validity_belong_to_it() -> None:
    now = ManualClock().now()
    for moment in ({"not_before": now}, {"not_after": now}):
        certificate = attrs.evolve(CERTIFICATE, **moment)
        outcome = await Door().outcome(with_certificates(), NO_CREDENTIALS, certificate=certificate)
        assert not outcome.certificate_expired


async def test_the_window_of_a_binding_follows_the_clock() -> None:
    door = Door()
    stored = with_certificates({"subject": "CP-001", "validTo": "2026-01-02T03:04:10Z"})
    await door.outcome(stored, NO_CREDENTIALS, certificate=CERTIFICATE)
    door.clock.advance(5)
    assert await door.reason(stored, NO_CREDENTIALS, certificate=CERTIFICATE) == "mtls_binding_mismatch"


async def test_an_expired_certificate_opens_only_where_the_record_says_so_and_is_told() -> None:
    door, allows = Door(), with_certificates(allowExpiredCertificate=True)
    assert await door.outcome(allows, NO_CREDENTIALS, certificate=EXPIRED) == AuthOutcome(
        AuthMode.MTLS, 3, certificate_expired=True
    )
    assert await door.outcome(allows, NO_CREDENTIALS, certificate=CERTIFICATE) == AuthOutcome(AuthMode.MTLS, 3)
    assert await door.reason(allows, NO_CREDENTIALS, certificate=NOT_YET) == "mtls_expired"
    bound = with_certificates({"subject": "CP-002"}, allowExpiredCertificate=True)
    assert await door.reason(bound, NO_CREDENTIALS, certificate=EXPIRED) == "mtls_binding_mismatch"
    assert await door.reason(allows, NO_CREDENTIALS, certificate=EXPIRED, is_revoked=True) == "mtls_revoked"


async def test_what_says_most_about_a_certificate_is_told_first() -> None:
    door = Door()
    mismatch: dict[str, Any] = {"type": "mtls", "certificates": [{"subject": "CP-002"}]}
    revoked = record(mismatch | {"revokedFingerprints": [EXPIRED.fingerprint]})
    assert await door.reason(revoked, NO_CREDENTIALS, certificate=EXPIRED) == "mtls_revoked"
    assert await door.reason(record(mismatch), NO_CREDENTIALS, certificate=EXPIRED, is_revoked=True) == "mtls_revoked"
    assert await door.reason(record(mismatch), NO_CREDENTIALS, certificate=EXPIRED) == "mtls_expired"
    by_binding = record({"type": "mtls", "certificates": [{"subject": "CP-001", "status": "revoked"}]})
    assert await door.reason(by_binding, NO_CREDENTIALS, certificate=EXPIRED) == "mtls_revoked"


BOTH = ["basic", "mtls"]


async def test_a_certificate_without_a_secret_counts_where_mtls_is_allowed_by_name() -> None:
    door = Door()
    for stored in (with_password(allowedTypes=BOTH), with_password(type="basic", allowedTypes=BOTH)):
        assert await door.outcome(stored, NO_CREDENTIALS, certificate=CERTIFICATE) == AuthOutcome(AuthMode.MTLS, 3)
        assert await door.outcome(stored, basic(), certificate=CERTIFICATE) == AuthOutcome(AuthMode.BASIC, 2)
        assert await door.outcome(stored, basic(), is_secure=True) == AuthOutcome(AuthMode.BASIC, 2)
        assert await door.reason(stored, NO_CREDENTIALS, is_secure=True) == "basic_missing_header"
        assert await door.reason(stored, basic(b"wrong"), certificate=CERTIFICATE) == "basic_invalid"
        assert await door.reason(stored, bearer("x"), certificate=CERTIFICATE) == "basic_missing_header"
        key = Credentials((), ("x",))
        assert await door.reason(stored, key, certificate=CERTIFICATE) == "basic_missing_header"
        assert await door.reason(stored, NO_CREDENTIALS, certificate=EXPIRED) == "mtls_expired"
    only = with_password(allowedTypes=["mtls"])
    assert await door.outcome(only, NO_CREDENTIALS, certificate=CERTIFICATE) == AuthOutcome(AuthMode.MTLS, 3)
    assert await door.reason(only, basic(), certificate=CERTIFICATE) == "auth_mode_not_allowed"


async def test_a_revoked_certificate_keeps_out_whatever_is_shown_beside_it() -> None:
    door = Door()
    slow = with_password(hashes=SCRYPT_HASHES)
    for stored, credentials in (
        (slow, basic()),
        (slow, basic(b"wrong")),
        (slow, NO_CREDENTIALS),
        (with_password(type="basic", allowedTypes=BOTH), basic()),
        (with_token(b"abc"), bearer("abc")),
    ):
        assert await door.reason(stored, credentials, certificate=CERTIFICATE, is_revoked=True) == "mtls_revoked"
    assert door.hashing.asked == 0
    # That it is not the charge point's own, or has ended, is nothing to a password.
    for other in (EXPIRED, attrs.evolve(CERTIFICATE, common_name="CP-002")):
        assert await door.outcome(slow, basic(), certificate=other) == AuthOutcome(AuthMode.BASIC, 2)


async def test_a_certificate_does_not_stand_in_where_mtls_is_not_allowed_by_name() -> None:
    door = Door()
    for stored in (with_password(), with_password(allowedTypes=["basic"]), with_password(type="basic")):
        assert await door.reason(stored, NO_CREDENTIALS, certificate=CERTIFICATE) == "basic_missing_header"
    unknown = with_password(type="magic", allowedTypes=["magic", "mtls"])
    assert await door.reason(unknown, NO_CREDENTIALS, certificate=CERTIFICATE) == "auth_mode_not_allowed"


async def test_a_password_never_stands_in_for_a_certificate() -> None:
    door = Door()
    for stored in (with_password(type="mtls"), with_password(type="mtls", allowedTypes=BOTH)):
        assert await door.reason(stored, basic(), is_secure=True) == "mtls_missing_cert"
        stranger = attrs.evolve(CERTIFICATE, common_name="CP-002")
        assert await door.reason(stored, basic(), certificate=stranger) == "mtls_binding_mismatch"


@pytest.mark.parametrize(("lowest", "refused_profiles"), [(None, ()), (1, ()), (2, (1,)), (3, (1, 2))])
def test_the_lowest_security_profile_of_a_record(lowest: int | None, refused_profiles: tuple[int, ...]) -> None:
    authenticator, stored = Door().authenticator, record(minSecurityProfile=lowest)
    for profile in (1, 2, 3):
        if profile not in refused_profiles:
            authenticator.check_profile(stored, profile)
            continue
        with pytest.raises(AuthenticationFailed) as caught:
            authenticator.check_profile(stored, profile)
        assert caught.value.reason == "profile_downgrade"


async def test_a_right_password_does_not_help_below_the_lowest_profile() -> None:
    door = Door()
    secret = {"secretHash": SHA256_HASHES.make(PASSWORD, ""), "allowedTypes": BOTH}
    stored = record(secret, minSecurityProfile=3)
    assert await door.reason(stored, basic(), is_secure=True) == "profile_downgrade"
    assert await door.reason(stored, basic(b"wrong"), is_secure=True) == "basic_invalid"
    assert (await door.outcome(stored, NO_CREDENTIALS, certificate=CERTIFICATE)).security_profile == 3
    secure = record(secret, minSecurityProfile=2)
    assert await door.reason(secure, basic()) == "profile_downgrade"
    assert (await door.outcome(secure, basic(), is_secure=True)).security_profile == 2


@pytest.mark.parametrize("status", ["inactive", "disabled", "Active", "", "active "])
async def test_any_status_but_active_keeps_out(status: str) -> None:
    assert await Door().reason(record(status=status), basic()) == "status_inactive"


async def test_status_active_or_absent_passes() -> None:
    assert await Door().reason(record(status="active"), NO_CREDENTIALS) == "basic_missing_header"
    assert await Door().reason(record(), NO_CREDENTIALS) == "basic_missing_header"


async def test_versions_that_the_record_does_not_allow() -> None:
    stored = record(allowedProtocols=["2.0.1"])
    assert await Door().reason(stored, basic()) == "protocol_not_allowed"
    assert await Door().reason(stored, basic(), version=OcppVersion.V201) == "basic_hash_missing"


async def test_each_address_list_that_is_not_empty_has_to_allow() -> None:
    globally = Door(allowed_addresses=AddressList.parse(["10.0.0.0/8"]))
    ours = record(allowedIps=["10.0.0.10", "192.168.0.1"])
    assert await globally.reason(ours, NO_CREDENTIALS, address="10.0.0.10") == "basic_missing_header"
    assert await globally.reason(ours, NO_CREDENTIALS, address="10.0.0.11") == "ip_not_allowed"
    assert await globally.reason(ours, NO_CREDENTIALS, address="192.168.0.1") == "ip_not_allowed"
    assert await globally.reason(record(), NO_CREDENTIALS, address="172.16.0.1") == "ip_not_allowed"
    assert await Door().reason(ours, NO_CREDENTIALS, address="::ffff:10.0.0.10") == "basic_missing_header"


async def test_the_first_check_that_fails_in_the_contract_s_order_gives_the_reason() -> None:
    door = Door(allowed_addresses=AddressList.parse(["192.168.0.0/16"]))
    wrong: dict[str, Any] = {"status": "gone", "allowedProtocols": ["2.1"], "auth": {"type": "none"}}
    right: dict[str, Any] = {"status": "active", "allowedProtocols": ["1.6"], "auth": {"type": "basic"}}
    assert await door.reason(record(**wrong), NO_CREDENTIALS) == "status_inactive"
    wrong["status"] = right["status"]
    assert await door.reason(record(**wrong), NO_CREDENTIALS) == "protocol_not_allowed"
    wrong["allowedProtocols"] = right["allowedProtocols"]
    assert await door.reason(record(**wrong), NO_CREDENTIALS) == "ip_not_allowed"
    assert await door.reason(record(**wrong), NO_CREDENTIALS, address="192.168.0.1") == "auth_mode_not_allowed"
    wrong["auth"] = right["auth"]
    assert await door.reason(record(**wrong), NO_CREDENTIALS, address="192.168.0.1") == "basic_missing_header"


OLD, NEW, NEWER = b"the old password", b"the new password", b"the newer password"


def with_passwords_to_come(
    *to_come: bytes, hashes: HashDefaults = SHA256_HASHES, present: bytes | None = OLD, **auth: object
) -> IdentityRecord:
    stored = {} if present is None else {"secretHash": hashes.make(present, "salt"), "secretSalt": "salt"}
    told: dict[str, Any] = stored | auth
    for password in to_come:
        told = with_next_secret(told, hashes.make(password, "pepper"), "pepper")
    return record(told)


@pytest.mark.parametrize("hashes", [SHA256_HASHES, SCRYPT_HASHES], ids=["sha256", "scrypt"])
async def test_old_and_new_password_open_while_nobody_knows_which_one_counts(hashes: HashDefaults) -> None:
    door = Door()
    stored = with_passwords_to_come(NEW, NEWER, hashes=hashes)
    assert (await door.outcome(stored, basic(OLD))).next_secret is None
    assert (await door.outcome(stored, basic(NEW))).next_secret == hashes.make(NEW, "pepper")
    assert (await door.outcome(stored, basic(NEWER))).next_secret == hashes.make(NEWER, "pepper")
    for wrong in (b"wrong", b"", NEW.upper()):
        assert await door.reason(stored, basic(wrong)) == "basic_invalid"


async def test_a_password_to_come_is_read_by_the_algorithm_of_its_prefix_not_of_the_record() -> None:
    stored = with_passwords_to_come(NEW, hashes=SCRYPT_HASHES, hashAlgorithm="sha256")
    assert (await Door().outcome(stored, basic(NEW))).next_secret is not None


async def test_a_salt_belongs_to_its_password() -> None:
    digits = SHA256_HASHES.make(NEW, "salt")
    stored = record({"secretHash": SHA256_HASHES.make(OLD, "salt"), "secretSalt": "salt", "nextSecretHash": digits})
    assert await Door().reason(stored, basic(NEW)) == "basic_invalid"


async def test_a_charge_point_that_never_had_a_password_opens_with_its_first() -> None:
    door = Door()
    stored = with_passwords_to_come(NEW, present=None)
    assert (await door.outcome(stored, basic(NEW))).next_secret is not None
    assert await door.reason(stored, basic(OLD)) == "basic_invalid"
    unreadable = record({"nextSecretHash": "not hex"})
    assert await door.reason(unreadable, basic(NEW)) == "basic_hash_missing"


@pytest.mark.parametrize("sent", [KEY, LOWER, UPPER], ids=["bytes", "lower", "upper"])
async def test_a_1_6_key_to_come_opens_in_all_its_spellings(sent: bytes) -> None:
    assert (await Door().outcome(with_passwords_to_come(KEY), basic(sent))).next_secret is not None


async def test_a_wrong_user_name_does_not_open_with_a_password_to_come() -> None:
    door = Door()
    named = with_passwords_to_come(NEW, username="someone")
    for stored, user in ((named, b"nobody"), (named, b"CP-001"), (with_passwords_to_come(NEW), b"CP-002")):
        assert await door.reason(stored, basic(NEW, user)) == "basic_user_mismatch"
    assert (await door.outcome(named, basic(NEW, b"someone"))).next_secret is not None


async def test_a_wrong_password_is_one_failure_that_costs_a_hash_of_each() -> None:
    door = Door()
    stored = with_passwords_to_come(NEW, hashes=SCRYPT_HASHES)
    assert await door.reason(stored, basic(b"wrong")) == "basic_invalid"
    assert door.hashing.asked == 2


async def test_without_a_password_to_come_there_is_one_hash() -> None:
    door = Door()
    assert await door.reason(with_password(hashes=SCRYPT_HASHES), basic(b"wrong")) == "basic_invalid"
    assert door.hashing.asked == 1


async def test_the_memory_of_an_old_password_does_not_outlive_it() -> None:
    door = Door()
    stored = with_passwords_to_come(NEW, hashes=SCRYPT_HASHES)
    await door.outcome(stored, basic(OLD))
    await door.outcome(stored, basic(NEW))
    taken = with_secret(
        with_next_secret(
            {"secretHash": SCRYPT_HASHES.make(OLD, "salt"), "secretSalt": "salt"},
            SCRYPT_HASHES.make(NEW, "pepper"),
            "pepper",
        ),
        SCRYPT_HASHES.make(NEW, "pepper"),
        "pepper",
    )
    assert await door.reason(record(taken), basic(OLD)) == "basic_invalid"
    asked = door.hashing.asked
    assert (await door.outcome(record(taken), basic(NEW))).next_secret is None
    assert door.hashing.asked == asked  # remembered from when it was to come


async def test_a_token_is_not_a_password_to_come() -> None:
    stored = record(with_next_secret({"type": "token", "tokenHash": SHA256_HASHES.make(b"t", "")}, "ab" * 32, ""))
    assert (await Door().outcome(stored, bearer("t"))).next_secret is None
    to_come = SHA256_HASHES.make(b"new", "")
    stored = record(with_next_secret({"type": "token", "tokenHash": SHA256_HASHES.make(b"t", "")}, to_come, ""))
    assert await Door().reason(stored, bearer("new")) == "token_invalid"


def test_how_it_was_let_in_shows_no_hash() -> None:
    assert "abcd" not in repr(AuthOutcome(AuthMode.BASIC, 1, next_secret="abcd"))
