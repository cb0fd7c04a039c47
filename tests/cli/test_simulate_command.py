"""``ocpp-gateway simulate`` against the small CSMS, and the command's first impression."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.audit_events import audit_events
from cli.cli_runner import COMMAND, environment, run, run_here
from cli.redis_by_hand import store, stored_bytes
from cli.simulated import simulated
from simulator.small_csms import SmallCsms

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.simulate import _taken_apart
from ocpp_gateway.kafka.embedded import EmbeddedKafka
from ocpp_gateway.redis.embedded import EmbeddedRedis


def test_a_fleet_charges_and_tells_what_it_did() -> None:
    csms = SmallCsms()
    csms.secrets = {f"CP-SIM-{number:03d}": b"right" for number in range(1, 10)}
    options = "--count 9 --sessions 1 --interval 0.05 --pause 0 --meter-values 2 --ocpp 1.6 --ocpp 2.0.1 --ocpp 2.1"
    done = simulated(csms, *options.split(), OCPP_SIMULATE_PASSWORD="right")
    assert done.returncode == 0, done.stderr
    assert "9 of 9 transactions finished" in done.stderr
    assert csms.problems == []
    assert {seen.subprotocol for seen in csms.seen} == {"ocpp1.6", "ocpp2.0.1", "ocpp2.1"}


def test_one_charge_point_by_its_whole_url() -> None:
    csms = SmallCsms()
    csms.secrets = {"CP-7": b"right"}
    options = (
        "--url",
        "ws://127.0.0.1:PORT/ocpp/2.1/CP-7",
        "--password-file",
        "-",
        "--sessions",
        "1",
        "--interval=0.05",
    )
    done = simulated(csms, *options, "--pause=0", "--meter-values=1", typed=b"right\n")
    assert done.returncode == 0, done.stderr
    assert {seen.subprotocol for seen in csms.seen} == {"ocpp2.1"}


def test_a_token_is_sent_as_a_bearer() -> None:
    csms = SmallCsms()
    csms.refuse_next = [(101, {})]
    options = ("--token", "--password-file", "-", "--sessions", "1", "--interval=0.05", "--pause=0", "--meter-values=0")
    done = simulated(csms, *options, typed=b"t0ken")
    assert done.returncode == 0, done.stderr
    assert csms.headers[0]["Authorization"] == "Bearer t0ken"


def test_a_wrong_password_says_what_to_do_and_not_the_password() -> None:
    csms = SmallCsms()
    csms.secrets = {"CP-001": b"right"}
    done = simulated(csms, "--sessions", "1", OCPP_SIMULATE_PASSWORD="hunter2")
    assert done.returncode == 1
    assert "HTTP 401" in done.stderr and "charger add CP-001 --replace" in done.stderr
    assert "hunter2" not in done.stderr


def test_no_password_is_named_as_such() -> None:
    csms = SmallCsms()
    done = simulated(csms, "--sessions", "1")
    assert done.returncode == 1
    assert "No password was given" in done.stderr and "HTTP 404" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_ends_the_transactions(number: signal.Signals) -> None:
    csms = SmallCsms()
    csms.secrets = {"CP-001": b"right"}

    async def beside() -> tuple[int, str]:
        async with csms.running():
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "simulate", f"--url={csms.url}", "--interval=0.1", "--meter-values=1000", "--pause=0",
                env=environment(OCPP_SIMULATE_PASSWORD="right"), stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            await csms.until(lambda: "MeterValues" in csms.actions(), 20.0)
            process.send_signal(number)
            _, errors = await asyncio.wait_for(process.communicate(), 20.0)
            return int(process.returncode or 0), errors.decode()

    code, errors = asyncio.run(beside())
    assert code == 0, errors
    assert "Traceback" not in errors
    assert "1 of 1 transactions finished" in errors
    assert "StopTransaction" in csms.actions()
    assert csms.connections["CP-001"].close_code == 1000


def test_duration_ends_it() -> None:
    csms = SmallCsms()
    csms.secrets = {"CP-001": b"right"}
    done = simulated(csms, "--idle", "--duration", "0.5", OCPP_SIMULATE_PASSWORD="right")
    assert done.returncode == 0, done.stderr
    assert csms.actions() == ["BootNotification", "StatusNotification"]


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


def provisioned(redis: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command with --provision, without a gateway, for a moment."""
    options = ("--provision", "--url=ws://127.0.0.1:1", "--duration=0.1")
    return run("simulate", *options, *arguments, REDIS_URL=redis, **environ)


