"""Passwords that are changed by command: the identity record, the live session, and what is said about it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from adapters.adapter_ports import CALLER, result_of
from attrs import define, field
from auth.inline_hashing import InlineHashing
from auth.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st
from support.manual_clock import ManualClock
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogEvent

from ocpp_gateway.auth import rewriting
from ocpp_gateway.auth.addresses import EVERY_ADDRESS
from ocpp_gateway.auth.authenticator import Authenticator, AuthMode, AuthOutcome
from ocpp_gateway.auth.bindings import CertificateRules
from ocpp_gateway.auth.credentials import Credentials, spellings
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, HashingBusy, ScryptParameters
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.rewriting import RecordRewriter, SecretSettling
from ocpp_gateway.auth.standing import Standing, check_standing, standing_of
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.commands import credentials
from ocpp_gateway.commands.credentials import CredentialChanges, PasswordChange
from ocpp_gateway.commands.new_password import MAX_PASSWORD, Answer, answer_of, new_password
from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.commands.secrecy import secrets_of
from ocpp_gateway.commands.secrets import ChangeUnclear
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.versions import OcppVersion

CHEAP = ScryptParameters(n=2, r=1, p=1)
SHA256 = HashDefaults(HashAlgorithm.SHA256, CHEAP)
SCRYPT = HashDefaults(HashAlgorithm.SCRYPT, CHEAP)
OLD = b"the old password 001"
NEW = bytes.fromhex("FFA1B2C3D4E5F60718293A4B5C6D7E8F90010203")
NEWER = b"newer-password-0003!"
ACCEPTED = {"status": "Accepted"}
REBOOT = {"status": "RebootRequired"}
REJECTED = {"status": "Rejected"}


def change_of(password: bytes) -> dict[str, Any]:
    return {"key": "AuthorizationKey", "value": password.hex()}


def variable(name: str = "BasicAuthPassword", component: str = "SecurityCtrlr", **members: Any) -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": name}, **members}


def variables(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"setVariableData": list(entries)}


@define
class Live:
    standing: Standing


@define(eq=False)
class Rig:
    """A charge point's record, its live session by its old password, and what changes them."""

    log: list[LogEvent]
    hashes: HashDefaults = SHA256
    default_mode: AuthMode = AuthMode.BASIC
    records: MemoryRecords = field(factory=MemoryRecords)
    hashing: InlineHashing = field(factory=InlineHashing)
    clock: ManualClock = field(factory=ManualClock)
    live: Live | None = None

    def __attrs_post_init__(self) -> None:
        self.write()

    def write(self, password: bytes = OLD, hashes: HashDefaults | None = None, **auth: Any) -> None:
        stored = (hashes or self.hashes).make(password, "salt")
        self.records.put({"type": "basic", "secretHash": stored, "secretSalt": "salt"} | auth, note="by the operator")

    @property
    def changes(self) -> CredentialChanges:
        return CredentialChanges(
            rewriter=RecordRewriter(self.records, self.clock),
            hashes=self.hashes,
            hashing=self.hashing,
            default_mode=self.default_mode,
            find=lambda name: self.live if name == CALLER.charge_point_id else None,
        )

    @property
    def door(self) -> Authenticator:
        return Authenticator(
            default_mode=self.default_mode,
            allowed_addresses=EVERY_ADDRESS,
            hashes=self.hashes,
            hashing=self.hashing,
            verified=VerifiedCredentials(self.clock, ttl=300, max_entries=100),
            certificate_rules=CertificateRules(),
            clock=self.clock,
        )

    @property
    def record(self) -> IdentityRecord:
        return IdentityRecord.parse(self.records.raw, "CP-001")

    def prepare(self, password: bytes = NEW, unclear: PasswordChange | None = None) -> PasswordChange:
        change = result_of(self.changes.prepare(CALLER, "ChangeConfiguration", change_of(password), unclear))
        assert isinstance(change, PasswordChange)
        return change

    def unclear(self, password: bytes = NEW) -> PasswordChange:
        """Redis writes it and does not say so."""
        self.records.is_silent = True
        with pytest.raises(ChangeUnclear) as caught:
            self.prepare(password)
        change = caught.value.change
        assert isinstance(change, PasswordChange)
        return change

    def answer(self, change: PasswordChange, response: dict[str, Any]) -> None:
        result_of(self.changes.answered(change, response))

    def change(self, password: bytes, response: dict[str, Any]) -> None:
        self.answer(self.prepare(password), response)

    def used(self, password: bytes) -> str | None:
        """Which stored password this is; raises AuthenticationFailed."""
        outcome: AuthOutcome = result_of(
            self.door.check_credential(
                self.record,
                credentials_of(password),
                version=OcppVersion.V16,
                is_secure=False,
                certificate=None,
                is_revoked=False,
            )
        )
        return outcome.next_secret

    def opens(self, password: bytes) -> bool:
        try:
            self.used(password)
        except AuthenticationFailed:
            return False
        return True

    def opening(self, *passwords: bytes) -> list[bool]:
        return [self.opens(password) for password in passwords]

    def connect(self, password: bytes = OLD) -> Live:
        """A handshake, with all that follows on it."""
        raw, record, used = self.records.raw, self.record, self.used(password)
        self.live = Live(
            standing_of(
                record,
                raw,
                AuthOutcome(AuthMode.BASIC, 1, next_secret=used),
                address="192.0.2.1",
                version=OcppVersion.V16,
                certificate=None,
                store_id=None,
            )
        )
        if record.auth.next_secrets.hashes:
            SecretSettling(RecordRewriter(self.records, self.clock)).settle("CP-001", raw, used)
        return self.live

    def ends(self) -> str | None:
        """Why the recheck would end the session."""
        assert self.live is not None
        try:
            check_standing(self.live.standing, self.record, self.door)
        except AuthenticationFailed as failure:
            return failure.reason
        return None


