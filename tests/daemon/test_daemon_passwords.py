"""Passwords that are changed by command: what lets a charge point in afterwards, and where the new one can be read."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from attrs import define, field
from confluent_kafka import Consumer, Message, TopicPartition
from support.back_end import COMMAND_EVENTS, REQUESTS, BackEnd, make_topics, read_by_all
from support.callers import Caller, until
from support.gateway import Gateway
from support.nodes import TOKEN, command, node
from support.raw_socket import RawSocket, handshake
from support.simulating import simulated
from support.stations import PASSWORD, SUBPROTOCOLS, auth_rules, basic, provision
from websockets.exceptions import ConnectionClosed

from ocpp_gateway.kafka.records import headers_of

SETTINGS = {
    "KAFKA_GROUP_ID": "passwords",
    "OCPP_RECHECK_SECONDS": "0.5",
    "LOG_LEVEL": "debug",
}


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    make_topics(brokers, REQUESTS, COMMAND_EVENTS)
    with node(redis_url, brokers, "passwords", **SETTINGS) as running:
        read_by_all(REQUESTS, running)
        yield running


@pytest.fixture(scope="module")
def back_end(brokers: str) -> Iterator[BackEnd]:
    with BackEnd(brokers) as back_end:
        yield back_end


@define(eq=False)
class Change:
    """A new password of its own, and the command that gives it."""

    version: str
    secret: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        # 1.6: bytes that are no text; 2.x: text.
        self.secret = secrets.token_bytes(20) if self.version == "1.6" else secrets.token_urlsafe(24).encode()

    @property
    def told(self) -> str:
        """As it is in the command."""
        return self.secret.hex().upper() if self.version == "1.6" else self.secret.decode()

    def request(self) -> tuple[str, dict[str, Any]]:
        if self.version == "1.6":
            return "ChangeConfiguration", {"key": "AuthorizationKey", "value": self.told}
        return "SetVariables", {
            "setVariableData": [
                _entry("ClockCtrlr", "TimeSource", attributeValue="Heartbeat"),
                _entry("SecurityCtrlr", "BasicAuthPassword", attributeValue=self.told),
            ]
        }

    def response(self, status: str) -> dict[str, Any]:
        if self.version == "1.6":
            return {"status": status}
        return {
            "setVariableResult": [
                _entry("ClockCtrlr", "TimeSource", attributeStatus="Accepted"),
                _entry("SecurityCtrlr", "BasicAuthPassword", attributeStatus=status),
            ]
        }

    def traces(self) -> set[bytes]:
        """Everything that would give the password away."""
        both = base64.b64encode(self.secret), base64.b64encode(self.told.encode())
        plain = {self.secret, self.told.encode(), self.told.lower().encode(), *(each.rstrip(b"=") for each in both)}
        return plain | {repr(self.secret)[2:-1].encode(), json.dumps(self.secret.decode("latin-1"))[1:-1].encode()}


def _entry(component: str, variable: str, **members: str) -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": variable}, **members}


def lets_in(gateway: Gateway, charge_point_id: str, version: str, password: str | bytes) -> int:
    """The status of a handshake with that password."""
    with RawSocket(gateway.ocpp_port) as connection:
        connection.send(
            handshake(
                f"/ocpp/{charge_point_id}",
                headers=list(basic(charge_point_id, password).items()),
                subprotocols=SUBPROTOCOLS[version],
            )
        )
        return connection.response().status


def told(point: Caller, back_end: BackEnd, change: Change, **members: Any) -> tuple[str, str]:
    """The change reaches the charge point: the command's id and the CALL's."""
    action, payload = change.request()
    command_id = back_end.ask(point.charge_point_id, action, payload, **members)
    kind, message_id, heard, asked = point.hear()
    assert (kind, heard, asked) == (2, action, payload)
    return command_id, message_id


def answers(point: Caller, message_id: str, payload: dict[str, Any]) -> None:
    point.socket.send(json.dumps([3, message_id, payload]))


def auth_of(redis: redis_py.Redis, charge_point_id: str) -> dict[str, Any]:
    raw: Any = redis.get(f"chargers:{charge_point_id}")
    auth: dict[str, Any] = json.loads(raw)["auth"]
    return auth


def is_settled(redis: redis_py.Redis, charge_point_id: str) -> bool:
    return not [name for name in auth_of(redis, charge_point_id) if name.startswith("next")]


def check_nowhere(change: Change, redis: redis_py.Redis, brokers: str, *gateways: Gateway) -> None:
    """Only the topic that the command came by knows the password."""
    traces = change.traces()

    def is_clean(text: bytes, where: str) -> None:
        found = [each for each in traces if each in text]
        assert not found, f"in {where}: {text[:300]!r}"

    is_there = False
    seen = set()
    for record in everything(brokers):
        # Other tests of the same Kafka write headers that cannot be read as they are.
        texts = (text for _, text in headers_of(record))
        parts = [part for part in (record.key(), record.value(), *texts) if isinstance(part, bytes)]
        seen.add(record.topic())
        if record.topic() == REQUESTS:
            is_there = is_there or any(each in part for each in traces for part in parts)
        else:
            is_clean(b"\n".join(parts), f"topic {record.topic()}")
    assert {REQUESTS, COMMAND_EVENTS, "ocpp.station.events"} <= seen
    assert is_there, "the search finds nothing at all"

    count = 0
    for key in redis.scan_iter(count=1000):
        is_clean(key, "a key of Redis")
        is_clean(redis.dump(key) or b"", f"Redis, as it is written to disk: {key!r}")
        for value in _values(redis, key):
            is_clean(value, f"Redis: {key!r}")
            count += 1
    assert count > 0

    for gateway in gateways:
        gateway.logged("")
        log = b"\n".join(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") for line in gateway.events)
        assert log
        is_clean(log, "the log")
        if gateway._process is not None and gateway._process.poll() is None:
            is_clean(_metrics(gateway), "/metrics")


def everything(brokers: str) -> Iterator[Message]:
    """What Kafka has, in all topics."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"test-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "log_level": 2,
        }
    )
    try:
        topics = consumer.list_topics(timeout=15).topics
        places = [TopicPartition(topic, part, 0) for topic, found in topics.items() for part in found.partitions]
        consumer.assign(places)
        left = len(places)
        while left:
            message = consumer.poll(15)
            assert message is not None, "reading took too long"
            error = message.error()
            if error is None:
                yield message
            else:
                assert error.name() == "_PARTITION_EOF", error
                left -= 1
    finally:
        consumer.close()


