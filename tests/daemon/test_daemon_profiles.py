"""What must not open a charge point: a stolen password, another's certificate, a header, a lower security profile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis as redis_py
from support.callers import until
from support.certificates import Issued, Pki
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.raw_socket import RawSocket, frame, handshake
from support.redis_gate import RedisGate
from support.stations import auth_rules, basic, provision, websocket
from support.tls_socket import TlsSocket
from support.topic_tail import TopicTail
from websockets.exceptions import ConnectionClosed

PROXY = "127.9.0.1"
"""An address whose forwarded headers the gateway believes."""

BOTH = {**auth_rules("basic"), "allowedTypes": ["basic", "mtls"]}
"""Of a charge point that is moving from a password to a certificate."""


@pytest.fixture(scope="module")
def plain_port() -> int:
    return steady_ports()[0]


@pytest.fixture(scope="module")
def gate(redis_url: str) -> Iterator[RedisGate]:
    with RedisGate(redis_url) as between:
        yield between


@pytest.fixture(scope="module")
def gateway(gate: RedisGate, brokers: str, pki: Pki, plain_port: int) -> Iterator[Gateway]:
    with Gateway(
        gate.url,
        brokers,
        LOG_LEVEL="debug",
        FLOOD_LOG_COOLDOWN="0",
        NODE_HEARTBEAT_SECONDS="1",
        NODE_TTL_SECONDS="4",
        OCPP_TRUSTED_PROXIES=PROXY,
        WEBSOCKET_OCPP_EXTRA_PORTS=f"{plain_port}=plain",
        **pki.settings("optional"),
    ) as running:
        yield running


class Door:
    """How one charge point knocks."""

    def __init__(self, gateway: Gateway, pki: Pki, plain_port: int, charge_point_id: str, address: str) -> None:
        self._gateway = gateway
        self._pki = pki
        self._plain_port = plain_port
        self._charge_point_id = charge_point_id
        self._address = address
        self.certificate = pki.chargers.issue(charge_point_id)

    def status(
        self,
        *,
        tls: bool = True,
        shown: Issued | None = None,
        password: bool = False,
        headers: dict[str, str] | None = None,
        address: str | None = None,
    ) -> int:
        """The answer's; the connection is closed again."""
        fields = {**(basic(self._charge_point_id) if password else {}), **(headers or {})}
        source = address or self._address
        port, client = self._gateway.ocpp_port, self._pki.client(shown)
        with TlsSocket(port, client, address=source) if tls else RawSocket(self._plain_port, address=source) as socket:
            socket.send(handshake(f"/ocpp/{self._charge_point_id}", headers=fields.items()))
            return socket.response().status


@pytest.fixture
def door(gateway: Gateway, pki: Pki, plain_port: int, charge_point_id: str, address: str) -> Door:
    return Door(gateway, pki, plain_port, charge_point_id, address)


def test_a_stolen_password_does_not_open_a_charge_point_with_certificates(
    gateway: Gateway, door: Door, redis_url: str, told: Any, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=auth_rules("mtls"))  # its old password is still on the record
    with told(gateway, "mtls_missing_cert", charge_point_id=charge_point_id):
        assert door.status(password=True) == 403


def test_a_stolen_password_does_not_open_it_over_a_plain_connection_either(
    gateway: Gateway, door: Door, redis_url: str, told: Any, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=auth_rules("mtls"))
    with told(gateway, "mtls_missing_cert", charge_point_id=charge_point_id):
        assert door.status(password=True, tls=False) == 403


def test_with_the_password_another_charge_points_certificate_opens_nothing(
    gateway: Gateway, door: Door, redis_url: str, pki: Pki, told: Any, charge_point_id: str
) -> None:
    another = pki.chargers.issue(f"{charge_point_id}-b")
    provision(redis_url, charge_point_id, auth=auth_rules("mtls"))
    with told(gateway, "mtls_binding_mismatch", charge_point_id=charge_point_id, shown=another):
        assert door.status(password=True, shown=another) == 403


def test_another_charge_points_certificate_does_not_stand_for_a_password(
    gateway: Gateway, door: Door, redis_url: str, pki: Pki, told: Any, charge_point_id: str
) -> None:
    another = pki.chargers.issue(f"{charge_point_id}-b")
    provision(redis_url, charge_point_id, auth=BOTH)
    with told(gateway, "mtls_binding_mismatch", charge_point_id=charge_point_id, shown=another):
        assert door.status(shown=another) == 403


