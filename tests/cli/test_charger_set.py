"""``ocpp-gateway charger set`` against a real Redis and a real Kafka protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli.audit_events import audit_events
from cli.cli_runner import run, run_here
from cli.redis_by_hand import store, stored_bytes

from ocpp_gateway.auth.record import IdentityRecord

CREDENTIAL = {"type": "basic", "hashAlgorithm": "sha256", "secretHash": "h", "secretSalt": "s"}
BARE = {"stationId": "S", "tenantId": "T", "site": {"kept": True}, "auth": CREDENTIAL}


def put(place: dict[str, str], **members: Any) -> None:
    value = json.dumps({**BARE, **members}).encode()
    store(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:chargers:CP-1", value)


def raw(place: dict[str, str]) -> bytes:
    return stored_bytes(place["REDIS_URL"], f"{place['REDIS_PREFIX']}:chargers:CP-1") or b""


def test_rules_change_and_nothing_else(place: dict[str, str], kafka: str) -> None:
    with_kafka = {**place, "KAFKA_BROKERS": kafka}
    put(place)
    rules = ("--min-profile", "2", "--allow-downgrade", "--allow-expired-certificate")
    done = run("charger", "set", "CP-1", *rules, "--reason", "new meter", **with_kafka)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "CP-1 changed: minSecurityProfile 2 (before: none), allowProfileDowngrade true (before: false), "
        "allowExpiredCertificate true (before: false)\n"
    )
    assert "A connection that it has now, and may not have any more, ends within 5 seconds." in done.stderr
    assert "still needs security profile 2" in done.stderr
    record = IdentityRecord.parse(raw(place), "CP-1")
    assert (record.min_security_profile, record.allow_profile_downgrade, record.allow_expired_certificate) == (
        2,
        True,
        True,
    )
    after = json.loads(raw(place))
    assert after["auth"] == CREDENTIAL and after["site"] == {"kept": True}

    stored = raw(place)
    again = run("charger", "set", "CP-1", *rules, **with_kafka)
    assert again.returncode == 0 and again.stdout.startswith("CP-1 was so already: minSecurityProfile 2, allow")
    assert raw(place) == stored and "within 5 seconds" not in again.stderr

    undone = run("charger", "set", "CP-1", "--min-profile", "none", **with_kafka)
    assert undone.stdout == "CP-1 changed: minSecurityProfile none (before: 2)\n"
    assert undone.stderr == ""
    assert "minSecurityProfile" not in json.loads(raw(place))
    stricter = run("charger", "set", "CP-1", "--no-allow-expired-certificate", **place)
    assert stricter.stdout == "CP-1 changed: allowExpiredCertificate false (before: true)\n"
    assert "within 5 seconds" in stricter.stderr

    events = audit_events(kafka, 2)
    assert [(event["eventType"], event["payload"]["change"]) for event in events] == [
        ("ChargerIdentityUpserted", "changed"),
        ("ChargerIdentityUpserted", "changed"),
    ]
    assert events[0]["payload"]["reason"] == "new meter"


def test_less_is_no_news_for_a_connection_that_is_there(place: dict[str, str]) -> None:
    put(place, minSecurityProfile=2)
    for options in (("--min-profile", "1"), ("--allow-downgrade",), ("--allow-expired-certificate",)):
        done = run("charger", "set", "CP-1", *options, **place)
        assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    ("auth", "may"),
    [
        ({"type": "basic"}, False),
        ({"type": "token", "allowedTypes": ["token"]}, False),
        ({"type": "basic", "allowedTypes": ["basic", "Mtls"]}, True),
        ({"type": "mtls"}, True),
        ({}, True),
    ],
)
def test_profile_3_is_for_those_that_may_show_a_certificate(
    place: dict[str, str], auth: dict[str, Any], may: bool
) -> None:
    put(place, auth=auth)
    before = raw(place)
    done = run("charger", "set", "CP-1", "--min-profile", "3", **place)
    assert (done.returncode, raw(place) != before) == ((0, True) if may else (1, False))
    assert may or "cert bind CP-1 FILE" in done.stderr


def test_mistakes_are_explained(place: dict[str, str]) -> None:
    nothing = run_here("charger", "set", "CP-1", "--reason", "x")
    assert nothing.returncode == 2 and "--min-profile" in nothing.stderr
    absent = run("charger", "set", "CP-9", "--allow-downgrade", **place)
    assert absent.returncode == 1 and "no record of CP-9" in absent.stderr
    assert run_here("charger", "set", "CP-1", "--min-profile", "4").returncode == 2
