"""Several gateways on one Redis: what tests ask them, and what their operator does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import redis as redis_py
from prometheus_client.parser import text_string_to_metric_families
from support.callers import until
from support.gateway import PROJECT, Gateway
from support.raw_socket import RawCharger
from support.stations import basic

TOKEN = "the-operators-token"

TRANSFERRED = (1012, "Session ownership transferred")
REPLACED = (1008, "Replaced by new connection")
KICKED = (1012, "Closed by the operator")

_COMMAND = [sys.executable, "-c", "from ocpp_gateway.cli import main; main()"]


def node(redis_url: str, brokers: str, node_id: str, **settings: str) -> Gateway:
    """A gateway of the cluster, with a token for its operator."""
    return Gateway(redis_url, brokers, NODE_ID=node_id, HEALTH_METRICS_AUTH_TOKEN=TOKEN, **settings)


def connected(gateway: Gateway, charge_point_id: str, subprotocol: str = "ocpp1.6") -> RawCharger:
    headers = list(basic(charge_point_id).items())
    return RawCharger(
        gateway.ocpp_port,
        charge_point_id,
        headers,
        subprotocols=subprotocol,
        target=f"/ocpp/{quote(charge_point_id, safe='')}",
    )


def is_served(charger: RawCharger, message_id: str = "1") -> bool:
    kind, answered, payload = charger.call(message_id, "Heartbeat", {})
    return (kind, answered, list(payload)) == (3, message_id, ["currentTime"])


def end_of(charger: RawCharger) -> tuple[int | None, str]:
    """Code and text of the close frame, which must be the next thing to come; it is answered."""
    closing_frame = charger.closed()
    return closing_frame.close_code, closing_frame.close_text


def ask(gateway: Gateway, path: str, *, method: str = "GET", token: str | None = TOKEN) -> tuple[int, Any]:
    """Status and body of an answer over HTTP."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(HTTPConnection("127.0.0.1", gateway.http_port, timeout=15)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def session_path(charge_point_id: str) -> str:
    return f"/sessions/{quote(charge_point_id, safe='')}"


def sessions_of(gateway: Gateway, query: str = "") -> dict[str, dict[str, Any]]:
    """What the gateway says of its sessions, by charge point."""
    status, listed = ask(gateway, f"/sessions{query}")
    assert status == 200, listed
    by_id = {each["chargePointId"]: each for each in listed}
    assert len(by_id) == len(listed), "a charge point is there twice"
    return by_id


def command(*arguments: str, redis_url: str, brokers: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """``ocpp-gateway ...`` as a process, with nothing but these in its environment that concerns it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OCPP_", "REDIS_"))}
    places = {"REDIS_URL": redis_url, "KAFKA_BROKERS": brokers, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [*_COMMAND, *arguments],
        env={**clean, **places, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def json_lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def record(redis: redis_py.Redis, charge_point_id: str) -> dict[str, Any] | None:
    """The session record."""
    raw: Any = redis.get(f"sessions:{charge_point_id}")
    return None if raw is None else json.loads(raw)


def records(redis: redis_py.Redis, beginning: str) -> dict[str, dict[str, Any]]:
    """The session records of all charge points whose identities begin so."""
    keys = list(redis.scan_iter(f"sessions:{beginning}*", count=1000))
    found = [json.loads(raw) for raw in redis.mget(keys) if raw is not None] if keys else []
    return {each["chargePointId"]: each for each in found}


def members(redis: redis_py.Redis, node_id: str) -> set[str]:
    """The charge points that are on the node, as Redis knows it."""
    found: Any = redis.smembers(f"node-sessions:{node_id}")
    return {each.decode() for each in found}


def counted(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of the samples ``name`` at /metrics that have ``labels``."""
    with closing(HTTPConnection("127.0.0.1", gateway.http_port, timeout=15)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        text = connection.getresponse().read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def hears_the_bus(redis: redis_py.Redis, node_id: str) -> bool:
    """Whether anybody would hear what is said to the node."""
    heard: Any = redis.pubsub_numsub(f"node-bus:{node_id}")
    return bool(heard[0][1])


def throw_off_the_bus(redis: redis_py.Redis, node_id: str, *others: str) -> None:
    """Cut the node's connection to the bus, made again in 0.2 s at the earliest; ``others`` are on it then."""
    for client in redis.client_list(_type="pubsub"):
        redis.client_kill_filter(_id=client["id"])
        if not hears_the_bus(redis, node_id):
            return
        until(lambda: all(hears_the_bus(redis, other) for other in others), "the others' bus")
    raise AssertionError(f"{node_id} was not on the bus")