def credentials_of(password: bytes) -> Credentials:
    return Credentials((f"Basic {b64encode(b'CP-001:' + password).decode()}",))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    seen: list[LogEvent] = []
    for module in (credentials, rewriting):
        monkeypatch.setattr(module.log, "observer", seen.append)
    return seen


@pytest.fixture
def rig(log: list[LogEvent]) -> Iterator[Rig]:
    rig = Rig(log)
    yield rig
    said = str([{name: value for name, value in event.items() if name != "log_logger"} for event in log])
    said += rig.records.records.get("CP-001", b"").decode()
    for password in (NEW, NEWER):
        for form in spellings(password, OcppVersion.V16):
            assert form.decode("latin-1") not in said


# What is a password.


@pytest.mark.parametrize("key", ["AuthorizationKey", "authorizationkey"])
@pytest.mark.parametrize("digits", [NEW.hex(), NEW.hex().upper(), "00"])
def test_a_1_6_key_is_the_bytes_of_its_digits(key: str, digits: str) -> None:
    password = new_password("ChangeConfiguration", {"key": key, "value": digits})
    assert password is not None
    assert password.secret == bytes.fromhex(digits)
    assert repr(password) == "NewPassword()"


@pytest.mark.parametrize("value", [None, "", 7, "abc", "zz", "00" * 21, " 00", "00\n", "0x00", "\u0660\u0660"])
def test_a_1_6_key_that_is_none(value: object) -> None:
    with pytest.raises(CommandInvalid) as caught:
        new_password("ChangeConfiguration", {"key": "AuthorizationKey", "value": value})
    assert caught.value.text == "Invalid payload: /value: not 2 to 40 hexadecimal digits, two for each byte"
    assert caught.value.reason == "payload_invalid"


def test_a_2_x_password_is_its_text_in_utf_8_wherever_it_stands() -> None:
    entries = (
        variable("Interval", "HeartbeatCtrlr", attributeValue="60"),
        variable("basicauthpassword", "SECURITYCTRLR", attributeType="Actual", attributeValue="pässword-0123456"),
    )
    password = new_password("SetVariables", variables(*entries))
    assert password is not None
    assert password.secret == "pässword-0123456".encode()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ((variable(),), "/setVariableData/0/attributeValue: not 1 to 64 characters"),
        ((variable(attributeValue=""),), "/setVariableData/0/attributeValue: not 1 to 64 characters"),
        ((variable(attributeValue=1),), "/setVariableData/0/attributeValue: not 1 to 64 characters"),
        (({}, variable(attributeValue="x" * 65)), "/setVariableData/1/attributeValue: not 1 to 64 characters"),
        ((variable(attributeValue="\ud800"),), "/setVariableData/0/attributeValue: not Unicode"),
        (
            (variable(attributeValue="a"), variable(attributeValue="a")),
            "/setVariableData/1: the password is given twice",
        ),
    ],
)
def test_a_2_x_password_that_is_none(entries: tuple[dict[str, Any], ...], text: str) -> None:
    with pytest.raises(CommandInvalid) as caught:
        new_password("SetVariables", variables(*entries))
    assert caught.value.text == f"Invalid payload: {text}"
    assert caught.value.reason == "payload_invalid"


