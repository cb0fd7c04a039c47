"""Who was answered Pending or Rejected is held back until it is Accepted; nobody else ever is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from csms.csms_world import BOOT_16, START, TIMEOUT, V16, V21, V201, World, boot_answer
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.sessions import Registration
from ocpp_gateway.csms.boot import BootState, asked_for
from ocpp_gateway.ocppj.actions import csms_actions, station_actions
from ocpp_gateway.ocppj.codec import decode
from ocpp_gateway.ocppj.frames import Send
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.routing.exchange import UnreadableCall

STATUS_16 = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
STATUS_2X = {
    "timestamp": "2026-01-02T03:04:05Z",
    "connectorStatus": "Available",
    "evseId": 1,
    "connectorId": 1,
}
NOT_ACCEPTED = pytest.mark.parametrize("status", ["Pending", "Rejected"])


def status_notification(world: World, version: OcppVersion = V16, connection: str = "c-1") -> list[Any]:
    """What the charge point gets for one."""
    said = world.say(
        "StatusNotification", STATUS_2X if version.is_2x else STATUS_16, world.station(version, connection=connection)
    )
    world.confirm()
    assert len(said.frames) == 1
    frame: list[Any] = said.frames[0]
    return frame[:3]


class TestHeldBack:
    @NOT_ACCEPTED
    @pytest.mark.parametrize("version", OcppVersion)
    def test_until_it_is_accepted(self, world: World, status: str, version: OcppVersion) -> None:
        of = world.station(version)
        assert status_notification(world, version)[0] == 3
        assert world.boot(status, of).frames == [[3, "m-1", boot_answer(status)]]
        published = len(world.bus.records)
        assert status_notification(world, version) == [4, "m-1", "SecurityError"]
        assert len(world.bus.records) == published
        world.boot("Accepted", of)
        assert status_notification(world, version)[0] == 3
        assert world.boot_states.kept == {}

    def test_before_anything_else_is_looked_at(self, world: World) -> None:
        world.boot("Pending")
        for action, payload in (("StatusNotification", {"connectorId": "x"}), ("Nonsense", {}), ("Reset", {})):
            assert world.say(action, payload).frames[0][2] == "SecurityError"

    def test_its_registration_is_looked_up_on_the_next_connection_and_any_node(
        self, world: World, schemas: Schemas
    ) -> None:
        world.boot("Rejected")
        assert status_notification(world, connection="c-2")[2] == "SecurityError"
        other = World(schemas, boot_states=world.boot_states)
        assert status_notification(other)[2] == "SecurityError"

    def test_other_charge_points_are_not(self, world: World) -> None:
        world.boot("Pending")
        said = world.say("StatusNotification", STATUS_16, world.other_station())
        world.confirm()
        assert said.frames[0][0] == 3

    def test_a_call_that_comes_with_the_boot_notification_is_too(self, world: World) -> None:
        """The session takes it while the answer is being written."""
        answers: list[Any] = []

        def finish(frame: bytes | None, again: bool) -> None:
            answers.append(world.say("StatusNotification", STATUS_16, id="m-2"))

        call = decode(json.dumps([2, "m-1", "BootNotification", BOOT_16]).encode(), V16)
        world.uplink.take(world.station(), call, finish, answers.append)
        world.confirm()
        world.csms(boot_answer("Pending"))
        assert answers[0].frames[0][2] == "SecurityError"

    def test_a_send_is_not_published(self, world: World) -> None:
        world.boot("Pending", world.station(V21))
        published = len(world.bus.records)
        payload = {"id": 7, "data": [{"t": 0, "v": "1"}], "basetime": "2026-01-02T03:04:05Z", "pending": 0}
        send = decode(json.dumps([6, "s-1", "NotifyPeriodicEventStream", payload]).encode(), V21)
        assert isinstance(send, Send)
        assert world.take(send, world.station(V21)).frames == [None]
        assert len(world.bus.records) == published


class TestBillingData:
    @NOT_ACCEPTED
    def test_is_published_and_answered(self, world: World, status: str) -> None:
        world.boot(status)
        said = world.say("StopTransaction", {"transactionId": 1, "meterStop": 2, "timestamp": "2026-01-02T03:04:05Z"})
        assert world.last.event["payload"]["registrationStatus"] == status
        world.confirm()
        assert said.frames == [[3, "m-1", {}]]

    def test_even_if_it_breaks_the_schema_or_cannot_be_read(self, world: World) -> None:
        world.boot("Pending")
        said = [
            world.say("MeterValues", {"connectorId": "x"}),
            world.take(UnreadableCall("m-2", "StopTransaction", "[2,", "not_json"), world.station()),
        ]
        for record in world.bus.records[-2:]:
            assert record.event["payload"]["registrationStatus"] == "Pending"
            assert record.event["payload"]["schemaErrors"]
        world.confirm()
        assert [each.frames[0][0] for each in said] == [3, 3]

    def test_the_csms_is_asked_as_always(self, world: World) -> None:
        world.boot("Pending")
        said = world.say("StartTransaction", START)
        assert world.last.event["payload"]["registrationStatus"] == "Pending"
        world.confirm()
        world.csms({"transactionId": 9, "idTagInfo": {"status": "Accepted"}})
        assert said.frames[0][2]["transactionId"] == 9

    def test_of_who_is_accepted_says_nothing_of_it(self, world: World) -> None:
        world.boot("Accepted")
        world.say("StartTransaction", START)
        assert "registrationStatus" not in world.last.event["payload"]


class TestAskedFor:
    def test_a_trigger_lets_it_through_while_pending(self, world: World) -> None:
        world.boot("Pending")
        world.registrations.asked("CP-001", "TriggerMessage", {"requestedMessage": "StatusNotification"})
        assert status_notification(world)[0] == 3
        assert world.last.event["payload"]["registrationStatus"] == "Pending"
        assert world.say("Heartbeat", {}).frames[0][2] == "SecurityError"

    def test_on_another_connection_too(self, world: World) -> None:
        world.boot("Pending")
        world.registrations.asked("CP-001", "TriggerMessage", {"requestedMessage": "StatusNotification"})
        assert status_notification(world, connection="c-2")[0] == 3

    def test_pending_once_more_it_still_holds(self, world: World) -> None:
        world.boot("Pending", world.station(V201))
        world.registrations.asked("CP-001", "GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"})
        world.boot("Pending", world.station(V201))
        report = {"requestId": 1, "generatedAt": "2026-01-02T03:04:05Z", "seqNo": 0}
        said = world.say("NotifyReport", report, world.station(V201))
        world.confirm()
        assert said.frames == [[3, "m-1", {}]]

    def test_one_who_is_rejected_was_not_to_be_asked(self, world: World) -> None:
        world.boot("Pending")
        world.registrations.asked("CP-001", "TriggerMessage", {"requestedMessage": "StatusNotification"})
        world.boot("Rejected")
        assert status_notification(world)[2] == "SecurityError"
        world.boot("Pending")
        assert status_notification(world)[2] == "SecurityError"

    @pytest.mark.parametrize(
        ("action", "payload", "names"),
        [
            ("TriggerMessage", {"requestedMessage": "Heartbeat"}, ("Heartbeat",)),
            ("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"}, ("SignCertificate",)),
            (
                "ExtendedTriggerMessage",
                {"requestedMessage": "FirmwareStatusNotification"},
                ("FirmwareStatusNotification", "SignedFirmwareStatusNotification"),
            ),
            ("GetReport", {"requestId": 1}, ("NotifyReport",)),
            ("Reset", {"type": "Soft"}, ()),
            ("TriggerMessage", {}, ()),
            ("TriggerMessage", {"requestedMessage": 7}, ()),
        ],
    )
    def test_what_comes_of_it(self, action: str, payload: Any, names: tuple[str, ...]) -> None:
        assert asked_for(action, payload) == names

    def test_all_are_actions_of_charge_points(self) -> None:
        commands = frozenset().union(*map(csms_actions, OcppVersion))
        calls = frozenset().union(*map(station_actions, OcppVersion))
        named = [name for command in commands for name in asked_for(command, {})]
        assert len(named) >= 10
        assert set(named) <= calls


class TestCommands:
    def test_it_is_what_commands_ask_for(self, world: World) -> None:
        port: Registration = world.registrations
        assert not port.is_rejected("CP-001")
        world.boot("Pending")
        assert not port.is_rejected("CP-001")
        world.boot("Rejected")
        assert port.is_rejected("CP-001")
        assert not port.is_rejected("CP-002")
        world.boot("Accepted")
        assert not port.is_rejected("CP-001")

    def test_it_is_known_before_the_first_call(self, world: World) -> None:
        world.boot_states.kept["CP-001"] = BootState("Rejected", 60)
        world.registrations.opened(world.station())
        assert world.registrations.is_rejected("CP-001")
        assert world.boot_states.reads == 1
        assert status_notification(world)[2] == "SecurityError"
        assert world.boot_states.reads == 1


class TestWithoutTheCsms:
    def test_the_gateway_accepts_who_was_not_held_back(self, world: World) -> None:
        said = world.say("BootNotification", BOOT_16)
        world.confirm()
        world.clock.advance(TIMEOUT)
        assert said.frames[0][2]["status"] == "Accepted"
        assert said.again == [False]
        assert (world.boot_states.kept, world.boot_states.writes) == ({}, [])

    @NOT_ACCEPTED
    def test_and_repeats_the_last_word_to_who_was(self, world: World, status: str) -> None:
        world.boot(status, interval=77)
        said = world.say("BootNotification", BOOT_16, world.station(connection="c-2"))
        world.confirm()
        world.clock.advance(TIMEOUT)
        answer = said.frames[0][2]
        assert (answer["status"], answer["interval"]) == (status, 77)
        assert answer["currentTime"].startswith("2026-01-02T03:04:15")
        assert said.again == [False]
        assert status_notification(world, connection="c-2")[2] == "SecurityError"

    def test_a_callerror_changes_nothing(self, world: World) -> None:
        world.boot("Pending")
        said = world.say("BootNotification", BOOT_16)
        world.confirm()
        world.csms(error={"code": "InternalError"})
        assert said.frames[0][0] == 4
        assert status_notification(world)[2] == "SecurityError"

    def test_where_the_gateway_answers_nobody_is_held_back(self, schemas: Schemas) -> None:
        world = World(schemas, actions=("Authorize",))
        world.boot_states.kept["CP-001"] = BootState("Rejected", 60)
        assert status_notification(world)[0] == 3
        assert world.boot_states.reads == 0


class TestRedis:
    def test_is_asked_once_a_connection(self, world: World) -> None:
        for _ in range(5):
            status_notification(world)
            world.boot("Accepted")
            world.clock.advance(60)
        assert world.boot_states.reads == 1
        assert world.boot_states.writes == []
        status_notification(world, connection="c-2")
        assert world.boot_states.reads == 2

    def test_away_it_holds_nobody_back(self, world: World) -> None:
        world.boot_states.kept["CP-001"] = BootState("Pending", 60)
        world.boot_states.away = True
        assert status_notification(world)[0] == 3
        assert status_notification(world)[0] == 3
        assert world.boot_states.reads == 1
        world.boot_states.away = False
        world.clock.advance(6)
        assert status_notification(world)[2] == "SecurityError"

    def test_away_what_was_answered_here_still_holds(self, world: World) -> None:
        world.boot_states.away = True
        world.boot("Pending")
        world.clock.advance(60)
        assert status_notification(world)[2] == "SecurityError"
        world.boot("Accepted")
        assert status_notification(world)[0] == 3

    def test_who_is_accepted_while_nothing_was_known_is_forgotten(self, world: World) -> None:
        """Else the next connection would be held back, and the charge point would not know why."""
        world.boot_states.kept["CP-001"] = BootState("Pending", 60)
        world.boot_states.away = True
        said = world.say("BootNotification", BOOT_16)
        world.confirm()
        world.clock.advance(5)
        world.boot_states.away = False
        world.clock.advance(TIMEOUT)
        assert said.frames[0][2]["status"] == "Accepted"
        assert world.boot_states.kept == {}

    def test_another_node_may_have_accepted_it(self, world: World) -> None:
        """One that could not reach Redis then: what it missed comes later."""
        world.boot_states.kept["CP-001"] = BootState("Pending", 60)
        assert status_notification(world)[2] == "SecurityError"
        world.boot_states.kept.clear()
        assert status_notification(world)[2] == "SecurityError"
        world.clock.advance(6)
        assert status_notification(world)[0] == 3

    def test_an_answer_that_comes_late_does_not_undo_a_newer_one(self, world: World) -> None:
        world.boot_states.slow = []
        world.registrations.opened(world.station())
        waiting: Deferred[None] = world.boot_states.slow[0]
        world.boot_states.slow = None
        world.boot("Pending")
        world.boot_states.kept.clear()
        waiting.callback(None)
        assert status_notification(world)[2] == "SecurityError"


class TestTakenOver:
    @pytest.mark.parametrize("status", ["Pending", "Accepted"])
    def test_its_answer_is_not_remembered(self, world: World, status: str) -> None:
        world.boot("Pending" if status == "Accepted" else "Accepted")
        before = dict(world.boot_states.kept)
        mine = [True]
        world.say("BootNotification", BOOT_16, is_ours=lambda: mine[0])
        world.confirm()
        mine[0] = False
        world.csms(boot_answer(status))
        assert world.boot_states.kept == before


class TestConnectedAgain:
    """A question of the connection before ends when the charge point has another one already."""

    @NOT_ACCEPTED
    def test_the_gateways_late_answer_changes_nothing(self, world: World, status: str) -> None:
        before, now = world.station(epoch=7), world.station(connection="c-2", epoch=8)
        late = world.say("BootNotification", BOOT_16, before)
        world.confirm()
        world.registrations.opened(now)
        world.clock.advance(1)
        world.boot(status, now)
        world.registrations.asked("CP-001", "TriggerMessage", {"requestedMessage": "StatusNotification"})
        world.clock.advance(TIMEOUT - 1)
        assert late.frames[0][2]["status"] == "Accepted"
        assert world.registrations.is_rejected("CP-001") is (status == "Rejected")
        assert world.registrations.was_asked(now, "StatusNotification") is (status == "Pending")

    def test_nor_does_that_of_the_csms(self, world: World) -> None:
        before, now = world.station(epoch=7), world.station(connection="c-2", epoch=8)
        world.say("BootNotification", BOOT_16, before)
        world.confirm()
        asked = world.last
        world.registrations.opened(now)
        world.boot("Accepted", now)
        world.csms(boot_answer("Rejected"), to=asked)
        assert not world.registrations.is_rejected("CP-001")

    def test_nor_what_redis_knew_before(self, world: World) -> None:
        world.boot_states.slow = []
        world.registrations.opened(world.station(epoch=7))
        waiting: Deferred[None] = world.boot_states.slow[0]
        world.boot_states.slow = None
        world.registrations.opened(world.station(connection="c-2", epoch=8))
        world.boot_states.kept["CP-001"] = BootState("Rejected", 60)
        waiting.callback(None)
        assert not world.registrations.is_rejected("CP-001")

    def test_epochs_begin_anew_when_redis_loses_its_data(self, world: World) -> None:
        world.boot("Rejected", world.station(epoch=7))
        world.boot_states.kept.clear()
        now = world.station(connection="c-2", epoch=1)
        world.registrations.opened(now)
        assert not world.registrations.is_rejected("CP-001")
        world.boot("Rejected", now)
        assert world.registrations.is_rejected("CP-001")
