"""Commands from a record to their final event, without faults and with those that come one at a time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from command_nodes import Site
from command_parts import NOW_MS, Record, command, request_of
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.states import Stage

ACCEPTED = {"status": "Accepted"}


def give(site: Site, *numbers: int, to: str = "a", **changes: Any) -> list[Record]:
    records = [site.record(request_of(command(number, **changes))) for number in numbers]
    site[to].dispatcher.received(records)
    return records


def test_a_command_is_sent_and_its_answer_ends_it() -> None:
    site = Site()
    session = site.connect("a")
    records = give(site, 1)
    assert [frame[2:] for frame in session.sent] == [["Reset", {"type": "Soft"}]]
    assert site.topic.types() == ["CommandDispatched"]
    assert site.finished == []
    session.answer(ACCEPTED)
    assert site.topic.types() == ["CommandDispatched", "CommandAccepted"]
    final = site.topic.finals("c-1")[0]
    assert final["payload"] == {"commandType": "Reset", "accepted": True, "response": ACCEPTED}
    assert final["connectionId"] == "conn-1"
    assert site.finished == records
    assert site.redis.rows["c-1"].state.state is Stage.DONE
    assert orjson.loads(site.redis.audits["c-1"])["status"] == "Accepted"
    assert site["a"].registrations.questions == [("CP-001", "Reset")]
    assert len(site["a"].dispatcher) == len(site["a"].executor) == 0


def test_another_nodes_charge_point_is_reached_over_the_bus() -> None:
    site = Site("ab")
    session = site.connect("b")
    records = give(site, 1)
    session.answer(ACCEPTED)
    assert site["a"].bus.said == [("hand_over", "b")]
    assert site["b"].bus.said == [("taken", "a"), ("done", "a")]
    assert site.topic.types() == ["CommandDispatched", "CommandAccepted"]
    assert site.finished == records


@pytest.mark.parametrize(
    ("end", "event_type", "reason"),
    [
        (lambda session: session.answer(error="NotSupported"), "CommandRejected", "call_error"),
        (lambda session: session.answer({"status": "Perhaps"}), "CommandRejected", "invalid_response"),
        (lambda session: session.close(), "CommandTimeout", "connection_lost"),
    ],
)
def test_what_the_charge_point_does_decides(end: Any, event_type: str, reason: str) -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    end(session)
    (final,) = site.topic.finals("c-1")
    assert (final["eventType"], final["payload"]["reason"]) == (event_type, reason)
    assert len(site.finished) == 1


def test_silence_ends_it_after_its_timeout() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1, timeout_seconds=3.0)
    site.pass_time(4.0)
    (final,) = site.topic.finals("c-1")
    assert final["payload"]["reason"] == "no_response"
    assert final["payload"]["outcome"] == "unknown"
    assert len(session.sent) == len(site.finished) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"command_type": "Fly"}, "unsupported_command"),
        ({"command_type": "GetVariables"}, "not_in_version"),
        ({"payload": {"type": "Warm"}}, "payload_invalid"),
    ],
)
def test_what_cannot_be_said_is_not_sent(changes: dict[str, Any], reason: str) -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1, **changes)
    (final,) = site.topic.finals("c-1")
    assert (final["eventType"], final["payload"]["reason"]) == ("CommandFailed", reason)
    assert session.sent == []
    assert len(site.finished) == 1


def test_a_rejected_charge_point_is_asked_nothing() -> None:
    site = Site()
    session = site.connect("a")
    site["a"].registrations.rejected.add("CP-001")
    give(site, 1)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "charge_point_rejected"
    assert session.sent == []


def test_an_offline_charge_point_may_be_asked_again_under_the_same_id() -> None:
    site = Site()
    give(site, 1)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "charge_point_offline"
    session = site.connect("a")
    give(site, 1)
    session.answer(ACCEPTED)
    assert [event["eventType"] for event in site.topic.finals("c-1")] == ["CommandFailed", "CommandAccepted"]
    assert len(site.finished) == 2


def test_the_same_id_in_another_record_is_a_duplicate_whatever_state_it_is_in() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    give(site, 1)
    session.answer(ACCEPTED)
    give(site, 1)
    assert site.topic.types() == [
        "CommandDispatched",
        "CommandDuplicate",
        "CommandAccepted",
        "CommandDuplicate",
    ]
    assert len(session.sent) == 1
    assert len(site.finished) == 3


def test_an_old_command_is_not_sent() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1, requested_at_ms=NOW_MS - 15_000)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "command_expired"
    assert session.sent == []


def test_commands_of_a_charge_point_go_out_one_by_one_in_order() -> None:
    site = Site("ab")
    session = site.connect("b")
    give(site, *range(1, 6))
    for number in range(1, 6):
        assert len(session.sent) == number
        session.answer(ACCEPTED)
    assert [event["correlationId"] for _, event in site.topic.records if event["eventType"] == "CommandAccepted"] == [
        f"c-{number}" for number in range(1, 6)
    ]
    assert [record.offset for record in site.finished] == [1, 2, 3, 4, 5]


def test_a_silent_charge_point_delays_nobody_else_and_its_own_expire_in_time() -> None:
    site = Site()
    silent, other = site.connect("a"), site.connect("a", "CP-002")
    give(site, 1, 2, timeout_seconds=5.0)
    give(site, 3, charge_point_id="CP-002")
    other.answer(ACCEPTED)
    assert site.topic.types("c-3") == ["CommandDispatched", "CommandAccepted"]
    site.pass_time(6.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "no_response"
    assert site.topic.finals("c-2")[0]["payload"]["reason"] == "command_expired"
    assert len(silent.sent) == 1
    assert len(site.finished) == 3


def test_a_full_outbox_refuses() -> None:
    site = Site()
    site.connect("a", max_waiting=1)
    give(site, 1, 2, 3)
    assert site.topic.finals("c-3")[0]["payload"]["reason"] == "outbox_full"


def test_what_waits_when_the_connection_ends_was_not_sent() -> None:
    site = Site("ab")
    session = site.connect("b")
    give(site, 1, 2)
    site.disconnect("b")
    assert site.topic.finals("c-1")[0]["eventType"] == "CommandTimeout"
    assert site.topic.finals("c-2")[0]["payload"] == {
        "commandType": "Reset",
        "error": "Connection lost",
        "reason": "connection_lost",
    }
    assert len(session.sent) == 1
    assert len(site.finished) == 2


def test_a_hand_over_that_nobody_hears_is_tried_again() -> None:
    site = Site("ab")
    session = site.connect("b")
    site.deaf.add("b")
    give(site, 1, 2)
    site.pass_time(3.0)
    assert session.sent == []
    site.deaf.clear()
    site.pass_time(1.0)
    session.answer(ACCEPTED)
    session.answer(ACCEPTED)
    assert [frame[0] for frame in session.sent] == [2, 2]
    assert site.topic.types().count("CommandAccepted") == 2


def test_a_hand_over_that_nobody_ever_hears_ends_when_it_expires_as_do_those_behind_it() -> None:
    site = Site("ab")
    site.connect("b")
    site.deaf.add("b")
    give(site, 1, timeout_seconds=20.0)
    give(site, 2, timeout_seconds=3.0)
    site.pass_time(4.0)
    assert site.topic.finals("c-2")[0]["payload"]["reason"] == "command_expired"
    site.pass_time(17.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "command_expired"
    assert len(site.finished) == 2


def test_an_owner_that_is_none_is_asked_again_until_the_command_expires() -> None:
    site = Site("ab")
    site.connect("b")
    site["b"].sessions.clear()
    give(site, 1, timeout_seconds=5.0)
    site.pass_time(6.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "command_expired"
    hand_overs = site["a"].bus.said.count(("hand_over", "b"))
    assert 4 <= hand_overs <= 10


def test_a_charge_point_that_moves_is_followed() -> None:
    site = Site("abc")
    site.connect("b")
    site["b"].sessions.clear()  # its connection has gone, Redis does not know yet
    give(site, 1)
    session = site.connect("c")
    site.pass_time(2.0)
    assert len(session.sent) == 1
    session.answer(ACCEPTED)
    assert site.topic.types("c-1") == ["CommandDispatched", "CommandAccepted"]


def test_an_owner_that_dies_before_it_has_sent_is_replaced() -> None:
    site = Site("abc")
    blocker = site.connect("b")
    give(site, 1)
    give(site, 2, timeout_seconds=60.0)  # taken, waits behind the first
    del site.nodes["b"], site.redis.leases["b"]
    session = site.connect("c")
    site.pass_time(9.0)
    assert [frame[0] for frame in session.sent] == [2]
    session.answer(ACCEPTED)
    assert site.topic.types("c-2") == ["CommandDispatched", "CommandAccepted"]
    (final,) = site.topic.finals("c-1")
    assert (final["eventType"], final["payload"]["reason"]) == ("CommandTimeout", "node_lost")
    assert len(blocker.sent) == 1


def test_a_node_that_comes_back_under_its_old_name_is_another_process() -> None:
    site = Site("ab")
    site.connect("b")
    give(site, 1)
    site.add("b", born="2")
    site.pass_time(4.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "node_lost"


def test_a_lease_that_is_missing_for_a_moment_ends_nothing() -> None:
    site = Site("ab")
    session = site.connect("b")
    give(site, 1)
    born = site.redis.leases.pop("b")
    site.pass_time(1.0)
    site.redis.leases["b"] = born
    site.pass_time(5.0)
    assert site.topic.finals("c-1") == []
    session.answer(ACCEPTED)
    assert len(site.topic.finals("c-1")) == 1


def test_without_redis_nothing_is_begun_and_what_has_ended_is_told_later() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    site["a"].store.is_away = True
    give(site, 2, charge_point_id="CP-002")
    session.answer(ACCEPTED)
    site.pass_time(3.0)
    assert site.topic.types() == ["CommandDispatched"]
    site["a"].store.is_away = False
    site.pass_time(2.0)
    assert len(site.topic.finals("c-1")) == len(site.topic.finals("c-2")) == 1
    assert len(site.finished) == 2


def test_a_redis_that_lost_everything_does_not_send_twice() -> None:
    site = Site("ab")
    session = site.connect("b")
    give(site, 1)
    leases, sessions = dict(site.redis.leases), dict(site.redis.sessions)
    site.redis.flush()
    site.redis.leases.update(leases)
    site.redis.sessions.update(sessions)
    site.pass_time(7.0)
    assert len(session.sent) == 1
    session.answer(ACCEPTED)
    site.pass_time(1.0)
    assert len(site.topic.finals("c-1")) == 1
    assert len(site.finished) == 1


@pytest.mark.parametrize(
    ("value", "reason", "is_told"),
    [
        (b"{", "command_invalid", False),
        (b'{"commandId":7}', "command_invalid", False),
        (b'{"commandId":"c-1","commandType":"Reset"}', "missing_charge_point_id", True),
        (
            b'{"commandId":"c-1","commandType":"Reset","chargePointId":"CP-001","timeoutSec":-1}',
            "command_invalid",
            True,
        ),
    ],
)
def test_a_record_that_is_no_command_stops_nothing(value: bytes, reason: str, is_told: bool) -> None:
    site = Site()
    session = site.connect("a")
    site["a"].dispatcher.received([site.record(value), site.record(request_of(command(2)))])
    session.answer(ACCEPTED)
    assert [event["payload"]["reason"] for event in site.topic.finals("c-1")] == ([reason] if is_told else [])
    assert site["a"].tally.unusable == ([] if is_told else [reason])
    assert len(site.topic.finals("c-2")) == 1
    assert len(site.finished) == 2


def test_a_record_that_is_delivered_again_while_it_is_under_way_is_the_same_command() -> None:
    site = Site()
    session = site.connect("a")
    (record,) = give(site, 1)
    again = Record(record.partition, record.offset, record.value, record.timestamp_ms, assignment=2)
    site["a"].dispatcher.received([again])
    session.answer(ACCEPTED)
    assert site.topic.types() == ["CommandDispatched", "CommandAccepted"]
    assert [each.assignment for each in site.finished] == [2]


def test_a_partition_that_goes_to_another_node_takes_its_commands_along() -> None:
    site = Site("ab")
    session = site.connect("a")
    records = give(site, 1, 2, 3)
    site["a"].dispatcher.revoked([0])
    assert len(site["a"].dispatcher) == 0
    site["b"].dispatcher.received(records)
    for _ in records:
        session.answer(ACCEPTED)
    assert len(session.sent) == 3
    assert all(len(site.topic.finals(f"c-{number}")) == 1 for number in (1, 2, 3))
    site.pass_time(2.0)
    assert len(site.finished) == 3
    assert "CommandDuplicate" not in site.topic.types()


def test_a_consumer_that_died_is_followed_by_one_that_ends_what_it_left() -> None:
    site = Site("ab")
    session = site.connect("a")
    records = give(site, 1)
    session.sent.clear()
    del site.nodes["a"], site.redis.leases["a"]
    site["b"].dispatcher.received(records)
    site.pass_time(4.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "node_lost"
    assert session.sent == []
    assert site.finished == records


def test_a_stopping_dispatcher_begins_nothing_and_waits_for_what_is_under_way() -> None:
    site = Site()
    session = site.connect("a")
    records = give(site, 1)
    stopped = Deferred.fromCoroutine(site["a"].dispatcher.stop(5.0))
    give(site, 2)
    assert not stopped.called
    session.answer(ACCEPTED)
    assert stopped.called
    assert site.finished == records


def test_a_stopped_node_leaves_nothing_behind_and_another_ends_it() -> None:
    site = Site("ab")
    session = site.connect("a")
    records = give(site, 1, 2)
    stopped = Deferred.fromCoroutine(site["a"].stop())
    assert stopped.called
    assert len(session.sent) == 1
    del site.nodes["a"], site.redis.leases["a"], site.redis.sessions["CP-001"]
    site["b"].dispatcher.received(records)
    site.pass_time(5.0)
    assert [len(site.topic.finals(each)) for each in ("c-1", "c-2")] == [1, 1]
    assert site.finished == records
    assert not site.clock.timers.getDelayedCalls()