def test_records_that_no_simulation_wrote_are_left_alone(redis: str) -> None:
    theirs = b'{"stationId":"S-1","tenantId":"acme","status":"disabled"}'
    store(redis, "chargers:CP-USED-2", theirs)
    store(redis, "chargers:CP-USED-3", b"no JSON")
    one = provisioned(redis, "--id", "CP-USED-2")
    assert one.returncode == 1
    assert "CP-USED-2 has an identity record that no simulation wrote" in one.stderr
    assert "another --id" in one.stderr and "another --prefix" in one.stderr
    many = provisioned(redis, "--count", "12", "--prefix", "CP-USED-0")
    assert many.returncode == 0, many.stderr
    store(redis, "chargers:CP-USED-0002", theirs)
    store(redis, "chargers:CP-USED-0012", b"no JSON")
    before = stored_bytes(redis, "chargers:CP-USED-0001")
    again = provisioned(redis, "--count", "12", "--prefix", "CP-USED-0")
    assert again.returncode == 1
    assert "CP-USED-0002 (and 1 more) has" in again.stderr
    assert stored_bytes(redis, "chargers:CP-USED-2") == stored_bytes(redis, "chargers:CP-USED-0002") == theirs
    assert stored_bytes(redis, "chargers:CP-USED-0012") == b"no JSON"
    assert stored_bytes(redis, "chargers:CP-USED-0001") == before


def test_records_of_simulations_get_new_passwords_and_audit_events(redis: str) -> None:
    kafka = EmbeddedKafka.start()
    try:
        assert provisioned(redis, "--id", "CP-SIM-AUDIT", KAFKA_BROKERS=kafka.brokers).returncode == 0
        first = json.loads(stored_bytes(redis, "chargers:CP-SIM-AUDIT") or b"")
        assert first["createdBy"] == "ocpp-gateway simulate"
        store(redis, "chargers:CP-SIM-AUDIT", json.dumps({**first, "status": "disabled"}).encode())
        assert provisioned(redis, "--id", "CP-SIM-AUDIT", KAFKA_BROKERS=kafka.brokers).returncode == 0
        second = json.loads(stored_bytes(redis, "chargers:CP-SIM-AUDIT") or b"")
        assert second["auth"]["secretHash"] != first["auth"]["secretHash"]
        assert second["status"] == "disabled"
        told = [(event["chargePointId"], event["payload"]["change"]) for event in audit_events(kafka.brokers, 2)]
        assert told == [("CP-SIM-AUDIT", "added"), ("CP-SIM-AUDIT", "replaced")]
    finally:
        kafka.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://x"),
        ("--url", "ws://user:pass@x"),
        ("--idle", "--sessions", "1"),
        ("--count", "2", "--id", "CP-1"),
        ("--provision", "--password-file", "-"),
        ("--provision", "--cert", "x"),
        ("--key", "x"),
        ("--cert", "x", "--url", "ws://h:1"),
        ("--ca", "x", "--url", "ws://h:1"),
    ],
)
def test_contradictions_are_usage_errors(arguments: tuple[str, ...]) -> None:
    done = run_here("simulate", *arguments)
    assert done.returncode == 2
    assert "Error" in done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:1", ("ws://h:1", None, None)),
        ("ws://h:1/ocpp/1.6/CP-1", ("ws://h:1", "CP-1", "1.6")),
        ("wss://h/ocpp/2.1/CP%201/", ("wss://h", "CP 1", "2.1")),
        ("ws://h/ocpp/CP-1", ("ws://h", "CP-1", None)),
        ("ws://h/ocpp/1.6", ("ws://h/ocpp/1.6", None, None)),
        ("ws://h/some/where/", ("ws://h/some/where", None, None)),
    ],
)
def test_urls(url: str, expected: tuple[str, str | None, str | None]) -> None:
    assert _taken_apart(url, one=True) == expected
    assert _taken_apart(url, one=False) == (url.rstrip("/"), None, None)


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys, json\n"
        "from ocpp_gateway.cli import app, charger\n"
        "print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]))\n"
    )
    heavy = [
        "twisted.internet.reactor",
        "websockets",
        "confluent_kafka",
        "rich.console",
        "jsonschema_rs",
        "cryptography",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *heavy],
        check=True,
        capture_output=True,
        env=environment(),
        timeout=20,
        text=True,
    )
    assert json.loads(done.stdout) == []
    listed = run_here("--help")
    assert listed.returncode == 0
    assert {"charger", "cert", "pki", "simulate", "tail", "demo"} <= set(listed.stdout.split())


