"""TLS files replaced under a running gateway: nobody is disconnected, the next handshake has the new ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from attrs import define
from support.callers import Caller, until
from support.certificates import Authority, Issued
from support.gateway import Gateway
from support.raw_socket import metric
from support.stations import auth_rules, basic, provision
from support.tls_files import Files, der
from support.tls_fleet import Fleet, room_for
from support.tls_socket import TlsSocket, refused_in_tls

POINTS = 1000
SHARE = POINTS // 4


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def enroll(redis_url: str, files: Files) -> list[tuple[str, ssl.SSLContext, dict[str, str]]]:
    """A thousand: a quarter each by password over TLS 1.2 and 1.3, and by certificates of two authorities."""
    passwords = [files.client(version=version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    issued = [*files.clients["old"], *files.clients["kept"]]
    contexts = [files.client(each) for each in issued]
    fleet = []
    with redis_py.Redis.from_url(redis_url) as redis, redis.pipeline() as pipeline:
        for number in range(POINTS):
            identity = f"CP-{number}"
            record: dict[str, Any] = {"stationId": identity, "tenantId": "tenant-1", "auth": auth_rules("basic")}
            if number < 2 * SHARE:
                fleet.append((identity, passwords[number % 2], basic(identity)))
            else:
                turn = number % len(issued)
                record["auth"] = {"type": "mtls", "certificates": [{"fingerprint": issued[turn].fingerprint}]}
                fleet.append((identity, contexts[turn], {}))
            pipeline.set(f"chargers:{identity}", json.dumps(record))
        pipeline.execute()
    return fleet


def bind(redis_url: str, charge_point_id: str, issued: Issued) -> None:
    auth = {"type": "mtls", "certificates": [{"fingerprint": issued.fingerprint}]}
    provision(redis_url, charge_point_id, auth=auth)


def served_with(port: int, charge_point_id: str, context: ssl.SSLContext, headers: Any = ()) -> bytes:
    """The server's certificate (DER) in a handshake of somebody who is let in."""
    with TlsSocket(port, context) as connection:
        certificate = connection.tls.getpeercert(binary_form=True)
        assert connection.upgrade(charge_point_id, headers).status == 101
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("way", ["poll", "signal"])
def test_a_thousand_stay_while_certificates_and_authorities_are_replaced(
    redis_url: str, brokers: str, files: Files, way: str
) -> None:
    old, kept, new = (files.clients[name][0] for name in ("old", "kept", "new"))
    members = enroll(redis_url, files)
    for name, issued in (("CP-old", old), ("CP-kept", kept), ("CP-new", new)):
        bind(redis_url, name, issued)
    settings = files.settings("0.5" if way == "poll" else "0")
    with room_for(POINTS), Gateway(redis_url, brokers, **settings) as gateway, Fleet(gateway.ocpp_port) as fleet:
        port = gateway.ocpp_port
        fleet.connect(members)
        assert fleet.served() == POINTS
        assert served_with(port, "CP-kept", files.client(kept)) == der(files.servers["first"])
        assert refused_in_tls(port, files.client(new), address="127.0.0.1") == "UNKNOWN_CA"
        returning = files.client(old)
        with TlsSocket(port, returning) as connection:
            assert connection.upgrade("CP-old").status == 101
            session = connection.tls.session
        with TlsSocket(port, returning, session=session) as connection:
            assert connection.upgrade("CP-old").status == 101
            assert connection.tls.session_reused

        files.turn_to("second")
        if way == "signal":
            os.kill(gateway.pid, signal.SIGHUP)
        gateway.wait_for("tls.reloaded")

        assert fleet.served() == POINTS
        for name, issued in (("CP-kept", kept), ("CP-new", new)):
            assert served_with(port, name, files.client(issued)) == der(files.servers["second"])
        assert refused_in_tls(port, files.client(old), address="127.0.0.1") == "UNKNOWN_CA"
        # Nor does a session from before open the door again.
        assert refused_in_tls(port, returning, address="127.0.0.1", session=session) == "UNKNOWN_CA"
        assert metric(gateway.http_port, "ocpp_tls_files_broken") == 0

        # Who is among a thousand is looked at in time all the same: the first and the last of batches, say.
        leaving = {f"CP-{number}" for number in (0, 199, 200, 499, 999)}
        with redis_py.Redis.from_url(redis_url) as redis:
            redis.delete(*(f"chargers:{each}" for each in leaving))
        assert fleet.close_codes(leaving, seconds=5) == [1008] * 5
        assert fleet.served() == POINTS - 5


def garbage(path: Path) -> None:
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n")


def another_key(path: Path) -> None:
    path.with_suffix(".key").write_bytes(Authority("Somebody").issue("x").key_pem)


def empty_ca(path: Path) -> None:
    path.with_name("ca.pem").write_bytes(b"")


def leaf_as_ca(path: Path) -> None:
    path.with_name("ca.pem").write_bytes(path.read_bytes())


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (garbage, "server.pem"),
    "empty": (lambda path: path.write_bytes(b""), "server.pem"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:200]), "server.pem"),
    "missing": (lambda path: path.unlink(), "server.pem"),
    "directory": (directory, "server.pem"),
    "another key": (another_key, "server.pem"),
    "no key": (lambda path: path.with_suffix(".key").unlink(), "server.key"),
    "empty bundle": (empty_ca, "ca.pem"),
    "no bundle": (lambda path: path.with_name("ca.pem").unlink(), "ca.pem"),
    "no authority": (leaf_as_ca, "ca.pem"),
    "dangling": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "server.pem"),
}


