"""Charge points with an old and a new password: which lets them in, which stays, and whose session goes on."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
import pytest
from adapters.adapter_ports import CALLER, result_of
from attrs import define, field
from auth.inline_hashing import InlineHashing
from auth.memory_records import MemoryRecords
from opening_parts import PATTERN, Store, opening_of
from session_parts import Fleet, Line, certificate, raw_record
from twisted.internet.defer import succeed

from ocpp_gateway.auth.authenticator import AuthMode
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials
from ocpp_gateway.auth.hashing import HashDefaults
from ocpp_gateway.auth.next_secrets import with_next_secret
from ocpp_gateway.auth.rewriting import RecordRewriter, SecretSettling
from ocpp_gateway.commands.credentials import CredentialChanges
from ocpp_gateway.errors import HandshakeRefused
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.handshake.path import parse_target
from ocpp_gateway.handshake.proxies import Origin
from ocpp_gateway.handshake.subprotocol import offered
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.session.opening import Admitted, Opening, Request
from ocpp_gateway.session.session import Session

HASHES = HashDefaults()
OLD, NEW = b"the old password 001", b"the new password 002"
NEW_HASH = HASHES.make(NEW, "pepper")
PRESENT = {"type": "basic", "secretHash": HASHES.make(OLD, "salt"), "secretSalt": "salt"}
TOLD = with_next_secret(PRESENT, NEW_HASH, "pepper")
TAKEN = PRESENT | {"secretHash": NEW_HASH, "secretSalt": "pepper"}


def request_of(password: bytes | None, shown: ClientCertificate | None = None) -> Request:
    credential = () if password is None else (f"Basic {b64encode(b'CP-001:' + password).decode()}",)
    return Request(
        path=parse_target("/ocpp/1.6/CP-001", PATTERN),
        offer=offered(["ocpp1.6"]),
        credentials=Credentials(credential),
        origin=Origin("192.0.2.1", True),
        certificate=shown,
    )


@define(eq=False)
class Gate:
    """A node with one charge point's record; who is told to settle what is noted, and done."""

    fleet: Fleet
    store: Store
    records: MemoryRecords
    settled: list[str | None] = field(factory=list)

    @classmethod
    def of(cls, schemas: Schemas) -> Gate:
        store = Store(looked_up=succeed(None), claimed=succeed(None))
        return cls(Fleet(schemas, store), store, MemoryRecords(store.records))

    @property
    def rewriter(self) -> RecordRewriter:
        return RecordRewriter(self.records, self.fleet.clock)

    def settle(self, charge_point_id: str, read: bytes, used: str | None) -> None:
        self.settled.append(used)
        SecretSettling(self.rewriter).settle(charge_point_id, read, used)

    def put(self, auth: dict[str, Any], **members: Any) -> None:
        self.store.records["CP-001"] = raw_record(CALLER, auth=auth, **members)

    @property
    def opening(self) -> Opening:
        opening = opening_of(self.fleet, self.store)
        opening.settle_secret = self.settle
        return opening

    def admit(self, password: bytes | None, shown: ClientCertificate | None = None) -> Admitted:
        admitted: Admitted = result_of(self.opening.admit(request_of(password, shown)))
        return admitted

    def connect(self, password: bytes | None, shown: ClientCertificate | None = None) -> Session:
        admitted = self.admit(password, shown)
        assert admitted.session is not None
        session = self.fleet.sessions.open(*admitted.session, Line())
        self.fleet.bus.settle()
        return session

    def refused(self, password: bytes) -> str:
        with pytest.raises(HandshakeRefused) as caught:
            self.admit(password)
        return caught.value.reason

    def look(self) -> list[tuple[str, str]]:
        result_of(self.fleet.watch.round())
        return self.fleet.revoked()


@pytest.fixture
def gate(schemas: Schemas) -> Gate:
    return Gate.of(schemas)


@pytest.mark.parametrize(
    ("used", "other", "kept", "stored"), [(OLD, NEW, PRESENT, None), (NEW, OLD, TAKEN, NEW_HASH)], ids=["old", "new"]
)
def test_either_lets_it_in_once(
    gate: Gate, used: bytes, other: bytes, kept: dict[str, Any], stored: str | None
) -> None:
    gate.put(TOLD)
    session = gate.connect(used)
    assert gate.settled == [stored]
    assert gate.records.auth == kept
    assert gate.look() == []
    assert session.close_reason is None
    assert gate.refused(other) == "basic_invalid"
    gate.connect(used)
    assert gate.settled == [stored]
    assert gate.look() == []


