"""Commands that may wait for a charge point that is offline, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from support.callers import Caller, until
from support.gateway import Gateway
from support.mock_kafka import MockKafka
from support.requester import Requester, moment
from support.stations import provision

from ocpp_gateway.redis.embedded import EmbeddedRedis

RESET = ("Reset", {"type": "Soft"})
PARKED = 4


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    with Gateway(redis_url, brokers, OCPP_MAX_PARKED_COMMANDS=str(PARKED)) as running:
        yield running


@pytest.fixture(scope="module")
def requester(brokers: str, gateway: Gateway) -> Iterator[Requester]:
    with Requester(brokers, gateway) as asking:
        yield asking


def transfer(number: int) -> dict[str, Any]:
    return {"vendorId": "test", "data": str(number)}


def park(requester: Requester, charge_point_id: str, count: int, **members: Any) -> list[str]:
    """DataTransfers 0 to ``count`` - 1, each known to be parked."""
    members = {"deliverWithinSec": 60, **members}
    asked = [requester.ask(charge_point_id, "DataTransfer", transfer(each), **members) for each in range(count)]
    for each in asked:
        requester.wait(each, "CommandQueued")
    return asked


def take(charger: Caller, *numbers: int) -> None:
    """Hear these DataTransfers, in this order, and answer each."""
    for number in numbers:
        kind, message_id, action, payload = charger.hear()
        assert (kind, action, payload) == (2, "DataTransfer", transfer(number))
        charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))


BOOT = {"chargePointModel": "M", "chargePointVendor": "V"}
DELIVERED = ["CommandQueued", "CommandDispatched", "CommandAccepted"]


def nothing_is_left(redis: redis_py.Redis, charge_point_id: str, command_ids: list[str]) -> None:
    until(lambda: not redis.exists(f"parked-commands:{charge_point_id}"), "the end of the parked ones in Redis")
    assert [each for each in command_ids if redis.zscore("parked-deadlines", each) is not None] == []
    for each in command_ids:
        assert redis.hget(f"command-idempotency:{each}", "state") == b"done"
        assert redis.ttl(f"command-idempotency:{each}") > 0  # type: ignore[operator]


def test_delivered_after_the_boot_notification_in_order(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    asked = park(requester, charge_point_id, PARKED)
    queued = requester.wait(asked[0], "CommandQueued")
    assert queued["payload"].keys() == {"commandType", "deliverUntil"}
    assert moment(40) < queued["payload"]["deliverUntil"] < moment(60)
    with Caller(gateway.url(""), charge_point_id) as charger:
        # Nothing is heard before what the charge point itself says is answered.
        assert charger.call("BootNotification", BOOT)["status"] == "Accepted"
        take(charger, *range(PARKED))
        for each in asked:
            assert requester.wait(each, "CommandAccepted")["payload"]["accepted"] is True
            assert requester.types(each) == DELIVERED
        nothing_is_left(redis, charge_point_id, asked)
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


def test_delivered_to_one_that_says_nothing(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    (asked,) = park(requester, charge_point_id, 1)
    with Caller(gateway.url(""), charge_point_id, "2.1") as charger:
        take(charger, 0)
        requester.wait(asked, "CommandAccepted")
    assert requester.types(asked) == DELIVERED


def test_what_is_asked_later_comes_behind(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    parked = park(requester, charge_point_id, 3)
    with Caller(gateway.url(""), charge_point_id) as charger:
        later = [
            requester.ask(charge_point_id, "DataTransfer", transfer(3)),
            requester.ask(charge_point_id, "DataTransfer", transfer(4), deliverWithinSec=60),
        ]
        take(charger, 0, 1, 2, 3, 4)
        for each in (*parked, *later):
            requester.wait(each, "CommandAccepted")
    assert [requester.types(each) for each in later] == [DELIVERED[1:]] * 2  # connected: no need to wait


def test_one_that_is_connected_is_asked_at_once(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        asked = requester.ask(charge_point_id, "DataTransfer", transfer(0), deliverWithinSec=60)
        take(charger, 0)
        requester.wait(asked, "CommandAccepted")
    assert requester.types(asked) == DELIVERED[1:]


def test_nobody_comes_in_time(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    asked = park(requester, charge_point_id, 2, deliverWithinSec=2, timeoutSec=1)
    for each in asked:
        end = requester.ended(each)
        assert (end["eventType"], end["payload"]) == (
            "CommandFailed",
            {"commandType": "DataTransfer", "error": "Command expired", "reason": "command_expired"},
        )
        assert requester.wait(each, "CommandQueued")["payload"]["deliverUntil"] <= end["occurredAt"]
    nothing_is_left(redis, charge_point_id, asked)
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        # It may be asked for again, and nothing else is heard.
        requester.ask(charge_point_id, "DataTransfer", transfer(7), commandId=asked[0])
        take(charger, 7)
        assert requester.outcome(asked[0], number=2) == ("CommandAccepted", None)


def test_too_many(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    parked = park(requester, charge_point_id, PARKED)
    too_many = requester.ask(charge_point_id, "DataTransfer", transfer(PARKED), deliverWithinSec=60)
    end = requester.ended(too_many)
    assert (end["eventType"], end["payload"]) == (
        "CommandFailed",
        {"commandType": "DataTransfer", "error": "Too many commands parked", "reason": "parking_full"},
    )
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        take(charger, *range(PARKED))
        for each in parked:
            requester.wait(each, "CommandAccepted")
        requester.ask(charge_point_id, "DataTransfer", transfer(PARKED), commandId=too_many)
        take(charger, PARKED)
        assert requester.outcome(too_many, number=2) == ("CommandAccepted", None)


@pytest.mark.parametrize(
    ("command_type", "payload"),
    [
        ("ChangeConfiguration", {"key": "AuthorizationKey", "value": "A new password, 40 long: 1234567890-secret"}),
        ("UpdateFirmware", {"location": "ftp://user:th3-s3cr3t-1234567890@files.example/", "retrieveDate": moment()}),
    ],
)
def test_a_secret_is_not_written_down(
    gateway: Gateway,
    requester: Requester,
    redis: redis_py.Redis,
    charge_point_id: str,
    command_type: str,
    payload: dict[str, Any],
) -> None:
    asked = requester.ask(charge_point_id, command_type, payload, deliverWithinSec=60)
    end = requester.ended(asked)
    assert (end["eventType"], end["payload"]) == (
        "CommandFailed",
        {
            "commandType": command_type,
            "error": "Command with a secret cannot be parked",
            "reason": "secret_not_parkable",
        },
    )
    texts: list[str] = [str(redis.hgetall(key)) for key in redis.scan_iter("command-*", _type="hash")]
    texts += [str(redis.get(key)) for key in redis.scan_iter("*", _type="string")]
    assert asked in str(list(redis.scan_iter("command-idempotency:*")))
    assert [text for text in texts if "1234567890" in text] == []


def test_a_parked_one_comes_again(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    (asked,) = park(requester, charge_point_id, 1)
    requester.ask(charge_point_id, "DataTransfer", transfer(1), commandId=asked, deliverWithinSec=60)
    requester.wait(asked, "CommandDuplicate")
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        take(charger, 0)
        requester.wait(asked, "CommandAccepted")
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


def test_what_the_version_has_not_is_found_out_when_it_comes(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    change = {"key": "HeartbeatInterval", "value": "60"}
    wrong = requester.ask(charge_point_id, "ChangeConfiguration", change, deliverWithinSec=60)
    broken = requester.ask(charge_point_id, "Reset", {"type": 1}, deliverWithinSec=60)
    unknown = requester.ask(charge_point_id, "MakeCoffee", {}, deliverWithinSec=60)
    for each in (wrong, broken, unknown):
        requester.wait(each, "CommandQueued")
    (fine,) = park(requester, charge_point_id, 1)
    with Caller(gateway.url(""), charge_point_id, "2.0.1") as charger:
        charger.call("Heartbeat", {})
        take(charger, 0)
        assert requester.outcome(wrong) == ("CommandFailed", "not_in_version")
        assert requester.outcome(broken) == ("CommandFailed", "payload_invalid")
        assert requester.outcome(unknown) == ("CommandFailed", "unsupported_command")
        assert requester.outcome(fine) == ("CommandAccepted", None)
        nothing_is_left(redis, charge_point_id, [wrong, broken, unknown, fine])


def test_it_leaves_again_in_between(
    gateway: Gateway, requester: Requester, redis: redis_py.Redis, charge_point_id: str
) -> None:
    asked = park(requester, charge_point_id, PARKED)
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        take(charger, 0)
        assert charger.hear()[3] == transfer(1)  # never answered
    assert requester.outcome(asked[0]) == ("CommandAccepted", None)
    assert requester.outcome(asked[1]) == ("CommandTimeout", "connection_lost")
    gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    # The others were not sent, and wait on.
    with Caller(gateway.url(""), charge_point_id, "2.1") as charger:
        charger.call("Heartbeat", {})
        take(charger, 2, 3)
        assert [requester.outcome(each) for each in asked[2:]] == [("CommandAccepted", None)] * 2
        nothing_is_left(redis, charge_point_id, asked)
    assert requester.types(asked[3]) == DELIVERED


def test_one_in_the_outbox_waits_on_when_the_connection_ends(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        sent = requester.ask(charge_point_id, *RESET)
        assert charger.hear()[2] == "Reset"
        waits = requester.ask(charge_point_id, "DataTransfer", transfer(0), deliverWithinSec=60)
        gives_up = requester.ask(charge_point_id, "DataTransfer", transfer(1))
    assert requester.outcome(sent) == ("CommandTimeout", "connection_lost")
    end = requester.outcome(gives_up)
    assert end[0] == "CommandFailed"
    assert end[1] in ("connection_lost", "charge_point_offline")
    requester.wait(waits, "CommandQueued")
    with Caller(gateway.url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        take(charger, 0)
        assert requester.outcome(waits) == ("CommandAccepted", None)


def test_parked_while_redis_had_lost_the_session(charge_point_id: str) -> None:
    """As after a failover to a replica that lacks the last writes: nobody finds the charge point, which is here."""
    with EmbeddedRedis() as server, MockKafka() as kafka, Requester(kafka.brokers) as requester:
        provision(server.url, charge_point_id)
        with (
            redis_py.Redis.from_url(server.url) as redis,
            Gateway(server.url, kafka.brokers, SESSION_TTL_SECONDS="15") as gateway,
            Caller(gateway.url(""), charge_point_id) as charger,
        ):
            charger.call("Heartbeat", {})
            for number in range(5):
                redis.delete(f"sessions:{charge_point_id}")
                asked = requester.ask(charge_point_id, "DataTransfer", transfer(number), deliverWithinSec=60)
                seen = requester.wait(asked, "CommandQueued", "CommandDispatched")
                take(charger, number)
                assert requester.outcome(asked) == ("CommandAccepted", None)
                if seen["eventType"] == "CommandQueued":  # else the record was back before the command was read
                    break
            assert requester.types(asked) == DELIVERED


def test_parked_ones_survive_their_gateway(charge_point_id: str) -> None:
    # With a Kafka of its own: two groups would each carry every command out.
    with EmbeddedRedis() as server, MockKafka() as kafka, Requester(kafka.brokers) as requester:
        provision(server.url, charge_point_id)
        with redis_py.Redis.from_url(server.url) as redis:
            redis.rename(f"chargers:{charge_point_id}", f"gw:chargers:{charge_point_id}")
        with Gateway(server.url, kafka.brokers, NODE_ID="first", REDIS_PREFIX="gw"):
            asked = park(requester, charge_point_id, 3)
        with Gateway(server.url, kafka.brokers, NODE_ID="second", REDIS_PREFIX="gw") as second:
            with Caller(second.url(""), charge_point_id) as charger:
                charger.call("Heartbeat", {})
                take(charger, 0, 1, 2)
                assert [requester.outcome(each) for each in asked] == [("CommandAccepted", None)] * 3
            assert [requester.types(each) for each in asked] == [DELIVERED] * 3
            with redis_py.Redis.from_url(server.url) as redis:
                keys: Any = redis.keys("*")
                assert [key for key in keys if not key.startswith(b"gw:")] == []
                assert {f"gw:command-audit:{each}".encode() for each in asked} <= set(keys)
