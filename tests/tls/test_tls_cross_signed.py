"""Authorities that have certified one another: several certificates of one name and key, and no top."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.certificates import Authority, days
from tls_support import Files

from ocpp_gateway.tls.files import read
from ocpp_gateway.tls.material import RevocationList
from ocpp_gateway.tls.revoked import Revocations

NOW = 1000.0
BRIDGES = 8


def vouched(subject: Authority, by: Authority) -> x509.Certificate:
    """A certificate of ``by`` for the name and key of ``subject``."""
    return by.issue(None, subject=subject.certificate.subject, key=subject.private_key, ca=True).certificate


@pytest.fixture(scope="module")
def bridges() -> list[Authority]:
    return [Authority(f"Bridge {number}") for number in range(BRIDGES)]


@pytest.fixture(scope="module")
def crosses(bridges: list[Authority]) -> list[x509.Certificate]:
    return [vouched(one, by=another) for one in bridges for another in bridges if one is not another]


def listing(issuer: int, *numbers: int, until: float | None = None) -> RevocationList:
    return RevocationList(f"CN=Bridge {issuer}", 500.0, until, frozenset(numbers))


@pytest.mark.parametrize("with_roots", [True, False])
def test_many_that_certify_one_another_are_gone_through(
    bridges: list[Authority], crosses: list[x509.Certificate], with_roots: bool
) -> None:
    bundle = [each.certificate for each in bridges if with_roots] + crosses
    revocations = Revocations.of([listing(0, 7)], bundle)
    assert revocations.fault("CN=Bridge 0", 7, NOW) == "mtls_revoked"
    assert revocations.fault("CN=Bridge 0", 8, NOW) is None
    assert revocations.fault("CN=Bridge 1", 7, NOW) is None
    late = Revocations.of([listing(number, until=600.0) for number in range(BRIDGES)], bundle)
    assert late.fault("CN=Bridge 0", 8, NOW) == "mtls_crl_expired"


def test_one_of_many_is_good_as_long_as_one_that_vouches_for_it_is(
    bridges: list[Authority], crosses: list[x509.Certificate]
) -> None:
    first = bridges[0].certificate.subject
    of_first = {each.issuer.rfc4514_string(): each.serial_number for each in crosses if each.subject == first}
    assert len(of_first) == BRIDGES - 1
    for end, fault in ((BRIDGES - 1, None), (BRIDGES, "mtls_revoked")):
        revoked = [listing(number, of_first[f"CN=Bridge {number}"]) for number in range(1, end)]
        assert Revocations.of(revoked, crosses).fault("CN=Bridge 0", 8, NOW) == fault


def test_a_list_is_of_the_name_and_key_and_not_of_one_certificate(files: Files, root: Authority) -> None:
    other = Authority("Other Operator")
    twin = vouched(other, by=root).public_bytes(Encoding.PEM)
    files.bundle, files.crls = [root, other], [root.crl(), other.crl()]
    paths = files.write()
    bundle = Path(paths.ca or "")
    whole = bundle.read_bytes()
    for content in (whole + twin, twin + whole):
        bundle.write_bytes(content)
        material = read(paths, now=days(0).timestamp())
        assert len(material.authorities) == 3
        assert material.warnings == ()


def test_neither_the_name_nor_the_key_alone_makes_a_twin(files: Files, root: Authority) -> None:
    namesake = Authority(root.name).certificate
    renamed = root.issue("Renamed", key=root.private_key, ca=True).certificate
    files.bundle, files.crls = [root], [root.crl()]
    paths = files.write()
    with Path(paths.ca or "").open("ab") as file:
        file.write(b"".join(each.public_bytes(Encoding.PEM) for each in (namesake, renamed)))
    assert read(paths, now=days(0).timestamp()).warnings == tuple(
        f"there is no CRL of the CA {name}: what it has issued is not checked for revocation"
        for name in ("Example Root", "Renamed")
    )