@pytest.mark.parametrize("peer", ["anybody", "a trusted proxy"])
@pytest.mark.parametrize("tls", [True, False])
def test_headers_claim_no_certificate(
    gateway: Gateway, door: Door, redis_url: str, charge_point_id: str, address: str, peer: str, tls: bool
) -> None:
    provision(redis_url, charge_point_id, auth={"type": "mtls"})
    pem = quote(door.certificate.cert_pem.decode())
    claims = {
        "X-Client-Cert": pem,
        "X-SSL-Client-Cert": pem,
        "X-SSL-Client-Verify": "SUCCESS",
        "X-SSL-Client-S-DN": f"CN={charge_point_id}",
        "X-Forwarded-Client-Cert": f'Hash={door.certificate.fingerprint.lower()};Cert="{pem}"',
        "Client-Cert": ":" + "".join(door.certificate.cert_pem.decode().split("\n")[1:-2]) + ":",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": address,
    }
    source = PROXY if peer == "a trusted proxy" else address
    assert door.status(headers=claims, tls=tls, address=source) == 403
    line = gateway.wait_for("handshake.refused", peer=address)
    assert (line["reason"], line["charge_point_id"]) == ("mtls_missing_cert", charge_point_id)
    assert line["certificate"] is None


def test_a_header_does_not_make_a_connection_secure(
    gateway: Gateway, door: Door, redis_url: str, told: Any, charge_point_id: str, address: str
) -> None:
    provision(redis_url, charge_point_id, minSecurityProfile=2)
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": address}
    with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
        assert door.status(password=True, tls=False, headers=headers) == 403
    assert door.status(password=True, tls=False, headers=headers, address=PROXY) == 101  # there it was decrypted


# From a higher security profile to a lower one.


def kept(redis: redis_py.Redis, charge_point_id: str, profile: bytes) -> None:
    """Wait for it: the charge point has its answer a moment before."""
    key = f"security-profiles:{charge_point_id}"
    until(lambda: redis.get(key) == profile, f"{profile!r} in {key}")


def test_who_came_with_a_certificate_does_not_get_in_with_a_password(
    gateway: Gateway, door: Door, redis: redis_py.Redis, redis_url: str, told: Any, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=BOTH)
    assert door.status(password=True) == 101
    kept(redis, charge_point_id, b"2")
    assert door.status(shown=door.certificate) == 101
    kept(redis, charge_point_id, b"3")

    with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
        assert door.status(password=True) == 403
    assert redis.get(f"security-profiles:{charge_point_id}") == b"3"
    assert door.status(shown=door.certificate) == 101

    provision(redis_url, charge_point_id, auth=BOTH, allowProfileDowngrade=True)
    assert door.status(password=True) == 101
    kept(redis, charge_point_id, b"2")


def test_who_came_over_tls_does_not_get_in_without(
    gateway: Gateway, door: Door, redis: redis_py.Redis, redis_url: str, told: Any, charge_point_id: str
) -> None:
    assert door.status(password=True, tls=False) == 101
    assert door.status(password=True) == 101
    kept(redis, charge_point_id, b"2")
    with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
        assert door.status(password=True, tls=False) == 403
    provision(redis_url, charge_point_id, allowProfileDowngrade=True)
    assert door.status(password=True, tls=False) == 101


def test_a_handshake_that_is_given_up_shuts_nobody_out(
    gateway: Gateway, gate: RedisGate, door: Door, pki: Pki, redis: redis_py.Redis, redis_url: str, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=BOTH)
    assert door.status(password=True) == 101
    kept(redis, charge_point_id, b"2")
    until(lambda: not redis.exists(f"sessions:{charge_point_id}"), "the first session to be over")

    gate.hold(f"session-epochs:{charge_point_id}")
    try:
        with TlsSocket(gateway.ocpp_port, pki.client(door.certificate)) as charger:
            charger.send(handshake(f"/ocpp/{charge_point_id}"))
            assert gate.held.wait(10), "no claim was on its way"
    finally:
        gate.release()
    until(lambda: redis.get(f"session-epochs:{charge_point_id}") == b"2", "the claim")
    until(lambda: not redis.exists(f"sessions:{charge_point_id}"), "the claim to be given back")

    assert redis.get(f"security-profiles:{charge_point_id}") == b"2"
    assert door.status(password=True) == 101


def test_a_redis_that_lost_its_data_knows_again_who_came_with_a_certificate(
    gateway: Gateway, door: Door, pki: Pki, redis: redis_py.Redis, redis_url: str, told: Any, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=BOTH)
    with TlsSocket(gateway.ocpp_port, pki.client(door.certificate)) as connected:
        assert connected.upgrade(charge_point_id).status == 101
        kept(redis, charge_point_id, b"3")
        redis.flushall()
        kept(redis, charge_point_id, b"3")
        provision(redis_url, charge_point_id, auth=BOTH)
        with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
            assert door.status(password=True) == 403
        connected.send(frame(b'[2,"1","Heartbeat",{}]'))
        assert connected.frame().payload.startswith(b'[3,"1",')


