"""Bindings as the command writes them are bindings as the gateway reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority

from ocpp_gateway.auth.bindings import AllowedOrganizations, CertificateRules, check_binding
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.cli import bindings, records

NOW = 1_767_323_045.0
RULES = CertificateRules(require_binding=True, organizations=AllowedOrganizations())
BARE = {"chargePointId": "CP-1", "stationId": "S", "tenantId": "T"}
AUTHORITY = Authority("Test")
OWN, NEXT, SAME_SUBJECT, OTHER = (
    ClientCertificate.of(AUTHORITY.issue(name).certificate) for name in ("SN-1", "SN-2", "SN-1", "SN-3")
)


def reason(record: dict[str, Any], certificate: ClientCertificate, now: float = NOW) -> str | None:
    """What the gateway has against it."""
    parsed = IdentityRecord.parse(records.encode(record), "CP-1")
    assert parsed.warnings == ()
    try:
        check_binding(parsed, certificate, RULES, now=now)
    except AuthenticationFailed as failed:
        return failed.reason
    return None


def binding(certificate: ClientCertificate, **options: Any) -> dict[str, Any]:
    return bindings.binding_of(certificate, **{"by_subject": False, "valid_from": None, "valid_to": None, **options})


def bound(record: dict[str, Any], certificate: ClientCertificate, **options: Any) -> dict[str, Any]:
    how = {name: options.pop(name, False) for name in ("replace", "keep_type")}
    return bindings.bound(record, binding(certificate, **options), now=NOW, **how)


def test_a_bound_certificate_opens_and_no_other() -> None:
    record = bound(BARE, OWN)
    assert record["auth"]["type"] == "mtls"
    assert "allowedTypes" not in record["auth"]
    assert [reason(record, each) for each in (OWN, SAME_SUBJECT, OTHER)] == [None, *["mtls_binding_mismatch"] * 2]
    assert set(record["auth"]["certificates"][0]) == {"fingerprint", "serialNumber", "status"}


def test_two_overlap_until_the_old_one_is_replaced_or_revoked() -> None:
    both = bound(bound(BARE, OWN), NEXT)
    assert (reason(both, OWN), reason(both, NEXT)) == (None, None)
    replaced = bound(both, NEXT, replace=True)
    assert (reason(replaced, OWN), reason(replaced, NEXT)) == ("mtls_binding_mismatch", None)
    revoked = bindings.revoked(both, OWN.fingerprint, NOW)
    assert revoked is not None
    assert (reason(revoked, OWN), reason(revoked, NEXT)) == ("mtls_revoked", None)
    assert bindings.revoked(revoked, OWN.fingerprint, NOW) is None
    assert reason(bound(revoked, NEXT, replace=True), OWN) == "mtls_revoked"
    again = bindings.unrevoked(revoked, OWN.fingerprint, NOW)
    assert again is not None
    assert (reason(again, OWN), reason(again, NEXT)) == (None, None)
    assert bindings.unrevoked(again, OWN.fingerprint, NOW) is None


def test_one_certificate_is_bound_once() -> None:
    record = bound(bound(BARE, OWN), OWN, valid_to=datetime.fromtimestamp(NOW + 60, UTC))
    assert len(record["auth"]["certificates"]) == 1
    assert (reason(record, OWN, NOW + 59), reason(record, OWN, NOW + 61)) == (None, "mtls_binding_mismatch")


def test_by_subject_every_renewal_opens() -> None:
    record = bound(BARE, OWN, by_subject=True)
    assert [reason(record, each) for each in (OWN, SAME_SUBJECT, OTHER)] == [None, None, "mtls_binding_mismatch"]
    assert len(bound(record, SAME_SUBJECT, by_subject=True)["auth"]["certificates"]) == 1


def test_by_subject_the_issuer_is_named_too() -> None:
    (entry,) = bound(BARE, OWN, by_subject=True)["auth"]["certificates"]
    assert entry == {"subject": OWN.subject, "issuer": OWN.issuer, "status": "active"}
    namesake = ClientCertificate.of(Authority("Another").issue("SN-1").certificate)
    assert namesake.subject == OWN.subject
    assert reason(bound(BARE, OWN, by_subject=True), namesake) == "mtls_binding_mismatch"
    both = bound(bound(BARE, OWN, by_subject=True), namesake, by_subject=True)
    assert [reason(both, each) for each in (OWN, namesake, OTHER)] == [None, None, "mtls_binding_mismatch"]


@pytest.mark.parametrize("name", ["subject", "issuer"])
def test_what_has_no_name_cannot_be_bound_by_it(name: str) -> None:
    nobody = attrs.evolve(OWN, **{name: x509.Name([]).rfc4514_string()})
    with pytest.raises(ValueError, match="its subject or issuer is empty"):
        binding(nobody, by_subject=True)
    assert binding(nobody)["fingerprint"] == OWN.fingerprint


def test_windows_are_in_force_only_then() -> None:
    begin, end = (datetime.fromtimestamp(NOW + seconds, UTC) for seconds in (100, 200))
    record = bound(BARE, OWN, valid_from=begin, valid_to=end)
    listed = bindings.bindings_of(record)[0]
    for seconds, state, refusal in (
        (99, "not yet", "mtls_binding_mismatch"),
        (150, "active", None),
        (201, "ended", "mtls_binding_mismatch"),
    ):
        assert bindings.state_of(listed, [], NOW + seconds) == state
        assert reason(record, OWN, NOW + seconds) == refusal


def test_states() -> None:
    own = binding(OWN)
    assert bindings.state_of(own, [OWN.fingerprint], NOW) == "revoked"
    assert bindings.state_of({**own, "status": "Revoked"}, [], NOW) == "revoked"
    assert bindings.state_of({**own, "status": "paused"}, [], NOW) == "paused"
    assert bindings.state_of({**own, "validTo": "soon"}, [], NOW) == "unreadable dates"
    assert bindings.state_of({"fingerprint": "aa:bb"}, ["AABB"], NOW) == "revoked"


def test_the_short_form_stays_in_force_beside_the_list() -> None:
    colons = ":".join(OTHER.fingerprint[at : at + 2] for at in range(0, 64, 2)).lower()
    before = {**BARE, "auth": {"type": "mtls", "fingerprint": colons}}
    record = bound(before, OWN)
    assert (reason(record, OWN), reason(record, OTHER)) == (None, None)
    assert reason(bound(before, OWN, replace=True), OTHER) == "mtls_binding_mismatch"
    assert len(bound(before, OTHER)["auth"]["certificates"]) == 1


@pytest.mark.parametrize(
    ("auth", "keep_type", "expected"),
    [
        ({}, False, ("mtls", None)),
        ({"type": "basic"}, False, ("mtls", None)),
        ({"type": "basic", "allowedTypes": ["basic"]}, False, ("mtls", ["basic", "mtls"])),
        ({"type": "basic", "allowedTypes": ["Mtls "]}, False, ("mtls", ["Mtls "])),
        ({"type": "basic"}, True, ("basic", ["basic", "mtls"])),
        ({"type": "token", "allowedTypes": ["token", "basic"]}, True, ("token", ["token", "basic", "mtls"])),
        ({}, True, (None, ["basic", "token", "mtls"])),
        ({"type": "mtls"}, True, ("mtls", None)),
    ],
)
def test_what_it_authenticates_with(
    auth: dict[str, Any], keep_type: bool, expected: tuple[str | None, list[str] | None]
) -> None:
    record = bound({**BARE, "auth": {**auth, "secretHash": "kept"}}, OWN, keep_type=keep_type)
    assert (record["auth"].get("type"), record["auth"].get("allowedTypes")) == expected
    assert record["auth"]["secretHash"] == "kept"
    assert reason(record, OWN) is None


def test_revoking_what_is_not_bound_keeps_it_out_all_the_same() -> None:
    record = bindings.revoked(BARE, OWN.fingerprint, NOW)
    assert record is not None and "certificates" not in record["auth"]
    assert reason(record, OWN) == "mtls_revoked"
    assert bindings.revoked_in(record) == [OWN.fingerprint]
    assert bindings.serial_number_in(bound(BARE, OWN), OWN.fingerprint) == OWN.serial_number
    assert bindings.serial_number_in(record, OWN.fingerprint) is None


ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ODD = st.recursive(
    ANY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5
)
NAMES = st.sampled_from(["certificates", "revokedFingerprints", "allowedTypes", "type", "fingerprint", "subject"])
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from([*bindings.ATTRIBUTES, "status", "validFrom", "validTo"]), ODD, max_size=4),
    max_size=3,
)


@given(ODD | st.dictionaries(NAMES, ODD | ENTRIES, max_size=5))
def test_nothing_that_somebody_stored_stops_it(auth: Any) -> None:
    record = {**BARE, "auth": auth}
    after = bound(record, OWN)
    assert bindings.bindings_of(after)[-1]["fingerprint"] == OWN.fingerprint
    for entry in bindings.bindings_of(after):
        assert bindings.state_of(entry, bindings.revoked_in(record), NOW)
    revoked = bindings.revoked(record, OWN.fingerprint, NOW)
    assert revoked is not None and OWN.fingerprint in bindings.revoked_in(revoked)
    undone = bindings.unrevoked(revoked, OWN.fingerprint, NOW)
    assert undone is not None and OWN.fingerprint not in bindings.revoked_in(undone)
