"""What happens between a charge point's outbox and the final event."""

from __future__ import annotations

from typing import Any

import orjson
from command_nodes import Site
from command_parts import command, request_of
from twisted.internet.defer import Deferred

from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.commands.secrets import ChangeUnclear
from ocpp_gateway.commands.states import Stage
from ocpp_gateway.errors import StoreUnavailable

ACCEPTED = {"status": "Accepted"}
PASSWORD = "0102030405060708090A0B0C0D0E0F1011121314"
CHANGE: dict[str, Any] = {
    "command_type": "ChangeConfiguration",
    "payload": {"key": "AuthorizationKey", "value": PASSWORD},
}


class Passwords:
    """SecretChange that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.problem: Exception | None = None
        self.pending: Deferred[None] | None = None

    async def prepare(
        self, caller: Any, action: str, payload: dict[str, Any], unclear: str | None = None
    ) -> str | None:
        if action != "ChangeConfiguration":
            return None
        self.asked.append(("prepare", caller.charge_point_id))
        if self.pending is not None:
            await self.pending
        self._fail()
        return "change"

    async def answered(self, change: str, response: dict[str, Any]) -> None:
        self.asked.append(("answered", change, response))
        self._fail()

    async def withdraw(self, change: str) -> None:
        self.asked.append(("withdraw", change))
        self._fail()

    def _fail(self) -> None:
        if self.problem is not None:
            raise self.problem


def give(site: Site, number: int = 1, **changes: Any) -> None:
    site["a"].dispatcher.received([site.record(request_of(command(number, **changes)))])


def secret_site() -> tuple[Site, Passwords]:
    passwords = Passwords()
    return Site(secrets=passwords), passwords


def test_a_new_password_is_prepared_first_and_settled_before_the_final_event() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    give(site, **CHANGE)
    assert passwords.asked == [("prepare", "CP-001")]
    passwords.problem = StoreUnavailable("away")
    session.answer(ACCEPTED)
    assert site.topic.finals("c-1") == []
    passwords.problem = None
    site.pass_time(1.0)
    assert passwords.asked[1:] == [("answered", "change", ACCEPTED)] * 2
    assert site.topic.finals("c-1")[0]["payload"]["accepted"] is True


def test_the_password_is_seen_nowhere() -> None:
    site, _ = secret_site()
    session = site.connect("a")
    give(site, **CHANGE)
    session.answer(ACCEPTED)
    assert session.sent[0][3]["value"] == PASSWORD
    assert PASSWORD not in repr(site.topic.records) + repr(site.redis.audits) + repr(site.redis.rows)


def test_a_callerror_withdraws_it() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    give(site, **CHANGE)
    session.answer(error="InternalError")
    assert passwords.asked[-1] == ("withdraw", "change")


def test_without_a_sound_answer_both_stay() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    give(site, 1, **CHANGE)
    session.answer({"status": 7})
    give(site, 2, **CHANGE)
    site.pass_time(16.0)
    give(site, 3, **CHANGE)
    session.close()
    assert {asked[0] for asked in passwords.asked} == {"prepare"}
    assert len(site.finished) == 3


def test_one_that_cannot_be_is_not_sent() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    passwords.problem = CommandInvalid("payload_invalid", "Invalid payload: /value: no good")
    give(site, **CHANGE)
    (final,) = site.topic.finals("c-1")
    assert final["payload"]["error"] == "Invalid payload: /value: no good"
    assert session.sent == []


def test_one_that_cannot_be_prepared_in_time_is_not_sent() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    passwords.problem = StoreUnavailable("away")
    give(site, timeout_seconds=3.0, **CHANGE)
    site.pass_time(5.0)
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "command_expired"
    assert session.sent == []


def test_what_may_have_been_written_is_withdrawn_when_it_is_not_sent() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    passwords.problem = ChangeUnclear("unclear change")
    give(site, timeout_seconds=3.0, **CHANGE)
    site.pass_time(2.5)
    passwords.problem = StoreUnavailable("away")
    site.pass_time(2.5)
    passwords.problem = None
    site.pass_time(1.0)
    assert passwords.asked[-1] == ("withdraw", "unclear change")
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "command_expired"
    assert session.sent == []


def test_a_connection_that_ends_while_a_password_is_prepared_sends_nothing() -> None:
    site, passwords = secret_site()
    session = site.connect("a")
    passwords.pending = Deferred()
    give(site, **CHANGE)
    session.close()
    assert site.topic.finals("c-1") == []
    passwords.pending.callback(None)
    assert passwords.asked[-1] == ("withdraw", "change")
    assert site.topic.finals("c-1")[0]["payload"]["reason"] == "connection_lost"
    assert session.sent == []
    assert site.redis.rows["c-1"].state.state is Stage.DONE


def test_redis_that_comes_back_too_late_lets_nothing_out() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    give(site, 2, timeout_seconds=3.0)
    site["a"].store.is_away = True
    session.answer(ACCEPTED)  # the turn of the second has come
    site.pass_time(5.0)
    site["a"].store.is_away = False
    site.pass_time(2.0)
    assert site.topic.finals("c-2")[0]["payload"]["reason"] == "command_expired"
    assert len(session.sent) == 1
    assert len(site["a"].executor) == 0


def test_a_connection_that_ends_while_redis_is_asked_was_not_written_to() -> None:
    site = Site()
    session = site.connect("a")
    give(site, 1)
    give(site, 2)
    site["a"].store.is_away = True
    session.answer(ACCEPTED)
    site.disconnect("a")
    site["a"].store.is_away = False
    site.pass_time(2.0)
    (final,) = site.topic.finals("c-2")
    assert (final["eventType"], final["payload"]["reason"]) == ("CommandFailed", "connection_lost")
    assert len(session.sent) == 1
    assert len(site["a"].executor) == 0


def test_the_audit_record_follows_the_command() -> None:
    site = Site()
    session = site.connect("a")
    give(site)
    assert orjson.loads(site.redis.audits["c-1"])["status"] == "Dispatched"
    session.answer(error="GenericError")
    audit = orjson.loads(site.redis.audits["c-1"])
    assert (audit["status"], audit["error"]["code"]) == ("Rejected", "GenericError")
    assert audit["uniqueId"] == session.sent[0][1]
