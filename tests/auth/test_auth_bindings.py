from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority

from ocpp_gateway.auth.bindings import AllowedOrganizations, CertificateRules, check_binding
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.handshake.reasons import REFUSALS

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
ANY = CertificateRules()
REQUIRED = CertificateRules(require_binding=True)
CERTIFICATE = ClientCertificate.of(
    Authority("Root")
    .issue(
        "CP-001",
        organization="Example Charging",
        sans=["DNS:cp-001.example.com", "URI:urn:ocpp:cp-001", "IP:10.0.0.1", "IP:fd00::1", "email:cp@example.com"],
        serial_number=0x0A1B2C,
    )
    .certificate
)
FINGERPRINT = CERTIFICATE.fingerprint
COLONS = ":".join(FINGERPRINT[i : i + 2] for i in range(0, 64, 2))
OTHER = "0" * 64


def named(binding: dict[str, Any]) -> str:
    """The same in each run, although the certificate is another one."""
    text = str(binding)
    for name, spelling in (("SAME", FINGERPRINT), ("same", FINGERPRINT.lower()), ("SA:ME", COLONS)):
        text = text.replace(spelling, name)
    return text.replace(FINGERPRINT[:40], "PART")


def record(*bindings: dict[str, Any], identity: str = "CP-001", tenant: str = "t", **auth: object) -> IdentityRecord:
    values = {"stationId": "s", "tenantId": tenant, "auth": {"certificates": bindings} | auth}
    return IdentityRecord.parse(json.dumps(values), identity)


def verdict(
    record: IdentityRecord,
    certificate: ClientCertificate = CERTIFICATE,
    rules: CertificateRules = ANY,
    now: float | None = NOW,
) -> str:
    """The reason of the refusal, or ``bound``."""
    try:
        check_binding(record, certificate, rules, now=now)
    except AuthenticationFailed as failure:
        assert failure.reason in REFUSALS
        return failure.reason
    return "bound"


def of_binding(**binding: object) -> str:
    return verdict(record(binding))


@pytest.mark.parametrize(
    "binding",
    [
        {"fingerprint": FINGERPRINT},
        {"fingerprint": FINGERPRINT.lower()},
        {"fingerprint": COLONS},
        {"subject": "CP-001"},
        {"subject": "CN=CP-001,O=Example Charging"},
        {"subject": "O = Example Charging, CN = CP-001"},
        {"subject": "/O=Example Charging/CN=CP-001"},
        {"subjectAltName": "DNS:cp-001.example.com"},
        {"subjectAltName": "dns:CP-001.Example.Com"},
        {"subjectAltName": "cp-001.example.com"},
        {"subjectAltName": "urn:ocpp:cp-001"},
        {"subjectAltName": "URI:urn:ocpp:cp-001"},
        {"subjectAltName": "IP Address:10.0.0.1, email:cp@example.com,, "},
        {"subjectAltName": "IP:FD00:0::1"},
        {"subjectAltName": "fd00:0::1"},
        {"subjectAltName": "cp@example.com, cp-001.example.com, 10.0.0.1"},
        {"serialNumber": "0A1B2C"},
        {"serialNumber": "0A1B2C", "issuer": "CN=Root"},
        {"subject": "CP-001", "issuer": "/CN=Root"},
        {"subjectAltName": "DNS:cp-001.example.com", "issuer": "CN = Root"},
        {"fingerprint": FINGERPRINT, "issuer": "2.5.4.3=Root"},
        {"fingerprint": FINGERPRINT, "chargePointId": "CP-001"},
        {"fingerprint": FINGERPRINT, "status": "active"},
        {
            "fingerprint": FINGERPRINT,
            "subject": "CP-001",
            "subjectAltName": "DNS:cp-001.example.com",
            "serialNumber": "a:1b:2c",
            "issuer": "CN=Root",
            "chargePointId": "CP-001",
            "validFrom": "2026-01-01T00:00:00Z",
            "validTo": "2027-01-01",
            "status": "active",
        },
    ],
    ids=named,
)
def test_bindings_that_match(binding: dict[str, Any]) -> None:
    assert of_binding(**binding) == "bound"


