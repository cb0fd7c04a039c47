"""Which node has a charge point, while nodes die and Redis goes and comes back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from command_nodes import ChargePointSession, Site
from command_parts import command, request_of
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.patience import Patience

ACCEPTED = {"status": "Accepted"}
FINE = 0.005


def give(site: Site, *numbers: int, to: str = "a", **changes: Any) -> None:
    for number in numbers:
        site[to].dispatcher.received([site.record(request_of(command(number, **changes)))])


async def some_time(site: Site, seconds: float) -> None:
    passed: Deferred[None] = Deferred()
    site.clock.call_later(seconds, passed.callback, None)
    await passed


def slow_answers(site: Site, name: str, way: list[float]) -> None:
    """What the node asks Redis is answered after these times, one after the other."""
    seconds = itertools.cycle(way)
    site[name].store.back = lambda: some_time(site, next(seconds))  # type: ignore[method-assign]


def answered_late(site: Site, name: str, question: str, seconds: float) -> None:
    """What the node asks Redis so is answered with what was true so many seconds before."""
    ask = getattr(site[name].store, question)

    async def ask_and_wait(*arguments: Any) -> Any:
        result = await ask(*arguments)
        await some_time(site, seconds)
        return result

    setattr(site[name].store, question, ask_and_wait)


def redis_was_away(site: Site, name: str) -> None:
    site[name].patience.redis_changed(connected=False)
    site[name].patience.redis_changed(connected=True)


def ends(site: Site, number: int) -> list[str]:
    return [event["eventType"] for event in site.topic.finals(f"c-{number}")]


def commands_sent(site: Site, session: ChargePointSession) -> list[str]:
    """The commands that a charge point got, by commandId."""
    by_message = {row.state.message_id: command_id for command_id, row in site.redis.rows.items()}
    return [by_message[frame[1]] for frame in session.sent]


def answer_all(site: Site, session: ChargePointSession, *, seconds: int) -> None:
    answered = 0
    for _ in range(seconds):
        if answered < len(session.sent):
            session.answer(ACCEPTED)
            answered += 1
        site.pass_time(1)


class TestAfterRedisWasAway:
    """The first node that finds it again sees no lease of the others, which live all the same."""

    def test_no_charge_point_counts_as_offline(self) -> None:
        site = Site("ab")
        session = site.connect("b")
        lease = site.redis.leases.pop("b")
        redis_was_away(site, "a")
        give(site, 1, 2, deliver_within_seconds=60.0)
        site.pass_time(3)
        assert site.topic.types() == []
        site.redis.leases["b"] = lease
        answer_all(site, session, seconds=4)
        assert [ends(site, number) for number in (1, 2)] == [["CommandAccepted"]] * 2
        assert "CommandQueued" not in site.topic.types()

    def test_but_one_that_is_offline_is_told_so_a_little_later(self) -> None:
        site = Site("ab")
        redis_was_away(site, "a")
        give(site, 1)
        site.pass_time(9)
        assert ends(site, 1) == []
        site.pass_time(3)
        assert ends(site, 1) == ["CommandFailed"]

    def test_and_a_command_that_is_too_late_by_then_is_that(self) -> None:
        site = Site("ab")
        redis_was_away(site, "a")
        give(site, 1, timeout_seconds=4.0)
        site.pass_time(5)
        (final,) = site.topic.finals("c-1")
        assert final["payload"]["reason"] == "command_expired"

    @pytest.mark.parametrize(("before", "after"), [(0, 8), (1, 5)], ids=["at once", "while that is in doubt"])
    def test_what_a_node_has_sent_is_not_given_up(self, before: int, after: int) -> None:
        site = Site("ab")
        session = site.connect("b")
        give(site, 1, timeout_seconds=60.0)
        lease = site.redis.leases.pop("b")
        site.pass_time(before)
        redis_was_away(site, "a")
        site.pass_time(after)
        site.redis.leases["b"] = lease
        session.answer(ACCEPTED)
        site.pass_time(2)
        assert ends(site, 1) == ["CommandAccepted"]

    def test_a_node_that_has_died_meanwhile_is_found_so_in_the_end(self) -> None:
        site = Site("ab")
        site.connect("b")
        give(site, 1, timeout_seconds=60.0)
        del site.nodes["b"], site.redis.leases["b"]
        redis_was_away(site, "a")
        site.pass_time(15)
        assert ends(site, 1) == ["CommandTimeout"]

    def test_the_first_connection_of_all_needs_no_patience(self) -> None:
        patience = Patience(Site().clock, 10.0)
        assert not patience.is_needed
        patience.redis_changed(connected=True)
        assert not patience.is_needed
        patience.redis_changed(connected=False)
        assert patience.is_needed


class TestOrder:
    def test_what_waited_in_the_outbox_of_a_dead_node_goes_before_what_is_newer(self) -> None:
        site = Site("abc")
        site.connect("b")
        give(site, 0, 1, 2, timeout_seconds=60.0)
        site.pass_time(7)
        del site.nodes["b"], site.redis.leases["b"]
        session = site.connect("c")
        give(site, 3, timeout_seconds=60.0)
        answer_all(site, session, seconds=40)
        assert commands_sent(site, session) == ["c-1", "c-2", "c-3"]
        assert [ends(site, number) for number in range(4)] == [["CommandTimeout"], *[["CommandAccepted"]] * 3]

    def test_and_so_does_what_is_given_back_while_a_newer_one_has_its_turn(self) -> None:
        site = Site("ab")
        site.connect("b")
        give(site, 0, 1, timeout_seconds=60.0, deliver_within_seconds=60.0)
        site.deaf.add("b")
        give(site, 2, timeout_seconds=60.0)
        site.pass_time(2)
        site.disconnect("b")
        session = site.connect("b")
        site.pass_time(2)
        site.deaf.clear()
        answer_all(site, session, seconds=10)
        assert commands_sent(site, session) == ["c-1", "c-2"]
        assert [ends(site, number) for number in range(3)] == [["CommandTimeout"], *[["CommandAccepted"]] * 2]

    def test_what_is_asked_of_a_dead_node_again_goes_before_what_is_newer(self) -> None:
        site = Site("abc")
        site.connect("b")
        give(site, 0, 1, 2, timeout_seconds=60.0)
        site.pass_time(4)
        del site.nodes["b"]  # its lease is still there
        site.pass_time(1.5)
        session = site.connect("c")
        give(site, 3, timeout_seconds=60.0)
        answer_all(site, session, seconds=40)
        assert commands_sent(site, session) == ["c-1", "c-2", "c-3"]

    @pytest.mark.parametrize("way", [[0.0], [0.01], [0.02, 0.01], [0.01, 0.02, 0.05]])
    @pytest.mark.parametrize("pause", [0.0, 0.25, 0.5, 1.0])
    def test_those_that_are_called_back_keep_their_order(self, pause: float, way: list[float]) -> None:
        """However long Redis takes to say who has the charge point, and whenever they were confirmed last."""
        site = Site("abc")
        slow_answers(site, "a", way)
        site.connect("b")
        for number in range(6):
            give(site, number, timeout_seconds=60.0)
            site.pass_time(pause, step=FINE)
        site.pass_time(4.9 - pause, step=FINE)
        del site.nodes["b"]  # its lease is still there
        session, answered = site.connect("c"), 0
        for _ in range(200):
            if len(session.sent) > answered:
                session.answer(ACCEPTED)
                answered += 1
            site.pass_time(0.1, step=FINE)
        assert commands_sent(site, session) == [f"c-{number}" for number in range(1, 6)]

    def test_one_that_comes_back_while_the_next_asks_for_the_owner_goes_first(self) -> None:
        site = Site("abc")
        answered_late(site, "a", "owner", 2.2)
        site.connect("b")
        give(site, 0, 1, timeout_seconds=60.0)
        site.pass_time(3.5, step=FINE)
        del site.nodes["b"]  # its lease is still there
        give(site, 2, timeout_seconds=60.0)  # asks b, and Redis from 4.0 to 6.2 s; 1 comes back meanwhile
        site.pass_time(0.3, step=FINE)
        session = site.connect("c")
        site.pass_time(8, step=FINE)
        session.answer(ACCEPTED)
        site.pass_time(8, step=FINE)
        assert commands_sent(site, session) == ["c-1", "c-2"]

    def test_who_waited_for_one_that_came_back_asks_for_the_owner_anew(self) -> None:
        site = Site("abc")
        answered_late(site, "a", "begin", 0.7)
        site.connect("b")
        give(site, 0, 1, timeout_seconds=60.0)
        site.pass_time(6.5, step=FINE)  # 1 is in its outbox since 1.4 s
        del site.nodes["b"], site.redis.leases["b"]
        give(site, 2, timeout_seconds=60.0)  # nobody has the charge point, Redis says at 7.2 s; 1 comes back at 7.0 s
        site.pass_time(0.1, step=FINE)
        session = site.connect("c")
        site.pass_time(2, step=FINE)
        session.answer(ACCEPTED)
        site.pass_time(2, step=FINE)
        assert commands_sent(site, session) == ["c-1", "c-2"]

    def test_what_waited_in_the_outbox_of_a_dead_node_is_parked_before_what_is_newer(self) -> None:
        site = Site("abc", parking_limit=50)
        site.connect("b")
        give(site, 0, 1, 2, timeout_seconds=60.0, deliver_within_seconds=600.0)
        del site.nodes["b"], site.redis.leases["b"]
        give(site, 3, timeout_seconds=60.0, deliver_within_seconds=600.0)
        session = site.connect("c")
        site["c"].unparking.settled(session)
        answer_all(site, session, seconds=40)
        assert commands_sent(site, session) == ["c-1", "c-2", "c-3"]


def test_a_topic_that_was_made_anew_has_new_commands_at_old_places() -> None:
    site = Site()
    session = site.connect("a")
    old, new = (request_of(command(number)) for number in (1, 2))
    record = site.record(old)
    site["a"].dispatcher.received([record])
    site["a"].dispatcher.received([record])  # delivered again
    assert len(session.sent) == 1
    site["a"].dispatcher.received([type(record)(record.partition, record.offset, new, record.timestamp_ms)])
    answer_all(site, session, seconds=4)
    assert [ends(site, number) for number in (1, 2)] == [["CommandAccepted"]] * 2
    assert [each.value for each in site.finished] == [new]


def test_what_is_parked_while_others_are_being_put_out_follows_them() -> None:
    """Others took the node for dead for a moment, while its charge point worked off what had waited for it."""
    site = Site("ab", parking_limit=50)
    give(site, 1, 2, 3, 4, deliver_within_seconds=3600.0, timeout_seconds=60.0)
    session = site.connect("b", max_waiting=1)
    site["b"].unparking.settled(session)
    site.pass_time(1)
    lease = site.redis.leases.pop("b")
    give(site, 9, deliver_within_seconds=3600.0, timeout_seconds=60.0)
    site.redis.leases["b"] = lease
    site["b"].unparking.recheck([session])
    answer_all(site, session, seconds=20)
    assert commands_sent(site, session) == ["c-1", "c-2", "c-3", "c-4", "c-9"]
    assert ends(site, 9) == ["CommandAccepted"]
    assert len(site["b"].unparking) == 0
