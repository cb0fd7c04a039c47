"""Contexts do not outlive what they were made of: they are made anew at its end, or after a day."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from reloaded import INTERVAL, Begin, with_list
from support.certificates import Authority, days
from tls_support import client_context, shake
from twisted.internet.defer import Deferred, execute

from ocpp_gateway.tls.policy import ClientAuth
from ocpp_gateway.tls.reloading import LIFETIME


def test_a_session_is_not_resumed_across_a_reload(begin: Begin, root: Authority, tmp_path: Path) -> None:
    running = begin()
    running.contexts.paths = with_list(running, root.crl())
    running.look()
    issued = root.issue("CP-1")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = client_context(tmp_path, root, issued, version=version)
        session = shake(running.contexts.context(ClientAuth.REQUIRED), client).client.session
        assert shake(running.contexts.context(ClientAuth.REQUIRED), client, session).client.session_reused
        Path(running.contexts.paths.crls[0]).write_bytes(root.crl([issued]))
        running.look()
        after = shake(running.contexts.context(ClientAuth.REQUIRED), client, session)
        assert after.reason == "mtls_revoked"
        Path(running.contexts.paths.crls[0]).write_bytes(root.crl())
        running.look()


def test_contexts_do_not_grow_older_than_a_day(begin: Begin, root: Authority, tmp_path: Path) -> None:
    for interval in (INTERVAL, 0):
        running = begin(interval=interval)
        client = client_context(tmp_path, root)
        session = shake(running.contexts.context(ClientAuth.OFF), client).client.session
        running.clock.advance(LIFETIME / 2)
        assert shake(running.contexts.context(ClientAuth.OFF), client, session).client.session_reused
        # Made of what was read last: not even unreadable files keep it from happening.
        Path(running.contexts.paths.keys[0]).unlink()
        running.clock.advance(LIFETIME / 2)
        after = shake(running.contexts.context(ClientAuth.OFF), client, session)
        assert after.is_done
        assert not after.client.session_reused
        running.events()
        again = running.contexts.context(ClientAuth.OFF)
        running.look()
        assert running.contexts.context(ClientAuth.OFF) is again
        running.events()


@pytest.mark.parametrize("interval", [INTERVAL, 0])
def test_a_list_that_runs_out_is_noticed_above_a_trusted_authority(
    begin: Begin, root: Authority, interval: float
) -> None:
    running = begin(interval=interval)
    middle = Authority("Middle", parent=root)
    client = client_context(running.files.directory, root, middle.issue("CP-1"))
    resuming = client_context(running.files.directory, root, middle.issue("CP-2"))
    running.files.bundle = [root, middle]
    running.contexts.paths = with_list(running, root.crl(next_update=days(0.5)))
    running.contexts.reload_now()
    running.clock.advance(LIFETIME / 2 - 60)
    assert shake(running.contexts.context(ClientAuth.REQUIRED), client).is_done
    session = shake(running.contexts.context(ClientAuth.REQUIRED), resuming).client.session
    assert shake(running.contexts.context(ClientAuth.REQUIRED), resuming, session).client.session_reused
    running.clock.advance(120)
    assert shake(running.contexts.context(ClientAuth.REQUIRED), resuming, session).reason == "mtls_crl_expired"
    assert shake(running.contexts.context(ClientAuth.REQUIRED), client).reason == "mtls_crl_expired"
    running.events()


def test_contexts_end_with_an_authority(begin: Begin, root: Authority) -> None:
    running = begin()
    running.files.bundle = [root, Authority("Ends soon", not_after=days(0.25))]
    running.files.write()
    running.look()
    before = running.contexts.context(ClientAuth.REQUIRED)
    running.clock.advance(LIFETIME / 4 - 60)
    assert running.contexts.context(ClientAuth.REQUIRED) is before
    running.clock.advance(120)
    again = running.contexts.context(ClientAuth.REQUIRED)
    assert again is not before
    running.clock.advance(LIFETIME / 4)
    assert running.contexts.context(ClientAuth.REQUIRED) is again
    running.events()


@pytest.mark.parametrize("interval", [INTERVAL, 0])
def test_contexts_are_made_anew_at_the_very_end_of_an_authority(begin: Begin, root: Authority, interval: float) -> None:
    running = begin(interval=interval)
    ending = Authority("Ends in seconds", not_after=days(5 / 86_400))
    running.files.bundle = [root, ending]
    running.files.write()
    running.contexts.reload_now()
    before = running.contexts.context(ClientAuth.REQUIRED)
    # It is good for all of its last second.
    left = ending.certificate.not_valid_after_utc.timestamp() + 1 - running.clock.now()
    assert 0.5 < left < INTERVAL
    running.clock.advance(left - 0.25)
    assert running.contexts.context(ClientAuth.REQUIRED) is before
    running.clock.advance(0.5)
    after = running.contexts.context(ClientAuth.REQUIRED)
    assert after is not before
    running.clock.advance(3600)
    assert running.contexts.context(ClientAuth.REQUIRED) is after
    assert running.events() == ["tls.reloaded"]


def test_a_renewal_that_fails_is_tried_again(begin: Begin) -> None:
    running = begin(interval=0)
    before, in_thread = running.contexts.context(ClientAuth.REQUIRED), running.contexts.run_in_thread
    tries: list[float] = []

    def failing(_: object) -> Deferred[object]:
        tries.append(running.clock.monotonic())
        return execute(lambda: 1 // 0)

    running.contexts.run_in_thread = failing
    running.clock.advance(LIFETIME)
    for _ in range(150):
        running.clock.advance(1)
    # Not again and again without a rest.
    assert tries == [LIFETIME, LIFETIME + 60, LIFETIME + 120]
    assert running.events() == ["tls.reload_failed"] * 3
    assert running.contexts.context(ClientAuth.REQUIRED) is before
    running.contexts.run_in_thread = in_thread
    running.clock.advance(30)
    after = running.contexts.context(ClientAuth.REQUIRED)
    assert after is not before
    running.clock.advance(LIFETIME - 1)
    assert running.contexts.context(ClientAuth.REQUIRED) is after
    running.clock.advance(1)
    assert running.contexts.context(ClientAuth.REQUIRED) is not after
    assert running.events() == []