def test_who_is_refused_settles_nothing(gate: Gate) -> None:
    gate.put(TOLD)
    assert gate.refused(b"wrong") == "basic_invalid"
    gate.put(TOLD, minSecurityProfile=3)
    assert gate.refused(NEW) == "profile_downgrade"
    assert gate.settled == []
    assert gate.records.auth == TOLD


def test_who_comes_too_often_settles_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_often(*_: object, **__: object) -> int:
        raise ReconnectsLimited(1.0, contended=False)

    gate.put(TOLD)
    monkeypatch.setattr(Store, "claim_session", too_often)
    assert gate.refused(NEW) == "reconnect_limited"
    assert gate.settled == []
    assert gate.records.auth == TOLD


def test_nearly_always_there_is_nothing_to_settle(gate: Gate) -> None:
    gate.put(PRESENT)
    gate.connect(OLD)
    assert gate.settled == []


def test_a_certificate_says_nothing_of_passwords(gate: Gate) -> None:
    now = gate.fleet.clock.now()
    shown = certificate(not_before=now - 10, not_after=now + 10)
    gate.put(with_next_secret({"type": "mtls"}, NEW_HASH, "pepper"))
    gate.connect(None, shown)
    assert gate.settled == []


def test_the_session_stays_when_its_password_cannot_be_settled(gate: Gate) -> None:
    gate.put(TOLD)
    gate.records.away = True
    session = gate.connect(NEW)
    gate.records.away = False
    assert gate.records.auth == TOLD
    gate.put(TOLD, note="so that it is looked at")
    assert gate.look() == []
    assert session.close_reason is None
    gate.connect(NEW)
    assert gate.records.auth == TAKEN


@define(eq=False)
class Commanded:
    """The password of the charge point changed by command."""

    gate: Gate
    session: Session

    @property
    def changes(self) -> CredentialChanges:
        return CredentialChanges(
            rewriter=self.gate.rewriter,
            hashes=HASHES,
            hashing=InlineHashing(),
            default_mode=AuthMode.BASIC,
            find=lambda _: self.session,
        )

    def change(self, status: str | None) -> None:
        changes = self.changes
        payload = {"key": "AuthorizationKey", "value": NEW.hex()}
        change = result_of(changes.prepare(CALLER, "ChangeConfiguration", payload))
        assert self.gate.look() == []
        if status is not None:
            result_of(changes.answered(change, {"status": status}))
        self.gate.look()


@pytest.fixture
def commanded(gate: Gate) -> Commanded:
    gate.put(PRESENT)
    return Commanded(gate, gate.connect(OLD))


@pytest.mark.parametrize("status", ["Accepted", "Rejected", "RebootRequired", None])
def test_the_session_that_carried_the_command_stays(commanded: Commanded, status: str | None) -> None:
    commanded.change(status)
    assert commanded.gate.fleet.revoked() == []
    assert commanded.session.close_reason is None


def test_then_the_new_password_lets_it_in_and_the_old_one_does_not(commanded: Commanded) -> None:
    commanded.change("Accepted")
    assert commanded.gate.refused(OLD) == "basic_invalid"
    commanded.gate.connect(NEW)
    assert commanded.gate.look() == []


@pytest.mark.parametrize("status", ["Accepted", "Rejected", "RebootRequired", None])
def test_somebody_else_s_change_still_ends_it(commanded: Commanded, status: str | None) -> None:
    commanded.change(status)
    auth = commanded.gate.records.auth | {"secretHash": "cd" * 32}
    commanded.gate.put(auth)
    assert commanded.gate.look() == [("CP-001", "credential_changed")]


def test_a_session_by_the_old_password_that_was_told_nothing_ends(commanded: Commanded) -> None:
    elsewhere = attrs.evolve(commanded.session.standing)
    commanded.change("Accepted")
    commanded.session.standing = elsewhere
    assert commanded.gate.look() == [("CP-001", "credential_changed")]