@pytest.mark.parametrize(
    "binding",
    [
        {},
        {"status": "active"},
        {"chargePointId": "CP-001"},
        {"fingerprint": OTHER},
        {"fingerprint": FINGERPRINT[:40]},
        {"fingerprint": "::", "subject": "CP-001"},
        {"subject": "CP-002"},
        {"subject": "cp-001"},
        {"subject": "CP-001 "},
        {"subject": "CN=CP-001"},
        {"subject": "CN=CP-001,O=Other"},
        {"subject": "CN=CP-001,madeUp=Example Charging"},
        {"subject": "Example Charging"},
        {"subjectAltName": "DNS:cp-002.example.com"},
        {"subjectAltName": "URI:cp-001.example.com"},
        {"subjectAltName": "DNS:*.example.com"},
        {"subjectAltName": "example.com"},
        {"subjectAltName": "URN:OCPP:CP-001"},
        {"subjectAltName": "IP:10.0.0.2"},
        {"subjectAltName": "IP:10.0.0"},
        {"subjectAltName": "DNS:"},
        {"subjectAltName": ","},
        {"subjectAltName": "DNS:cp-001.example.com, DNS:cp-002.example.com"},
        {"subjectAltName": "CP-001"},
        {"serialNumber": "0A1B2D"},
        {"serialNumber": ":", "subject": "CP-001"},
        {"serialNumber": str(0x0A1B2C)},
        {"fingerprint": FINGERPRINT, "chargePointId": "CP-002"},
        {"fingerprint": FINGERPRINT, "chargePointId": ""},
        {"fingerprint": FINGERPRINT, "status": "inactive"},
        {"fingerprint": FINGERPRINT, "status": ""},
        {"fingerprint": FINGERPRINT, "validFrom": "soon"},
        {"fingerprint": FINGERPRINT, "validTo": "2027"},
        {"fingerprint": OTHER, "subject": "CP-001", "serialNumber": "A1B2C"},
        {"fingerprint": FINGERPRINT, "subject": "CP-002"},
        {"fingerprint": FINGERPRINT, "subjectAltName": "DNS:cp-002.example.com"},
        {"fingerprint": FINGERPRINT, "serialNumber": "1"},
        {"issuer": "CN=Root"},
        {"issuer": "CN=Root", "chargePointId": "CP-001", "status": "active"},
        {"fingerprint": FINGERPRINT, "issuer": "CN=Other"},
        {"serialNumber": "0A1B2C", "issuer": "CN=Other"},
        {"subject": "CP-001", "issuer": "CN=CP-001,O=Example Charging"},
        {"subject": "CP-001", "issuer": "Root"},
        {"subject": "CP-001", "issuer": "CN=Root,madeUp=X"},
        {"subject": "CP-001", "issuer": " "},
    ],
    ids=named,
)
def test_bindings_of_which_something_does_not_match(binding: dict[str, Any]) -> None:
    assert of_binding(**binding) == "mtls_binding_mismatch"


def test_one_binding_that_matches_is_enough() -> None:
    assert verdict(record({"fingerprint": OTHER}, {"serialNumber": "A1B2C"})) == "bound"


def test_the_short_form_of_a_binding_counts_too() -> None:
    assert verdict(record(fingerprint=FINGERPRINT, subject="CP-001")) == "bound"
    assert verdict(record(fingerprint=OTHER)) == "mtls_binding_mismatch"
    assert verdict(record(fingerprint=FINGERPRINT), rules=REQUIRED) == "bound"


def test_a_text_that_is_a_distinguished_name_is_never_taken_for_a_common_name() -> None:
    liar = attrs.evolve(CERTIFICATE, common_name="CN=CP-009,O=Other", subject=r"CN=CN=CP-009\,O=Other,O=Example")
    assert verdict(record({"subject": "CN=CP-009,O=Other"}), liar) == "mtls_binding_mismatch"


def test_a_certificate_without_a_common_name_has_no_subject_in_short() -> None:
    nameless = attrs.evolve(CERTIFICATE, common_name=None, subject="")
    assert verdict(record({"subject": "CP-001"}), nameless) == "mtls_binding_mismatch"
    assert verdict(record({"subject": "CN=CP-001"}), nameless) == "mtls_binding_mismatch"


WINDOW = {"fingerprint": FINGERPRINT, "validFrom": "2026-01-02T03:04:05Z", "validTo": "2026-01-02T05:04:05+01:00"}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW - 0.5, "mtls_binding_mismatch"),
        (NOW, "bound"),
        (NOW + 3600, "bound"),
        (NOW + 3600.5, "mtls_binding_mismatch"),
        (None, "bound"),
    ],
)
def test_the_window_of_a_binding(now: float | None, expected: str) -> None:
    assert verdict(record(WINDOW), now=now) == expected


