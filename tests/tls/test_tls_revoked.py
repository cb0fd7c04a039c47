"""Who is revoked, asked of the lists by issuer and serial number."""

from __future__ import annotations

import pytest
from cryptography import x509
from support.certificates import Authority

from ocpp_gateway.tls.material import RevocationList
from ocpp_gateway.tls.revoked import Revocations

NOW = 1000.0


def listing(issuer: str, *numbers: int, until: float | None = 2000.0) -> RevocationList:
    return RevocationList(issuer, 500.0, until, frozenset(numbers))


def bundle(*authorities: Authority) -> list[x509.Certificate]:
    return [each.certificate for each in authorities]


def test_a_certificate_is_known_by_its_issuer_and_number() -> None:
    revocations = Revocations.of([listing("CN=A", 1, 2), listing("CN=A", 3), listing("CN=B", 4)], [])
    assert [number for number in range(6) if revocations.fault("CN=A", number, NOW)] == [1, 2, 3]
    assert [number for number in range(6) if revocations.fault("CN=B", number, NOW)] == [4]
    assert revocations.fault("CN=C", 1, NOW) is None


def test_names_are_compared_as_names() -> None:
    revocations = Revocations.of([listing("CN=Example  Root,O=Straße", 1)], [])
    assert revocations.fault("CN=example root,O=STRASSE", 1, NOW) == "mtls_revoked"


@pytest.mark.parametrize(
    ("now", "fault"), [(499.0, "mtls_crl_expired"), (500.0, None), (2000.0, None), (2001.0, "mtls_crl_expired")]
)
def test_a_list_holds_for_its_time(now: float, fault: str | None) -> None:
    revocations = Revocations.of([listing("CN=A", 1)], [])
    assert revocations.fault("CN=A", 2, now) == fault
    assert revocations.fault("CN=A", 1, now) == "mtls_revoked"  # once is for ever


def test_a_list_that_promises_no_next_one_holds() -> None:
    assert Revocations.of([listing("CN=A", 1, until=None)], []).fault("CN=A", 2, 1e12) is None


def test_what_is_above_in_the_bundle_counts(root: Authority) -> None:
    middle = Authority("Middle", parent=root)
    lower = Authority("Lower", parent=middle)
    number = middle.certificate.serial_number
    revocations = Revocations.of([listing("CN=Example Root", number)], bundle(root, middle, lower))
    assert revocations.fault("CN=Middle", 7, NOW) == "mtls_revoked"
    assert revocations.fault("CN=Lower", 7, NOW) == "mtls_revoked"
    assert revocations.fault("CN=Example Root", 7, NOW) is None
    stale = Revocations.of(
        [listing("CN=Example Root", number), listing("CN=Middle", until=600.0)], bundle(root, middle, lower)
    )
    assert stale.fault("CN=Lower", 7, NOW) == "mtls_revoked"  # which tells more than that a list is late
    late = Revocations.of([listing("CN=Example Root", until=600.0)], bundle(root, middle, lower))
    assert late.fault("CN=Lower", 7, NOW) == "mtls_crl_expired"


def test_a_good_authority_of_the_same_name_will_do(root: Authority) -> None:
    one, another = Authority("Middle", parent=root), Authority("Middle", parent=root)
    first, second = one.certificate.serial_number, another.certificate.serial_number
    for numbers, fault in (((first,), None), ((first, second), "mtls_revoked")):
        revocations = Revocations.of([listing("CN=Example Root", *numbers)], bundle(root, one, another))
        assert revocations.fault("CN=Middle", 7, NOW) == fault
        assert revocations.fault("CN=Example Root", first, NOW) == "mtls_revoked"


def test_authorities_that_certify_one_another_come_to_an_end() -> None:
    one = Authority("One")
    two = Authority("Two", parent=one)
    back = two.issue(None, subject=one.certificate.subject, ca=True)
    circle = [two.certificate, back.certificate]
    assert Revocations.of([listing("CN=One")], circle).fault("CN=Two", 7, NOW) is None
    revoked = Revocations.of([listing("CN=One", two.certificate.serial_number)], circle)
    assert revoked.fault("CN=One", 7, NOW) == "mtls_revoked"


def test_without_lists_there_is_nothing_to_ask(root: Authority) -> None:
    assert not Revocations()
    assert not Revocations.of([], bundle(root))
    assert Revocations.of([listing("CN=A")], [])
