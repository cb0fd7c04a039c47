"""A defect of our own is logged, and the command it met has its end all the same; nobody else waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from command_nodes import ChargePointSession, Site
from command_parts import Record, command, request_of
from support.told_log import failures, told
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.request import Command
from ocpp_gateway.ocppj.frames import CallResult

ACCEPTED = {"status": "Accepted"}
BROKEN = ["command.broken"]


class Defect:
    """Takes the place of a function, and raises so many times."""

    def __init__(self, function: Any, times: int = 1) -> None:
        self.function = function
        self.times = times

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("a defect")
        return self.function(*args, **options)


def give(site: Site, *numbers: int, **changes: Any) -> list[Record]:
    records = [site.record(request_of(command(number, **changes))) for number in numbers]
    site["a"].dispatcher.received(records)
    return records


def end_of(site: Site, command_id: str) -> tuple[str, str]:
    (final,) = site.topic.finals(command_id)
    return final["eventType"], final["payload"].get("reason", "")


def is_clear(site: Site) -> bool:
    return all(len(node.dispatcher) == len(node.executor) == len(node.finals) == 0 for node in site.nodes.values())


def test_one_that_cannot_be_handed_over_fails_and_the_next_goes_on() -> None:
    site = Site("ab")
    session = site.connect("b")
    site["a"].bus.deliver = Defect(site["a"].bus.deliver)
    with told() as events:
        records = give(site, 1, 2)
    assert failures(events) == BROKEN
    assert end_of(site, "c-1") == ("CommandFailed", "internal_error")
    session.answer(ACCEPTED)
    assert end_of(site, "c-2") == ("CommandAccepted", "")
    assert site.finished == records
    assert is_clear(site)


def test_one_that_cannot_even_be_begun_is_tried_again_until_it_can_be_ended() -> None:
    site = Site()
    store = site["a"].store
    store.begin, store.finish = Defect(store.begin, 3), Defect(store.finish, 2)
    with told() as events:
        records = give(site, 1)
        assert site.finished == []
        site.pass_time(5.0)
    assert failures(events)[:2] == BROKEN * 2
    assert end_of(site, "c-1") == ("CommandFailed", "internal_error")
    assert site.finished == records
    assert is_clear(site)


def test_one_that_was_sent_is_not_told_to_have_failed() -> None:
    """Its charge point answers, whatever became of the one who looks after it."""
    site = Site("ab")
    session = site.connect("b")
    give(site, 1)
    site["a"].dispatcher.revoked([0])
    site["a"].store.begin = Defect(site["a"].store.begin)
    with told() as events:
        site["a"].dispatcher.received([Record(0, 1, request_of(command(1)))])
    assert failures(events) == BROKEN
    session.answer(ACCEPTED)
    site.pass_time(2.0)
    assert end_of(site, "c-1") == ("CommandAccepted", "")
    assert is_clear(site)


def broken_answer(session: ChargePointSession, _site: Site) -> None:
    answer = CallResult(message_id=session.sent[-1][1], payload={"status": object()}, raw_payload=b"{}")
    session.outbox.received(answer)


def broken_end(session: ChargePointSession, site: Site) -> None:
    store = site["a"].store
    store.finish = Defect(store.finish)
    session.answer(ACCEPTED)


@pytest.mark.parametrize("end", [broken_answer, broken_end])
def test_of_one_that_was_sent_nobody_knows(end: Any) -> None:
    site = Site()
    session = site.connect("a")
    records = give(site, 1, 2)
    with told() as events:
        end(session, site)
    assert BROKEN[0] in failures(events)
    assert end_of(site, "c-1") == ("CommandTimeout", "internal_error")
    session.answer(ACCEPTED)
    assert end_of(site, "c-2") == ("CommandAccepted", "")
    assert site.finished == records
    assert is_clear(site)


def test_those_of_a_dead_process_are_looked_for_again() -> None:
    site = Site("ab")
    session = site.connect("b")
    records = give(site, 1)
    assert len(session.sent) == 1
    del site.nodes["b"], site.redis.leases["b"]
    store = site["a"].store
    store.is_alive = Defect(store.is_alive)
    with told() as events:
        site.pass_time(6.0)
    assert failures(events) == BROKEN
    assert end_of(site, "c-1") == ("CommandTimeout", "node_lost")
    assert site.finished == records


def test_an_end_of_a_later_round_that_is_being_told_is_not_told_twice() -> None:
    """Who takes over the end of an earlier round may find that one in its place."""
    site = Site()
    held = site.topic.held = []
    give(site, 1)
    later = site.redis.rows["c-1"].state
    assert later.final is not None
    earlier = evolve(later, final=evolve(later.final, event_id="of the earlier round"))
    adopting = Deferred.fromCoroutine(site["a"].finals.adopt(command(1), earlier))
    site.pass_time(1.0)
    assert adopting.called
    assert len(held) == 1
    site.topic.held = None
    site.topic.publish(*held[0])
    assert end_of(site, "c-1") == ("CommandFailed", "charge_point_offline")
    assert is_clear(site)


def test_an_end_of_a_later_round_that_nobody_tells_is_told() -> None:
    site = Site("ab")
    site.topic.held = []
    give(site, 1)
    site.topic.held = None
    dead = site.nodes.pop("a")
    del site.redis.leases["a"]
    later = site.redis.rows["c-1"].state
    assert later.final is not None
    earlier = evolve(later, final=evolve(later.final, event_id="of the earlier round"))
    Deferred.fromCoroutine(site["b"].finals.adopt(command(1), earlier))
    site.pass_time(1.0)
    assert end_of(site, "c-1") == ("CommandFailed", "charge_point_offline")
    assert is_clear(site)
    assert Deferred.fromCoroutine(dead.stop()).called


def test_one_that_can_never_be_begun_fails_once_and_for_all() -> None:
    site = Site()
    session = site.connect("a")
    store = site["a"].store
    begin = store.begin

    async def broken(wanted: Command) -> Any:
        if wanted.command_id == "c-1":
            raise RuntimeError("a defect")
        return await begin(wanted)

    store.begin = broken
    with told() as events:
        records = give(site, 1, 2)
    assert failures(events) == BROKEN
    assert end_of(site, "c-1") == ("CommandFailed", "internal_error")
    session.answer(ACCEPTED)
    assert end_of(site, "c-2") == ("CommandAccepted", "")
    assert site.finished == records


def test_one_that_can_neither_go_on_nor_be_ended_is_tried_less_and_less() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    session.answer(ACCEPTED)
    site.topic.raises.extend([RuntimeError("a defect")] * 4)
    duplicate = Record(0, 99, request_of(command(1)))
    with told() as events:
        site["a"].dispatcher.received([duplicate])
        site.pass_time(14.0)
        assert duplicate not in site.finished
        site.pass_time(2.0)
    assert failures(events) == BROKEN * 4
    assert site.topic.types("c-1")[-1] == "CommandDuplicate"
    assert duplicate in site.finished


def test_an_end_that_could_not_be_told_is_told_by_who_has_it() -> None:
    """The node that consumed the record sees that it is cared for, so nobody else does it."""
    site = Site("ab")
    session = site.connect("b")
    records = give(site, 1)
    site.topic.raises.append(RuntimeError("a defect"))
    with told() as events:
        session.answer(ACCEPTED)
        site.pass_time(5.0)
    assert failures(events) == BROKEN
    assert end_of(site, "c-1") == ("CommandAccepted", "")
    assert site.finished == records


def test_an_end_is_tried_until_it_works() -> None:
    site = Site()
    session = site.connect("a")
    records = give(site, 1)
    store = site["a"].store
    store.finish = Defect(store.finish, 3)
    with told() as events:
        session.answer(ACCEPTED)
        site.pass_time(5.0)
    assert set(failures(events)) == set(BROKEN)
    assert end_of(site, "c-1") == ("CommandTimeout", "internal_error")
    assert site.finished == records
    assert is_clear(site)


def test_a_parked_one_that_cannot_be_sent_keeps_the_others_from_nothing() -> None:
    site = Site()
    give(site, 1, 2, deliver_within_seconds=60.0)
    session = site.connect("a")
    session.call = Defect(session.call)
    with told() as events:
        site["a"].unparking.settled(session)
        session.answer(ACCEPTED)
    assert failures(events) == BROKEN
    assert end_of(site, "c-2") == ("CommandAccepted", "")