@pytest.mark.parametrize("length", [1, 16, MAX_PASSWORD])
def test_a_2_x_password_may_have_any_length_up_to_the_most(length: int) -> None:
    assert new_password("SetVariables", variables(variable(attributeValue="\u4e16" * length))) is not None


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}),
        ("ChangeConfiguration", {"key": 1, "value": "60"}),
        ("ChangeConfiguration", {}),
        ("SetVariables", variables(variable("Interval", attributeValue="x"))),
        ("SetVariables", variables(variable(component="NetworkConfiguration", attributeValue="x"))),
        ("SetVariables", variables(variable(attributeType="Target", attributeValue="x"))),
        ("SetVariables", {"setVariableData": [None, 1, {"component": 1, "variable": "x"}]}),
        ("SetVariables", {"setVariableData": {}}),
        ("SetVariables", {}),
        ("Reset", {"key": "AuthorizationKey", "value": "zz"}),
        ("DataTransfer", variables(variable(attributeValue="x"))),
    ],
)
def test_other_commands_give_no_password(rig: Rig, action: str, payload: dict[str, Any]) -> None:
    assert new_password(action, payload) is None
    before = rig.records.raw
    assert result_of(rig.changes.prepare(CALLER, action, payload)) is None
    assert rig.records.raw == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["key", "value", "setVariableData", "component", "variable", "name", "attributeValue"])
payloads = st.dictionaries(members | st.text(), json_values | st.lists(st.dictionaries(members, json_values)))


@given(st.sampled_from(["ChangeConfiguration", "SetVariables", "Reset"]), payloads)
def test_no_payload_is_a_surprise(action: str, payload: dict[str, Any]) -> None:
    try:
        password = new_password(action, payload)
    except CommandInvalid:
        password = None
    assert password is None or 1 <= len(password.secret) <= 4 * MAX_PASSWORD
    assert isinstance(answer_of(action, payload), Answer)


# What is an answer.


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("Accepted", Answer.TAKEN),
        ("RebootRequired", Answer.TAKEN_AT_REBOOT),
        ("Rejected", Answer.REFUSED),
        ("NotSupported", Answer.REFUSED),
        ("UnknownComponent", Answer.REFUSED),
        ("accepted", Answer.UNCLEAR),
        (None, Answer.UNCLEAR),
    ],
)
def test_answers(status: str | None, answer: Answer) -> None:
    assert answer_of("ChangeConfiguration", {"status": status}) is answer
    own = variable(attributeStatus=status)
    for result in ([own], [variable("Interval", attributeStatus="Accepted"), own]):
        assert answer_of("SetVariables", {"setVariableResult": result}) is answer


def test_the_answer_to_another_variable_is_none_to_the_password() -> None:
    assert answer_of("SetVariables", {"setVariableResult": [variable("Interval", attributeStatus="Accepted")]}) is (
        Answer.UNCLEAR
    )


# The record.


@pytest.mark.parametrize("hashes", [SHA256, SCRYPT], ids=["sha256", "scrypt"])
def test_accepted(log: list[LogEvent], hashes: HashDefaults) -> None:
    rig = Rig(log, hashes)
    change = rig.prepare()
    assert rig.opening(OLD, NEW) == [True, True]
    rig.answer(change, ACCEPTED)
    assert rig.opening(OLD, NEW) == [False, True]
    assert rig.records.auth.keys() == {"type", "secretHash", "secretSalt"}
    assert rig.records.auth["secretHash"].startswith(f"{hashes.algorithm.value}$")
    assert len(rig.records.auth["secretSalt"]) == 32
    assert rig.records.members["note"] == "by the operator"
    assert [line["event"] for line in log] == ["credential.changed"]


