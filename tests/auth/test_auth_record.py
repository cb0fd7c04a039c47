from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocpp_gateway.auth.errors import IdentityRecordInvalid
from ocpp_gateway.auth.fields import MAX_RECORD_BYTES
from ocpp_gateway.auth.record import ALL_VERSIONS, AuthRules, CertificateBinding, IdentityRecord
from ocpp_gateway.handshake.reasons import REFUSALS
from ocpp_gateway.ocppj.versions import OcppVersion

FINGERPRINT = "AB" * 32
OTHER_FINGERPRINT = "CD" * 32
ONLY_A_NUMBER = "auth.certificates: a serial number is unique for its issuer only: add issuer or fingerprint"
PROFILE_PROBLEM = "minSecurityProfile: not a number from 1 to 3"
MINIMAL: dict[str, Any] = {"stationId": "station-123", "tenantId": "tenant-abc"}


def parse(changes: dict[str, Any] | None = None, charge_point_id: str = "CP-001") -> IdentityRecord:
    return IdentityRecord.parse(json.dumps(MINIMAL | (changes or {})), charge_point_id)


def problem_of(raw: bytes | str) -> str:
    with pytest.raises(IdentityRecordInvalid) as caught:
        IdentityRecord.parse(raw, "CP-001")
    assert caught.value.reason in REFUSALS
    return caught.value.problem


def test_the_smallest_record_restricts_nothing() -> None:
    record = IdentityRecord.parse(b'{"stationId":"s","tenantId":"t"}', "CP-001")
    assert record == IdentityRecord(charge_point_id="CP-001", station_id="s", tenant_id="t")
    assert record.allowed_versions == ALL_VERSIONS
    assert record.allowed_addresses.allows("10.0.0.1")
    assert record.auth == AuthRules()
    assert record.min_security_profile is None
    assert not record.allow_profile_downgrade
    assert not record.allow_expired_certificate


def test_a_full_record() -> None:
    record = parse(
        {
            "chargePointId": "CP-001",
            "status": "active",
            "allowedProtocols": ["1.6J", "OCPP2.0.1", "2.1"],
            "allowedIps": ["10.0.0.10"],
            "allowedCidrs": ["192.168.0.0/24"],
            "minSecurityProfile": 2,
            "allowProfileDowngrade": True,
            "allowExpiredCertificate": True,
            "auth": {
                "type": "Basic",
                "allowedTypes": ["basic", "MTLS"],
                "hashAlgorithm": "SHA256",
                "username": "user",
                "secretHash": "aa",
                "secretSalt": "salt",
                "tokenHash": "bb",
                "certificates": [
                    {
                        "fingerprint": ":".join(["ab"] * 32),
                        "subject": "CP-001",
                        "subjectAltName": "DNS:cp-001.example.com",
                        "serialNumber": "0A1B",
                        "issuer": "CN=Acme CA,O=Acme",
                        "chargePointId": "CP-001",
                        "validFrom": "2026-01-01T00:00:00Z",
                        "validTo": "2027-01-01T00:00:00Z",
                        "status": "active",
                    }
                ],
                "revokedFingerprints": [":".join(["cd"] * 32), ""],
                "allowedOrganizations": [" Example Charging "],
            },
            "vendor": {"anything": [1, 2]},
        }
    )
    assert (record.station_id, record.tenant_id, record.status) == ("station-123", "tenant-abc", "active")
    assert record.allowed_versions == ALL_VERSIONS
    assert record.allowed_addresses.allows("10.0.0.10")
    assert record.allowed_addresses.allows("192.168.0.7")
    assert not record.allowed_addresses.allows("10.0.0.11")
    assert record.auth == AuthRules(
        mode="basic",
        allowed_modes=frozenset(["basic", "mtls"]),
        hash_algorithm="sha256",
        username="user",
        secret_hash="aa",
        secret_salt="salt",
        token_hash="bb",
        certificates=(
            CertificateBinding(
                FINGERPRINT,
                "CP-001",
                "DNS:cp-001.example.com",
                "A1B",
                "CP-001",
                1_767_225_600.0,
                1_798_761_600.0,
                "active",
                issuer="CN=Acme CA,O=Acme",
            ),
        ),
        revoked_fingerprints=frozenset([OTHER_FINGERPRINT]),
        allowed_organizations=frozenset(["Example Charging"]),
    )
    assert record.min_security_profile == 2
    assert record.allow_profile_downgrade
    assert record.allow_expired_certificate
    assert record.warnings == ()