@define(eq=False)
class Live:
    """A gateway whose files are broken and mended, and a charge point that is connected all the time."""

    gateway: Gateway
    files: Files
    point: Fleet
    set_number: int = 0

    def check_that_nothing_has_changed(self) -> None:
        kept, new = self.files.clients["kept"][0], self.files.clients["new"][0]
        certificate = served_with(self.gateway.ocpp_port, "CP-kept", self.files.client(kept))
        assert certificate == der(self.files.servers["first"])
        assert refused_in_tls(self.gateway.ocpp_port, self.files.client(new), address="127.0.0.1") == "UNKNOWN_CA"
        assert self.point.served() == 1

    def broken_metric(self) -> float:
        return metric(self.gateway.http_port, "ocpp_tls_files_broken")

    def turn_to_broken(self, change: Callable[[Path], object]) -> None:
        self.set_number += 1
        directory = self.files.directory / f"broken-{self.set_number}"
        shutil.copytree(self.files.directory / "first", directory)
        change(directory / "server.pem")
        self.files.turn_to(directory.name)

    def hang_up(self) -> None:
        os.kill(self.gateway.pid, signal.SIGHUP)

    def nth(self, name: str, number: int) -> dict[str, Any]:
        """The log's line of that event, the first being number 1."""
        return until(lambda: self.gateway.logged(name)[number - 1 : number], f"{name}, {number}")[0]


@pytest.fixture
def live(redis_url: str, brokers: str, files: Files, request: pytest.FixtureRequest) -> Iterator[Live]:
    bind(redis_url, "CP-kept", files.clients["kept"][0])
    provision(redis_url, "CP-live")
    settings = files.settings(request.param)
    expected = frozenset({"tls.reload_failed"})
    with (
        Gateway(redis_url, brokers, expected_errors=expected, **settings) as gateway,
        Fleet(gateway.ocpp_port) as point,
    ):
        point.connect([("CP-live", files.client(), basic("CP-live"))])
        yield Live(gateway, files, point)


@pytest.mark.parametrize("live", ["0"], indirect=True)
def test_broken_files_change_nothing_and_are_told_of(live: Live) -> None:
    for number, (name, (change, file)) in enumerate(BROKEN.items(), 1):
        live.turn_to_broken(change)
        live.hang_up()
        line = live.nth("tls.reload_failed", number)
        assert (line["level"], line["reason"]) == ("error", "tls_files_broken"), name
        assert f"/current/{file}: " in line["problems"], name
        assert "PRIVATE KEY" not in json.dumps(line)
        assert live.broken_metric() == 1, name
        live.check_that_nothing_has_changed()
        live.files.turn_to("first")
        live.hang_up()
        live.nth("tls.restored", number)
        assert live.broken_metric() == 0, name
    assert len(live.gateway.logged("tls.reload_failed")) == len(BROKEN)
    assert live.gateway.logged("tls.reloaded") == []


@pytest.mark.parametrize("live", ["0.5"], indirect=True)
def test_files_that_are_found_broken_are_told_of_once_and_taken_when_they_are_mended(live: Live) -> None:
    current = live.files.current
    whole = {name: (current / name).read_bytes() for name in ("server.pem", "server.key")}
    (current / "server.pem").unlink()
    line = live.nth("tls.reload_failed", 1)
    assert line["problems"] == f"{current / 'server.pem'}: there is no such file"
    assert live.broken_metric() == 1
    live.check_that_nothing_has_changed()
    (current / "server.pem").write_bytes(whole["server.pem"])
    live.nth("tls.restored", 1)
    assert live.broken_metric() == 0

    # Another kind of trouble is told of again; and what is whole in the end is not what was there before.
    (current / "server.key").write_bytes(b"nonsense")
    live.nth("tls.reload_failed", 2)
    live.check_that_nothing_has_changed()
    live.files.turn_to("second")
    live.nth("tls.reloaded", 1)
    assert live.broken_metric() == 0
    certificate = served_with(live.gateway.ocpp_port, "CP-kept", live.files.client(live.files.clients["kept"][0]))
    assert certificate == der(live.files.servers["second"])
    assert live.point.served() == 1
    assert len(live.gateway.logged("tls.reload_failed")) == 2


@pytest.mark.parametrize("live", ["0.5"], indirect=True)
def test_certificate_and_key_may_be_written_over_one_after_the_other(live: Live) -> None:
    fresh = live.files.server_root.issue("third", sans=["IP:127.0.0.1"], client=False, key="rsa")
    current = live.files.current
    (current / "server.pem").write_bytes(fresh.cert_pem)
    (current / "server.key").write_bytes(fresh.key_pem)
    live.nth("tls.reloaded", 1)
    certificate = served_with(live.gateway.ocpp_port, "CP-live", live.files.client(), basic("CP-live").items())
    assert certificate == der(fresh)
    assert live.gateway.logged("tls.reload_failed") == []


@pytest.mark.parametrize("live", ["0"], indirect=True)
def test_a_storm_of_signals_does_no_harm(live: Live) -> None:
    for number in range(100):
        if number % 10 == 0:
            live.files.turn_to("second" if number % 20 else "first")
        live.hang_up()
        assert live.point.served() == 1
    live.files.turn_to("second")
    live.hang_up()
    second = der(live.files.servers["second"])
    kept = live.files.client(live.files.clients["kept"][0])
    until(lambda: served_with(live.gateway.ocpp_port, "CP-kept", kept) == second, "the second set")


def test_the_signal_means_nothing_without_tls(gateway: Gateway, charge_point_id: str) -> None:
    with Caller(gateway.url(""), charge_point_id) as caller:
        for _ in range(3):
            os.kill(gateway.pid, signal.SIGHUP)
            caller.call("Heartbeat", {})
    assert [event for event in gateway.events if str(event.get("event")).startswith("tls.")] == []
    assert metric(gateway.http_port, "ocpp_tls_files_broken") == 0