def _metrics(gateway: Gateway) -> bytes:
    with RawSocket(gateway.http_port) as connection:
        connection.send(
            f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
        )
        text = connection.rest()
    assert b"kafka_writable 1" in text
    return text


def _values(redis: redis_py.Redis, key: bytes) -> list[bytes]:
    kind: Any = redis.type(key)
    if kind == b"string":
        return [redis.get(key) or b""]  # type: ignore[list-item]
    if kind == b"hash":
        return [part for pair in redis.hgetall(key).items() for part in pair]  # type: ignore[union-attr]
    if kind == b"list":
        return redis.lrange(key, 0, -1)  # type: ignore[return-value]
    if kind == b"set":
        return list(redis.smembers(key))  # type: ignore[arg-type]
    if kind == b"zset":
        return redis.zrange(key, 0, -1)  # type: ignore[return-value]
    assert kind in (b"none", b"stream"), kind
    return []


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_an_accepted_password_counts_from_the_next_connection_on(
    gateway: Gateway,
    charge_point_id: str,
    back_end: BackEnd,
    redis: redis_py.Redis,
    brokers: str,
    version: str,
) -> None:
    change = Change(version)
    with Caller(gateway.url(""), charge_point_id, version) as point:
        command_id, message_id = told(point, back_end, change)
        answers(point, message_id, change.response("Accepted"))
        end = back_end.end_of(command_id)
        assert (end["eventType"], end["payload"]["accepted"]) == ("CommandAccepted", True)
        until(lambda: is_settled(redis, charge_point_id), "the new hash")
        auth = auth_of(redis, charge_point_id)
        digest = hashlib.sha256(auth["secretSalt"].encode() + change.secret).hexdigest()
        assert auth["secretHash"] == f"sha256${digest}"
        # Longer than sessions are left alone without being looked at.
        seconds: set[str] = set()
        until(
            lambda: seconds.add(point.call("Heartbeat", {})["currentTime"]) or len(seconds) > 3,
            "some seconds of the same session",
        )
    assert lets_in(gateway, charge_point_id, version, PASSWORD) == 401
    for _ in range(2):
        assert lets_in(gateway, charge_point_id, version, change.secret) == 101
    if version == "1.6":
        # Firmware that takes the digits for the password is let in too.
        assert lets_in(gateway, charge_point_id, version, change.told) == 101
    check_nowhere(change, redis, brokers, gateway)


