"""``ocpp-gateway cert`` and ``charger add --auth mtls`` against a real Redis and a real Kafka protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.audit_events import audit_events
from cli.cli_runner import run, run_here
from cli.redis_by_hand import store, stored_bytes
from support.certificates import Authority, Issued, days

from ocpp_gateway.auth.record import IdentityRecord

AUTHORITY = Authority("Test")
OWN = AUTHORITY.issue("CP-1")


@pytest.fixture
def place(place: dict[str, str]) -> dict[str, str]:
    """Wide enough for a fingerprint in one line."""
    return {**place, "COLUMNS": "200"}


@pytest.fixture
def own(tmp_path: Path) -> str:
    return file_of(OWN, tmp_path)


def file_of(issued: Issued, tmp_path: Path) -> str:
    return str(issued.write(tmp_path, issued.fingerprint)[0])


def key(place: dict[str, str], name: str) -> bytes | None:
    return stored_bytes(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:{name}")


def put(place: dict[str, str], name: str, value: bytes) -> None:
    store(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:{name}", value)


def record_of(place: dict[str, str], cp_id: str = "CP-1") -> IdentityRecord:
    """The record as the gateway would read it."""
    raw = key(place, f"chargers:{cp_id}")
    assert raw is not None
    return IdentityRecord.parse(raw, cp_id)


def auth_of(place: dict[str, str], cp_id: str = "CP-1") -> Any:
    return json.loads(key(place, f"chargers:{cp_id}") or b"")["auth"]


def test_a_certificate_from_its_first_day_to_its_last(place: dict[str, str], kafka: str, tmp_path: Path) -> None:
    with_kafka = {**place, "KAFKA_BROKERS": kafka}
    pki = str(tmp_path / "pki")
    assert run_here("pki", "init", "--directory", pki).returncode == 0
    added = run("charger", "add", "CP-1", "--auth", "mtls", "--tenant", "acme", **with_kafka)
    assert added.returncode == 0, added.stderr
    assert "password" not in added.stdout and "cert bind CP-1" in added.stderr and "wss://" in added.stderr
    assert auth_of(place) == {"type": "mtls"}

    issued = run("pki", "issue", "CP-1", "--directory", pki, "--bind", **with_kafka)
    assert issued.returncode == 0, issued.stderr
    fingerprint = issued.stdout.split("fingerprint")[1].split()[0]
    serial_number = issued.stdout.split("serial number")[1].split()[0]
    assert f"CP-1 bound to {fingerprint}" in issued.stdout
    assert "within 5 seconds" in issued.stderr
    (binding,) = record_of(place).auth.certificates
    assert (binding.fingerprint, binding.serial_number, binding.status) == (fingerprint, serial_number, "active")

    certificate = f"{pki}/CP-1.pem"
    revoked = run("cert", "revoke", certificate, "--charge-point", "CP-1", "--reason", "stolen", **with_kafka)
    assert revoked.returncode == 0, revoked.stderr
    assert revoked.stdout == f"{fingerprint} revoked\n" and "within 5 seconds" in revoked.stderr
    assert key(place, f"revoked-certs:{fingerprint}") == b"1"
    assert record_of(place).auth.revoked_fingerprints == {fingerprint}
    assert record_of(place).auth.certificates[0].status == "revoked"
    refused = run("cert", "bind", "CP-1", certificate, **place)
    assert refused.returncode == 1 and f"cert unrevoke {fingerprint}" in refused.stderr
    assert run("cert", "revoke", fingerprint, "--ttl", "3600", **with_kafka).returncode == 0

    listed = json.loads(run("cert", "list", "--json", **place).stdout)
    assert listed["revokedFingerprints"] == [fingerprint]
    assert [(each["chargePointId"], each["state"]) for each in listed["bindings"]] == [("CP-1", "revoked")]

    undone = run("cert", "unrevoke", fingerprint.lower(), "--charge-point", "CP-1", **with_kafka)
    assert undone.stdout == f"{fingerprint} no longer revoked\n"
    assert key(place, f"revoked-certs:{fingerprint}") is None
    assert not record_of(place).auth.revoked_fingerprints
    assert record_of(place).auth.certificates[0].status == "active"
    twice = run("cert", "unrevoke", certificate, "--charge-point", "CP-1", **with_kafka)
    assert twice.stdout == f"{fingerprint} was not revoked\n"

    events = audit_events(kafka, 5)
    assert [(event["eventType"], event["payload"].get("change")) for event in events if "chargePointId" in event] == [
        ("ChargerIdentityUpserted", "added"),
        ("ChargerIdentityUpserted", "certificate_bound"),
        ("ChargerCertificateRevoked", None),
        ("ChargerCertificateUnrevoked", None),
    ]
    by_type = {event["eventType"]: event for event in events if "chargePointId" in event}
    told = by_type["ChargerCertificateRevoked"]
    assert told["tenantId"] == "acme"
    assert (
        told["payload"].items()
        >= {
            "chargePointId": "CP-1",
            "fingerprint": fingerprint,
            "serialNumber": serial_number,
            "actorType": "operator",
            "reason": "stolen",
        }.items()
    )
    assert by_type["ChargerIdentityUpserted"]["payload"]["fingerprint"] == fingerprint
    (for_all,) = (event for event in events if "chargePointId" not in event)
    assert for_all["eventType"] == "ChargerCertificateRevoked"
    assert (for_all["payload"]["fingerprint"], for_all["payload"]["expiresInSeconds"]) == (fingerprint, 3600)
    assert "tenantId" not in for_all and "serialNumber" not in for_all["payload"]


def test_moving_from_passwords_to_certificates_one_by_one(place: dict[str, str], own: str) -> None:
    assert run("charger", "add", "CP-1", "--hash", "sha256", "--json", **place).returncode == 0
    kept = run("cert", "bind", "CP-1", own, "--keep-type", "--valid-from", "2020-01-01", **place)
    assert kept.returncode == 0
    assert "password still holds until it first connects with the certificate" in kept.stderr
    assert "within 5 seconds" not in kept.stderr
    record = record_of(place)
    assert (record.auth.mode, record.auth.allowed_modes) == ("basic", {"basic", "mtls"})
    assert record.auth.secret_hash is not None
    assert auth_of(place)["certificates"][0]["validFrom"] == "2020-01-01T00:00:00.000Z"
    assert run("cert", "bind", "CP-1", own, **place).returncode == 0
    assert record_of(place).auth.mode == "mtls"
    assert len(record_of(place).auth.certificates) == 1
    moved = run("cert", "bind", "CP-1", own, "--keep-type", **place)
    assert moved.returncode == 0
    assert "password" not in moved.stderr and "within 5 seconds" in moved.stderr


def test_where_less_is_allowed_the_password_holds_beside_the_certificate(place: dict[str, str], own: str) -> None:
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T","allowProfileDowngrade":true}')
    kept = run("cert", "bind", "CP-1", own, "--keep-type", "--replace", **place)
    assert "password still holds.\n" in kept.stderr and "within 5 seconds" in kept.stderr


def test_by_subject_with_a_second_one_in_place_of_all(place: dict[str, str], own: str, tmp_path: Path) -> None:
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T","site":{"kept":true}}')
    assert run("cert", "bind", "CP-1", own, **place).returncode == 0
    other = file_of(AUTHORITY.issue("CP-1", organization="Other, Inc."), tmp_path)
    bound = run("cert", "bind", "CP-1", other, "--subject-only", "--replace", **place)
    assert bound.returncode == 0 and "any certificate with the subject CN=CP-1" in bound.stdout
    assert [binding.subject for binding in record_of(place).auth.certificates] == ["CN=CP-1,O=Other\\, Inc."]
    assert json.loads(key(place, "chargers:CP-1") or b"")["site"] == {"kept": True}


def test_lists_of_one_and_of_all(place: dict[str, str], own: str, tmp_path: Path) -> None:
    fingerprint, unknown = OWN.fingerprint, "AB" * 32
    bound = {
        "certificates": [{"fingerprint": fingerprint, "validTo": "2020-01-01"}],
        "revokedFingerprints": ["CD" * 32],
    }
    record = {"stationId": "S", "tenantId": "T", "auth": bound}
    put(place, "chargers:CP-1", json.dumps(record).encode())
    put(place, "chargers:CP-2", json.dumps({**record, "auth": {"subject": "CP-2\x1b[2J"}}).encode())
    put(place, "chargers:CP-3", b"no JSON")
    put(place, f"revoked-certs:{unknown}", b"1")
    one = run("cert", "list", "CP-1", **place)
    assert fingerprint in one.stdout and "ended" in one.stdout and f"revoked: {'CD' * 32}" in one.stdout
    assert "CP-2" not in one.stdout and unknown not in one.stdout
    every = run("cert", "list", **place)
    assert f"revoked: {unknown}" in every.stdout and "subject CP-2" in every.stdout and "\x1b[2J" not in every.stdout
    assert every.stderr == "2 bindings, 1 revoked\n"
    absent = run("cert", "list", "CP-9", **place)
    assert absent.returncode == 1 and "no record of CP-9" in absent.stderr


def test_what_cannot_be_is_refused_before_anything_is_written(place: dict[str, str], own: str, tmp_path: Path) -> None:
    fingerprint = OWN.fingerprint
    for arguments in (("bind", "CP-1", own), ("revoke", own, "--charge-point", "CP-1")):
        done = run("cert", *arguments, **place)
        assert done.returncode == 1 and "no record of CP-1" in done.stderr
    assert key(place, f"revoked-certs:{fingerprint}") is None
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T"}')
    put(place, f"revoked-certs:{fingerprint}", b"1")
    revoked = run("cert", "bind", "CP-1", own, **place)
    assert revoked.returncode == 1 and "is revoked" in revoked.stderr
    assert key(place, "chargers:CP-1") == b'{"stationId":"S","tenantId":"T"}'


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("bind", "CP-1", "CA"), "of an authority"),
        (("bind", "CP-1", "KEY"), "private key and no certificate"),
        (("bind", "CP-1", "/nowhere.pem"), "No such file"),
        (("bind", "CP-1", "OWN", "--valid-to", "tomorrow"), "must look like"),
        (
            ("bind", "CP-1", "OWN", "--valid-from", "2027-01-02", "--valid-to", "2027-01-01T23:00:00+00:00"),
            "must be before",
        ),
        (("revoke", "AB" * 31), "No such file"),
        (("revoke", "60:DD:35"), "64 hexadecimal digits"),
        (("unrevoke", "60:DD:35"), "64 hexadecimal digits"),
        (("revoke", "OWN", "--ttl", "0"), "--ttl"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, own: str, arguments: tuple[str, ...], word: str) -> None:
    (tmp_path / "CA").write_bytes(AUTHORITY.certificate_pem)
    (tmp_path / "KEY").write_bytes(OWN.key_pem)
    files = {"CA": str(tmp_path / "CA"), "KEY": str(tmp_path / "KEY"), "OWN": own}
    done = run_here("cert", *(files.get(argument, argument) for argument in arguments), REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode in (1, 2)
    assert word in done.stderr


def test_an_expired_one_is_bound_with_a_warning(place: dict[str, str], tmp_path: Path) -> None:
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T","allowExpiredCertificate":true}')
    old = file_of(AUTHORITY.issue("CP-1", not_before=days(-9), not_after=days(-1)), tmp_path)
    done = run("cert", "bind", "CP-1", old, **place)
    assert done.returncode == 0 and "has expired" in done.stderr


def test_a_window_that_is_over_is_bound_with_a_warning(place: dict[str, str], own: str) -> None:
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T"}')
    done = run("cert", "bind", "CP-1", own, "--valid-to", "2020-01-01", **place)
    assert done.returncode == 0 and "--valid-to is over already" in done.stderr
    later = run("cert", "bind", "CP-1", own, "--valid-to", "2120-01-01", **place)
    assert later.returncode == 0 and "Warning" not in later.stderr


@pytest.mark.parametrize(
    ("common_name", "word"),
    [
        ("CP-1", None),
        ("SN-4711", "taken for the charge point's serial number"),
        ("x" * 25, "B01.FR.11"),
        ("x" * 26, "Warning: the certificate has the common name xxx"),
        (None, "Warning: the certificate has no common name"),
    ],
)
def test_what_a_common_name_means_is_told(
    place: dict[str, str], tmp_path: Path, common_name: str | None, word: str | None
) -> None:
    put(place, "chargers:CP-1", b'{"stationId":"S","tenantId":"T"}')
    done = run("cert", "bind", "CP-1", file_of(AUTHORITY.issue(common_name), tmp_path), **place)
    assert done.returncode == 0, done.stderr
    assert ("ommon name" not in done.stderr) if word is None else (word in done.stderr)


def test_fingerprints_stay_in_one_piece_and_issuers_are_shown(place: dict[str, str], own: str) -> None:
    narrow = {**place, "COLUMNS": "40"}
    revoked, short = "AB" * 32, ":".join(["CD"] * 32)
    members = {"type": "mtls", "revokedFingerprints": [revoked]}
    put(place, "chargers:CP-1", json.dumps({"stationId": "S", "tenantId": "T", "auth": members}).encode())
    assert run("cert", "bind", "CP-1", own, **place).returncode == 0
    assert run("cert", "bind", "CP-1", own, "--subject-only", **place).returncode == 0
    put(place, "chargers:CP-2", json.dumps({"auth": {"fingerprint": short}}).encode())
    listed = run("cert", "list", **narrow).stdout.splitlines()
    assert f"  fingerprint {OWN.fingerprint}" in listed and f"  fingerprint {short}" in listed
    assert f"  issuer {AUTHORITY.certificate.subject.rfc4514_string()}" in listed
    assert listed.count("CP-1  active") == 2
    shown = run("charger", "show", "CP-1", **narrow).stdout.splitlines()
    assert f"  fingerprint {OWN.fingerprint}" in shown and f"  {revoked}" in shown
    assert f"  issuer {AUTHORITY.certificate.subject.rfc4514_string()}" in shown
    assert f"  {short}" in run("charger", "show", "CP-2", **narrow).stdout.splitlines()
    assert all(len(line) <= 80 for line in [*listed, *shown] if short not in line)


def test_a_certificate_without_a_record_is_issued_and_said_not_to_be_bound(
    place: dict[str, str], tmp_path: Path
) -> None:
    assert run_here("pki", "init", "--directory", str(tmp_path)).returncode == 0
    done = run("pki", "issue", "CP-1", "--bind", "--directory", str(tmp_path), **place)
    assert done.returncode == 1
    assert "written, and not bound" in done.stderr and f"cert bind CP-1 {tmp_path}/CP-1.pem" in done.stderr
    assert (tmp_path / "CP-1.pem").exists()


def test_other_prefixes(place: dict[str, str], own: str) -> None:
    elsewhere = {**place, "OCPP_REVOKED_PREFIX": "out", "OCPP_IDENTITY_PREFIX": "cps"}
    put(place, "cps:CP-1", b'{"stationId":"S","tenantId":"T"}')
    assert run("cert", "revoke", own, "--charge-point", "CP-1", **elsewhere).returncode == 0
    assert key(place, f"out:{OWN.fingerprint}") == b"1"
    assert json.loads(key(place, "cps:CP-1") or b"")["auth"]["revokedFingerprints"] == [OWN.fingerprint]


def test_security_profiles_of_a_charge_point(place: dict[str, str], own: str) -> None:
    added = run("charger", "add", "CP-1", "--min-profile", "2", "--allow-downgrade", "--hash", "sha256", **place)
    assert added.returncode == 0, added.stderr
    record = record_of(place)
    assert (record.min_security_profile, record.allow_profile_downgrade) == (2, True)
    replaced = run("charger", "add", "CP-1", "--replace", "--no-allow-downgrade", "--auth", "mtls", **place)
    assert replaced.returncode == 0, replaced.stderr
    record = record_of(place)
    assert (record.min_security_profile, record.allow_profile_downgrade) == (2, False)
    assert (record.auth.mode, record.auth.secret_hash) == ("mtls", None)

    assert run("cert", "bind", "CP-1", own, **place).returncode == 0
    put(place, "security-profiles:CP-1", b"3")
    shown = run("charger", "show", "CP-1", **place).stdout
    assert OWN.fingerprint in shown and "minSecurityProfile" in shown and "allowProfileDowngrade" in shown
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("last security profile")] == ["3"]
    as_json = json.loads(run("charger", "show", "CP-1", "--json", **place).stdout)
    assert as_json["lastSecurityProfile"] == 3

    unsaid = run("charger", "add", "CP-1", "--replace", **place)
    assert unsaid.returncode == 1 and "--auth basic" in unsaid.stderr
    assert record_of(place).auth.mode == "mtls"
    said = run("charger", "add", "CP-1", "--replace", "--auth", "basic", "--hash", "sha256", **place)
    assert said.returncode == 0 and "ocpp-gateway charger set CP-1 --allow-downgrade" in said.stderr
    assert len(record_of(place).auth.certificates) == 1

    assert run("charger", "remove", "CP-1", "--yes", **place).returncode == 0
    assert key(place, "security-profiles:CP-1") is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--auth", "mtls", "--password-file", "-"), "takes no password"),
        (("--auth", "mtls", "--hex-key"), "takes no password"),
        (("--min-profile", "3"), "--auth mtls"),
        (("--min-profile", "4"), "--min-profile"),
    ],
)
def test_contradictions_of_charger_add(options: tuple[str, ...], word: str) -> None:
    done = run_here("charger", "add", "CP-1", *options)
    assert done.returncode == 2 and word in done.stderr
