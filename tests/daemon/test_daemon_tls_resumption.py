"""TLS sessions that are resumed: cheap for a fleet that comes back, and no way around what was decided meanwhile."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from attrs import define
from support.callers import until
from support.certificates import Issued, Pki
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.raw_socket import Response, metric
from support.stations import basic, provision
from support.tls_socket import OpensslClient, TlsSocket, refused_in_tls

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def crl(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Path:
    path: Path = tmp_path_factory.mktemp("crl") / "chargers.crl"
    path.write_bytes(pki.chargers.crl())
    return path


@pytest.fixture(scope="module")
def required_port() -> int:
    return steady_ports()[0]


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str, pki: Pki, crl: Path, required_port: int) -> Iterator[Gateway]:
    with Gateway(
        redis_url,
        brokers,
        FLOOD_LOG_COOLDOWN="0",
        OCPP_TLS_RELOAD_SECONDS="0",
        WEBSOCKET_OCPP_EXTRA_PORTS=f"{required_port}=required",
        **pki.settings("optional", crl),
    ) as running:
        yield running


@define
class Knocking:
    """A charge point that offers the session of its last connection again."""

    charge_point_id: str
    port: int
    client: ssl.SSLContext
    address: str
    shown: Issued
    session: ssl.SSLSession | None = None
    reused: bool | None = None

    def knock(self, *, headers: dict[str, str] | None = None) -> Response:
        with TlsSocket(self.port, self.client, address=self.address, session=self.session) as connection:
            answer = connection.upgrade(self.charge_point_id, (headers or {}).items())
            self.reused, self.session = connection.tls.session_reused, connection.tls.session
        return answer

    def refused(self) -> str:
        """The alert by which TLS refuses it."""
        return refused_in_tls(self.port, self.client, address=self.address, session=self.session)


@pytest.fixture
def knocking(gateway: Gateway, pki: Pki, redis_url: str, charge_point_id: str, address: str, request: Any) -> Knocking:
    """It has been let in once and has a session."""
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    shown = pki.chargers.issue(charge_point_id)
    client = pki.client(shown, version=request.getfixturevalue("version"))
    first = Knocking(charge_point_id, gateway.ocpp_port, client, address, shown)
    assert first.knock().status == 101
    assert first.reused is False
    return first


def reload(gateway: Gateway, crl: Path, content: bytes) -> None:
    """Replace the revocation list and have it read."""
    before = len(gateway.logged("tls.reloaded"))
    crl.with_suffix(".new").write_bytes(content)
    crl.with_suffix(".new").replace(crl)
    os.kill(gateway.pid, signal.SIGHUP)
    until(lambda: len(gateway.logged("tls.reloaded")) > before, "the new list")


@VERSIONS
def test_a_session_is_resumed_as_often_as_the_charge_point_comes(knocking: Knocking, version: ssl.TLSVersion) -> None:
    for _ in range(3):
        assert knocking.knock().status == 101
        assert knocking.reused is True


def test_the_openssl_program_resumes_with_its_certificate(gateway: Gateway, pki: Pki, charge_point_id: str) -> None:
    cert, key = pki.write(pki.chargers.issue(charge_point_id))
    arguments = ("-tls1_2", "-cert", str(cert), "-key", str(key), "-reconnect")
    with OpensslClient(gateway.ocpp_port, *arguments) as client:
        assert client.ended().count("Reused, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256") == 5


def test_without_tickets_a_session_is_resumed_by_its_id(gateway: Gateway, pki: Pki, charge_point_id: str) -> None:
    cert, key = pki.write(pki.chargers.issue(charge_point_id))
    arguments = ("-tls1_2", "-no_ticket", "-cert", str(cert), "-key", str(key), "-reconnect")
    with OpensslClient(gateway.ocpp_port, *arguments) as client:
        assert client.ended().count("Reused, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256") == 5


@VERSIONS
@pytest.mark.parametrize(
    ("reason", "members"),
    [
        ("status_inactive", {"status": "disabled", "auth": {"type": "mtls"}}),
        ("mtls_binding_mismatch", {"auth": {"type": "mtls", "certificates": [{"fingerprint": "0" * 64}]}}),
        ("mtls_organization_not_allowed", {"auth": {"type": "mtls", "allowedOrganizations": ["Another"]}}),
        ("protocol_not_allowed", {"auth": {"type": "mtls"}, "allowedProtocols": ["2.0.1"]}),
    ],
)
def test_what_the_record_says_by_now_counts_for_a_resumed_session(
    gateway: Gateway,
    redis_url: str,
    told: Any,
    knocking: Knocking,
    version: ssl.TLSVersion,
    reason: str,
    members: dict[str, Any],
) -> None:
    provision(redis_url, knocking.charge_point_id, **members)
    with told(gateway, reason, charge_point_id=knocking.charge_point_id, shown=knocking.shown):
        assert knocking.knock().status == 403
    assert knocking.reused is True


@VERSIONS
def test_a_certificate_revoked_in_redis_does_not_come_back_by_resumption(
    gateway: Gateway, redis: redis_py.Redis, told: Any, knocking: Knocking, version: ssl.TLSVersion
) -> None:
    redis.set(f"revoked-certs:{knocking.shown.fingerprint}", "1")
    with told(gateway, "mtls_revoked", charge_point_id=knocking.charge_point_id, shown=knocking.shown):
        assert knocking.knock().status == 403
    assert knocking.reused is True


@VERSIONS
def test_a_session_opens_no_other_charge_point(
    gateway: Gateway, redis_url: str, told: Any, knocking: Knocking, version: ssl.TLSVersion
) -> None:
    another = f"{knocking.charge_point_id}-b"
    provision(redis_url, another, auth={"type": "mtls"})
    knocking.charge_point_id = another
    with told(gateway, "mtls_binding_mismatch", charge_point_id=another, shown=knocking.shown):
        assert knocking.knock().status == 403
    assert knocking.reused is True


@VERSIONS
def test_a_certificate_revoked_by_a_new_list_does_not_come_back_by_resumption(
    gateway: Gateway, pki: Pki, crl: Path, told: Any, knocking: Knocking, version: ssl.TLSVersion
) -> None:
    reload(gateway, crl, pki.chargers.crl([knocking.shown]))
    with told(gateway, "mtls_revoked"):
        knocking.refused()
    handshakes = metric(gateway.http_port, "ocpp_tls_handshakes_total")

    # Without its session it fares no better, and once the list no longer has it, well again.
    knocking.session = None
    refused = metric(gateway.http_port, "ocpp_handshakes_total", reason="mtls_revoked")
    knocking.refused()
    assert metric(gateway.http_port, "ocpp_handshakes_total", reason="mtls_revoked") == refused + 1
    assert metric(gateway.http_port, "ocpp_tls_handshakes_total") == handshakes
    reload(gateway, crl, pki.chargers.crl())
    assert knocking.knock().status == 101


@VERSIONS
def test_behind_a_new_list_who_is_not_on_it_is_let_in_by_a_full_handshake(
    gateway: Gateway, pki: Pki, crl: Path, knocking: Knocking, version: ssl.TLSVersion
) -> None:
    reload(gateway, crl, pki.chargers.crl([pki.chargers.issue("CP-somebody-else")]))
    assert knocking.knock().status == 101
    assert knocking.reused is False
    assert knocking.knock().status == 101
    assert knocking.reused is True


@VERSIONS
def test_a_session_without_a_certificate_is_worth_nothing_where_one_is_required(
    gateway: Gateway,
    pki: Pki,
    told: Any,
    charge_point_id: str,
    address: str,
    required_port: int,
    version: ssl.TLSVersion,
) -> None:
    client = pki.client(version=version)
    bare = Knocking(charge_point_id, gateway.ocpp_port, client, address, pki.chargers.issue(charge_point_id))
    assert bare.knock(headers=basic(charge_point_id)).status == 101
    bare.port = required_port
    with told(gateway, "mtls_missing_cert"):
        assert bare.refused() in ("HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED")