def test_over_2_x(rig: Rig) -> None:
    sent = variables(variable("Interval", attributeValue="60"), variable(attributeValue=NEWER.decode()))
    change = result_of(rig.changes.prepare(CALLER, "SetVariables", sent))
    assert change is not None
    rig.answer(
        change,
        {
            "setVariableResult": [
                variable("Interval", attributeStatus="Rejected"),
                variable(attributeStatus="Accepted"),
            ]
        },
    )
    assert rig.opening(OLD, NEWER) == [False, True]


@pytest.mark.parametrize("status", ["Rejected", "NotSupported"])
def test_refused(rig: Rig, status: str) -> None:
    before = rig.records.auth
    rig.change(NEW, {"status": status})
    assert rig.records.auth == before
    assert rig.opening(OLD, NEW) == [True, False]


def test_never_sent_or_answered_by_a_callerror(rig: Rig) -> None:
    result_of(rig.changes.withdraw(rig.prepare()))
    assert rig.opening(OLD, NEW) == [True, False]


def test_an_answer_that_says_nothing_of_the_password_is_none(rig: Rig) -> None:
    rig.change(NEW, {"status": "Maybe"})
    assert rig.opening(OLD, NEW) == [True, True]


@pytest.mark.parametrize("has", [OLD, NEW], ids=["old", "new"])
def test_after_a_lost_answer_both_open_until_one_is_used(rig: Rig, has: bytes) -> None:
    rig.connect()
    rig.prepare()
    assert rig.opening(OLD, NEW) == [True, True]
    rig.connect(has)
    assert rig.opening(OLD, NEW) == [has == OLD, has == NEW]
    assert rig.ends() is None
    assert rig.records.auth.keys() == {"type", "secretHash", "secretSalt"}


@pytest.mark.parametrize("reboots", [False, True])
def test_until_it_reboots_it_comes_with_the_old_one(rig: Rig, reboots: bool) -> None:
    rig.connect()
    rig.change(NEW, REBOOT)
    if not reboots:
        rig.connect(OLD)
        assert rig.opening(OLD, NEW) == [True, True]
        assert rig.ends() is None
    rig.connect(NEW)
    assert rig.opening(OLD, NEW) == [False, True]


def test_one_after_the_other(rig: Rig) -> None:
    rig.connect()
    rig.change(NEW, ACCEPTED)
    rig.change(NEWER, ACCEPTED)
    assert rig.opening(OLD, NEW, NEWER) == [False, False, True]
    assert rig.ends() is None
    rig.change(NEW, REJECTED)
    assert rig.opening(OLD, NEW, NEWER) == [False, False, True]
    assert rig.ends() is None


def test_two_at_once_confirmed_in_their_order(rig: Rig) -> None:
    rig.connect()
    first, second = rig.prepare(NEW), rig.prepare(NEWER)
    rig.answer(first, ACCEPTED)
    assert rig.opening(OLD, NEW, NEWER) == [False, True, True]
    assert rig.ends() is None
    rig.answer(second, ACCEPTED)
    assert rig.opening(OLD, NEW, NEWER) == [False, False, True]
    assert rig.ends() is None


def test_a_change_after_a_lost_answer_forgets_none_of_the_three(rig: Rig) -> None:
    rig.connect()
    rig.prepare(NEW)
    second = rig.prepare(NEWER)
    assert rig.opening(OLD, NEW, NEWER) == [True, True, True]
    rig.answer(second, REJECTED)
    assert rig.opening(OLD, NEW, NEWER) == [True, True, False]
    rig.connect(NEW)
    assert rig.opening(OLD, NEW, NEWER) == [False, True, False]


def test_an_accepted_change_after_a_lost_answer_is_the_only_one(rig: Rig) -> None:
    rig.connect()
    rig.prepare(NEW)
    rig.change(NEWER, ACCEPTED)
    assert rig.opening(OLD, NEW, NEWER) == [False, False, True]
    assert rig.ends() is None


def test_the_same_password_told_again_after_a_lost_answer(rig: Rig) -> None:
    rig.prepare(NEW)
    before = rig.records.auth
    again = rig.prepare(NEW)
    assert rig.records.auth == before
    rig.answer(again, REJECTED)
    assert rig.opening(OLD, NEW) == [True, True]  # it may have it since the first time
    rig.change(NEW, ACCEPTED)
    assert rig.opening(OLD, NEW) == [False, True]


