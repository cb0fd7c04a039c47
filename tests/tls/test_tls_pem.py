"""PEM files that are not whole: half of one is never taken for a shorter one."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from reloaded import Begin, with_list
from support.certificates import Authority, Issued, days, key_to_pem
from tls_support import Files

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.tls.files import TlsPaths, read
from ocpp_gateway.tls.material import TlsFilesBroken, TlsMaterial
from ocpp_gateway.tls.policy import ClientAuth

CUTS = [2, 10, 40, 200]
"""Octets that are missing at the end: of the last boundary, all of it, some of what is above it, most of that."""


def read_now(paths: TlsPaths) -> TlsMaterial:
    return read(paths, now=days(0).timestamp())


def problems(paths: TlsPaths) -> tuple[str, ...]:
    with pytest.raises(TlsFilesBroken) as raised:
        read_now(paths)
    return raised.value.problems


def cut(path: str, octets: int) -> str:
    """Takes the end off a file; what is to be told of it."""
    Path(path).write_bytes(Path(path).read_bytes()[:-octets])
    return f"{path}: is cut off or damaged: there is a BEGIN without its END"


@pytest.mark.parametrize("octets", CUTS)
def test_the_second_list_of_a_file_is_not_forgotten(files: Files, root: Authority, octets: int) -> None:
    other = Authority("Other Operator")
    files.bundle, files.crls = [root, other], [root.crl() + other.crl([other.issue("CP-1")])]
    paths = files.write()
    assert len(read_now(paths).revocation_lists) == 2
    told = cut(paths.crls[0], octets)
    assert problems(paths) == (told,)


@pytest.mark.parametrize("octets", CUTS)
def test_the_last_authority_of_a_bundle_is_not_forgotten(files: Files, root: Authority, octets: int) -> None:
    files.bundle, files.crls = [root, Authority("Other Operator")], [root.crl()]
    paths = files.write()
    assert len(read_now(paths).authorities) == 2
    told = cut(paths.ca or "", octets)
    assert problems(paths) == (told,)


@pytest.mark.parametrize("octets", CUTS)
def test_a_server_s_chain_is_not_shortened(tmp_path: Path, root: Authority, octets: int) -> None:
    below = Authority("Middle", parent=root)
    paths = Files(tmp_path, [below.issue("gateway.example.com", client=False)]).write()
    assert len(read_now(paths).servers[0].chain) == 2
    told = cut(paths.certificates[0], octets)
    assert problems(paths) == (told,)


@pytest.mark.parametrize("octets", CUTS)
def test_a_key_file_is_whole_or_not_used(files: Files, octets: int) -> None:
    paths = files.write()
    both = files.directory / "both.key"
    both.touch(mode=0o600)
    both.write_bytes(b"".join(key_to_pem(each.key) for each in files.servers))
    together = evolve(paths, keys=(str(both),))
    assert len(read_now(together).servers) == 2
    told = cut(str(both), octets)
    assert problems(together) == (told,)


def test_what_is_cut_off_in_a_key_file_need_not_be_a_key(files: Files) -> None:
    paths = files.write()
    with Path(paths.keys[0]).open("ab") as file:
        file.write(files.servers[0].cert_pem)
    assert len(read_now(paths).servers) == 2
    told = cut(paths.keys[0], 40)
    assert problems(paths) == (told,)


def test_every_file_that_is_cut_off_is_named(tmp_path: Path, root: Authority, ec_server: Issued) -> None:
    other = Authority("Other Operator")
    chained = Issued(ec_server.certificate, ec_server.key, root.certificate_pem)
    paths = Files(tmp_path, [chained], [root, other], [root.crl() + other.crl()]).write()
    with Path(paths.keys[0]).open("ab") as file:
        file.write(ec_server.cert_pem)
    told = [cut(path, 40) for path in (paths.certificates[0], paths.keys[0], paths.ca or "")]
    assert problems(paths) == tuple(told)


def test_a_missing_line_end_is_nothing_missing(files: Files, root: Authority) -> None:
    files.bundle, files.crls = [root], [root.crl()]
    paths = files.write()
    for path in (*paths.certificates, *paths.keys, paths.ca or "", *paths.crls):
        cut(path, 1)
    material = read_now(paths)
    assert (len(material.servers), len(material.authorities), len(material.revocation_lists)) == (2, 1, 1)


def test_a_hole_in_the_middle_is_noticed(files: Files, root: Authority) -> None:
    other, bad = Authority("Other Operator"), root.issue("CP-1")
    first, second = root.crl([bad]), other.crl()
    files.bundle, files.crls = [root, other], [first[:-40] + second]
    paths = files.write()
    assert problems(paths) == (f"{paths.crls[0]}: is cut off or damaged: there is a BEGIN without its END",)


def test_a_list_that_is_cut_off_lets_nobody_back_in(begin: Begin, root: Authority) -> None:
    running = begin()
    other = Authority("Other Operator")
    stolen = ClientCertificate.of(other.issue("CP-1", serial_number=7).certificate)
    running.files.bundle = [root, other]
    running.contexts.paths = with_list(running, root.crl() + other.crl([other.issue("CP-1", serial_number=7)]))
    running.look()
    assert running.contexts.is_revoked(stolen)
    before = running.contexts.context(ClientAuth.REQUIRED)
    running.events()
    told = cut(running.contexts.paths.crls[0], 40)
    running.contexts.reload_now()
    assert [event["problems"] for event in running.logged] == [told]
    assert running.events() == ["tls.reload_failed"]
    assert running.contexts.facts().is_broken
    assert running.contexts.is_revoked(stolen)
    assert running.contexts.context(ClientAuth.REQUIRED) is before


@pytest.mark.parametrize("label", ["X509 CRL", "CERTIFICATE", "PRIVATE KEY"])
def test_a_megabyte_of_beginnings_is_read_at_once(files: Files, root: Authority, label: str) -> None:
    # A search for the end of each, through all that follows, would take minutes.
    files.bundle, files.crls = [root], [root.crl()]
    paths = files.write()
    path = {"X509 CRL": paths.crls[0], "CERTIFICATE": paths.ca or "", "PRIVATE KEY": paths.keys[0]}[label]
    line = f"-----BEGIN {label}-----\n".encode()
    Path(path).write_bytes(line * (1024 * 1024 // len(line)))
    (told,) = problems(paths)
    assert told.startswith(f"{path}: ")
