"""Commands that wait in Redis for their charge point."""

from __future__ import annotations

from typing import Any

import pytest
from command_nodes import ChargePointSession, Site
from command_parts import Record, command, request_of
from twisted.internet.defer import Deferred

ACCEPTED = {"status": "Accepted"}
WITHIN: dict[str, Any] = {"deliver_within_seconds": 60.0}


def give(site: Site, *numbers: int, to: str = "a", **changes: Any) -> list[Record]:
    records = [site.record(request_of(command(number, **{**WITHIN, **changes}))) for number in numbers]
    site[to].dispatcher.received(records)
    return records


def reason_of(site: Site, command_id: str) -> str:
    (final,) = site.topic.finals(command_id)
    return str(final["payload"].get("reason"))


def test_a_command_waits_and_goes_out_in_order_when_its_charge_point_has_come() -> None:
    site = Site("ab")
    records = give(site, 1, 2)
    assert site.topic.types() == ["CommandQueued", "CommandQueued"]
    assert site.finished == records
    session = site.connect("b")
    site.pass_time(1.0)
    assert session.sent == []
    site["b"].unparking.settled(session)
    for _ in records:
        session.answer(ACCEPTED)
    dispatched = [event["correlationId"] for _, event in site.topic.records if event["eventType"] == "CommandAccepted"]
    assert dispatched == ["c-1", "c-2"]
    assert not site.redis.deadlines
    assert site.redis.parked["CP-001"] == []


def test_it_is_told_until_when_it_waits() -> None:
    site = Site()
    give(site, 1)
    assert site.topic.records[0][1]["payload"]["deliverUntil"].startswith("2026-01-02T03:05:")


def test_one_that_comes_later_goes_behind_those_that_wait_without_waiting_for_the_first_answer() -> None:
    site = Site("ab")
    give(site, 1)
    session = site.connect("b")
    give(site, 2, deliver_within_seconds=0.0)
    for _ in range(2):
        session.answer(ACCEPTED)
    dispatched = [
        event["correlationId"] for _, event in site.topic.records if event["eventType"] == "CommandDispatched"
    ]
    assert dispatched == ["c-1", "c-2"]
    site["b"].unparking.settled(session)
    assert len(session.sent) == 2


def test_one_that_nobody_comes_for_expires() -> None:
    site = Site("ab")
    give(site, 1)
    site.pass_time(62.0)
    assert reason_of(site, "c-1") == "command_expired"
    assert not site.redis.deadlines


def test_one_that_its_session_did_not_send_waits_for_the_next() -> None:
    site = Site()
    give(site, 1, 2)
    first = site.connect("a")
    site["a"].unparking.settled(first)
    site.disconnect("a")
    assert reason_of(site, "c-1") == "connection_lost"
    assert site.topic.finals("c-2") == []
    second = site.connect("a")
    site["a"].unparking.settled(second)
    second.answer(ACCEPTED)
    assert site.topic.finals("c-2")[0]["eventType"] == "CommandAccepted"


def test_one_that_was_never_parked_is_when_its_connection_ends_before_it_was_sent() -> None:
    site = Site("ab")
    first = site.connect("b")
    records = give(site, 1, 2)
    site.disconnect("b")
    assert site.topic.types("c-2") == ["CommandQueued"]
    assert site.finished == records
    second = site.connect("a")
    site["a"].unparking.settled(second)
    second.answer(ACCEPTED)
    assert site.topic.types("c-2") == ["CommandQueued", "CommandDispatched", "CommandAccepted"]
    assert len(first.sent) == 1


def test_of_one_charge_point_so_many_wait_and_no_more() -> None:
    site = Site(parking_limit=2)
    give(site, 1, 2, 3)
    assert reason_of(site, "c-3") == "parking_full"
    assert site.topic.types().count("CommandQueued") == 2


def test_a_secret_is_not_written_down() -> None:
    site = Site()
    give(site, 1, command_type="ChangeConfiguration", payload={"key": "AuthorizationKey", "value": "C0FFEE"})
    assert reason_of(site, "c-1") == "secret_not_parkable"
    assert "C0FFEE" not in repr(site.redis.rows) + repr(site.topic.records)


def test_more_than_the_outbox_holds_waits_in_redis() -> None:
    site = Site()
    give(site, 1, 2, 3)
    session = site.connect("a", max_waiting=1)
    site["a"].unparking.settled(session)
    for _ in range(3):
        site.pass_time(2.0)
        session.answer(ACCEPTED)
    assert site.topic.types().count("CommandAccepted") == 3


def test_one_whose_sender_has_died_is_ended_by_the_sweep() -> None:
    site = Site("ab")
    give(site, 1)
    session = site.connect("b")
    site["b"].unparking.settled(session)
    assert len(session.sent) == 1
    del site.nodes["b"], site.redis.leases["b"]
    site.pass_time(12.0)
    assert reason_of(site, "c-1") == "node_lost"
    assert not site.redis.deadlines