def test_the_password_that_it_has_already(rig: Rig) -> None:
    rig.connect()
    rig.change(OLD, ACCEPTED)
    assert rig.opens(OLD)
    assert rig.ends() is None


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({"hashAlgorithm": "scrypt"}, "scrypt$"),
        ({"hashAlgorithm": "sha256"}, "sha256$"),
        ({}, "sha256$"),
    ],
)
def test_the_record_s_own_algorithm_is_kept(rig: Rig, auth: dict[str, Any], expected: str) -> None:
    rig.records.put({"type": "basic", "secretHash": "ab" * 32, **auth})
    rig.change(NEW, ACCEPTED)
    assert rig.records.auth["secretHash"].startswith(expected)
    assert rig.opens(NEW)


def test_the_prefix_of_the_old_hash_tells_the_algorithm(rig: Rig) -> None:
    rig.write(hashes=SCRYPT, hashAlgorithm="sha256")
    rig.change(NEW, ACCEPTED)
    assert rig.records.auth["secretHash"].startswith("scrypt$")
    assert rig.opening(OLD, NEW) == [False, True]


def test_too_many_hashes_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> Deferred[str]:
        return fail(HashingBusy())

    rig.write(hashes=SCRYPT)
    before = rig.records.raw
    monkeypatch.setattr(InlineHashing, "make", busy)
    with pytest.raises(StoreUnavailable):
        rig.prepare()
    assert rig.records.raw == before


def test_a_slow_hash_is_not_made_in_the_reactor_and_a_quick_one_is(rig: Rig) -> None:
    rig.prepare()
    assert rig.hashing.asked == 0
    rig.write(hashes=SCRYPT)
    rig.prepare()
    assert rig.hashing.asked == 1


# Somebody else writes the record.


def test_what_the_operator_writes_while_the_password_is_hashed_stays(rig: Rig) -> None:
    rig.records.before_write = lambda: rig.write(NEWER, username="CP-001")
    rig.change(NEW, ACCEPTED)
    assert rig.records.auth["username"] == "CP-001"
    assert rig.opening(OLD, NEWER, NEW) == [False, False, True]  # told after the operator wrote


@pytest.mark.parametrize("keeps_unknown_members", [False, True])
def test_an_operator_s_password_in_between_wins(rig: Rig, keeps_unknown_members: bool) -> None:
    rig.connect()
    change = rig.prepare(NEW)
    rig.write(
        NEWER,
        **(
            {}
            if not keeps_unknown_members
            else {name: value for name, value in rig.records.auth.items() if name.startswith("next")}
        ),
    )
    before = rig.records.raw
    rig.answer(change, ACCEPTED)
    assert rig.records.raw == before
    assert rig.opening(OLD, NEW, NEWER) == [False, False, True]
    assert rig.ends() == "credential_changed"
    assert [line["event"] for line in rig.log] == ["credential.overtaken"]


@pytest.mark.parametrize("response", [ACCEPTED, REJECTED, REBOOT], ids=lambda response: response["status"])
def test_an_operator_s_other_changes_in_between_stay_too(rig: Rig, response: dict[str, Any]) -> None:
    rig.connect()
    change = rig.prepare(NEW)
    rig.records.put(rig.records.auth, note="another")
    rig.records.before_write = lambda: rig.records.put(rig.records.auth, note="and another")
    rig.answer(change, response)
    assert rig.records.members["note"] == "and another"
    assert rig.opening(OLD, NEW) == [response != ACCEPTED, response != REJECTED]
    assert rig.ends() is None


def test_a_record_that_was_deleted_stays_so(rig: Rig) -> None:
    for response in (ACCEPTED, REJECTED, REBOOT):
        rig.write()
        change = rig.prepare()
        del rig.records.records["CP-001"]
        rig.answer(change, response)
        assert rig.records.records == {}


@pytest.mark.parametrize("raw", [None, b"{}", b"not json"], ids=str)
def test_without_a_record_the_command_cannot_be_carried_out(rig: Rig, raw: bytes | None) -> None:
    rig.records.records = {} if raw is None else {"CP-001": raw}
    with pytest.raises(CommandInvalid) as caught:
        rig.prepare()
    assert caught.value.reason == "identity_missing"
    assert caught.value.text == "No identity record to keep the new password in"
    assert rig.records.records == ({} if raw is None else {"CP-001": raw})