@pytest.mark.parametrize(
    ("names", "versions"),
    [
        (["1.6"], {OcppVersion.V16}),
        (["ocpp1.6", "1.6j"], {OcppVersion.V16}),
        (["2.0.1", "OCPP2.1"], {OcppVersion.V201, OcppVersion.V21}),
        ([], set(ALL_VERSIONS)),
    ],
)
def test_versions_in_any_spelling(names: list[str], versions: set[OcppVersion]) -> None:
    record = parse({"allowedProtocols": names})
    assert record.allowed_versions == versions
    assert record.warnings == ()


def test_a_list_of_unknown_versions_only_allows_none() -> None:
    record = parse({"allowedProtocols": ["1.5"]})
    assert record.allowed_versions == frozenset()
    assert len(record.warnings) == 1


def test_a_list_of_unreadable_addresses_only_allows_none() -> None:
    record = parse({"allowedIps": ["10.0.0"]})
    assert not record.allowed_addresses.allows("10.0.0.1")
    assert len(record.warnings) == 1


def test_null_is_absent() -> None:
    nulls = dict.fromkeys(TOP)
    del nulls["stationId"], nulls["tenantId"]
    assert parse(nulls) == parse()
    assert parse({"auth": {"type": None, "certificates": None, "username": None}}) == parse()


def test_empty_texts_say_nothing_in_auth() -> None:
    assert parse({"auth": {"type": "", "username": "", "secretHash": "", "secretSalt": ""}}) == parse()


def test_an_empty_status_is_not_an_absent_one() -> None:
    assert parse({"status": ""}).status == ""


def test_secrets_in_plain_text_are_ignored_and_named() -> None:
    record = parse({"auth": {"type": "basic", "secret": "hunter2", "token": "hunter3"}})
    assert record.auth == AuthRules(mode="basic")
    assert len(record.warnings) == 2
    assert "hunter" not in repr(record)


def test_hashes_are_not_in_the_repr() -> None:
    text = repr(parse({"auth": {"secretHash": "abcdef", "secretSalt": "pepper", "tokenHash": "fedcba"}}))
    assert not any(secret in text for secret in ("abcdef", "pepper", "fedcba"))


def test_the_short_form_of_a_binding_counts_where_there_is_no_list() -> None:
    short = {"subject": "CP-001", "fingerprint": FINGERPRINT.lower()}
    assert parse({"auth": short}).auth.certificates == (CertificateBinding(FINGERPRINT, "CP-001"),)
    assert parse({"auth": short | {"certificates": []}}) == parse({"auth": short})
    listed = parse({"auth": short | {"certificates": [{"serialNumber": "1"}]}})
    assert listed.auth.certificates == (CertificateBinding(serial_number="1"),)


def binding(**values: object) -> tuple[CertificateBinding, tuple[str, ...]]:
    record = parse({"auth": {"certificates": [values]}})
    return record.auth.certificates[0], record.warnings


def test_a_binding_without_attributes_of_a_certificate_stays_and_is_named() -> None:
    nothing, warnings = binding(status="active", chargePointId="CP-001")
    assert nothing == CertificateBinding(status="active", charge_point_id="CP-001")
    assert not nothing.names_certificate
    assert warnings == ("auth.certificates: an entry names no attribute of a certificate, so it binds nothing",)


def test_an_issuer_is_kept_as_stored_and_alone_names_no_certificate() -> None:
    kept, warnings = binding(issuer=" /O=Acme/CN=Acme CA")
    assert kept == CertificateBinding(issuer=" /O=Acme/CN=Acme CA")
    assert not kept.names_certificate
    assert warnings == ("auth.certificates: an entry names no attribute of a certificate, so it binds nothing",)
    assert binding(issuer="", subject="CP-001") == (CertificateBinding(subject="CP-001"), ())


