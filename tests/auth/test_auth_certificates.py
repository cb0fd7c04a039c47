from __future__ import annotations

import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from support.certificates import Authority, days, make_key

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.handshake.reasons import REFUSALS

AUTHORITY = Authority("Charging Root")


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in attributes])


def with_alternative_names(der: bytes) -> x509.Certificate:
    """A certificate whose subjectAltName extension has the content ``der``, whatever that is."""
    key = make_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name((NameOID.COMMON_NAME, "CP-001")))
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(days(-1))
        .not_valid_after(days(1))
        .add_extension(x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, der), critical=False)
    )
    return builder.sign(AUTHORITY.private_key, hashes.SHA256())


def test_all_that_a_certificate_says() -> None:
    issued = AUTHORITY.issue(
        "CP-001",
        organization="Example Charging",
        sans=["DNS:CP-001.Example.COM", "URI:urn:cp:001", "IP:10.0.0.1", "IP:fd00::0:1", "email:Cp@example.com"],
        serial_number=0x0A1B,
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC),
    )
    assert ClientCertificate.of(issued.certificate) == ClientCertificate(
        fingerprint=issued.certificate.fingerprint(hashes.SHA256()).hex().upper(),
        subject="CN=CP-001,O=Example Charging",
        common_name="CP-001",
        organizations=("Example Charging",),
        alternative_names=(
            "DNS:cp-001.example.com",
            "URI:urn:cp:001",
            "IP:10.0.0.1",
            "IP:fd00::1",
            "email:Cp@example.com",
        ),
        serial_number="A1B",
        issuer="CN=Charging Root",
        not_before=1_767_225_600.0,
        not_after=1_798_761_601.0,
    )


def test_a_certificate_that_says_little() -> None:
    certificate = ClientCertificate.of(AUTHORITY.issue(None, organization=None).certificate)
    assert (certificate.subject, certificate.common_name) == ("", None)
    assert (certificate.organizations, certificate.alternative_names) == ((), ())


def test_of_several_common_names_the_most_specific_counts() -> None:
    subject = name(
        (NameOID.COMMON_NAME, "Charging"),
        (NameOID.ORGANIZATION_NAME, "A"),
        (NameOID.ORGANIZATION_NAME, "B"),
        (NameOID.COMMON_NAME, "CP-001"),
    )
    certificate = ClientCertificate.of(AUTHORITY.issue(None, subject=subject).certificate)
    assert certificate.common_name == "CP-001"
    assert certificate.organizations == ("A", "B")


def test_alternative_names_of_other_kinds_are_left_out() -> None:
    key = make_key()
    kinds = [x509.DirectoryName(name((NameOID.COMMON_NAME, "CP-002"))), x509.RegisteredID(NameOID.COMMON_NAME)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name((NameOID.COMMON_NAME, "CP-001")))
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(days(-1))
        .not_valid_after(days(1))
        .add_extension(x509.SubjectAlternativeName([*kinds, x509.DNSName("cp-001")]), critical=False)
    )
    certificate = builder.sign(AUTHORITY.private_key, hashes.SHA256())
    assert ClientCertificate.of(certificate).alternative_names == ("DNS:cp-001",)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\xff",
        b"\x30\x02\xa3\x00",  # an X.400 address
        b"\x30\x05\x87\x03\x0a\x00\x00",  # an IP address of three bytes
        b"\x30\x03\x82\x01\xff",  # a DNS name that is not ASCII
    ],
)
def test_a_malformed_extension_is_no_verified_certificate(der: bytes) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        ClientCertificate.of(with_alternative_names(der))
    assert caught.value.reason == "mtls_not_authorized"
    assert caught.value.reason in REFUSALS
    assert caught.value.__suppress_context__


def test_an_odd_certificate_writes_no_warnings() -> None:
    with warnings.catch_warnings(record=True):
        subject = name((NameOID.COUNTRY_NAME, "NLD"), (NameOID.COMMON_NAME, "CP-001"))
        certificate = AUTHORITY.issue(None, subject=subject).certificate
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ClientCertificate.of(certificate).subject == "CN=CP-001,C=NLD"


def test_a_fleet_s_certificates_share_the_name_of_their_issuer() -> None:
    one, other = (ClientCertificate.of(AUTHORITY.issue(identity).certificate) for identity in ("CP-1", "CP-2"))
    assert one.issuer is other.issuer