def test_a_dev_file_wins_over_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    state = {"redisUrl": "redis://127.0.0.1:1/0", "kafkaBrokers": "127.0.0.1:2", "httpPort": 1, "ocppPort": 3}
    path.write_text(json.dumps({**state, "pid": os.getpid()}))
    places = Places(dev=True, redis_url="redis://elsewhere", environ={"OCPP_DEV_STATE_FILE": str(path)})
    assert (places.redis(), places.kafka(), places.ocpp_port()) == ("redis://127.0.0.1:1/0", "127.0.0.1:2", 3)
    assert Places(dev=False, redis_url="redis://elsewhere").redis() == "redis://elsewhere"
    assert Places(dev=False, environ={"WEBSOCKET_OCPP_PORT": "81"}).ocpp_port() == 81


def test_the_kafka_of_a_dev_gateway_takes_nothing_from_the_environment() -> None:
    environ = {"KAFKA_SASL_USERNAME": "u", "REDIS_PREFIX": "p"}
    assert Places(dev=True, environ=environ).kafka_environ() == {"REDIS_PREFIX": "p"}
    assert Places(dev=False, environ=environ).kafka_environ() == environ


def test_settings_that_mean_nothing_are_refused_by_name() -> None:
    for port in ("x", "70000", "-1"):
        with pytest.raises(Failure, match="PORT must be"):
            Places(dev=False, environ={"PORT": port}).port("port")
    with pytest.raises(Failure, match="OCPP_CHARGE_POINT_ID_PATTERN"):
        Places(dev=False, environ={"OCPP_CHARGE_POINT_ID_PATTERN": "("}).identity_pattern()


@pytest.mark.parametrize(("tls", "scheme"), [(True, "wss"), (False, "ws"), (None, "ws")])
def test_a_dev_gateway_is_called_as_it_listens(tmp_path: Path, tls: bool | None, scheme: str) -> None:
    path = tmp_path / "dev.json"
    state = {"redisUrl": "redis://127.0.0.1:1/0", "kafkaBrokers": "127.0.0.1:2", "httpPort": 1, "ocppPort": 1}
    path.write_text(json.dumps({**state, "pid": os.getpid(), **({} if tls is None else {"tls": tls})}))
    other = str(tls is not True).lower()  # of another gateway
    environ = {"OCPP_DEV_STATE_FILE": str(path), "OCPP_TLS_ENABLED": other}
    done = run_here("--dev", "simulate", "--duration=0.1", **environ)
    assert f"cannot reach {scheme}://127.0.0.1:1/ocpp/1.6/CP-001" in done.stderr


def test_who_names_the_url_needs_no_dev_gateway(tmp_path: Path) -> None:
    absent = {"OCPP_DEV_STATE_FILE": str(tmp_path / "none.json")}
    done = run_here("--dev", "simulate", "--url=ws://127.0.0.1:1", "--duration=0.1", **absent)
    assert "cannot reach ws://127.0.0.1:1/" in done.stderr