def test_who_came_with_the_old_one_while_it_was_accepted_does_not_lock_it_out(rig: Rig) -> None:
    rig.connect()
    for response in (ACCEPTED, REBOOT):
        change = rig.prepare()
        rig.connect(OLD)  # a second device, or the charge point before it had the new one
        assert not rig.opens(NEW)
        rig.answer(change, response)
        assert rig.opening(OLD, NEW) == [response == REBOOT, True]
        rig.write()


def test_it_may_have_come_with_the_new_one_before_its_answer_counts(rig: Rig) -> None:
    rig.connect()
    change = rig.prepare()
    rig.connect(NEW)
    before = rig.records.raw
    rig.answer(change, ACCEPTED)
    assert rig.records.raw == before
    assert rig.ends() is None
    assert [line["event"] for line in rig.log] == ["credential.settled", "credential.changed"]


# Redis away.


def test_nothing_is_prepared_without_redis(rig: Rig) -> None:
    rig.records.away = True
    with pytest.raises(StoreUnavailable):
        rig.prepare()


def test_what_redis_wrote_without_saying_so_is_withdrawn_when_it_is_not_sent(rig: Rig) -> None:
    rig.connect()
    unclear = rig.unclear()
    assert rig.opening(OLD, NEW) == [True, True]
    result_of(rig.changes.withdraw(unclear))
    assert rig.opening(OLD, NEW) == [True, False]
    assert rig.ends() is None


@pytest.mark.parametrize("response", [ACCEPTED, REJECTED, REBOOT], ids=lambda response: response["status"])
def test_and_tried_again_it_is_as_if_it_had_been_written_then(rig: Rig, response: dict[str, Any]) -> None:
    rig.connect()
    change = rig.prepare(unclear=rig.unclear())
    rig.answer(change, response)
    assert rig.opening(OLD, NEW) == [response != ACCEPTED, response != REJECTED]
    assert rig.ends() is None


def test_but_one_that_was_told_before_stays_known(rig: Rig) -> None:
    rig.prepare()  # and its answer is lost
    rig.answer(rig.prepare(unclear=rig.unclear()), REJECTED)
    assert rig.opening(OLD, NEW) == [True, True]


@pytest.mark.parametrize("response", [ACCEPTED, REJECTED, REBOOT], ids=lambda response: response["status"])
def test_an_answer_while_redis_is_away_is_one_that_was_lost_until_it_is_told_again(
    rig: Rig, response: dict[str, Any]
) -> None:
    rig.connect()
    change = rig.prepare()
    rig.records.away = True
    with pytest.raises(StoreUnavailable):
        rig.answer(change, response)
    rig.records.away = False
    assert rig.opening(OLD, NEW) == [True, True]
    assert rig.ends() is None
    for _ in range(2):
        rig.answer(change, response)
        assert rig.opening(OLD, NEW) == [response != ACCEPTED, response != REJECTED]
        assert rig.ends() is None


# The live session.


def test_the_session_that_carried_it_stays_whenever_its_record_is_looked_at(rig: Rig) -> None:
    looks: list[str | None] = []
    look: Callable[[], None] = lambda: looks.append(rig.ends())  # noqa: E731
    rig.connect()
    for response in (ACCEPTED, REJECTED, REBOOT, ACCEPTED):
        rig.records.before_write = look
        change = rig.prepare(NEW)
        look()
        rig.records.before_write = look
        rig.answer(change, response)
        look()
    assert looks == [None] * 16


def test_the_session_rests_on_the_new_password_then(rig: Rig) -> None:
    live = rig.connect()
    old_record = rig.records.raw
    rig.change(NEW, ACCEPTED)
    assert live.standing.told == frozenset()
    rig.records.records["CP-001"] = old_record
    assert rig.ends() == "credential_changed"


def test_a_refused_password_is_not_expected_any_more(rig: Rig) -> None:
    live = rig.connect()
    before = live.standing
    rig.change(NEW, REJECTED)
    assert live.standing == before


