"""Certificates, CAs and CRLs replaced while we serve: the next connection has the new ones, and no broken file does."""

from __future__ import annotations

from pathlib import Path

import pytest
from reloaded import INTERVAL, Begin, renewed, with_list
from support.certificates import Authority, Issued, days, key_to_pem, make_key
from tls_support import client_context, shake
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute
from twisted.internet.threads import deferToThread

from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.tls.facts import TlsFacts
from ocpp_gateway.tls.material import TlsFilesBroken
from ocpp_gateway.tls.policy import ClientAuth, TlsPolicy
from ocpp_gateway.tls.reloading import TlsContexts


def test_a_new_certificate_is_what_the_next_connection_gets(begin: Begin, root: Authority) -> None:
    running = begin()
    old, new = running.files.servers[0], renewed(root)
    before = running.contexts.context(ClientAuth.REQUIRED)
    running.look()
    assert running.contexts.context(ClientAuth.REQUIRED) is before
    running.files.servers = [new]
    running.files.write()
    assert running.serves(old, root)
    running.look()
    assert running.serves(new, root)
    assert running.events() == ["tls.reloaded"]
    assert running.reloads == []  # clients are judged as before


def test_open_connections_go_on(begin: Begin, root: Authority, tmp_path: Path) -> None:
    running = begin()
    issued = root.issue("CP-1")
    open_one = shake(running.contexts.context(ClientAuth.REQUIRED), client_context(tmp_path, root, issued))
    running.files.servers, running.files.bundle = [renewed(root)], [Authority("Another")]
    running.files.write()
    running.look()
    assert running.events() == ["tls.reloaded"]
    open_one.client.write(b"still here")
    open_one.server.bio_write(open_one.outgoing.read())
    assert open_one.server.recv(10) == b"still here"
    refused = shake(running.contexts.context(ClientAuth.REQUIRED), client_context(tmp_path, root, issued))
    assert refused.reason == "mtls_not_authorized"


def test_other_authorities_or_lists_are_told_of(begin: Begin, root: Authority) -> None:
    running = begin()
    bad = root.issue("CP-1")
    certificate = ClientCertificate.of(bad.certificate)
    assert not running.contexts.is_revoked(certificate)
    running.files.bundle.append(Authority("Other Operator"))
    running.files.write()
    running.look()
    assert len(running.reloads) == 1
    running.contexts.paths = with_list(running, root.crl([bad]))
    running.look()
    assert len(running.reloads) == 2
    assert running.contexts.is_revoked(certificate)
    assert not running.contexts.is_revoked(ClientCertificate.of(root.issue("CP-2").certificate))
    assert running.events() == ["tls.reloaded", "tls.reloaded", "tls.warning"]
    Path(running.contexts.paths.crls[0]).write_bytes(root.crl())
    running.look()
    assert not running.contexts.is_revoked(certificate)
    assert running.events() == ["tls.reloaded"]  # a warning that was told is not told again


def test_half_of_a_pair_is_waited_for(begin: Begin, root: Authority) -> None:
    running = begin()
    new = renewed(root)
    Path(running.contexts.paths.certificates[0]).write_bytes(new.chain_pem)
    running.look()
    assert running.events() == []
    Path(running.contexts.paths.keys[0]).write_bytes(new.key_pem)
    running.look()
    assert running.events() == ["tls.reloaded"]
    assert running.serves(new, root)


def test_broken_files_change_nothing_and_are_told_of_once(begin: Begin, root: Authority) -> None:
    running = begin()
    old = running.files.servers[0]
    Path(running.contexts.paths.keys[0]).write_bytes(key_to_pem(make_key()))
    running.look()
    assert running.events() == []
    running.look()
    (told,) = running.logged
    assert told["event"] == "tls.reload_failed"
    assert told["reason"] == "tls_files_broken"
    assert running.contexts.paths.keys[0] in told["problems"]
    assert running.events() == ["tls.reload_failed"]
    assert running.contexts.facts().is_broken
    reads = running.threads.runs
    for _ in range(3):
        running.look()
    assert running.events() == []
    assert running.threads.runs == reads + 3  # looked at, not read
    assert running.serves(old, root)
    Path(running.contexts.paths.keys[0]).write_bytes(old.key_pem)
    running.look()
    assert running.events() == ["tls.restored"]
    assert not running.contexts.facts().is_broken


def test_files_that_break_in_another_way_are_told_of_again(begin: Begin) -> None:
    running = begin()
    key = Path(running.contexts.paths.keys[0])
    for content in (b"", b"nonsense"):
        key.write_bytes(content)
        running.look()
        running.look()
        assert running.events() == ["tls.reload_failed"]
    key.unlink()
    running.look()
    running.look()
    assert running.events() == ["tls.reload_failed"]


def test_an_operator_who_asks_is_told_at_once(begin: Begin) -> None:
    running = begin()
    Path(running.contexts.paths.keys[0]).write_bytes(b"")
    running.contexts.reload_now()
    assert running.events() == ["tls.reload_failed"]
    running.contexts.reload_now()
    assert running.events() == ["tls.reload_failed"]
    running.look()
    running.look()
    assert running.events() == []


def test_asking_for_what_is_in_force_changes_nothing(begin: Begin) -> None:
    running = begin()
    before = running.contexts.context(ClientAuth.OFF)
    running.files.write()  # the same again
    running.contexts.reload_now()
    assert running.contexts.context(ClientAuth.OFF) is before
    assert running.events() == []


