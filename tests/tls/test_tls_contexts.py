"""Handshakes with our contexts: who gets in, by which suite, and what a refusal is called."""

from __future__ import annotations

import contextlib
import ssl
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL
from support.certificates import Authority, Issued, days
from tls_support import Files, Shaken, carry, client_context, shake

from ocpp_gateway.tls.contexts import build_context
from ocpp_gateway.tls.files import read
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy

REQUIRED, OPTIONAL, OFF = ClientAuth.REQUIRED, ClientAuth.OPTIONAL, ClientAuth.OFF
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": ("EC", True),
    "ECDHE-ECDSA-AES256-GCM-SHA384": ("EC", True),
    "ECDHE-RSA-AES128-GCM-SHA256": ("RSA", True),
    "AES128-GCM-SHA256": ("RSA", False),
    "AES256-GCM-SHA384": ("RSA", False),
}
"""The four that OCPP requires and one more: the key that signs, and whether they have forward secrecy."""

Try = Callable[..., Shaken]


@pytest.fixture
def attempt(files: Files, tmp_path: Path, root: Authority) -> Try:
    """A handshake of a client with ``issued``, on a port that trusts ``bundle`` and knows ``crls``."""

    def handshake(
        issued: Issued | None,
        *,
        bundle: Iterable[Authority] = (root,),
        crls: Iterable[bytes] = (),
        auth: ClientAuth = REQUIRED,
        version: ssl.TLSVersion | None = None,
    ) -> Shaken:
        files.bundle, files.crls = list(bundle), list(crls)
        return shake(files.context(auth), client_context(tmp_path, root, issued, version=version))

    return handshake


