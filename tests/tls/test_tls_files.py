"""What operators give us as TLS files: what is used, what is told and what is refused - all of it at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority, Issued, days, key_to_pem, make_key
from tls_support import Files

from ocpp_gateway.tls.contexts import build_context
from ocpp_gateway.tls.files import TlsPaths, read
from ocpp_gateway.tls.material import TlsFilesBroken, TlsMaterial
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy


def read_now(paths: TlsPaths) -> TlsMaterial:
    return read(paths, now=days(0).timestamp())


def problems(paths: TlsPaths) -> tuple[str, ...]:
    with pytest.raises(TlsFilesBroken) as raised:
        read_now(paths)
    assert str(raised.value).splitlines() == list(raised.value.problems)
    return raised.value.problems


class TestServers:
    def test_keys_are_matched_by_what_they_are(self, files: Files) -> None:
        paths = files.write()
        material = read_now(evolve(paths, keys=paths.keys[::-1]))
        assert [each.name for each in material.servers] == ["gateway.example.com (EC)", "gateway.example.com (RSA)"]
        for server in material.servers:
            assert server.key.public_key() == server.chain[0].public_key()
        assert material.warnings == ()

    def test_both_keys_may_be_in_one_file_among_other_things(self, files: Files) -> None:
        paths = files.write()
        key = files.directory / "both.key"
        key.touch(mode=0o600)
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        key.write_bytes(b"comment\n" + parameters + b"".join(each.key_pem + each.cert_pem for each in files.servers))
        assert len(read_now(evolve(paths, keys=(str(key),))).servers) == 2

    def test_a_key_in_the_certificates_file_is_passed_over(self, files: Files) -> None:
        paths = files.write()
        path = Path(paths.certificates[0])
        path.write_bytes(files.servers[0].key_pem + path.read_bytes())
        assert read_now(paths).servers[0].chain == (files.servers[0].certificate,)

    def test_an_encrypted_key_is_opened(self, files: Files) -> None:
        paths = files.write()
        Path(paths.keys[0]).write_bytes(key_to_pem(files.servers[0].key, "correct horse"))
        assert len(read_now(evolve(paths, key_password="correct horse")).servers) == 2
        assert problems(paths) == (f"{paths.keys[0]}: the private key is encrypted and no password is set for it",)
        wrong = problems(evolve(paths, key_password="battery staple"))
        assert wrong == (f"{paths.keys[0]}: the private key's password is wrong, or the file is damaged",)

    def test_an_old_fashioned_encrypted_key_is_opened_too(self, files: Files) -> None:
        paths = files.write()
        old = files.servers[1].key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
        Path(paths.keys[1]).write_bytes(old)
        assert len(read_now(evolve(paths, key_password="correct horse")).servers) == 2

    def test_no_secret_is_in_a_repr(self, files: Files) -> None:
        paths = evolve(files.write(), key_password="correct horse")
        material = read_now(paths)
        assert "horse" not in repr(paths)
        assert "Key" not in repr(material)

    def test_a_key_of_another_pair_is_told_from_both_sides(self, files: Files) -> None:
        paths = files.write()
        Path(paths.keys[0]).write_bytes(key_to_pem(make_key("ec")))
        assert problems(paths) == (
            f"{paths.keys[0]}: the private key belongs to none of the certificates",
            f"{paths.certificates[0]}: none of the key files holds the private key of gateway.example.com: "
            "certificate and key must be of one pair",
        )

    def test_a_chain_in_the_wrong_order_is_told(self, tmp_path: Path, root: Authority) -> None:
        middle = Authority("Middle", parent=root)
        files = Files(tmp_path, [middle.issue("gateway.example.com", client=False)])
        paths = files.write()
        Path(paths.certificates[0]).write_bytes(middle.certificate_pem + files.servers[0].cert_pem)
        first, second = problems(paths)
        assert first.startswith(f"{paths.certificates[0]}: the certificate that {paths.keys[0]} belongs to is number 2")
        assert second.startswith(f"{paths.certificates[0]}: none of the key files")

    def test_a_chain_with_a_stranger_in_it_is_warned_of(self, files: Files) -> None:
        paths = files.write()
        with Path(paths.certificates[0]).open("ab") as file:
            file.write(Authority("Stranger").certificate_pem)
        warning = f"{paths.certificates[0]}: certificate 2 did not issue the one before it: clients may refuse it"
        assert read_now(paths).warnings == (warning,)

    def test_two_certificates_of_one_kind_are_refused(self, files: Files, root: Authority) -> None:
        files.servers = [files.servers[0], root.issue("other.example.com", client=False)]
        paths = files.write()
        assert problems(paths) == (
            f"{paths.certificates[1]}: is a second EC certificate beside {paths.certificates[0]}: "
            "give at most one RSA and one EC",
        )

    def test_keys_that_ocpp_does_not_know_are_refused(self, tmp_path: Path, root: Authority) -> None:
        files = Files(tmp_path, [root.issue("a", key="ed25519"), root.issue("b", key="rsa1024")])
        paths = files.write()
        certificate, small, key = problems(paths)
        assert certificate.startswith(f"{paths.certificates[0]}: the first certificate's key is neither RSA nor EC")
        assert small == f"{paths.certificates[1]}: the first certificate's RSA key has 1024 bits; OCPP asks for 2048"
        assert key.startswith(f"{paths.keys[0]}: the private key is neither RSA nor EC")

    def test_what_is_unwise_is_warned_of(self, tmp_path: Path, root: Authority) -> None:
        files = Files(tmp_path, [root.issue("a", not_before=days(-9), not_after=days(-1), ca=True)])
        paths = files.write()
        Path(paths.keys[0]).chmod(0o644)
        assert [warning.partition(": ")[2].partition(":")[0] for warning in read_now(paths).warnings] == [
            "others than its owner may read this private key",
            "the certificate of a has expired",
            "the certificate of a is a CA's; a server should have one of its own",
            "the certificate of a is not one for servers",
        ]
        files.servers = [root.issue("a", not_before=days(1), client=False)]
        Path(paths.keys[0]).chmod(0o600)
        assert "not valid yet" in read_now(files.write()).warnings[0]

    def test_none_at_all_is_a_problem(self) -> None:
        assert problems(TlsPaths((), ())) == ("no server certificate is given",)

    def test_what_openssl_does_not_take_is_told_by_the_files_name(self, tmp_path: Path) -> None:
        weak = Authority("Weak", key="rsa1024")
        files = Files(tmp_path, [Issued(weak.issue("gateway", client=False).certificate, make_key())])
        issued = weak.issue("gateway", client=False)
        files.servers = [Issued(issued.certificate, issued.key, weak.certificate_pem)]
        paths = files.write()
        with pytest.raises(TlsFilesBroken) as raised:
            build_context(read_now(paths), TlsPolicy(), ClientAuth.OFF, lambda _: None)
        assert raised.value.problems == (
            f"{paths.certificates[0]}: OpenSSL does not take this certificate (ca key too small)",
        )


class TestEveryFile:
    @pytest.mark.parametrize("which", range(6))
    def test_a_file_that_is_not_there_or_not_readable_is_named(self, files: Files, root: Authority, which: int) -> None:
        files.bundle, files.crls = [root], [root.crl()]
        paths = files.write()
        path = Path((*paths.certificates, *paths.keys, paths.ca or "", *paths.crls)[which])
        path.unlink()
        assert f"{path}: there is no such file" in problems(paths)
        path.mkdir()
        assert f"{path}: is not a file" in problems(paths)

    @pytest.mark.parametrize("which", range(6))
    @pytest.mark.parametrize("content", [b"", b"  \n", b"nonsense", b"\x00\xff" * 99, b"-----BEGIN X-----\n"])
    def test_a_file_with_nothing_of_use_is_named(
        self, files: Files, root: Authority, which: int, content: bytes
    ) -> None:
        files.bundle, files.crls = [root], [root.crl()]
        paths = files.write()
        path = Path((*paths.certificates, *paths.keys, paths.ca or "", *paths.crls)[which])
        path.write_bytes(content)
        assert [line.startswith(f"{path}: ") for line in problems(paths)] == [True]

    @pytest.mark.parametrize("which", range(6))
    def test_a_file_with_something_else_says_what_it_holds(self, files: Files, root: Authority, which: int) -> None:
        files.bundle, files.crls = [root], [root.crl()]
        paths = files.write()
        path = Path((*paths.certificates, *paths.keys, paths.ca or "", *paths.crls)[which])
        path.write_bytes(b"-----BEGIN DH PARAMETERS-----\nMAYCAQcCAQI=\n-----END DH PARAMETERS-----\n")
        (told,) = problems(paths)
        assert told.startswith(f"{path}: holds no ")
        assert told.endswith("but DH PARAMETERS")

    @pytest.mark.parametrize("which", range(6))
    def test_a_damaged_file_is_named_and_not_quoted(self, files: Files, root: Authority, which: int) -> None:
        files.bundle, files.crls = [root], [root.crl()]
        paths = files.write()
        path = Path((*paths.certificates, *paths.keys, paths.ca or "", *paths.crls)[which])
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join((lines[0], b"AAAA" * 16 + b"\n", *lines[2:])))
        (told,) = problems(paths)
        assert told.startswith(f"{path}: ")
        assert "AAAA" not in told

    def test_every_problem_is_told_at_once(self, files: Files, root: Authority) -> None:
        files.bundle, files.crls = [root], [Authority("Stranger").crl()]
        paths = files.write()
        Path(paths.certificates[0]).unlink()
        Path(paths.keys[1]).write_bytes(b"")
        assert [line.partition(":")[0] for line in problems(paths)] == [
            paths.certificates[0],
            paths.keys[1],
            paths.crls[0],
        ]

    def test_the_stamp_tells_one_state_from_another(self, files: Files) -> None:
        paths = files.write()
        before = paths.stamp()
        assert paths.stamp() == before
        path = Path(paths.keys[0])
        path.write_bytes(path.read_bytes() + b"\n")
        after = paths.stamp()
        path.unlink()
        assert len({before, after, paths.stamp()}) == 3

    def test_a_file_copied_over_with_its_old_time_is_noticed(self, files: Files) -> None:
        paths = files.write()
        before, path = paths.stamp(), Path(paths.certificates[0])
        status = path.stat()
        path.write_bytes(path.read_bytes().swapcase())
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_mtime_ns == status.st_mtime_ns
        assert paths.stamp() != before

    def test_the_digest_is_of_the_content(self, files: Files, root: Authority) -> None:
        files.bundle = [root]
        first = read_now(files.write())
        assert read_now(files.write()).digest == first.digest
        files.crls = [root.crl()]
        second = read_now(files.write())
        assert second.digest != first.digest
        assert second.clients_digest != first.clients_digest
        files.servers = files.servers[:1]
        third = read_now(files.write())
        assert third.digest != second.digest
        assert third.clients_digest == second.clients_digest


class TestClients:
    def test_what_is_no_authority_does_not_belong_into_the_bundle(self, files: Files, root: Authority) -> None:
        files.bundle = [root]
        paths = files.write()
        with Path(paths.ca or "").open("ab") as file:
            file.write(root.issue("CP-1").cert_pem)
        assert problems(paths) == (f"{paths.ca}: the certificate of CP-1 is not a CA's: take it out of the CA bundle",)

    def test_an_authority_twice_is_one(self, files: Files, root: Authority) -> None:
        files.bundle = [root, root]
        assert read_now(files.write()).authorities == (root.certificate,)

    def test_authorities_out_of_their_time_are_warned_of(self, files: Files) -> None:
        files.bundle = [
            Authority("Old", not_before=days(-9), not_after=days(-1)),
            Authority("New", not_before=days(1)),
        ]
        old, new = read_now(files.write()).warnings
        assert "the CA Old has expired" in old
        assert "the CA New is not valid yet" in new

    def test_what_is_not_checked_for_revocation_is_told(self, files: Files, root: Authority) -> None:
        files.bundle = [root, Authority("Other Operator")]
        assert read_now(files.write()).warnings == ()
        files.crls = [root.crl()]
        assert read_now(files.write()).warnings == (
            "there is no CRL of the CA Other Operator: what it has issued is not checked for revocation",
        )

    def test_a_list_must_be_signed_by_an_authority_of_the_bundle(self, files: Files, root: Authority) -> None:
        files.bundle = [root]
        for forger, words in (
            (Authority("Stranger"), "is of no CA in the CA bundle"),
            (Authority("Example Root"), "is not signed by that CA's key"),
            (Authority("Example Root", key="rsa"), "is not signed by that CA's key"),
        ):
            files.crls = [root.crl(), forger.crl()]
            paths = files.write()
            (told,) = problems(paths)
            assert told.startswith(f"{paths.crls[1]}: the CRL of CN={forger.name} ")
            assert words in told

    def test_an_authority_that_may_not_sign_lists_is_told(self, files: Files) -> None:
        quiet = Authority("Quiet", signs_crls=False)
        files.bundle, files.crls = [quiet], [quiet.crl()]
        assert "may sign CRLs" in problems(files.write())[0]

    @pytest.mark.parametrize(
        ("extension", "words"),
        [
            (lambda: x509.DeltaCRLIndicator(1), "a delta CRL"),
            (lambda: _distribution_point(indirect_crl=True), "an indirect or partial CRL"),
            (
                lambda: _distribution_point(only_some_reasons=frozenset((x509.ReasonFlags.key_compromise,))),
                "an indirect or partial CRL",
            ),
            (lambda: x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), "1.2.3.4"),
        ],
    )
    def test_lists_that_tell_half_of_it_are_refused(
        self, files: Files, root: Authority, extension: Callable[[], x509.ExtensionType], words: str
    ) -> None:
        files.bundle, files.crls = [root], [root.crl(extensions=[(extension(), True)])]
        assert words in problems(files.write())[0]

    def test_lists_out_of_their_time_are_warned_of(self, files: Files, root: Authority) -> None:
        other = Authority("Other Operator")
        files.bundle = [root, other]
        files.crls = [
            root.crl(last_update=days(-9), next_update=days(-1)),
            other.crl(last_update=days(1), next_update=days(2)),
        ]
        old, new = read_now(files.write()).warnings
        assert "the CRL of CN=Example Root is out of date" in old
        assert "the CRL of CN=Other Operator is not valid yet" in new

    def test_a_revoked_authority_is_not_trusted_nor_what_is_below_it(self, files: Files, root: Authority) -> None:
        middle = Authority("Middle", parent=root)
        lower = Authority("Lower", parent=middle)
        files.bundle = [lower, middle, root]
        files.crls = [root.crl([middle.certificate]), middle.crl(), lower.crl()]
        warnings = read_now(files.write()).warnings
        assert [warning.split()[2] for warning in warnings] == ["Lower", "Middle"]
        assert all(warning.endswith("(mtls_revoked)") for warning in warnings)


def _distribution_point(
    *, indirect_crl: bool = False, only_some_reasons: frozenset[x509.ReasonFlags] | None = None
) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=only_some_reasons,
        indirect_crl=indirect_crl,
        only_contains_attribute_certs=False,
    )
