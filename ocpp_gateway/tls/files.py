"""The operator's TLS files: which they are, whether they have changed, and what is in them.

Nothing is used that is not whole. Every problem is found at once, so that a start or a reload fails once and not four
times; certificates go on to OpenSSL as they were read here, never by their path again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from attrs import field, frozen

from ocpp_gateway.tls.authorities import authorities
from ocpp_gateway.tls.material import Findings, TlsFilesBroken, TlsMaterial, common_name
from ocpp_gateway.tls.revocation import revocation_lists
from ocpp_gateway.tls.revoked import Revocations
from ocpp_gateway.tls.servers import servers

_MOST_BYTES = 128 * 1024 * 1024
"""More than any CRL; keeps a wrong path from filling the memory."""

Stamp = tuple[tuple[int, ...], ...]
"""What tells one state of the files from another, without reading them."""


@frozen
class TlsPaths:
    """Where the TLS files are. All PEM, but a CRL may be DER."""

    certificates: tuple[str, ...]
    """Our certificates, each file with its chain behind it; at most one for each type of key."""

    keys: tuple[str, ...]
    """Their private keys, in any order."""

    ca: str | None = None
    """Bundle of the CAs for client certificates."""

    crls: tuple[str, ...] = ()
    """What those CAs have revoked; several lists in one file if need be."""

    key_password: str = field(default="", repr=False)
    """Opens those of the keys that are encrypted."""

    def stamp(self) -> Stamp:
        """The files' state as it is now, through symbolic links: Kubernetes replaces files by turning a link."""
        return tuple(_stamp(path) for path in (*self.certificates, *self.keys, *filter(None, (self.ca,)), *self.crls))


def read(paths: TlsPaths, *, now: float) -> TlsMaterial:
    """Everything in the files, checked. ``now``: seconds since the epoch, for what is said about validity.

    Raises TlsFilesBroken with every problem. A certificate that has expired is no problem but a warning: it is known,
    and refusing to start would make it no better. Reads and computes; to be called in a thread once we serve.
    """
    found = Findings()
    if not paths.certificates:
        found.problems.append("no server certificate is given")
    certificate_files = _contents(paths.certificates, found)
    key_files = _contents(paths.keys, found, secret=True)
    ours = servers(certificate_files, key_files, paths.key_password, now, found)
    of_clients = Findings()
    ca_files = _contents((paths.ca,) if paths.ca else (), of_clients)
    bundle = tuple(each for file, data in ca_files for each in authorities(file, data, now, of_clients))
    is_bundle_whole = not of_clients.problems
    crl_files = _contents(paths.crls, of_clients)
    # Without the whole bundle, every CRL would seem to be a stranger's.
    lists = revocation_lists(crl_files, bundle, now, of_clients) if is_bundle_whole else ()
    found.problems += of_clients.problems
    found.warnings += of_clients.warnings
    if found.problems:
        raise TlsFilesBroken(tuple(found.problems))
    revocations = Revocations.of(lists, bundle)
    found.warnings += [
        f"the CA {common_name(each.subject)} is not trusted: it or one above it is revoked ({fault})"
        for each in bundle
        if each.issuer != each.subject
        and (fault := revocations.fault(each.issuer.rfc4514_string(), each.serial_number, now))
    ]
    return TlsMaterial(
        servers=ours,
        authorities=bundle,
        revocation_lists=lists,
        warnings=tuple(found.warnings),
        digest=_digest((*certificate_files, *key_files, *ca_files, *crl_files)),
        clients_digest=_digest((*ca_files, *crl_files)),
    )


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    # The time of the last change too: files are also copied over one another with their times kept.
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _contents(paths: Iterable[str], found: Findings, *, secret: bool = False) -> list[tuple[str, bytes]]:
    contents = []
    for path in paths:
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                found.problems.append(f"{path}: is not a file")
                continue
            if status.st_size > _MOST_BYTES:
                found.problems.append(f"{path}: is larger than {_MOST_BYTES} bytes")
                continue
            contents.append((path, Path(path).read_bytes()))
        except FileNotFoundError:
            found.problems.append(f"{path}: there is no such file")
        except PermissionError:
            found.problems.append(f"{path}: this user may not read it: change its owner or its mode")
        except OSError as error:
            found.problems.append(f"{path}: cannot be read ({error.strerror})")
        else:
            if secret and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
                found.warnings.append(f"{path}: others than its owner may read this private key: chmod 600")
    return contents


def _digest(contents: Iterable[tuple[str, bytes]]) -> bytes:
    digest = hashlib.sha256()
    for path, data in contents:
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.digest()
