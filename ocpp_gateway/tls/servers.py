"""Our own certificates: each with its chain and its private key, at most one for each type of key.

The four suites that OCPP requires need two of them, one RSA and one ECDSA (OCPP 2.0.1 part 2, A00.FR.318 and .421).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocpp_gateway.tls import pem
from ocpp_gateway.tls.material import Findings, PrivateKey, ServerCertificate, common_name

_LEAST_RSA_BITS = 2048
_LEAST_EC_BITS = 224
"""OCPP 2.0.1 part 2, among A00.FR.501 to .514; the OCPP 1.6 security whitepaper asks for the same."""


@frozen(eq=False)
class _Key:
    file: str
    key: PrivateKey


def servers(
    certificate_files: Iterable[tuple[str, bytes]],
    key_files: Iterable[tuple[str, bytes]],
    key_password: str,
    now: float,
    found: Findings,
) -> tuple[ServerCertificate, ...]:
    """The certificates in the given files (name, content), each with the key that belongs to it, whatever their order.

    Whatever is missing or does not match goes to ``found``; no part of a key or of the password ever does.
    """
    chains = [
        (file, chain)
        for file, data in certificate_files
        if (chain := pem.certificates(file, data, found)) and _kind_is_usable(file, chain[0], found)
    ]
    keys = [each for file, data in key_files for each in _keys(file, data, key_password, found)]
    if found.problems:
        return ()  # a certificate or a key is missing for a reason that has been told
    _tell_doubles(chains, found)
    _tell_keys_without_certificate(chains, keys, found)
    complete = []
    for file, chain in chains:
        public = _public(chain[0].public_key())
        key = next((each.key for each in keys if _public(each.key.public_key()) == public), None)
        if key is None:
            found.problems.append(
                f"{file}: none of the key files holds the private key of {common_name(chain[0].subject)}: "
                "certificate and key must be of one pair"
            )
            continue
        _warn_of(file, chain, now, found)
        complete.append(ServerCertificate(file, f"{common_name(chain[0].subject)} ({_kind(key)})", chain, key))
    return tuple(complete)


def _kind(key: object) -> str:
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return "RSA"
    return "EC" if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) else ""


def _kind_is_usable(file: str, certificate: x509.Certificate, found: Findings) -> bool:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        least, bits = _LEAST_RSA_BITS, key.key_size
    elif isinstance(key, ec.EllipticCurvePublicKey):
        least, bits = _LEAST_EC_BITS, key.key_size
    else:
        found.problems.append(
            f"{file}: the first certificate's key is neither RSA nor EC, so none of OCPP's cipher suites can use it"
        )
        return False
    if bits < least:
        found.problems.append(
            f"{file}: the first certificate's {_kind(key)} key has {bits} bits; OCPP asks for {least}"
        )
        return False
    return True


def _keys(file: str, data: bytes, password: str, found: Findings) -> list[_Key]:
    objects = pem.blocks(data)
    if objects and not pem.is_whole(file, data, objects, found):
        return []
    keys = []
    for label, text in objects:
        if not label.endswith("PRIVATE KEY"):
            continue
        key = _key(text, password)
        if isinstance(key, str):
            found.problems.append(f"{file}: {key}")
            return []
        keys.append(_Key(file, key))
    if not keys:
        found.problems.append(f"{file}: {pem.nothing_of('private key (BEGIN PRIVATE KEY)', data, objects)}")
    return keys


def _key(text: bytes, password: str) -> PrivateKey | str:
    """The key, or what is wrong with it. The library's own words are not passed on: they may quote the file."""
    is_encrypted = b"ENCRYPTED" in text
    if is_encrypted and not password:
        return "the private key is encrypted and no password is set for it"
    try:
        key = load_pem_private_key(text, password.encode() if is_encrypted else None)
    except Exception:
        return (
            "the private key's password is wrong, or the file is damaged"
            if is_encrypted
            else "the private key cannot be read: it is damaged or of an unknown kind"
        )
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return "the private key is neither RSA nor EC, so none of OCPP's cipher suites can use it"
    return key


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _tell_doubles(chains: Sequence[tuple[str, tuple[x509.Certificate, ...]]], found: Findings) -> None:
    first: dict[str, str] = {}
    for file, chain in chains:
        kind = _kind(chain[0].public_key())
        if kind in first:
            found.problems.append(
                f"{file}: is a second {kind} certificate beside {first[kind]}: give at most one RSA and one EC"
            )
        first.setdefault(kind, file)


def _tell_keys_without_certificate(
    chains: Sequence[tuple[str, tuple[x509.Certificate, ...]]], keys: Iterable[_Key], found: Findings
) -> None:
    for each in keys:
        public = _public(each.key.public_key())
        places = [
            (file, place)
            for file, chain in chains
            for place, certificate in enumerate(chain)
            if _public(certificate.public_key()) == public
        ]
        if not places:
            found.problems.append(f"{each.file}: the private key belongs to none of the certificates")
        elif all(place for _, place in places):
            file, place = places[0]
            found.problems.append(
                f"{file}: the certificate that {each.file} belongs to is number {place + 1}; "
                "it must be the first, and its chain follow"
            )


def _warn_of(file: str, chain: tuple[x509.Certificate, ...], now: float, found: Findings) -> None:
    leaf = chain[0]
    name = common_name(leaf.subject)
    if leaf.not_valid_after_utc.timestamp() < now:
        found.warnings.append(f"{file}: the certificate of {name} has expired: charge points will not connect")
    if leaf.not_valid_before_utc.timestamp() > now:
        found.warnings.append(f"{file}: the certificate of {name} is not valid yet: charge points will not connect")
    for place, (certificate, issuer) in enumerate(pairwise(chain), start=2):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            found.warnings.append(f"{file}: certificate {place} did not issue the one before it: clients may refuse it")
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            found.warnings.append(f"{file}: the certificate of {name} is a CA's; a server should have one of its own")
        if isinstance(extension.value, x509.ExtendedKeyUsage) and not (
            {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(extension.value)
        ):
            found.warnings.append(f"{file}: the certificate of {name} is not one for servers: clients may refuse it")
