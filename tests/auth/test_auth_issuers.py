"""Several authorities that do not trust each other: what a binding can say of the one that it means."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from support.certificates import Authority

from ocpp_gateway.auth.bindings import CertificateRules, check_binding
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.record import IdentityRecord

OURS, THEIRS = Authority("Operator A CA"), Authority("Operator B CA")
OWN, NAMESAKE = (
    ClientCertificate.of(authority.issue("CP-001", sans=["DNS:cp-001.example.com"], serial_number=5).certificate)
    for authority in (OURS, THEIRS)
)
"""Each authority has issued the same: name, alternative name and number, for both count from one."""


def reason(binding: dict[str, Any], certificate: ClientCertificate) -> str | None:
    record = {"stationId": "s", "tenantId": "t", "auth": {"type": "mtls", "certificates": [binding]}}
    try:
        check_binding(IdentityRecord.parse(json.dumps(record), "CP-001"), certificate, CertificateRules(), now=0.0)
    except AuthenticationFailed as failed:
        return failed.reason
    return None


BY_WORD = [
    {"serialNumber": "05"},
    {"subject": "CP-001"},
    {"subject": "CN=CP-001,O=Example Charging"},
    {"subjectAltName": "DNS:cp-001.example.com"},
]
"""What any authority may write into a certificate."""


@pytest.mark.parametrize("binding", BY_WORD, ids=str)
def test_the_issuer_tells_two_authorities_apart_that_write_the_same(binding: dict[str, str]) -> None:
    assert [reason(binding, each) for each in (OWN, NAMESAKE)] == [None, None]
    of_ours, of_theirs = ({**binding, "issuer": authority} for authority in (OWN.issuer, NAMESAKE.issuer))
    assert [reason(of_ours, each) for each in (OWN, NAMESAKE)] == [None, "mtls_binding_mismatch"]
    assert [reason(of_theirs, each) for each in (OWN, NAMESAKE)] == ["mtls_binding_mismatch", None]


def test_what_one_authority_s_binding_revokes_is_not_the_other_s() -> None:
    revoked = {"serialNumber": "05", "issuer": OWN.issuer, "status": "revoked"}
    assert [reason(revoked, each) for each in (OWN, NAMESAKE)] == ["mtls_revoked", "mtls_binding_mismatch"]


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("CN=Acme CA,OU=Charging,O=Acme", None),
        ("O=Acme,OU=Charging,CN=Acme CA", None),
        ("/O=Acme/OU=Charging/CN=Acme CA", None),
        ("O = Acme, OU = Charging, CN = Acme CA", None),
        ("CN=Acme CA,O=Acme", "mtls_binding_mismatch"),
        ("CN=Acme CA,O=Acme,OU=Charging", "mtls_binding_mismatch"),
        ("CN=acme ca,OU=Charging,O=Acme", "mtls_binding_mismatch"),
        ("Acme CA", "mtls_binding_mismatch"),
        ("CN=Acme CA,OU=Charging,O=", "mtls_binding_mismatch"),
        ("CN=Acme CA,OU=Charging,O", "mtls_binding_mismatch"),
        ("CN=#0C07,OU=Charging,O=Acme", "mtls_binding_mismatch"),
    ],
)
def test_an_issuer_is_a_whole_name_in_either_spelling(issuer: str, expected: str | None) -> None:
    shown = attrs.evolve(OWN, issuer="CN=Acme CA,OU=Charging,O=Acme")
    assert reason({"fingerprint": OWN.fingerprint, "issuer": issuer}, shown) == expected


@pytest.mark.parametrize("issuer", ["", "CN=#0C07", "madeUp=Operator A CA"])
def test_an_authority_whose_name_cannot_be_compared_is_nobody_s(issuer: str) -> None:
    shown = attrs.evolve(OWN, issuer=issuer)
    assert reason({"fingerprint": OWN.fingerprint}, shown) is None
    for expected in (OWN.issuer, issuer or " "):
        assert reason({"fingerprint": OWN.fingerprint, "issuer": expected}, shown) == "mtls_binding_mismatch"
