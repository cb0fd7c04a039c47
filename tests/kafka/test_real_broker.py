"""What only a real Apache Kafka shows: a broker of its own, to be frozen, killed and configured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from support.kafka_broker import KafkaBroker
from support.kafka_reader import read_topic
from support.told_log import told as told_log
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.commands.publisher import CommandEvents
from ocpp_gateway.commands.states import Final
from ocpp_gateway.errors import BusUnavailable

pytestmark = pytest.mark.kafka_broker

COMMAND = [sys.executable, str(Path(__file__).resolve().parent.parent / "support" / "kafka_broker.py")]


@pytest.fixture(scope="module")
def broker():
    with KafkaBroker() as running:
        yield running


@pytest.fixture
def impatient(tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text("socket.timeout.ms=1000\nrequest.timeout.ms=1000\n")
    return {"KAFKA_CONFIG_FILE": str(path)}


async def test_each_record_once_and_in_order_through_a_kill_and_restart_of_the_broker(
    broker, topic, producing, publish, quiet
):
    async with producing(broker.brokers, log=quiet.log, topics=(topic,)) as producer:
        await producer.check(30.0)
        outcomes: list[Deferred[BusUnavailable | None]] = []

        async def stream(start: int) -> None:
            for number in range(start, start + 200):
                outcomes.append(publish(producer, topic, b"%d" % number))
                await deferLater(reactor, 0.001)

        await stream(0)
        broker.kill()
        await stream(200)
        await deferToThread(broker.restart)
        await stream(400)
        assert await gatherResults(outcomes) == [None] * 600
    assert [record.value for record in read_topic(broker.brokers, topic)] == [b"%d" % number for number in range(600)]
    assert quiet.at_least("error") == []


async def test_each_record_once_and_in_order_when_the_broker_hangs(broker, topic, producing, publish, impatient, quiet):
    """Requests time out and are sent again, and the broker gets both in the end: it knows the second by its number."""
    async with producing(broker.brokers, environ=impatient, log=quiet.log, topics=(topic,)) as producer:
        await producer.check(30.0)
        assert await publish(producer, topic, b"before") is None
        with broker.frozen():
            outcomes = [publish(producer, topic, b"%d" % number) for number in range(50)]
            await deferLater(reactor, 3.0)
            assert [outcome for outcome in outcomes if outcome.called] == []
        assert await gatherResults(outcomes) == [None] * 50
    values = [record.value for record in read_topic(broker.brokers, topic)]
    assert values == [b"before", *(b"%d" % number for number in range(50))]
    assert quiet.at_least("error") == []


async def test_what_a_restarted_broker_confirmed_before_is_still_there(broker, topic, producing, publish):
    async with producing(broker.brokers) as producer:
        assert await publish(producer, topic, b"kept") is None
    await deferToThread(broker.stop_keeping_data)
    await deferToThread(broker.restart)
    assert [record.value for record in read_topic(broker.brokers, topic)] == [b"kept"]


async def test_a_topic_is_created_where_the_broker_does_that(broker, topic, producing, publish):
    async with producing(broker.brokers, topics=(topic, topic + ".unused")) as producer:
        await producer.check(30.0)
        assert await publish(producer, topic + ".unheard-of", b"x") is None
    assert len(read_topic(broker.brokers, topic + ".unused")) == 0
    assert len(read_topic(broker.brokers, topic + ".unheard-of")) == 1


async def test_a_missing_topic_is_told_and_used_once_somebody_has_created_it(
    topic, producing, publish, tmp_path, quiet
):
    path = tmp_path / "kafka.properties"
    path.write_text("topic.metadata.propagation.max.ms=1000\n")
    with KafkaBroker(auto_create_topics=False) as strict:
        environ = {"KAFKA_CONFIG_FILE": str(path)}
        async with producing(strict.brokers, environ=environ, log=quiet.log, topics=(topic,)) as producer:
            failure = await publish(producer, topic, b"x")
            assert failure is not None
            assert failure.reason == "kafka_topic_unknown"
            with pytest.raises(BusUnavailable) as refusal:
                await producer.check(2.0)
            assert refusal.value.reason == "kafka_topic_unknown"
            assert topic in str(refusal.value)
            admin = AdminClient({"bootstrap.servers": strict.brokers})
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
            await producer.check(10.0)
            assert await publish(producer, topic, b"x") is None
    [warning] = [event for event in quiet.events if event["event"] == "kafka.delivery_failed"]
    assert warning["kind"] == "kafka_topic_unknown"


async def test_a_record_larger_than_the_brokers_limit_is_refused_for_good(broker, topic, producing, publish, tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text("message.max.bytes=4000000\n")
    async with producing(broker.brokers, environ={"KAFKA_CONFIG_FILE": str(path)}) as producer:
        failure = await publish(producer, topic, bytes(2_000_000))
        assert failure is not None
        assert failure.reason == "kafka_record_too_large"
        assert await publish(producer, topic, b"small") is None


async def test_where_a_topic_takes_only_small_records_each_command_is_told_of_all_the_same(
    broker, topic, producing, quiet
):
    admin = AdminClient({"bootstrap.servers": broker.brokers})
    admin.create_topics([NewTopic(topic, 1, 1, config={"max.message.bytes": "3000"})])[topic].result(30)

    async def search(event_ids: set[str], since_ms: int) -> set[str]:
        raise AssertionError("what was refused is not there")

    def final(number: int, response: dict[str, str]) -> Final:
        event = {"eventType": "CommandAccepted", "payload": {"accepted": True, "response": response}}
        return Final(f"e-{number}", b"CP-001", json.dumps(event).encode(), [("ce_id", b"e-%d" % number)])

    # All in one batch, which the broker refuses as a whole.
    told = [
        final(0, {"status": "Accepted", "data": "x" * 5000}),
        *(final(each, {"status": "Accepted"}) for each in (1, 2)),
    ]
    async with producing(broker.brokers, log=quiet.log, topics=(topic,)) as producer:
        await producer.check(30.0)
        events = CommandEvents(bus=producer, topic=topic, search=search, clock=SystemClock(reactor))
        with told_log() as lines:
            await gatherResults([Deferred.fromCoroutine(events.publish_final(each)) for each in told])
    read = {
        dict(each.headers)["ce_id"]: json.loads(each.value)["payload"] for each in read_topic(broker.brokers, topic)
    }
    assert read.pop(b"e-0") == {"accepted": True, "response": {}, "responseOmitted": "kafka_record_too_large"}
    assert set(read) == {b"e-1", b"e-2"}
    assert [event["event"] for event in lines if event["event"] == "event.lost"] == []
    assert quiet.at_least("error") == []


def test_the_command_runs_another_with_a_broker_and_ends_as_it_did():
    script = "import os, sys; print(os.environ['KAFKA_BROKERS']); sys.exit(7)"
    ran = subprocess.run(
        [*COMMAND, "--", sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 7
    assert ran.stdout.startswith("127.0.0.1:")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_broker_ends_with_the_command_however_it_ends(how):
    script = "import os, time; print(os.environ['KAFKA_BROKERS'], flush=True); time.sleep(60)"
    # Whoever runs the tests in the background may have SIGINT ignored, and so would all that they start.
    hearing = ["env", "--default-signal=INT", *COMMAND, "--", sys.executable, "-c", script]
    with subprocess.Popen(hearing, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        port = running.stdout.readline().strip().rpartition(":")[2]
        brokers = _processes_naming("kafka.Kafka", parent=running.pid)
        script_pids = _processes_naming("time.sleep", parent=running.pid)
        assert len(brokers) == len(script_pids) == 1
        assert port.isdigit()
        running.send_signal(how)
        status = running.wait(60)
        if how is signal.SIGKILL:  # nobody is left to end the command, but the broker does not outlive us
            for pid in script_pids:
                os.kill(pid, signal.SIGKILL)
    assert status == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[how]
    _wait_until_gone(brokers[0])


def _processes_naming(text: str, *, parent: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "--parent", str(parent), "--full", text], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def _wait_until_gone(pid: int) -> None:
    """A process ends when its file descriptor (pidfd) becomes readable."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 10.0)[0], "the broker is still there"
    finally:
        os.close(descriptor)
