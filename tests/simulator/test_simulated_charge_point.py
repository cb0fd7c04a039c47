"""A simulated charge point against a CSMS that checks every message against the official schemas."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest
from simulator.small_csms import Seen, SmallCsms

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.charge_point import ChargePoint, Trouble
from ocpp_gateway.simulator.connection import Target
from ocpp_gateway.simulator.errors import Refused
from ocpp_gateway.simulator.fleet import Fleet
from ocpp_gateway.simulator.plan import Plan
from ocpp_gateway.simulator.tally import Tally

VERSIONS = pytest.mark.parametrize("version", list(OcppVersion), ids=lambda version: version.label)
CP_ID = "CP-001"
QUICK = Plan(sessions=1, readings=3, meter_interval=0.02, pause=0.01, retry_interval=0.01, id_token="CARD")


class Bench:
    """A CSMS and a charge point beside it."""

    def __init__(self, csms: SmallCsms, version: OcppVersion, plan: Plan, secret: bytes) -> None:
        self.csms = csms
        self.tally = Tally()
        self.troubles: list[Trouble] = []
        csms.secrets[CP_ID] = b"right"
        target = Target(f"{csms.url}/ocpp/{version.label}/{CP_ID}", CP_ID, version, secret=secret)
        self.charge_point = ChargePoint(
            target=target, plan=plan, tally=self.tally, chance=random.Random(1), on_trouble=self.troubles.append
        )

    def seen(self, action: str) -> list[Seen]:
        return [seen for seen in self.csms.seen if seen.action == action]

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.charge_point.run())

    async def stop(self, running: asyncio.Task[None]) -> None:
        self.charge_point.stop()
        async with asyncio.timeout(10.0):
            await running


def on_bench(
    version: OcppVersion,
    scenario: Callable[[Bench], Coroutine[Any, Any, None]],
    plan: Plan = QUICK,
    secret: bytes = b"right",
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20.0), SmallCsms().running() as csms:
            bench = Bench(csms, version, plan, secret)
            await scenario(bench)
            assert csms.problems == []

    asyncio.run(run())


@VERSIONS
def test_a_whole_charging_session_is_valid_and_in_order(version: OcppVersion) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.charge_point.run()

        actions = bench.csms.actions()
        assert actions[0] == "BootNotification"
        assert actions.index("StatusNotification") < actions.index("Authorize")
        if version.is_2x:
            events = [seen.payload for seen in bench.seen("TransactionEvent")]
            assert [event["seqNo"] for event in events] == list(range(6))
            assert [event["eventType"] for event in events] == ["Started", *["Updated"] * 4, "Ended"]
            assert len({event["transactionInfo"]["transactionId"] for event in events}) == 1
        else:
            assert actions.count("MeterValues") == 3
            stop = bench.seen("StopTransaction")[0].payload
            assert stop["transactionId"] == 1001
            assert {seen.payload["transactionId"] for seen in bench.seen("MeterValues")} == {1001}
            assert stop["meterStop"] >= bench.seen("StartTransaction")[0].payload["meterStart"]
        assert actions[-1] == "StatusNotification"
        assert len({seen.message_id for seen in bench.csms.seen}) == len(actions)
        assert (bench.tally.transactions, bench.tally.finished_transactions) == (1, 1)
        assert (bench.tally.online, bench.tally.charging, bench.tally.lost_messages) == (0, 0, 0)
        assert bench.csms.connections[CP_ID].close_code == 1000

    on_bench(version, scenario)


@VERSIONS
def test_transaction_messages_outlive_a_lost_connection(version: OcppVersion) -> None:
    dropped = "TransactionEvent" if version.is_2x else "StartTransaction"

    async def scenario(bench: Bench) -> None:
        todo = ["drop"]
        bench.csms.respond = lambda seen: todo.pop() if seen.action == dropped and todo else None
        await bench.charge_point.run()

        first, again = bench.seen(dropped)[:2]
        assert first.payload == again.payload
        assert first.message_id != again.message_id
        assert bench.csms.actions().count("BootNotification") == 1, "a reconnect is no boot"
        assert (bench.tally.connections, bench.tally.disconnects) == (2, 1)
        assert bench.tally.finished_transactions == 1
        assert "1006" in bench.troubles[0].text

    on_bench(version, scenario)


def test_a_start_that_got_no_answer_in_time_is_said_again_on_a_new_connection() -> None:
    async def scenario(bench: Bench) -> None:
        todo = ["silence"]
        bench.csms.respond = lambda seen: todo.pop() if seen.action == "StartTransaction" and todo else None
        await bench.charge_point.run()

        first, again = bench.seen("StartTransaction")
        assert first.payload == again.payload
        assert (bench.tally.timeouts, bench.tally.connections) == (1, 2)
        assert bench.seen("StopTransaction")[0].payload["transactionId"] == 1001
        assert "StartTransaction got no answer in 0.2 s" in bench.troubles[0].text

    on_bench(OcppVersion.V16, scenario, plan=attrs.evolve(QUICK, call_timeout=0.2))


def test_a_callerror_is_retried_and_then_counted_as_lost() -> None:
    async def scenario(bench: Bench) -> None:
        bench.csms.respond = lambda seen: "InternalError" if seen.action == "StartTransaction" else None
        await bench.charge_point.run()

        assert len(bench.seen("StartTransaction")) == QUICK.attempts
        assert bench.tally.lost_messages == 1
        assert bench.tally.call_errors == QUICK.attempts
        assert bench.seen("StopTransaction")[0].payload["transactionId"] == -1
        assert "InternalError" in bench.troubles[-1].text

    on_bench(OcppVersion.V16, scenario)


@VERSIONS
def test_a_refused_card_does_not_charge(version: OcppVersion) -> None:
    member = "idTokenInfo" if version.is_2x else "idTagInfo"

    async def scenario(bench: Bench) -> None:
        bench.csms.respond = lambda seen: {member: {"status": "Blocked"}} if seen.action == "Authorize" else None
        await bench.charge_point.run()
        assert bench.tally.tokens_refused == 1
        assert bench.tally.transactions == 0

    on_bench(version, scenario)


def test_a_card_that_the_start_refuses_ends_the_transaction() -> None:
    async def scenario(bench: Bench) -> None:
        answer = {"transactionId": 7, "idTagInfo": {"status": "Invalid"}}
        bench.csms.respond = lambda seen: answer if seen.action == "StartTransaction" else None
        await bench.charge_point.run()
        stop = bench.seen("StopTransaction")[0].payload
        assert (stop["transactionId"], stop["reason"]) == (7, "DeAuthorized")

    on_bench(OcppVersion.V16, scenario, plan=Plan(sessions=1, readings=3, meter_interval=5.0, pause=0.01))


def test_a_pending_boot_is_repeated_after_the_interval() -> None:
    async def scenario(bench: Bench) -> None:
        answers = [{"status": "Pending", "currentTime": "2026-01-02T03:04:05Z", "interval": 1}]
        bench.csms.respond = lambda seen: answers.pop() if seen.action == "BootNotification" and answers else None
        await bench.charge_point.run()
        assert bench.csms.actions()[:3] == ["BootNotification", "BootNotification", "StatusNotification"]

    on_bench(OcppVersion.V201, scenario)


@pytest.mark.parametrize(
    ("status", "word"), [(400, "version"), (401, "password"), (403, "enable"), (404, "charger add")]
)
def test_a_refusal_that_a_person_must_mend_ends_it_and_says_how(status: int, word: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.csms.refuse_next = [(status, {})]
        with pytest.raises(Refused) as caught:
            await bench.charge_point.run()
        assert caught.value.status == status
        assert caught.value.said == "reason_of_the_gateway"
        assert word in caught.value.advice
        assert bench.csms.handshakes == {status: 1}

    on_bench(OcppVersion.V16, scenario)


def test_a_wrong_password_is_a_refusal_without_the_password_in_it() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(Refused) as caught:
            await bench.charge_point.run()
        told = f"{caught.value} {caught.value.advice} {bench.charge_point.target!r} {bench.troubles}"
        assert "hunter2" not in told
        assert caught.value.status == 401

    on_bench(OcppVersion.V16, scenario, secret=b"hunter2")


def test_503_is_tried_again_after_the_time_that_was_asked_for() -> None:
    async def scenario(bench: Bench) -> None:
        bench.csms.refuse_next = [(503, {"Retry-After": "1"})]
        began = asyncio.get_running_loop().time()
        await bench.charge_point.run()
        assert asyncio.get_running_loop().time() - began >= 1.0
        assert bench.tally.refusals == {"503": 1}
        assert "ready" in bench.troubles[0].advice
        assert bench.tally.finished_transactions == 1

    on_bench(OcppVersion.V21, scenario)


def test_a_redirect_is_not_followed() -> None:
    async def scenario(bench: Bench) -> None:
        bench.csms.refuse_next = [(302, {"Location": f"{bench.csms.url}/ocpp/1.6/{CP_ID}"})]
        with pytest.raises(Refused, match="302"):
            await bench.charge_point.run()
        assert bench.csms.handshakes == {302: 1}

    on_bench(OcppVersion.V16, scenario)


def test_the_password_of_1_6_is_sent_as_the_bytes_that_it_is() -> None:
    key = bytes(range(235, 255))

    async def scenario(bench: Bench) -> None:
        bench.csms.secrets[CP_ID] = key
        await bench.charge_point.run()
        assert bench.tally.finished_transactions == 1

    on_bench(OcppVersion.V16, scenario, secret=key)


@VERSIONS
def test_stopping_ends_the_transaction_first(version: OcppVersion) -> None:
    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: bench.tally.charging == 1)
        await bench.stop(running)
        assert bench.tally.finished_transactions == 1
        assert bench.csms.actions()[-1] == "StatusNotification"

    on_bench(version, scenario, plan=Plan(sessions=None, readings=100, meter_interval=0.02, pause=0.0))


@VERSIONS
def test_remote_start_and_stop(version: OcppVersion) -> None:
    idle = Plan(sessions=0, readings=100, meter_interval=0.05, pause=0.0)

    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: "StatusNotification" in bench.csms.actions())
        if version.is_2x:
            start = {"idToken": {"idToken": "APP", "type": "Central"}, "remoteStartId": 5, "evseId": 1}
            answer = await bench.csms.call(CP_ID, "RequestStartTransaction", start)
            assert answer[2]["status"] == "Accepted"
            await bench.csms.until(lambda: len(bench.seen("TransactionEvent")) > 2)
            started = bench.seen("TransactionEvent")[0].payload
            assert (started["triggerReason"], started["transactionInfo"]["remoteStartId"]) == ("RemoteStart", 5)
            stop = {"transactionId": started["transactionInfo"]["transactionId"]}
            answer = await bench.csms.call(CP_ID, "RequestStopTransaction", stop)
        else:
            answer = await bench.csms.call(CP_ID, "RemoteStartTransaction", {"connectorId": 1, "idTag": "APP"})
            assert answer[2]["status"] == "Accepted"
            await bench.csms.until(lambda: "MeterValues" in bench.csms.actions())
            answer = await bench.csms.call(CP_ID, "RemoteStopTransaction", {"transactionId": 1001})
        assert answer[2]["status"] == "Accepted"
        await bench.csms.until(lambda: bench.tally.finished_transactions == 1)
        await bench.stop(running)
        assert "Authorize" not in bench.csms.actions()
        if not version.is_2x:
            assert bench.seen("StopTransaction")[0].payload["reason"] == "Remote"

    on_bench(version, scenario, plan=idle)


@VERSIONS
def test_a_reset_reboots_it(version: OcppVersion) -> None:
    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: bench.tally.charging == 1)
        answer = await bench.csms.call(CP_ID, "Reset", {"type": "Immediate" if version.is_2x else "Soft"})
        assert answer[2] == {"status": "Accepted"}
        await bench.csms.until(lambda: bench.csms.actions().count("BootNotification") == 2)
        if version.is_2x:
            assert bench.seen("BootNotification")[1].payload["reason"] == "RemoteReset"
        assert bench.tally.finished_transactions == 1
        await bench.stop(running)

    on_bench(version, scenario, plan=Plan(sessions=None, readings=100, meter_interval=0.02, pause=0.0))


@VERSIONS
def test_a_new_password_is_used_from_the_next_connection_on(version: OcppVersion) -> None:
    secret = b"a new password of mine"
    if version.is_2x:
        place = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        action: str = "SetVariables"
        asked: dict[str, Any] = {"setVariableData": [{**place, "attributeValue": secret.decode()}]}
    else:
        secret = bytes(range(236, 256))
        action, asked = "ChangeConfiguration", {"key": "AuthorizationKey", "value": secret.hex()}

    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: "StatusNotification" in bench.csms.actions())
        answer = await bench.csms.call(CP_ID, action, asked)
        assert "Accepted" in str(answer[2])
        bench.csms.secrets[CP_ID] = secret
        await bench.csms.call(CP_ID, "Reset", {"type": "Immediate" if version.is_2x else "Hard"})
        await bench.csms.until(lambda: bench.csms.actions().count("BootNotification") == 2)
        assert bench.csms.handshakes == {101: 2}
        assert secret.decode("latin-1") not in f"{bench.charge_point.target!r}"
        await bench.stop(running)

    on_bench(version, scenario, plan=Plan(sessions=0, pause=0.0))


def test_a_reset_when_idle_lets_the_transaction_end_first() -> None:
    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: bench.tally.charging == 1)
        answer = await bench.csms.call(CP_ID, "Reset", {"type": "OnIdle"})
        assert answer[2] == {"status": "Scheduled"}
        await bench.csms.until(lambda: bench.csms.actions().count("BootNotification") == 2)
        ended = next(seen for seen in bench.seen("TransactionEvent") if seen.payload["eventType"] == "Ended")
        assert ended.payload["transactionInfo"]["stoppedReason"] == "Local"
        assert bench.csms.seen.index(ended) < bench.csms.seen.index(bench.seen("BootNotification")[1])
        await bench.stop(running)

    on_bench(OcppVersion.V201, scenario, plan=Plan(sessions=None, readings=10, meter_interval=0.05, pause=5.0))


@VERSIONS
def test_what_is_triggered_in_a_transaction_says_so(version: OcppVersion) -> None:
    action = "TransactionEvent" if version.is_2x else "MeterValues"

    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: bench.tally.charging == 1 and action in bench.csms.actions())
        answer = await bench.csms.call(CP_ID, "TriggerMessage", {"requestedMessage": action})
        assert answer[2] == {"status": "Accepted"}
        await bench.csms.until(lambda: any('"Trigger"' in json.dumps(seen.payload) for seen in bench.seen(action)))
        asked = next(seen for seen in bench.seen(action) if '"Trigger"' in json.dumps(seen.payload))
        if not version.is_2x:
            assert asked.payload["transactionId"] == 1001
        await bench.stop(running)

    on_bench(version, scenario, plan=Plan(sessions=None, readings=100, meter_interval=0.05, pause=0.0))


@VERSIONS
def test_every_command_gets_a_valid_answer(version: OcppVersion) -> None:
    place = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
    nowhere = {"component": {"name": "X"}, "variable": {"name": "Y"}}
    if version.is_2x:
        commands: list[tuple[str, dict[str, Any], Any]] = [
            ("GetVariables", {"getVariableData": [place, nowhere]}, 3),
            ("SetVariables", {"setVariableData": [{**place, "attributeValue": "7"}]}, 3),
            ("SetVariables", {"setVariableData": [{**nowhere, "attributeValue": "7"}]}, 3),
            ("GetTransactionStatus", {}, 3),
            ("UnlockConnector", {"evseId": 1, "connectorId": 1}, 3),
            ("ChangeAvailability", {"operationalStatus": "Inoperative"}, 3),
            ("RequestStopTransaction", {"transactionId": "unknown"}, 3),
            ("GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"}, 3),
        ]
    else:
        commands = [
            ("GetConfiguration", {}, 3),
            ("GetConfiguration", {"key": ["HeartbeatInterval", "Nonsense"]}, 3),
            ("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "7"}, 3),
            ("ChangeConfiguration", {"key": "Nonsense", "value": "7"}, 3),
            ("UnlockConnector", {"connectorId": 1}, 3),
            ("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"}, 3),
            ("RemoteStopTransaction", {"transactionId": 1}, 3),
            ("GetDiagnostics", {"location": "ftp://127.0.0.1/"}, 3),
        ]
    commands += [
        ("ClearCache", {}, 3),
        ("DataTransfer", {"vendorId": "x"}, 3),
        ("TriggerMessage", {"requestedMessage": "MeterValues"}, 3),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}, 3),
        ("TriggerMessage", {"requestedMessage": "StatusNotification"}, 3),
        ("TriggerMessage", {"requestedMessage": "BootNotification"}, 3),
        ("TriggerMessage", {"requestedMessage": "FirmwareStatusNotification"}, 3),
    ]

    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: "StatusNotification" in bench.csms.actions())
        for action, payload, message_type in commands:
            answer = await bench.csms.call(CP_ID, action, payload)
            assert answer[0] == message_type, (action, answer)
        await bench.csms.until(lambda: {"MeterValues", "Heartbeat"} <= set(bench.csms.actions()))
        await bench.csms.until(lambda: bench.csms.actions().count("BootNotification") == 2)
        assert bench.charge_point.get("TxUpdatedInterval" if version.is_2x else "MeterValueSampleInterval") == "7"
        statuses = [
            seen.payload.get("status", seen.payload.get("connectorStatus")) for seen in bench.seen("StatusNotification")
        ]
        assert statuses[-1] == "Unavailable"
        assert bench.tally.commands == len(commands)
        await bench.stop(running)

    on_bench(version, scenario, plan=Plan(sessions=0, pause=0.0))


def test_commands_full_of_nonsense_do_not_hurt_it() -> None:
    nonsense: list[Any] = [None, 1, "x", [], [1], {"a": []}]
    names = ("key", "value", "requestedMessage", "type", "transactionId", "idTag", "connectorId")

    async def scenario(bench: Bench) -> None:
        running = bench.start()
        await bench.csms.until(lambda: "StatusNotification" in bench.csms.actions())
        answers = bench.charge_point._answers
        for action in answers._by_action:
            if action == "Reset":
                continue
            for value in nonsense:
                answer = answers.answer(_call(action, dict.fromkeys(names, value)))
                assert answer.payload is not None or answer.error_code
        await bench.stop(running)

    on_bench(OcppVersion.V16, scenario, plan=Plan(sessions=0, pause=0.0))


def _call(action: str, payload: dict[str, Any]) -> Any:
    from ocpp_gateway.simulator.frames import Call

    return Call("1", action, payload)


def test_a_gateway_that_is_not_there_is_waited_for() -> None:
    async def run() -> None:
        csms = SmallCsms()
        async with csms.running():
            port = csms.port
        troubles: list[Trouble] = []
        csms.secrets[CP_ID] = b"right"
        tally = Tally()
        target = Target(f"ws://127.0.0.1:{port}/ocpp/1.6/{CP_ID}", CP_ID, OcppVersion.V16, secret=b"right")
        heard = asyncio.Event()

        def hear(trouble: Trouble) -> None:
            troubles.append(trouble)
            heard.set()

        charge_point = ChargePoint(target=target, plan=QUICK, tally=tally, chance=random.Random(1), on_trouble=hear)
        running = asyncio.create_task(charge_point.run())
        async with asyncio.timeout(20.0):
            await heard.wait()
            async with csms.running(port):
                await running
        assert "connection refused" in troubles[0].text
        assert "demo" in troubles[0].advice
        assert tally.finished_transactions == 1

    asyncio.run(run())


def test_a_fleet_runs_all_and_names_those_that_were_refused() -> None:
    async def run() -> None:
        async with asyncio.timeout(30.0), SmallCsms().running() as csms:
            versions = list(OcppVersion)
            targets = []
            for number in range(60):
                version, cp_id = versions[number % 3], f"CP-{number}"
                csms.secrets[cp_id] = b"right"
                secret = b"wrong" if number == 7 else b"right"
                targets.append(Target(f"{csms.url}/ocpp/{version.label}/{cp_id}", cp_id, version, secret=secret))
            fleet = Fleet(targets=targets, plan=QUICK, on_trouble=lambda trouble: None, per_second=500.0)
            await fleet.run(asyncio.Event())
            assert csms.problems == []
            assert [(refused.cp_id, refused.status) for refused in fleet.refused] == [("CP-7", 401)]
            assert fleet.tally.finished_transactions == 59
            assert fleet.tally.energy_wh >= 0
            median, slowest = fleet.tally.latency(0.5), fleet.tally.latency(0.99)
            assert median is not None and slowest is not None and 0 < median <= slowest

    asyncio.run(run())


def test_a_stopped_fleet_ends_its_transactions() -> None:
    async def run() -> None:
        async with asyncio.timeout(30.0), SmallCsms().running() as csms:
            csms.secrets = {f"CP-{number}": b"right" for number in range(10)}
            targets = [
                Target(f"{csms.url}/ocpp/2.0.1/{cp_id}", cp_id, OcppVersion.V201, secret=b"right")
                for cp_id in csms.secrets
            ]
            plan = Plan(sessions=None, readings=1000, meter_interval=0.02, pause=0.0)
            fleet = Fleet(targets=targets, plan=plan, on_trouble=lambda trouble: None, per_second=500.0)
            stop = asyncio.Event()
            running = asyncio.create_task(fleet.run(stop))
            await csms.until(lambda: fleet.tally.charging == 10)
            stop.set()
            await running
            assert fleet.tally.finished_transactions == fleet.tally.transactions >= 10
            assert fleet.tally.lost_messages == 0
            assert csms.problems == []

    asyncio.run(run())
