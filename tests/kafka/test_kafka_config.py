"""From environment and properties file to librdkafka's properties."""

from __future__ import annotations

import logging

import attrs
import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.errors import ConfigError
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.one_sided import CONSUMER_ONLY, PRODUCER_ONLY


def config(environ: dict[str, str] | None = None, brokers: str = "localhost:9092") -> KafkaConfig:
    return KafkaConfig.from_environ(environ or {}, brokers=brokers, client_id="ocpp-gateway")


def producer_properties(environ: dict[str, str] | None = None) -> dict[str, str | int | bool]:
    return config(environ).producer_properties(max_pending_messages=100, max_pending_bytes=1_000_000)


def problems(environ: dict[str, str] | None = None, brokers: str = "localhost:9092") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refusal:
        config(environ, brokers)
    return refusal.value.problems


@pytest.fixture
def properties(tmp_path):
    def write(text: str) -> dict[str, str]:
        path = tmp_path / "kafka.properties"
        path.write_text(text)
        return {"KAFKA_CONFIG_FILE": str(path)}

    return write


def test_durable_and_ordered_by_default():
    chosen = producer_properties()
    assert chosen["enable.idempotence"] is True
    assert chosen["acks"] == "all"
    assert chosen["partitioner"] == "murmur2_random"
    assert chosen["message.timeout.ms"] == 0
    assert chosen["compression.type"] == "none"
    assert chosen["bootstrap.servers"] == "localhost:9092"
    assert chosen["client.id"] == "ocpp-gateway"
    assert chosen["queue.buffering.max.messages"] > 100


def test_security_settings_come_from_variables_of_the_same_name():
    chosen = producer_properties(
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": "gateway",
            "KAFKA_SASL_PASSWORD": "p=w#d",
            "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "https",
            "KAFKA_SSL_CA_LOCATION": "",  # empty is not set
            "KAFKA_GROUP_ID": "not-ours",
        }
    )
    assert chosen["sasl.mechanism"] == "SCRAM-SHA-512"
    assert chosen["sasl.username"] == "gateway"
    assert chosen["sasl.password"] == "p=w#d"
    assert chosen["ssl.endpoint.identification.algorithm"] == "https"
    assert "ssl.ca.location" not in chosen
    assert "group.id" not in chosen


def test_the_file_has_the_last_word(properties):
    environ = properties("# ours\n\n linger.ms = 20 \n!too\nsasl.username=file\nmessage.timeout.ms=60000\n")
    chosen = producer_properties({**environ, "KAFKA_SASL_USERNAME": "variable"})
    assert chosen["linger.ms"] == "20"
    assert chosen["sasl.username"] == "file"
    assert chosen["message.timeout.ms"] == "60000"


def test_clients_that_do_not_produce_get_what_they_share(properties):
    chosen = config(properties("auto.offset.reset=earliest\n")).client_properties()
    assert chosen["auto.offset.reset"] == "earliest"
    assert "acks" not in chosen
    assert "linger.ms" not in chosen


def test_consumers_commit_what_they_are_told_to_and_miss_nothing():
    chosen = config().consumer_properties("ocpp-gateway")
    assert chosen["group.id"] == "ocpp-gateway"
    assert chosen["enable.auto.commit"] is True
    assert chosen["enable.auto.offset.store"] is False
    assert chosen["auto.offset.reset"] == "earliest"
    assert chosen["isolation.level"] == "read_committed"
    assert chosen["partition.assignment.strategy"] == "cooperative-sticky"
    assert (chosen["session.timeout.ms"], chosen["heartbeat.interval.ms"]) == (10_000, 3_000)
    assert chosen["bootstrap.servers"] == "localhost:9092"