def test_a_charge_point_that_is_gone_when_its_answer_counts(rig: Rig) -> None:
    rig.connect()
    change = rig.prepare()
    rig.live = None
    rig.answer(change, ACCEPTED)
    assert rig.opening(OLD, NEW) == [False, True]


# Charge points that come by something else.


@pytest.mark.parametrize("token_is_secret", [False, True])
def test_a_token_stays_what_it_was(log: list[LogEvent], token_is_secret: bool) -> None:
    rig = Rig(log, default_mode=AuthMode.TOKEN)
    token = SHA256.make(b"the token", "salt")
    rig.records.put({"secretHash" if token_is_secret else "tokenHash": token, "secretSalt": "salt"})
    before = rig.records.raw
    standing = standing_of(
        rig.record,
        before,
        AuthOutcome(AuthMode.TOKEN, 1),
        address="192.0.2.1",
        version=OcppVersion.V16,
        certificate=None,
        store_id=None,
    )
    rig.live = Live(standing)
    rig.change(NEW, ACCEPTED)
    assert rig.records.auth == {
        "secretHash": SHA256.make(NEW, "salt"),
        "secretSalt": "salt",
        "tokenHash": token,
    }
    assert rig.ends() is None
    assert rig.live.standing is standing
    rig.records.put(rig.records.auth | {"type": "basic"})
    assert rig.opens(NEW)


def test_one_that_comes_by_its_certificate_can_move_to_passwords_by_it(rig: Rig) -> None:
    rig.records.put({"type": "mtls"})
    rig.change(NEW, ACCEPTED)
    assert rig.records.auth.keys() == {"type", "secretHash", "secretSalt"}
    rig.records.put(rig.records.auth | {"type": "basic"})
    assert rig.opening(OLD, NEW) == [False, True]


# What must not be seen.


def test_a_change_shows_nothing(rig: Rig) -> None:
    change = rig.prepare(NEWER)
    shown = repr(change) + repr(rig.changes)
    for secret in (NEWER.decode(), NEWER.hex(), change.stored, change.salt, change.replaces, repr(change.credential)):
        assert secret not in shown


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("ChangeConfiguration", change_of(NEW)),
        ("ChangeConfiguration", {"key": "WifiPassword", "value": "x"}),
        ("SetVariables", variables(variable("Interval", attributeValue="1"), variable(attributeValue="secret"))),
        ("SetVariables", variables(variable(component="NetworkConfiguration", attributeValue="secret"))),
        ("SetVariables", variables(variable(attributeType="Target", attributeValue="secret"))),
        ("SetNetworkProfile", {"connectionData": {"basicAuthPassword": "secret"}}),
        ("SetNetworkProfile", {"connectionData": {"vpn": {"server": "s", "user": "u", "password": "p", "key": "k"}}}),
        ("SetNetworkProfile", {"connectionData": {"apn": {"apn": "a", "apnPassword": "p"}}}),
        ("SetNetworkProfile", {"connectionData": {"apn": {"apn": "a", "simPin": 1234}}}),
        ("UpdateFirmware", {"location": "ftp://user:secret@files.example.com/fw.bin"}),
        ("GetLog", {"log": {"remoteLocation": "https://user:secret@files.example.com/"}}),
        ("DataTransfer", {"vendorId": "v", "data": '{"password":"secret"}'}),
    ],
)
def test_commands_with_a_secret(action: str, payload: dict[str, Any]) -> None:
    assert secrets_of(action, payload)


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}),
        ("SetVariables", variables(variable("Interval", attributeValue="1"))),
        ("GetConfiguration", {"key": ["AuthorizationKey"]}),
        ("GetVariables", {"getVariableData": [variable()]}),
        ("SetNetworkProfile", {"connectionData": {"ocppCsmsUrl": "wss://csms.example.com/"}}),
        ("RemoteStartTransaction", {"idTag": "TAG-1"}),
        ("RequestStartTransaction", {"idToken": {"idToken": "TAG-1", "type": "Central"}, "remoteStartId": 1}),
        ("UpdateFirmware", {"location": "https://files.example.com/fw.bin"}),
        ("Reset", {"type": "Soft"}),
        ("CertificateSigned", {"certificateChain": "-----BEGIN CERTIFICATE-----"}),
    ],
)
def test_commands_without_one(action: str, payload: dict[str, Any]) -> None:
    assert not secrets_of(action, payload)
