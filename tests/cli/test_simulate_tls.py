"""``ocpp-gateway simulate`` with client certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cli.cli_runner import run_here
from cli.simulated import simulated
from cryptography.hazmat.primitives import serialization
from simulator.small_csms import SmallCsms
from support.certificates import Authority, key_to_pem

from ocpp_gateway.cli.client_tls import ClientTls
from ocpp_gateway.cli.endpoints import Places

ONE_SESSION = ("--sessions=1", "--interval=0.05", "--pause=0", "--meter-values=1")
AUTHORITY = Authority("Test")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pki")
    assert run_here("pki", "init", "--directory", str(place)).returncode == 0
    for number in (1, 2, 3):
        assert run_here("pki", "issue", f"CP-*-00{number}", "--directory", str(place)).returncode == 0
    assert run_here("pki", "issue", "CP-001", "--common-name", "SN 1", "--directory", str(place)).returncode == 0
    return place


@pytest.fixture
def tls(pki: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server-rsa.pem", pki / "server-rsa.key")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_each_of_a_fleet_shows_its_own(pki: Path, tls: ssl.SSLContext) -> None:
    csms = SmallCsms()
    csms.common_names = {f"CP-*-00{number}": f"CP-*-00{number}" for number in (1, 2, 3)}
    quoted = {cp_id.replace("*", "%2A"): name for cp_id, name in csms.common_names.items()}
    csms.common_names = quoted  # as the URL spells them
    files = (f"--ca={pki}/ca.pem", f"--cert={pki}/{{id}}.pem", f"--key={pki}/{{id}}.key")
    done = simulated(csms, "--count=3", "--prefix=CP-*-", *files, *ONE_SESSION, tls=tls)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 transactions finished" in done.stderr
    assert "No password" not in done.stderr
    assert not any("Authorization" in headers for headers in csms.headers)


def test_one_shows_it_and_sends_its_password_too(pki: Path, tls: ssl.SSLContext, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes((pki / "CP-001.key").read_bytes() + (pki / "CP-001.pem").read_bytes())
    csms = SmallCsms()
    csms.common_names = {"CP-001": "SN 1"}
    files = (f"--ca={pki}/ca.pem", f"--cert={both}")
    done = simulated(csms, *files, "--ocpp=2.1", *ONE_SESSION, tls=tls, OCPP_SIMULATE_PASSWORD="s")
    assert done.returncode == 0, done.stderr
    assert csms.headers[0]["Authorization"].startswith("Basic ")
    assert csms.seen[0].payload["chargingStation"]["serialNumber"] == "SN 1"


def test_another_ones_certificate_is_a_refusal_with_advice(pki: Path, tls: ssl.SSLContext) -> None:
    csms = SmallCsms()
    csms.common_names = {"CP-001": "SN 2"}
    files = (f"--ca={pki}/ca.pem", f"--cert={pki}/CP-001.pem", f"--key={pki}/CP-001.key")
    done = simulated(csms, *files, *ONE_SESSION, tls=tls)
    assert done.returncode == 1
    assert "HTTP 403" in done.stderr and "mtls_binding_mismatch" in done.stderr


def test_a_gateway_that_nobody_vouches_for_is_told_with_what_to_do(tls: ssl.SSLContext) -> None:
    done = simulated(SmallCsms(), "--duration=0.5", *ONE_SESSION, tls=tls)
    assert done.returncode == 1
    assert "not trusted" in done.stderr and "--ca FILE" in done.stderr


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    issued = AUTHORITY.issue("CP-1")
    issued.write(tmp_path, "own")
    (tmp_path / "other.key").write_bytes(AUTHORITY.issue("CP-2").key_pem)
    (tmp_path / "locked.key").write_bytes(key_to_pem(issued.key, "hunter2"))
    (tmp_path / "own.der").write_bytes(issued.certificate.public_bytes(serialization.Encoding.DER))
    (tmp_path / "words").write_text("hello")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--cert=DIR/own.pem", "--key=DIR/other.key"), "is not that of the certificate"),
        (("--cert=DIR/own.pem",), "--key FILE"),
        (("--cert=DIR/own.pem", "--key=DIR/locked.key"), "is encrypted"),
        (("--cert=DIR/own.pem", "--key=DIR/words"), "in PEM"),
        (("--cert=DIR/own.der", "--key=DIR/own.key"), "in PEM"),
        (("--cert=DIR/words", "--key=DIR/own.key"), "has no certificate"),
        (("--cert=DIR/{id}.pem", "--key=DIR/{id}.key"), "pki issue CP-001"),
        (("--ca=DIR/words",), "no certificate in PEM"),
        (("--ca=DIR/nothing",), "No such file"),
    ],
)
def test_files_that_cannot_be_used_are_named(odd: Path, arguments: tuple[str, ...], word: str) -> None:
    filled = [argument.replace("DIR", str(odd)) for argument in arguments]
    done = run_here("simulate", "--url=wss://127.0.0.1:1", "--duration=0.1", *filled)
    assert done.returncode == 1
    assert word in done.stderr
    assert "hunter2" not in done.stderr


def test_charge_points_with_the_same_files_share_what_is_read(pki: Path) -> None:
    shared = ClientTls(cert=f"{pki}/CP-001.pem", key=f"{pki}/CP-001.key", ca=f"{pki}/ca.pem")
    assert shared.of("CP-1") is shared.of("CP-2")
    own = ClientTls(cert=f"{pki}/{{id}}.pem", key=f"{pki}/{{id}}.key", ca=f"{pki}/ca.pem")
    assert own.of("CP-*-001").common_name == "CP-*-001"
    assert own.of("CP-*-001") is not own.of("CP-*-002")


@pytest.mark.parametrize(
    ("options", "environ", "scheme"),
    [((), {}, "ws"), (("--ca=CA",), {}, "wss"), ((), {"OCPP_TLS_ENABLED": "true"}, "wss")],
)
def test_the_gateway_of_this_machine_is_called_as_it_listens(
    pki: Path, options: tuple[str, ...], environ: dict[str, str], scheme: str
) -> None:
    filled = [option.replace("CA", str(pki / "ca.pem")) for option in options]
    done = run_here("simulate", *filled, "--duration=0.1", WEBSOCKET_OCPP_PORT="1", **environ)
    assert f"cannot reach {scheme}://127.0.0.1:1/ocpp/1.6/CP-001" in done.stderr


def test_advice_on_certificates_names_the_command_as_it_has_to_be_typed() -> None:
    places = Places(dev=True)
    assert places.advice("ocpp-gateway cert bind X F") == "ocpp-gateway --dev cert bind X F"
    assert places.advice("'ocpp-gateway pki issue' makes one") == "'ocpp-gateway pki issue' makes one"
    assert places.advice("ocpp-gateway pki issue X --bind") == "ocpp-gateway --dev pki issue X --bind"
