"""Two nodes: the one that reads a command is not the one that its charge point is connected to."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator

import pytest
import redis as redis_py
from attrs import frozen
from support.back_end import REQUESTS, partitions_read
from support.callers import Caller, until
from support.gateway import Gateway
from support.group_reader import quick_group
from support.nodes import ask, node, throw_off_the_bus
from support.requester import Requester

RESET = ("Reset", {"type": "Soft"})


@frozen
class Pair:
    """Two nodes, and a partition of the commands' topic that each of them reads."""

    nodes: dict[str, Gateway]
    partitions: dict[str, int]

    def other(self, name: str) -> str:
        (other,) = self.nodes.keys() - {name}
        return other


@pytest.fixture(scope="module")
def pair(redis_url: str, brokers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Requester]]:
    settings = {
        **quick_group(tmp_path_factory.mktemp("group")),
        "KAFKA_GROUP_ID": f"group-{uuid.uuid4()}",
    }
    with Requester(brokers) as requester, contextlib.ExitStack() as stack:
        nodes = {name: stack.enter_context(node(redis_url, brokers, name, **settings)) for name in ("node-a", "node-b")}

        def is_settled() -> bool:
            first, second = (partitions_read(each, REQUESTS) for each in nodes.values())
            return bool(first and second) and not first & second and len(first | second) == requester.partitions()

        until(is_settled, "each node to read its share", seconds=30)
        yield Pair(nodes, {name: min(partitions_read(each, REQUESTS)) for name, each in nodes.items()}), requester


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
@pytest.mark.parametrize("home", ["node-a", "node-b"])
def test_read_here_carried_out_there(
    pair: tuple[Pair, Requester], charge_point_id: str, home: str, version: str
) -> None:
    nodes, requester = pair
    with Caller(nodes.nodes[home].url(""), charge_point_id, version) as charger:
        for reader in (nodes.other(home), home):
            command_id = requester.ask(charge_point_id, *RESET, partition=nodes.partitions[reader])
            _, message_id, action, _ = charger.hear()
            assert action == "Reset"
            charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
            end = requester.ended(command_id)
            assert (end["eventType"], end["nodeId"]) == ("CommandAccepted", home)
            assert requester.types(command_id) == ["CommandDispatched", "CommandAccepted"]


def test_in_order_over_the_bus(pair: tuple[Pair, Requester], charge_point_id: str) -> None:
    nodes, requester = pair
    with Caller(nodes.nodes["node-a"].url(""), charge_point_id) as charger:
        asked = [
            requester.ask(
                charge_point_id,
                "DataTransfer",
                {"vendorId": "test", "data": str(number)},
                partition=nodes.partitions["node-b"],
            )
            for number in range(20)
        ]
        for number in range(20):
            _, message_id, _, payload = charger.hear()
            assert payload["data"] == str(number)
            charger.call("Heartbeat", {})
            charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert [requester.outcome(each)[0] for each in asked] == ["CommandAccepted"] * 20


def test_the_same_command_in_two_partitions(pair: tuple[Pair, Requester], charge_point_id: str) -> None:
    nodes, requester = pair
    with Caller(nodes.nodes["node-a"].url(""), charge_point_id) as charger:
        for _ in range(10):
            command_id = str(uuid.uuid4())
            for partition in nodes.partitions.values():
                requester.ask(charge_point_id, *RESET, commandId=command_id, partition=partition)
            charger.socket.send(json.dumps([3, charger.hear()[1], {"status": "Accepted"}]))
            requester.ended(command_id, number=2)
            assert sorted(requester.types(command_id)) == ["CommandAccepted", "CommandDispatched", "CommandDuplicate"]
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]


@pytest.mark.parametrize("how", ["moves", "kicked"])
def test_the_charge_point_goes_while_its_command_is_under_way(
    pair: tuple[Pair, Requester], charge_point_id: str, how: str
) -> None:
    nodes, requester = pair
    partition = nodes.partitions["node-b"]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Caller(nodes.nodes["node-a"].url(""), charge_point_id))
        sent = requester.ask(charge_point_id, *RESET, partition=partition)
        assert first.hear()[2] == "Reset"
        waits = requester.ask(charge_point_id, "ClearCache", {}, partition=partition, deliverWithinSec=60)
        if how == "kicked":
            status, _ = ask(nodes.nodes["node-b"], f"/sessions/{charge_point_id}", method="DELETE")
            assert status in (200, 202)
        second = stack.enter_context(Caller(nodes.nodes["node-b"].url(""), charge_point_id))
        second.socket.send(json.dumps([2, "1", "Heartbeat", {}]))
        assert requester.outcome(sent) == ("CommandTimeout", "connection_lost")
        ((_, message_id, action, _),) = (frame for frame in (second.hear(), second.hear()) if frame[0] == 2)
        assert action == "ClearCache"
        second.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert requester.outcome(waits) == ("CommandAccepted", None)


def test_parked_by_one_delivered_by_the_other(pair: tuple[Pair, Requester], charge_point_id: str) -> None:
    nodes, requester = pair
    asked = [
        requester.ask(charge_point_id, "ClearCache", {}, partition=nodes.partitions["node-b"], deliverWithinSec=60)
        for _ in range(3)
    ]
    for each in asked:
        assert requester.wait(each, "CommandQueued")["nodeId"] == "node-b"
    with Caller(nodes.nodes["node-a"].url(""), charge_point_id) as charger:
        charger.call("Heartbeat", {})
        for each in asked:
            charger.socket.send(json.dumps([3, charger.hear()[1], {"status": "Accepted"}]))
            end = requester.ended(each)
            assert (end["eventType"], end["nodeId"]) == ("CommandAccepted", "node-a")


def test_the_bus_is_cut(pair: tuple[Pair, Requester], redis: redis_py.Redis, charge_point_id: str) -> None:
    nodes, requester = pair
    with Caller(nodes.nodes["node-a"].url(""), charge_point_id) as charger:
        for name in ("node-a", "node-b"):
            command_id = requester.ask(charge_point_id, *RESET, partition=nodes.partitions["node-b"])
            message_id = charger.hear()[1]
            throw_off_the_bus(redis, name, nodes.other(name))
            following = requester.ask(charge_point_id, "ClearCache", {}, partition=nodes.partitions["node-b"])
            charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
            assert requester.outcome(command_id) == ("CommandAccepted", None)
            charger.socket.send(json.dumps([3, charger.hear()[1], {"status": "Accepted"}]))
            assert requester.outcome(following) == ("CommandAccepted", None)