def test_an_attempt_at_a_downgrade_ends_no_session(
    gateway: Gateway, door: Door, pki: Pki, redis: redis_py.Redis, redis_url: str, told: Any, charge_point_id: str
) -> None:
    provision(redis_url, charge_point_id, auth=BOTH)
    with TlsSocket(gateway.ocpp_port, pki.client(door.certificate)) as connected:
        assert connected.upgrade(charge_point_id).status == 101
        kept(redis, charge_point_id, b"3")
        with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
            assert door.status(password=True) == 403
        connected.send(frame(b'[2,"1","Heartbeat",{}]'))
        assert connected.frame().payload.startswith(b'[3,"1",')


@pytest.mark.parametrize(("least", "tls"), [(2, False), (3, True), (3, False)])
def test_a_record_can_demand_a_security_profile(
    gateway: Gateway, door: Door, redis_url: str, told: Any, charge_point_id: str, least: int, tls: bool
) -> None:
    # The demand holds whatever else is allowed.
    provision(redis_url, charge_point_id, auth=BOTH, minSecurityProfile=least, allowProfileDowngrade=True)
    with told(gateway, "profile_downgrade", charge_point_id=charge_point_id):
        assert door.status(password=True, tls=tls) == 403
    assert door.status(shown=door.certificate) == 101


# A certificate that names the charge point's serial number instead of its identity.


def boot(gateway: Gateway, pki: Pki, shown: Issued, charge_point_id: str, version: str, serial: str | None) -> Any:
    """The answer to a BootNotification that names ``serial``, or what came instead of one."""
    charging_station = {"model": "M", "vendorName": "V", **({} if serial is None else {"serialNumber": serial})}
    payload: dict[str, Any] = {"reason": "PowerUp", "chargingStation": charging_station}
    if version == "1.6":
        payload = {"chargePointModel": "M", "chargePointVendor": "V", "chargePointSerialNumber": serial}
    url = f"wss://127.0.0.1:{gateway.ocpp_port}/ocpp/{version}/{charge_point_id}"

    async def session() -> Any:
        async with websocket(url, charge_point_id, f"ocpp{version}", headers={}, ssl=pki.client(shown)) as connection:
            await connection.send(json.dumps([2, "boot", "BootNotification", payload]))
            try:
                return json.loads(await asyncio.wait_for(connection.recv(), 10))
            except ConnectionClosed as closed:
                return closed.rcvd

    return asyncio.run(session())


def bound(redis_url: str, pki: Pki, charge_point_id: str) -> Issued:
    shown = pki.chargers.issue("SN-4711")
    rules = {"type": "mtls", "certificates": [{"fingerprint": shown.fingerprint}]}
    provision(redis_url, charge_point_id, auth=rules)
    return shown


@pytest.mark.parametrize(("version", "serial"), [("2.0.1", "SN-4711"), ("2.1", "SN-4711"), ("1.6", "SN-4712")])
def test_the_device_that_a_certificate_was_issued_to_is_served(
    gateway: Gateway, pki: Pki, redis_url: str, tail: TopicTail, charge_point_id: str, version: str, serial: str
) -> None:
    shown = bound(redis_url, pki, charge_point_id)
    answer = boot(gateway, pki, shown, charge_point_id, version, serial)
    assert (answer[:2], answer[2]["status"]) == ([3, "boot"], "Accepted")
    kinds = [event["eventType"] for event in tail.of(charge_point_id, 3)]
    assert kinds == ["StationConnected", "StationBooted", "StationDisconnected"]


@pytest.mark.parametrize(("version", "serial"), [("2.0.1", "SN-4712"), ("2.1", "sn-4711"), ("2.0.1", None)])
def test_another_device_with_its_certificate_is_cut_off(
    gateway: Gateway,
    pki: Pki,
    redis_url: str,
    tail: TopicTail,
    security_events: TopicTail,
    charge_point_id: str,
    version: str,
    serial: str | None,
) -> None:
    shown = bound(redis_url, pki, charge_point_id)
    close = boot(gateway, pki, shown, charge_point_id, version, serial)
    assert (close.code, close.reason) == (1008, "Serial number is not the certificate's")
    published = tail.of(charge_point_id, 2)
    assert [event["eventType"] for event in published] == ["StationConnected", "StationDisconnected"]
    assert published[1]["payload"]["reason"] == "serial_number_mismatch"
    revoked = security_events.wait_for(
        lambda event: event["eventType"] == "SessionRevoked" and event["chargePointId"] == charge_point_id
    )
    assert revoked["payload"]["reason"] == "serial_number_mismatch"
    assert revoked["payload"]["certificate"] == shown.fingerprint
