"""What nodes tell each other of commands: written, carried by a real Redis, and read."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from command_support import A, command
from hypothesis import given
from hypothesis import strategies as st
from redis_support import Listener, connected_client, reason_of

from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.states import CommandBus, Process, Taking
from ocpp_gateway.redis.bus_messages import CommandDone, CommandHandover, CommandTaken, CsmsAnswer, parse
from ocpp_gateway.redis.client import RedisClient
from ocpp_gateway.redis.command_bus import RedisCommandBus
from ocpp_gateway.redis.embedded import EmbeddedRedis

WHOLE = st.integers(0, 2**53)


@given(st.text(), WHOLE, st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63 - 1)))
def test_a_handover_is_read_as_it_was_written(origin: str, attempt: int, payload: dict[str, Any]) -> None:
    message = CommandHandover(command=command(payload=payload), origin=origin, attempt=attempt)
    assert parse(message.encode()) == message


@given(st.text(), st.text(), st.text(), st.sampled_from(Taking))
def test_what_became_of_it_is_read_as_it_was_written(command_id: str, node_id: str, born: str, result: Taking) -> None:
    taken = CommandTaken(command_id=command_id, process=Process(node_id, born), result=result)
    assert parse(taken.encode()) == taken
    done = CommandDone(command_id=command_id)
    assert parse(done.encode()) == done


@given(st.text(), st.binary())
def test_an_answer_of_the_csms_is_read_as_it_came(correlation_id: str, value: bytes) -> None:
    message = CsmsAnswer(correlation_id=correlation_id, value=value)
    assert parse(message.encode()) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TYPES = ["command_handover", "command_taken", "command_done", "csms_answer"]
TEXT_OF_A_COMMAND = command().encode().decode()
MEMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        **dict.fromkeys(["nodeId", "born", "from", "attempt", "correlationId"], JSON | st.text()),
        "commandId": st.just("c-1") | JSON,
        "command": st.just(TEXT_OF_A_COMMAND) | JSON,
        "result": st.just("taken") | JSON,
        "answer": st.just("AAAA") | st.text() | JSON,
    },
)


@given(MEMBERS.map(orjson.dumps))
def test_whatever_is_published_is_a_message_with_all_its_members_or_none(raw: bytes) -> None:
    match parse(raw):
        case None:
            members = orjson.loads(raw)
            assert not (members["type"] == "command_done" and type(members.get("commandId")) is str)
        case CommandHandover(command=read, origin=origin, attempt=attempt):
            assert isinstance(read, Command)
            assert (type(origin), type(attempt)) == (str, int)
        case CommandTaken(command_id=command_id, process=process, result=result):
            assert {type(command_id), type(process.node_id), type(process.born)} == {str}
            assert isinstance(result, Taking)
        case CommandDone(command_id=command_id):
            assert type(command_id) is str
        case CsmsAnswer(correlation_id=correlation_id, value=value):
            assert (type(correlation_id), type(value)) == (str, bytes)


@pytest.mark.parametrize(
    "change",
    [
        {"command": "{}"},
        {"command": "x"},
        {"command": {"commandId": "c-1"}},
        {"command": TEXT_OF_A_COMMAND.replace('"c-1"', '"c-2"')},
        {"commandId": "c-2"},
        {"commandId": None},
        {"from": None},
        {"attempt": "1"},
        {"attempt": True},
        {"type": "command_handovers"},
    ],
)
def test_a_handover_that_is_not_understood_is_none(change: dict[str, Any]) -> None:
    members = orjson.loads(CommandHandover(command=command(), origin="node-a", attempt=1).encode())
    assert parse(orjson.dumps(members | change)) is None


@pytest.mark.parametrize("answer", ["A", "AAA", "AA\n==", "ä", "====", 7, None, ["AAAA"]])
def test_an_answer_that_is_no_base64_is_none(answer: Any) -> None:
    assert parse(orjson.dumps({"type": "csms_answer", "correlationId": "node-a.1", "answer": answer})) is None


async def test_a_node_hears_what_another_tells_it(client: RedisClient, bus_of_node_a: Listener) -> None:
    ours = RedisCommandBus(client=client, node_id="node-b")
    bus: CommandBus = ours
    assert await bus.hand_over("node-a", command(), 2) == 1
    assert orjson.loads(bus_of_node_a.read_message()) == {
        "type": "command_handover",
        "commandId": "c-1",
        "command": TEXT_OF_A_COMMAND,
        "from": "node-b",
        "attempt": 2,
    }
    assert await bus.taken("node-a", "c-1", A, Taking.NOT_HERE) == 1
    assert orjson.loads(bus_of_node_a.read_message()) == {
        "type": "command_taken",
        "commandId": "c-1",
        "nodeId": "node-a",
        "born": A.born,
        "result": "not_here",
    }
    assert await bus.done("node-a", "c-1") == 1
    assert orjson.loads(bus_of_node_a.read_message()) == {"type": "command_done", "commandId": "c-1"}
    assert await ours.csms_answer("node-a", "node-a.1", b"\xff{}") == 1
    assert orjson.loads(bus_of_node_a.read_message()) == {
        "type": "csms_answer",
        "correlationId": "node-a.1",
        "answer": base64.b64encode(b"\xff{}").decode(),
    }
    assert await bus.done("node-z", "c-1") == 0


async def test_a_large_command_is_heard(client: RedisClient, bus_of_node_a: Listener) -> None:
    large = command(payload={"text": '"\\' * 16_000})
    assert await RedisCommandBus(client=client, node_id="node-b").hand_over("node-a", large, 1) == 1
    heard = parse(bus_of_node_a.read_message())
    assert heard == CommandHandover(command=large, origin="node-b", attempt=1)


async def test_without_redis_it_says_so(redis_server: EmbeddedRedis) -> None:
    client = await connected_client(redis_server.url)
    await client.close()
    ours = RedisCommandBus(client=client, node_id="node-b")
    for call in (
        ours.hand_over("node-a", command(), 1),
        ours.taken("node-a", "c-1", A, Taking.TAKEN),
        ours.done("node-a", "c-1"),
        ours.csms_answer("node-a", "node-a.1", b"{}"),
    ):
        await reason_of(call)