def test_a_time_without_a_zone_is_utc() -> None:
    binding = {"fingerprint": FINGERPRINT, "validFrom": "2026-01-02T03:04:05"}
    assert verdict(record(binding), now=NOW - 1) == "mtls_binding_mismatch"
    assert verdict(record(binding), now=NOW) == "bound"


def test_an_unreadable_window_never_holds_not_even_where_times_are_left_out() -> None:
    assert verdict(record(WINDOW | {"validTo": "never"}), now=None) == "mtls_binding_mismatch"


def test_windows_that_overlap_let_both_certificates_in_while_they_do() -> None:
    new = attrs.evolve(CERTIFICATE, fingerprint=OTHER)
    both = record(
        {"fingerprint": FINGERPRINT, "validTo": "2026-02-01T00:00:00Z"},
        {"fingerprint": OTHER, "validFrom": "2026-01-01T00:00:00Z"},
    )
    before, between, after = 1_764_547_200.0, NOW, 1_772_323_200.0
    assert [verdict(both, new, now=now) for now in (before, between, after)] == [
        "mtls_binding_mismatch",
        "bound",
        "bound",
    ]
    assert [verdict(both, now=now) for now in (before, between, after)] == ["bound", "bound", "mtls_binding_mismatch"]


def test_a_revoked_fingerprint_keeps_out_in_any_spelling_and_whatever_binds_it() -> None:
    spelled = ":".join(FINGERPRINT[i : i + 2] for i in range(0, 64, 2)).lower()
    for bindings in ((), ({"fingerprint": FINGERPRINT},), ({"fingerprint": OTHER},)):
        assert verdict(record(*bindings, revokedFingerprints=[OTHER, spelled])) == "mtls_revoked"
    assert verdict(record(revokedFingerprints=[OTHER])) == "bound"


def test_a_revoked_binding_keeps_out_what_it_matches_whatever_else_does() -> None:
    good = {"subject": "CP-001"}
    assert verdict(record(good, {"fingerprint": FINGERPRINT, "status": "revoked"})) == "mtls_revoked"
    assert verdict(record(good, {"fingerprint": FINGERPRINT, "status": " Revoked"})) == "mtls_revoked"
    assert verdict(record(good, {"fingerprint": OTHER, "status": "revoked"})) == "bound"
    assert verdict(record(good, {"status": "revoked"})) == "bound"
    # A window says when a binding lets in, not when revocation ends.
    assert verdict(record(good, WINDOW | {"status": "revoked"}), now=NOW - 9) == "mtls_revoked"
    assert verdict(record(good, WINDOW | {"status": "revoked", "validTo": "x"})) == "mtls_revoked"


def test_revoked_is_told_before_anything_else() -> None:
    rules = CertificateRules(True, AllowedOrganizations(frozenset(["Other"])))
    assert verdict(record(revokedFingerprints=[FINGERPRINT]), rules=rules) == "mtls_revoked"


def test_without_bindings_the_certificate_has_to_name_the_charge_point() -> None:
    assert verdict(record()) == "bound"
    assert verdict(record(identity="urn:ocpp:cp-001")) == "bound"
    assert verdict(record(identity="cp-001.example.com")) == "bound"
    assert verdict(record(identity="10.0.0.1")) == "bound"
    assert verdict(record(identity="cp@example.com")) == "bound"
    for identity in ("CP-002", "cp-001", "CP-00", "CP-001.example.com", "DNS:cp-001.example.com", "Example Charging"):
        assert verdict(record(identity=identity)) == "mtls_binding_mismatch"


def test_without_bindings_where_they_are_required() -> None:
    assert verdict(record(), rules=REQUIRED) == "mtls_binding_missing"
    assert verdict(record({"subject": "CP-001"}), rules=REQUIRED) == "bound"


def test_bindings_that_bind_nothing_are_bindings_all_the_same() -> None:
    assert verdict(record({"fingerprnt": FINGERPRINT})) == "mtls_binding_mismatch"
    assert verdict(record({"status": "active"}), rules=REQUIRED) == "mtls_binding_mismatch"


def organizations(text: str) -> CertificateRules:
    return CertificateRules(organizations=AllowedOrganizations.parse(text))