def test_a_link_turned_to_other_files_is_noticed(begin: Begin, root: Authority, tmp_path: Path) -> None:
    running = begin()
    # As Kubernetes does it: tls.pem -> ..data/tls.pem, and ..data is turned from one directory to the next.
    new = renewed(root)
    for name, issued in (("first", running.files.servers[0]), ("second", new)):
        (tmp_path / name).mkdir()
        issued.write(tmp_path / name, "tls")
    data = tmp_path / "..data"
    data.symlink_to("first")
    for path, name in (
        (running.contexts.paths.certificates[0], "tls.pem"),
        (running.contexts.paths.keys[0], "tls.key"),
    ):
        Path(path).unlink()
        Path(path).symlink_to(data / name)
    running.look()
    assert running.events() == []
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").replace(data)
    running.look()
    assert running.events() == ["tls.reloaded"]
    assert running.serves(new, root)


def test_without_an_interval_only_an_operator_makes_it_look(begin: Begin, root: Authority) -> None:
    running = begin(interval=0)
    running.files.servers = [renewed(root)]
    running.files.write()
    running.clock.advance(3600)
    assert running.events() == []
    running.contexts.reload_now()
    assert running.events() == ["tls.reloaded"]


def test_a_reload_is_not_begun_twice(begin: Begin, root: Authority) -> None:
    running = begin()
    running.threads.is_held = True
    running.files.servers = [renewed(root)]
    running.files.write()
    running.look()
    for _ in range(3):
        running.contexts.reload_now()
    running.clock.advance(100)
    assert len(running.threads.held) == 1
    newest = renewed(root)
    running.files.servers = [newest]
    running.threads.let_go()
    assert running.serves(running.files.servers[0], root) is False
    running.files.write()
    running.look()
    assert running.serves(newest, root)
    assert set(running.events()) == {"tls.reloaded"}


def test_who_asks_during_a_reload_gets_another_one(begin: Begin, root: Authority) -> None:
    running = begin()
    running.threads.is_held = True
    running.contexts.reload_now()
    running.contexts.reload_now()
    runs = running.threads.runs
    running.threads.let_go()
    assert running.threads.runs == runs + 3  # the reading of the first, look and reading of the second


def test_a_stop_during_a_reload_is_the_end_of_it(begin: Begin, root: Authority) -> None:
    running = begin()
    running.threads.is_held = True
    running.files.servers = [renewed(root)]
    running.files.write()
    running.look()
    before = running.contexts.context(ClientAuth.OFF)
    running.contexts.stop()
    running.contexts.reload_now()
    running.threads.let_go()
    assert running.contexts.context(ClientAuth.OFF) is before
    assert running.events() == []
    assert running.clock.timers.getDelayedCalls() == []


def test_a_failure_of_our_own_does_not_end_it(begin: Begin, root: Authority) -> None:
    running = begin()
    failing = running.contexts.run_in_thread
    running.contexts.run_in_thread = lambda _: execute(lambda: 1 // 0)
    running.look()
    assert running.events() == ["tls.reload_failed"]
    running.contexts.run_in_thread = failing
    running.files.servers = [renewed(root)]
    running.files.write()
    running.look()
    assert running.events() == ["tls.reloaded"]


def test_files_that_a_failure_of_our_own_kept_from_being_read_are_read_at_the_next_look(
    begin: Begin, root: Authority
) -> None:
    running = begin()
    in_order = running.contexts.run_in_thread
    running.contexts.run_in_thread = lambda work: execute(work if work.__name__ == "stamp" else lambda: 1 // 0)
    running.files.servers = [renewed(root)]
    running.files.write()
    running.look()
    assert running.events() == ["tls.reload_failed"]
    assert running.contexts.facts().is_broken
    running.contexts.run_in_thread = in_order
    running.look()
    assert running.events() == ["tls.reloaded"]
    assert not running.contexts.facts().is_broken


def test_the_first_reading_tells_every_problem(begin: Begin) -> None:
    running = begin()
    Path(running.contexts.paths.keys[0]).unlink()
    Path(running.contexts.paths.ca or "").unlink()
    with pytest.raises(TlsFilesBroken) as raised:
        running.contexts.load()
    assert len(raised.value.problems) == 2


def test_what_is_in_force_is_told_with_its_dates(begin: Begin, root: Authority, ec_server: Issued) -> None:
    running = begin()
    next_update = days(3).replace(microsecond=0)
    running.contexts.paths = with_list(running, root.crl(next_update=next_update))
    running.look()
    facts = running.contexts.facts()
    assert [(each.name, each.not_after) for each in facts.certificates] == [
        ("gateway.example.com (EC)", ec_server.certificate.not_valid_after_utc.timestamp())
    ]
    assert [(each.name, each.not_after) for each in facts.authorities] == [
        ("CN=Example Root", root.certificate.not_valid_after_utc.timestamp())
    ]
    assert [(each.issuer, each.next_update) for each in facts.revocation_lists] == [
        ("CN=Example Root", next_update.timestamp())
    ]
    assert not facts.is_broken


def test_before_the_first_reading_there_is_nothing(begin: Begin, root: Authority) -> None:
    running = begin()
    unread = TlsContexts(
        paths=running.contexts.paths,
        policy=TlsPolicy(),
        clients=frozenset((ClientAuth.OFF,)),
        clock=running.clock,
        run_in_thread=running.threads.run,
        interval=INTERVAL,
        reloaded=lambda: None,
    )
    assert unread.facts() == TlsFacts()
    assert not unread.is_revoked(ClientCertificate.of(root.issue("CP-1").certificate))
    unread.stop()


async def test_it_works_in_a_real_thread(begin: Begin, root: Authority) -> None:
    running = begin()
    done: Deferred[None] = Deferred()
    running.contexts.run_in_thread = deferToThread
    running.contexts.reloaded = lambda: done.callback(None)
    running.files.bundle = [root, Authority("Another")]
    running.files.write()
    running.contexts.reload_now()
    await done.addTimeout(20, reactor)
