"""Charge points that answer commands oddly, late, or not at all: each command has its end, and the next one works."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from secrets import token_hex
from typing import Any

import pytest
from support.callers import Caller, until
from support.gateway import Gateway
from support.nodes import TOKEN, ask, counted
from support.ocpp_points import OcppPoint
from support.raw_socket import RawCharger
from support.requester import Requester
from support.stations import SUBPROTOCOLS, basic, provision

RESET = ("Reset", {"type": "Soft"})
# Reset, as the charge point's version says it.
VERSIONS = ["1.6", "2.0.1", "2.1"]
OUTBOX = 5


@pytest.fixture(scope="module")
def gateway(redis_url: str, brokers: str) -> Iterator[Gateway]:
    settings = {"HEALTH_METRICS_AUTH_TOKEN": TOKEN, "OCPP_MAX_WAITING_COMMANDS": str(OUTBOX)}
    with Gateway(redis_url, brokers, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def requester(brokers: str, gateway: Gateway) -> Iterator[Requester]:
    with Requester(brokers, gateway) as asking:
        yield asking


def answer(charger: Caller, message_id: str, payload: Any = None) -> None:
    charger.socket.send(json.dumps([3, message_id, {"status": "Accepted"} if payload is None else payload]))


def next_one_works(requester: Requester, charger: Caller) -> None:
    """The next command is accepted, and so is what the charge point itself says."""
    command_id = requester.ask(charger.charge_point_id, "ClearCache", {})
    kind, message_id, action, payload = charger.hear()
    assert (kind, action, payload) == (2, "ClearCache", {})
    answer(charger, message_id)
    assert requester.outcome(command_id) == ("CommandAccepted", None)
    assert requester.types(command_id) == ["CommandDispatched", "CommandAccepted"]
    assert list(charger.call("Heartbeat", {})) == ["currentTime"]


# CALLERRORs.

ERRORS: dict[str, tuple[Callable[[str], Any], dict[str, Any]]] = {
    "four elements": (
        lambda message_id: [4, message_id, "InternalError", "no details"],
        {"errorCode": "InternalError", "errorDescription": "no details", "errorDetails": {}},
    ),
    "five elements": (
        lambda message_id: [4, message_id, "NotSupported", "", {"a": 1}],
        {"errorCode": "NotSupported", "errorDetails": {"a": 1}},
    ),
    "a code of its own": (
        lambda message_id: [4, message_id, "OutOfCoffee", "", {}],
        {"errorCode": "OutOfCoffee", "errorDetails": {}},
    ),
    "details that are none": (
        lambda message_id: [4, message_id, "GenericError", None, "details"],
        {"errorCode": "GenericError", "errorDetails": {}},
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ERRORS)
def test_a_callerror(gateway: Gateway, requester: Requester, charge_point_id: str, version: str, what: str) -> None:
    build, response = ERRORS[what]
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        command_id = requester.ask(charge_point_id, *RESET)
        charger.socket.send(json.dumps(build(charger.hear()[1])))
        end = requester.ended(command_id)
        assert (end["eventType"], end["payload"]) == (
            "CommandRejected",
            {
                "commandType": "Reset",
                "error": "Rejected by charge point",
                "reason": "call_error",
                "response": response,
            },
        )
        next_one_works(requester, charger)


# Answers that cannot be used.

UNUSABLE: dict[str, Callable[[str], str]] = {
    "breaks the schema": lambda message_id: json.dumps([3, message_id, {"status": "Perhaps"}]),
    "a member is missing": lambda message_id: json.dumps([3, message_id, {}]),
    "a member too many": lambda message_id: json.dumps([3, message_id, {"status": "Accepted", "extra": 1}]),
    "a wrong type": lambda message_id: json.dumps([3, message_id, {"status": ["Accepted"]}]),
    "no payload": lambda message_id: json.dumps([3, message_id]),
    "a null": lambda message_id: json.dumps([3, message_id, None]),
    "an array": lambda message_id: json.dumps([3, message_id, [{"status": "Accepted"}]]),
    "a text": lambda message_id: json.dumps([3, message_id, "Accepted"]),
    "cut off": lambda message_id: f'[3, "{message_id}", {{"status": "Acc',
    "a member twice": lambda message_id: f'[3, "{message_id}", {{"status": "Accepted", "status": "Rejected"}}]',
    "too deep": lambda message_id: f'[3, "{message_id}", {{"status": {"[" * 500}{"]" * 500}}}]',
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", UNUSABLE)
def test_an_answer_that_cannot_be_used(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str, what: str
) -> None:
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        command_id = requester.ask(charge_point_id, *RESET)
        message_id = charger.hear()[1]
        charger.socket.send(UNUSABLE[what](message_id))
        if version == "2.1":
            kind, answered, code, description, details = charger.hear()
            assert (kind, answered) == (5, message_id)
            assert code
            assert len(description) <= 255
            assert isinstance(details, dict)
        end = requester.ended(command_id)
        assert end["eventType"] == "CommandRejected"
        assert end["payload"]["error"] == "Invalid response from charge point"
        assert end["payload"]["reason"] == "invalid_response"
        assert end["payload"]["response"]["errorCode"]
        next_one_works(requester, charger)


# Answers that belong to nothing.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_id_is_not_the_answer(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str
) -> None:
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        answer(charger, "nobody asked")
        command_id = requester.ask(charge_point_id, *RESET)
        message_id = charger.hear()[1]
        for wrong in ("another", message_id.upper() + "x", message_id[:-1], "", message_id * 2):
            answer(charger, wrong)
            charger.socket.send(json.dumps([4, wrong, "InternalError", "", {}]))
        charger.socket.send(json.dumps([3, 17, {"status": "Accepted"}]))
        charger.socket.send(json.dumps([3, None, {"status": "Accepted"}]))
        answer(charger, message_id, {"status": "Rejected"})
        end = requester.ended(command_id)
        assert end["eventType"] == "CommandAccepted"
        assert end["payload"]["response"] == {"status": "Rejected"}
        next_one_works(requester, charger)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_answer_then_a_late_one(gateway: Gateway, requester: Requester, charge_point_id: str, version: str) -> None:
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        late = requester.ask(charge_point_id, *RESET, timeoutSec=1)
        message_id = charger.hear()[1]
        end = requester.ended(late)
        assert (end["eventType"], end["payload"]) == (
            "CommandTimeout",
            {
                "commandType": "Reset",
                "error": "No response from charge point",
                "reason": "no_response",
                "outcome": "unknown",
            },
        )
        answer(charger, message_id)  # nobody waits for it
        following = requester.ask(charge_point_id, *RESET)
        own_id = charger.hear()[1]
        answer(charger, message_id)  # nor is it the answer to the next
        charger.socket.send(json.dumps([4, message_id, "InternalError", "", {}]))
        answer(charger, own_id, {"status": "Rejected"})
        assert requester.ended(following)["payload"]["response"] == {"status": "Rejected"}
        answer(charger, own_id)  # the same again
        next_one_works(requester, charger)
    assert requester.types(late) == ["CommandDispatched", "CommandTimeout"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", ["", "{", "nonsense", "[]", "[3]", "null", '{"a": 1}', "[3," * 300])
def test_undecodable_text_while_a_command_is_under_way(
    gateway: Gateway, requester: Requester, charge_point_id: str, version: str, text: str
) -> None:
    with Caller(gateway.url(""), charge_point_id, version) as charger:
        command_id = requester.ask(charge_point_id, *RESET)
        message_id = charger.hear()[1]
        charger.socket.send(text)
        answer(charger, message_id)
        assert requester.outcome(command_id) == ("CommandAccepted", None)
        following = requester.ask(charge_point_id, "ClearCache", {})
        while (frame := charger.hear())[0] != 2:
            assert frame[0] == 4  # to what could not be read
        answer(charger, frame[1])
        assert requester.outcome(following) == ("CommandAccepted", None)


def test_the_charge_point_speaks_between_command_and_answer(
    gateway: Gateway, requester: Requester, charge_point_id: str
) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        command_id = requester.ask(charge_point_id, *RESET)
        message_id = charger.hear()[1]
        assert list(charger.call("Heartbeat", {})) == ["currentTime"]
        # A CALL with the very id of ours.
        charger.socket.send(json.dumps([2, message_id, "Heartbeat", {}]))
        assert charger.hear()[:2] == [3, message_id]
        answer(charger, message_id)
        assert requester.outcome(command_id)[0] == "CommandAccepted"
        next_one_works(requester, charger)


# One after the other.


def test_in_order_and_never_two_in_flight(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        asked = [
            requester.ask(charge_point_id, "DataTransfer", {"vendorId": "test", "data": str(number)})
            for number in range(OUTBOX)
        ]
        for number in range(OUTBOX):
            _, message_id, _, payload = charger.hear()
            assert payload["data"] == str(number)
            # Nothing else comes before this has its answer: the Heartbeat's is the next to be heard.
            charger.call("Heartbeat", {})
            if number == 0:
                for each in asked[1:]:
                    assert requester.events(each) == []
            answer(charger, message_id)
        assert [requester.outcome(each)[0] for each in asked] == ["CommandAccepted"] * OUTBOX
    dispatched = [each for each, event_type in requester.order(charge_point_id) if event_type == "CommandDispatched"]
    assert dispatched == asked
    assert all(requester.types(each) == ["CommandDispatched", "CommandAccepted"] for each in asked)


def test_too_many_for_a_silent_one(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    with Caller(gateway.url(""), charge_point_id) as charger:
        asked = [requester.ask(charge_point_id, *RESET, timeoutSec=30) for _ in range(OUTBOX + 4)]
        message_id = charger.hear()[1]
        # The last are too many: at most so many wait behind the one in flight.
        assert requester.outcome(asked[-1]) == ("CommandFailed", "outbox_full")
        full = [each for each in asked if "CommandFailed" in requester.types(each)]
        assert len(full) == 3
        answer(charger, message_id)
        for _ in range(OUTBOX):
            answer(charger, charger.hear()[1])
        kept = [each for each in asked if each not in full]
        assert [requester.outcome(each)[0] for each in kept] == ["CommandAccepted"] * (OUTBOX + 1)
        # It can be asked again, under the same id.
        requester.ask(charge_point_id, *RESET, commandId=asked[-1])
        answer(charger, charger.hear()[1])
        assert requester.outcome(asked[-1], number=2) == ("CommandAccepted", None)


def test_silent_ones_delay_nobody_else(
    gateway: Gateway, requester: Requester, redis_url: str, charge_point_id: str
) -> None:
    silent = [f"{charge_point_id}-silent-{number}" for number in range(3)]
    others = [f"{charge_point_id}-other-{number}" for number in range(6)]
    for each in silent + others:
        provision(redis_url, each)
    with contextlib.ExitStack() as stack:
        chargers = [stack.enter_context(Caller(gateway.url(""), each)) for each in silent]
        points = [
            stack.enter_context(OcppPoint(gateway.url(""), each, VERSIONS[number % 3]))
            for number, each in enumerate(others)
        ]
        unanswered = [requester.ask(each, *RESET, timeoutSec=40) for each in silent for _ in range(OUTBOX)]
        for charger in chargers:
            assert charger.hear()[2] == "Reset"
        began = time.monotonic()
        for _ in range(5):
            asked = [requester.ask(each, "ClearCache", {}) for each in others]
            assert [requester.outcome(each)[0] for each in asked] == ["CommandAccepted"] * len(others)
        assert time.monotonic() - began < 15
        assert all(len(point.heard) == 5 for point in points)
        assert not any("CommandAccepted" in requester.types(each) for each in unanswered)
        for charger in chargers:
            charger.close()
        outcomes = [requester.outcome(each) for each in unanswered]
    timeout, failed = ("CommandTimeout", "connection_lost"), ("CommandFailed", "connection_lost")
    assert outcomes == ([timeout] + [failed] * (OUTBOX - 1)) * 3


# The connection ends.


@pytest.mark.parametrize("how", ["closed", "cut", "kicked", "replaced"])
def test_the_connection_ends_before_the_answer(
    gateway: Gateway, requester: Requester, charge_point_id: str, how: str
) -> None:
    headers = list(basic(charge_point_id).items())
    charger = RawCharger(gateway.ocpp_port, charge_point_id, headers, subprotocols=SUBPROTOCOLS["1.6"])
    sent = requester.ask(charge_point_id, *RESET)
    assert charger.receive()[2] == "Reset"
    waiting = [requester.ask(charge_point_id, "ClearCache", {}) for _ in range(3)]
    until(lambda: counted(gateway, "ocpp_commands_in_flight", role="executing") == 4, "all of them to be in the outbox")
    with contextlib.ExitStack() as stack:
        if how == "closed":
            charger.hang_up()
        elif how == "cut":
            charger.socket.reset()
        elif how == "kicked":
            assert ask(gateway, f"/sessions/{charge_point_id}", method="DELETE")[0] in (200, 202)
        else:
            stack.enter_context(Caller(gateway.url(""), charge_point_id))
        end = requester.ended(sent)
        assert (end["eventType"], end["payload"]) == (
            "CommandTimeout",
            {"commandType": "Reset", "error": "Connection lost", "reason": "connection_lost", "outcome": "unknown"},
        )
        for each in waiting:
            end = requester.ended(each)
            assert (end["eventType"], end["payload"]) == (
                "CommandFailed",
                {"commandType": "ClearCache", "error": "Connection lost", "reason": "connection_lost"},
            )
            assert requester.types(each) == ["CommandFailed"]
    with contextlib.suppress(OSError):
        charger.socket.close()
    gateway.wait_for("session.closed", charge_point_id=charge_point_id)
    with Caller(gateway.url(""), charge_point_id) as again:
        # What was not sent may be asked for again; what was may not.
        requester.ask(charge_point_id, "ClearCache", {}, commandId=waiting[0])
        answer(again, again.hear()[1])
        assert requester.outcome(waiting[0], number=2) == ("CommandAccepted", None)
        requester.ask(charge_point_id, *RESET, commandId=sent)
        assert requester.outcome(sent, number=2) == ("CommandDuplicate", "duplicate_command_id")
        next_one_works(requester, again)


def test_an_answer_as_long_as_may_be(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    # Nothing that can be compressed much: that is refused.
    keys = [
        {"key": f"Key{number}", "readonly": True, "value": token_hex(100) + "\\\u00e4" * 100} for number in range(200)
    ]
    with Caller(gateway.url(""), charge_point_id) as charger:
        command_id = requester.ask(charge_point_id, "GetConfiguration", {})
        text = json.dumps([3, charger.hear()[1], {"configurationKey": keys}])
        assert 200_000 < len(text) < 262_144
        charger.socket.send(text)
        end = requester.ended(command_id)
        assert end["eventType"] == "CommandAccepted"
        assert end["payload"]["response"] == {"configurationKey": keys}
        refused = requester.ask(charge_point_id, "ClearCache", {})
        details = {token_hex(25_000): token_hex(25_000)}
        charger.socket.send(json.dumps([4, charger.hear()[1], token_hex(25_000), token_hex(25_000), details]))
        assert requester.outcome(refused) == ("CommandRejected", "call_error")
        next_one_works(requester, charger)


def test_one_that_reads_nothing(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    headers = list(basic(charge_point_id).items())
    with RawCharger(gateway.ocpp_port, charge_point_id, headers, subprotocols=SUBPROTOCOLS["1.6"]) as charger:
        large = {"vendorId": "test", "data": "x" * 60_000}
        asked = [requester.ask(charge_point_id, "DataTransfer", large, timeoutSec=1) for _ in range(3)]
        for each in asked:
            assert requester.outcome(each) in (("CommandTimeout", "no_response"), ("CommandFailed", "command_expired"))
        last = requester.ask(charge_point_id, *RESET)
        while (frame := charger.receive())[2] != "Reset":
            assert frame[2] == "DataTransfer"
        charger.send([3, frame[1], {"status": "Accepted"}])
        assert requester.outcome(last) == ("CommandAccepted", None)


def test_the_answer_and_the_end_at_once(gateway: Gateway, requester: Requester, charge_point_id: str) -> None:
    headers = list(basic(charge_point_id).items())
    with RawCharger(gateway.ocpp_port, charge_point_id, headers, subprotocols=SUBPROTOCOLS["1.6"]) as charger:
        command_id = requester.ask(charge_point_id, *RESET)
        message_id = charger.receive()[1]
        charger.send([3, message_id, {"status": "Accepted"}])
        charger.hang_up()
        assert requester.outcome(command_id) == ("CommandAccepted", None)