@pytest.mark.parametrize("status", ["Rejected", "NotSupported"])
def test_a_refused_password_counts_for_nothing(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis, brokers: str, status: str
) -> None:
    before = auth_of(redis, charge_point_id)
    change = Change("1.6")
    with Caller(gateway.url(""), charge_point_id) as point:
        command_id, message_id = told(point, back_end, change)
        answers(point, message_id, change.response(status))
        end = back_end.end_of(command_id)
        assert (end["eventType"], end["payload"]["accepted"]) == ("CommandAccepted", False)
        until(lambda: is_settled(redis, charge_point_id), "the old record")
        assert auth_of(redis, charge_point_id) == before
        assert list(point.call("Heartbeat", {})) == ["currentTime"]
    assert lets_in(gateway, charge_point_id, "1.6", change.secret) == 401
    assert lets_in(gateway, charge_point_id, "1.6", PASSWORD) == 101
    check_nowhere(change, redis, brokers, gateway)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_each_variable_has_its_own_answer(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis, version: str
) -> None:
    """Another one of the same CALL is accepted, the password is not."""
    change = Change(version)
    with Caller(gateway.url(""), charge_point_id, version) as point:
        command_id, message_id = told(point, back_end, change)
        answers(point, message_id, change.response("Rejected"))
        back_end.end_of(command_id)
        until(lambda: is_settled(redis, charge_point_id), "the old record")
    assert lets_in(gateway, charge_point_id, version, change.secret) == 401
    assert lets_in(gateway, charge_point_id, version, PASSWORD) == 101


def test_a_callerror_leaves_the_old_one(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis
) -> None:
    change = Change("1.6")
    with Caller(gateway.url(""), charge_point_id) as point:
        command_id, message_id = told(point, back_end, change)
        point.socket.send(json.dumps([4, message_id, "NotSupported", "", {}]))
        assert back_end.end_of(command_id)["eventType"] == "CommandRejected"
    assert lets_in(gateway, charge_point_id, "1.6", PASSWORD) == 101
    until(lambda: is_settled(redis, charge_point_id), "one password")
    assert lets_in(gateway, charge_point_id, "1.6", change.secret) == 401


def test_a_password_that_none_can_have_is_not_sent(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis
) -> None:
    before = auth_of(redis, charge_point_id)
    with Caller(gateway.url(""), charge_point_id) as point:
        for value in ("", "xyz", "ABC", "00" * 41):
            command_id = back_end.ask(
                charge_point_id, "ChangeConfiguration", {"key": "authorizationkey", "value": value}
            )
            end = back_end.end_of(command_id)
            assert (end["eventType"], end["payload"]["reason"]) == ("CommandFailed", "payload_invalid")
            assert len(value) < 3 or value not in json.dumps(end)
        assert list(point.call("Heartbeat", {})) == ["currentTime"]  # nothing came before the answer
    assert auth_of(redis, charge_point_id) == before


def test_it_is_not_kept_for_who_is_offline(gateway: Gateway, charge_point_id: str, back_end: BackEnd) -> None:
    action, payload = Change("1.6").request()
    command_id = back_end.ask(charge_point_id, action, payload, deliverWithinSec=600)
    end = back_end.end_of(command_id)
    assert (end["eventType"], end["payload"]["reason"]) == ("CommandFailed", "secret_not_parkable")


SILENT, HANGS_UP = "silent", "hangs up"


@pytest.mark.parametrize("has_new", [True, False], ids=["came with the new one", "came with the old one"])
@pytest.mark.parametrize("how", [SILENT, HANGS_UP])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_if_the_confirmation_is_lost_either_lets_it_in_and_then_only_that_one(
    gateway: Gateway,
    charge_point_id: str,
    back_end: BackEnd,
    redis: redis_py.Redis,
    brokers: str,
    version: str,
    how: str,
    has_new: bool,
) -> None:
    change = Change(version)
    with Caller(gateway.url(""), charge_point_id, version) as point:
        command_id, _ = told(point, back_end, change, timeoutSec=2)
        if how == SILENT:
            end = back_end.end_of(command_id)
            assert end["payload"]["reason"] == "no_response"
            assert list(point.call("Heartbeat", {})) == ["currentTime"]
    end = back_end.end_of(command_id)
    assert (end["eventType"], end["payload"]["outcome"]) == ("CommandTimeout", "unknown")
    check_either_once(gateway, redis, charge_point_id, change, has_new=has_new)
    check_nowhere(change, redis, brokers, gateway)


def check_either_once(
    gateway: Gateway, redis: redis_py.Redis, charge_point_id: str, change: Change, *, has_new: bool
) -> None:
    assert not is_settled(redis, charge_point_id)
    used, other = (change.secret, PASSWORD) if has_new else (PASSWORD, change.secret)
    # Guessing settles nothing.
    assert lets_in(gateway, charge_point_id, change.version, "a guess") == 401
    assert not is_settled(redis, charge_point_id)
    assert lets_in(gateway, charge_point_id, change.version, used) == 101
    until(lambda: is_settled(redis, charge_point_id), "one password")
    assert lets_in(gateway, charge_point_id, change.version, other) == 401
    assert lets_in(gateway, charge_point_id, change.version, used) == 101


