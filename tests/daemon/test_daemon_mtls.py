"""Client certificates at the daemon's door: who is let in by one, and who is refused for what."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from attrs import field, frozen
from support.certificates import Authority, Issued, Pki, days
from support.gateway import Gateway
from support.raw_socket import handshake, metric
from support.stations import charge, provision, station
from support.tls_socket import OpensslClient, TlsSocket, refused_in_tls
from support.topic_tail import TopicTail

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def revoked_by_crl(pki: Pki) -> Issued:
    return pki.chargers.issue("CP-in-the-list")


@pytest.fixture(scope="module")
def gateway(
    redis_url: str, brokers: str, pki: Pki, revoked_by_crl: Issued, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("crl")
    (directory / "chargers.crl").write_bytes(pki.chargers.crl([revoked_by_crl]))
    (directory / "retired.crl").write_bytes(pki.retired.crl(last_update=days(-9), next_update=days(-2), encoding="der"))
    with Gateway(
        redis_url,
        brokers,
        LOG_LEVEL="debug",
        FLOOD_LOG_COOLDOWN="0",
        OCPP_ALLOWED_ORGANIZATIONS="Example Charging; tenant-2=Other Operator",
        **pki.settings("optional", directory / "chargers.crl", directory / "retired.crl"),
    ) as running:
        yield running
    assert "PRIVATE" not in json.dumps(running.events)


@pytest.fixture(scope="module")
def strict_gateway(redis_url: str, brokers: str, pki: Pki) -> Iterator[Gateway]:
    with Gateway(
        redis_url, brokers, FLOOD_LOG_COOLDOWN="0", OCPP_REQUIRE_CERT_BINDING="true", **pki.settings("required")
    ) as running:
        yield running


def binding(**attributes: Any) -> dict[str, Any]:
    return {"auth": {"type": "mtls", "certificates": [attributes]}}


# Let in.


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_a_charging_session_of_security_profile_3(
    gateway: Gateway, redis_url: str, tail: TopicTail, pki: Pki, charge_point_id: str, key: str, version: str
) -> None:
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    url = f"wss://127.0.0.1:{gateway.ocpp_port}/ocpp/{version}/{charge_point_id}"
    client = pki.client(pki.chargers.issue(charge_point_id, key=key))

    async def session() -> list[Any]:
        async with station(url, charge_point_id, version, headers={}, ssl=client) as point:
            return await charge(point, version)

    answers = asyncio.run(session())

    assert all(answer is not None for answer in answers)  # the ocpp package gives None for a CALLERROR
    published = tail.of(charge_point_id, len(answers) + 2)
    assert len(published) == len(answers) + 2
    assert [e["payload"]["securityProfile"] for e in published if e["eventType"] == "StationConnected"] == [3]
    assert not any("certificateExpired" in event for event in published)


def with_colons(digits: str) -> str:
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))


OLD = {"fingerprint": "AB" * 32, "validTo": "2090-01-01T00:00:00Z"}
LET_IN: dict[str, Callable[[Issued], dict[str, Any]]] = {
    "fingerprint": lambda one: binding(fingerprint=with_colons(one.fingerprint.lower())),
    "common name": lambda _: binding(subject="serial-0815"),
    "subject": lambda _: binding(subject="/O=Example Charging/CN=serial-0815"),
    "alternative name": lambda _: binding(subjectAltName="DNS:cp.example.com"),
    "serial number": lambda one: binding(serialNumber=f"{one.certificate.serial_number:x}"),
    "all of it": lambda one: binding(fingerprint=one.fingerprint, subject="serial-0815", status="active"),
    "new beside old": lambda one: {"auth": {"type": "mtls", "certificates": [OLD, {"fingerprint": one.fingerprint}]}},
}


@pytest.mark.parametrize("by", LET_IN)
def test_a_binding_lets_in(strict_gateway: Gateway, redis_url: str, pki: Pki, charge_point_id: str, by: str) -> None:
    shown = pki.chargers.issue("serial-0815", sans=["DNS:cp.example.com"])
    provision(redis_url, charge_point_id, **LET_IN[by](shown))
    with TlsSocket(strict_gateway.ocpp_port, pki.client(shown)) as connection:
        assert connection.upgrade(charge_point_id).status == 101


def test_the_openssl_program_is_let_in(gateway: Gateway, redis_url: str, pki: Pki, charge_point_id: str) -> None:
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    cert, key = pki.write(pki.chargers.issue(charge_point_id, key="rsa"))
    with OpensslClient(gateway.ocpp_port, "-tls1_2", "-cert", str(cert), "-key", str(key)) as client:
        assert "CN = Example Charger CA" in client.says("Verify return code")  # whose certificates are accepted
        client.send(handshake(f"/ocpp/{charge_point_id}"))
        client.says("HTTP/1.1 101 ")


def test_an_expired_certificate_passes_where_the_record_says_so_and_events_tell(
    gateway: Gateway, redis_url: str, tail: TopicTail, pki: Pki, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth={"type": "mtls"}, allowExpiredCertificate=True)
    shown = pki.chargers.issue(charge_point_id, not_before=days(-20), not_after=days(-1))
    with TlsSocket(gateway.ocpp_port, pki.client(shown)) as connection:
        assert connection.upgrade(charge_point_id).status == 101
    published = tail.of(charge_point_id, 2)
    assert [event["eventType"] for event in published] == ["StationConnected", "StationDisconnected"]
    assert [event["certificateExpired"] for event in published] == [True, True]
    assert published[0]["payload"]["securityProfile"] == 3


# Refused after the TLS handshake, when it is known who it is.


def to_itself(pki: Pki, charge_point_id: str) -> Issued:
    return pki.chargers.issue(charge_point_id)


@frozen
class Refused:
    reason: str
    name: str
    issue: Callable[[Pki, str], Issued | None] = to_itself
    record: Callable[[Issued], dict[str, Any]] = field(default=lambda _: {"auth": {"type": "mtls"}})

    def __str__(self) -> str:
        return self.name


def dated(not_before: float, not_after: float) -> Callable[[Pki, str], Issued]:
    return lambda pki, identity: pki.chargers.issue(identity, not_before=days(not_before), not_after=days(not_after))


REFUSED = [
    Refused("mtls_missing_cert", "none shown", lambda pki, _: None),
    Refused("mtls_binding_mismatch", "another's", lambda pki, _: pki.chargers.issue("CP-another")),
    Refused("mtls_binding_mismatch", "another one", record=lambda _: binding(fingerprint="0" * 64)),
    Refused("mtls_binding_mismatch", "half", record=lambda one: binding(fingerprint=one.fingerprint, serialNumber="1")),
    Refused(
        "mtls_binding_mismatch",
        "binding over",
        record=lambda one: binding(fingerprint=one.fingerprint, validTo="2020-01-01T00:00:00Z"),
    ),
    Refused(
        "mtls_binding_mismatch",
        "binding to come",
        record=lambda one: binding(fingerprint=one.fingerprint, validFrom="2090-01-01T00:00:00Z"),
    ),
    Refused(
        "mtls_binding_mismatch",
        "binding of another",
        record=lambda one: binding(fingerprint=one.fingerprint, chargePointId="CP-another"),
    ),
    Refused("mtls_expired", "expired", dated(-20, -1)),
    Refused("mtls_expired", "not yet valid", dated(1, 20)),
    Refused(
        "mtls_expired",
        "not yet valid though expired would do",
        dated(1, 20),
        lambda _: {"auth": {"type": "mtls"}, "allowExpiredCertificate": True},
    ),
    Refused(
        "mtls_revoked",
        "on the record",
        record=lambda one: {"auth": {"type": "mtls", "revokedFingerprints": [one.fingerprint]}},
    ),
    Refused(
        "mtls_revoked", "binding revoked", record=lambda one: binding(fingerprint=one.fingerprint, status="revoked")
    ),
    Refused(
        "mtls_organization_not_allowed",
        "organisation",
        lambda pki, identity: pki.chargers.issue(identity, organization="Other Operator"),
    ),
    Refused(
        "mtls_organization_not_allowed", "no organisation", lambda pki, id_: pki.chargers.issue(id_, organization=None)
    ),
    Refused(
        "mtls_organization_not_allowed",
        "the record's organisations",
        record=lambda _: {"auth": {"type": "mtls", "allowedOrganizations": ["Third Operator"]}},
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_certificate_that_is_not_the_charge_points_own_is_refused(
    gateway: Gateway, redis_url: str, pki: Pki, told: Any, address: str, charge_point_id: str, case: Refused
) -> None:
    shown = case.issue(pki, charge_point_id)
    provision(redis_url, charge_point_id, **case.record(shown))  # type: ignore[arg-type]
    with told(gateway, case.reason, charge_point_id=charge_point_id, shown=shown):
        assert_forbidden(gateway.ocpp_port, pki.client(shown), address, charge_point_id)


def assert_forbidden(port: int, client: ssl.SSLContext, address: str, charge_point_id: str) -> None:
    """Refused, and not told why."""
    with TlsSocket(port, client, address=address) as connection:
        answer = connection.upgrade(charge_point_id)
        assert (answer.status, answer.body) == (403, b"Forbidden")
        assert answer.header("Connection") == "close"
        assert connection.rest() == b""


def test_a_certificate_revoked_in_redis_is_refused_until_it_is_not(
    gateway: Gateway, redis: redis_py.Redis, pki: Pki, told: Any, address: str, charge_point_id: str, redis_url: str
) -> None:
    shown = pki.chargers.issue(charge_point_id)
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    redis.set(f"revoked-certs:{shown.fingerprint}", "1")
    with told(gateway, "mtls_revoked", charge_point_id=charge_point_id, shown=shown):
        assert_forbidden(gateway.ocpp_port, pki.client(shown), address, charge_point_id)
    redis.delete(f"revoked-certs:{shown.fingerprint}")
    with TlsSocket(gateway.ocpp_port, pki.client(shown)) as connection:
        assert connection.upgrade(charge_point_id).status == 101


def test_where_a_binding_is_demanded_the_name_alone_does_not_do(
    strict_gateway: Gateway, redis_url: str, pki: Pki, told: Any, address: str, charge_point_id: str
) -> None:
    shown = pki.chargers.issue(charge_point_id)
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    with told(strict_gateway, "mtls_binding_missing", charge_point_id=charge_point_id, shown=shown):
        assert_forbidden(strict_gateway.ocpp_port, pki.client(shown), address, charge_point_id)


# Refused within the TLS handshake, when nobody has said who it is.

IN_TLS = {
    "foreign": ("mtls_not_authorized", "UNKNOWN_CA"),
    "self-signed": ("mtls_not_authorized", "UNKNOWN_CA"),
    "of a server": ("mtls_not_authorized", "UNSUPPORTED_CERTIFICATE"),
    # A verdict of ours, for which pyOpenSSL has no other alert.
    "revoked": ("mtls_revoked", "INTERNAL_ERROR"),
    "list out of date": ("mtls_crl_expired", "INTERNAL_ERROR"),
}


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("kind", IN_TLS)
def test_a_certificate_that_no_charge_point_may_show_is_refused_by_tls(
    gateway: Gateway, pki: Pki, revoked_by_crl: Issued, told: Any, address: str, kind: str, version: ssl.TLSVersion
) -> None:
    reason, alert = IN_TLS[kind]
    own = Authority("CP-own")
    shown = {
        "foreign": lambda: pki.foreign.issue("CP-1"),
        "self-signed": lambda: Issued(own.certificate, own.private_key),
        "of a server": lambda: pki.chargers.issue("CP-1", client=False),
        "revoked": lambda: revoked_by_crl,
        "list out of date": lambda: pki.retired.issue("CP-1"),
    }[kind]()
    with told(gateway, reason):
        client = pki.client(shown, version=version)
        assert refused_in_tls(gateway.ocpp_port, client, address=address) == alert


@pytest.mark.parametrize(
    ("version", "alert"), [(TLS_1_2, "HANDSHAKE_FAILURE"), (TLS_1_3, "CERTIFICATE_REQUIRED")], ids=["1.2", "1.3"]
)
def test_where_a_certificate_is_required_tls_fails_without_one(
    strict_gateway: Gateway, pki: Pki, told: Any, address: str, version: ssl.TLSVersion, alert: str
) -> None:
    done = metric(strict_gateway.http_port, "ocpp_tls_handshakes_total")
    with told(strict_gateway, "mtls_missing_cert"):
        client = pki.client(version=version)
        assert refused_in_tls(strict_gateway.ocpp_port, client, address=address) == alert
    assert metric(strict_gateway.http_port, "ocpp_tls_handshakes_total") == done