def test_what_the_file_says_of_consumers_counts_but_for_the_guarantees(properties):
    environ = properties(
        "session.timeout.ms=45000\nsasl.username=file\nauto.offset.reset=smallest\nenable.auto.commit=1\n"
    )
    chosen = config({**environ, "KAFKA_SASL_PASSWORD": "x"}).consumer_properties("g")
    assert chosen["session.timeout.ms"] == "45000"
    assert (chosen["sasl.username"], chosen["sasl.password"]) == ("file", "x")
    assert (chosen["auto.offset.reset"], chosen["enable.auto.commit"]) == ("earliest", True)
    assert "session.timeout.ms" not in config(environ).producer_properties(max_pending_messages=1, max_pending_bytes=1)


VALUE_OF = {
    "acks": "all",
    "request.required.acks": "all",
    "compression.codec": "gzip",
    "compression.type": "gzip",
    "partitioner": "murmur2_random",
    "queuing.strategy": "fifo",
    "enable.idempotence": "true",
    "enable.gapless.guarantee": "true",
    "transaction.timeout.ms": "1000",
    "batch.num.messages": "1000",
    "batch.size": "100000",
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "group.protocol": "classic",
    "group.protocol.type": "consumer",
    "offset.store.method": "broker",
    "partition.assignment.strategy": "cooperative-sticky",
}
"""Where ``1`` is no value that the property takes."""


@pytest.mark.parametrize(("kind", "names"), [(Consumer, PRODUCER_ONLY), (Producer, CONSUMER_ONLY)])
def test_each_side_would_be_warned_of_what_is_the_others(kind, names):
    for name in names:
        warnings = Warnings()
        group = {"group.id": "g"} if kind is Consumer else {}
        client = kind({name: VALUE_OF.get(name, "1"), **group}, logger=warnings)
        client.poll(0)
        assert [text for text in warnings.texts if "will be ignored by this" in text], name
        client.close()


def test_neither_side_is_warned_when_a_file_has_settings_for_both(properties):
    environ = properties(
        "linger.ms=5\nacks=all\ncompression.type=lz4\nmessage.timeout.ms=60000\nqueue.buffering.max.messages=1000\n"
        "session.timeout.ms=6000\nfetch.min.bytes=1\nmax.poll.interval.ms=60000\nisolation.level=read_committed\n"
        "socket.timeout.ms=5000\n"
    )
    chosen = config(environ)
    warnings = Warnings()
    clients = [
        Consumer({**chosen.consumer_properties("g"), "bootstrap.servers": ""}, logger=warnings),
        Producer(
            {**chosen.producer_properties(max_pending_messages=1, max_pending_bytes=1), "bootstrap.servers": ""},
            logger=warnings,
        ),
    ]
    for client in clients:
        client.poll(0)
        client.close()
    assert [text for text in warnings.texts if "will be ignored by this" in text] == []


class Warnings(logging.Logger):
    def __init__(self) -> None:
        super().__init__("test")
        self.texts: list[str] = []

    def log(self, level: int, message: object, *args: object, **_: object) -> None:
        self.texts.append(str(message) % args)


@pytest.mark.parametrize(
    "line",
    [
        "acks=1",
        "acks=0",
        "request.required.acks=1",
        "enable.idempotence=false",
        "partitioner=consistent_random",
        "enable.auto.commit=false",
        "auto.commit.enable=false",
        "enable.auto.offset.store=true",
        "auto.offset.reset=latest",
        "isolation.level=read_uncommitted",
        "group.protocol=consumer",
        "partition.assignment.strategy=range",
    ],
)
def test_what_the_guarantees_rest_on_cannot_be_weakened(properties, line):
    [problem] = problems(properties(f"linger.ms=1\n{line}\n"))
    assert problem.startswith(f"KAFKA_CONFIG_FILE line 2: {line.partition('=')[0]}: ")
    assert "guarantees" in problem


def test_what_the_guarantees_rest_on_may_be_repeated(properties):
    chosen = producer_properties(properties("acks=-1\nenable.idempotence=TRUE\npartitioner=murmur2_random\n"))
    assert (chosen["acks"], chosen["enable.idempotence"]) == ("all", True)


