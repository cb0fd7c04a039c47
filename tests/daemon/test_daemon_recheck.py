"""Live sessions: what an operator changes in Redis or in a CRL ends those that it concerns, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.callers import frozen, until
from support.certificates import Pki
from support.gateway import Gateway
from support.kafka_broker import steady_ports
from support.live_points import World, write_crl
from support.raw_socket import RawCharger, metric
from support.stations import auth_rules, basic
from support.topic_tail import TopicTail

from ocpp_gateway.redis.embedded import EmbeddedRedis

CLI = Path(sys.executable).with_name("ocpp-gateway")
SOON = 5.0
"""Seconds within which a change has to count."""

TEXTS = {
    "identity_missing": "Unknown charge point",
    "status_inactive": "Not active",
    "protocol_not_allowed": "OCPP version not allowed",
    "ip_not_allowed": "Address not allowed",
    "auth_mode_not_allowed": "Kind of credential not allowed",
    "profile_downgrade": "Security profile too low",
    "credential_changed": "Credential has changed",
    "identity_changed": "Charge point has moved",
    "mtls_revoked": "Certificate revoked",
    "mtls_binding_missing": "Certificate not accepted",
    "mtls_binding_mismatch": "Certificate not accepted",
    "mtls_organization_not_allowed": "Certificate not accepted",
}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(port=steady_ports()[0]) as server:
        yield server


@pytest.fixture(scope="module")
def settings(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    crl = tmp_path_factory.mktemp("recheck") / "chargers.crl"
    write_crl(crl, pki)
    # How often sessions are looked at is left as it is: SOON holds for the default.
    more = {"OCPP_TLS_RELOAD_SECONDS": "0.5", "OCPP_REQUIRE_CERT_BINDING": "true", "REDIS_TIMEOUT": "0.5"}
    return pki.settings("optional", crl) | more


@pytest.fixture(scope="module")
def world(redis_server: EmbeddedRedis, brokers: str, pki: Pki, settings: dict[str, str]) -> Iterator[World]:
    (plain,) = steady_ports()
    with Gateway(redis_server.url, brokers, WEBSOCKET_OCPP_EXTRA_PORTS=f"{plain}=plain", **settings) as gateway:
        yield World(redis_server, gateway, pki, Path(settings["OCPP_TLS_CRL_PATH"]), plain)


@pytest.fixture(scope="module")
def station_events(brokers: str) -> Iterator[TopicTail]:
    with TopicTail(brokers, "ocpp.station.events") as tail:
        yield tail


Change = Callable[[World, str], object]

# What ends a session: the reason, the kind of credential, and what is done.
ENDS: dict[str, tuple[str, str, Change]] = {
    "disabled": ("status_inactive", "basic", lambda world, each: world.write(each, status="inactive")),
    "version": ("protocol_not_allowed", "basic", lambda world, each: world.write(each, allowedProtocols=["2.0.1"])),
    "ips": ("ip_not_allowed", "basic", lambda world, each: world.write(each, allowedIps=["127.0.0.2"])),
    "cidrs": ("ip_not_allowed", "mtls", lambda world, each: world.write(each, allowedCidrs=["10.0.0.0/8"])),
    "deleted": ("identity_missing", "mtls", lambda world, each: world.delete(each)),
    "station": ("identity_changed", "basic", lambda world, each: world.write(each, stationId="another")),
    "tenant": ("identity_changed", "mtls", lambda world, each: world.write(each, tenantId="another")),
    "password": ("credential_changed", "basic", lambda world, each: world.write(each, auth=auth_rules("basic", "new"))),
    "username": ("credential_changed", "basic", lambda world, each: world.write_auth(each, username="somebody")),
    "kind": ("auth_mode_not_allowed", "basic", lambda world, each: world.write_auth(each, type="token")),
    "kind-mtls": ("auth_mode_not_allowed", "mtls", lambda world, each: world.write_auth(each, type="basic")),
    "profile": ("profile_downgrade", "basic", lambda world, each: world.write(each, minSecurityProfile=3)),
    "redis": ("mtls_revoked", "mtls", lambda world, each: world.revoke_in_redis(each)),
    "record": ("mtls_revoked", "mtls", lambda world, each: world.revoke_in_record(each)),
    "binding": (
        "mtls_revoked",
        "mtls",
        lambda world, each: world.write_auth(each, certificates=world.bindings(each, status="revoked")),
    ),
    "crl": ("mtls_revoked", "mtls", lambda world, each: world.revoke_by_crl(each)),
    "unbound": ("mtls_binding_missing", "mtls", lambda world, each: world.write_auth(each, certificates=[])),
    "other": (
        "mtls_binding_mismatch",
        "mtls",
        lambda world, each: world.write_auth(each, certificates=[{"fingerprint": "AB" * 32}]),
    ),
    "organization": (
        "mtls_organization_not_allowed",
        "mtls",
        lambda world, each: world.write_auth(each, allowedOrganizations=["Another One"]),
    ),
}

# What does not.
STAYS: dict[str, tuple[str, Change]] = {
    "bystander": ("basic", lambda world, each: None),
    "bystander-mtls": ("mtls", lambda world, each: None),
    "same": ("basic", lambda world, each: world.write(each)),
    "spelling": (
        "mtls",
        lambda world, each: world.redis.set(
            f"chargers:{each}", json.dumps(dict(reversed(world.read(each).items())), indent=3)
        ),
    ),
    "unrelated": ("basic", lambda world, each: world.write(each, location={"city": "Arnhem"})),
    "not-json": ("basic", lambda world, each: world.redis.set(f"chargers:{each}", '{"status": "inac')),
    "wrong-type": ("basic", lambda world, each: world.write(each, status=0)),
    "wrong-key": ("basic", lambda world, each: world.write(each, chargePointId="CP-another")),
    "ips": ("basic", lambda world, each: world.write(each, allowedIps=["127.0.0.1", "127.0.0.2"])),
    "cidrs": ("mtls", lambda world, each: world.write(each, allowedCidrs=["127.0.0.0/24"])),
    "version": ("basic", lambda world, each: world.write(each, allowedProtocols=["1.6", "2.1"])),
    "profile": ("basic", lambda world, each: world.write(each, minSecurityProfile=2)),
    "profile-mtls": ("mtls", lambda world, each: world.write(each, minSecurityProfile=3)),
    "next": ("mtls", lambda world, each: world.write_auth(each, certificates=world.bindings(each, {"subject": "x"}))),
    "another-revoked": ("mtls", lambda world, each: world.write_auth(each, revokedFingerprints=["AB" * 32])),
    "organization": ("mtls", lambda world, each: world.write_auth(each, allowedOrganizations=["Example Charging"])),
    # A certificate is renewed over the connection that it has opened, so its own times do not count here.
    "window": (
        "mtls",
        lambda world, each: world.write_auth(each, certificates=world.bindings(each, validTo="2020-01-01T00:00:00Z")),
    ),
}


def closes(world: World, reason: str) -> float:
    return metric(world.gateway.http_port, "ocpp_closes_total", reason=reason)


def disconnected(station_events: TopicTail, charge_point_id: str) -> dict[str, Any]:
    """Its StationDisconnected."""
    wanted = charge_point_id, "StationDisconnected"
    return station_events.wait_for(lambda event: (event["chargePointId"], event["eventType"]) == wanted)


def check_what_is_told(
    world: World, charge_point_id: str, reason: str, security_events: TopicTail, station_events: TopicTail
) -> None:
    """Log, metrics and events agree on why the session ended."""
    line = world.gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    assert (line["close_reason"], line["close_code"], line["level"]) == (reason, 1008, "info")
    warning = world.gateway.wait_for("session.revoked", charge_point_id=charge_point_id)
    assert (warning["reason"], warning["level"]) == (reason, "warn")
    gone = disconnected(station_events, charge_point_id)
    assert (gone["payload"]["reason"], gone["payload"]["closeCode"]) == (reason, 1008)
    event = security_events.wait_for(lambda event: event.get("chargePointId") == charge_point_id)
    issued = world.issued.get(charge_point_id)
    assert (event["eventType"], event["stationId"]) == ("SessionRevoked", f"station-{charge_point_id}")
    assert event["payload"] == {
        "reason": reason,
        "peer": "127.0.0.1",
        "connectionId": line["connection_id"],
        "epoch": 1,
        **({} if issued is None else {"certificate": issued.fingerprint}),
    }


def test_what_ends_a_session_and_what_does_not(
    world: World, security_events: TopicTail, station_events: TopicTail
) -> None:
    ending = {name: world.enroll(name, kind) for name, (_, kind, _) in ENDS.items()}
    staying = {name: world.enroll(name, kind) for name, (kind, _) in STAYS.items()}
    with world.connected(*ending.values()) as ended, world.connected(*staying.values()) as stayed:
        counted = {reason: closes(world, reason) for reason in TEXTS}
        # First what must not count: whoever looks at the records of those that end has seen these too.
        for name, (_, change) in STAYS.items():
            change(world, staying[name])
        for name, (_, _, change) in ENDS.items():
            change(world, ending[name])
        deadline = time.monotonic() + SOON
        ends = {name: point.end(deadline) for name, point in zip(ENDS, ended, strict=True)}
        assert ends == {name: (1008, TEXTS[reason]) for name, (reason, _, _) in ENDS.items()}
        served = {name: point.is_served() for name, point in zip(STAYS, stayed, strict=True)}
        assert served == dict.fromkeys(STAYS, True)

        for name, (reason, _, _) in ENDS.items():
            check_what_is_told(world, ending[name], reason, security_events, station_events)
        expected = [reason for reason, _, _ in ENDS.values()]
        counts = {reason: closes(world, reason) - before for reason, before in counted.items()}
        assert counts == {reason: expected.count(reason) for reason in TEXTS}
        told = {line["charge_point_id"] for line in world.gateway.logged("session.revoked")}
        assert told.isdisjoint(staying.values())

        # Whatever was in a record before, the next change counts.
        for charge_point_id in staying.values():
            world.delete(charge_point_id)
        deadline = time.monotonic() + SOON
        ends = {name: point.end(deadline) for name, point in zip(STAYS, stayed, strict=True)}
        assert ends == dict.fromkeys(STAYS, (1008, TEXTS["identity_missing"]))


def test_a_certificate_that_a_new_crl_lists_is_out_and_the_others_of_its_authority_are_not(
    world: World, security_events: TopicTail, station_events: TopicTail
) -> None:
    revoked, other, by_password = world.enroll("crl", "mtls"), world.enroll("other", "mtls"), world.enroll("password")
    with world.connected(revoked, other, by_password) as (point, *bystanders):
        world.revoke_by_crl(revoked)
        assert point.end(time.monotonic() + SOON) == (1008, "Certificate revoked")
        assert [each.is_served() for each in bystanders] == [True, True]
    check_what_is_told(world, revoked, "mtls_revoked", security_events, station_events)


def test_a_change_made_by_the_command_line_ends_the_session_on_another_node(
    world: World, settings: dict[str, str], brokers: str
) -> None:
    disabled, revoked = world.enroll("disabled"), world.enroll("revoked", "mtls")
    here, there = world.enroll("here"), world.enroll("there", "mtls")
    certificate, _ = world.pki.write(world.issued[revoked])
    environ = {**os.environ, "REDIS_URL": world.server.url}
    with (
        Gateway(world.server.url, brokers, NODE_ID="node-b", **settings) as node_b,
        world.connected(here) as (bystander_here,),
        world.connected(disabled, revoked, there, gateway=node_b) as (*points, bystander_there),
    ):
        for command in (["charger", "disable", disabled], ["cert", "revoke", str(certificate)]):
            subprocess.run([CLI, *command], env=environ, check=True, capture_output=True, timeout=30)
        deadline = time.monotonic() + SOON
        assert [point.end(deadline) for point in points] == [(1008, "Not active"), (1008, "Certificate revoked")]
        for charge_point_id, reason in ((disabled, "status_inactive"), (revoked, "mtls_revoked")):
            line = node_b.wait_for("session.closed", charge_point_id=charge_point_id)
            assert (line["close_reason"], line["node_id"]) == (reason, "node-b")
        assert (bystander_here.is_served(), bystander_there.is_served()) == (True, True)
        assert {line["charge_point_id"] for line in node_b.logged("session.revoked")} == {disabled, revoked}
        assert all(line["charge_point_id"] != disabled for line in world.gateway.logged("session.revoked"))


def failed_looks(world: World) -> int:
    return sum("identity records" in line["name"] for line in world.gateway.logged("redis.periodic_failed"))


def test_a_frozen_redis_ends_nobody_and_what_was_changed_counts_when_it_is_back(world: World) -> None:
    names = world.enroll("first"), world.enroll("second", "mtls")
    with world.connected(*names) as (first, second):
        failed = failed_looks(world)
        with frozen(world.server):
            until(lambda: failed_looks(world) > failed, "a look that fails")
            assert (first.is_served(), second.is_served()) == (True, True)
        world.write(names[0], status="inactive")
        assert first.end(time.monotonic() + SOON) == (1008, "Not active")
        assert second.is_served()


def test_a_redis_that_lost_everything_ends_nobody(world: World) -> None:
    names = [world.enroll("first"), world.enroll("second", "mtls"), world.enroll("third"), world.enroll("fourth")]
    with world.connected(*names) as (first, second, third, fourth):
        records, store_id = [world.read(name) for name in names], world.redis.get("store-id")
        os.kill(world.server.pid, signal.SIGKILL)
        world.gateway.wait_for("redis.trouble")
        world.server.start()
        # One is put back, and disabled: by the time that it is out everybody has been looked at.
        world.redis.set(f"chargers:{names[0]}", json.dumps({**records[0], "status": "inactive"}))
        assert first.end(time.monotonic() + 2 * SOON) == (1008, "Not active")
        assert world.redis.get("store-id") not in (None, store_id)
        assert [point.is_served() for point in (second, third, fourth)] == [True, True, True]
        # A record that was put back is one again that can be deleted.
        for name, record in zip(names[1:3], records[1:3], strict=True):
            world.redis.set(f"chargers:{name}", json.dumps(record))
        world.write(names[2], tenantId="another")
        assert third.end(time.monotonic() + SOON) == (1008, "Charge point has moved")
        world.delete(names[1])
        assert second.end(time.monotonic() + SOON) == (1008, "Unknown charge point")
        assert fourth.is_served()


def test_who_does_not_mind_the_close_frame_is_cut_off_and_not_listened_to(
    world: World, station_events: TopicTail
) -> None:
    charge_point_id = world.enroll("mute")
    with RawCharger(world.plain_port, charge_point_id, basic(charge_point_id).items()) as mute:
        mute.call("1", "Heartbeat", {})
        world.write(charge_point_id, status="inactive")
        assert mute.socket.frame().close_code == 1008
        said = time.monotonic()
        mute.send([2, "2", "BootNotification", {"chargePointModel": "M", "chargePointVendor": "V"}])
        assert mute.socket.rest() == b""
        assert time.monotonic() - said < 6.0
    disconnected(station_events, charge_point_id)
    seen = [event["eventType"] for event in station_events.events if event["chargePointId"] == charge_point_id]
    assert seen == ["StationConnected", "StationHeartbeat", "StationDisconnected"]
    told = [line for line in world.gateway.logged("session.revoked") if line["charge_point_id"] == charge_point_id]
    assert len(told) == 1
