"""``ocpp-gateway pki``: what it makes is good for OpenSSL, for Python's TLS and for the gateway's settings."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.cli_runner import run, run_here
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority, days

from ocpp_gateway.cli.pki_files import PkiDirectory, safe_name
from ocpp_gateway.environment import parse

OCPP_SUITES = (
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    *("AES128-GCM-SHA256", "AES256-GCM-SHA384"),
)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory after ``pki init`` and a few ``pki issue``, which tests only read."""
    place = tmp_path_factory.mktemp("pki") / "ready"
    done = run_here("pki", "init", "--directory", str(place), "--organization", "Acme Charging")
    assert done.returncode == 0, done.stderr
    for arguments in (("CP-EC",), ("CP-RSA", "--key", "rsa"), ("CP-SERIAL", "--common-name", "SN 4711")):
        issued = run_here("pki", "issue", *arguments, "--directory", str(place))
        assert issued.returncode == 0, issued.stderr
    return place


def pki(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    return run_here("pki", *arguments, "--directory", str(place))


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def name_of(name: x509.Name, oid: x509.ObjectIdentifier) -> object:
    return name.get_attributes_for_oid(oid)[0].value


def openssl_verify(place: Path, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", "verify", "-x509_strict", *options, "-CAfile", str(place / "ca.pem"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_what_init_makes_is_what_ocpp_and_openssl_want(ready: Path) -> None:
    authority = certificate(ready / "ca.pem")
    for stem, kind in (("server-rsa", rsa.RSAPublicKey), ("server-ec", ec.EllipticCurvePublicKey)):
        chain = x509.load_pem_x509_certificates((ready / f"{stem}.pem").read_bytes())
        assert chain[1:] == [authority]
        server = chain[0]
        assert isinstance(server.public_key(), kind)
        key = serialization.load_pem_private_key((ready / f"{stem}.key").read_bytes(), None)
        assert key.public_key() == server.public_key()
        assert (ready / f"{stem}.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")  # PKCS#8
        assert name_of(server.subject, NameOID.COMMON_NAME) == "localhost"
        assert name_of(server.subject, NameOID.ORGANIZATION_NAME) == "Acme Charging"
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {"localhost", socket.gethostname()} == set(names.get_values_for_type(x509.DNSName))
        assert {"127.0.0.1", "::1"} == {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        usage = server.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_encipherment == (stem == "server-rsa")
        checked = openssl_verify(ready, ready / f"{stem}.pem", "-purpose", "sslserver", "-verify_hostname", "localhost")
        assert checked.returncode == 0, checked.stderr
    for stem in ("CP-EC", "CP-RSA", "CP-SERIAL"):
        checked = openssl_verify(
            ready, ready / f"{stem}.pem", "-purpose", "sslclient", "-crl_check", "-CRLfile", str(ready / "crl.pem")
        )
        assert checked.returncode == 0, checked.stderr


def test_keys_are_for_their_owner_only(ready: Path) -> None:
    keys = list(ready.glob("*.key"))
    assert {path.name for path in keys} >= {"ca.key", "server-rsa.key", "server-ec.key", "CP-EC.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE(ready.stat().st_mode) == 0o700
    assert not list(ready.glob(".*"))


def test_the_settings_that_are_printed_are_the_gateways(tmp_path: Path) -> None:
    done = pki("init", place=tmp_path / "pki")
    assert (tmp_path / "pki" / "gateway.env").read_text() == done.stdout
    environ = dict(line.split("=", 1) for line in done.stdout.splitlines())
    settings = parse(environ)
    assert settings.ocpp_tls_enabled
    assert settings.ocpp_tls_client_auth == "optional"
    assert len(settings.ocpp_tls_cert_path) == len(settings.ocpp_tls_key_path) == 2
    assert settings.ocpp_tls_crl_path == (str(tmp_path / "pki" / "crl.pem"),)
    assert "for trying and for tests" in done.stderr
    assert "production" in run_here("pki", "--help").stdout


def test_hosts_are_names_and_addresses(tmp_path: Path) -> None:
    hosts = ("csms.example.com", "*.example.org", "192.0.2.7", "2001:db8::1")
    done = pki("init", *(word for host in hosts for word in ("--host", host)), "--days", "7", place=tmp_path)
    assert done.returncode == 0, done.stderr
    server = certificate(tmp_path / "server-ec.pem")
    assert name_of(server.subject, NameOID.COMMON_NAME) == "csms.example.com"
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["csms.example.com", "*.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::1"]
    left = server.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    for wrong in ("wss://csms.example.com", "csms.example.com:8443", "", "a..b", "münchen.example", "x" * 64):
        refused = pki("init", "--host", wrong, "--force", place=tmp_path)
        assert refused.returncode == 1 and "No certificate can be made" in refused.stderr
    assert certificate(tmp_path / "server-ec.pem") == server


def test_commands_that_are_told_can_be_typed(tmp_path: Path) -> None:
    place = tmp_path / "my pki"
    assert f"pki init --directory '{place}'" in pki("issue", "CP-1", place=place).stderr
    made = pki("init", place=place)
    assert f"--env-file '{place}/gateway.env'" in made.stderr
    assert f"pki issue CP-001 --bind --directory '{place}'" in made.stderr
    assert f"pki revoke --directory '{place}'" in made.stderr
    unbound = run("pki", "issue", "CP-1", "--bind", "--directory", str(place), REDIS_URL="redis://127.0.0.1:1")
    assert unbound.returncode == 1 and f"cert bind CP-1 '{place}/CP-1.pem'" in unbound.stderr


@pytest.mark.parametrize("nothing", ["", " "])
def test_names_that_say_nothing_are_refused(tmp_path: Path, nothing: str) -> None:
    refused = pki("init", "--organization", nothing, place=tmp_path / "pki")
    assert refused.returncode == 1 and "organization" in refused.stderr
    assert not (tmp_path / "pki").exists()
    assert pki("init", place=tmp_path).returncode == 0
    for option in ("--organization", "--common-name"):
        refused = pki("issue", "CP-1", option, nothing, place=tmp_path)
        assert refused.returncode == 1 and option.strip("-").replace("-", " ") in refused.stderr
        assert "64" not in refused.stderr
    assert not (tmp_path / "CP-1.pem").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((), None),
        (("--common-name", "CP-1"), None),
        (("--common-name", "x" * 25), "taken for the charge point's serial number"),
        (("--common-name", "x" * 26), "Warning: the certificate has the common name"),
    ],
)
def test_what_the_common_name_means_is_told(tmp_path: Path, options: tuple[str, ...], word: str | None) -> None:
    assert pki("init", place=tmp_path).returncode == 0
    done = pki("issue", "CP-1", *options, place=tmp_path)
    assert done.returncode == 0
    assert ("ommon name" not in done.stderr) if word is None else (word in done.stderr)


@pytest.mark.parametrize("suite", OCPP_SUITES)
@pytest.mark.parametrize("client", ["CP-EC", "CP-RSA"])
def test_each_suite_of_ocpp_can_be_had_with_a_client_certificate(ready: Path, suite: str, client: str) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for stem in ("server-rsa", "server-ec"):
        serving.load_cert_chain(ready / f"{stem}.pem", ready / f"{stem}.key")
    serving.set_ciphers("ALL")
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_verify_locations(ready / "ca.pem")
    serving.load_verify_locations(ready / "crl.pem")
    serving.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF | ssl.VerifyFlags.VERIFY_X509_STRICT
    calling = ssl.create_default_context(cafile=str(ready / "ca.pem"))
    calling.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    calling.maximum_version = ssl.TLSVersion.TLSv1_2
    calling.set_ciphers(suite)
    calling.load_cert_chain(ready / f"{client}.pem", ready / f"{client}.key")
    one, other = socket.socketpair()
    with ThreadPoolExecutor(1) as thread, one, other:
        accepting = thread.submit(serving.wrap_socket, other, server_side=True)
        with calling.wrap_socket(one, server_hostname="127.0.0.1") as connection:
            assert (connection.cipher() or ("",))[0] == suite
            with accepting.result(10.0) as accepted:
                subject = (accepted.getpeercert() or {})["subject"]
    assert (("commonName", client),) in subject


def test_nothing_is_overwritten_unasked_and_what_is_lost_is_told(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "pki"
    assert pki("init", place=place).returncode == 0
    assert pki("issue", "CP-1", place=place).returncode == 0
    files = {path: path.read_bytes() for path in place.iterdir()}
    again = pki("init", place=place)
    assert again.returncode == 1 and "--force" in again.stderr
    twice = pki("issue", "CP-1", place=place)
    assert twice.returncode == 1 and "--force" in twice.stderr
    assert {path: path.read_bytes() for path in place.iterdir()} == files

    old = certificate(place / "CP-1.pem").fingerprint(hashes.SHA256()).hex().upper()
    renewed = pki("issue", "CP-1", "--force", place=place)
    assert renewed.returncode == 0 and old in renewed.stderr
    name = certificate(place / "ca.pem").subject.rfc4514_string()
    forced = pki("init", "--force", place=place)
    assert forced.returncode == 0
    assert f"Replaced the authority {name}" in forced.stderr and "CP-1.pem" in forced.stderr
    assert certificate(place / "ca.pem").subject.rfc4514_string() != name
    assert openssl_verify(place, place / "server-ec.pem").returncode == 0
    assert openssl_verify(place, place / "CP-1.pem").returncode != 0


def test_a_charge_points_certificate_names_it_and_its_owner(ready: Path) -> None:
    by_identity, by_serial = certificate(ready / "CP-EC.pem"), certificate(ready / "CP-SERIAL.pem")
    assert by_identity.subject.rfc4514_string() == "CN=CP-EC,O=Acme Charging"
    assert by_serial.subject.rfc4514_string() == "CN=SN 4711,O=Acme Charging"
    assert by_identity.serial_number != by_serial.serial_number
    assert isinstance(by_identity.public_key(), ec.EllipticCurvePublicKey)
    for each in (by_identity, by_serial):
        with pytest.raises(x509.ExtensionNotFound):
            each.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_what_issue_prints(tmp_path: Path) -> None:
    assert pki("init", "--days", "10", place=tmp_path).returncode == 0
    done = pki("issue", "CP-7", "--organization", "Other", "--days", "3000", place=tmp_path)
    made = certificate(tmp_path / "CP-7.pem")
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if "number" not in line)
    assert shown["fingerprint"] == made.fingerprint(hashes.SHA256()).hex().upper()
    assert shown["subject"] == "CN=CP-7,O=Other"
    assert f"serial number  {made.serial_number:X}" in done.stdout
    assert made.not_valid_after_utc == certificate(tmp_path / "ca.pem").not_valid_after_utc  # no longer than its issuer
    assert "PRIVATE" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("issue", "CP-1"), "pki init"),
        (("issue", "no prefix"), "OCPP_CHARGE_POINT_ID_PATTERN"),
        (("revoke",), "pki init"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    done = pki(*arguments, place=tmp_path)
    assert done.returncode in (1, 2) and word in done.stderr


def test_an_authority_that_was_tampered_with_is_not_used(tmp_path: Path) -> None:
    assert pki("init", place=tmp_path).returncode == 0
    longest = pki("issue", "CP-1", "--common-name", "x" * 65, place=tmp_path)
    assert longest.returncode == 1 and "64" in longest.stderr
    comma = pki("init", place=tmp_path / "a,b")
    assert comma.returncode == 1 and "comma" in comma.stderr
    (tmp_path / "ca.key").write_bytes((tmp_path / "server-rsa.key").read_bytes())
    assert "is not the key of" in pki("issue", "CP-1", place=tmp_path).stderr
    (tmp_path / "ca.key").write_bytes(b"secret words")
    broken = pki("issue", "CP-1", place=tmp_path)
    assert "no longer what" in broken.stderr and "secret words" not in broken.stderr


def test_revoked_ones_are_on_the_list(tmp_path: Path) -> None:
    assert pki("init", place=tmp_path).returncode == 0
    for cp_id in ("CP-1", "CP-2", "CP-3"):
        assert pki("issue", cp_id, place=tmp_path).returncode == 0
    assert pki("revoke", str(tmp_path / "CP-1.pem"), place=tmp_path).returncode == 0
    assert pki("revoke", str(tmp_path / "CP-2.pem"), place=tmp_path).returncode == 0
    again = pki("revoke", str(tmp_path / "CP-1.pem"), place=tmp_path)
    assert again.returncode == 0 and "revoked already" in again.stdout
    anew = pki("revoke", "--days", "3", place=tmp_path)
    assert anew.returncode == 0 and "list 5, 2 certificates" in anew.stderr

    crl = x509.load_pem_x509_crl((tmp_path / "crl.pem").read_bytes())
    signer = certificate(tmp_path / "ca.pem").public_key()
    assert isinstance(signer, rsa.RSAPublicKey) and crl.is_signature_valid(signer)
    assert {entry.serial_number for entry in crl} == {
        certificate(tmp_path / f"{cp_id}.pem").serial_number for cp_id in ("CP-1", "CP-2")
    }
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5
    assert crl.next_update_utc is not None
    assert timedelta(days=2) < crl.next_update_utc - datetime.now(UTC) <= timedelta(days=3)
    checks = ("-crl_check", "-CRLfile", str(tmp_path / "crl.pem"))
    assert "revoked" in openssl_verify(tmp_path, tmp_path / "CP-1.pem", *checks).stderr
    assert openssl_verify(tmp_path, tmp_path / "CP-3.pem", *checks).returncode == 0

    foreign, _ = Authority("Another").issue("CP-9").write(tmp_path, "foreign")
    refused = pki("revoke", str(foreign), place=tmp_path)
    assert refused.returncode == 1 and "cert revoke" in refused.stderr
    (tmp_path / "crl.pem").write_bytes(Authority("Another").crl())
    assert "not signed by" in pki("revoke", place=tmp_path).stderr
    (tmp_path / "crl.pem").unlink()
    assert "list 1, 0 certificates" in pki("revoke", place=tmp_path).stderr


def test_show_tells_everything_about_each_once(ready: Path) -> None:
    listed = json.loads(run_here("pki", "show", str(ready), "--json").stdout)
    by_file = {Path(entry["file"]).name: entry for entry in listed}
    assert len(listed) == len(by_file) == 7  # an authority that is in three files is told once
    server = certificate(ready / "server-ec.pem")
    told = by_file["server-ec.pem"]
    assert told["fingerprint"] == server.fingerprint(hashes.SHA256()).hex().upper()
    assert told["serialNumber"] == f"{server.serial_number:X}"
    assert told["issuer"] == by_file["ca.pem"]["subject"]
    assert "DNS:localhost" in told["subjectAltName"] and "IP:127.0.0.1" in told["subjectAltName"]
    assert (told["key"], by_file["server-rsa.pem"]["key"]) == ("ECDSA secp256r1", "RSA 2048")
    assert (told["daysLeft"], by_file["crl.pem"]["daysLeft"], by_file["crl.pem"]["revoked"]) == (364, 29, [])
    narrow = run_here("pki", "show", str(ready / "server-ec.pem"), COLUMNS="40").stdout.split()
    assert told["fingerprint"] in narrow
    at_80 = run_here("pki", "show", str(ready / "server-ec.pem"), COLUMNS="80").stdout.splitlines()
    assert f"fingerprint     {told['fingerprint']}" in at_80  # in line with the others
    table = run_here("pki", "show", str(ready / "CP-EC.pem"), COLUMNS="200").stdout
    assert "CN=CP-EC,O=Acme Charging" in table and "364 days left" in table and "server" not in table


def test_what_is_over_is_marked(tmp_path: Path) -> None:
    authority = Authority("Old")
    old = authority.issue("CP-1", not_before=days(-20), not_after=days(-10))
    old.write(tmp_path, "old")
    (tmp_path / "old.crl").write_bytes(authority.crl([old], last_update=days(-9), next_update=days(-2), encoding="der"))
    (tmp_path / "ca.der").write_bytes(authority.certificate.public_bytes(serialization.Encoding.DER))
    shown = run_here("pki", "show", str(tmp_path), COLUMNS="200").stdout
    assert "EXPIRED" in shown and "OVERDUE" in shown
    assert f"1 certificates: {old.certificate.serial_number:X}" in shown
    assert {entry["daysLeft"] for entry in json.loads(run_here("pki", "show", str(tmp_path), "--json").stdout)} >= {
        -11,
        -3,
    }


def test_files_without_certificates_are_named(ready: Path, tmp_path: Path) -> None:
    assert "private key and no certificate" in run_here("pki", "show", str(ready / "CP-EC.key")).stderr
    (tmp_path / "x.pem").write_text("hello")
    assert "has no certificate, neither" in run_here("pki", "show", str(tmp_path)).stderr
    (tmp_path / "x.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "cannot be read" in run_here("pki", "show", str(tmp_path)).stderr
    (tmp_path / "x.pem").unlink()
    empty = run_here("pki", "show", str(tmp_path))
    assert empty.returncode == 1 and "has no certificates" in empty.stderr


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=2, unique=True))
def test_every_identity_has_a_file_name_of_its_own(identities: list[str]) -> None:
    names = [safe_name(identity) for identity in identities]
    assert names[0] != names[1]
    for name in names:
        assert name.isascii() and name.isprintable() and 0 < len(name) <= 120
        assert not set(name) & set("/\\*|?<>:\"' ") and name[0] not in ".-~"
        assert PkiDirectory(Path("pki")).path / f"{name}.pem" not in PkiDirectory(Path("pki")).own_files()


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("CP-001", "CP-001"),
        ("CP-a*b|c@d", "CP-a%2Ab%7Cc%40d"),
        ("../x", "%2E.%2Fx"),
        ("-rf", "%2Drf"),
        ("ca", "%63a"),
        ("CA", "%43A"),
        ("server-ec", "%73erver-ec"),
    ],
)
def test_file_names(identity: str, name: str) -> None:
    assert safe_name(identity) == name
