"""What an operator may ask of TLS versions and cipher suites."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from ocpp_gateway.settings import OCPP_CIPHERS
from ocpp_gateway.tls.policy import TlsPolicy, problems


def test_the_default_is_good_and_has_what_ocpp_requires() -> None:
    assert problems(TlsPolicy()) == []
    assert problems(TlsPolicy(min_version="1.3", forward_secrecy_only=True)) == []
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(OCPP_CIPHERS.encode())
    suites = [name for name in SSL.Connection(context, None).get_cipher_list() if not name.startswith("TLS_")]
    assert suites == OCPP_CIPHERS.split(":")  # OpenSSL knows each of them
    required = {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
    }
    assert required <= set(suites)


@pytest.mark.parametrize(
    "ciphers",
    ["ALL", "HIGH", "HIGH:!aNULL", "aNULL", "DEFAULT", "AES128-GCM-SHA256:PSK-AES128-GCM-SHA256", "SRP+AES", "ADH"],
)
def test_weak_suites_are_not_taken(ciphers: str) -> None:
    assert len(problems(TlsPolicy(ciphers=ciphers))) == 1


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "HIGH:!aNULL:!PSK:!SRP", "AES128-GCM-SHA256@SECLEVEL=2"])
def test_others_are(ciphers: str) -> None:
    assert problems(TlsPolicy(ciphers=ciphers)) == []


@pytest.mark.parametrize("ciphers", ["", "nonsense", "élan", "AES128-GCM-SHA256@SECLEVEL=0", "ALL@SECLEVEL = 1"])
def test_what_openssl_cannot_use_or_should_not_is_told(ciphers: str) -> None:
    assert len(problems(TlsPolicy(ciphers=ciphers))) == 1


def test_nothing_is_left_of_static_rsa_with_forward_secrecy_only() -> None:
    policy = TlsPolicy(ciphers="AES128-GCM-SHA256:AES256-GCM-SHA384", forward_secrecy_only=True)
    assert problems(policy) == ["the cipher string has no suite that OpenSSL knows"]