@pytest.mark.parametrize("name", ["fingerprint", "subject", "subjectAltName", "serialNumber"])
def test_each_attribute_of_a_certificate_makes_a_binding(name: str) -> None:
    assert binding(**{name: FINGERPRINT})[0].names_certificate


@pytest.mark.parametrize("text", ["AA:BB", "AB" * 20, "sha256:" + FINGERPRINT, ":", "x" * 64])
def test_a_fingerprint_that_is_none_stays_given_and_is_named(text: str) -> None:
    kept, warnings = binding(fingerprint=text)
    assert kept.fingerprint is not None
    assert kept.fingerprint != FINGERPRINT
    assert warnings == ("auth.certificates.fingerprint: not SHA-256 in hexadecimal digits, so no certificate's",) + (
        ()
        if kept.fingerprint
        else ("auth.certificates: an entry names no attribute of a certificate, so it binds nothing",)
    )


def test_a_revoked_fingerprint_that_is_none_is_named() -> None:
    (warning,) = parse({"auth": {"revokedFingerprints": ["AB" * 20]}}).warnings
    assert warning == "auth.revokedFingerprints: not SHA-256 in hexadecimal digits, so no certificate's"


@pytest.mark.parametrize(
    ("text", "digits"),
    [("0A1B", "A1B"), ("0a:1b", "A1B"), (" 00 ", "0"), ("00:00", "0"), ("1", "1"), ("A" * 40, "A" * 40)],
)
def test_a_serial_number_in_any_spelling(text: str, digits: str) -> None:
    assert binding(serialNumber=text) == (CertificateBinding(serial_number=digits), (ONLY_A_NUMBER,))


@pytest.mark.parametrize("text", ["SN-1", ":", " ", "0x1F", "1 2"])
def test_a_serial_number_that_is_none_stays_given_and_is_named(text: str) -> None:
    kept, warnings = binding(serialNumber=text)
    assert kept == CertificateBinding(serial_number=text)
    assert warnings == (
        "auth.certificates.serialNumber: not hexadecimal digits, so no certificate's",
        ONLY_A_NUMBER,
    )


@pytest.mark.parametrize("name", ["fingerprint", "subject", "subjectAltName", "issuer"])
def test_a_serial_number_beside_something_else_is_no_longer_only_a_number(name: str) -> None:
    assert binding(serialNumber="A1B", **{name: FINGERPRINT})[1] == ()
    assert binding(serialNumber="A1B", chargePointId="CP-001", status="active")[1] == (ONLY_A_NUMBER,)


def test_one_serial_number_alone_among_several_bindings_is_named_once() -> None:
    entries = [{"serialNumber": "1"}, {"serialNumber": "2"}, {"fingerprint": FINGERPRINT}]
    assert parse({"auth": {"certificates": entries}}).warnings == (ONLY_A_NUMBER,)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00.250Z", 0.25),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00", 0.0),
        ("1970-01-02", 86400.0),
        (" 1970-01-01 00:00:01Z ", 1.0),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200.0),
        ("9999-12-31T23:59:59-12:00", 253_402_343_999.0),
    ],
)
def test_times_of_a_window(text: str, seconds: float) -> None:
    kept, warnings = binding(subject="CP-001", validFrom=text, validTo=text)
    assert (kept.valid_from, kept.valid_to, kept.is_window_readable) == (seconds, seconds, True)
    assert warnings == ()


@pytest.mark.parametrize("name", ["validFrom", "validTo"])
@pytest.mark.parametrize("text", ["soon", "01.02.2026", "1767225600", "2026-02-30", " "])
def test_a_time_that_is_none_closes_the_window_and_is_named(name: str, text: str) -> None:
    kept, warnings = binding(subject="CP-001", **{name: text})
    assert kept == CertificateBinding(subject="CP-001", is_window_readable=False)
    assert warnings == (f"auth.certificates.{name}: not a time in ISO 8601, so the binding never holds",)


