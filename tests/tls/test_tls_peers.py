"""What a connection's peer has shown, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

from support.certificates import Authority, Issued
from tls_support import Files, client_context, shake

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.tls.peers import PeerCertificates
from ocpp_gateway.tls.policy import ClientAuth


class Visits:
    """Connections of charge points, each with what it shows."""

    def __init__(self, files: Files, root: Authority, directory: Path) -> None:
        files.bundle = [root]
        self._context = files.context(ClientAuth.OPTIONAL)
        self._root = root
        self._directory = directory

    def read(self, certificates: PeerCertificates, issued: Issued | None) -> ClientCertificate | None:
        shaken = shake(self._context, client_context(self._directory, self._root, issued))
        assert shaken.is_done
        return certificates.of(shaken.server)


def test_a_certificate_is_read_once_for_all_connections(files: Files, root: Authority, tmp_path: Path) -> None:
    certificates, visits = PeerCertificates(10), Visits(files, root, tmp_path)
    issued = root.issue("CP-1", client=True)
    first = visits.read(certificates, issued)
    assert first is not None
    assert first == ClientCertificate.of(issued.certificate)
    assert visits.read(certificates, issued) is first


def test_two_certificates_of_one_name_are_two(files: Files, root: Authority, tmp_path: Path) -> None:
    certificates, visits = PeerCertificates(10), Visits(files, root, tmp_path)
    for issued in (root.issue("CP-1", client=True), root.issue("CP-1", client=True)):
        shown = visits.read(certificates, issued)
        assert shown is not None
        assert shown.fingerprint == issued.fingerprint
    assert len(certificates) == 2


def test_without_a_certificate_there_is_nothing_to_read(files: Files, root: Authority, tmp_path: Path) -> None:
    certificates = PeerCertificates(10)
    assert Visits(files, root, tmp_path).read(certificates, None) is None
    assert len(certificates) == 0


def test_only_those_seen_last_are_kept(files: Files, root: Authority, tmp_path: Path) -> None:
    certificates, visits = PeerCertificates(2), Visits(files, root, tmp_path)
    often, seldom, new = (root.issue(f"CP-{number}", client=True) for number in range(3))
    first = visits.read(certificates, often)
    forgotten = visits.read(certificates, seldom)
    assert visits.read(certificates, often) is first
    visits.read(certificates, new)
    assert len(certificates) == 2
    assert visits.read(certificates, often) is first
    again = visits.read(certificates, seldom)
    assert again == forgotten
    assert again is not forgotten
