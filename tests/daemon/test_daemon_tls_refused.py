"""TLS handshakes that must not succeed: who is refused for what, told to the log, to /metrics and to Kafka.

No line of it may be at error level: ``Gateway`` looks for them at its end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from support.certificates import Pki
from support.gateway import Gateway
from support.raw_socket import RawSocket, frame, handshake
from support.stations import basic, provision
from support.tls_socket import OpensslClient, TlsSocket, refused_in_tls

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CLOSE_NOTIFY = bytes.fromhex("15030300020100")

SSL_3_HELLO = bytes.fromhex("160300002f0100002b0300") + b"\x01" * 32 + bytes.fromhex("000004002f000a0100")


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str, pki: Pki) -> Iterator[Gateway]:
    with Gateway(redis_url, brokers, LOG_LEVEL="debug", FLOOD_LOG_COOLDOWN="0", **pki.settings("off")) as running:
        yield running


@pytest.fixture(scope="module")
def strict_gateway(redis_url: str, brokers: str, pki: Pki) -> Iterator[Gateway]:
    with Gateway(
        redis_url,
        brokers,
        FLOOD_LOG_COOLDOWN="0",
        OCPP_TLS_FORWARD_SECRECY_ONLY="true",
        OCPP_HANDSHAKE_TIMEOUT="2",
        **pki.settings("false"),
    ) as running:
        yield running


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "AES256-GCM-SHA384"])
def test_where_forward_secrecy_is_demanded_static_rsa_is_refused(
    strict_gateway: Gateway, pki: Pki, told: Any, address: str, ciphers: str
) -> None:
    with TlsSocket(
        strict_gateway.ocpp_port, pki.client(version=TLS_1_2, ciphers=f"{ciphers}:ECDHE-RSA-{ciphers}")
    ) as c:
        assert c.tls.cipher() == (f"ECDHE-RSA-{ciphers}", "TLSv1.2", int(ciphers[3:6]))
    with told(strict_gateway, "tls_cipher_not_supported"):
        client = pki.client(version=TLS_1_2, ciphers=ciphers)
        assert refused_in_tls(strict_gateway.ocpp_port, client, address=address) == "HANDSHAKE_FAILURE"


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_of_tls_are_refused(gateway: Gateway, told: Any, address: str, version: str) -> None:
    with (
        told(gateway, "tls_version_not_supported"),
        OpensslClient(gateway.ocpp_port, version, "-cipher", "ALL:@SECLEVEL=0", address=address) as client,
    ):
        assert "alert protocol version" in client.ended()


@pytest.mark.parametrize(
    "ciphers", ["ECDHE-RSA-AES256-SHA:AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES256-GCM-SHA384"]
)
def test_other_suites_are_refused(gateway: Gateway, pki: Pki, told: Any, address: str, ciphers: str) -> None:
    client = pki.client(version=TLS_1_2, ciphers=ciphers)
    with told(gateway, "tls_cipher_not_supported"):
        assert refused_in_tls(gateway.ocpp_port, client, address=address) == "HANDSHAKE_FAILURE"


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("tls_required", handshake("/ocpp/CP-1", headers=basic("CP-1").items())),
        ("tls_required", b"CONNECT example.com:443 HTTP/1.1\r\n\r\n"),
        ("tls_failed", b"\x00" * 64),
        ("tls_failed", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("tls_version_not_supported", SSL_3_HELLO),
    ],
    ids=["http", "http proxy", "zeros", "ssh", "ssl 3"],
)
def test_what_is_no_tls_gets_no_answer_of_ours(
    gateway: Gateway, told: Any, address: str, reason: str, data: bytes
) -> None:
    with told(gateway, reason), RawSocket(gateway.ocpp_port, address=address) as connection:
        connection.send(data)
        answer = connection.rest()
        assert answer == b"" or answer[:1] == b"\x15"  # an alert record


def client_hello(pki: Pki, version: ssl.TLSVersion | None = None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        pki.client(version=version).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("sent", ["nothing", "half"])
def test_a_tls_handshake_that_is_not_finished_in_time_is_cut_off(
    strict_gateway: Gateway, pki: Pki, told: Any, address: str, sent: str
) -> None:
    hello = client_hello(pki)
    with (
        told(strict_gateway, "handshake_timeout", status=408),
        RawSocket(strict_gateway.ocpp_port, address=address) as connection,
    ):
        connection.send(hello[: len(hello) // 2] if sent == "half" else b"")
        assert connection.rest() == b""


def test_a_request_that_does_not_come_over_tls_is_told_so(
    strict_gateway: Gateway, pki: Pki, told: Any, address: str
) -> None:
    with (
        told(strict_gateway, "handshake_timeout", status=408),
        TlsSocket(strict_gateway.ocpp_port, pki.client(), address=address) as connection,
    ):
        assert connection.response().status == 408


def test_a_charge_point_that_does_not_trust_us_is_told_of(gateway: Gateway, pki: Pki, told: Any, address: str) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # knows no authority
    with told(gateway, "tls_refused_by_peer"), pytest.raises(ssl.SSLCertVerificationError):
        TlsSocket(gateway.ocpp_port, stranger, address=address)


def test_who_leaves_in_the_middle_is_not_told_of(gateway: Gateway, pki: Pki, address: str) -> None:
    hello = client_hello(pki)
    for data in (b"", hello[:100], hello):
        with RawSocket(gateway.ocpp_port, address=address) as connection:
            connection.send(data)
            connection.finish()
            connection.rest()
    assert [line for line in gateway.logged("handshake.refused") if line["peer"] == address] == []


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "upon our answer"])
@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
def test_who_says_goodbye_in_the_middle_is_not_told_of(
    gateway: Gateway, pki: Pki, told: Any, address: str, version: ssl.TLSVersion, waits: bool
) -> None:
    hello = client_hello(pki, version)
    with socket.create_connection(("127.0.0.1", gateway.ocpp_port), timeout=15, source_address=(address, 0)) as peer:
        peer.sendall(hello if waits else hello + CLOSE_NOTIFY)
        if waits:
            assert peer.recv(1) == b"\x16"
            peer.sendall(CLOSE_NOTIFY)
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(65536):
                pass
    # What is told of that address first is what comes next from there.
    with told(gateway, "tls_failed"), RawSocket(gateway.ocpp_port, address=address) as connection:
        connection.send(b"\x00" * 64)
        connection.rest()
    assert [line["message"] for line in gateway.events if line.get("level") in ("error", "critical")] == []


def test_a_client_cannot_renegotiate_and_harms_nobody_by_trying(
    gateway: Gateway, pki: Pki, redis_url: str, charge_point_id: str
) -> None:
    bystander = f"{charge_point_id}-bystander"
    provision(redis_url, bystander)
    with TlsSocket(gateway.ocpp_port, pki.client(version=TLS_1_2)) as other:
        assert other.upgrade(bystander, basic(bystander).items()).status == 101
        with OpensslClient(gateway.ocpp_port, "-tls1_2") as client:
            client.says("Verify return code")
            client.send(handshake(f"/ocpp/{charge_point_id}", headers=basic(charge_point_id).items()))
            client.says("HTTP/1.1 101 ")
            client.send(b"R\n")
            client.says("RENEGOTIATING")
            assert "no renegotiation" in client.ended()
        gateway.wait_for("session.closed", charge_point_id=charge_point_id)
        other.send(frame(b'[2,"1","Heartbeat",{}]'))
        assert other.frame().payload.startswith(b'[3,"1",{"currentTime":')


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_a_broken_record_ends_its_connection_and_no_other(
    gateway: Gateway, pki: Pki, charge_point_id: str, version: ssl.TLSVersion
) -> None:
    with TlsSocket(gateway.ocpp_port, pki.client(version=version)) as connection:
        assert connection.upgrade(charge_point_id, basic(charge_point_id).items()).status == 101
        with socket.socket(fileno=os.dup(connection.tls.fileno())) as underneath:
            underneath.sendall(b"\x17\x03\x03\x00\x40" + b"\x00" * 64)
        closed = gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    assert closed["close_reason"] == "connection_lost"
