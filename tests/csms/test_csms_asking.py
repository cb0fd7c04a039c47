"""The CSMS answers in place of the gateway, through the event that there is anyway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from csms.csms_world import HOLD, LOG_COOLDOWN, START, TIMEOUT, V16, V21, V201, Said, World
from routing.memory_bus import MemoryBus
from twisted.logger import LogEvent

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.errors import BusUnavailable
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import Call, Payload, Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.routing.exchange import UnreadableCall

AUTHORIZE = {"idTag": "TAG-1"}
BLOCKED = {"idTagInfo": {"status": "Blocked"}}
UNAVAILABLE = [4, "m-1", "InternalError", "csms_unavailable", {}]


class TestTheEvent:
    def test_says_where_the_answer_goes(self, world: World) -> None:
        world.say("Authorize", AUTHORIZE)
        record = world.last
        reply_to = {"topic": "replies", "partition": 3, "correlationId": "node-1.id1"}
        assert record.event["replyTo"] == reply_to
        headers = dict(record.headers)
        assert headers["kafka_replyTopic"] == b"replies"
        assert headers["kafka_replyPartition"] == b"\x00\x00\x00\x03"
        assert headers["kafka_correlationId"] == b"node-1.id1"

    @pytest.mark.parametrize(("action", "payload"), [("Authorize", AUTHORIZE), ("StartTransaction", START)])
    def test_is_else_the_one_that_there_is_without_a_csms(
        self, world: World, schemas: Schemas, action: str, payload: Any
    ) -> None:
        alone = World(schemas, actions=())
        for each in (world, alone):
            each.say(action, payload)
        theirs, ours = dict(world.last.event), dict(alone.last.event)
        assert list(theirs).index("replyTo") == list(theirs).index("payload") - 1
        theirs.pop("replyTo")
        assert list(theirs) == list(ours)
        for event in (theirs, ours):
            event.pop("eventId")
            event.pop("connectionId")
        assert theirs == ours
        assert world.last.headers[: len(alone.last.headers)][2:] == alone.last.headers[2:]
        assert (world.last.topic, world.last.key) == (alone.last.topic, alone.last.key)

    def test_of_another_action_asks_nobody(self, world: World) -> None:
        said = world.say("Heartbeat", {})
        assert "replyTo" not in world.last.event
        assert len(world.questions) == 0
        world.confirm()
        assert said.frames[0][0] == 3


class TestAnswered:
    def test_when_kafka_has_the_event_and_the_answer_is_there(self, world: World) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.confirm()
        assert said.nothing_yet
        world.csms(BLOCKED)
        assert said.frames == [[3, "m-1", BLOCKED]]
        assert said.again == [True]
        assert world.questions_ended == [("Authorize", "answered")]
        assert (world.outcomes, world.records) == (["answered"], ["taken"])
        assert world.is_idle

    def test_in_either_order(self, world: World) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.csms(BLOCKED)
        assert said.nothing_yet
        world.confirm()
        assert said.frames == [[3, "m-1", BLOCKED]]
        assert world.is_idle

    def test_once(self, world: World) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.confirm()
        world.csms(BLOCKED)
        world.csms({"idTagInfo": {"status": "Accepted"}})
        world.clock.advance(60)
        assert said.frames == [[3, "m-1", BLOCKED]]
        assert world.records == ["taken", "late"]

    @pytest.mark.parametrize("version", [V201, V21])
    def test_in_every_version(self, world: World, version: Any) -> None:
        answer = {"idTokenInfo": {"status": "Blocked"}}
        payload = {"idToken": {"idToken": "T", "type": "Central"}}
        said = world.say("Authorize", payload, world.station(version))
        world.confirm()
        world.csms(answer)
        assert said.frames == [[3, "m-1", answer]]

    def test_with_a_callerror(self, world: World) -> None:
        said = world.say("DataTransfer", {"vendorId": "v"})
        world.confirm()
        world.csms(error={"code": "FormatViolation", "description": "d" * 300, "details": {"a": 1}})
        assert said.frames == [[4, "m-1", "FormationViolation", "d" * 255, {"a": 1}]]
        assert said.again == [False]
        assert world.questions_ended == [("DataTransfer", "refused")]
        assert world.outcomes == ["refused"]

    def test_each_question_by_its_own_answer(self, world: World) -> None:
        one = world.say("Authorize", AUTHORIZE)
        first = world.last
        other = world.say("Authorize", AUTHORIZE, world.other_station())
        world.confirm()
        world.csms({"idTagInfo": {"status": "Expired"}})
        assert one.nothing_yet
        world.csms(BLOCKED, to=first)
        assert one.frames == [[3, "m-1", BLOCKED]]
        assert other.frames[0][2] == {"idTagInfo": {"status": "Expired"}}

    def test_a_send_asks_nobody(self, schemas: Schemas) -> None:
        world = World(schemas, actions=("DataTransfer",))
        payload = {"id": 7, "data": [{"t": 0, "v": "1"}], "basetime": "2026-01-02T03:04:05Z", "pending": 0}
        send = decode(json.dumps([6, "s-1", "NotifyPeriodicEventStream", payload]).encode(), V21)
        assert isinstance(send, Send)
        said = world.take(send, world.station(V21))
        world.confirm()
        assert said.frames == [None]

    def test_billing_data_that_breaks_its_schema_is_ours_to_answer(self, world: World) -> None:
        """A CSMS could not read it either, and the charge point must be able to forget it."""
        said = world.say("StartTransaction", {**START, "connectorId": "one"})
        unreadable = world.take(UnreadableCall("m-2", "StartTransaction", "[2,", "not_json"), world.station())
        assert all("replyTo" not in record.event for record in world.bus.records)
        world.confirm()
        assert [said.frames[0][0], unreadable.frames[0][0]] == [3, 3]


class TestTransactionIds:
    def start(self, world: World, transaction_id: int, id: str = "m-1") -> Any:
        said = world.say("StartTransaction", START, id=id)
        world.confirm()
        world.csms({"transactionId": transaction_id, "idTagInfo": {"status": "Accepted"}})
        return said.frames[0][2]["transactionId"]

    def test_the_csms_gives_its_own(self, world: World) -> None:
        assert self.start(world, 77) == 77
        world.say("MeterValues", {"connectorId": 1, "transactionId": 77, "meterValue": []}, id="m-2")
        assert world.last.event["payload"]["orphaned"] is False

    def test_a_retry_gets_the_same_whoever_answers(self, world: World) -> None:
        self.start(world, 77)
        said = world.say("StartTransaction", START, id="m-2")
        assert world.last.event["payload"]["transactionId"] == 77
        assert world.last.event["payload"]["idempotent"] is True
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert said.frames[0][2]["transactionId"] == 77
        assert self.start(world, 78, id="m-3") == 77

    def test_a_transaction_that_is_refused_has_none(self, world: World) -> None:
        assert self.start(world, 0) == 0
        assert world.store.adopted == {}


class TestWithoutAnAnswer:
    @pytest.mark.parametrize(
        ("action", "payload", "kind"), [("StartTransaction", START, 3), ("DataTransfer", {"vendorId": "v"}, 3)]
    )
    def test_the_gateway_answers(self, world: World, action: str, payload: Any, kind: int) -> None:
        said = world.say(action, payload)
        world.confirm()
        world.clock.advance(TIMEOUT - 0.1)
        assert said.nothing_yet
        world.clock.advance(0.2)
        assert said.frames[0][0] == kind
        assert world.questions_ended == [(action, "no_answer")]
        assert world.outcomes == ["answered"]
        if action == "StartTransaction":
            assert said.frames[0][2]["transactionId"] == world.last.event["payload"]["transactionId"]
        assert world.is_idle

    def test_authorize_is_an_error(self, world: World) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert said.frames == [UNAVAILABLE]
        assert world.outcomes == ["refused"]
        world.csms(BLOCKED)
        assert said.frames == [UNAVAILABLE]
        assert world.records == ["late"]

    def test_authorize_may_be_ours(self, schemas: Schemas) -> None:
        world = World(schemas, fallbacks={"AUTHORIZE": "gateway"})
        said = world.say("Authorize", AUTHORIZE)
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert said.frames == [[3, "m-1", {"idTagInfo": {"status": "Accepted"}}]]

    def test_the_connection_is_closed(self, schemas: Schemas) -> None:
        world = World(schemas, fallbacks={"STARTTRANSACTION": "close"})
        said = world.say("StartTransaction", START)
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert (said.frames, said.reasons) == ([], ["csms_unavailable"])
        assert world.outcomes == ["csms_unavailable"]
        assert world.is_idle

    def test_what_the_gateway_cannot_answer_is_its_error(self, schemas: Schemas) -> None:
        """Without a CSMS there would be no event at all; the CSMS may know what Redis does not say."""
        world = World(schemas, fallbacks={"AUTHORIZE": "gateway"})
        world.store.away = True
        registry = world.station(policy=IdTokenPolicy.REGISTRY)
        said = world.say("Authorize", AUTHORIZE, registry)
        world.confirm()
        world.csms(BLOCKED)
        assert said.frames == [[3, "m-1", BLOCKED]]
        said = world.say("Authorize", AUTHORIZE, registry)
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert said.frames == [[4, "m-1", "InternalError", "id_tokens_unavailable", {}]]

    def test_the_time_runs_from_the_hand_over(self, schemas: Schemas) -> None:
        """Not while the event waits for room."""
        world = World(schemas, bus=MemoryBus(room=1))
        world.say("Heartbeat", {})
        said = world.say("Authorize", AUTHORIZE)
        world.clock.advance(5)
        assert len(world.questions) == 0
        world.confirm()
        world.confirm()
        world.clock.advance(TIMEOUT - 1)
        assert said.nothing_yet
        world.clock.advance(1)
        assert said.frames == [UNAVAILABLE]

    def test_it_too_waits_for_kafka(self, schemas: Schemas) -> None:
        world = World(schemas)
        said = world.say("StartTransaction", START)
        world.clock.advance(HOLD - 1)
        world.confirm()
        assert said.nothing_yet
        world.clock.advance(TIMEOUT - HOLD + 1)
        assert len(said.frames) == 1

    def test_too_many_questions_are_not_asked(self, schemas: Schemas) -> None:
        world = World(schemas, max_waiting=1)
        first = world.say("Authorize", AUTHORIZE)
        second = world.say("Authorize", AUTHORIZE, world.other_station())
        assert "replyTo" not in world.last.event
        assert second.nothing_yet
        world.confirm()
        assert second.frames == [UNAVAILABLE]
        assert world.questions_ended == [("Authorize", "too_many")]
        assert first.nothing_yet


class TestInvalidAnswers:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"Accepted", "not_json"),
            (b"", "not_json"),
            (b"{}", "no_payload"),
            (b'{"payload":{}}', "schema_invalid"),
            (b'{"payload":{"idTagInfo":{"status":"Perhaps"}}}', "schema_invalid"),
            (b'{"payload":{"idTagInfo":{"status":"Accepted"},"more":1}}', "schema_invalid"),
            (b'{"payload":{"idTagInfo":{"status":"Accepted","expiryDate":"soon"}}}', "schema_invalid"),
        ],
    )
    def test_are_not_sent(self, world: World, logged: list[LogEvent], value: bytes, reason: str) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.confirm()
        world.csms_record(value)
        assert said.frames == [UNAVAILABLE]
        assert world.questions_ended == [("Authorize", "invalid")]
        (event,) = logged
        assert (event["event"], event["reason"]) == ("csms.answer_invalid", reason)
        assert event["log_level"].name == "warn"
        assert world.is_idle

    def test_a_callerror_to_billing_data_is_one(self, world: World, logged: list[LogEvent]) -> None:
        said = world.say("StartTransaction", START)
        world.confirm()
        world.csms(error={"code": "InternalError"})
        assert said.frames[0][0] == 3
        assert [event["reason"] for event in logged] == ["error_to_billing_data"]

    def test_are_logged_once_in_a_while(self, world: World, logged: list[LogEvent]) -> None:
        for _ in range(5):
            world.say("Authorize", AUTHORIZE)
            world.confirm()
            world.csms_record(b"?")
        assert len(logged) == 1
        world.clock.advance(LOG_COOLDOWN)
        world.say("Authorize", AUTHORIZE)
        world.csms_record(b"?")
        assert [event["suppressed"] for event in logged] == [0, 4]


class TestKafka:
    def test_not_confirmed_in_time_there_is_no_answer(self, world: World, logged: list[LogEvent]) -> None:
        said = world.say("Authorize", AUTHORIZE)
        world.clock.advance(HOLD)
        assert said.reasons == ["kafka_unavailable"]
        assert world.is_idle
        world.csms(BLOCKED)
        world.confirm()
        assert said.frames == []
        assert world.records == ["late"]
        assert world.changes == ["lost", "regained"]
        assert len(logged) == 2

    def test_an_answer_does_not_stand_in_for_the_confirmation(self, world: World, logged: list[LogEvent]) -> None:
        said = world.say("StartTransaction", START)
        world.csms({"transactionId": 5, "idTagInfo": {"status": "Accepted"}})
        world.clock.advance(HOLD)
        assert (said.frames, said.reasons) == ([], ["kafka_unavailable"])
        world.confirm()
        assert said.frames == []
        assert len(logged) == 2

    @pytest.mark.parametrize("permanent", [False, True])
    def test_given_up_by_kafka_the_question_is_too(self, world: World, permanent: bool) -> None:
        class Lost(BusUnavailable):
            @property
            def permanent(self) -> bool:
                return permanent

        said = world.say("Authorize", AUTHORIZE)
        world.bus.settle(Lost("lost"))
        assert len(said.frames) == int(permanent)
        assert len(said.reasons) == int(not permanent)
        assert world.is_idle
        world.clock.advance(60)
        assert len(said.frames) + len(said.reasons) == 1

    def test_no_client_at_all(self, world: World) -> None:
        world.bus.away = BusUnavailable("away")
        said = world.say("Authorize", AUTHORIZE)
        assert len(said.reasons) == 1
        assert world.is_idle


class TestTakenOver:
    def test_before_the_event_nothing_is_asked(self, schemas: Schemas) -> None:
        world = World(schemas)
        said = world.say("Authorize", AUTHORIZE, is_ours=lambda: False)
        assert (world.bus.records, said.frames, said.reasons) == ([], [], [])
        assert world.outcomes == ["superseded"]
        assert world.is_idle

    def test_afterwards_the_answer_is_handed_over_to_whoever_is_left(self, world: World) -> None:
        """The session drops it: it is closed. Nothing waits any more."""
        mine = [True]
        said = world.say("Authorize", AUTHORIZE, is_ours=lambda: mine[0])
        world.confirm()
        mine[0] = False
        world.csms(BLOCKED)
        assert len(said.frames) == 1
        assert world.is_idle


class TestBroken:
    def test_what_breaks_costs_one_connection(self, world: World, logged: list[LogEvent]) -> None:
        class Breaking:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            async def answer(self, caller: Caller, call: Call) -> Any:
                async def broken(payload: Payload) -> Payload:
                    raise RuntimeError("broken")

                return evolve(await real.answer(caller, call), overruled=broken)

        station = world.station()
        real: Any = station.adapter
        said = world.say("Authorize", AUTHORIZE, evolve(station, adapter=Breaking()))
        world.confirm()
        world.csms(BLOCKED)
        assert (said.frames, said.reasons) == ([], ["csms_unavailable"])
        assert [event["event"] for event in logged] == ["csms.failed"]
        assert world.is_idle

    @pytest.mark.parametrize("confirmed_first", [True, False])
    def test_an_answer_that_cannot_be_given_leaves_nobody_waiting(
        self, world: World, logged: list[LogEvent], confirmed_first: bool
    ) -> None:
        class Unable(Said):
            def finish(self, frame: bytes | None, again: bool) -> None:
                raise RuntimeError("broken")

        call = decode(json.dumps([2, "m-1", "Authorize", AUTHORIZE]).encode(), V16)
        assert isinstance(call, Call)
        said = world.take(call, world.station(), Unable())
        if confirmed_first:
            world.confirm()
        world.csms(BLOCKED)
        if not confirmed_first:
            world.confirm()
        assert said.reasons == ["internal_error"]
        assert [event["event"] for event in logged] == ["csms.failed"]
        assert world.is_idle


def test_without_actions_nothing_is_different(schemas: Schemas) -> None:
    world = World(schemas, actions=())
    said = world.say("Authorize", AUTHORIZE)
    world.confirm()
    assert said.frames == [[3, "m-1", {"idTagInfo": {"status": "Accepted"}}]]
    assert (world.questions_ended, world.boot_states.reads) == ([], 0)


def test_version_is_the_connections(world: World) -> None:
    """An answer in the words of another version is no answer."""
    said = world.say("Authorize", AUTHORIZE, world.station(V16))
    world.confirm()
    world.csms({"idTokenInfo": {"status": "Accepted"}})
    assert said.frames == [UNAVAILABLE]
