"""Which TLS is spoken: protocol versions, cipher suites, and whether a client must show a certificate."""

from __future__ import annotations

import re
from enum import StrEnum

from attrs import frozen
from OpenSSL import SSL

from ocpp_gateway.settings import OCPP_CIPHERS, Settings

_WEAK = re.compile(r"NULL|ADH|AECDH|EXP|RC4|RC2|IDEA|SEED|DES|MD5|PSK|SRP")
_WEAK_LEVEL = re.compile(r"@SECLEVEL\s*=\s*[01](?![0-9])", re.IGNORECASE)
_WITHOUT_WEAK = "!aNULL:!eNULL:!PSK:!SRP:!DES:!3DES:!RC4:!MD5:!SEED:!IDEA"


class ClientAuth(StrEnum):
    """What is asked of a client: no certificate, one if it has one, or one or nothing."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


@frozen
class TlsPolicy:
    """``min_version``: ``1.2`` or ``1.3``; ``ciphers``: OpenSSL's syntax, for TLS 1.2."""

    min_version: str = "1.2"
    ciphers: str = OCPP_CIPHERS
    forward_secrecy_only: bool = False

    @classmethod
    def of(cls, settings: Settings) -> TlsPolicy:
        """What an operator has set."""
        return cls(settings.ocpp_tls_min_version, settings.ocpp_tls_ciphers, settings.ocpp_tls_forward_secrecy_only)

    @property
    def cipher_string(self) -> str:
        """The suites for OpenSSL; static RSA is struck out where forward secrecy is demanded (A00.FR.319 of 2.1)."""
        return f"{self.ciphers}:!kRSA" if self.forward_secrecy_only else self.ciphers


def problems(policy: TlsPolicy) -> list[str]:
    """What is wrong with a policy: suites that OpenSSL does not know, or that protect nothing (A00.FR.320)."""
    if _WEAK_LEVEL.search(policy.ciphers):
        return ["the cipher string must not lower the security level below 2"]
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        context.set_cipher_list(policy.cipher_string.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError):
        return ["the cipher string has no suite that OpenSSL knows"]
    # Those of TLS 1.3 are always there; their names begin alike.
    suites = [name for name in SSL.Connection(context, None).get_cipher_list() if not name.startswith("TLS_")]
    weak = [name for name in suites if _WEAK.search(name)]
    if weak:
        return [f"the cipher string allows weak suites ({', '.join(weak[:3])}, ...): add :{_WITHOUT_WEAK}"]
    return []
