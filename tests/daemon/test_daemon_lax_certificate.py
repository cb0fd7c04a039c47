"""A client certificate that OpenSSL takes and our other parser does not: refused like any other, and no trouble."""

from __future__ import annotations

import ssl
from base64 import encodebytes
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from support.certificates import Authority, Issued, Pki
from support.gateway import Gateway
from support.raw_socket import frame
from support.stations import auth_rules, basic, provision
from support.tls_socket import TlsSocket

ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
TRUE, TRUE_AS_BER_ALLOWS_IT = b"\x01\x01\xff", b"\x01\x01\x01"


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str, pki: Pki) -> Iterator[Gateway]:
    with Gateway(redis_url, brokers, FLOOD_LOG_COOLDOWN="0", **pki.settings("optional")) as running:
        yield running


def element(tag: int, content: bytes) -> bytes:
    """One of DER, of up to 64 KiB."""
    length = len(content)
    size = bytes((length,)) if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + size + content


def lax(authority: Authority, issued: Issued) -> bytes:
    """PEM of the same certificate in an encoding that is no DER, signed as it should be."""
    content = issued.certificate.tbs_certificate_bytes.replace(TRUE, TRUE_AS_BER_ALLOWS_IT, 1)
    key = authority.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
    whole = element(0x30, content + ECDSA_WITH_SHA256 + element(0x03, b"\x00" + signature))
    with pytest.raises(ValueError, match="parsing asn1"):
        x509.load_der_x509_certificate(whole)
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(whole) + b"-----END CERTIFICATE-----\n"


@pytest.fixture
def client(pki: Pki, charge_point_id: str) -> ssl.SSLContext:
    """A charge point that shows one."""
    issued = pki.chargers.issue(charge_point_id)
    cert, key = pki.write(issued)
    cert.write_bytes(lax(pki.chargers, issued))
    context = pki.client()
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize("kind", ["mtls", "basic"])
def test_it_is_refused_after_the_tls_handshake(
    gateway: Gateway, redis_url: str, told: Any, address: str, charge_point_id: str, client: ssl.SSLContext, kind: str
) -> None:
    provision(redis_url, charge_point_id, auth=auth_rules(kind))
    headers = basic(charge_point_id) if kind == "basic" else {}
    with (
        told(gateway, "mtls_not_authorized"),
        TlsSocket(gateway.ocpp_port, client, address=address) as connection,
    ):
        answer = connection.upgrade(charge_point_id, headers.items())
        assert (answer.status, answer.body) == (403, b"Forbidden")
        assert answer.header("Connection") == "close"
        assert connection.rest() == b""
    assert [line["message"] for line in gateway.events if line.get("level") in ("error", "critical")] == []


def test_it_harms_nobody_else(
    gateway: Gateway, redis_url: str, pki: Pki, charge_point_id: str, client: ssl.SSLContext
) -> None:
    bystander = f"{charge_point_id}-bystander"
    for identity in (charge_point_id, bystander):
        provision(redis_url, identity, auth={"type": "mtls"})
    with TlsSocket(gateway.ocpp_port, pki.client(pki.chargers.issue(bystander))) as other:
        assert other.upgrade(bystander).status == 101
        with TlsSocket(gateway.ocpp_port, client) as connection:
            assert connection.upgrade(charge_point_id).status == 403
        other.send(frame(b'[2,"1","Heartbeat",{}]'))
        assert other.frame().payload.startswith(b'[3,"1",{"currentTime":')
