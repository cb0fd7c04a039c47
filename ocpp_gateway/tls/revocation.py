"""Certificate revocation lists (RFC 5280 section 5): read, and verified once and for all.

Complete lists only. A delta or indirect list, or one for some reasons of revocation only, would let certificates pass
that are revoked elsewhere; they are refused rather than half understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ocpp_gateway.tls import pem
from ocpp_gateway.tls.material import Findings, RevocationList, common_name, name_key


def revocation_lists(
    files: Iterable[tuple[str, bytes]], bundle: Sequence[x509.Certificate], now: float, found: Findings
) -> tuple[RevocationList, ...]:
    """The CRLs in the given files (name, content), each verified with the CA of ``bundle`` that has issued it.

    Several lists for the same certificates: the newest is kept. What cannot be used goes to ``found.problems``, and a
    CA that none of the lists is of to its warnings.
    """
    newest: dict[tuple[x509.Certificate, bytes], tuple[str, x509.CertificateRevocationList]] = {}
    for file, data in files:
        for crl in _lists(file, data, found):
            signer, scope = _signer(file, crl, bundle, found), _scope(file, crl, found)
            if signer is None or scope is None:
                continue
            kept = newest.get((signer, scope))
            if kept is None or kept[1].last_update_utc <= crl.last_update_utc:
                newest[signer, scope] = (file, crl)
    signers = {_as_issuer(signer) for signer, _ in newest}
    if newest:
        found.warnings.extend(
            f"there is no CRL of the CA {common_name(each.subject)}: what it has issued is not checked for revocation"
            for each in bundle
            if _as_issuer(each) not in signers
        )
    return tuple(_value(file, crl, now, found) for file, crl in newest.values())


def _lists(file: str, data: bytes, found: Findings) -> list[x509.CertificateRevocationList]:
    objects = pem.blocks(data)
    if objects and not pem.is_whole(file, data, objects, found):
        return []
    texts = [text for label, text in objects if label == "X509 CRL"]
    lists = []
    try:
        if objects or not data.strip():
            lists = [x509.load_pem_x509_crl(text) for text in texts]
        else:
            lists = [x509.load_der_x509_crl(data)]
        for crl in lists:
            _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.extensions
    except Exception:
        found.problems.append(f"{file}: a CRL in it cannot be read: it must be PEM (BEGIN X509 CRL) or DER, and whole")
        return []
    if not lists:
        found.problems.append(f"{file}: {pem.nothing_of('CRL (BEGIN X509 CRL)', data, objects)}")
    return lists


def _signer(
    file: str, crl: x509.CertificateRevocationList, bundle: Sequence[x509.Certificate], found: Findings
) -> x509.Certificate | None:
    issuer = crl.issuer.rfc4514_string()
    named = [each for each in bundle if name_key(each.subject.rfc4514_string()) == name_key(issuer)]
    signer = next((each for each in named if _has_signed(each, crl)), None)
    if not named:
        found.problems.append(f"{file}: the CRL of {issuer} is of no CA in the CA bundle: add that CA, or drop the CRL")
    elif signer is None:
        found.problems.append(f"{file}: the CRL of {issuer} is not signed by that CA's key in the CA bundle")
    elif not _may_sign_lists(signer):
        found.problems.append(f"{file}: the CA {issuer} is not one that may sign CRLs (key usage): drop its CRL")
        return None
    return signer


def _as_issuer(authority: x509.Certificate) -> tuple[str, bytes]:
    """What makes an issuer: name and key. Several certificates may have both, of other CAs that vouch for it."""
    key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return name_key(authority.subject.rfc4514_string()), key


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type] # other kinds raise TypeError
    except Exception:
        return False


def _may_sign_lists(authority: x509.Certificate) -> bool:
    usage = [each.value for each in authority.extensions if isinstance(each.value, x509.KeyUsage)]
    return all(each.crl_sign for each in usage)


def _scope(file: str, crl: x509.CertificateRevocationList, found: Findings) -> bytes | None:
    """Which of its issuer's certificates a list is for: empty for all."""
    scope = b""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator) or (
            isinstance(value, x509.IssuingDistributionPoint) and (value.indirect_crl or value.only_some_reasons)
        ):
            kind = "a delta" if isinstance(value, x509.DeltaCRLIndicator) else "an indirect or partial"
            found.problems.append(f"{file}: {kind} CRL of {crl.issuer.rfc4514_string()}: give the complete one")
            return None
        if isinstance(value, x509.UnrecognizedExtension) and extension.critical:
            found.problems.append(
                f"{file}: the CRL of {crl.issuer.rfc4514_string()} has a critical extension that is unknown here "
                f"({extension.oid.dotted_string}): it cannot be used"
            )
            return None
        if isinstance(value, x509.IssuingDistributionPoint):
            scope = value.public_bytes()
    return scope


def _value(file: str, crl: x509.CertificateRevocationList, now: float, found: Findings) -> RevocationList:
    issuer = crl.issuer.rfc4514_string()
    next_update = crl.next_update_utc
    if next_update is not None and next_update.timestamp() < now:
        found.warnings.append(f"{file}: the CRL of {issuer} is out of date: certificates of that CA are refused")
    if crl.last_update_utc.timestamp() > now:
        found.warnings.append(f"{file}: the CRL of {issuer} is not valid yet: certificates of that CA are refused")
    return RevocationList(
        issuer=issuer,
        last_update=crl.last_update_utc.timestamp(),
        next_update=None if next_update is None else next_update.timestamp(),
        serial_numbers=frozenset(each.serial_number for each in crl),
    )