def test_a_record_that_is_delivered_again_after_it_was_parked_is_told_with_the_same_event() -> None:
    site = Site("ab")
    records = give(site, 1)
    site["b"].dispatcher.received(records)
    assert site.topic.types() == ["CommandQueued", "CommandQueued"]
    assert len({event_id for event_id, _ in site.topic.records}) == 1
    assert site.finished == records * 2


def test_what_was_parked_while_its_node_was_taken_for_dead_is_found_again() -> None:
    site = Site("ab")
    session = site.connect("b")
    site["b"].unparking.settled(session)
    born = site.redis.leases.pop("b")
    give(site, 1)
    assert site.topic.types() == ["CommandQueued"]
    site.redis.leases["b"] = born
    site["b"].unparking.recheck(site["b"].sessions.values())
    session.answer(ACCEPTED)
    assert site.topic.finals("c-1")[0]["eventType"] == "CommandAccepted"


def test_one_that_has_only_just_connected_is_asked_nothing_before_its_first_answer() -> None:
    site = Site("ab")
    give(site, 1)
    session = site.connect("b")
    site["b"].unparking.recheck([session])
    assert session.sent == []
    site["b"].unparking.settled(session)
    session.answer(ACCEPTED)
    assert site.topic.finals("c-1")[0]["eventType"] == "CommandAccepted"


def test_one_whose_outbox_is_full_keeps_no_other_waiting_then() -> None:
    site = Site("ab")
    full, other = site.connect("b", max_waiting=1), site.connect("b", "CP-002")
    for session in (full, other):
        site["b"].unparking.settled(session)
    give(site, 1, 2, deliver_within_seconds=0.0)
    born = site.redis.leases.pop("b")
    give(site, 3)
    give(site, 4, charge_point_id="CP-002")
    site.redis.leases["b"] = born
    site["b"].unparking.recheck([full, other])
    other.answer(ACCEPTED)
    assert site.topic.finals("c-4")[0]["eventType"] == "CommandAccepted"
    for _ in range(3):
        full.answer(ACCEPTED)
        site.pass_time(2.0)
    assert site.topic.finals("c-3")[0]["eventType"] == "CommandAccepted"


def sent(site: Site) -> list[str]:
    return [event["correlationId"] for _, event in site.topic.records if event["eventType"] == "CommandDispatched"]


def answer_all(site: Site, session: ChargePointSession, count: int) -> None:
    for _ in range(count):
        site.pass_time(2.0)
        session.answer(ACCEPTED)


@pytest.mark.parametrize("redis_is_away", [True, False])
def test_what_came_for_a_session_goes_behind_what_is_older_on_the_next(redis_is_away: bool) -> None:
    """To the same node, before the first session is through with what waits."""
    site = Site("ab")
    give(site, 1, 2, 3)
    first = site.connect("b", max_waiting=1)
    site["b"].store.is_away = redis_is_away
    site["b"].unparking.settled(first)
    give(site, 4, deliver_within_seconds=0.0, timeout_seconds=60.0)
    before = list(sent(site))
    second = site.connect("b")
    first.close()
    site["b"].store.is_away = False
    site.pass_time(2.0)
    answer_all(site, second, 4 - len(before))
    assert sent(site) == ["c-1", "c-2", "c-3", "c-4"]


def test_at_a_stop_nothing_goes_before_what_is_older() -> None:
    site = Site("ab")
    give(site, 1, 2, 3)
    session = site.connect("b", max_waiting=1)
    site["b"].unparking.settled(session)
    give(site, 4, deliver_within_seconds=0.0, timeout_seconds=60.0)
    assert Deferred.fromCoroutine(site["b"].unparking.stop()).called
    answer_all(site, session, 2)
    site.pass_time(2.0)
    assert sent(site) == ["c-1", "c-2"]
    site.disconnect("b")
    next_session = site.connect("a")
    answer_all(site, next_session, 2)
    assert sent(site) == ["c-1", "c-2", "c-3", "c-4"]


def test_at_a_stop_what_comes_for_a_new_session_is_for_its_next() -> None:
    site = Site("ab")
    site.connect("b")
    assert Deferred.fromCoroutine(site["b"].unparking.stop()).called
    give(site, 1, deliver_within_seconds=0.0)
    site.pass_time(2.0)
    site.disconnect("b")
    session = site.connect("a")
    answer_all(site, session, 1)
    assert site.topic.finals("c-1")[0]["eventType"] == "CommandAccepted"


def test_a_session_that_ends_while_its_commands_are_looked_for_sends_none() -> None:
    site = Site()
    give(site, 1)
    session = site.connect("a")
    site["a"].store.is_away = True
    site["a"].unparking.settled(session)
    site.disconnect("a")
    site["a"].store.is_away = False
    site.pass_time(3.0)
    assert session.sent == []
    assert len(site["a"].unparking) == 0
    assert site.redis.parked["CP-001"] == ["c-1"]