@pytest.mark.parametrize(
    ("text", "tenant", "expected"),
    [
        ("", "a", "bound"),
        ("Example Charging", "a", "bound"),
        ("Other", "a", "mtls_organization_not_allowed"),
        ("example charging", "a", "mtls_organization_not_allowed"),
        ("Other;Example Charging", "a", "bound"),
        ("a=Example Charging", "a", "bound"),
        ("a = Example Charging ; b=Other;", "a", "bound"),
        ("a=Example Charging;b=Other", "b", "mtls_organization_not_allowed"),
        ("a=Other", "b", "bound"),
        ("a=Other;Example Charging", "a", "bound"),
        ("a=Other;a=Example Charging", "a", "bound"),
        ("a=Example Charging;Other", "b", "mtls_organization_not_allowed"),
    ],
)
def test_the_organizations_of_a_tenant(text: str, tenant: str, expected: str) -> None:
    assert verdict(record(tenant=tenant), rules=organizations(text)) == expected


def test_the_record_s_own_organizations_replace_the_others() -> None:
    assert verdict(record(allowedOrganizations=["Example Charging"]), rules=organizations("Other")) == "bound"
    ours = organizations("Example Charging")
    assert verdict(record(allowedOrganizations=["Other"]), rules=ours) == "mtls_organization_not_allowed"
    assert verdict(record(allowedOrganizations=[""]), rules=ours) == "mtls_organization_not_allowed"
    assert verdict(record(allowedOrganizations=[]), rules=ours) == "bound"


def test_one_of_several_organizations_in_a_certificate_is_enough() -> None:
    several = attrs.evolve(CERTIFICATE, organizations=("Other", "Example Charging"))
    none = attrs.evolve(CERTIFICATE, organizations=())
    rules = organizations("Example Charging")
    assert verdict(record(), several, rules) == "bound"
    assert verdict(record(), none, rules) == "mtls_organization_not_allowed"


def test_the_organization_is_told_before_the_binding() -> None:
    assert verdict(record({"fingerprint": OTHER}), rules=organizations("Other")) == "mtls_organization_not_allowed"


@pytest.mark.parametrize("text", ["=X", "a=", "=", "X; =Y", "a=X;b= "])
def test_half_an_entry_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="tenant-id=organisation"):
        AllowedOrganizations.parse(text)


def test_an_organization_may_have_an_equals_sign_where_its_tenant_is_given() -> None:
    assert AllowedOrganizations.parse("a=X=Y").of_tenant("a") == {"X=Y"}


serial_numbers = st.integers(min_value=1, max_value=2**159)


@st.composite
def spellings_of(draw: st.DrawFn, number: int) -> str:
    digits = f"{number:x}".rjust(draw(st.integers(0, 45)), "0")
    digits = "".join(draw(st.sampled_from([digit, digit.upper()])) for digit in digits)
    if draw(st.booleans()):
        digits = digits if len(digits) % 2 == 0 else "0" + digits
        digits = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    return draw(st.sampled_from(["", " "])) + digits


@given(serial_numbers, st.data())
def test_a_serial_number_matches_in_any_spelling(number: int, data: st.DataObject) -> None:
    certificate = attrs.evolve(CERTIFICATE, serial_number=f"{number:X}")
    assert verdict(record({"serialNumber": data.draw(spellings_of(number))}), certificate) == "bound"


@given(serial_numbers, serial_numbers, st.data())
def test_no_spelling_of_a_serial_number_matches_another(one: int, other: int, data: st.DataObject) -> None:
    certificate = attrs.evolve(CERTIFICATE, serial_number=f"{one:X}")
    binding = {"serialNumber": data.draw(spellings_of(other))}
    assert (verdict(record(binding), certificate) == "bound") is (one == other)


texts = st.text(max_size=20) | st.sampled_from(["CP-001", FINGERPRINT, "DNS:cp-001.example.com", "CN=CP-001", "1"])
ATTRIBUTES = [
    *("fingerprint", "subject", "issuer", "subjectAltName", "serialNumber"),
    *("chargePointId", "status", "validFrom"),
]


@given(st.lists(st.dictionaries(st.sampled_from(ATTRIBUTES), texts.filter(lambda t: t.isprintable())), max_size=3))
def test_any_bindings_give_a_verdict(bindings: list[dict[str, str]]) -> None:
    assert verdict(record(*bindings)) in ("bound", "mtls_binding_mismatch", "mtls_revoked")