@pytest.mark.parametrize(
    "line",
    [
        "bootstrap.servers=other:9092",
        "metadata.broker.list=other:9092",
        "group.id=x",
        "group.instance.id=x",
        "offset.store.method=file",
        "session.timeout.ms=soon",
        "max.poll.interval.ms=5",
        "transactional.id=x",
        "test.mock.num.brokers=3",
        "error_cb=x",
        "logger=x",
        "no.such.property=1",
        "linger.ms=soon",
        "linger.ms=-3",
        "security.protocol=bogus",
        "max.in.flight=9",
    ],
)
def test_a_wrong_property_is_named_with_its_line(properties, line):
    [problem] = problems(properties(f"\n{line}\n"))
    assert problem.startswith("KAFKA_CONFIG_FILE line 2: ")


def test_every_problem_is_told_at_once(properties):
    environ = properties("acks=1\nno.such.property=1\nnot a property\nbatch.num.messages=many\n=x\n")
    found = problems({**environ, "KAFKA_SASL_BOGUS": "1"}, brokers="localhost:9092,:1")
    expected = ["KAFKA_BROKERS", "KAFKA_SASL_BOGUS", *(f"KAFKA_CONFIG_FILE line {line}" for line in range(1, 6))]
    assert sorted(problem.partition(":")[0] for problem in found) == sorted(expected)


def test_settings_that_do_not_fit_together_are_refused():
    [problem] = problems({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"})
    assert "sasl.username" in problem


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    [problem] = problems({"KAFKA_CONFIG_FILE": str(tmp_path / "absent")})
    assert problem.startswith("KAFKA_CONFIG_FILE: ")
    (tmp_path / "binary").write_bytes(b"\xff\xfe=1")
    [problem] = problems({"KAFKA_CONFIG_FILE": str(tmp_path / "binary")})
    assert "UTF-8" in problem


@pytest.mark.parametrize(
    "brokers",
    ["localhost:9092", "a:1,b:2", "a, b", "[::1]:9092", "SASL_SSL://kafka.example.com:9093", "10.0.0.1", "embedded://"],
)
def test_brokers_that_can_be_meant(brokers):
    assert config(brokers=brokers).brokers == brokers


@pytest.mark.parametrize("brokers", ["", ",", "a:", "a:b", "a:0", "a:65536", "http://x:1", "a:1,,b:2", "a b:1"])
def test_brokers_that_cannot_be_meant(brokers):
    assert all(problem.startswith("KAFKA_BROKERS: ") for problem in problems(brokers=brokers))


def test_the_embedded_brokers_take_the_place_of_the_word():
    chosen = config(brokers="embedded://")
    assert chosen.is_embedded
    running = attrs.evolve(chosen, brokers="127.0.0.1:1234")
    assert not running.is_embedded
    assert running.client_properties()["bootstrap.servers"] == "127.0.0.1:1234"


def test_secrets_are_in_no_text():
    chosen = config(
        {
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": "gateway",
            "KAFKA_SASL_PASSWORD": "hunter2",
            "KAFKA_SSL_KEY_PASSWORD": "swordfish",
        }
    )
    for text in (repr(chosen), chosen.without_secrets("hunter2 is not swordfish")):
        assert "hunter2" not in text
        assert "swordfish" not in text
    [problem] = problems({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEY_PEM": "hunter2"})
    assert "hunter2" not in problem


NAMES = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True)
VALUES = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=30)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_whatever_the_file_holds_is_taken_or_refused_line_by_line(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("kafka") / "properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in lines), encoding="utf-8")
    try:
        chosen = config({"KAFKA_CONFIG_FILE": str(path)})
    except ConfigError as error:
        assert all(problem.startswith("KAFKA_CONFIG_FILE line ") for problem in error.problems)
    else:
        assert {entry.name: entry.value for entry in chosen.properties} == dict(lines)