def test_an_empty_status_of_a_binding_is_not_an_absent_one() -> None:
    assert binding(subject="CP-001", status="")[0].status == ""
    assert binding(subject="CP-001", status=" Revoked ")[0].status == "revoked"
    assert binding(subject="CP-001", status=None)[0].status is None


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"stationId":NaN}', "not JSON"),
        (b"[" * 100_00, "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"{}", "stationId: missing"),
        (b'{"stationId":"s"}', "tenantId: missing"),
        (b'{"stationId":"","tenantId":"t"}', "stationId: missing"),
        (b'{"stationId":7,"tenantId":"t"}', "stationId: not a string"),
        (b'{"stationId":"s","tenantId":"t","chargePointId":"CP-002"}', "chargePointId: of another charge point"),
        (b'{"stationId":"s","tenantId":"t","chargePointId":""}', "chargePointId: of another charge point"),
        (b'{"stationId":"s","tenantId":"t","status":true}', "status: not a string"),
        (b'{"stationId":"s","tenantId":"t","allowedProtocols":"1.6"}', "allowedProtocols: not a list"),
        (b'{"stationId":"s","tenantId":"t","allowedProtocols":[1.6]}', "allowedProtocols: not a list of strings"),
        (b'{"stationId":"s","tenantId":"t","allowedIps":{}}', "allowedIps: not a list"),
        (b'{"stationId":"s","tenantId":"t","auth":[]}', "auth: not an object"),
        (b'{"stationId":"s","tenantId":"t","auth":false}', "auth: not an object"),
        (b'{"stationId":"s","tenantId":"t","auth":{"type":1}}', "auth.type: not a string"),
        (b'{"stationId":"s","tenantId":"t","auth":{"allowedTypes":"basic"}}', "auth.allowedTypes: not a list"),
        (b'{"stationId":"s","tenantId":"t","auth":{"certificates":["x"]}}', "auth.certificates: not an object"),
        (
            b'{"stationId":"s","tenantId":"t","auth":{"certificates":[{"subject":1}]}}',
            "auth.certificates.subject: not a string",
        ),
        (
            b'{"stationId":"s","tenantId":"t","auth":{"allowedOrganizations":"X"}}',
            "auth.allowedOrganizations: not a list",
        ),
        *(
            (f'{{"stationId":"s","tenantId":"t","minSecurityProfile":{value}}}'.encode(), PROFILE_PROBLEM)
            for value in ("0", "4", "-1", '"2"', "2.0", "true", "[]")
        ),
        *(
            (f'{{"stationId":"s","tenantId":"t","{name}":{value}}}'.encode(), f"{name}: not true or false")
            for name in ("allowProfileDowngrade", "allowExpiredCertificate")
            for value in ('"true"', "1", "0", '""', "{}")
        ),
        (
            b'{"stationId":"s","tenantId":"t","x":"' + b"x" * MAX_RECORD_BYTES + b'"}',
            "larger than an identity record can be",
        ),
    ],
)
def test_broken_records_are_refused_as_a_whole(raw: bytes, problem: str) -> None:
    assert problem_of(raw) == problem


def test_the_error_quotes_nothing_of_the_record() -> None:
    with pytest.raises(IdentityRecordInvalid) as caught:
        IdentityRecord.parse('{"auth":{"secret":"hunter2"', "CP-001")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "hunter2" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)
TOP = [
    *("chargePointId", "stationId", "tenantId", "status", "allowedProtocols", "allowedIps", "allowedCidrs", "auth"),
    *("minSecurityProfile", "allowProfileDowngrade", "allowExpiredCertificate"),
]
AUTH = [
    *("type", "allowedTypes", "hashAlgorithm", "username", "secretHash", "certificates", "revokedFingerprints"),
    *("allowedOrganizations", "fingerprint"),
]
auths = st.dictionaries(st.sampled_from(AUTH), json_values | st.lists(st.text(max_size=5), max_size=3), max_size=4)
records = st.dictionaries(st.sampled_from(TOP), json_values | auths, max_size=6)


@given(st.binary(max_size=200) | st.text(max_size=200) | records.map(lambda r: json.dumps(MINIMAL | r)))
@example("\ud800")
@example('{"stationId":"\\ud800","tenantId":"t"}')
def test_anything_in_redis_is_a_record_or_invalid(raw: bytes | str) -> None:
    try:
        record = IdentityRecord.parse(raw, "CP-001")
    except IdentityRecordInvalid as invalid:
        assert invalid.problem
    else:
        assert record.charge_point_id == "CP-001"
        assert record.station_id
        assert record.tenant_id