class TestSuites:
    @pytest.mark.parametrize("suite", SUITES)
    def test_each_suite_is_negotiated_with_its_own_certificate(
        self, files: Files, root: Authority, tmp_path: Path, suite: str
    ) -> None:
        client = client_context(tmp_path, root, version=TLS_1_2, ciphers=suite)
        shaken = shake(files.context(), client)
        assert shaken.is_done
        assert shaken.server.get_cipher_name() == suite
        served = x509.load_der_x509_certificate(shaken.client.getpeercert(binary_form=True) or b"")
        kind = SUITES[suite][0]
        assert served == files.servers[0 if kind == "EC" else 1].certificate

    @pytest.mark.parametrize("suite", SUITES)
    def test_forward_secrecy_only_drops_static_rsa(
        self, files: Files, root: Authority, tmp_path: Path, suite: str
    ) -> None:
        client = client_context(tmp_path, root, version=TLS_1_2, ciphers=suite)
        shaken = shake(files.context(policy=TlsPolicy(forward_secrecy_only=True)), client)
        assert shaken.is_done is SUITES[suite][1]
        if not shaken.is_done:
            assert shaken.reason == "tls_cipher_not_supported"

    def test_tls_1_3_is_what_a_modern_client_gets(self, attempt: Try) -> None:
        shaken = attempt(None, auth=OFF)
        assert shaken.is_done
        assert shaken.client.version() == "TLSv1.3"

    def test_the_gateways_order_of_suites_counts(self, files: Files, root: Authority, tmp_path: Path) -> None:
        client = client_context(
            tmp_path, root, version=TLS_1_2, ciphers="AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
        )
        assert shake(files.context(), client).server.get_cipher_name() == "ECDHE-RSA-AES128-GCM-SHA256"

    def test_tls_1_1_is_refused(self, files: Files, root: Authority, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client = client_context(tmp_path, root, version=ssl.TLSVersion.TLSv1_1, ciphers="ALL:@SECLEVEL=0")
        shaken = shake(files.context(), client)
        assert shaken.reason == "tls_version_not_supported"

    def test_tls_1_2_is_refused_where_1_3_is_the_least(self, files: Files, root: Authority, tmp_path: Path) -> None:
        context = files.context(policy=TlsPolicy(min_version="1.3"))
        assert shake(context, client_context(tmp_path, root)).is_done
        refused = shake(context, client_context(tmp_path, root, version=TLS_1_2))
        assert refused.reason == "tls_version_not_supported"

    def test_a_client_without_a_common_suite_is_refused(self, files: Files, root: Authority, tmp_path: Path) -> None:
        client = client_context(tmp_path, root, version=TLS_1_2, ciphers="ECDHE-RSA-AES128-SHA")
        assert shake(files.context(), client).reason == "tls_cipher_not_supported"

    def test_each_certificate_comes_with_its_own_chain(self, tmp_path: Path, root: Authority) -> None:
        middle, other = Authority("Middle", parent=root), Authority("Other Middle", parent=root)
        files = Files(
            tmp_path,
            [
                middle.issue("gateway.example.com", sans=["gateway.example.com"], client=False),
                other.issue("gateway.example.com", key="rsa", sans=["gateway.example.com"], client=False),
            ],
        )
        # Each client knows the root only, so it needs the right one in between.
        for suite in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"):
            assert shake(files.context(), client_context(tmp_path, root, version=TLS_1_2, ciphers=suite)).is_done

    def test_a_renegotiation_is_refused(self, files: Files) -> None:
        server = SSL.Connection(files.context(), None)
        server.set_accept_state()
        theirs = SSL.Context(SSL.TLS_CLIENT_METHOD)
        theirs.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(theirs, None)
        client.set_connect_state()

        def exchange(step: Callable[[], object]) -> None:
            for _ in range(4):
                with contextlib.suppress(SSL.WantReadError):
                    step()
                for one, another in ((client, server), (server, client)):
                    with contextlib.suppress(SSL.WantReadError):
                        another.bio_write(one.bio_read(1 << 16))
                    with contextlib.suppress(SSL.WantReadError):
                        another.recv(1)

        exchange(client.do_handshake)
        assert server.get_cipher_name() is not None
        assert client.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            exchange(client.do_handshake)
        assert server.total_renegotiations() == 0

    def test_plain_http_on_the_port_is_told_apart_from_garbage(self, files: Files) -> None:
        context = files.context()
        for sent, reason in (
            (b"GET /ocpp/CP-1 HTTP/1.1\r\nHost: x\r\n\r\n", "tls_required"),
            (b"\x00" * 64, "tls_failed"),
        ):
            server = SSL.Connection(context, None)
            server.set_accept_state()
            server.bio_write(sent)
            with pytest.raises(SSL.Error) as raised:
                server.do_handshake()
            assert Shaken(None, server, None, raised.value, None, None).reason == reason  # type: ignore[arg-type]


class TestClients:
    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    @pytest.mark.parametrize("auth", [REQUIRED, OPTIONAL])
    @pytest.mark.parametrize("key", ["ec", "rsa"])
    def test_a_good_certificate_gets_in(
        self, attempt: Try, root: Authority, version: ssl.TLSVersion, auth: ClientAuth, key: str
    ) -> None:
        issued = root.issue("CP-1", key=key)
        shaken = attempt(issued, auth=auth, version=version)
        assert shaken.is_done
        assert shaken.shown == issued.certificate

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_none_is_refused_where_one_is_required(self, attempt: Try, version: ssl.TLSVersion) -> None:
        assert attempt(None, version=version).reason == "mtls_missing_cert"

    def test_none_gets_in_where_it_is_optional(self, attempt: Try) -> None:
        shaken = attempt(None, auth=OPTIONAL)
        assert shaken.is_done
        assert shaken.shown is None

    def test_none_is_asked_for_where_it_is_off(self, attempt: Try, root: Authority) -> None:
        shaken = attempt(root.issue("CP-1"), auth=OFF)
        assert shaken.is_done
        assert shaken.shown is None

    @pytest.mark.parametrize("auth", [REQUIRED, OPTIONAL])
    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_one_of_a_foreign_authority_is_refused(
        self, attempt: Try, auth: ClientAuth, version: ssl.TLSVersion
    ) -> None:
        stranger = Authority("Example Root").issue("CP-1")  # the same name, another key
        assert attempt(stranger, auth=auth, version=version).reason == "mtls_not_authorized"

    def test_a_server_certificate_is_no_client_certificate(self, attempt: Try, root: Authority) -> None:
        assert attempt(root.issue("CP-1", client=False)).reason == "mtls_not_authorized"

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    @pytest.mark.parametrize("dates", [{"not_before": days(-9), "not_after": days(-1)}, {"not_before": days(1)}])
    @pytest.mark.parametrize("with_crl", [False, True])
    def test_dates_of_the_certificate_itself_are_left_to_the_identity_record(
        self, attempt: Try, root: Authority, version: ssl.TLSVersion, dates: dict[str, object], with_crl: bool
    ) -> None:
        issued = root.issue("CP-1", **dates)  # type: ignore[arg-type]
        shaken = attempt(issued, version=version, crls=[root.crl()] if with_crl else [])
        assert shaken.is_done
        assert shaken.shown == issued.certificate

    def test_expired_and_foreign_is_refused_all_the_same(self, attempt: Try) -> None:
        stranger = Authority("Stranger").issue("CP-1", not_before=days(-9), not_after=days(-1))
        assert attempt(stranger).reason == "mtls_not_authorized"

    def test_several_authorities_are_trusted_at_once(self, attempt: Try, root: Authority) -> None:
        other = Authority("Other Operator", key="rsa")
        for authority in (root, other):
            assert attempt(authority.issue("CP-1"), bundle=[root, other]).is_done

    def test_authorities_in_between_are_followed(self, attempt: Try, root: Authority) -> None:
        middle = Authority("Middle", parent=root)
        lower = Authority("Lower", parent=middle)
        assert attempt(lower.issue("CP-1")).is_done
        # The client's own chain need not be complete if the bundle is, and the bundle need not go up to the root.
        assert attempt(Issued(*_pair(lower.issue("CP-1"))), bundle=[middle, lower]).is_done
        assert attempt(middle.issue("CP-1"), bundle=[lower]).reason == "mtls_not_authorized"

    def test_an_expired_authority_takes_its_charge_points_along(self, attempt: Try, root: Authority) -> None:
        old = Authority("Old", not_before=days(-9), not_after=days(-1))
        assert attempt(old.issue("CP-1"), bundle=[old]).reason == "mtls_expired"
        below = Authority("Old Middle", parent=root, not_before=days(-9), not_after=days(-1))
        assert attempt(below.issue("CP-1")).reason == "mtls_expired"
        assert attempt(below.issue("CP-1"), bundle=[root, below]).reason == "mtls_expired"

    def test_a_client_that_does_not_trust_us_is_told_apart(self, files: Files, tmp_path: Path) -> None:
        for version in (TLS_1_2, TLS_1_3):
            client = client_context(tmp_path, Authority("Somebody else's"), version=version)
            shaken = shake(files.context(), client)
            assert isinstance(shaken.client_error, ssl.SSLCertVerificationError)
            assert shaken.reason == "tls_refused_by_peer"

    def test_clients_are_told_which_authorities_count(self, files: Files, root: Authority) -> None:
        files.bundle = [root]
        theirs = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client = SSL.Connection(theirs, None)
        client.set_connect_state()
        server = SSL.Connection(files.context(OPTIONAL), None)
        server.set_accept_state()
        for one, another in ((client, server), (server, client)):
            with pytest.raises(SSL.WantReadError):
                one.do_handshake()
            another.bio_write(one.bio_read(1 << 16))
        client.do_handshake()
        assert [name.CN for name in client.get_client_ca_list()] == ["Example Root"]


class TestRevocation:
    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    @pytest.mark.parametrize("encoding", ["pem", "der"])
    def test_a_revoked_certificate_is_refused_and_another_is_not(
        self, attempt: Try, root: Authority, encoding: str, version: ssl.TLSVersion
    ) -> None:
        bad, good = root.issue("CP-1"), root.issue("CP-2")
        crls = [root.crl([bad], encoding=encoding)]
        assert attempt(bad, crls=crls, version=version).reason == "mtls_revoked"
        assert attempt(good, crls=crls, version=version).is_done

    def test_revoked_tells_more_than_expired(self, attempt: Try, root: Authority) -> None:
        bad = root.issue("CP-1", not_before=days(-9), not_after=days(-1))
        assert attempt(bad, crls=[root.crl([bad])]).reason == "mtls_revoked"

    def test_several_lists_in_one_file_and_in_several(self, attempt: Try, root: Authority) -> None:
        second, third = Authority("Second"), Authority("Third")
        bad = [each.issue("CP-1") for each in (root, second, third)]
        crls = [root.crl([bad[0]]) + second.crl([bad[1]]), third.crl([bad[2]], encoding="der")]
        for each in bad:
            assert attempt(each, bundle=[root, second, third], crls=crls).reason == "mtls_revoked"
        assert attempt(second.issue("CP-2"), bundle=[root, second, third], crls=crls).is_done

    def test_the_newest_of_several_lists_of_an_authority_counts(self, attempt: Try, root: Authority) -> None:
        first, second = root.issue("CP-1"), root.issue("CP-2")
        old, new = root.crl([first], last_update=days(-3)), root.crl([second], last_update=days(-1))
        for crls in ([old, new], [new, old], [old + new], [new + old]):
            assert attempt(first, crls=crls).is_done
            assert attempt(second, crls=crls).reason == "mtls_revoked"

    def test_an_authority_without_a_list_is_not_checked(self, attempt: Try, root: Authority) -> None:
        other = Authority("Other Operator")
        assert attempt(other.issue("CP-1"), bundle=[root, other], crls=[root.crl()]).is_done

    def test_a_list_out_of_date_lets_nobody_in(self, attempt: Try, root: Authority) -> None:
        other = Authority("Other Operator")
        crls = [root.crl(last_update=days(-9), next_update=days(-1)), other.crl()]
        assert attempt(root.issue("CP-1"), bundle=[root, other], crls=crls).reason == "mtls_crl_expired"
        assert attempt(other.issue("CP-1"), bundle=[root, other], crls=crls).is_done

    @pytest.mark.parametrize("with_akid", [True, False])
    def test_the_lists_of_a_whole_hierarchy_work_together(self, attempt: Try, root: Authority, with_akid: bool) -> None:
        middle = Authority("Middle", parent=root)
        bad, good = middle.issue("CP-1"), middle.issue("CP-2")
        crls = [root.crl(with_akid=with_akid), middle.crl([bad], with_akid=with_akid)]
        # Root and middle in the bundle is what operators have; the chain then ends at the middle one.
        assert attempt(bad, bundle=[root, middle], crls=crls).reason == "mtls_revoked"
        assert attempt(good, bundle=[root, middle], crls=crls).is_done

    @pytest.mark.parametrize("with_akid", [True, False])
    def test_a_revoked_authority_takes_its_charge_points_along(
        self, attempt: Try, root: Authority, with_akid: bool
    ) -> None:
        middle = Authority("Middle", parent=root)
        lower = Authority("Lower", parent=middle)
        crls = [root.crl([middle.certificate], with_akid=with_akid)]
        # Only the root in the bundle, then also what it has revoked, then what is below that.
        for bundle in ([root], [root, middle], [root, middle, lower]):
            for authority in (middle, lower):
                assert attempt(authority.issue("CP-1"), bundle=bundle, crls=crls).reason == "mtls_revoked"
        assert attempt(root.issue("CP-2"), bundle=[root, middle, lower], crls=crls).is_done

    @pytest.mark.parametrize("with_akid", [True, False])
    def test_a_list_out_of_date_counts_at_every_level(self, attempt: Try, root: Authority, with_akid: bool) -> None:
        middle = Authority("Middle", parent=root)
        lower = Authority("Lower", parent=middle)
        crls = [root.crl(last_update=days(-9), next_update=days(-1), with_akid=with_akid), middle.crl(), lower.crl()]
        for authority in (middle, lower):
            shaken = attempt(authority.issue("CP-1"), bundle=[root, middle, lower], crls=crls)
            assert shaken.reason == "mtls_crl_expired"

    def test_an_authority_that_signs_no_lists_does_not_stand_in_the_way(self, attempt: Try, root: Authority) -> None:
        middle = Authority("Middle", parent=root, signs_crls=False)
        crls = [root.crl(with_akid=False)]
        assert attempt(middle.issue("CP-1"), bundle=[root, middle], crls=crls).is_done

    def test_what_is_not_in_the_bundle_is_checked_by_the_list_of_what_is_above_it(
        self, attempt: Try, root: Authority
    ) -> None:
        middle = Authority("Middle", parent=root)
        lower = Authority("Lower", parent=middle)
        crls = [middle.crl([lower.certificate])]
        assert attempt(lower.issue("CP-1"), bundle=[root, middle], crls=crls).reason == "mtls_revoked"
        assert attempt(middle.issue("CP-1"), bundle=[root, middle], crls=crls).is_done


class TestResumption:
    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    @pytest.mark.parametrize("no_ticket", [False, True])
    def test_a_reconnect_is_resumed_with_its_certificate(
        self, files: Files, root: Authority, tmp_path: Path, version: ssl.TLSVersion, no_ticket: bool
    ) -> None:
        files.bundle = [root]
        context = files.context(REQUIRED)
        issued = root.issue("CP-1")
        client = client_context(tmp_path, root, issued, version=version)
        if no_ticket:
            client.options |= ssl.OP_NO_TICKET
        first = shake(context, client)
        assert not first.client.session_reused
        session = first.client.session
        first.server.shutdown()
        again = shake(context, client, session)
        assert again.is_done
        assert again.client.session_reused
        assert again.shown == issued.certificate

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_nothing_is_resumed_across_a_change(
        self, files: Files, root: Authority, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        files.bundle = [root]
        issued = root.issue("CP-1")
        client = client_context(tmp_path, root, issued, version=version)
        first = shake(files.context(REQUIRED), client)
        assert first.is_done
        files.crls = [root.crl([issued])]
        after = shake(files.context(REQUIRED), client, first.client.session)
        assert not after.client.session_reused
        assert after.reason == "mtls_revoked"

    @pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
    def test_a_session_without_a_certificate_opens_no_port_that_requires_one(
        self, files: Files, root: Authority, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        files.bundle = [root]
        client = client_context(tmp_path, root, version=version)
        first = shake(files.context(OPTIONAL), client)
        assert first.is_done
        assert shake(files.context(REQUIRED), client, first.client.session).reason == "mtls_missing_cert"


def _pair(issued: Issued) -> tuple[x509.Certificate, object]:
    """A certificate and its key, without what is above it."""
    return issued.certificate, issued.key


def test_what_is_sent_behind_a_handshake_arrives(attempt: Try, root: Authority) -> None:
    shaken = attempt(root.issue("CP-1"))
    shaken.server.send(b"more")
    carry(shaken.server, shaken.incoming)
    assert shaken.client.read(4) == b"more"


def test_a_certificate_that_cannot_be_judged_is_refused_and_harms_no_other(
    files: Files, root: Authority, tmp_path: Path
) -> None:
    files.bundle = [root]
    unreadable = root.issue("CP-1")

    def fault(certificate: x509.Certificate) -> str | None:
        if certificate == unreadable.certificate:
            raise ValueError("something in it")
        return None

    material = read(files.write(), now=days(0).timestamp())
    context = build_context(material, TlsPolicy(), REQUIRED, fault)
    assert shake(context, client_context(tmp_path, root, unreadable)).reason == "mtls_not_authorized"
    assert shake(context, client_context(tmp_path, root, root.issue("CP-2"))).is_done