@pytest.mark.parametrize("has_new", [True, False], ids=["came with the new one", "came with the old one"])
def test_a_gateway_that_is_killed_meanwhile_lets_either_in_once(
    redis_url: str,
    brokers: str,
    charge_point_id: str,
    back_end: BackEnd,
    redis: redis_py.Redis,
    has_new: bool,
) -> None:
    settings = {
        **SETTINGS,
        "KAFKA_GROUP_ID": f"killed-{charge_point_id}",
        "NODE_TTL_SECONDS": "4",
        "NODE_HEARTBEAT_SECONDS": "1",
    }
    change = Change("1.6")
    node_id = f"passwords-{charge_point_id}"
    with node(redis_url, brokers, node_id, **settings) as first, Caller(first.url(""), charge_point_id) as point:
        command_id, _ = told(point, back_end, change)
        first.kill()
        with pytest.raises(ConnectionClosed):
            point.hear()
    with node(redis_url, brokers, node_id, **settings) as second:
        check_either_once(second, redis, charge_point_id, change, has_new=has_new)
        end = back_end.end_of(command_id, seconds=40)
        assert (end["eventType"], end["payload"]["outcome"]) == ("CommandTimeout", "unknown")
        check_nowhere(change, redis, brokers, first, second)


def test_two_in_a_row(gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis: redis_py.Redis) -> None:
    """The first answer is lost, the second is there: only the last one counts."""
    first, second = Change("1.6"), Change("1.6")
    with Caller(gateway.url(""), charge_point_id) as point:
        command_id, _ = told(point, back_end, first, timeoutSec=1)
        assert back_end.end_of(command_id)["eventType"] == "CommandTimeout"
        command_id, message_id = told(point, back_end, second)
        answers(point, message_id, second.response("Accepted"))
        assert back_end.end_of(command_id)["eventType"] == "CommandAccepted"
        assert list(point.call("Heartbeat", {})) == ["currentTime"]
    until(lambda: is_settled(redis, charge_point_id), "one password")
    for password, status in ((PASSWORD, 401), (first.secret, 401), (second.secret, 101)):
        assert lets_in(gateway, charge_point_id, "1.6", password) == status


def test_an_operators_password_ends_the_session_all_the_same(
    gateway: Gateway, charge_point_id: str, back_end: BackEnd, redis_url: str
) -> None:
    """While a command's password is on its way, the operator gives another: nothing of the command counts then."""
    change = Change("1.6")
    with Caller(gateway.url(""), charge_point_id) as point:
        _, message_id = told(point, back_end, change)
        provision(redis_url, charge_point_id, auth=auth_rules("basic", "the operator's password"))
        answers(point, message_id, change.response("Accepted"))
        assert point.close_code() == 1008
    for password, status in ((PASSWORD, 401), (change.secret, 401), ("the operator's password", 101)):
        assert lets_in(gateway, charge_point_id, "1.6", password) == status


def test_the_same_from_a_terminal(
    gateway: Gateway, charge_point_id: str, redis: redis_py.Redis, redis_url: str, brokers: str, back_end: BackEnd
) -> None:
    """The simulated charge point comes with its new password; the audit record has none of it."""
    change = Change("1.6")
    action, payload = change.request()

    def comes(epoch: int) -> None:
        back_end.wait_for(
            lambda event: (
                (event.get("chargePointId"), event["eventType"]) == (charge_point_id, "StationBooted")
                and event["epoch"] >= epoch
            )
        )

    def does(*arguments: str) -> str:
        done = command("command", charge_point_id, *arguments, redis_url=redis_url, brokers=brokers)
        assert done.returncode == 0, done.stderr
        assert change.told not in done.stdout + done.stderr
        return done.stdout

    with simulated(gateway, charge_point_id):
        comes(1)
        reply = json.loads(does(action, json.dumps(payload), "--json"))
        until(lambda: is_settled(redis, charge_point_id), "the new hash")
        audit: Any = redis.get(f"command-audit:{reply['commandId']}")
        assert json.loads(audit)["requestPayload"]["key"] == "AuthorizationKey"
        does("Reset", '{"type":"Soft"}')
        comes(2)
    assert lets_in(gateway, charge_point_id, "1.6", PASSWORD) == 401
    check_nowhere(change, redis, brokers, gateway)
