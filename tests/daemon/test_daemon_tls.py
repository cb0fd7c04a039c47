"""TLS in front of the OCPP port: what is agreed upon, whole charging sessions, ports beside each other."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.certificates import Pki, days
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.raw_socket import RawSocket, handshake, http_get, metric
from support.stations import TOKEN, auth_rules, basic, charge, provision, station
from support.tls_socket import OpensslClient, TlsSocket
from support.topic_tail import TopicTail

SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": ec.EllipticCurvePublicKey,
    "ECDHE-ECDSA-AES256-GCM-SHA384": ec.EllipticCurvePublicKey,
    "AES128-GCM-SHA256": rsa.RSAPublicKey,
    "AES256-GCM-SHA384": rsa.RSAPublicKey,
}
"""The four that OCPP demands, and the kind of server certificate that each needs."""

TLS_1_2 = ssl.TLSVersion.TLSv1_2


@frozen
class Ports:
    """The extra ports of ``gateway``."""

    plain: int
    off: int
    required: int


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports(*steady_ports(3))


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str, pki: Pki, ports: Ports, tmp_path_factory: Any) -> Iterator[Gateway]:
    crl: Path = tmp_path_factory.mktemp("crl") / "chargers.crl"
    crl.write_bytes(pki.chargers.crl(last_update=days(-2)))
    with Gateway(
        redis_url,
        brokers,
        LOG_LEVEL="debug",
        FLOOD_LOG_COOLDOWN="0",
        WEBSOCKET_OCPP_EXTRA_PORTS=f"{ports.plain}=plain,{ports.off}=off,{ports.required}=required",
        **pki.settings("optional", crl),
    ) as running:
        yield running


def credential(charge_point_id: str) -> tuple[tuple[str, str], ...]:
    return tuple(basic(charge_point_id).items())


@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_of_ocpp_carries_a_charge_point(
    gateway: Gateway, pki: Pki, charge_point_id: str, suite: str
) -> None:
    labels = {"version": "TLSv1.2", "cipher": suite}
    before = metric(gateway.http_port, "ocpp_tls_handshakes_total", **labels)

    with TlsSocket(gateway.ocpp_port, pki.client(version=TLS_1_2, ciphers=suite)) as connection:
        assert connection.upgrade(charge_point_id, credential(charge_point_id)).status == 101
        assert connection.tls.cipher() == (suite, "TLSv1.2", 128 if "128" in suite else 256)
        server = x509.load_der_x509_certificate(connection.tls.getpeercert(binary_form=True) or b"")
    with OpensslClient(
        gateway.ocpp_port, "-tls1_2", "-cipher", suite, "-verify_return_error",
        "-CAfile", str(pki.directory / "server-root.pem"),
    ) as other:  # fmt: skip
        said = other.ended()

    assert isinstance(server.public_key(), SUITES[suite])
    assert f"New, TLSv1.2, Cipher is {suite}" in said
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said
    assert metric(gateway.http_port, "ocpp_tls_handshakes_total", **labels) == before + 2


def test_tls_1_3_carries_a_charge_point(gateway: Gateway, pki: Pki, charge_point_id: str) -> None:
    before = metric(gateway.http_port, "ocpp_tls_handshakes_total", version="TLSv1.3")

    with TlsSocket(gateway.ocpp_port, pki.client()) as connection:  # nothing is asked for: the best of both
        assert connection.upgrade(charge_point_id, credential(charge_point_id)).status == 101
        assert connection.tls.version() == "TLSv1.3"

    assert metric(gateway.http_port, "ocpp_tls_handshakes_total", version="TLSv1.3") == before + 1


@pytest.mark.parametrize("kind", ["basic", "token"])
@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_a_charging_session_of_security_profile_2(
    gateway: Gateway, redis_url: str, tail: TopicTail, pki: Pki, charge_point_id: str, kind: str, version: str
) -> None:
    headers = basic(charge_point_id)
    if kind == "token":
        provision(redis_url, charge_point_id, auth=auth_rules("token", TOKEN))
        headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"wss://127.0.0.1:{gateway.ocpp_port}/ocpp/{version}/{charge_point_id}"

    async def session() -> list[Any]:
        async with station(url, charge_point_id, version, headers=headers, ssl=pki.client()) as point:
            return await charge(point, version)

    answers = asyncio.run(session())

    assert all(answer is not None for answer in answers)  # the ocpp package gives None for a CALLERROR
    closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    assert closed["calls"] == len(answers)
    published = tail.of(charge_point_id, len(answers) + 2)
    connected = next(event for event in published if event["eventType"] == "StationConnected")
    assert connected["payload"]["securityProfile"] == 2
    assert len(published) == len(answers) + 2  # and StationDisconnected
    assert not any("certificateExpired" in event for event in published)


def test_each_port_serves_its_security_profile(
    gateway: Gateway, ports: Ports, pki: Pki, redis_url: str, tail: TopicTail, charge_point_id: str
) -> None:
    issued = pki.chargers.issue(charge_point_id)
    seen = []
    for port, tls, mode, certificate in (
        (ports.plain, False, "basic", None),
        (ports.off, True, "basic", issued),  # not asked for, so not shown
        (gateway.ocpp_port, True, "basic", None),
        (gateway.ocpp_port, True, "mtls", issued),
        (ports.required, True, "mtls", issued),
    ):
        provision(redis_url, charge_point_id, auth=auth_rules(mode), allowProfileDowngrade=True)
        headers = credential(charge_point_id) if mode == "basic" else ()
        with TlsSocket(port, pki.client(certificate)) if tls else RawSocket(port) as connection:
            connection.send(handshake(f"/ocpp/{charge_point_id}", headers=headers))
            seen.append(connection.response().status)
        published = tail.of(charge_point_id, 2 * len(seen))
    assert seen == [101] * 5
    connected = [event for event in published if event["eventType"] == "StationConnected"]
    assert [event["payload"]["securityProfile"] for event in connected] == [1, 2, 2, 3, 3]


def test_where_client_certificates_are_off_none_is_asked_for(
    gateway: Gateway, ports: Ports, pki: Pki, redis_url: str, charge_point_id: str, told: Any, address: str
) -> None:
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    shown = pki.chargers.issue(charge_point_id)
    with OpensslClient(ports.off) as client:
        assert "No client certificate CA names sent" in client.says("Verify return code")
    with (
        told(gateway, "mtls_missing_cert", charge_point_id=charge_point_id),
        TlsSocket(ports.off, pki.client(shown), address=address) as connection,
    ):
        assert connection.upgrade(charge_point_id).status == 403


def test_where_tls_is_on_the_http_port_has_no_way_in(gateway: Gateway, charge_point_id: str) -> None:
    with RawSocket(gateway.http_port) as connection:
        connection.send(handshake(f"/ocpp/{charge_point_id}", headers=credential(charge_point_id)))
        assert connection.response().status == 404
    assert http_get(gateway.http_port, "/health").status == 200


def test_the_ends_of_certificates_and_lists_are_in_the_metrics(gateway: Gateway) -> None:
    body = http_get(gateway.http_port, "/metrics").body.decode()
    for kind, name, days_left in (
        ("server", "gateway.example.com (EC)", 30),
        ("server", "gateway.example.com (RSA)", 30),
        ("authority", "CN=Example Charger CA", 365),
        ("authority", "CN=Example Retired CA", 365),
    ):
        sample = f'ocpp_tls_certificate_days_left{{kind="{kind}",name="{name}"}} '
        [value] = [line.removeprefix(sample) for line in body.splitlines() if line.startswith(sample)]
        assert days_left - 0.1 < float(value) <= days_left
    age = metric(gateway.http_port, "ocpp_tls_crl_age_seconds", issuer="CN=Example Charger CA")
    assert 2 * 86_400 <= age < 2 * 86_400 + 600
    assert 6.9 < metric(gateway.http_port, "ocpp_tls_crl_days_left", issuer="CN=Example Charger CA") <= 7
    assert metric(gateway.http_port, "ocpp_tls_files_broken") == 0
    assert not re.search(r"CP-[0-9]|PRIVATE", body)
